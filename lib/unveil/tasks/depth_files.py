"""Depth frames as files: reading, writing and pairing them by name, and the commands crop, train, test, statistics.

A folder holds ``gt-NAME``, ``res-NAME`` and ``left-NAME``: true depth, measured depth and the left infrared picture.
Depth is 16-bit PNG in millimetres or ``.npy`` in metres, 0 is a hole. A file without prefix counts as measured depth.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from unveil import files, project
from unveil.errors import UnveilError
from unveil.restore.networks import Restorer
from unveil.restore.training import Fit
from unveil.show import figures
from unveil.tasks import depth

PREFIXES = {"gt-": "truth", "res-": "measured", "left-": "infrared"}
Progress = Callable[[int, int], None] | None


def read_depth(path: str | os.PathLike[str]) -> np.ndarray:
    """Depth (H, W) float32 in m, holes 0; of ``.npy`` floats are metres and integers millimetres."""
    path = Path(path)
    try:
        values = np.load(path) if path.suffix == ".npy" else _pixels(path)
    except (OSError, ValueError) as error:
        raise UnveilError(f"{path}: cannot be read as depth ({error}); save 16-bit PNG in mm or .npy in m") from error
    if values.dtype == np.uint8:
        raise UnveilError(f"{path}: has 8 bits, steps of 16 mm at best; save depth as 16-bit PNG in mm or .npy in m")
    if values.ndim != 2:
        raise UnveilError(f"{path}: has shape {values.shape}, depth is (H, W); save one value per pixel")
    values = values.astype(np.float32) / (1 if np.issubdtype(values.dtype, np.floating) else 1000)
    return np.where(np.isfinite(values) & (values > 0), values, 0)


def read_infrared(path: str | os.PathLike[str]) -> np.ndarray:
    """Infrared (H, W) float32 in [0, 1] of an 8- or 16-bit picture."""
    try:
        values = _pixels(Path(path))
    except (OSError, ValueError) as error:
        raise UnveilError(f"{path}: cannot be read as a picture ({error}); save it as PNG") from error
    values = values if values.ndim == 2 else values[..., :3].mean(-1).astype(values.dtype)
    return values.astype(np.float32) / (255 if values.dtype == np.uint8 else 65535)


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        pixels = np.asarray(file.convert("L") if file.mode in ("1", "P") else file)
    return pixels.astype(np.uint16) if pixels.dtype == np.int32 else pixels


def write_depth(path: str | os.PathLike[str], values: np.ndarray) -> None:
    """Depth in m as ``.npy`` float32, or as 16-bit PNG in mm."""
    with files.replacing(path) as temporary:
        if Path(path).suffix == ".npy":
            np.save(temporary, values.astype(np.float32))
        else:
            Image.fromarray(np.rint(1000 * values.clip(0, 65)).astype(np.uint16)).save(temporary)


@dataclass
class Shot:
    """One frame of a folder: depth (H, W) in m and infrared in [0, 1]; None where there is no such file."""

    name: str
    measured: np.ndarray
    truth: np.ndarray | None = None
    infrared: np.ndarray | None = None
    suffix: str = ".png"

    def array(self) -> np.ndarray:
        """(3, H, W) uint16 as :class:`depth.DepthPairs` takes it; no infrared is 0."""
        light = np.zeros_like(self.measured) if self.infrared is None else 255 * self.infrared
        layers = (1000 * self.truth, 1000 * self.measured, light)
        return np.stack([np.rint(layer.clip(0, 65535)) for layer in layers]).astype(np.uint16)


@dataclass
class Folder:
    """The frames of a folder, read when asked for; ``troubles`` collects one line for each that cannot be used."""

    path: Path
    named: dict[str, dict[str, Path]] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)

    @classmethod
    def find(cls, path: str | os.PathLike[str]) -> Folder:
        path = Path(path)
        if not path.is_dir():
            raise UnveilError(f"{path}: no such folder; name one with gt-*, res-* and left-* files")
        folder = cls(path)
        for file in sorted(p for p in path.iterdir() if p.suffix.lower() in (".png", ".npy")):
            prefix = next((p for p in PREFIXES if file.name.startswith(p)), "")
            kind = PREFIXES.get(prefix, "measured")
            name = file.stem.removeprefix(prefix)
            folder.named.setdefault(name, {})[kind] = file
        return folder

    def shots(self, *wanted: str) -> Any:
        """Every frame that has measured depth and what is wanted (truth, infrared), all of one size."""
        for name, found in self.named.items():
            if missing := [kind for kind in ("measured", *wanted) if kind not in found]:
                there = next(iter(found.values()))
                self.troubles.append(f"{there}: has no {' and no '.join(missing)} beside it; skipped")
                continue
            try:
                shot = Shot(name, read_depth(found["measured"]), suffix=found["measured"].suffix)
                for kind in found.keys() & {"truth", "infrared"}:
                    layer = read_depth(found[kind]) if kind == "truth" else read_infrared(found[kind])
                    if layer.shape != shot.measured.shape:
                        sizes = " and ".join(f"{h} × {w}" for h, w in (layer.shape, shot.measured.shape))
                        raise UnveilError(f"{found[kind]}: sizes differ, {sizes} as measured; skipped")
                    setattr(shot, kind, layer)
            except UnveilError as error:
                self.troubles.append(str(error))
                continue
            yield shot


def crop(
    train_path: str | os.PathLike[str] | None, out: Path, size: int = 128, frames: int = 40, progress: Progress = None
) -> tuple[int, list[str]]:
    """Cut all frames of a folder, or simulated ones, into square crops that cover them; number of crops and troubles.

    One file ``NAME.npy`` (N, 3, size, size) per frame; the crops of the last row and column overlap the ones before.
    """
    if train_path is None:
        simulated = depth.simulate(out.parent / "frames", frames, progress=progress)
        named, troubles = zip(simulated.ids, simulated.frames, strict=True), []
    else:
        folder = Folder.find(train_path)
        named, troubles = ((shot.name, shot.array()) for shot in folder.shots("truth")), folder.troubles
    count = 0
    for name, frame in named:
        height, width = frame.shape[1:]
        if min(height, width) < size:
            troubles.append(f"{name}: {height} × {width} is smaller than a crop of {size}; choose a smaller --size")
            continue
        corners = [(top, left) for top in _starts(height, size) for left in _starts(width, size)]
        crops = np.stack([frame[:, top : top + size, left : left + size] for top, left in corners])
        with files.replacing(out / f"{name}.npy") as temporary:
            np.save(temporary, crops)
        count += len(crops)
    return count, troubles


def _starts(length: int, size: int) -> list[int]:
    """Where crops begin so that they cover everything and overlap as little as they can."""
    return sorted({int(v) for v in np.linspace(0, length - size, -(-length // size))})


def train(
    crops: Path, models: Path, network: str = "unet", infrared: bool = False, epochs: int = 100, **changes: Any
) -> Fit:
    """Train on the crops that are there; the model goes to ``models/NETWORK[_infrared]``, where it resumes."""
    paths = sorted(crops.glob("*.npy"))
    if not paths:
        raise UnveilError(f"{crops}: no crops to train on; make them: python -m unveil depth crop --train-path FOLDER")
    pairs = depth.load_crops(paths, infrared)
    if infrared and not any(frame[depth.INFRARED].any() for frame in pairs.frames[:: max(1, len(pairs) // 50)]):
        raise UnveilError(f"{crops}: these crops hold no infrared pictures; put left-* files beside and crop again")
    name = f"{network}_infrared" if infrared else network
    return depth.fit(pairs, models / name, network, infrared, epochs=epochs, **changes)


def newest(models: Path, infrared: bool) -> Path:
    """The model trained last, else the shipped U-Net; an error where there is none at all."""
    trained = sorted(models.glob("*/weights.safetensors"), key=lambda p: p.stat().st_mtime)
    shipped = project.weights_dir() / depth.TASK / ("unet_infrared.safetensors" if infrared else "unet.safetensors")
    if not trained and not shipped.is_file():
        raise UnveilError(f"{models}: there is no model; train one (python -m unveil depth train) or name it: --model")
    return trained[-1] if trained else shipped


def test(
    test_path: str | os.PathLike[str], out: Path, model: Restorer, progress: Progress = None
) -> tuple[pd.DataFrame, list[str]]:
    """Restore every frame of a folder into ``out``, in the format it came in; measures where truth is there."""
    folder, rows = Folder.find(test_path), []
    wanted = ("infrared",) if model.in_channels == 3 else ()
    for done, shot in enumerate(folder.shots(*wanted), 1):
        answer = depth.restored(model, shot.measured, shot.infrared if wanted else None)
        write_depth(out / f"{shot.name}{shot.suffix}", answer)
        row = {"name": shot.name, "holes": 100 * float((shot.measured == 0).mean())}
        if shot.truth is not None:
            row |= depth.scores(answer, shot.truth, shot.measured)
        rows.append(row)
        if progress:
            progress(done, len(folder.named))
    return pd.DataFrame(rows), folder.troubles


def statistics(
    path: str | os.PathLike[str], out: Path, restored: str | os.PathLike[str] | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Per file: holes, error against distance and at edges, of measured depth or of the files in ``restored``.

    Writes ``statistics.csv``, ``distance.csv`` and ``statistics.png`` to ``out``.
    """
    folder, rows, distances = Folder.find(path), [], []
    for shot in folder.shots("truth"):
        found = shot.measured if restored is None else read_depth(Path(restored) / f"{shot.name}{shot.suffix}")
        row = {"name": shot.name, "holes": 100 * float((found == 0).mean())}
        rows.append(row | depth.scores(found, shot.truth, shot.measured))
        distances.append(depth.by_distance(found, shot.truth).assign(name=shot.name))
    table = pd.DataFrame(rows)
    if len(table):
        by_distance = pd.concat(distances, ignore_index=True)
        files.write(out / "statistics.csv", table.round(3).to_csv(index=False))
        files.write(out / "distance.csv", by_distance.round(3).to_csv(index=False))
        files.write(out / "statistics.png", figures.png(plot(table, by_distance)))
    return table, folder.troubles


def plot(table: pd.DataFrame, by_distance: pd.DataFrame) -> Any:
    """Error against distance, holes and edge error per file."""
    fig = figures.figure(13, 4)
    axes = fig.subplots(1, 3)
    for _, one in by_distance.groupby("name"):
        axes[0].loglog(one["distance"], one["error"], color="0.75", linewidth=1)
    middle = by_distance.groupby("distance")["error"].median()
    axes[0].loglog(middle.index, middle, "o-", label="median of the files")
    axes[0].set(xlabel="distance in m", ylabel="median error in mm", title="Error against distance")
    axes[0].minorticks_off()
    axes[0].set_xticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    axes[0].legend()
    for axis, name, label in zip(axes[1:], ("holes", "edge"), ("holes in %", "error at edges in mm"), strict=True):
        axis.bar(range(len(table)), table[name])
        axis.set_xticks(range(len(table)), table["name"], rotation=90 if len(table) > 4 else 0)
        axis.set(ylabel=label)
    return fig
