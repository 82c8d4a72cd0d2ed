"""Blur: convolution with a kernel that can be asked for, and turbulence.

Beyond its border the picture goes on as its mirror image. Lenses blur linear light; sRGB values as they are spread
bright points too little: chain ``Linear() | blur | Linear(back=True)`` to be exact.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve, lfilter

from unveil.degrade.base import Operator
from unveil.degrade.lens import warp


class _Blur(Operator):
    """Subclasses say how a point ``spread``s, on any scale."""

    def kernel(self, rng: np.random.Generator | None = None) -> np.ndarray:
        """The point spread function (k, k) float32, k odd, sum 1."""
        spread = self.spread(rng)
        return (spread / spread.sum()).astype(np.float32)

    def apply(self, x: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        kernel = self.kernel(rng)
        wider = np.pad(x, [(0, 0), *[(len(kernel) // 2,) * 2] * 2], "symmetric")
        return fftconvolve(wider, kernel[None], "valid", axes=(1, 2))

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        kernel = self.kernel()
        pad = [(len(kernel) // 2,) * 2, (0, 0)]
        rows, columns = (np.pad(np.eye(n, dtype=np.float32), pad, "symmetric") for n in y.shape[1:])
        return rows.T @ fftconvolve(y, kernel[None, ::-1, ::-1], "full", axes=(1, 2)) @ columns


@dataclass(frozen=True)
class GaussianBlur(_Blur):
    """Many small causes at once; ``sigma`` in pixels. Its spectrum has no zero but falls below every noise."""

    sigma: float = 1.5

    def spread(self, rng: np.random.Generator | None) -> np.ndarray:
        half = math.ceil(4 * self.sigma)
        line = np.exp(-0.5 * (np.arange(-half, half + 1) / max(self.sigma, 1e-6)) ** 2)
        return np.outer(line, line)


@dataclass(frozen=True)
class DefocusBlur(_Blur):
    """Geometric optics: a point out of focus becomes the disc of the aperture; ``radius`` in pixels.

    The spectrum is ``2 J₁(ρ) / ρ``, ρ = 2π f radius, whose circles of zeros lose their frequencies for good.
    """

    radius: float = 4

    def spread(self, rng: np.random.Generator | None) -> np.ndarray:
        half, fine = math.ceil(self.radius), 8
        place = (np.arange((2 * half + 1) * fine) + 0.5) / fine - half - 0.5
        inside = np.hypot(place[:, None], place) <= max(self.radius, 0.5)
        return inside.reshape(2 * half + 1, fine, -1, fine).mean((1, 3))


@dataclass(frozen=True)
class MotionBlur(_Blur):
    """Straight, steady motion during the exposure: ``length`` in pixels, ``angle`` in degrees from the x axis, upwards.

    Across it nothing is lost; along it the spectrum is ``sinc(f length)`` with zeros at the multiples of 1 / length.
    """

    length: float = 9
    angle: float = 0

    def spread(self, rng: np.random.Generator | None) -> np.ndarray:
        way = np.linspace(-0.5, 0.5, 16 * math.ceil(self.length) + 1) * self.length
        return _trace(way * np.exp(-1j * math.radians(self.angle)))


@dataclass(frozen=True)
class ShakeBlur(_Blur):
    """A trembling hand: the velocity is a random walk pulled back to zero (after Boracchi & Foi 2012).

    ``length`` is the longer side of the path in pixels. A ``seed`` fixes the path, else the generator draws it.
    """

    length: float = 12
    seed: int | None = None
    random = property(lambda self: self.seed is None)

    def spread(self, rng: np.random.Generator | None) -> np.ndarray:
        rng = rng if self.seed is None else np.random.default_rng(self.seed)
        path = np.cumsum(lfilter([1], [1, -0.97], rng.standard_normal((2, 500))), axis=1)
        path = (path - path.mean(axis=1, keepdims=True)) / np.ptp(path, axis=1).max()
        return _trace(self.length * (path[0] + 1j * path[1]))


@dataclass(frozen=True)
class Turbulence(Operator):
    """Hot air: a random smooth warp of ``strength`` pixels (r.m.s. in each direction) over ``scale`` pixels, then blur.

    A long exposure averages over the warps (Fried 1966), hence the blur ``sigma`` in pixels.
    """

    strength: float = 1.5
    scale: float = 8
    sigma: float = 1
    random = True

    def apply(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        bend = [gaussian_filter(n, self.scale, mode="wrap") for n in rng.standard_normal((2, *x.shape[1:]))]
        down, right = (self.strength * field / max(field.std(), 1e-9) for field in bend)
        rows, columns = np.indices(x.shape[1:])
        return GaussianBlur(self.sigma)(np.float32(warp(x, rows + down, columns + right, 1)))


def _trace(path: np.ndarray) -> np.ndarray:
    """The kernel of a path of complex x + iy in pixels, each place shared by its four nearest pixels."""
    half = math.ceil(np.abs([path.real, path.imag]).max())
    grid = np.arange(-half, half + 1)[:, None]
    down, right = (np.maximum(0, 1 - np.abs(grid - place)) for place in (path.imag, path.real))
    return down @ right.T
