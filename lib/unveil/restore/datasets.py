"""Pairs of many channels and one target, as a network wants them: lazy, cropped, split, and the same every time.

Nothing here knows what the channels show. A *store* is anything with ``len(store)``, ``store.ids`` (one string per
item) and ``store[i]`` → (channels (C, H, W) uint8, target (H, W) uint8); a *region* is a function that finds the part
of a target that matters, as a mask; a *stratum* is any label that a split has to keep balanced.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from unveil.errors import UnveilError

PARTS = ("train", "validation", "test")
STATISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "max": lambda channels: channels.max(axis=0),
    "min": lambda channels: channels.min(axis=0),
    "mean": lambda channels: channels.mean(axis=0, dtype=np.float32),
    "median": lambda channels: np.median(channels, axis=0),
    "std": lambda channels: channels.std(axis=0, dtype=np.float32),
}

Region = Callable[[np.ndarray], np.ndarray]


class PairStore(Protocol):
    """What a dataset needs of a store; one that makes its items anew each epoch has ``set_epoch`` besides."""

    ids: list[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]: ...


def positions(store: PairStore, items: Sequence[int | str] | None) -> list[int]:
    """Indices into ``store`` of ``items`` given as indices or as ids; None means all.

    Raises:
        UnveilError: an item is not in the store.
    """
    if items is None:
        return list(range(len(store)))
    place = {name: index for index, name in enumerate(store.ids)}
    found = []
    for item in items:
        index = place.get(item) if isinstance(item, str) else int(item)
        if index is None or not 0 <= index < len(store):
            raise UnveilError(f"{item!r} is not among the {len(store)} items of the store: split the store again")
        found.append(index)
    return found


class PairDataset(Dataset):
    """Items of a store as float32 tensors in [0, 1]: input (C, h, w) and target (1, h, w).

    Each item is read when asked for; of a memory-mapped store only the pixels of the crop are touched. What is random
    depends on ``seed``, the epoch and the item alone, so neither the number of workers nor an interruption changes it.

    Args:
        store: the pairs.
        indices: which items, as indices or ids; None for all.
        channels: which channels, in this order; None for all.
        statistics: further channels computed over those, of "max", "min", "mean", "median", "std" (population).
        crop: size of random crops in pixels (one number or (height, width)); None for whole images.
        crops_per_item: how many crops of each item make up an epoch.
        region: finds the part of a target (H, W) uint8 that matters, as a bool mask (H, W).
        region_probability: how often a crop is placed so that it holds the region (as much of it as fits).
        flips: mirror each item left-right and top-bottom, each with probability ½.
        seed: start of all that is random.
    """

    def __init__(
        self,
        store: PairStore,
        indices: Sequence[int | str] | None = None,
        *,
        channels: Sequence[int] | None = None,
        statistics: Sequence[str] = (),
        crop: int | tuple[int, int] | None = None,
        crops_per_item: int = 1,
        region: Region | None = None,
        region_probability: float = 0.5,
        flips: bool = False,
        seed: int = 0,
    ):
        unknown = [name for name in statistics if name not in STATISTICS]
        if unknown:
            raise UnveilError(f"no statistic is called {unknown[0]!r}: choose from {', '.join(STATISTICS)}")
        self.store = store
        self.positions = positions(store, indices)
        self.channels = None if channels is None else list(channels)
        self.statistics = tuple(statistics)
        self.crop = (crop, crop) if isinstance(crop, int) else crop
        self.crops_per_item = crops_per_item
        self.region = region
        self.region_probability = region_probability
        self.flips = flips
        self.seed = seed
        # Workers that outlive an epoch hold a copy of this object; shared memory lets them see the epoch change.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._boxes: dict[int, tuple[int, int, int, int] | None] = {}
        if self.positions:
            given, target = store[self.positions[0]]
            if any(not 0 <= channel < len(given) for channel in self.channels or ()):
                raise UnveilError(f"channels {self.channels} are asked for, but the store has only {len(given)}")
            if self.crop and (self.crop[0] > target.shape[0] or self.crop[1] > target.shape[1]):
                height, width = target.shape
                raise UnveilError(f"crops of {self.crop[0]} × {self.crop[1]} do not fit images of {height} × {width}")

    def __len__(self) -> int:
        return len(self.positions) * self.crops_per_item

    @property
    def ids(self) -> list[str]:
        """Ids of the items, one each, in order."""
        return [self.store.ids[position] for position in self.positions]

    @property
    def in_channels(self) -> int:
        """Number of channels C of an input."""
        count = len(self.store[self.positions[0]][0]) if self.channels is None else len(self.channels)
        return count + len(self.statistics)

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Draw other crops and flips from now on: those of this epoch."""
        self._epoch[0] = epoch

    def __getitem__(self, item: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not 0 <= item < len(self):
            raise IndexError(item)
        position = self.positions[item // self.crops_per_item]
        random = np.random.default_rng([self.seed, self.epoch, item])
        if hasattr(self.store, "set_epoch"):
            self.store.set_epoch(self.epoch)
        given, target = self.store[position]
        if self.crop:
            rows, columns = self._window(random, position, target)
            given, target = given[:, rows, columns], target[rows, columns]
        # Basic slicing keeps a memory map lazy; the pixels are read here, once.
        given, target = np.array(given) if self.channels is None else given[self.channels], np.array(target)
        given = np.concatenate([given, *(STATISTICS[name](given)[None] for name in self.statistics)])
        if self.flips:
            for axis in (-1, -2):
                if random.random() < 0.5:
                    given, target = np.flip(given, axis), np.flip(target, axis)
        return _unit(given), _unit(target[None])

    def _window(self, random: np.random.Generator, position: int, target: np.ndarray) -> tuple[slice, slice]:
        box = None
        if self.region is not None and random.random() < self.region_probability:
            box = self._box(position, target)
        starts = []
        for axis, size in enumerate(self.crop):
            lowest, highest = 0, target.shape[axis] - size
            if box is not None:
                first, last = box[2 * axis], box[2 * axis + 1]
                # A region larger than the crop swaps the two bounds: the crop then lies within the region.
                bounds = sorted((last + 1 - size, first))
                lowest, highest = (int(np.clip(bound, 0, highest)) for bound in bounds)
            starts.append(int(random.integers(lowest, highest + 1)))
        return slice(starts[0], starts[0] + self.crop[0]), slice(starts[1], starts[1] + self.crop[1])

    def _box(self, position: int, target: np.ndarray) -> tuple[int, int, int, int] | None:
        """First and last row, first and last column of the region; None where the target has none."""
        if position not in self._boxes:
            mask = self.region(np.asarray(target))
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            self._boxes[position] = (
                (int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])) if len(rows) else None
            )
        return self._boxes[position]


