"""Fixtures that several test files share: folders of data that are not part of the project."""

import os
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[1] / "data"


def _folder(variable: str, name: str) -> Path:
    folder = Path(os.environ.get(variable, DATA / name))
    if not folder.is_dir():
        pytest.skip(f"{name} data are not here: set {variable} to their folder")
    return folder


@pytest.fixture(scope="session")
def reference() -> Path:
    """Real runs and a real flight, with integrals of the reference renderer."""
    return _folder("UNVEIL_REFERENCE", "reference")


@pytest.fixture(scope="session")
def siblings() -> Path:
    """Photographs, old photographs and depth frames."""
    return _folder("UNVEIL_SIBLINGS", "siblings")
