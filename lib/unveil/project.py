"""Where things are, and the small services that every notebook and command needs.

Nothing here imports a third-party package at module level, so that the setup cell of a notebook can call
:func:`install_missing` on a machine (Colab) that lacks some of them.

Environment
    ``UNVEIL_WORK``  folder under which ``data/`` and ``figures/`` are written (default: the repository)
    ``UNVEIL_FAST``  ``1`` shrinks the work of the notebooks; the tests use it
    ``UNVEIL_REFERENCE``  folder with real flights and runs (default: ``data/reference``)
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unveil import files

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parents[2]


def fast() -> bool:
    """Whether the notebooks should do the least that still shows the point (``UNVEIL_FAST=1``)."""
    return os.environ.get("UNVEIL_FAST", "") not in ("", "0")


def work() -> Path:
    """The folder under which everything is written."""
    return Path(os.environ.get("UNVEIL_WORK", ROOT)).resolve()


def data_dir(*parts: str) -> Path:
    """``data/<parts>`` under the work folder, made if absent."""
    folder = work().joinpath("data", *parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def reference(*parts: str) -> Path:
    """A folder of real data, which are not part of the project: in ``UNVEIL_REFERENCE``, else in ``data/reference``."""
    return Path(os.environ.get("UNVEIL_REFERENCE", ROOT / "data" / "reference")).joinpath(*parts)


def figures_dir() -> Path:
    """``figures/`` under the work folder, made if absent."""
    folder = work() / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def weights_dir() -> Path:
    """The shipped weights; they are read from the repository wherever the work folder is."""
    return ROOT / "data" / "weights"


def seed_everything(value: int = 0) -> None:
    """Seed Python, numpy and torch."""
    import numpy as np
    import torch

    random.seed(value)
    np.random.seed(value)  # noqa: NPY002  (third-party code may draw from the global generator)
    torch.manual_seed(value)


def device() -> torch.device:
    """The GPU where there is one (CUDA, then Apple's), else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def setup(seed: int = 0) -> torch.device:
    """What the setup cell of every notebook asks for: missing packages, custom widgets on Colab, seed, device."""
    install_missing()
    if "google.colab" in sys.modules:
        from google.colab import output

        output.enable_custom_widget_manager()
    seed_everything(seed)
    return device()


def missing_packages(requirements: Path | None = None) -> list[str]:
    """The lines of ``requirements.txt`` whose package is not installed. torch is never among them."""
    lines = (requirements or ROOT / "requirements.txt").read_text(encoding="utf-8").split("\n")
    missing = []
    for line in filter(None, map(str.strip, lines)):
        name = re.split(r"[<>=!~\[; ]", line, maxsplit=1)[0]
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            if name != "torch":
                missing.append(line)
    return missing


def install_missing() -> list[str]:
    """Install what Colab lacks and nothing else.

    Every package that is already there is pinned by a constraints file, so that pip can neither upgrade nor replace
    torch (a replaced torch costs gigabytes and breaks the running kernel). Returns the lines that were installed.
    """
    missing = missing_packages()
    if not missing:
        return []
    constraints = data_dir() / "colab_constraints.txt"
    pinned = (f"{d.name}=={d.version}" for d in metadata.distributions() if d.name and "+" not in d.version)
    pinned = sorted(set(pinned) | {f"torch=={metadata.version('torch')}"})
    constraints.write_text("\n".join(pinned) + "\n", encoding="utf-8")
    try:
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-c", str(constraints), *missing], check=True)
    finally:
        constraints.unlink()
    return missing


def save_results(name: str, content: Mapping[str, Any]) -> Path:
    """Write ``data/results/<name>.json``, which figures, slides and README read."""
    return files.write_json(data_dir("results") / f"{name}.json", content)
