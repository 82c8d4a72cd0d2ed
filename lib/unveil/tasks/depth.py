"""Depth frames of a stereo camera, with holes and ripples, and the ways back: filters and three networks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage import restoration

from unveil import files, project
from unveil.degrade.depth import StereoCamera, metres, nearness
from unveil.degrade.scene import room
from unveil.errors import UnveilError
from unveil.restore import classical, training
from unveil.restore.inference import Model, predict
from unveil.restore.options import Options
from unveil.restore.pairs import PairDataset, window

TASK = "depth"
TRUTH, MEASURED, INFRARED = range(3)
FAR = 4.0
"""Metres up to which errors are counted: beyond, one pixel of disparity is a metre."""


@dataclass
class DepthPairs:
    """Frames (3, H, W) uint16 (truth in mm, measured in mm, infrared) as pairs of nearness.

    The input is nearness, the mask of measured pixels and, with ``infrared``, the left picture in [0, 1]; the target is
    true nearness, 0 where unknown, and the mask again. With ``varied`` every item comes with another scale of depth,
    further noise of disparity, lost patches and now and then larger pixels, so that a network also fits other cameras.
    """

    frames: Sequence[np.ndarray]
    ids: list[str]
    infrared: bool = True
    varied: bool = False

    def __len__(self) -> int:
        return len(self.frames)

    def item(
        self, i: int, rng: np.random.Generator, crop: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        frame = self.frames[i]
        coarse = self.varied and crop is not None and rng.random() < 0.2
        if crop is not None:
            size = tuple(-(-side // 2) for side in crop) if coarse else crop
            rows, columns = window(rng, frame.shape[1:], size)
            frame = frame[:, rows, columns]
        if coarse:
            frame = frame.repeat(2, axis=1).repeat(2, axis=2)[:, : crop[0], : crop[1]]
        truth, measured = nearness(frame[TRUTH] / 1000), nearness(frame[MEASURED] / 1000)
        light = frame[INFRARED] / np.float32(255)
        if self.varied:
            truth, measured, light = _vary(truth, measured, light, rng)
        channels = [measured, measured > 0, light]
        target = np.stack([truth, measured > 0])
        return np.stack(channels[: 2 + self.infrared]).astype(np.float32), target.astype(np.float32)


def _vary(
    truth: np.ndarray, measured: np.ndarray, light: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Another camera: depth scaled, disparity noisier, patches lost, another exposure."""
    scale = np.float32(np.exp(rng.uniform(-0.5, 0.3)))
    truth, measured = scale * truth, scale * measured
    truth, measured = np.where(truth < 1, truth, 0), np.where(measured < 1, measured, 0)
    if rng.random() < 0.6:
        noise = ndimage.gaussian_filter(rng.standard_normal(truth.shape, np.float32), rng.uniform(1, 5))
        noise *= rng.uniform(0, 0.35) / 64 / max(float(noise.std()), 1e-9)
        measured = np.where(measured > 0, np.clip(measured + noise, 1e-3, 1), 0)
    if rng.random() < 0.3:
        clump = ndimage.gaussian_filter(rng.standard_normal(truth.shape, np.float32), rng.uniform(1, 8))
        measured = np.where(clump < np.quantile(clump, rng.uniform(0, 0.4)), 0, measured)
    return truth, measured, np.clip(light * np.float32(np.exp(rng.normal(0, 0.3))), 0, 1)


