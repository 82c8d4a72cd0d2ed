"""Pairs of the forest: what a network is fed of a run, and the truth that it should answer with.

A *run store* has ``ids``, ``runs[i]`` → (views or planes (C, H, W), truth (H, W)), uint8, and ``parameters(i)``: a
:class:`unveil.aos.store.Store`, or :class:`unveil.aos.archives.ArchiveRuns`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unveil import project
from unveil.aos import archives, build, integrator, simulator
from unveil.aos.camera import CENTER_VIEW, course_rig
from unveil.aos.folders import nearest
from unveil.aos.images import to_uint8
from unveil.aos.store import Store
from unveil.errors import UnveilError
from unveil.restore import pairs
from unveil.restore.networks import NETWORKS
from unveil.restore.options import Options
from unveil.tasks.forest.persons import person_mask

SAMPLE_SEED, SPLIT_SEED = 2021, 0
WEIGHTS = project.weights_dir() / "forest"
"""Where the shipped weights are kept."""
Place = str | os.PathLike[str]
STATISTICS = {"max": np.max, "min": np.min, "std": np.std}
"""Further channels over the planes of a stack, by the names that ``Options.channels`` gives them."""


@dataclass
class StackPairs:
    """Stored focal stacks and truths, float32 in [0, 1].

    ``planes``: which planes of a stored run, in this order (None: all) · ``statistics``: further channels over them, of
    :data:`STATISTICS` · ``person_crops``: how often a crop is placed so that it holds the person.
    """

    runs: Any
    _: KW_ONLY
    planes: Sequence[int] | None = None
    statistics: Sequence[str] = ()
    person_crops: float = 0.5

    def __post_init__(self) -> None:
        self.ids = list(self.runs.ids)
        self._boxes: dict[int, tuple[int, int, int, int] | None] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def given(self, seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Input (C, H, W) uint8 made of what the store holds of a run."""
        return seen

    def item(self, i: int, rng: np.random.Generator, crop: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray]:
        seen, truth = self.runs[i]
        given = self.given(seen, rng)
        if crop:
            box = self._box(i, truth) if rng.random() < self.person_crops else None
            rows, columns = pairs.window(rng, truth.shape, crop, box)
            # Basic slicing keeps a memory map lazy: only the crop is read.
            given, truth = given[:, rows, columns], truth[rows, columns]
        given = np.asarray(given) if self.planes is None else given[list(self.planes)]
        more = [STATISTICS[name](given, axis=0, keepdims=True) for name in self.statistics]
        given = np.concatenate([given, *more]) if more else given
        return np.divide(given, 255, dtype=np.float32), np.divide(truth[None], 255, dtype=np.float32)

    def _box(self, i: int, truth: np.ndarray) -> tuple[int, int, int, int] | None:
        """First and last row, first and last column of the person."""
        if i not in self._boxes:
            rows, columns = np.nonzero(person_mask(np.asarray(truth)))
            self._boxes[i] = (rows.min(), rows.max(), columns.min(), columns.max()) if len(rows) else None
        return self._boxes[i]


@dataclass
class FocalPairs(StackPairs):
    """Focal stacks integrated on the fly from runs with views, about a millisecond per plane.

    ``jitter`` moves every plane of every item by U(−jitter, jitter) metres, so that planes near those that the network
    is trained for look familiar to it.
    """

    heights: Sequence[float] = integrator.HEIGHTS
    jitter: float = 0.0

    def given(self, seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        heights = np.array(self.heights)
        if self.jitter:
            heights = np.maximum(heights + rng.uniform(-self.jitter, self.jitter, len(heights)), 0)
        return to_uint8(integrator.integrate(seen, course_rig(), heights, CENTER_VIEW, threads=1).image)


@dataclass
class ViewPairs(StackPairs):
    """Views registered on planes, and a guess of the ground's level: :func:`integrator.candidates`, on the fly."""

    heights: Sequence[float]

    def given(self, seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return integrator.candidates(seen, course_rig(), self.heights, CENTER_VIEW, threads=1)


def feed(options: Options, runs: Any, jitter: float = 0.0, **more: Any) -> StackPairs:
    """The pairs of a run store for a network of these options; ``more`` goes to :class:`StackPairs`.

    Raises :class:`UnveilError` where a store of stacks has not its planes, or no views.
    """
    heights = [channel for channel in options.channels if channel not in STATISTICS]
    stored, views = getattr(runs, "heights", ()), NETWORKS[options.network].wants == "views"
    if stored and views:
        raise UnveilError(f"{runs.path}: holds stacks, and the network {options.network!r} wants views: use --archives")
    if views:
        return ViewPairs(runs, heights, **more)
    more["statistics"] = options.channels[len(heights) :]
    if not stored:
        return FocalPairs(runs, heights, jitter, **more)
    chosen = nearest(stored, heights)
    if any(abs(difference) > 1e-6 for difference in chosen.differences):
        raise UnveilError(
            f"{runs.path}: its planes {stored} are not {tuple(heights)}; integrate the archives at these heights "
            "(python -m unveil integrate --heights …)"
        )
    return StackPairs(runs, planes=chosen.indices, **more)


def strata(runs: Any) -> dict[str, str]:
    """The pose × density label of every run of a run store."""
    known = (runs.parameters(i) for i in range(len(runs.ids)))
    return {run: f"{made.pose} {made.density}" for run, made in zip(runs.ids, known, strict=True)}


def split(runs: Any) -> dict[str, list[str]]:
    """Train, validation and test ids of a run store: seeded, stratified by pose × density, kept beside a store.

    A store that has grown is divided anew.
    """
    path = Path(runs.path, "split.json") if hasattr(runs, "path") else None
    if path and path.exists():
        parts, ids = pairs.load_split(path), set(runs.ids)
        if ids <= set(sum(parts.values(), [])):
            return {part: [run for run in names if run in ids] for part, names in parts.items()}
    parts = pairs.split(strata(runs), seed=SPLIT_SEED)
    if path:
        pairs.save_split(path, parts)
    return parts


def sample_archives() -> Path:
    """The folder of ZIP archives that the notebooks work on, simulated where it is empty.

    Put the course's own ZIPs into ``data/archives`` and they are used instead.
    """
    folder = project.data_dir("archives")
    # A simulation that was killed leaves a hidden file.
    if not any(not path.name.startswith(".") for path in folder.rglob("*.zip")):
        # A multiple of 12, the number of pose × density strata.
        count = 24 if project.fast() else 120
        simulator.simulate(folder, count, seed=SAMPLE_SEED, workers=os.cpu_count() or 1, balanced=True)
    return folder


def sample_catalogue() -> archives.Catalogue:
    """The scanned sample archives."""
    return archives.scan([sample_archives()])


def sample_stacks() -> Store:
    """The focal stacks of all complete sample runs, built where absent (resumable)."""
    return build.build_stacks(sample_catalogue(), project.data_dir("stacks"), workers=os.cpu_count() or 1)
