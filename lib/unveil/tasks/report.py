"""The page of results: every stored table beside the shipped weights as Markdown, means of per-image values."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from unveil import project
from unveil.errors import UnveilError

PAGE = project.ROOT / "docs" / "results.md"
MARK = "<!-- {} -->"
TABLES = {
    "forest": ("test.csv", ["density"]),
    "denoising": ("results.csv", ["set"]),
    "super_resolution": ("results.csv", ["set"]),
    "old_photos": ("results.csv", ["set"]),
    "depth": ("results.csv", []),
}
"""The stored table of each task and the columns that split it into several."""


def page(text: str) -> str:
    """The page ``text`` with the tables between the marks of each task made anew from what is stored.

    Raises
    ------
    UnveilError
        if a mark is missing or a table is not stored
    """
    for task in TABLES:
        begin, end = MARK.format(task), MARK.format(f"end of {task}")
        if begin not in text or end not in text:
            raise UnveilError(f"{PAGE}: the marks {begin} and {end} are missing; put them where the table belongs")
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{tables(task)}\n{end}{rest.split(end)[1]}"
    return text


def tables(task: str) -> str:
    """The stored table of a task, a Markdown table of means per group, best values not marked."""
    name, split = TABLES[task]
    path = project.weights_dir() / task / name
    if not path.is_file():
        raise UnveilError(f"{path}: no such table; make it with python -m unveil results {task}")
    table = pd.read_csv(path)
    parts = []
    for label, rows in table.groupby(split, sort=False) if split else [((), table)]:
        means = rows.groupby("model", sort=False).mean(numeric_only=True).drop(columns=[*split, "mse"], errors="ignore")
        title = " ".join(f"{name}: {value}" for name, value in zip(split, label, strict=True))
        parts.append((f"\n**{title}**, {rows['id'].nunique()} images\n" if title else "") + _markdown(means))
    return "\n".join(parts) + "\n"


def _markdown(means: pd.DataFrame) -> str:
    lines: list[Sequence[str]] = [["", *(str(name).replace("_", " ") for name in means)], ["---", *["--:"] * means.shape[1]]]
    lines += [[str(model).replace("_", " "), *map(_number, row)] for model, row in zip(means.index, means.to_numpy(), strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float) -> str:
    return "" if value != value else f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"
