"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of reference data, which is not part of the project; the test skips where it is absent."""
    folder = Path(os.environ.get("UNVEIL_REFERENCE", ROOT.parent / "shared" / "reference"))
    if not folder.is_dir():
        pytest.skip("reference data are not here: set UNVEIL_REFERENCE to their folder")
    return folder
