"""What views and integral images show of a person whose place is known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from unveil.aos import integrator
from unveil.aos.camera import CENTER_VIEW, Cameras


class Contrast(NamedTuple):
    """Mean gray level inside a region minus that of the ring around it, and the ring's standard deviation."""

    difference: np.ndarray
    noise: np.ndarray

    @property
    def to_noise(self) -> np.ndarray:
        """The contrast-to-noise ratio, difference / noise."""
        return self.difference / self.noise


def contrast(images: np.ndarray, mask: np.ndarray, gap: int = 3, reach: int = 15) -> Contrast:
    """Contrast of the region ``mask`` (H, W) bool in images (…, H, W); the ring lies gap…reach pixels around it."""
    distance = ndimage.distance_transform_edt(~mask)
    around = images[..., (distance > gap) & (distance <= reach)]
    return Contrast(images[..., mask].mean(-1) - around.mean(-1), around.std(-1))


def visible(
    views: np.ndarray, truth: np.ndarray, mask: np.ndarray, cameras: Cameras, heights: np.ndarray, tolerance: float = 6
) -> np.ndarray:
    """Which views show each of the n points under the truth's pixels in ``mask``, judged from pictures: (V, n) bool.

    A view shows a point where, at one of the heights in metres, it agrees with the truth of the centre view within so
    many gray levels. Leaves of the right brightness pass for the point, and what a nearer part of the same figure
    hides counts as hidden. Where the forest is known, `Forest.visible` is exact.
    """
    rows, columns = np.nonzero(mask)
    size = views.shape[1:]
    maps, _ = integrator.rays(cameras, cameras.target(CENTER_VIEW), size, size).homographies(np.asarray(heights))
    q = maps @ np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
    x, y = (np.rint(q[:, :, axis] / q[:, :, 2]).astype(int) for axis in (0, 1))
    inside = (x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0])
    gray = views[np.arange(len(views))[:, None], y.clip(0, size[0] - 1), x.clip(0, size[1] - 1)].astype(float)
    return (inside & (np.abs(gray - truth[rows, columns]) <= tolerance)).any(0)