def simulate(
    folder: str | os.PathLike[str],
    count: int,
    seed: int = 0,
    camera: StereoCamera | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DepthPairs:
    """Frames of random rooms, each (3, H, W) uint16 in ``folder/simulated_<seed>_<i>.npy``; what is there is kept."""
    camera = camera or StereoCamera()
    paths = [Path(folder) / f"simulated_{seed}_{i:04d}.npy" for i in range(count)]
    for done, path in enumerate(paths):
        if not path.exists():
            rng = np.random.default_rng([seed, done])
            frame = camera(room(rng), rng)
            with files.replacing(path) as temporary:
                np.save(temporary, np.stack([frame.truth, frame.measured, frame.left.astype(np.uint16)]))
        if progress:
            progress(done + 1, count)
    return load_crops(paths)


def load_crops(paths: Iterable[str | os.PathLike[str]], infrared: bool = True) -> DepthPairs:
    """Pairs of ``.npy`` files that hold one frame (3, H, W) or several crops (N, 3, h, w); memory-mapped."""
    frames, ids = [], []
    for path in map(Path, paths):
        try:
            values = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise UnveilError(f"{path}: not a file of depth crops ({error}); make it again: depth crop") from error
        several = values if values.ndim == 4 else values[None]
        if several.ndim != 4 or several.shape[1] != 3 or several.dtype != np.uint16:
            raise UnveilError(
                f"{path}: holds {values.dtype} {values.shape}, not crops (N, 3, h, w); make them: depth crop"
            )
        frames += list(several)
        ids += [path.stem] if values.ndim == 3 else [f"{path.stem}/{k:02d}" for k in range(len(several))]
    return DepthPairs(frames, ids, infrared)


_UNET = Options(
    network="depth", in_channels=3, channels=("nearness", "mask", "infrared"), loss="charbonnier",
    loss_options={"epsilon": 0.003}, epochs=100, batch=2, learning_rate=1e-3, warmup=100, average=0.998,
    monitor="val_loss", precision="bf16-mixed", pictures_every=1000,
)  # fmt: skip
NETWORKS = {
    "unet": _UNET,
    "autoencoder": replace(_UNET, network_options={"body": "autoencoder", "features": [32, 64, 96, 112]}),
    "gan": replace(_UNET, network="depth_gan"),
}
CROP = 192
"""Side in pixels of the crops that a network learns from, where the frames are as large."""


def fit(
    pairs: DepthPairs, out: str | os.PathLike[str], network: str = "unet", infrared: bool = False, **changes: Any
) -> training.Fit:
    """Train a network on crops of :data:`CROP` pixels in the folder ``out``, resuming; the last twentieth validates."""
    if network not in NETWORKS:
        raise UnveilError(f"there is no network {network!r}: choose one of {', '.join(NETWORKS)}")
    held = max(1, len(pairs) // 20)
    if len(pairs) < 2:
        raise UnveilError(f"{out}: {len(pairs)} crops are not enough to train and to validate; make more: depth crop")
    options = NETWORKS[network]
    channels = options.channels[: 2 + infrared]
    recipe = f"{StereoCamera()!r} or the files of {len(pairs)} items, the first {pairs.ids[0]}"
    options = replace(options, channels=channels, in_channels=len(channels), recipe=recipe, **changes)
    side = min(CROP, *(min(frame.shape[1:]) for frame in pairs.frames))
    area = np.mean([frame.shape[1] * frame.shape[2] for frame in pairs.frames])
    train_set = PairDataset(
        replace(pairs, infrared=infrared, varied=True), range(len(pairs) - held), crop=side,
        crops_per_item=max(1, round(area / side**2 / 3)), flips="v", seed=options.seed,
    )  # fmt: skip
    validation = PairDataset(replace(pairs, infrared=infrared), range(len(pairs) - held, len(pairs)))
    return training.train(options, train_set, validation, out)


@dataclass(frozen=True)
class Training:
    """How the weights of one network are made: ``fit`` simulates the frames and trains in a folder, resuming."""

    network: str
    infrared: bool
    cpu_minutes: float
    frames: int = 240

    def fit(self, out: str | os.PathLike[str], **changes: Any) -> training.Fit:
        """Train with these options but for ``changes``."""
        pairs = simulate(project.data_dir("depth") / "frames", self.frames)
        return fit(
            pairs, out, self.network, self.infrared, **{"epochs": 1000, "cpu_minutes": self.cpu_minutes} | changes
        )


PRESETS = {
    "unet_infrared": Training("unet", True, 40),
    "unet": Training("unet", False, 20),
    "gan": Training("gan", True, 10),
    "autoencoder": Training("autoencoder", True, 10),
}
"""How the shipped weights were made: ``python -m unveil learn depth NAME``."""


def measures(prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Errors in mm of nearness (1, H, W) or (H, W) against (truth, mask) (2, H, W), truth within :data:`FAR`.

    ``off`` is the share in % of pixels off by more than 5 % of depth, ``edge`` the mean error within 5 px of a
    depth edge, ``filled`` the share in % of holes within 5 %.
    """
    target = np.asarray(target)
    truth, mask = metres(target[0]), target[1] > 0.5
    found = metres(np.maximum(np.asarray(prediction).reshape(truth.shape), 0.01))
    counted = (truth > 0) & (truth < FAR)
    error = np.abs(found - truth)
    wrong = error > 0.05 * truth
    values = {}
    for name, some in (("", counted), ("measured_", counted & mask)):
        e = 1000 * error[some] if some.any() else np.full(1, np.nan)
        values[f"{name}rmse"] = float(np.sqrt(np.mean(e**2)))
        values[f"{name}mae"], values[f"{name}median"] = float(e.mean()), float(np.median(e))
        values[f"{name}off"] = 100 * float(wrong[some].mean()) if some.any() else np.nan
    edge, holes = counted & edges(truth), counted & ~mask
    values["edge"] = 1000 * float(error[edge].mean()) if edge.any() else np.nan
    values["filled"] = 100 * float(1 - wrong[holes].mean()) if holes.any() else np.nan
    return values


def scores(found: np.ndarray, truth: np.ndarray, measured: np.ndarray) -> dict[str, float]:
    """:func:`measures` of depth (H, W) in m; where ``found`` has holes of its own, only what it has counts."""
    return measures(nearness(found), np.stack([np.where(found > 0, nearness(truth), 0), measured > 0]))


def by_distance(found: np.ndarray, truth: np.ndarray, steps: int = 12) -> pd.DataFrame:
    """Median absolute error in mm, and in px of disparity, in rings of distance from 0.4 to 6 m."""
    borders = np.geomspace(0.4, 6, steps + 1)
    rows = []
    for low, high in zip(borders[:-1], borders[1:], strict=True):
        some = (truth >= low) & (truth < high) & (found > 0)
        if some.sum() >= 50:
            error = np.abs(found - truth)[some]
            pixels = 64 * np.abs(nearness(found) - nearness(truth))[some]
            middle = float(np.sqrt(low * high))
            rows.append((middle, 1000 * float(np.median(error)), float(np.median(pixels)), int(some.sum())))
    return pd.DataFrame(rows, columns=["distance", "error", "disparity_error", "pixels"])


def edges(depth: np.ndarray, reach: int = 5, step: float = 0.05) -> np.ndarray:
    """Pixels (H, W) within ``reach`` of a step of more than 5 % of depth in m."""
    known = np.where(depth > 0, depth, np.nan)
    jump = np.zeros(depth.shape, bool)
    for axis in (0, 1):
        ratio = np.abs(np.diff(known, axis=axis)) > step * np.minimum(*_both(known, axis))
        jump[: -1 if axis == 0 else None, : -1 if axis == 1 else None] |= ratio
    return ndimage.binary_dilation(jump, iterations=reach)


def _both(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    return np.delete(values, -1, axis), np.delete(values, 0, axis)


def nearest(x: np.ndarray) -> np.ndarray:
    """Every hole gets the nearest measured value; (2 or 3, H, W) → (1, H, W), as of all baselines."""
    return classical.fill_nearest(x[:1], x[1] < 0.5) if x[1].any() else np.full_like(x[:1], 0.25)


def median(x: np.ndarray) -> np.ndarray:
    """Median of 5 × 5 after the nearest fill."""
    return ndimage.median_filter(nearest(x), (1, 5, 5))


def tv(x: np.ndarray, weight: float = 0.004) -> np.ndarray:
    """Median and nearest fill, then least total variation (Chambolle 2004)."""
    return restoration.denoise_tv_chambolle(median(x)[0], weight)[None].astype(np.float32)


def bilateral(x: np.ndarray, infrared: bool = False, reach: int = 5) -> np.ndarray:
    """Bilateral mean of the measured pixels after the fill; ``infrared``: weights from the blurred picture (joint)."""
    value = median(x)[0]
    guide, scale = (ndimage.gaussian_filter(x[2], 2), 0.05) if infrared else (np.log(value + 1e-3), 0.03)
    total, weight = np.zeros_like(value), np.zeros_like(value)
    for i in range(-reach, reach + 1):
        for j in range(-reach, reach + 1):
            moved = np.roll(guide, (i, j), (0, 1))
            w = np.exp(-(i * i + j * j) / (2 * (reach / 2) ** 2) - ((moved - guide) / scale) ** 2 / 2)
            total += w * np.roll(value, (i, j), (0, 1))
            weight += w
    return (total / weight)[None]


def inpainted(x: np.ndarray, radius: int = 5) -> np.ndarray:
    """Telea's fast marching inpainting (2004), by OpenCV where it is installed."""
    import cv2

    mask = (x[1] < 0.5).astype(np.uint8)
    return cv2.inpaint(np.rint(x[0] * 65535).astype(np.uint16), mask, radius, cv2.INPAINT_TELEA)[None] / np.float32(
        65535
    )


BASELINES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "nearest fill": nearest,
    "median, fill": median,
    "median, fill, TV": tv,
    "bilateral": bilateral,
    "joint bilateral": lambda x: bilateral(x, infrared=True),
    "Telea": inpainted,
}


def restored(model: Model, depth: np.ndarray, infrared: np.ndarray | None = None) -> np.ndarray:
    """Depth (H, W) in m with holes 0, and infrared (H, W) in [0, 1] where the model wants it → depth in m."""
    near = nearness(depth)
    channels = [near, near > 0, *([] if infrared is None else [infrared])]
    return metres(np.maximum(predict(model, np.stack(channels).astype(np.float32)), 0.01))
