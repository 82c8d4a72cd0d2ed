"""The executed notebooks as a static site, with the focal scrubber at work on one run: for readers without Python."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import nbformat
import numpy as np
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from PIL import Image

from unveil import files, project
from unveil.errors import UnveilError
from unveil.show.widgets import FocalScrubber

HERO = "06_hero.png"


def build(
    out: Path, notebooks: Sequence[Path], scrubber: FocalScrubber, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write a page for each notebook and ``index.html`` into ``out``; returns the path of the latter.

    Notebooks in a folder ``solutions`` get theirs in ``solutions/`` and no row in the index. Every page holds its
    pictures; only formulas need a network. UnveilError for a notebook that is missing or was not executed.
    """
    out, exporter, rows = Path(out), HTMLExporter(embed_images=True), []
    for done, path in enumerate(notebooks):
        worked = path.parent.name == "solutions"
        book = _read(path)
        opening = book.cells[0].source
        rows += [] if worked else [_row(path, opening)]
        _link(book, opening, "../" if worked else "")
        above = {"name": path.stem, "path": str(path.parent.parent)}  # nbconvert embeds nothing from outside of it
        page, _ = exporter.from_notebook_node(book, {"metadata": above})
        files.write(out.joinpath(*["solutions"] * worked, f"{path.stem}.html"), page)
        if progress:
            progress(done + 1, len(notebooks))
    files.write(out / HERO, (project.ROOT / "figures" / HERO).read_bytes())
    template = jinja2.Template(Path(__file__).with_name("site.html").read_text("utf-8"), autoescape=True)
    return files.write(out / "index.html", template.render(rows=rows, hero=HERO, **_embedded(scrubber)))


def _read(path: Path) -> nbformat.NotebookNode:
    try:
        book = nbformat.read(path, as_version=4)
    except (OSError, ValueError) as error:
        raise UnveilError(f"{path}: no notebook ({error}); name one of notebooks/") from error
    if not all(cell.execution_count for cell in book.cells if cell.cell_type == "code"):
        raise UnveilError(f"{path}: was not executed; python -m unveil notebooks {path}")
    return book


def _row(path: Path, opening: str) -> dict[str, Any]:
    """What the index says of a notebook: the title and the table at its head."""
    cells = re.findall(r"^\|\s*\*\*(In|Out|Time)\*\*\s*\|(.*)\|\s*$", opening, re.MULTILINE)
    said = {name.lower(): markdown2html(_pages(text)) for name, text in cells}
    return {"page": f"{path.stem}.html", "title": opening.partition("\n")[0].lstrip("# "), **said}


def _pages(text: str) -> str:
    return re.sub(r"(\]\([\w./-]+)\.ipynb", r"\1.html", text)


def _link(book: nbformat.NotebookNode, opening: str, up: str) -> None:
    """Point links at the pages of other notebooks and at the repository for its other files, pictures at the parent."""
    home = re.search(r"colab\.research\.google\.com/github/([\w.-]+/[\w.-]+?)/blob/", opening)

    def outside(match: re.Match[str]) -> str:
        if match[1]:
            return f"![{match[2]}]({match[3]})"
        if not home or match[3].endswith(".html"):
            return match[0]
        return f"[{match[2]}](https://github.com/{home[1]}/blob/main/{match[3]})"

    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"(!?)\[([^\]]*)\]\(\.\./([^)]+)\)", outside, _pages(cell.source))
    top = f"[All notebooks]({up}index.html) · [Focal scrubber]({up}index.html#scrubber)"
    book.cells.insert(0, nbformat.v4.new_markdown_cell(top))


def _embedded(scrubber: FocalScrubber) -> dict[str, Any]:
    """The scrubber's code, state and pictures: views and truth below one another in one PNG, a third of the bytes."""
    scene = scrubber._scene
    pictures = scene.views if scene.truth is None else [*scene.views, scene.truth]
    file = io.BytesIO()
    Image.fromarray(np.concatenate(pictures)).save(file, "PNG", optimize=True)
    state = scrubber.get_state(FocalScrubber.class_own_traits(sync=True))
    return {
        "code": scrubber._esm,
        "style": scrubber._css,
        "state": json.dumps(state, sort_keys=True).replace("<", "\\u003c"),
        "views": base64.b64encode(file.getvalue()).decode(),
    }
