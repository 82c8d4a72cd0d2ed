"""What the networks for old photographs learn from: aged prints with masks of their damage, gray pictures with hints.

Pictures are float32 (C, H, W) in [0, 1], sRGB as it is.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from unveil.degrade.ageing import Ageing, clouds, luminance
from unveil.restore import training
from unveil.restore.options import Options
from unveil.restore.pairs import PairDataset, window
from unveil.tasks import photos

AGEING = Ageing()
"""The ageing that results are given for."""
WIDE = Ageing(blur=(0.2, 1.2), grain=(0.01, 0.12), grain_size=(0.35, 1.2))
"""The ageing that is trained on: real prints also have less and coarser grain."""
Hints = np.ndarray
"""(N, 4) float32: row, column, Cb and Cr of each hint."""


def chroma(rgb: np.ndarray) -> np.ndarray:
    """(3, H, W) → (2, H, W): Cb and Cr of ITU-R BT.601, 0 for gray."""
    gray = luminance(rgb)[0]
    return np.stack([(rgb[2] - gray) / 1.772, (rgb[0] - gray) / 1.402])


def with_chroma(gray: np.ndarray, cbcr: np.ndarray) -> np.ndarray:
    """(1, H, W) and (2, H, W) → (3, H, W) clipped to [0, 1]: the same gray values in colour."""
    cb, cr = cbcr
    rgb = np.stack([gray[0] + 1.402 * cr, gray[0] - 0.344136 * cb - 0.714136 * cr, gray[0] + 1.772 * cb])
    return rgb.clip(0, 1).astype(np.float32)


def spread(gray: np.ndarray, hints: Hints | None, length: float = 0.12, contrast: float = 0.12) -> np.ndarray:
    """Hints carried over the picture: (3, H, W) with Cb, Cr and confidence; zeros without hints.

    Each pixel takes the mean of the hints weighted by e^−cost. The cost is the distance in units of ``length`` longer
    sides plus the difference in gray in units of ``contrast``: colours stop at edges, as in Levin et al. 2004
    (10.1145/1015706.1015780), but in closed form.
    """
    height, width = gray.shape[1:]
    if hints is None or not len(hints):
        return np.zeros((3, height, width), np.float32)
    at = np.clip(hints[:, :2].astype(int), 0, [height - 1, width - 1])
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    reach = np.float32(length * max(height, width))
    cost = (np.hypot(rows - r, columns - c) / reach + np.abs(gray[0] - gray[0, r, c]) / contrast for r, c in at)
    cost = np.stack(list(cost))
    nearest = cost.min(0)
    weight = np.exp(nearest - cost)
    mean = np.einsum("nhw,nc->chw", weight / weight.sum(0), hints[:, 2:])
    return np.concatenate([mean, np.exp(-nearest / 2)[None]]).astype(np.float32)


def resized(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    bilinear = Image.Resampling.BILINEAR  # with the antialiasing of Pillow
    return np.stack([np.asarray(Image.fromarray(channel).resize(size[::-1], bilinear)) for channel in x])


@dataclasses.dataclass
class AgedPairs:
    """What a network of this task learns from: clean pictures, aged anew each time, at random scales.

    finder: aged gray → mask; repair: aged gray, imperfect mask → gray; direct: the same → colour; colour: gray, spread
    hints → colour.
    """

    pictures: photos.Pictures
    kind: str
    operator: Ageing = WIDE

    ids = property(lambda self: self.pictures.ids)

    def __len__(self) -> int:
        return len(self.pictures)

    def item(
        self, i: int, rng: np.random.Generator, crop: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        clean = self.pictures[i]
        if crop is not None:
            fits = [c / n for c, n in zip(crop, clean.shape[1:], strict=True)]
            scale = rng.uniform(min(1.0, max(1 / 3 if self.kind == "colour" else 1 / 2, *fits)), 1.0)
            sides = [min(n, round(c / scale)) for c, n in zip(crop, clean.shape[1:], strict=True)]
            rows, columns = window(rng, clean.shape[1:], sides)
            clean = resized(clean[:, rows, columns], crop)
        clean = photos.unit(clean)
        if self.kind == "colour":
            return self._hinted(clean, rng), clean
        aged, mask = self.operator.with_mask(clean, rng)
        if self.kind == "finder":
            return aged, mask
        given = np.concatenate([aged, imperfect(mask, self.operator, rng)])
        return given, clean if self.kind == "direct" else luminance(clean)

    @staticmethod
    def _hinted(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        count = 0 if rng.random() < 0.6 else min(24, int(rng.geometric(0.12)))
        places = np.stack([rng.integers(0, n, count) for n in clean.shape[1:]], 1)
        clues = spread(luminance(clean), hints_at(clean, places))
        # Repaired prints have another gamma than the clean picture, are softer and still a little noisy.
        gray = ndimage.gaussian_filter(luminance(clean) ** np.exp(rng.normal(0, 0.12)), (0, *2 * [rng.uniform(0, 0.8)]))
        gray = gray + abs(rng.normal(0, 0.01)) * rng.standard_normal(gray.shape)
        return np.concatenate([gray, clues]).astype(np.float32)


def imperfect(mask: np.ndarray, operator: Ageing, rng: np.random.Generator) -> np.ndarray:
    """A true mask as a finder or a hand would draw it: parts missed, false alarms, grown, soft, or nothing at all."""
    shape, kind, drawn = mask.shape[1:], rng.random(), mask[0]
    if kind < 0.1:
        return np.zeros_like(mask)
    if kind > 0.4:
        drawn = drawn * (clouds(shape, 24, rng) > rng.uniform(-0.8, 0.2))
        if rng.random() < 0.5:
            drawn = np.maximum(drawn, (operator.cover(shape, rng) > 0.25) & (clouds(shape, 24, rng) > 0.3))
    drawn = ndimage.grey_dilation(drawn, (1, 1) if rng.random() < 1 / 3 else (3, 3))
    if kind > 0.4:
        drawn = ndimage.gaussian_filter(drawn.astype(np.float32), rng.uniform(0, 0.8)) * rng.uniform(0.7, 1)
    return drawn[None].astype(np.float32)


def hints_at(rgb: np.ndarray, places: np.ndarray) -> Hints:
    """Hints with the picture's own chroma at (N, 2) rows and columns: what a user who knows the colours would paint."""
    tint = ndimage.gaussian_filter(chroma(rgb), (0, 1, 1))[:, places[:, 0], places[:, 1]]
    return np.concatenate([places, tint.T], 1).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Training:
    """How the weights of one network are made: ``fit`` trains it in a folder, resuming what is there."""

    kind: str
    options: Options

    def fit(self, out: str | os.PathLike[str], pictures: photos.Pictures | None = None, **changes: Any) -> training.Fit:
        """Train with these options but for ``changes``, on other ``pictures`` than `learning_set` if given."""
        train, check = learning_set(self.kind)
        source = "free photographs" if self.kind == "colour" else "free photographs and dead leaves"
        if pictures is not None:
            train, source = pictures, f"{len(pictures)} pictures, the first {pictures.ids[0]}"
        operator = "luminance" if self.kind == "colour" else repr(WIDE)
        options = dataclasses.replace(self.options, recipe=f"{operator} of {source}", **changes)
        repeats = max(1, round(100 * options.batch / len(train)))
        how = {"crop": 128, "crops_per_item": repeats, "flips": "h", "seed": options.seed}
        check_set = PairDataset(AgedPairs(check, self.kind, AGEING), crop=256, seed=7)
        return training.train(options, PairDataset(AgedPairs(train, self.kind), **how), check_set, out)


