"""Four talks as editable PowerPoint: native text, tables, charts and diagrams, with notes for about a minute per page.

``1_literature_review`` and ``2_idea`` stand on their own. Every number of ``3_interim_results`` and ``4_final_results``
is read from ``data/results/*.json``, every picture from ``figures/NN_name.png``. What is absent is said plainly on its
page (the flight and the tuning study are left out instead) and reported by :func:`build`; nothing is invented.
``numbers.json`` beside the decks keeps what each deck was built from, so that committed decks can be checked after the
results have moved on.

Schema of the result files. All are JSON objects; every key is optional unless marked *; NaN or null means "none".

``dataset.json``
    ``runs``      {archives, complete, incomplete, split, duplicates, foreign, damaged}: counts of the scan; ``split``
                  are runs that lie in more than one archive
    ``heights``   [metres]: focal planes of the stacks
    ``strata``    [{pose*, density*, runs*, occlusion, hidden}]: complete runs per pose (laying, sitting, idle, none)
                  and trees per hectare; the share (0 … 1) of the person's pixels hidden in one view on average
                  (``occlusion``) and in all views (``hidden``)
    ``split``     {train, validation, test}: counts of runs
    ``gray``      {"ground": {mean, p05, median, p95}, "leaves": {…}, "person": {…}}: gray levels 0 … 255
    ``contrast``  {heights*: [metres], laying: […], sitting: […], idle: […], unit}: contrast of the person per plane
                  and pose; ``unit`` is the title of the axis
``training.json``
    ``trainings`` [{model*, parameters, epochs, seconds, device, options: {…}, curves: {epoch: […], train_loss: […],
                  val_loss: […], val_psnr: […]}}]: one per network; ``model`` is its name in ``test.json``; the curves
                  are of equal length
``test.json``
    ``runs``, ``seed``  size and seed of the test set
    ``rows``      [{model*, pose*, density*, kind, images, objects, psnr, ssim, mse, region_psnr, found, false_objects,
                  milliseconds}]: means per model × pose × density, as ``restore.evaluation.summarise`` gives them;
                  ``kind`` is "network" (default) or "baseline"; ``found`` is a share 0 … 1, ``false_objects`` a mean
                  number per image. Means over strata are weighted by ``images`` (``region_psnr`` and ``found`` by
                  ``objects``). Rows with pose or density "all" are ignored
``real.json``
    ``rows``      [{sample*, model*, kind, psnr, ssim, region_psnr, found, false_objects}]: one per real pair and model
    ``flight``    {rows: [{person*, model, before, after}], elsewhere: {integral, …}}: contrast-to-noise of each person
                  in the integral and restored by each network; objects elsewhere in the integral and per network
``tuning.json``
    ``budget``    text: the equal budget of all configurations
    ``rows``      [{factor*, setting*, psnr, region_psnr, chosen}]

Figures taken where present: 01_filtering, 02_geometry, 02_focal_stack, 02_aperture, 02_wrong_plane, 03_gray_levels,
03_contrast_by_plane, 03_occlusion, 05_epochs, 06_best_median_worst, 06_real_pairs, 06_flight, 06_failures.
"""

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ...errors import UnveilError
from . import final, idea, interim, literature
from .checking import check, text_of
from .layout import DATE, Deck, write_whole
from .results import load

__all__ = ["DECKS", "build", "check", "text_of", "to_pdf"]

DECKS = {
    "1_literature_review": (literature.build, ()),
    "2_idea": (idea.build, ()),
    "3_interim_results": (interim.build, ("dataset", "training", "test")),
    "4_final_results": (final.build, ("dataset", "training", "test", "real", "tuning")),
}


def build(
    out: Path,
    results: Path,
    figures: Path,
    decks: Iterable[str] | None = None,
    report: Callable[[str], object] = print,
) -> list[Path]:
    """Build the decks (all, or those named) into the folder ``out`` and return their paths.

    ``results`` and ``figures`` are folders and may lack anything. What was absent goes to ``report``, a line per deck,
    and into ``out/numbers.json``. UnveilError for an unknown deck or a result file that does not follow the schema.
    """
    names = list(DECKS if decks is None else decks)
    for name in names:
        if name not in DECKS:
            raise UnveilError(f"there is no deck '{name}'; choose from {', '.join(DECKS)}")
    stored = load(results)
    numbers_path = Path(out) / "numbers.json"
    numbers = json.loads(numbers_path.read_text(encoding="utf-8")) if numbers_path.is_file() else {}
    paths = []
    for name in names:
        fill, needs = DECKS[name]
        deck = Deck(name, Path(figures))
        fill(deck, stored)
        paths.append(deck.save(Path(out) / f"{name}.pptx"))
        numbers[name] = {
            "slides": len(deck),
            "absent": deck.absent,
            "figures": {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in sorted(deck.used_figures.items())},
            "results": stored.snapshot(needs),
        }
        if deck.absent:
            report(f"{name}: absent when built, said so on the page: {', '.join(deck.absent)}")
    text = json.dumps({name: numbers[name] for name in DECKS if name in numbers}, indent=1, ensure_ascii=False)
    write_whole(numbers_path, f"{text}\n".encode())
    return paths


def to_pdf(paths: Sequence[Path], report: Callable[[str], object] = print) -> list[Path]:
    """PDFs beside the decks, made by LibreOffice; where it is not installed an empty list, the reason reported."""
    office = shutil.which("soffice") or shutil.which("libreoffice")
    if office is None:
        report("no PDFs: LibreOffice (soffice) is not installed")
        return []
    done = []
    with tempfile.TemporaryDirectory() as folder:
        command = [
            office,
            f"-env:UserInstallation={Path(folder, 'profile').as_uri()}",
            "--headless",
            "--convert-to",
            "pdf",
        ]
        command += ["--outdir", folder, *map(str, paths)]
        run = subprocess.run(command, capture_output=True, text=True)
        for path in map(Path, paths):
            made = Path(folder, f"{path.stem}.pdf")
            if not made.is_file():
                raise UnveilError(f"{path}: LibreOffice made no PDF of it: {(run.stderr or run.stdout).strip()[:200]}")
            done.append(path.with_suffix(".pdf"))
            write_whole(done[-1], _undated_pdf(made.read_bytes()))
    return done


def _undated_pdf(data: bytes) -> bytes:
    """The same PDF with a fixed date and identifiers made from its content; nothing changes its length."""
    data = re.sub(rb"(?<=/CreationDate\(D:)\d{14}", f"{DATE:%Y%m%d%H%M%S}".encode(), data)
    marks = re.compile(rb"(?<=/DocChecksum /)[0-9A-F]{32}|(?<=<)[0-9A-F]{32}(?=>)")
    digest = hashlib.sha256(marks.sub(b"", data)).hexdigest()[:32].upper()
    return marks.sub(digest.encode(), data)
