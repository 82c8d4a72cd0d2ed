"""How good is a restoration: predictions for any image size, metrics per image, tables over a data set.

Images are (H, W) in [0, 1] (or uint8, which is divided by 255). Whatever is averaged is averaged over *images*: the
PSNR of a table is the mean of the images' PSNRs, not the PSNR of their mean error, so that one bad image cannot hide
the rest and the numbers compare with the literature's.

A full-frame PSNR is nearly blind to what matters when a small object lies on a large plain background: a flat image
scores well. Hence the PSNR of the object's region, and the question whether the object is found at all.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from unveil.errors import UnveilError

PSNR_CAP = 60.0
"""dB, the most an image can score. Equal images have no finite PSNR and would make every mean infinite, and a few empty
black ones at 100 dB would still rule it. Rounding to 8 bits alone costs an error of 1/12 squared gray level, 58.9 dB:
beyond that the differences say nothing."""
SSIM_WINDOW = 11
"""Side of SSIM's window in pixels: smaller images have no SSIM."""

METRICS = ["psnr", "ssim", "mse", "region_psnr", "iou", "found", "false_objects"]

Array = np.ndarray | Tensor
Model = nn.Module | Callable[[np.ndarray], Array]
Region = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ObjectRule:
    """What counts as an object in an image, by a fixed rule that never looks at the truth.

    A pixel is a candidate where it differs from the image's background, its median, by more than `contrast` in the
    direction `polarity`. Each connected group of candidates is then cut at the fraction `cut` of its own level (the
    upper quartile of its deviations): one absolute threshold would either lose a faint object on a bright ground or
    blow up a strong one by its blurred rim. What remains connected over `minimum_area` pixels or more is an object.
    The upper quartile and 0.4 keep both the dim parts of a sharp object and the outline of a blurred one: with them,
    real truths blurred by a Gaussian of σ = 4 pixels still have an IoU of 0.55 to 0.72 with themselves.

    An object whose IoU with the true region reaches `iou` is found; one that stays `margin` pixels away from it is
    false.
    """

    contrast: float = 0.04
    cut: float = 0.4
    minimum_area: int = 50
    polarity: Literal["bright", "dark", "either"] = "bright"
    iou: float = 0.5
    margin: int = 8

    def __post_init__(self) -> None:
        if self.polarity not in ("bright", "dark", "either"):
            raise UnveilError(f"polarity {self.polarity!r} is unknown: choose bright, dark or either")
        shares = 0 < self.contrast < 1 and 0 < self.cut < 1 and 0 < self.iou <= 1
        if not shares or self.minimum_area < 1 or self.margin < 0:
            raise UnveilError(f"{self} makes no sense: contrast, cut and IoU lie between 0 and 1, areas are positive")


@dataclass(frozen=True)
class Detection:
    """How the objects of an image compare with the true region; `iou` and `found` are NaN where there is none."""

    iou: float
    found: float
    false_objects: int


def mse(prediction: Array, target: Array) -> float:
    """Mean squared error of two (H, W) images, in units of the squared gray range."""
    prediction, target = _pair(prediction, target)
    return float(np.mean((prediction - target) ** 2))


def psnr(prediction: Array, target: Array) -> float:
    """Peak signal-to-noise ratio in dB for a gray range of 1: 10 log₁₀(1 / MSE), at most `PSNR_CAP`."""
    return _decibel(mse(prediction, target))


