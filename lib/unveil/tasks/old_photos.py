"""Old photographs: find the damage, repair it, give the picture colour, with or without the user's hints.

Three networks as the original project planned: *repair* (aged gray → gray), *colour* (gray → colour) and *direct* (aged
gray → colour at once); and a small *finder* that draws the mask of damage which repair and direct take as second input.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.registration import phase_cross_correlation

from unveil.degrade.ageing import luminance
from unveil.errors import UnveilError
from unveil.restore import metrics
from unveil.restore.classical import fill_nearest, inpaint, median, tv
from unveil.restore.inference import predict
from unveil.restore.networks import Restorer
from unveil.tasks import common, photos
from unveil.tasks.old_photos_pairs import (
    AGEING,
    PRESETS,
    Hints,
    chroma,
    hints_at,
    learning_set,
    resized,
    spread,
    with_chroma,
)

__all__ = ["PRESETS", "TASK"]

TASK = "old_photos"
CAUTION, POLISH, VIVID = 2.5, 0.02, 1.4
"""Chosen on the validation pictures: the factor by which the finder's probabilities are too low; the weight of a total
variation for the grain that repair leaves; the largest factor on guessed chroma (tried in steps of 0.2) at which the
PSNR is not below that of gray."""
WORKING_SIZE = 256
"""Shorter side in pixels at which pictures are coloured: the network judges whole scenes, not textures."""


@cache
def model(name: str) -> Restorer:
    """The shipped network of this name."""
    return common.load(TASK, name)


def find_damage(gray: np.ndarray) -> np.ndarray:
    """(1, H, W) → (1, H, W): how sure each pixel is lost, 0 … 1."""
    return np.minimum(1, CAUTION * _mirrored("finder", gray))


def repair(gray: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """(1, H, W) → (1, H, W) without grain and damage; ``mask`` (1, H, W) is 1 where lost, found where None."""
    mask = find_damage(gray) if mask is None else mask
    return tv(_mirrored("repair", np.concatenate([gray, mask.astype(np.float32)])), POLISH).clip(0, 1)


def _mirrored(name: str, x: np.ndarray) -> np.ndarray:
    """(C, H, W) → (1, H, W): the mean of the answers to a picture and to its mirror image, by tiles."""
    answers = [predict(model(name), x[..., ::step].copy(), tile=512, overlap=64) for step in (1, -1)]
    return (answers[0] + answers[1][..., ::-1])[None] / 2


def colour(gray: np.ndarray, hints: Hints | None = None) -> np.ndarray:
    """(1, H, W) → (3, H, W) with the same gray values; the chroma is predicted at `WORKING_SIZE` and enlarged."""
    factor = min(1.0, WORKING_SIZE / min(gray.shape[1:]))
    size = tuple(max(1, round(factor * n)) for n in gray.shape[1:])
    small = gray if size == gray.shape[1:] else resized(gray, size)
    scaled = None if hints is None else hints * np.float32([factor, factor, 1, 1])
    answer = chroma(predict(model("colour"), np.concatenate([small, spread(small, scaled)])))
    answer = VIVID * answer if hints is None else answer
    return with_chroma(gray, answer if size == gray.shape[1:] else resized(answer, gray.shape[1:]))


def align_plate(scan: np.ndarray) -> np.ndarray:
    """A glass plate's three exposures, (1, 3h, W) from the top blue, green, red → (3, h', w') in register.

    Red and blue are shifted onto green by the phase correlation of their edges (gray values differ between the
    exposures, edges lie in the same places); the plate's margins are cut off.
    """
    third = scan.shape[1] // 3
    top, left = round(0.06 * third), round(0.07 * scan.shape[2])
    blue, green, red = (scan[0, i * third : (i + 1) * third][top:-top, left:-left] for i in range(3))
    edges = {name: ndimage.gaussian_gradient_magnitude(x, 1.5) for name, x in (("r", red), ("g", green), ("b", blue))}
    moved = [green]
    for exposure, name, place in ((red, "r", 0), (blue, "b", 2)):
        shift = phase_cross_correlation(edges["g"], edges[name], upsample_factor=10, normalization=None)[0]
        moved.insert(place, ndimage.shift(exposure, shift, order=1, mode="nearest"))
    inner = max(4, round(0.03 * third))
    return np.stack(moved)[:, inner:-inner, inner:-inner].astype(np.float32)


def read_mask(path: str | os.PathLike[str], shape: tuple[int, int]) -> np.ndarray:
    """A painted mask of damage, (1, H, W) of 0 and 1: what is opaque, or in a picture without alpha what is light."""
    x = _painted(path, shape)
    return ((x[-1:] if len(x) in (2, 4) else luminance(x)) > 0.5).astype(np.float32)


def read_hints(path: str | os.PathLike[str], shape: tuple[int, int]) -> Hints:
    """Painted colour hints: what is opaque, or in a picture without alpha what is coloured, averaged in small cells."""
    x = _painted(path, shape)
    tint = chroma(x[:3]) if len(x) >= 3 else np.zeros((2, *shape), np.float32)
    painted = x[-1] > 0.5 if len(x) in (2, 4) else np.hypot(*tint) > 0.03
    rows, columns = np.nonzero(painted)
    if not len(rows):
        raise UnveilError(
            f"{path}: holds no hint; paint strokes of colour on the gray picture, or on a transparent one"
        )
    cell = max(shape) / 24
    _, label = np.unique(np.stack([rows // cell, columns // cell]), axis=1, return_inverse=True)
    values = np.stack([rows, columns, *tint[:, rows, columns]], 1)
    return np.stack([np.bincount(label, v) / np.bincount(label) for v in values.T], 1).astype(np.float32)


def _painted(path: str | os.PathLike[str], shape: tuple[int, int]) -> np.ndarray:
    x = photos.read(path)
    if x.shape[1:] != tuple(shape):
        raise UnveilError(
            f"{path}: is {x.shape[2]} × {x.shape[1]}, the photograph {shape[1]} × {shape[0]}; paint on a copy of it"
        )
    return x


def run(
    paths: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    in_colour: bool = False,
    mask: str | os.PathLike[str] | None = None,
    hints: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Repair scans, and colour them if asked or hinted; returns the troubles.

    Writes ``<name>_mask``, ``_repaired``, ``_coloured`` and ``_comparison.png`` to the folder ``out``. ``mask``, a
    painted one or the written one corrected, takes the place of what the finder finds.
    """

    def one(path: Path) -> None:
        names = ("mask", "repaired", *(["coloured"] if in_colour or hints else []), "comparison")
        files = {name: photos.vacant(Path(out) / f"{path.stem}_{name}.png", overwrite) for name in names}
        scan = photos.read(path, 3)
        gray = luminance(scan)
        lost = read_mask(mask, gray.shape[1:]) if mask else find_damage(gray)
        clues = read_hints(hints, gray.shape[1:]) if hints else None
        views = {"as it is": gray, "mask": lost, "repaired": repair(gray, lost)}
        if "coloured" in names:
            views["coloured"] = colour(views["repaired"], clues)
        for name in names[:-1]:
            photos.write(files[name], views[name], overwrite, 8 if name == "mask" else photos.bits(scan))
        common.compare(files["comparison"], views)

    return common.each(paths, one)


