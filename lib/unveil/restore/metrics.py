"""How good is a restoration: metrics of one image, and tables over a data set.

A metric is a function of (prediction, target), both (C, H, W) or (H, W) in [0, 1] (uint8 is divided by 255), that
returns a number or a dict of numbers; a task chooses its own. Whatever is averaged is averaged over *images*: the PSNR
of a table is the mean of the images' PSNRs, not the PSNR of their mean error, so that one bad image cannot hide the
rest and the numbers compare with the literature's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from unveil.errors import UnveilError
from unveil.restore.inference import Model, predict

PSNR_CAP = 60.0
"""dB, the most an image can score. Equal images have no finite PSNR and would make every mean infinite, and a few empty
black ones at 100 dB would still rule it. Rounding to 8 bits alone costs an error of 1/12 squared gray level, 58.9 dB:
beyond that the differences say nothing."""
SSIM_WINDOW = 11
"""Side of SSIM's window in pixels: smaller images have no SSIM."""
SSIM_ROWS = 1024

Array = np.ndarray | Tensor
Answers = Model | Array | Sequence[Array]
Metric = Callable[[np.ndarray, np.ndarray], float | Mapping[str, float]]


def mse(prediction: Array, target: Array) -> float:
    """Mean squared error over pixels and channels, in units of the squared range."""
    prediction, target = pair(prediction, target)
    return float(np.mean((prediction - target) ** 2))


def mae(prediction: Array, target: Array) -> float:
    """Mean absolute error over pixels and channels."""
    prediction, target = pair(prediction, target)
    return float(np.mean(np.abs(prediction - target)))


def psnr(prediction: Array, target: Array) -> float:
    """Peak signal-to-noise ratio in dB for a range of 1: 10 log₁₀(1 / MSE), at most `PSNR_CAP`."""
    return decibel(mse(prediction, target))


def decibel(error: float) -> float:
    """The PSNR of a mean squared error for a range of 1, at most `PSNR_CAP`."""
    return float(min(PSNR_CAP, -10 * np.log10(error))) if error > 0 else PSNR_CAP


def ssim(prediction: Array, target: Array) -> float:
    """Structural similarity (Wang et al. 2004, 10.1109/TIP.2003.819861), Gaussian window of σ = 1.5, mean of channels.

    NaN where an image is smaller than the window.
    """
    prediction, target = pair(prediction, target)
    if min(target.shape[-2:]) < SSIM_WINDOW:
        return float("nan")
    options = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    options["channel_axis"] = 0 if target.ndim == 3 else None
    # Windows centred on so many rows at a time: a dozen arrays of a whole large picture would fill the memory.
    windows = target.shape[-2] - SSIM_WINDOW + 1
    parts = [slice(row, min(row + SSIM_ROWS, windows) + SSIM_WINDOW - 1) for row in range(0, windows, SSIM_ROWS)]
    values = [structural_similarity(prediction[..., part, :], target[..., part, :], **options) for part in parts]
    return float(np.average(values, weights=[part.stop - part.start - SSIM_WINDOW + 1 for part in parts]))


def image(values: Array) -> np.ndarray:
    """(H, W), or (C, H, W) with C > 1, as float64 in the range of 1; a single channel loses its axis.

    Raises :class:`UnveilError` for other shapes and for NaN or infinity.
    """
    values = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    values = values / 255 if values.dtype == np.uint8 else values.astype(np.float64, copy=False)
    if values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim not in (2, 3):
        raise UnveilError(f"a metric compares images (H, W) or (C, H, W), not arrays of shape {values.shape}")
    if not np.isfinite(values).all():
        raise UnveilError("an image to measure holds NaN or infinity: metrics need finite values")
    return values


def pair(prediction: Array, target: Array) -> tuple[np.ndarray, np.ndarray]:
    """Both as :func:`image`; :class:`UnveilError` where their sizes differ."""
    prediction, target = image(prediction), image(target)
    if prediction.shape != target.shape:
        raise UnveilError(f"a prediction of size {prediction.shape} does not fit its target of size {target.shape}")
    return prediction, target


def measure(prediction: Array, target: Array, metrics: Mapping[str, Metric]) -> dict[str, float]:
    """All metrics of one prediction by name; a metric that returns a dict gives its own names."""
    values: dict[str, float] = {}
    for name, metric in metrics.items():
        value = metric(prediction, target)
        values |= value if isinstance(value, Mapping) else {name: value}
    return values


def evaluate(
    model_or_predictions: Answers, dataset: Any, metrics: Mapping[str, Metric], flips: bool = False
) -> pd.DataFrame:
    """Metrics of a model, or of predictions made before, on every item of a data set.

    A model is a network or a function of (C, H, W) float32 arrays; predictions come in the data set's order.
    ``dataset[i]`` is (input, target); where it has ``ids`` they name the rows. Returns one row per item: id, the
    metrics, milliseconds (NaN for predictions made before). UnveilError where numbers of items do not fit.
    """
    total = len(dataset)
    is_model = isinstance(model_or_predictions, nn.Module) or callable(model_or_predictions)
    if not total:
        raise UnveilError("the data set is empty: nothing to evaluate")
    if not is_model and len(model_or_predictions) != total:
        raise UnveilError(f"{len(model_or_predictions)} predictions do not fit the {total} items of the data set")
    ids = getattr(dataset, "ids", range(total))
    if len(ids) != total:
        raise UnveilError(f"the data set has {total} items but {len(ids)} ids: evaluate whole images, one per id")
    rows = []
    for i in range(total):
        inputs, target = dataset[i][:2]
        begin = time.perf_counter()
        prediction = predict(model_or_predictions, inputs, flips) if is_model else model_or_predictions[i]
        milliseconds = 1000 * (time.perf_counter() - begin) if is_model else float("nan")
        rows.append({"id": ids[i], **measure(prediction, target, metrics), "milliseconds": milliseconds})
    return pd.DataFrame(rows)


def compare(
    models: Mapping[str, Answers], dataset: Any, metrics: Mapping[str, Metric], flips: bool = False
) -> pd.DataFrame:
    """`evaluate` for several models or predictions by name, baselines among them: one long table.

    Its first column ``model`` is categorical in the order given, so tables and plots keep that order.
    """
    if not models:
        raise UnveilError("there is no model to compare")
    tables = [evaluate(model, dataset, metrics, flips).assign(model=name) for name, model in models.items()]
    table = pd.concat(tables, ignore_index=True)
    table.insert(0, "model", pd.Categorical(table.pop("model"), categories=list(models)))
    return table


def summarise(table: pd.DataFrame, by: str | Sequence[str] = "model") -> pd.DataFrame:
    """Number of images and means of the per-image metrics per group; of milliseconds the median.

    The median of milliseconds cannot be bent by a slow first call. Metrics that are NaN for an image are left out.
    """
    by = [by] if isinstance(by, str) else list(by)
    if missing := [name for name in by if name not in table]:
        raise UnveilError(f"the table has no column {', '.join(missing)}: it has {', '.join(map(str, table.columns))}")
    groups = table.groupby(by, observed=True, dropna=False)
    numbers = [c for c in table.select_dtypes("number").columns if c not in (*by, "milliseconds")]
    result = groups[numbers].mean()
    result.insert(0, "images", groups.size())
    if "milliseconds" in table:
        result["milliseconds"] = groups["milliseconds"].median()
    return result