def _unit(gray: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.divide(gray, 255, dtype=np.float32, order="C"))


class EpochSampler(DistributedSampler):
    """Order of a dataset's items: shuffled anew by (seed, epoch) alone, or as they come.

    ``set_epoch``, which Lightning calls before every epoch, reaches the dataset too: crops, flips and order of epoch n
    are the same whether the training came there in one go or resumed. Of several processes (``num_replicas``) each gets
    its share of the items by ``rank``.
    """

    def __init__(
        self, dataset: Dataset, shuffle: bool = True, seed: int = 0, num_replicas: int = 1, rank: int = 0
    ) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle, seed)

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)


def loader(
    dataset: PairDataset, batch_size: int = 8, shuffle: bool = False, workers: int = 0, seed: int = 0, **options: Any
) -> DataLoader:
    """Batches of (input (B, C, h, w), target (B, 1, h, w)), the same for every number of workers.

    Further ``options`` go to :class:`torch.utils.data.DataLoader`.
    """
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=EpochSampler(dataset, shuffle, seed),
        num_workers=workers,
        worker_init_fn=_one_thread,
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(seed),
        **options,
    )


def loaders(
    store: PairStore,
    parts: Mapping[str, Sequence[int | str]],
    batch_size: int = 8,
    workers: int = 0,
    seed: int = 0,
    common: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> dict[str, DataLoader]:
    """A DataLoader per part of a split: "train" shuffled, the others in order.

    Args:
        store: the pairs.
        parts: ids (or indices) per part, as :func:`split` makes them.
        batch_size: pairs per batch; 1 for the parts other than "train", whose images are whole.
        workers: processes that read ahead, per loader.
        seed: of shuffling, crops and flips.
        common: options of :class:`PairDataset` for every part (channels, statistics).
        training: options for "train" only (crop, crops_per_item, region, flips).
    """
    made = {}
    for name, items in parts.items():
        extra = dict(training or {}) if name == "train" else {}
        dataset = PairDataset(store, items, seed=seed, **dict(common or {}), **extra)
        train = name == "train"
        made[name] = loader(dataset, batch_size if train else 1, shuffle=train, workers=workers, seed=seed)
    return made


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)


