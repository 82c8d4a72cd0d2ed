"""Noise of sensors and channels. Photons count linear light: ``Linear() | PoissonNoise() | Linear(back=True)``."""

from dataclasses import dataclass

import numpy as np

from unveil.degrade.base import Operator


@dataclass(frozen=True)
class GaussianNoise(Operator):
    """``y = x + σ n``, n standard normal: heat in the amplifier. Not clipped."""

    sigma: float = 0.1
    random = True

    def apply(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return x + np.float32(self.sigma) * rng.standard_normal(x.shape, dtype=np.float32)


@dataclass(frozen=True)
class PoissonNoise(Operator):
    """Shot noise: white is ``photons`` photons on average and each pixel counts its own; variance x / photons."""

    photons: float = 100
    random = True

    def apply(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rng.poisson(np.maximum(x, 0) * self.photons) / self.photons


@dataclass(frozen=True)
class ImpulseNoise(Operator):
    """Salt and pepper: a share ``amount`` of all values is replaced by 0 or 1, half each (dead cells, bit errors)."""

    amount: float = 0.1
    random = True

    def apply(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        u = rng.random(x.shape, dtype=np.float32)
        return np.where(u < self.amount, (u < self.amount / 2).astype(np.float32), x)


@dataclass(frozen=True)
class Speckle(Operator):
    """``y = x g``, g gamma distributed, mean 1, variance 1 / looks: coherent light, radar (Goodman 1976)."""

    looks: float = 10
    random = True

    def apply(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return x * rng.gamma(self.looks, 1 / self.looks, x.shape)


@dataclass(frozen=True)
class CameraNoise(Operator):
    """A camera's mixture of shot and read noise: variance x / e + (read / e)², e electrons at white (EMVA 1288).

    White is ``well`` electrons at ISO 100, a k-th at ISO 100 k; ``read`` is electrons r.m.s. The converter clips.
    """

    iso: float = 1600
    well: float = 30_000
    read: float = 5
    random = True

    def apply(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        white = self.well * 100 / self.iso
        electrons = rng.poisson(np.maximum(x, 0) * white) + self.read * rng.standard_normal(x.shape, dtype=np.float32)
        return np.clip(electrons / white, 0, 1)


@dataclass(frozen=True)
class Linear(Operator):
    """sRGB values to linear light (IEC 61966-2-1), or back; values outside [0, 1] keep their sign."""

    back: bool = False

    def apply(self, x: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        v = np.abs(x)
        if self.back:
            return np.copysign(np.where(v <= 0.0031308, 12.92 * v, 1.055 * v ** (1 / 2.4) - 0.055), x)
        return np.copysign(np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4), x)

    def inverse(self) -> Operator:
        return Linear(not self.back)
