"""Four talks: Markdown in, native PowerPoint out, and PDF beside it where LibreOffice is installed.

The talks stand in ``slides/*.md``: a heading opens a page; a sentence before a picture or table is set below it as its
takeaway; the rest is as in Pandoc's manual. ``{{ name }}`` stands for a number of :func:`numbers`.
"""

from __future__ import annotations

import copy
import datetime
import hashlib
import io
import json
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import pypandoc
from pptx import Presentation
from pptx.dml.color import RGBColor
from pptx.enum.text import MSO_ANCHOR
from pptx.util import Inches, Pt

from unveil import files, project
from unveil.errors import UnveilError

SOURCE = project.ROOT / "slides"
WEIGHTS = project.weights_dir() / "forest"
STRIP = tuple(map(Inches, (0.6, 4.15, 12.13, 3.05)))  # where the picture of a title page may lie


def numbers(results: Path) -> dict[str, Any]:
    """What ``{{ … }}`` may name: the forest's ``test`` table, ``task.set_model`` of others, and ``results/*.json``, of
    which ``slides/numbers.json`` keeps what the committed talks were built from.
    """
    known = json.loads((SOURCE / "numbers.json").read_text(encoding="utf-8"))
    for path in sorted(WEIGHTS.parent.glob("*/results.csv")):
        table = pd.read_csv(path)
        about = table[[name for name in ("set", "model") if name in table]].agg(" ".join, axis=1)
        known[path.parent.name] = _named(table.groupby(about).mean(numeric_only=True).T.to_dict())
    for path in sorted(Path(results).glob("*.json")):
        known[path.stem] = _named(files.read_json(path, "delete it and run its notebook"))
    return known | {"test": _test(WEIGHTS / "test.csv")}


def build(out: Path, results: Path, figures: Path) -> list[Path]:
    """Build every deck of ``slides/`` into the folder ``out`` and return their paths.

    UnveilError for a number that is not stored and a picture that is not there; it names the deck and the line.
    """
    known, made = numbers(results), []
    options = [f"--reference-doc={SOURCE / 'theme.pptx'}", f"--metadata-file={SOURCE / 'talk.yaml'}", "--slide-level=1"]
    for source in sorted(SOURCE.glob("[0-9]_*.md")):
        text = render(source, known, Path(figures))
        title = re.search(r"^picture: *(\S+)", text, re.MULTILINE)
        made.append(Path(out) / f"{source.stem}.pptx")
        with files.replacing(made[-1]) as part:
            pypandoc.convert_text(text, "pptx", "markdown", options, outputfile=str(part))
            part.write_bytes(_finish(part, title and Path(title[1])))
    kept = ("dataset", "training", "tuning", "real")
    files.write_json(Path(out) / "numbers.json", {name: known[name] for name in kept if name in known})
    return made


