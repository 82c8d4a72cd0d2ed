"""Tests and notebooks under test work in a temporary folder, in fast mode; the repository stays as it is."""

import os
import tempfile
from pathlib import Path

# Before anything imports unveil, and inherited by the kernels that nbval starts.
os.environ.setdefault("UNVEIL_FAST", "1")
_work = None
if "UNVEIL_WORK" not in os.environ:
    _work = tempfile.TemporaryDirectory(prefix="unveil-test-", ignore_cleanup_errors=True)
    os.environ["UNVEIL_WORK"] = _work.name
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    # Side by side, each worker has a folder of its own: two notebooks may want to make the same samples.
    os.environ["UNVEIL_WORK"] = str(Path(os.environ["UNVEIL_WORK"], worker))


def pytest_unconfigure() -> None:
    if _work is not None:
        _work.cleanup()