def gray_scores(prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """PSNR as it is, after the best affine gray curve, and of lost pixels after it; target (2, H, W) is gray, mask."""
    truth, lost = target
    slope, offset = np.polyfit(prediction.ravel(), truth.ravel(), 1) if np.ptp(prediction) else (0.0, truth.mean())
    curved, inside = slope * prediction + offset, lost > 0
    hole = metrics.psnr(curved[inside][None], truth[inside][None]) if inside.any() else np.nan
    return {"psnr": metrics.psnr(prediction, truth), "curve": metrics.psnr(curved, truth), "inside": hole}


def colour_scores(prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """PSNR, mean distance in the ab plane of CIELAB, and colourfulness as a share of the truth's."""
    answer, truth = (rgb2lab(x, channel_axis=0)[1:] for x in (prediction, target))
    share = colourfulness(prediction) / max(colourfulness(target), 1e-3)
    return {
        "psnr": metrics.psnr(prediction, target),
        "ab": float(np.hypot(*(answer - truth)).mean()),
        "colourful": share,
    }


def colourfulness(rgb: np.ndarray) -> float:
    """σ + 0.3 μ of the opponent colours, 0 for gray (Hasler & Süsstrunk 2003, 10.1117/12.477378)."""
    opponents = np.stack([rgb[0] - rgb[1], (rgb[0] + rgb[1]) / 2 - rgb[2]]).reshape(2, -1)
    return float(np.hypot(*opponents.std(1)) + 0.3 * np.hypot(*opponents.mean(1)))


def repairs(pictures: photos.Pictures, seed: int = 2026) -> pd.DataFrame:
    """Scores of every way to repair the pictures, aged by `AGEING`: one row per way and picture."""
    data, inputs = [], []
    for i in range(len(pictures)):
        aged, lost = AGEING.with_mask(photos.unit(pictures[i]), np.random.default_rng([seed, i]))
        inputs.append(np.concatenate([aged, find_damage(aged), lost]))
        data.append((inputs[-1], np.concatenate([luminance(photos.unit(pictures[i])), lost])))

    def classical(x: np.ndarray, mask: int, fill: Callable[..., np.ndarray]) -> np.ndarray:
        return tv(fill(x[:1], ndimage.binary_dilation(x[mask] > 0.5)), 0.1)

    ways = {"as it is": lambda x: x[:1], "median 5, TV": lambda x: tv(median(x[:1], 5), 0.1)}
    for mask, name in ((1, "found"), (2, "true")):
        ways[f"nearest, TV, {name} mask"] = partial(classical, mask=mask, fill=fill_nearest)
        ways[f"biharmonic, TV, {name} mask"] = partial(classical, mask=mask, fill=inpaint)
    ways["network, no mask"] = lambda x: repair(x[:1], np.zeros_like(x[:1]))
    ways["network, found mask"] = lambda x: repair(x[:1], x[1:2])
    ways["network, true mask"] = lambda x: repair(x[:1], x[2:])
    return metrics.compare(ways, data, {"scores": gray_scores})


def colourings(pictures: photos.Pictures, seed: int = 2026, hints: int = 10) -> pd.DataFrame:
    """Scores of every way to colour the pictures' true gray, with ``hints`` random hints, and of the aged pictures."""
    data, clues, aged, own = [], [], [], []
    for i in range(len(pictures)):
        rng, clean = np.random.default_rng([seed, i]), photos.unit(pictures[i])
        aged.append(AGEING.with_mask(clean, rng)[0])
        places = np.stack([rng.integers(0, n, hints) for n in clean.shape[1:]], 1)
        clues.append(hints_at(clean, places))
        own.append(with_chroma(luminance(clean), chroma(clean).mean((1, 2))[:, None, None]))
        data.append((luminance(clean), clean))
    sepia = np.mean([chroma(photos.unit(x)).mean((1, 2)) for x in learning_set("colour")[0]], 0)[:, None, None]
    found = [np.concatenate([x, find_damage(x)]) for x in aged]
    ways = {
        "gray": lambda x: np.repeat(x, 3, 0),
        "one sepia for all": lambda x: with_chroma(x, sepia),
        "own mean chroma (oracle)": own,
        "network": colour,
        f"{hints} hints spread": [with_chroma(x, spread(x, c)[:2]) for (x, _), c in zip(data, clues, strict=True)],
        f"network, {hints} hints": [colour(x, c) for (x, _), c in zip(data, clues, strict=True)],
        "aged: gray repaired": [np.repeat(repair(x[:1], x[1:]), 3, 0) for x in found],
        "aged: repaired, then coloured": [colour(repair(x[:1], x[1:])) for x in found],
        "aged: end to end": [predict(model("direct"), x) for x in found],
    }
    return metrics.compare(ways, data, {"scores": colour_scores})


def results(outside: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Score every way on every picture and keep the table beside the weights; ``outside`` holds ``old_photos/``."""
    sets = {"scikit-image": photos.samples()}
    if outside:
        sets["Kodak"] = photos.folder(Path(outside, "old_photos", "colour_truth"))
    tables = {f"{name}, repaired": repairs(pictures) for name, pictures in sets.items()}
    if outside:
        scans = photos.find([Path(outside, "old_photos", "glass_plates")])
        aligned = cache(lambda i: photos.bytes_of(align_plate(photos.read(scans[i], 1))))
        sets["glass plates"] = photos.Pictures([p.name for p in scans], aligned)
    tables |= {f"{name}, coloured": colourings(pictures) for name, pictures in sets.items()}
    return common.keep(TASK, tables)
