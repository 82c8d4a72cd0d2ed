"""What the tasks on single pictures share: how weights are made, kept and loaded, and how commands treat pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy import ndimage

from unveil import files, project
from unveil.degrade.base import Operator
from unveil.errors import UnveilError
from unveil.restore import training, weights
from unveil.restore.networks import Restorer
from unveil.restore.options import Options
from unveil.restore.pairs import PairDataset
from unveil.show import figures
from unveil.tasks import photos

Place: TypeAlias = "str | os.PathLike[str]"
Progress: TypeAlias = "Callable[[int, int], None] | None"


@dataclass
class Degraded:
    """Pairs (operator(clean), clean), degraded anew each time; ``prepare`` makes the target of the clean picture first.

    ``scale`` is target pixels per input pixel. Pictures smaller than a crop are continued mirrored.
    """

    pictures: photos.Pictures
    operator: Operator
    scale: int = 1
    prepare: Callable[[np.ndarray], np.ndarray] = np.asarray

    ids = property(lambda self: self.pictures.ids)

    def __len__(self) -> int:
        return len(self.pictures)

    def item(
        self, i: int, rng: np.random.Generator, crop: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        clean, scale = self.pictures[i], self.scale
        sides = clean.shape[1:]
        height, width = (scale * n for n in (crop or [side // scale for side in sides]))
        spare = (max(0, sides[0] - height), max(0, sides[1] - width))
        top, left = (int(rng.integers(n + 1)) if crop else 0 for n in spare)
        part = photos.unit(clean[:, top : top + height, left : left + width])
        lacking = [(0, 0), (0, height - part.shape[1]), (0, width - part.shape[2])]
        target = self.prepare(np.pad(part, lacking, mode="symmetric"))
        return self.operator(target, rng), target


@dataclass(frozen=True)
class Preset:
    """A training: its options, the clean pictures, the operator that degrades them, and the crops (input pixels)."""

    options: Options
    pictures: Callable[[], photos.Pictures]
    operator: Operator
    crop: int
    crops_per_item: int = 1
    scale: int = 1
    prepare: Callable[[Any], Any] = np.asarray
    source: str = "dead leaves and free photographs"

    def pairs(self, pictures: photos.Pictures) -> Degraded:
        """These pictures, degraded and prepared."""
        return Degraded(pictures, self.operator, self.scale, self.prepare)

    def fit(self, out: Place, pictures: photos.Pictures | None = None, **changes: Any) -> training.Fit:
        """Train in the folder ``out`` (resuming) on these pictures instead of the preset's; ``changes`` of options.

        The validation pictures are dead leaves of another seed, so that no photograph of a table chooses an epoch.
        """
        source = self.source if pictures is None else f"{len(pictures)} pictures, the first {pictures.ids[0]}"
        pictures = self.pictures() if pictures is None else pictures
        options = replace(self.options, recipe=f"{self.operator!r} of {source}", **changes)
        how = {"crop": self.crop, "crops_per_item": self.crops_per_item, "flips": "hv", "seed": options.seed}
        validation = PairDataset(self.pairs(photos.leaves(12, 128, seed=8)))
        return training.train(options, PairDataset(self.pairs(pictures), **how), validation, out)


def file(task: str, name: str) -> Path:
    """Where the shipped weights of a preset are kept."""
    return project.weights_dir() / task / f"{name}.safetensors"


def load(task: str, name: str) -> Restorer:
    """The shipped network, ready to predict."""
    return weights.load(file(task, name))[0]


def make(task: str, presets: Mapping[str, Preset], name: str, out: Place, **changes: Any) -> Path:
    """Remake the shipped weights of a preset from its seed: train in ``out``, then keep weights, options and log."""
    if name not in presets:
        raise UnveilError(f"there is no preset {name!r}: choose one of {', '.join(presets)}")
    fit = presets[name].fit(out, **changes)
    hours = fit.history["seconds"].sum() / 3600
    note = f"{hours:.2f} hours of the clock, {len(fit.history)} epochs, one thread of a loaded CPU"
    weights.save(file(task, name), fit.model, replace(fit.options, note=note))
    files.write(file(task, name).with_suffix(".log.csv"), fit.history.round(6).to_csv(index=False))
    return file(task, name)


def each(paths: Iterable[Place], work: Callable[[Path], None]) -> list[str]:
    """Do the work on every picture; of several the troubles are collected, of a single one they are raised."""
    found, troubles = photos.find(paths), []
    for path in found:
        try:
            work(path)
        except UnveilError as error:
            if len(found) == 1:
                raise
            troubles.append(str(error))
    return troubles


def compare(path: Path, views: Mapping[str, np.ndarray], columns: int | None = None) -> None:
    """A figure of named pictures (C, H, W) side by side as PNG."""
    views = {name: view[:-1] if len(view) in (2, 4) else view for name, view in views.items()}
    fig = figures.show({name: photos.shown(view) for name, view in views.items()}, columns)
    figures.withdraw(fig)
    files.write(path, figures.png(fig))


def keep(task: str, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Join the tables per set of pictures and write them as ``results.csv`` beside the weights."""
    table = pd.concat([table.assign(set=name) for name, table in tables.items()], ignore_index=True)
    table = table[["set", *table.columns.drop("set")]]
    files.write(project.weights_dir() / task / "results.csv", table.round(4).to_csv(index=False))
    return table


def busiest(picture: np.ndarray, side: int) -> tuple[slice, slice, slice]:
    """Where the strongest edges are: ``picture[busiest(picture, side)]`` has up to ``side`` pixels a side."""
    gray = picture[: min(3, len(picture))].mean(0)
    height, width = min(side, gray.shape[0]), min(side, gray.shape[1])
    edges = ndimage.gaussian_gradient_magnitude(gray, 1)
    total = np.pad(edges, ((1, 0), (1, 0))).astype(np.float64).cumsum(0).cumsum(1)
    inside = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    top, left = np.unravel_index(inside.argmax(), inside.shape)
    return slice(None), slice(int(top), int(top) + height), slice(int(left), int(left) + width)
