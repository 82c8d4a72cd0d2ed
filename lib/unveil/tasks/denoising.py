"""Additive Gaussian noise and its ways back: classical filters, the exercise's three networks, a deeper blind one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from unveil import project
from unveil.degrade.base import Operator
from unveil.degrade.noise import GaussianNoise
from unveil.degrade.sampling import Resize
from unveil.restore import classical, metrics, weights
from unveil.restore.inference import predict
from unveil.restore.networks import Restorer
from unveil.restore.options import Options
from unveil.restore.pairs import PairDataset
from unveil.tasks import common, photos
from unveil.tasks.common import Place, Preset, Progress

TASK = "denoising"
NOISE = GaussianNoise(0.1)
"""The exercise's forward model, not clipped."""
GRAY = np.array([[0.299, 0.587, 0.114]], np.float32)


@dataclass(frozen=True)
class AnyNoise(Operator):
    """Gaussian noise of a strength drawn uniformly for each picture; a gray picture gets the same in all channels."""

    lowest: float = 0.0
    highest: float = 0.2
    random = True

    def apply(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        gray = len(x) == 3 and np.array_equal(x[0], x[1]) and np.array_equal(x[0], x[2])
        noise = rng.standard_normal((1 if gray else len(x), *x.shape[1:]), dtype=np.float32)
        return x + np.float32(rng.uniform(self.lowest, self.highest)) * noise


def small_pictures(count: int = 12_000, side: int = 36, seed: int = 5) -> photos.Pictures:
    """Parts of photographs (three in four) and of dead leaves averaged down to the size of CIFAR-10's, no JPEG left."""
    free, leaves = photos.free_photos(), photos.leaves()

    def load(i: int) -> np.ndarray:
        rng = np.random.default_rng([seed, i])
        source = leaves[i // 4 % len(leaves)] if i % 4 == 0 else free[i % len(free)]
        sides = source.shape[1:]
        part = round(side * np.exp(rng.uniform(np.log(1.2), np.log(min(sides) / side))))
        top, left = (int(rng.integers(n - part + 1)) for n in sides)
        x = source[:, top : top + part, left : left + part].astype(np.float32) / 255
        return photos.bytes_of(Resize(side / part, "area")(x))

    return photos.Pictures([f"small/{seed}-{i:05d}" for i in range(count)], cache(load))


def all_pictures() -> photos.Pictures:
    """What the blind network learns from: dead leaves, photographs at three sizes, small pictures, a part in gray."""
    free = photos.free_photos()
    some = photos.leaves(400) + (free + free.shrunk(0.7) + free.shrunk(0.5)) * 2 + small_pictures(400)
    return some * 3 + gray(some)


def gray(pictures: photos.Pictures) -> photos.Pictures:
    """Their luminance in all three channels."""

    def load(i: int) -> np.ndarray:
        return np.rint(np.repeat(np.tensordot(GRAY, pictures[i], 1), 3, 0)).astype(np.uint8)

    return photos.Pictures([f"gray/{i}" for i in pictures.ids], load)


def _preset(skip: bool, norm: bool) -> Preset:
    options = Options(
        network="five_layers", network_options={"skip": skip, "norm": norm}, channels=("R", "G", "B"), in_channels=3,
        loss="mse", epochs=100, batch=32, learning_rate=2e-3 if skip else 1.5e-3, final_rate=0.005, warmup=200,
        average=0.999, cpu_minutes=6 if norm else 12 if skip else 15, precision="bf16-mixed", pictures_every=1000,
    )  # fmt: skip
    return Preset(options, small_pictures, NOISE, crop=32)


_DEEP = replace(
    _preset(True, False).options, network="residual_unet", network_options={}, loss="root", epochs=1000, batch=8,
    learning_rate=1e-3, cpu_minutes=18,
)  # fmt: skip
PRESETS = {
    "plain": _preset(False, False),
    "skip": _preset(True, False),
    "skip_norm": _preset(True, True),
    "deep": Preset(_DEEP, all_pictures, AnyNoise(), crop=64),
}
"""The exercise's three networks for σ = 0.1, and a deeper one for any σ up to 0.2."""
FILES = {"plain": "Model1", "skip": "Model2", "skip_norm": "Model3", "deep": "Deep"}


def denoise(network: Restorer, picture: np.ndarray, progress: Progress = None) -> np.ndarray:
    """Any picture (C, H, W) without its noise; gray goes through all three channels, transparency stays."""
    colour = len(picture) > 2
    given = picture[:3] if colour else np.repeat(picture[:1], 3, axis=0)
    y = predict(network, given, tile=512, overlap=48, progress=progress)
    y = y if colour else y.mean(0, keepdims=True)
    return np.concatenate([y, picture[-1:]]) if len(picture) in (2, 4) else y


def run(paths: Iterable[Place], out: Place, overwrite: bool = False, progress: Progress = None) -> list[str]:
    """Write ``Model1.png`` … ``Deep.png``, ``comparison.png``; several pictures get folders. Returns the troubles."""
    paths = photos.find(paths)
    networks = {name: common.load(TASK, name) for name in FILES}

    def one(path: Path) -> None:
        folder = Path(out) / path.stem if len(paths) > 1 else Path(out)
        targets = {n: photos.vacant(folder / f"{name}.png", overwrite) for n, name in FILES.items()}
        compared = photos.vacant(folder / "comparison.png", overwrite)
        picture = photos.read(path)
        for name, network in networks.items():
            photos.write(targets[name], denoise(network, picture, progress), overwrite, photos.bits(picture))
        part = picture[common.busiest(picture, 192)]
        views = {"noisy": part} | {FILES[name]: denoise(network, part) for name, network in networks.items()}
        common.compare(compared, views)

    return common.each(paths, one)


def _nonlocal_means(y: np.ndarray, strength: float) -> np.ndarray:
    # Gray goes through as three equal channels: the filter wants a colour picture.
    return classical.nonlocal_means(np.repeat(y, 3 // len(y), axis=0), 0.1, strength)[: len(y)]


def tuned(pairs: Any) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Classical filters, each with the strength that is best on these pairs (never those of a table)."""
    grids: dict[str, tuple[Callable[..., np.ndarray], tuple[float, ...]]] = {
        "noisy": (lambda y, _: y, (0,)),
        "Gaussian": (classical.gaussian, (0.5, 0.6, 0.7, 0.8, 1.0)),
        "median": (classical.median, (3, 5)),
        "bilateral": (classical.bilateral, (0.1, 0.2, 0.3, 0.4)),
        "TV": (classical.tv, (0.04, 0.06, 0.08, 0.1, 0.13)),
        "wavelet": (classical.wavelet, (0.04, 0.06, 0.08, 0.1)),
        "non-local means": (_nonlocal_means, (0.4, 0.6, 0.8, 1.0)),
    }
    best = {}
    for name, (method, strengths) in grids.items():
        scores = [np.mean([metrics.psnr(method(y.numpy(), s).clip(0, 1), x) for y, x in pairs]) for s in strengths]
        strength = strengths[int(np.argmax(scores))]
        best[name] = lambda y, method=method, strength=strength: method(y, strength)
    return best


def noisy(pictures: photos.Pictures, count: int, side: int, sigma: float = 0.1, one: bool = False) -> PairDataset:
    """Centres of pictures with fixed noise; ``one``: in gray."""

    def centre(x: np.ndarray) -> np.ndarray:
        top, left = ((n - min(n, side)) // 2 for n in x.shape[1:])
        x = x[:, top : top + side, left : left + side]
        return np.tensordot(GRAY, x, 1).astype(np.float32) if one else x

    pairs = common.Degraded(pictures, GaussianNoise(sigma), prepare=centre)
    return PairDataset(pairs, range(min(count, len(pairs))), seed=1)


def results(outside: Place | None = None) -> pd.DataFrame:
    """Score filters and networks on every picture and keep the table beside the weights.

    Strengths of the filters are chosen on free photographs. Networks that were trained on CIFAR-10 (weights in
    ``data/checkpoints/denoising/NAME_cifar``) are scored on it, too.
    """
    free = tuned(noisy(photos.free_photos(), 10, 128))
    small = tuned(noisy(small_pictures(), 60, 32))
    sets = {"scikit-image": (noisy(photos.samples(), 4, 256), free)}
    if outside:
        pictures = Path(outside, "super_resolution")
        some = [p for p in photos.find([pictures / "Set14", pictures / "BSD100"]) if "_HR" in p.stem]
        sets["CIFAR-10"] = (noisy(photos.cifar(Path(outside, "cifar", "test_500.png")), 500, 32), small)
        sets["Kodak"] = (noisy(photos.folder(Path(outside, "old_photos", "colour_truth")), 99, 256), free)
        sets["gray, σ = 25/255"] = (noisy(photos.several(some), 99, 256, 25 / 255, one=True), free)
    shipped = {name: common.load(TASK, name) for name in PRESETS}
    trained = project.data_dir("checkpoints", TASK).glob("*_cifar/weights.safetensors")
    own = {path.parent.name: weights.load(path)[0] for path in sorted(trained)}
    tables = {}
    for name, (data, filters) in sets.items():
        models = shipped | (own if name == "CIFAR-10" else {})
        models = filters | {n: partial(denoise, network) for n, network in models.items()}
        tables[name] = metrics.compare(models, data, {"psnr": metrics.psnr, "ssim": metrics.ssim})
    return common.keep(TASK, tables)
