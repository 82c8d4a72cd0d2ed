"""The page of results: every stored table beside the shipped weights as Markdown, means of per-image values."""

from __future__ import annotations

import pandas as pd

from unveil import project
from unveil.errors import UnveilError

PAGE = project.ROOT / "docs" / "results.md"
MARK = "<!-- {} -->"
TABLES = {
    "forest": ("test.csv", ["density"]),
    "wild": ("results.csv", ["set"]),
    "denoising": ("results.csv", ["set"]),
    "super_resolution": ("results.csv", ["set"]),
    "old_photos": ("results.csv", ["set"]),
    "depth": ("results.csv", []),
}
"""The stored table of each task and the columns that split it into several."""


def page(text: str) -> str:
    """The page ``text`` with the tables between the marks of each task made anew from what is stored.

    Raises UnveilError where a mark is missing or a table is not stored.
    """
    for task in TABLES:
        begin, end = MARK.format(task), MARK.format(f"end of {task}")
        if begin not in text or end not in text:
            raise UnveilError(f"{PAGE}: the marks {begin} and {end} are missing; put them where the table belongs")
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{tables(task)}\n\n{end}{rest.split(end)[1]}"
    return text


def tables(task: str) -> str:
    """The stored table of a task in Markdown: means per model, a table for each group."""
    name, split = TABLES[task]
    path = project.weights_dir() / task / name
    if not path.is_file():
        raise UnveilError(f"{path}: no such table; make it as docs/results.md says")
    table = pd.read_csv(path, dtype={"id": str})
    parts = []
    for label, rows in table.groupby(split, sort=False) if split else [((), table)]:
        means = rows.groupby("model", sort=False).mean(numeric_only=True)
        means = means.drop(columns=[*split, "mse"], errors="ignore").dropna(axis="columns", how="all")
        titles = [f"**{of}: {value}**" for of, value in zip(split, label, strict=True)]
        parts.append("\n\n".join([*titles, _markdown(means)]))
    return "\n\n".join(parts)


def _markdown(means: pd.DataFrame) -> str:
    head = ["", *map(_words, means)]
    lines = [head, ["---", *["--:"] * means.shape[1]]]
    lines += [[_words(model), *map(_number, row)] for model, row in means.iterrows()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _words(name: object) -> str:
    return str(name).replace("_", " ")


def _number(value: float) -> str:
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
    return "" if pd.isna(value) else f"{value:.{digits}f}"
