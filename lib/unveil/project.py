"""Where things are, and the small services that every notebook and command needs.

Nothing here imports a third-party package at module level, so that the setup cell of a notebook can call
:func:`install_missing` on a machine (Colab) that lacks some of them.

Environment
    ``UNVEIL_WORK``  folder under which ``data/`` and ``figures/`` are written (default: the repository)
    ``UNVEIL_FAST``  ``1`` shrinks the work of the notebooks; the tests use it
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from unveil.aos.archives import Catalogue
    from unveil.aos.store import Store

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_SEED = 2021
SPLIT_SEED = 0


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


def sample_runs() -> int:
    """How many runs the sample archives hold: a multiple of 12, the number of pose × density strata."""
    return 24 if fast() else 120


def sample_archives() -> Path:
    """The folder of ZIP archives that the notebooks work on, made by the simulator where it is empty.

    Put the course's own ZIPs into ``data/archives`` and they are used instead.
    """
    from unveil.aos import simulator

    folder = data_dir("archives")
    if not any(folder.rglob("*.zip")):
        simulator.simulate(folder, sample_runs(), seed=SAMPLE_SEED, workers=os.cpu_count() or 1, balanced=True)
    return folder


def sample_catalogue() -> Catalogue:
    """The scanned sample archives."""
    from unveil.aos import archives

    return archives.scan([sample_archives()])


def sample_stacks() -> Store:
    """The focal stacks of all complete sample runs, built where absent (resumable)."""
    from unveil.aos import stacks

    return stacks.build(sample_catalogue(), data_dir("stacks"), workers=os.cpu_count() or 1)


def sample_split(store: Store) -> dict[str, list[str]]:
    """Train, validation and test ids of the sample stacks: seeded, stratified by pose × density, kept as JSON."""
    from unveil.restore import datasets

    path = data_dir("results") / "split.json"
    if path.exists():
        parts = datasets.load_split(path)
        if sorted(sum(parts.values(), [])) == sorted(store.ids):
            return parts
    parts = datasets.split(strata(store), seed=SPLIT_SEED)
    datasets.save_split(path, parts)
    return parts


def strata(store: Store) -> dict[str, str]:
    """The pose × density label of every run of a store."""
    table = store.table()
    return dict(zip(table["id"], table["pose"] + " " + table["density"].astype(str), strict=True))


def positions(store: Store, ids: Sequence[str]) -> list[int]:
    """Where in the store the runs of these ids lie."""
    where = {run: i for i, run in enumerate(store.ids)}
    return [where[run] for run in ids]
