"""The person in an image: where the truth shows one, how well it is restored, whether it is found.

A full-frame PSNR is nearly blind to a small object on a large plain background: a flat image scores well. Hence the
PSNR of the person's region, and the question whether the person is found. Images are (H, W) in [0, 1] or uint8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage, signal

from unveil.aos.images import person_mask
from unveil.errors import UnveilError
from unveil.restore.metrics import Metric, decibel, mse, pair, psnr, ssim, summarise
from unveil.restore.metrics import image as gray

SQUARE = np.ones((3, 3), bool)


@dataclass(frozen=True)
class ObjectRule:
    """What counts as an object in an image, by a fixed rule that never looks at the truth.

    A pixel is a candidate where it exceeds the image's median by more than ``contrast``. Each connected group of
    candidates is cut at the fraction ``cut`` of its own level, the upper quartile of its deviations: one absolute
    threshold would lose a faint object or blow up a strong one by its blurred rim. What remains connected over
    ``minimum_area`` pixels is an object. Truths blurred by a Gaussian of σ = 4 pixels keep an IoU of 0.55 to 0.72 with
    themselves. An object whose IoU with the true region reaches ``iou`` is found; one that stays ``margin`` pixels away
    from it is false.
    """

    contrast: float = 0.04
    cut: float = 0.4
    minimum_area: int = 50
    iou: float = 0.5
    margin: int = 8


class Detection(NamedTuple):
    """How the objects of an image compare with the true region; ``iou`` and ``found`` (1 or 0) are NaN without one."""

    iou: float
    found: float
    false_objects: int


def segment(image: np.ndarray, rule: ObjectRule | None = None) -> np.ndarray:
    """Objects of an (H, W) image by ``rule``: int32 labels (H, W), 0 for the background, 1 … n for the objects."""
    rule, image = rule or ObjectRule(), gray(image)
    deviation = image - np.median(image)
    labels, count = ndimage.label(deviation > rule.contrast, SQUARE)
    if not count:
        return labels
    groups, quartile = np.arange(1, count + 1), lambda values: np.percentile(values, 75)
    level = np.append(0, ndimage.labeled_comprehension(deviation, labels, groups, quartile, float, 0))
    labels, _ = ndimage.label((labels > 0) & (deviation > rule.cut * level[labels]), SQUARE)
    large = np.bincount(labels.ravel()) >= rule.minimum_area
    large[0] = False
    return np.where(large, np.cumsum(large), 0).astype(np.int32)[labels]


def detect(prediction: np.ndarray, mask: np.ndarray, rule: ObjectRule | None = None) -> Detection:
    """Whether the object of the (H, W) bool ``mask`` is in the prediction, and how many others are.

    The IoU is that of the mask with all objects that come within ``rule.margin`` pixels of it taken together; the
    others are false objects. With an empty mask every object is false.
    """
    rule = rule or ObjectRule()
    labels = segment(prediction, rule)
    _check(mask, labels)
    if not mask.any():
        return Detection(float("nan"), float("nan"), int(labels.max()))
    touching = np.setdiff1d(labels[_near(mask, rule.margin)], [0])
    objects = np.isin(labels, touching)
    iou = float(np.sum(objects & mask) / np.sum(objects | mask))
    return Detection(iou, float(iou >= rule.iou), int(labels.max()) - len(touching))


def located(prediction: np.ndarray, target: np.ndarray, margin: int = 8, rim: int = 8) -> float:
    """Whether the person's silhouette finds its true place in the prediction: 1 or 0, NaN without a person.

    A matched filter, the mean inside the silhouette minus the mean in a rim around it, looks at the whole image; its
    maximum must lie within ``margin`` pixels of the truth. Textured pictures are not at a disadvantage, as they are in
    :func:`detect`. The filter has the person's shape, which a search has not: read the rate as an upper bound.
    """
    image, target = pair(prediction, target)
    mask = person_mask(np.rint(255 * target).astype(np.uint8))
    if not mask.any() or image.min() == image.max():
        return 0.0 if mask.any() else float("nan")
    ring = _near(mask, rim) & ~mask
    box = tuple(slice(i.min(), i.max() + 1) for i in np.nonzero(mask | ring))
    kernel = (mask / mask.sum() - ring / ring.sum())[box]
    response = signal.fftconvolve(image - np.median(image), kernel[::-1, ::-1], "valid")
    row, column = np.unravel_index(response.argmax(), response.shape)
    return float(np.hypot(row - box[0].start, column - box[1].start) <= margin)


def region_psnr(prediction: np.ndarray, target: np.ndarray, mask: np.ndarray, margin: int = 8) -> float:
    """PSNR within ``margin`` pixels around the (H, W) bool ``mask``; NaN where the mask is empty.

    The margin belongs to the region because a halo around the object is an error of the object.
    """
    prediction, target = pair(prediction, target)
    _check(mask, target)
    near = _near(mask, margin) if mask.any() else mask
    return decibel(float(np.mean((prediction[near] - target[near]) ** 2))) if mask.any() else float("nan")


def contrast_to_noise(image: np.ndarray, mask: np.ndarray, margin: int = 32, gap: int = 8) -> float:
    """(mean inside the bool ``mask`` − mean around) / standard deviation around; NaN where the mask is empty.

    *Around* is farther than ``gap`` pixels from the mask, which may be blurred rim, and at most ``gap`` + ``margin``.
    The eye needs about 5 (Rose 1948, doi 10.1364/JOSA.38.000196). The deviation counts as one gray level at least,
    because a network can answer with a perfectly plain background.
    """
    image = gray(image)
    _check(mask, image)
    if not mask.any():
        return float("nan")
    around = _near(mask, gap + margin) & ~_near(mask, gap)
    if not around.any():
        raise UnveilError(f"no pixels lie {gap} to {gap + margin} pixels around the region: take a larger image")
    return float(image[mask].mean() - image[around].mean()) / max(float(image[around].std()), 1 / 255)


def metrics(rule: ObjectRule | None = None) -> dict[str, Metric]:
    """What every table of the forest has: psnr, ssim, mse, region_psnr, iou, found (1 or 0), false_objects."""
    rule = rule or ObjectRule()

    def person(prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
        prediction, target = pair(prediction, target)
        mask = person_mask(np.rint(255 * target).astype(np.uint8))
        region = region_psnr(prediction, target, mask, rule.margin)
        return {"region_psnr": region} | detect(prediction, mask, rule)._asdict()

    return {"psnr": psnr, "ssim": ssim, "mse": mse, "person": person}


def summary(table: pd.DataFrame, by: str | Sequence[str] = "model") -> pd.DataFrame:
    """Means per group of a table of :func:`metrics`, and what the means hide.

    ``region_median`` stands beside the mean, which the 60 dB of a few free views bend; ``persons`` counts the images
    with one; ``empty_false`` is the share of the images without a person in which one is shown.
    """
    empty = table["iou"].isna()
    table = table.assign(empty_false=(table["false_objects"] > 0).astype(float).where(empty))
    result, groups = summarise(table, by), table.groupby(by, observed=True, dropna=False)
    result.insert(1, "persons", groups["iou"].count())
    result.insert(result.columns.get_loc("region_psnr") + 1, "region_median", groups["region_psnr"].median())
    return result


def _check(mask: np.ndarray, image: np.ndarray) -> None:
    if mask.shape != image.shape or mask.dtype != bool:
        raise UnveilError(f"a region must be a bool mask of size {image.shape}, not {mask.dtype} of {mask.shape}")


def _near(mask: np.ndarray, margin: int) -> np.ndarray:
    return ndimage.distance_transform_edt(~mask) <= margin