def split(
    strata: Mapping[str, Hashable], seed: int = 0, fractions: Sequence[float] = (0.7, 0.15, 0.15)
) -> dict[str, list[str]]:
    """Divide ids into train, validation and test, every stratum in the same proportions.

    Within each stratum a part holds its share rounded down or up; the ids left over by rounding go to the parts that
    lack most in the whole, at most one to each, so that many small strata together still meet the fractions.

    Args:
        strata: label per id (a dict or a pandas Series indexed by id).
        seed: of the shuffling.
        fractions: shares of train, validation and test; they add up to 1.

    Returns:
        Sorted ids per part; no id is in two parts, every id is in one.
    """
    shares = np.asarray(fractions, dtype=float)
    if shares.shape != (3,) or (shares < 0).any() or not np.isclose(shares.sum(), 1):
        raise UnveilError(f"fractions {tuple(fractions)} are not three shares that add up to 1")
    groups: dict[str, list[str]] = {}
    labelled = sorted((str(name), str(label)) for name, label in strata.items())
    ids = [name for name, _ in labelled]
    if len(set(ids)) < len(ids):
        raise UnveilError("an id stands twice among the strata: every id belongs to one stratum")
    for name, label in labelled:
        groups.setdefault(label, []).append(name)
    random = np.random.default_rng(seed)
    counts = {}
    for label in sorted(groups):
        random.shuffle(groups[label])
        # The small addition keeps 0.15 × 20 at 3 in spite of binary fractions.
        counts[label] = np.floor(len(groups[label]) * shares + 1e-9).astype(int)
    lacking = len(ids) * shares - sum(counts.values(), np.zeros(3, int))
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for label, count in counts.items():
        left = len(groups[label]) - int(count.sum())
        chosen = np.argsort(np.where(shares > 0, -lacking, np.inf), kind="stable")[:left]
        count[chosen] += 1
        lacking[chosen] -= 1
        for part, some in zip(PARTS, np.split(groups[label], np.cumsum(count)[:-1]), strict=True):
            parts[part].extend(map(str, some))
    return {part: sorted(names) for part, names in parts.items()}


def save_split(path: str | Path, parts: Mapping[str, Sequence[str]]) -> Path:
    """Write a split as JSON; the file appears whole or not at all."""
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({part: list(names) for part, names in parts.items()}, indent=1) + "\n", "utf-8")
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise UnveilError(f"cannot write the split {path}: {error.strerror}; check the folder and its space") from error
    return path


def load_split(path: str | Path, store: PairStore | None = None) -> dict[str, list[str]]:
    """Read a split back; with ``store``, make sure that the store has all its ids.

    Raises:
        UnveilError: the file is missing or no split, an id stands in two parts, or the store lacks one.
    """
    remedy = "delete it, or make it again with datasets.split and datasets.save_split"
    try:
        read = json.loads(Path(path).read_text("utf-8"))
        parts = {part: [str(name) for name in read[part]] for part in PARTS}
    except OSError as error:
        raise UnveilError(f"cannot read the split {path}: {error.strerror}; {remedy}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UnveilError(f"{path} is no split into {', '.join(PARTS)}; {remedy}") from error
    names = [name for part in parts.values() for name in part]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UnveilError(f"{path} has {twice} in two parts; {remedy}")
    if store is not None:
        absent = set(names) - set(store.ids)
        if absent:
            raise UnveilError(f"{path} names {len(absent)} items that the store lacks, e.g. {min(absent)}; {remedy}")
    return parts
