"""The setup cell as Colab meets it: the notebook alone in an empty folder, nothing of the repository installed."""

import os
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from unveil import notebooks, project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A bare clone of the committed state, as a remote would hold it."""
    if not (project.ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is nothing to clone from")
    folder = tmp_path_factory.mktemp("remote") / "unveil.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(project.ROOT), str(folder)], check=True)
    return folder


@pytest.fixture
def alone(bare, tmp_path, monkeypatch):
    """An empty folder; no trace of the library on the path."""
    monkeypatch.setenv("UNVEIL_REPO", bare.as_uri())
    monkeypatch.setenv("UNVEIL_FAST", "1")
    monkeypatch.delenv("UNVEIL_WORK", raising=False)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path


@pytest.mark.parametrize("path", notebooks.course(), ids=lambda path: path.stem)
def test_setup_cell_clones_and_imports(alone, path):
    setup = next(cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code").source
    script = setup + "\nimport unveil\nprint(unveil.__file__, project.missing_packages(), device.type)"
    done = subprocess.run([sys.executable, "-c", script], cwd=alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
    assert str(alone / "unveil" / "lib" / "unveil" / "__init__.py") in done.stdout and " [] " in done.stdout
    history = ["git", "-C", str(alone / "unveil"), "rev-list", "--count", "HEAD"]
    assert subprocess.run(history, capture_output=True, text=True, check=True).stdout.strip() == "1", "a shallow clone"


def test_a_whole_notebook_runs_alone(alone):
    name = "01_data_filtering.ipynb"
    shutil.copy(notebooks.FOLDER / name, alone)
    book = nbformat.read(alone / name, as_version=4)
    NotebookClient(book, timeout=600, resources={"metadata": {"path": str(alone)}}).execute()
    made = {path.name for path in (alone / "unveil" / "data").iterdir()}
    assert "archives" in made, "what a notebook makes lies in the clone beside it"
    assert not any(path.suffix == ".zip" for path in alone.iterdir())


def test_missing_packages_never_names_torch(tmp_path):
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("torch>=99\nnumpy>=1\nsurely-not-installed-anywhere>=2,<3\n")
    assert project.missing_packages(wanted) == ["surely-not-installed-anywhere>=2,<3"]


def test_install_pins_what_is_there(monkeypatch, tmp_path):
    monkeypatch.setenv("UNVEIL_WORK", str(tmp_path))
    monkeypatch.setattr(project, "missing_packages", lambda: ["some-package>=1"])
    seen = {}

    def run(command, check):
        constraints = command[command.index("-c") + 1]
        seen["command"], seen["pins"] = command, open(constraints).read().splitlines()

    monkeypatch.setattr(project.subprocess, "run", run)
    assert project.install_missing() == ["some-package>=1"]
    assert seen["command"][-1] == "some-package>=1" and "--upgrade" not in seen["command"]
    pinned = {line.split("==")[0].lower() for line in seen["pins"]}
    assert {"torch", "numpy"} <= pinned
    assert not os.listdir(tmp_path / "data"), "the constraints file is gone again"
