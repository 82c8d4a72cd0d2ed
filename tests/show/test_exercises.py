"""The checks of the exercises, and that notebooks, solutions and answers belong together."""

import re

import nbformat
import numpy as np
import pandas as pd
import pytest

from unveil import notebooks
from unveil.errors import UnveilError
from unveil.show.exercises import EXERCISES, check

CHECKED = [path for path in notebooks.course() if any(name.startswith(path.stem[:2]) for name in EXERCISES)]


def checks(path):
    """The code cells of a notebook that check something: exercise → cell."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    return {name: cell for cell in cells for name in re.findall(r'\bcheck\("(\d\d\.\d)"', cell.source)}


def said(name, answer, capsys):
    check(name, answer)
    return capsys.readouterr().out.strip().removeprefix(f"{name} ")


@pytest.mark.parametrize("name", EXERCISES)
def test_the_stored_answer_is_right_and_no_answer_gets_the_hint(name, capsys):
    exercise = EXERCISES[name]
    assert said(name, exercise["answer"], capsys) == "right"
    for nothing in (None, (None, None), "", [], "perhaps", object()):
        assert said(name, nothing, capsys) == f"not yet: {exercise['hint']}"


def test_answers_may_come_in_many_shapes_and_are_compared_with_tolerance(capsys):
    low, high = EXERCISES["02.1"]["answer"]
    for right in ((low + 0.01, high), np.array([low, high]), {"from": low, "to": high}, pd.Series([low, high])):
        assert said("02.1", right, capsys) == "right"
    for wrong in ((low + 0.1, high), (high, low), low, [low, high, high]):
        assert said("02.1", wrong, capsys) != "right"
    assert said("04.1", " With ", capsys) == "right" != said("04.1", 1, capsys)
    with pytest.raises(UnveilError, match="no exercise '99.1'"):
        check("99.1", 1)


def test_every_exercise_has_a_cell_and_a_solution():
    asked = {name for path in CHECKED for name in checks(path)}
    solved = {name for path in notebooks.solutions() for name in checks(path)}
    assert asked == solved == set(EXERCISES)


@pytest.mark.parametrize("path", CHECKED, ids=lambda path: path.stem)
def test_starters_run_and_end_with_a_hint(path):
    cells = checks(path)
    text = nbformat.read(path, as_version=4)
    headings = re.findall(
        r"^### \d · .+ \((?:easy|medium|hard), \d+ minutes\)$", "\n".join(c.source for c in text.cells), re.M
    )
    assert len(cells) == len(headings) >= 3
    for name, cell in cells.items():
        assert f"{name} not yet: " in "".join(output.get("text", "") for output in cell.outputs)


@pytest.mark.parametrize("path", [p for p in notebooks.solutions() if checks(p)], ids=lambda path: path.stem)
def test_solutions_are_right(path):
    for name, cell in checks(path).items():
        assert f"{name} right" in "".join(output.get("text", "") for output in cell.outputs)
