"""Tests and notebooks under test work in a temporary folder, in fast mode; the repository stays as it is."""

import os
import tempfile

# Before anything imports unveil, and inherited by the kernels that nbval starts.
os.environ.setdefault("UNVEIL_FAST", "1")
_work = None
if "UNVEIL_WORK" not in os.environ:
    _work = tempfile.TemporaryDirectory(prefix="unveil-test-", ignore_cleanup_errors=True)
    os.environ["UNVEIL_WORK"] = _work.name


def pytest_unconfigure() -> None:
    if _work is not None:
        _work.cleanup()
