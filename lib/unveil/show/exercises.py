"""The checks of the notebooks' exercises. Answers and hints lie in ``exercises.json``, out of the notebooks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unveil.errors import UnveilError

EXERCISES: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("exercises.json").read_text("utf-8"))
"""Exercise → ``answer`` (a list of numbers or words), ``within`` (how far each number may be off) and ``hint``."""


def check(name: str, answer: Any) -> None:
    """Print whether an answer is right, or a hint.

    ``name`` is notebook and number of the exercise, ``"02.1"``; ``answer`` a number or word, or several in the order
    asked for; None stands for no answer yet. Numbers are those of the sample runs and pictures, in the units that the
    exercise names. UnveilError where there is no such exercise.
    """
    if name not in EXERCISES:
        raise UnveilError(f"there is no exercise {name!r}: choose one of {', '.join(EXERCISES)}")
    exercise = EXERCISES[name]
    right = _equal(answer, exercise["answer"], exercise.get("within", 0))
    print(f"{name} right" if right else f"{name} not yet: {exercise['hint']}")


def _equal(answer: Any, wanted: list[Any], within: float) -> bool:
    try:
        several = answer.values() if isinstance(answer, Mapping) else answer
        given = [answer] if isinstance(answer, str) else list(several)
    except TypeError:
        given = [answer]
    if isinstance(wanted[0], str):
        return [str(word).strip().lower() for word in given] == wanted
    try:
        given = np.asarray(given, float).ravel()
    except (TypeError, ValueError):
        return False
    return given.shape == (len(wanted),) and bool(np.all(np.abs(given - wanted) <= within + 1e-9))