def learning_set(kind: str) -> tuple[photos.Pictures, photos.Pictures]:
    """Pictures to train and to validate on (every eighth free photograph); but for colour, dead leaves train along."""
    free = photos.free_photos()
    train, check = ([i for i in range(len(free)) if (i % 8 == 3) == held] for held in (False, True))
    train, check = (photos.Pictures([free.ids[i] for i in p], lambda j, p=p: free[p[j]]) for p in (train, check))
    return (train if kind == "colour" else train * 4 + photos.leaves(70)), check


def _training(kind: str, minutes: float, network: str, *channels: str, **changes: Any) -> Training:
    options = Options(
        network=network, channels=channels, in_channels=len(channels), epochs=100, batch=4, monitor="val_loss",
        precision="bf16-mixed", cpu_minutes=minutes,
    )  # fmt: skip
    return Training(kind, dataclasses.replace(options, **changes))


PRESETS = {
    "finder": _training("finder", 5, "finder", "gray", batch=8),
    "repair": _training("repair", 9, "gated", "gray", "mask"),
    "direct": _training("direct", 6, "gated", "gray", "mask", network_options={"out_channels": 3}),
    "colour": _training("colour", 7, "colouriser", "gray", "Cb", "Cr", "confidence", learning_rate=1.5e-3),
}
"""How the shipped weights were made: `common.make(TASK, PRESETS, name, folder)`."""
