"""Pairs of a degraded input and its target, as a network wants them: lazy, cropped, split, the same every time.

Nothing here depends on what the channels show. A task brings its pairs as an object of the kind :class:`Pairs`.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from unveil import files
from unveil.errors import UnveilError

PARTS = ("train", "validation", "test")


class Pairs(Protocol):
    """What a task brings. Where it makes other items in every epoch it may have ``set_epoch(epoch)`` besides."""

    ids: list[str]

    def __len__(self) -> int: ...

    def item(self, i: int, rng: np.random.Generator, crop: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray]:
        """Input (C, h, w) and target (K, s·h, s·w), float32; ``crop`` is (h, w), None the whole image."""
        ...


class PairDataset(Dataset):
    """Items of pairs as float32 tensors.

    What is random depends on ``seed``, the epoch and the item alone: neither the number of workers nor an interruption
    changes it.

    ``indices`` are the items, as numbers or ids; None for all. ``crop`` is the size of random crops of the input in
    pixels, one number or (height, width); None for whole images; ``crops_per_item`` of each item make up an epoch.
    ``flips`` says how items are mirrored with probability ½: ``"h"`` left-right, ``"v"`` top-bottom, ``"hv"`` both.
    """

    def __init__(
        self,
        pairs: Pairs,
        indices: Sequence[int | str] | None = None,
        *,
        crop: int | tuple[int, int] | None = None,
        crops_per_item: int = 1,
        flips: str = "",
        seed: int = 0,
    ):
        self.pairs = pairs
        self.positions = _positions(pairs, indices)
        self.crop = (crop, crop) if isinstance(crop, int) else crop
        self.crops_per_item, self.flips, self.seed = crops_per_item, flips, seed
        # Workers that outlive an epoch hold a copy of this object; shared memory lets them see the epoch change.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.positions) * self.crops_per_item

    @property
    def ids(self) -> list[str]:
        """Ids of the items, one each, in order."""
        return [self.pairs.ids[position] for position in self.positions]

    def set_epoch(self, epoch: int) -> None:
        """Draw other crops, flips and degradations from now on: those of this epoch."""
        self._epoch[0] = epoch

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        if not 0 <= item < len(self):
            raise IndexError(item)
        epoch = int(self._epoch)
        rng = np.random.default_rng([self.seed, epoch, item])
        if hasattr(self.pairs, "set_epoch"):
            self.pairs.set_epoch(epoch)
        given, target = self.pairs.item(self.positions[item // self.crops_per_item], rng, self.crop)
        for name, axis in (("h", -1), ("v", -2)):
            if name in self.flips and rng.random() < 0.5:
                given, target = np.flip(given, axis), np.flip(target, axis)
        return _tensor(given), _tensor(target)


def _positions(pairs: Pairs, indices: Sequence[int | str] | None) -> list[int]:
    place = {name: index for index, name in enumerate(pairs.ids)}
    positions = []
    for item in range(len(pairs)) if indices is None else indices:
        index = place.get(item) if isinstance(item, str) else int(item)
        if index is None or not 0 <= index < len(pairs):
            raise UnveilError(f"{item!r} is not among the {len(pairs)} items: split them again")
        positions.append(index)
    return positions


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def window(
    rng: np.random.Generator, size: tuple[int, int], crop: tuple[int, int], box: tuple[int, int, int, int] | None = None
) -> tuple[slice, slice]:
    """Rows and columns of a random crop of an image of ``size`` (height, width).

    With ``box``, the first and last row and the first and last column of what matters, the crop holds as much of it as
    fits. Raises :class:`UnveilError` where the crop is larger than the image.
    """
    if crop[0] > size[0] or crop[1] > size[1]:
        raise UnveilError(f"crops of {crop[0]} × {crop[1]} do not fit images of {size[0]} × {size[1]}")
    slices = []
    for axis in (0, 1):
        lowest, highest = 0, size[axis] - crop[axis]
        if box is not None:
            first, last = box[2 * axis], box[2 * axis + 1]
            # A region larger than the crop swaps the two bounds: the crop then lies within the region.
            bounds = sorted((last + 1 - crop[axis], first))
            lowest, highest = (int(np.clip(bound, 0, highest)) for bound in bounds)
        start = int(rng.integers(lowest, highest + 1))
        slices.append(slice(start, start + crop[axis]))
    return slices[0], slices[1]


class EpochSampler(DistributedSampler):
    """Order of a dataset's items: shuffled anew by (seed, epoch) alone, or as they come.

    ``set_epoch``, which Lightning calls before every epoch, reaches a shuffled dataset too: crops, degradations and
    order of epoch n are the same whether the training came there in one go or resumed, and validation never changes.
    """

    def __init__(self, dataset: Dataset, shuffle: bool, seed: int = 0, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle, seed)

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        if self.shuffle and hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)


def split(
    strata: Mapping[str, Hashable], seed: int = 0, fractions: Sequence[float] = (0.7, 0.15, 0.15)
) -> dict[str, list[str]]:
    """Divide ids into train, validation and test, every stratum in the same proportions.

    Within each stratum a part holds its share rounded down or up; the ids left over by rounding go to the parts that
    lack most in the whole, at most one to each, so that many small strata together still meet the fractions.

    ``strata`` holds the label of each id; ``fractions`` are the shares of the parts and add up to 1. Returns sorted ids
    per part; no id is in two parts, every id is in one.
    """
    shares = np.asarray(fractions, dtype=float)
    if shares.shape != (3,) or (shares < 0).any() or not np.isclose(shares.sum(), 1):
        raise UnveilError(f"fractions {tuple(fractions)} are not three shares that add up to 1")
    groups: dict[str, list[str]] = {}
    labelled = sorted((str(name), str(label)) for name, label in strata.items())
    if len({name for name, _ in labelled}) < len(labelled):
        raise UnveilError("an id is there twice among the strata: every id belongs to one stratum")
    for name, label in labelled:
        groups.setdefault(label, []).append(name)
    random = np.random.default_rng(seed)
    counts = {}
    for label in sorted(groups):
        random.shuffle(groups[label])
        # The small addition keeps 0.15 × 20 at 3 in spite of binary fractions.
        counts[label] = np.floor(len(groups[label]) * shares + 1e-9).astype(int)
    lacking = len(labelled) * shares - sum(counts.values(), np.zeros(3, int))
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for label, count in counts.items():
        left = len(groups[label]) - int(count.sum())
        chosen = np.argsort(np.where(shares > 0, -lacking, np.inf), kind="stable")[:left]
        count[chosen] += 1
        lacking[chosen] -= 1
        for part, some in zip(PARTS, np.split(groups[label], np.cumsum(count)[:-1]), strict=True):
            parts[part].extend(map(str, some))
    return {part: sorted(names) for part, names in parts.items()}


def save_split(path: Path, parts: Mapping[str, Sequence[str]]) -> None:
    """Write a split as JSON."""
    files.write_json(path, {part: list(names) for part, names in parts.items()})


def load_split(path: Path) -> dict[str, list[str]]:
    """Read a split; :class:`UnveilError` where it is missing or damaged, or an id stands in two parts."""
    try:
        read = json.loads(path.read_text("utf-8"))
        parts = {part: [str(name) for name in read[part]] for part in PARTS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnveilError(f"{path}: cannot be read as a split ({error}); delete it, and it is made again") from error
    names = [name for part in parts.values() for name in part]
    if len(set(names)) < len(names):
        raise UnveilError(f"{path}: an id stands in two parts; delete it, and it is made again")
    return parts
