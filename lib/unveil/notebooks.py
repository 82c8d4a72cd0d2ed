"""Executing, cleaning and labelling the notebooks.

Executed notebooks are committed, so they are cleaned: counts 1…N, no widget state (GitHub refuses to show notebooks
with ``metadata.widgets``), no time stamps. The same setup cell opens every notebook.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from unveil import project
from unveil.errors import UnveilError

FOLDER = project.ROOT / "notebooks"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def course() -> list[Path]:
    """The numbered notebooks in order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))


def solutions() -> list[Path]:
    """The worked solutions in order."""
    return sorted((FOLDER / "solutions").glob("*.ipynb"))


def execute(path: Path, out: Path, progress: bool = True) -> float:
    """Execute one notebook top to bottom in a fresh kernel, clean it and write it to ``out``; returns the seconds.

    A failing cell raises :class:`UnveilError` with the notebook, the cell and the error's last line; ``out`` keeps
    what it was before.
    """
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    order = {id(cell): i for i, cell in enumerate(code, 1)}
    live = progress and sys.stdout.isatty()
    started, reached = time.perf_counter(), 0

    def show(cell: nbformat.NotebookNode, cell_index: int) -> None:
        nonlocal reached
        reached = order.get(id(cell), reached)
        if live and id(cell) in order:
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
    except CellExecutionError as error:
        last = str(error).strip().splitlines()[-1]
        raise UnveilError(f"{path.name}, code cell {reached}: {last}") from error
    except DeadKernelError as error:
        raise UnveilError(f"{path.name}, code cell {reached}: the kernel died, perhaps for want of memory") from error
    seconds = time.perf_counter() - started
    clean(notebook)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    nbformat.write(notebook, temporary)
    os.replace(temporary, out)
    if progress:
        print(f"{chr(13) if live else ''}  {path.stem}: {len(code)} cells in {seconds:.0f} s", flush=True)
    return seconds


def clean(notebook: nbformat.NotebookNode) -> None:
    """Drop what must not be committed: widget state and views (static twins stay), time stamps, kernel ids."""
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
    """Point the Colab badges and clone URLs of notebooks and README at the repository ``home``."""
    owner_and_name = home.removeprefix("https://github.com/")
    changed = []
    for path in paths:
        before = path.read_text(encoding="utf-8")
        own = _own_name(before)
        if own is None:
            continue
        after = before.replace(f"github.com/{own}", f"github.com/{owner_and_name}")
        after = after.replace(
            f"colab.research.google.com/github/{own}/", f"colab.research.google.com/github/{owner_and_name}/"
        )
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed.append(path)
    return changed


def _own_name(text: str) -> str | None:
    match = re.search(r"colab\.research\.google\.com/github/([\w.-]+/[\w.-]+?)/blob/", text)
    return match[1] if match else None