def ssim(prediction: Array, target: Array) -> float:
    """Structural similarity (Wang et al. 2004, doi 10.1109/TIP.2003.819861) with its Gaussian window of σ = 1.5."""
    prediction, target = _pair(prediction, target)
    if min(prediction.shape) < SSIM_WINDOW:
        raise UnveilError(f"SSIM needs images of 11×11 pixels or more, not {prediction.shape[0]}×{prediction.shape[1]}")
    return float(
        structural_similarity(
            prediction, target, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def region_psnr(prediction: Array, target: Array, mask: np.ndarray, margin: int = 8) -> float:
    """PSNR within `margin` pixels around the (H, W) bool `mask`; NaN where the mask is empty.

    The margin belongs to the region because a halo around the object is an error of the object.
    """
    prediction, target = _pair(prediction, target)
    mask = _mask(mask, target)
    if not mask.any():
        return float("nan")
    near = _dilated(mask, margin)
    return _decibel(float(np.mean((prediction[near] - target[near]) ** 2)))


def contrast_to_noise(image: Array, mask: np.ndarray, margin: int = 32, gap: int = 8) -> float:
    """How much the region of the (H, W) bool `mask` stands out of its surroundings; needs no truth.

    CNR = (mean inside − mean around) / standard deviation around, where *around* is the ring of pixels farther than
    `gap` pixels from the mask, which may be blurred rim, and at most `gap` + `margin`. The eye needs about 5 (Rose
    1948, doi 10.1364/JOSA.38.000196). Negative where the region is darker; NaN where the mask is empty.

    The deviation counts as one gray level (1/255) at least: a network can answer with a perfectly plain background,
    which is better than any noise but no infinite gain. For the same reason a large ratio says only that nothing
    disturbs *near* the object; count the false ones elsewhere with `segment`. Raises UnveilError where nothing lies
    around.
    """
    image = _image(image)
    mask = _mask(mask, image)
    if not mask.any():
        return float("nan")
    around = _dilated(mask, gap + margin) & ~_dilated(mask, gap)
    if not around.any():
        raise UnveilError(f"no pixels lie {gap} to {gap + margin} pixels around the region: take a larger image")
    noise = max(float(image[around].std()), 1 / 255)
    return float(image[mask].mean() - image[around].mean()) / noise


def segment(image: Array, rule: ObjectRule | None = None) -> np.ndarray:
    """Objects of an (H, W) image by `rule`: int32 labels (H, W), 0 for the background, 1 … n for the objects."""
    rule = rule or ObjectRule()
    image = _image(image)
    deviation = image - np.median(image)
    deviation = {"bright": deviation, "dark": -deviation, "either": np.abs(deviation)}[rule.polarity]

    labels, count = ndimage.label(deviation > rule.contrast, structure=np.ones((3, 3)))
    if not count:
        return labels
    level = np.zeros(count + 1)
    level[1:] = ndimage.labeled_comprehension(
        deviation, labels, np.arange(1, count + 1), lambda values: np.percentile(values, 75), float, 0
    )
    labels, _ = ndimage.label((labels > 0) & (deviation > rule.cut * level[labels]), structure=np.ones((3, 3)))
    large = np.bincount(labels.ravel()) >= rule.minimum_area
    large[0] = False
    return np.where(large, np.cumsum(large), 0).astype(np.int32)[labels]


def found(prediction: Array, mask: np.ndarray, rule: ObjectRule | None = None) -> Detection:
    """Is the object of the (H, W) bool `mask` in the prediction, and what is there that should not be?

    The IoU is that of the mask with all objects that come within `rule.margin` pixels of it taken together; the
    others are false objects. With an empty mask every object is false.
    """
    rule = rule or ObjectRule()
    labels = segment(prediction, rule)
    mask = _mask(mask, labels)
    if not mask.any():
        return Detection(float("nan"), float("nan"), int(labels.max()))
    touching = np.unique(labels[_dilated(mask, rule.margin)])
    touching = touching[touching > 0]
    objects = np.isin(labels, touching)
    iou = float(np.sum(objects & mask) / np.sum(objects | mask))
    return Detection(iou, float(iou >= rule.iou), int(labels.max()) - len(touching))


def predict(
    model: Model, inputs: Array, flips: bool = False, device: str | torch.device | None = None, batch: int = 4
) -> np.ndarray:
    """Restore (C, H, W) or (B, C, H, W) float in [0, 1] (or uint8) of any size → (H, W) or (B, H, W) float32 in [0, 1].

    With `flips` the prediction is the mean over the input, mirrored left-right, upside down and both. `batch` images
    run at a time. A model with several output channels gives (…, out, H, W). A plain callable gets (C, H, W) float32
    arrays. The model runs where it is, or moves to `device`. Raises UnveilError for inputs with NaN or infinity.
    """
    return _predictions(model, inputs, flips, device, batch).mean(axis=0)


def predict_spread(
    model: Model, inputs: Array, device: str | torch.device | None = None, batch: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """`predict` with flips, and the standard deviation over the four flips: where the model disagrees with itself."""
    several = _predictions(model, inputs, True, device, batch)
    return several.mean(axis=0), several.std(axis=0)


def evaluate(
    model_or_predictions: Model | Array | Sequence[Array],
    dataset: Any,
    region: Region | None = None,
    rule: ObjectRule | None = None,
    flips: bool = False,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Metrics of a model, or of predictions made before, on every item of a data set: one row per item.

    `dataset[i]` is (input (C, H, W), target (1, H, W) or (H, W)); where the data set has `ids` they name the rows.
    `region` makes the object's bool mask (H, W) from the target (H, W) uint8; without it the columns about objects
    stay NaN. Predictions are (H, W) each, in the data set's order. `progress(done, total)` is called per item.

    Columns: id, psnr, ssim, mse, region_psnr, iou, found (1 or 0), false_objects, milliseconds (NaN for predictions
    made before). region_psnr, iou and found are NaN for items without an object.
    """
    total = len(dataset)
    is_model = isinstance(model_or_predictions, nn.Module) or callable(model_or_predictions)
    if not is_model and len(model_or_predictions) != total:
        raise UnveilError(f"{len(model_or_predictions)} predictions do not fit the {total} items of the data set")
    if not total:
        raise UnveilError("the data set is empty: nothing to evaluate")
    rule = rule or ObjectRule()
    ids = getattr(dataset, "ids", range(total))
    if len(ids) != total:
        raise UnveilError(f"the data set has {total} items but {len(ids)} ids: evaluate whole images, one per id")
    rows = []
    for i in range(total):
        inputs, target = dataset[i][:2]
        target = _image(target)
        begin = time.perf_counter()
        prediction = predict(model_or_predictions, inputs, flips, device) if is_model else model_or_predictions[i]
        milliseconds = 1000 * (time.perf_counter() - begin) if is_model else float("nan")
        rows.append({"id": ids[i], **measure(prediction, target, region, rule), "milliseconds": milliseconds})
        if progress:
            progress(i + 1, total)
    return pd.DataFrame(rows)


def measure(
    prediction: Array, target: Array, region: Region | None = None, rule: ObjectRule | None = None
) -> dict[str, float]:
    """All `METRICS` of one prediction, by name; see `evaluate`. ssim is NaN for images too small for its window."""
    rule = rule or ObjectRule()
    prediction, target = _pair(prediction, target)
    error = mse(prediction, target)
    similarity = ssim(prediction, target) if min(target.shape) >= SSIM_WINDOW else float("nan")
    values = {"psnr": _decibel(error), "ssim": similarity, "mse": error}
    if region is None:
        return values | dict.fromkeys(METRICS[3:], float("nan"))
    mask = region(np.rint(255 * target).astype(np.uint8))
    detection = found(prediction, mask, rule)
    return values | {
        "region_psnr": region_psnr(prediction, target, mask, rule.margin),
        "iou": detection.iou,
        "found": detection.found,
        "false_objects": detection.false_objects,
    }


def compare(
    models: Mapping[str, Model | Array | Sequence[Array]],
    dataset: Any,
    region: Region | None = None,
    rule: ObjectRule | None = None,
    flips: bool = False,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """`evaluate` for several models or predictions by name, baselines among them: one long table.

    Its first column `model` is categorical in the order given, so tables and plots keep that order. `progress` counts
    over all models.
    """
    if not models:
        raise UnveilError("there is no model to compare")
    tables, total = [], len(models) * len(dataset)
    for number, model in enumerate(models.values()):
        before = number * len(dataset)
        report = (lambda done, _, before=before: progress(before + done, total)) if progress else None
        tables.append(evaluate(model, dataset, region, rule, flips, device, report))
    names = np.repeat(list(models), len(dataset))
    table = pd.concat(tables, ignore_index=True)
    table.insert(0, "model", pd.Categorical(names, categories=list(models)))
    return table


def summarise(table: pd.DataFrame, by: str | Sequence[str] = ()) -> pd.DataFrame:
    """Means of the per-image metrics over all rows, or per group of the columns `by`.

    Columns: images (rows), objects (rows with one), the means of `METRICS` (`found` becomes the rate of found objects,
    `false_objects` their mean number per image) and the median of milliseconds, which a slow first call cannot bend.
    """
    by = [by] if isinstance(by, str) else list(by)
    if missing := [name for name in [*by, *METRICS] if name not in table]:
        raise UnveilError(f"the table has no column {', '.join(missing)}: it has {', '.join(map(str, table.columns))}")
    groups = table.groupby(by or (lambda _: "all"), observed=True, dropna=False)
    result = groups[METRICS].mean()
    result.insert(0, "images", groups.size())
    result.insert(1, "objects", groups["iou"].count())
    if "milliseconds" in table:
        result["milliseconds"] = groups["milliseconds"].median()
    return result


def _predictions(model: Model, inputs: Array, flips: bool, device: str | torch.device | None, batch: int) -> np.ndarray:
    """Predictions of every mirrored version, mirrored back: (1 or 4, …)."""
    x = _tensor(inputs)
    if x.ndim not in (3, 4):
        raise UnveilError(f"a model restores (C, H, W) or (B, C, H, W), not an array of shape {tuple(x.shape)}")
    if not torch.isfinite(x).all():
        raise UnveilError("the input holds NaN or infinity: look at the pixels without any coverage before restoring")
    single = x.ndim == 3
    x = x[None] if single else x
    results = []
    for axes in [(), (-1,), (-2,), (-2, -1)] if flips else [()]:
        y = torch.cat([_run(model, part, device) for part in x.flip(axes).split(batch)])
        results.append(y.flip(axes).clamp(0, 1))
    stacked = torch.stack(results)
    if not torch.isfinite(stacked).all():
        raise UnveilError("the model answers with NaN or infinity: its weights are damaged or its training diverged")
    if stacked.shape[2] == 1:
        stacked = stacked[:, :, 0]
    return (stacked[:, 0] if single else stacked).numpy()


def _run(model: Model, x: Tensor, device: str | torch.device | None) -> Tensor:
    """(B, C, H, W) → (B, out, H, W) on the CPU."""
    if not isinstance(model, nn.Module):
        several = [_tensor(model(one.numpy())) for one in x]
        return torch.stack([y[None] if y.ndim == 2 else y for y in several])
    if device is not None:
        model.to(device)
    reference = next(model.parameters(), torch.empty(0, device=device))
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            return model(x.to(reference.device, reference.dtype)).float().cpu()
    finally:
        model.train(was_training)


def _tensor(values: Array) -> Tensor:
    tensor = torch.as_tensor(values)
    scale = 255 if tensor.dtype == torch.uint8 else 1
    return tensor.detach().cpu().float() / scale


def _image(values: Array) -> np.ndarray:
    """(H, W) float64 in the gray range of 1, from (H, W) or (1, H, W)."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    image = np.asarray(values)
    image = image / 255 if image.dtype == np.uint8 else image.astype(np.float64)
    if image.ndim == 3 and image.shape[0] == 1:
        image = image[0]
    if image.ndim != 2:
        raise UnveilError(f"a metric compares images (H, W), not arrays of shape {image.shape}")
    if not np.isfinite(image).all():
        raise UnveilError("an image to measure holds NaN or infinity: metrics need finite gray levels")
    return image


def _pair(prediction: Array, target: Array) -> tuple[np.ndarray, np.ndarray]:
    prediction, target = _image(prediction), _image(target)
    if prediction.shape != target.shape:
        raise UnveilError(f"a prediction of size {prediction.shape} does not fit its target of size {target.shape}")
    return prediction, target


def _mask(mask: np.ndarray, like: np.ndarray) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.shape != like.shape or mask.dtype != bool:
        raise UnveilError(f"a region must be a bool mask of size {like.shape}, not {mask.dtype} of {mask.shape}")
    return mask


def _dilated(mask: np.ndarray, margin: int) -> np.ndarray:
    return ndimage.distance_transform_edt(~mask) <= margin


def _decibel(error: float) -> float:
    return min(PSNR_CAP, -10 * np.log10(error)) if error > 0 else PSNR_CAP
