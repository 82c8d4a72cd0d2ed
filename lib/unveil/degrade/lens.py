"""Deformation by lenses: points move along their radius and none leaves the frame, so there is a way back.

Radii are in half diagonals. Resampling is by cubic splines; what lies more than 3 pixels beyond x is black.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import map_coordinates

from unveil.degrade.base import Operator
from unveil.errors import UnveilError


def warp(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, order: int) -> np.ndarray:
    """Every channel of ``x`` sampled at the places (rows, columns), in pixels, by splines of this order."""
    return np.stack([map_coordinates(channel, (rows, columns), order=order, mode="mirror") for channel in x])


class _Radial(Operator):
    """What lies at radius r without the deformation lies at ``bend(r)`` with it; the field ``back`` swaps the two."""

    def apply(self, x: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        middle = [(n - 1) / 2 for n in x.shape[1:]]
        down, right = (place - m for place, m in zip(np.ogrid[: x.shape[1], : x.shape[2]], middle, strict=True))
        radius = np.hypot(down, right) / max(math.hypot(*middle), 1)
        table = np.linspace(0, 2, 4096)
        source = self.bend(radius) if self.back else np.interp(radius, np.maximum.accumulate(self.bend(table)), table)
        stretch = np.divide(source, radius, out=np.ones_like(radius), where=radius > 0)
        down, right = down * stretch, right * stretch
        seen = (np.abs(down) <= middle[0] + 3) & (np.abs(right) <= middle[1] + 3)
        return warp(x, middle[0] + down, middle[1] + right, 3) * seen

    def inverse(self) -> Operator:
        return replace(self, back=not self.back)


@dataclass(frozen=True)
class Distortion(_Radial):
    """Seidel's distortion of third order, ``r (1 + k r²)``: barrel for −1/3 < k < 0, pincushion for k > 0.

    Pincushion pictures are made smaller by 1 + k, so that their corners stay where they are.
    """

    k: float = -0.2
    back: bool = False

    def bend(self, r: np.ndarray) -> np.ndarray:
        if self.k <= -1 / 3:
            raise UnveilError(f"{self!r} folds the picture over: k must be above -1/3")
        return r * (1 + self.k * r * r) / max(1, 1 + self.k)


@dataclass(frozen=True)
class Fisheye(_Radial):
    """Equidistant projection f θ for the pinhole's f tan θ, same f; ``view`` is the diagonal field in degrees."""

    view: float = 120
    back: bool = False

    def bend(self, r: np.ndarray) -> np.ndarray:
        if not 0 < self.view < 180:
            raise UnveilError(f"{self!r}: a pinhole sees between 0 and 180 degrees")
        edge = math.tan(math.radians(self.view / 2))
        return np.arctan(r * edge) / edge
