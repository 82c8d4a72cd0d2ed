"""Executing, cleaning and labelling the notebooks, which are committed executed."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from unveil import files, project
from unveil.errors import UnveilError

FOLDER = project.ROOT / "notebooks"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def course() -> list[Path]:
    """The numbered notebooks in order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))


def solutions() -> list[Path]:
    """The worked solutions in order."""
    return sorted((FOLDER / "solutions").glob("*.ipynb"))


def execute(path: Path, out: Path) -> float:
    """Execute one notebook top to bottom in a fresh kernel, clean it and write it to ``out``; returns the seconds.

    A failing cell raises :class:`UnveilError` with the notebook, the cell and the error's last line; ``out`` keeps
    what it was before.
    """
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    live = sys.stdout.isatty()
    started, reached = time.perf_counter(), 0

    def show(cell: nbformat.NotebookNode, cell_index: int) -> None:
        nonlocal reached
        reached += cell.cell_type == "code"
        if live:
            print(f"\r  {path.stem}: cell {reached}/{len(code)} ", end="", flush=True)

    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_start=show,
        store_widget_state=False,
        # The kernel's hints about transports would stand between the lines of progress.
        extra_arguments=["--log-level=ERROR"],
    )
    try:
        client.execute()
    except (CellExecutionError, DeadKernelError) as error:
        last = str(error).strip().splitlines()[-1]
        raise UnveilError(f"{path.name}, code cell {reached}: {last}") from error
    seconds = time.perf_counter() - started
    clean(notebook)
    files.write(out, nbformat.writes(notebook))
    print(f"{chr(13) if live else ''}  {path.stem}: {len(code)} cells in {seconds:.0f} s", flush=True)
    return seconds


def clean(notebook: nbformat.NotebookNode) -> None:
    """Drop what must not be committed: widget state, which GitHub refuses to show, time stamps and kernel ids."""
    notebook.metadata = nbformat.NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if WIDGET_VIEW not in o.get("data", {})]


def repository() -> str:
    """``https://github.com/OWNER/NAME`` of ``git remote get-url origin``, whichever protocol the remote uses."""
    asked = subprocess.run(
        ["git", "remote", "get-url", "origin"], cwd=project.ROOT, capture_output=True, text=True, check=False
    )
    match = re.search(r"github\.com[:/]([\w.-]+/[\w.-]+?)(\.git)?/?$", asked.stdout.strip())
    if not match:
        raise UnveilError("git has no GitHub remote named origin; add one: git remote add origin <URL>")
    return f"https://github.com/{match[1]}"


def write_badges(home: str, paths: Iterable[Path]) -> list[Path]:
    """Point the Colab badges and clone URLs of notebooks and README at the repository ``home``; returns the changed."""
    owner_and_name = home.removeprefix("https://github.com/")
    changed = []
    for path in paths:
        before = after = path.read_text(encoding="utf-8")
        own = re.search(r"colab\.research\.google\.com/github/([\w.-]+/[\w.-]+?)/blob/", before)
        for place in ("github.com/{}", "colab.research.google.com/github/{}/") if own else ():
            after = after.replace(place.format(own[1]), place.format(owner_and_name))
        if after != before:
            files.write(path, after)
            changed.append(path)
    return changed


def run() -> None:
    """Execute the notebooks in order and say what was made and where.

    The executed copies go to ``data/results/notebooks``; the committed notebooks stay as they are.
    """
    from unveil.show import figures

    out = project.data_dir("results", "notebooks")
    seconds = sum(execute(path, out / path.name) for path in course())
    overview = figures.index()
    print(f"\nDone in {seconds / 60:.1f} minutes. Made:")
    for folder in (*map(project.data_dir, ("archives", "stacks", "checkpoints", "results")), overview.parent, out):
        print(f"  {folder}")
    print(f"Look first at {overview}, then open the notebooks with: make lab")