def render(path: Path, known: Mapping[str, Any], figures: Path) -> str:
    """The Markdown of a deck with its numbers, and with the pictures where they are."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, finalize=_written)
    environment.globals["places"] = lambda value, count: f"{value:.{count}f}"
    environment.globals["percent"] = lambda share: f"{100 * share:.0f} %"
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines):
        try:
            lines[number] = environment.from_string(line).render(known)
        except (jinja2.TemplateError, TypeError) as error:
            raise UnveilError(f"{path.name}, line {number + 1}: no number for {line!r}: {error}; make run") from error
        for picture in re.findall(r"\.\./figures/([\w.]+)", line):
            if not (figures / picture).is_file():
                raise UnveilError(f"{path.name}, line {number + 1}: no picture {figures / picture}; run its notebook")
    return "\n".join(lines).replace("../figures/", f"{figures.resolve()}/")


def to_pdf(paths: Sequence[Path], report: Callable[[str], object] = print) -> list[Path]:
    """PDFs beside the decks, made by LibreOffice; where it is not installed an empty list, the reason reported."""
    office = shutil.which("soffice") or shutil.which("libreoffice")
    if office is None:
        report("no PDFs: LibreOffice (soffice) is not installed")
        return []
    with tempfile.TemporaryDirectory() as folder:
        command = [office, f"-env:UserInstallation={Path(folder, 'profile').as_uri()}", "--headless"]
        command += ["--convert-to", "pdf", "--outdir", folder, *map(str, paths)]
        run = subprocess.run(command, capture_output=True, text=True)
        for path in map(Path, paths):
            if not (made := Path(folder, f"{path.stem}.pdf")).is_file():
                raise UnveilError(f"{path}: LibreOffice made no PDF of it: {(run.stderr or run.stdout).strip()[:200]}")
            files.write(path.with_suffix(".pdf"), _undated(made.read_bytes()))
    return [Path(path).with_suffix(".pdf") for path in paths]


def _test(path: Path) -> dict[str, Any]:
    """Per model of the test table: means by trees per hectare, by pose, and people found under trees."""
    table = pd.read_csv(path).astype({"density": int})
    measures = ["psnr", "ssim", "region_psnr", "found", "false_objects"]
    people = table[(table["density"] > 0) & (table["pose"] != "none")]
    found = people.pivot(index="id", columns="model", values="found")
    rules = [m for m in found if not (path.parent / f"{m}.safetensors").is_file() and m != "best single view"]
    known: dict[str, Any] = {"runs": table["id"].nunique(), "people": len(found)}
    for model, rows in table.groupby("model"):
        means = rows.groupby("density")[measures].mean().to_dict()
        means["empty"] = rows[rows["pose"] == "none"].groupby("density")["false_objects"].mean().to_dict()
        means["pose"] = people[people["model"] == model].groupby("pose")[measures].mean().T.to_dict()
        counts = {"people": found[model].sum(), "alone": (found[model] > found[rules].max(axis=1)).sum()}
        known[_slug(model)] = means | {name: int(count) for name, count in counts.items()}
    return known


def _named(value: Any) -> Any:
    """A result with names all the way: records are named by what they are about, of a curve the last value is kept."""
    if isinstance(value, dict):
        return {_slug(name): _named(item) for name, item in value.items() if name != "options"}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        about = ("sample", "person", "pose", "density", "model", "setting")
        return {_slug("_".join(str(row[key]) for key in about if key in row)): _named(row) for row in value}
    return (value or [None])[-1] if isinstance(value, list) else value


def _slug(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_")


def _written(value: Any) -> str:
    """A number as the talks write it: one decimal where it was measured, thousands apart, a real minus."""
    if value is None or value != value:
        raise TypeError("it has no value")
    text = f"{value:,}" if isinstance(value, int) else f"{value:.1f}" if isinstance(value, float) else str(value)
    return text.replace("-", "−") if text[:1] == "-" else text


def _finish(path: Path, picture: Path | None) -> bytes:
    """What Pandoc leaves open: the title's picture, page numbers, the size of tables and of a page of references."""
    deck = Presentation(str(path))
    for number, slide in enumerate(deck.slides):
        if number == 0 and picture:
            added = slide.shapes.add_picture(str(picture), 0, 0)
            scale = min(STRIP[2] / added.width, STRIP[3] / added.height)
            added.width, added.height = round(added.width * scale), round(added.height * scale)
            added.left, added.top = (deck.slide_width - added.width) // 2, STRIP[1] + (STRIP[3] - added.height) // 2
        for place in slide.slide_layout.placeholders:
            if number and place.placeholder_format.type.name == "SLIDE_NUMBER":
                slide.shapes._spTree.append(copy.deepcopy(place._element))
        for equation in slide.element.xpath(".//p:sp[.//*[local-name()='oMathPara']]"):
            # LibreOffice stretches an equation to its shape.
            height = 1.7 if equation.xpath(".//*[local-name()='f']") else 0.7
            equation.x, equation.y, equation.cx, equation.cy = map(Inches, (0.6, 2.4, 7.4, height))
        for shape in slide.shapes:
            if shape.has_table:
                _table(shape.table)
            elif shape.has_text_frame and len(shape.text_frame.paragraphs) > 9:
                _size(shape.text_frame, 12, after=3)
    deck.core_properties.created = deck.core_properties.modified = datetime.datetime(2024, 1, 1)
    deck.save(content := io.BytesIO())
    with zipfile.ZipFile(content) as source, zipfile.ZipFile(dateless := io.BytesIO(), "w") as target:
        for name in source.namelist():
            target.writestr(zipfile.ZipInfo(name), source.read(name), zipfile.ZIP_DEFLATED)
    return dateless.getvalue()


def _table(table: Any) -> None:
    rows = list(table.rows)
    for number, row in enumerate(rows):
        row.height = min(Inches(0.62), Inches(4.5) // len(rows))
        colour = RGBColor.from_string("EEF3F3" if number % 2 else "FFFFFF" if number else "12343B")
        for cell in row.cells:
            cell.vertical_anchor = MSO_ANCHOR.MIDDLE
            cell.fill.solid()
            cell.fill.fore_color.rgb = colour
            _size(cell.text_frame, 20 if len(rows) < 9 else 14)


def _size(frame: Any, points: float, after: float = 0) -> None:
    for paragraph in frame.paragraphs:
        paragraph.space_after = Pt(after)
        for run in paragraph.runs:
            run.font.size = Pt(points)


def _undated(data: bytes) -> bytes:
    """The same PDF with a fixed date and identifiers made from its content; nothing changes its length."""
    data = re.sub(rb"(?<=/CreationDate\(D:)\d{14}", b"20240101000000", data)
    marks = re.compile(rb"(?<=/DocChecksum /)[0-9A-F]{32}|(?<=<)[0-9A-F]{32}(?=>)")
    return marks.sub(hashlib.sha256(marks.sub(b"", data)).hexdigest()[:32].upper().encode(), data)
