"""Simulated runs kept as raw views, and focal stacks made from them while a network trains.

A stack store fixes the focal planes; training wants them to vary, because real stacks come with other planes than the
weights were made for. Here the 11 views lie on disk, memory-mapped, and every item is integrated when it is asked for
(about a millisecond per plane).
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from unveil.aos import _workers, archives, integrator, parameters, simulator, stacks
from unveil.aos.camera import CENTER_VIEW, course_rig
from unveil.errors import UnveilError

SHARD = 24


class ViewStore:
    """Runs on disk as uint8 arrays (V + 1, H, W): the views in order, then the truth.

    ``ids`` names the runs (the first ``runs`` of the folder), ``parameters(i)`` tells how run i was made.
    """

    def __init__(self, folder: str | os.PathLike[str], runs: int | None = None) -> None:
        self.folder = Path(folder)
        self._shards: list[np.ndarray] = []
        self._parameters: list[parameters.Parameters] = []
        self.ids: list[str] = []
        for described in sorted(self.folder.glob("shard_*.json")):
            kept = _json(described)
            self._shards.append(np.load(described.with_suffix(".npy"), mmap_mode="r"))
            self.ids += kept["ids"]
            self._parameters += [parameters.parse(text) for text in kept["parameters"]]
        # More may lie there from a longer rehearsal.
        self.ids = self.ids[:runs]
        if not self.ids:
            raise UnveilError(f"{folder}: no simulated views; make them with views.rehearse")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Views (V, H, W) and truth (H, W) of run ``index``, uint8, memory-mapped."""
        run = self._shards[index // SHARD][index % SHARD]
        return run[:-1], run[-1]

    def parameters(self, index: int) -> parameters.Parameters:
        """How run ``index`` was made."""
        return self._parameters[index]


def rehearse(
    out: str | os.PathLike[str],
    runs: int,
    seed: int,
    workers: int = 1,
    variation: simulator.Variation = simulator.COURSE,
    progress: Callable[[int, int], None] | None = None,
) -> ViewStore:
    """Simulate ``runs`` runs into ``out``, whole shards only; goes on where an earlier call stopped.

    The result depends on ``runs``, ``seed`` and ``variation`` alone, not on the number of workers.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    described = {"seed": seed, "variation": repr(variation)}
    note = folder / "simulation.json"
    if not note.exists():
        _write(note, json.dumps(described).encode())
    elif _json(note) != described:
        raise UnveilError(f"{folder}: holds runs of another simulation; choose another folder or delete it")
    jobs = [
        (folder, number, range(start, min(start + SHARD, runs)), seed, variation)
        for number, start in enumerate(range(0, runs, SHARD))
    ]
    jobs = [job for job in jobs if not _holds(*job[:3])]
    done = runs - sum(len(job[2]) for job in jobs)
    try:
        with _workers.pool(workers) as pool:
            for count in pool.map(_write_shard, jobs) if workers > 1 else map(_write_shard, jobs):
                done += count
                if progress:
                    progress(done, runs)
    except BrokenProcessPool as error:
        raise UnveilError(f"{folder}: a worker was killed; call it again with fewer workers to go on") from error
    return ViewStore(folder, runs)


def _holds(folder: Path, number: int, indices: range) -> bool:
    """Whether the shard is there with all these runs; the last one of a shorter rehearsal has fewer."""
    path = folder / f"shard_{number:04d}.json"
    return path.exists() and len(_json(path)["ids"]) >= len(indices)


def _write_shard(job: tuple[Path, int, range, int, simulator.Variation]) -> int:
    folder, number, indices, seed, variation = job
    made = [simulator.simulate_run(seed, index, variation=variation) for index in indices]
    arrays = np.stack([np.concatenate([run.views, run.truth[None]]) for run in made])
    texts = [parameters.format(run.parameters) for run in made]
    path = folder / f"shard_{number:04d}.npy"
    encoded = io.BytesIO()
    np.save(encoded, arrays)
    _write(path, encoded.getbuffer())
    # The description is written last: a shard without it does not exist.
    _write(path.with_suffix(".json"), json.dumps({"ids": [run.id for run in made], "parameters": texts}).encode())
    return len(made)


def _write(path: Path, content: bytes | memoryview) -> None:
    temporary = path.with_name(f".{path.name}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        reason = error.strerror or error
        raise UnveilError(f"{path}: cannot be written ({reason}); free space or choose another folder") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnveilError(f"{path}: damaged; delete it, and its runs are simulated again") from error


class ArchiveRuns:
    """Complete runs read straight from their archives, as a `ViewStore` gives them: nothing is unpacked or stored."""

    def __init__(self, entries: Sequence[archives.Entry]) -> None:
        self.entries = list(entries)
        self.ids = [entry.id for entry in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Views (V, H, W) and truth (H, W) of run ``index``, uint8."""
        run = archives.read_run(self.entries[index])
        return run.views, run.truth

    def parameters(self, index: int) -> parameters.Parameters:
        """How run ``index`` was made."""
        return archives.read_run(self.entries[index]).parameters


class FocalPairs:
    """Focal stacks and truths of a view store, integrated on the fly: a store for ``restore.datasets.PairDataset``.

    Args:
        store: the raw views.
        heights: nominal focal heights, metres.
        jitter: every plane of every item is moved by U(−jitter, jitter) metres, anew each epoch; planes nearest to a
            wanted height then look familiar to the network.
        seed: of the jitter.
    """

    def __init__(
        self,
        store: ViewStore | ArchiveRuns,
        heights: Sequence[float] = integrator.HEIGHTS,
        jitter: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.store, self.heights, self.jitter, self.seed = store, tuple(heights), jitter, seed
        self.ids = store.ids
        self.epoch = 0
        self._rig = course_rig()

    def __len__(self) -> int:
        return len(self.store)

    def set_epoch(self, epoch: int) -> None:
        """Draw other planes from now on: those of this epoch."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Stack (P, H, W) and truth (H, W) of run ``index``, uint8."""
        views, truth = self.store[index]
        heights = np.array(self.heights)
        if self.jitter:
            random = np.random.default_rng([self.seed, self.epoch, index])
            heights = np.maximum(heights + random.uniform(-self.jitter, self.jitter, len(heights)), 0)
        image = integrator.integrate(views, self._rig, heights, CENTER_VIEW, threads=1).image
        return stacks.to_uint8(image), truth


class ViewPairs:
    """Registered views and truths, made on the fly: a store for networks that pool the views themselves.

    Args:
        store: the raw views.
        heights: focal heights on which the views are registered, metres.
    """

    def __init__(self, store: ViewStore | ArchiveRuns, heights: Sequence[float]) -> None:
        self.store, self.heights, self.ids = store, tuple(heights), store.ids
        self._rig = course_rig()

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """`integrator.candidates` (P·V + 1, H, W) and truth (H, W) of run ``index``, uint8."""
        views, truth = self.store[index]
        return integrator.candidates(views, self._rig, self.heights, CENTER_VIEW, threads=1), truth
