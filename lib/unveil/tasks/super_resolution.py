"""Twice as many pixels per side: y is x averaged down with a bicubic kernel, and networks guess the details back.

All networks see luminance only (ITU-R BT.601, the Y of the tables in the literature); colour differences, to which the
eye is blunt, and transparency are enlarged with the bicubic kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from skimage import color

from unveil.degrade.sampling import Resize
from unveil.restore import metrics
from unveil.restore.inference import predict
from unveil.restore.networks import Restorer
from unveil.restore.options import Options
from unveil.tasks import common, photos
from unveil.tasks.common import Place, Preset, Progress

TASK = "super_resolution"
DOWN = Resize(0.5, eight_bit=True)
"""The forward model: Pillow's bicubic with its low pass. MATLAB's, which made Set5 and the like, differs at borders."""

UP, BASELINES, BORDER = Resize(2), ("nearest", "bilinear", "bicubic", "lanczos"), 2


def ycbcr(rgb: np.ndarray) -> np.ndarray:
    """(3, H, W) RGB in [0, 1] to ITU-R BT.601 with Y in [16, 235] / 255, as MATLAB's rgb2ycbcr."""
    return (color.rgb2ycbcr(rgb, channel_axis=0) / 255).astype(np.float32)


def rgb(ycbcr: np.ndarray) -> np.ndarray:
    """The way back, not clipped."""
    return color.ycbcr2rgb(255 * ycbcr, channel_axis=0).astype(np.float32)


def luminance(picture: np.ndarray) -> np.ndarray:
    """(1, H, W): the Y of colour, gray as it is."""
    return ycbcr(picture[:3])[:1] if len(picture) > 2 else picture[:1]


def pictures() -> photos.Pictures:
    """What the networks learn from: half dead leaves, half photographs averaged down a little."""
    free = photos.free_photos()
    return photos.leaves() + (free.shrunk(0.8) + free.shrunk(0.55)) * 6


def _preset(network: str, minutes: float, batch: int, rate: float, **options: Any) -> Preset:
    training = Options(
        network=network, network_options=options, channels=("Y",), loss="charbonnier", epochs=1000, batch=batch,
        learning_rate=rate, final_rate=0.005, warmup=200, average=0.999, cpu_minutes=minutes, precision="bf16-mixed",
        pictures_every=1000,
    )  # fmt: skip
    return Preset(training, pictures, DOWN, crop=32, crops_per_item=2, scale=2, prepare=luminance)


PRESETS = {
    "srcnn": _preset("srcnn", 7, 16, 1.5e-3),
    "subpixel": _preset("subpixel", 22, 16, 2e-3, features=48, blocks=3),
    "deep": _preset("subpixel", 14, 8, 1e-3, features=64, blocks=6),
}
"""The exercise's network, a small one and a deeper one that work on the low resolution."""


def enlarge(network: Restorer, picture: np.ndarray, scale: int = 2, progress: Progress = None) -> np.ndarray:
    """Any picture (C, H, W), float32 or uint8, at 2 or 4 (twice 2) times the size and in the same kind of numbers.

    It is done in strips that overlap by more than the networks see, so that the memory hardly grows with the picture.
    """
    for _ in range({2: 1, 4: 2}[scale]):
        picture = _doubled(network, picture, progress)
    return picture


def _doubled(network: Restorer, picture: np.ndarray, progress: Progress, strip: int = 256, rim: int = 24) -> np.ndarray:
    count, height, width = picture.shape
    out = np.empty((count, 2 * height, 2 * width), picture.dtype)
    for top in range(0, height, strip):
        first, end = max(0, top - rim), min(height, top + strip)
        part = photos.unit(picture[:, first : end + rim])
        fine = UP(ycbcr(part[:3])) if count > 2 else np.empty((1, 2 * part.shape[1], 2 * width), np.float32)
        fine[0] = predict(network, luminance(part), tile=strip, overlap=rim)
        parts = [rgb(fine) if count > 2 else fine] + ([UP(part[-1:])] if count in (2, 4) else [])
        inner = np.concatenate(parts)[:, 2 * (top - first) : 2 * (end - first)]
        out[:, 2 * top : 2 * end] = photos.bytes_of(inner) if out.dtype == np.uint8 else inner.clip(0, 1)
        if progress:
            progress(end, height)
    return out


def run(
    paths: Iterable[Place],
    out: Place,
    scale: int = 2,
    network: str = "subpixel",
    overwrite: bool = False,
    progress: Progress = None,
) -> list[str]:
    """Write each picture enlarged, ``NAME_x2.png``, and a comparison of crops into ``out``; returns the troubles."""
    networks = {name: common.load(TASK, name) for name in PRESETS}

    def one(path: Path) -> None:
        target = photos.vacant(Path(out) / f"{path.stem}_x{scale}.png", overwrite)
        compared = photos.vacant(target.with_name(f"{target.stem}_comparison.png"), overwrite)
        picture = photos.read(path)
        bits = photos.bits(picture)
        picture = picture if bits == 16 else photos.bytes_of(picture)
        photos.write(target, enlarge(networks[network], picture, scale, progress), overwrite, bits)
        crop = photos.unit(picture[common.busiest(picture, 256 // scale)])
        views = {kernel: Resize(scale, kernel)(crop) for kernel in BASELINES}
        common.compare(compared, views | {name: enlarge(model, crop, scale) for name, model in networks.items()}, 4)

    return common.each(paths, one)


def sets(outside: Place | None = None) -> dict[str, Scored]:
    """Luminance pairs: scikit-image's pictures by `DOWN`, and those of the literature where ``outside`` holds them."""
    samples = photos.samples()
    degraded = common.Degraded(samples, DOWN, 2, luminance)
    pairs = [degraded.item(i, np.random.default_rng(0)) for i in range(len(samples))]
    found = {"scikit-image": Scored(samples.ids, pairs)}
    for folder in sorted(Path(outside, TASK).iterdir()) if outside else []:
        high = sorted(folder.glob("*_HR.png"))
        pairs = [tuple(luminance(photos.read(str(p).replace("_HR", kind))) for kind in ("_LR", "_HR")) for p in high]
        found[folder.name] = Scored([p.stem[:-3] for p in high], pairs)
    return found


class Scored(list):
    """(low, high) pairs with their names, as `restore.metrics` wants them."""

    def __init__(self, ids: list[str], pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
        super().__init__(pairs)
        self.ids = ids


def _inside(metric: Callable[..., float]) -> Callable[..., float]:
    """The metric without the outer `BORDER` pixels, as is usual in the literature."""
    return lambda prediction, target: metric(*(z[..., BORDER:-BORDER, BORDER:-BORDER] for z in (prediction, target)))


METRICS = {"psnr": _inside(metrics.psnr), "ssim": _inside(metrics.ssim)}


def results(outside: Place | None = None) -> pd.DataFrame:
    """Score kernels and networks on every picture and keep the table beside the weights."""
    models: dict[str, Any] = {kernel: Resize(2, kernel) for kernel in BASELINES}
    models |= {name: common.load(TASK, name) for name in PRESETS}
    return common.keep(TASK, {name: metrics.compare(models, data, METRICS) for name, data in sets(outside).items()})
