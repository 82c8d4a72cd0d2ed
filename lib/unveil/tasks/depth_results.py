"""How depth is scored: baselines and networks on simulated frames, a real stereo pair, and repeated frames at rest."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from skimage import color, data

from unveil import files, project
from unveil.degrade.depth import match
from unveil.restore import metrics, weights
from unveil.restore.inference import Model, predict
from unveil.restore.pairs import PairDataset
from unveil.tasks.depth import BASELINES, TASK, DepthPairs, fit, measures, restored, simulate
from unveil.tasks.depth_files import read_depth


def motorcycle() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """scikit-image's real stereo pair: measured and true disparity (H, W) in px, 0 unknown, and the left picture."""
    left, right, truth = data.stereo_motorcycle()
    gray = [np.rint(255 * color.rgb2gray(picture)).astype(np.uint8) for picture in (left, right)]
    return match(*gray), np.where(np.isfinite(truth), truth, 0), gray[0] / np.float32(255)


def off_on_motorcycle(model: Model, infrared: bool) -> tuple[float, float]:
    """Share in % of the motorcycle's pixels of known truth off by more than 1 px: of all, and of its holes."""
    measured, truth, picture = motorcycle()
    x = np.stack([measured / 64, measured > 0, *([picture] if infrared else [])]).astype(np.float32)
    off = np.abs(64 * predict(model, x) - truth) > 1
    return 100 * float(off[truth > 0].mean()), 100 * float(off[(truth > 0) & (measured == 0)].mean())


def spread(shots: Sequence[np.ndarray]) -> float:
    """Median over pixels of the standard deviation of repeated frames (H, W) of a scene at rest."""
    stack = np.stack(shots)
    return float(np.median(stack.std(0, ddof=1)[(stack > 0).all(0)]))


def restlessness(model: Model, folder: str | os.PathLike[str]) -> float:
    """Spread of restored repeated frames over that of the measured ones on the same pixels, in %; mean over scenes.

    ``folder`` holds frames of scenes at rest, ``NAME_<number>.png``; the model takes no infrared. (The width of edges
    cannot be compared on them: real frames have holes along edges.)
    """
    scenes: dict[str, list[np.ndarray]] = {}
    for path in sorted(Path(folder).glob("*_*.png")):
        scenes.setdefault(path.stem.rsplit("_", 1)[0], []).append(read_depth(path))
    shares = []
    for shots in scenes.values():
        answers = [np.where(shot > 0, restored(model, shot), 0) for shot in shots]
        shares.append(spread(answers) / spread(shots))
    return 100 * float(np.mean(shares))


def results(
    folder: str | os.PathLike[str], count: int = 12, outside: str | os.PathLike[str] | None = None
) -> pd.DataFrame:
    """Baselines and shipped networks on simulated frames (seed 1) and the motorcycle; ``results.csv`` by the weights.

    One row per model: means of :func:`measures` over the frames, the shares of :func:`off_on_motorcycle`, and the
    :func:`restlessness` of models that need no infrared; NaN where ``outside`` holds no ``depth/realsense_repeats``.
    """
    frames, at_rest = simulate(folder, count, seed=1), Path(outside or os.devnull, TASK, "realsense_repeats")
    models: dict[str, tuple[Model, bool]] = {n: (model, n == "joint bilateral") for n, model in BASELINES.items()}
    for path in sorted((project.weights_dir() / TASK).glob("*.safetensors")):
        model, options = weights.load(path)
        models[path.stem] = (model, options.in_channels == 3)
    rows = {}
    for name, (model, infrared) in models.items():
        scored = metrics.evaluate(model, PairDataset(replace(frames, infrared=infrared)), {"": measures})
        everywhere, holes = off_on_motorcycle(model, infrared)
        rows[name] = {**scored.drop(columns="id").mean(), "motorcycle": everywhere, "motorcycle_holes": holes}
        rows[name]["repeats"] = restlessness(model, at_rest) if at_rest.is_dir() and not infrared else np.nan
    table = pd.DataFrame(rows).T.rename_axis("model")
    files.write(project.weights_dir() / TASK / "results.csv", table.round(2).to_csv())
    return table


def study(
    train_frames: DepthPairs,
    test: DepthPairs,
    out: str | os.PathLike[str],
    counts: Sequence[int] = (6, 40, 240),
    seeds: Sequence[int] = (0, 1, 2),
    cpu_minutes: float = 0.5,
) -> pd.DataFrame:
    """Error against the number of frames learnt from, with and without infrared: small U-Nets, trained equally long.

    Writes ``study.csv`` beside the weights; a call goes on where an earlier one stopped.
    """
    rows = []
    for seed, count, infrared in itertools.product(seeds, counts, (False, True)):
        some = DepthPairs(train_frames.frames[:count], train_frames.ids[:count])
        options = {"network_options": {"features": [16, 24, 32, 32]}, "epochs": 1000, "seed": seed}
        name = f"{count}_{seed}_{'infrared' if infrared else 'depth'}"
        made = fit(some, Path(out) / name, "unet", infrared, **options, cpu_minutes=cpu_minutes)
        scored = metrics.evaluate(made.model, PairDataset(replace(test, infrared=infrared)), {"": measures})
        values = scored[["rmse", "mae", "median", "off"]].mean()
        rows.append({"frames": count, "infrared": infrared, "seed": seed, **values})
        files.write(project.weights_dir() / TASK / "study.csv", pd.DataFrame(rows).round(2).to_csv(index=False))
    return pd.DataFrame(rows)
