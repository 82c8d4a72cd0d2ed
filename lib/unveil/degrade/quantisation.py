"""Fewer levels, and JPEG."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from unveil.degrade.base import Operator
from unveil.errors import UnveilError


@dataclass(frozen=True)
class Bits(Operator):
    """Round to 2^bits levels from 0 to 1, clipped; the error is uniform, ± half a step d, variance d² / 12.

    ``dither`` adds uniform noise of one step before rounding (Roberts 1962): bands vanish, the mean is exact, the
    variance is f (1 − f) d², f the place between two levels.
    """

    bits: int = 8
    dither: bool = False
    random = property(lambda self: self.dither)

    def apply(self, x: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        top = 2**self.bits - 1
        noise = rng.random(x.shape, dtype=np.float32) if self.dither else np.float32(0.5)
        return np.clip(np.floor(x * top + noise), 0, top) / np.float32(top)


@dataclass(frozen=True)
class JPEG(Operator):
    """Cosine transform of 8 × 8 blocks, rounded by the table of ``quality`` (1–95; libjpeg), of gray or RGB pictures.

    Colour is halved in both directions first (4:2:0) unless ``full_colour``. The picture is rounded to 8 bits.
    """

    quality: int = 30
    full_colour: bool = False

    def apply(self, x: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        if len(x) not in (1, 3):
            raise UnveilError(f"JPEG holds 1 or 3 channels, not {len(x)}")
        pixels = np.clip(np.round(x * 255), 0, 255).astype(np.uint8)
        file = io.BytesIO()
        picture = Image.fromarray(pixels[0] if len(x) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        picture.save(file, "JPEG", quality=self.quality, subsampling="4:4:4" if self.full_colour else "4:2:0")
        return np.asarray(Image.open(file), np.float32).reshape(*x.shape[1:], len(x)).transpose(2, 0, 1) / 255
