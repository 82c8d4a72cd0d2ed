"""The ground of wild forests: its gray levels, its relief, and how a camera sees it.

Frame: metres, x and y as in the world, heights **up** from z = 0.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import fft
from scipy.ndimage import gaussian_filter

from unveil.aos._kernels import compiled


class Ground(NamedTuple):
    """Gray levels and relief above the plane (n, m) float32 on a grid whose first texel lies at ``corner`` (x, y) and
    whose texels are ``texel`` apart, metres; slope (2,): rise of the plane along x and y.
    """

    gray: np.ndarray
    relief: np.ndarray
    corner: np.ndarray
    texel: float
    slope: np.ndarray

    def height(self, places: np.ndarray) -> np.ndarray:
        """Metres above z = 0, up, at places (n, 2)."""
        at = np.rint((places - self.corner) / self.texel).astype(int).clip(0, np.array(self.relief.shape)[::-1] - 1)
        return self.relief[at[:, 1], at[:, 0]] + places @ self.slope


def _field(rng: np.random.Generator, shape: tuple[int, int], texels: float) -> np.ndarray:
    """A smooth random field (n, m) float32 of unit variance, about, whose waves are so many texels long."""
    coarse = rng.standard_normal([max(3, math.ceil(side / texels) + 3) for side in shape]).astype(np.float32)
    rows, columns = shape
    start = rng.uniform(0, 1, 2)
    box = (start[0], start[1], start[0] + columns / texels, start[1] + rows / texels)
    box = (box[0], box[1], min(box[2], coarse.shape[1]), min(box[3], coarse.shape[0]))
    return 1.4 * np.asarray(Image.fromarray(coarse).resize((columns, rows), Image.Resampling.BICUBIC, box))


def _soft(field: np.ndarray, edge: float, width: float) -> np.ndarray:
    """0…1 across an edge of a field."""
    return (1 / (1 + np.exp(np.clip((edge - field) / width, -30, 30)))).astype(np.float32)


def _fractal(rng: np.random.Generator, shape: tuple[int, int], power: float) -> np.ndarray:
    """A random field (n, m) float32 of mean 0 and unit variance whose amplitudes fall with that power of frequency."""
    rows, columns = (fft.next_fast_len(side, real=True) for side in shape)
    frequency = np.hypot(fft.fftfreq(rows)[:, None], fft.rfftfreq(columns)).astype(np.float32)
    frequency[0, 0] = np.inf
    waves = fft.rfft2(rng.standard_normal((rows, columns), np.float32)) * np.maximum(frequency, 3e-3) ** -power
    field = fft.irfft2(waves, (rows, columns))[: shape[0], : shape[1]]
    return (field - field.mean()) / field.std()


def ground(rng, texture, relief_range, level, shape, corner, texel, slope, trees, light) -> Ground:
    """Smooth fields, patches, grass grain, stones, tracks, logs, and the shade of the trees with spots of sun in it."""
    strength = rng.uniform(*texture)
    heat = _fractal(rng, shape, rng.uniform(1.1, 2.0))
    for softness in (0.04, 0.25):
        heat += rng.uniform(-3, 3) * _soft(_fractal(rng, shape, rng.uniform(1.2, 2.0)), rng.uniform(0, 1.2), softness)
    rows, columns = shape
    y, x = (
        (corner[1] + texel * np.arange(rows, dtype=np.float32))[:, None],
        corner[0] + texel * np.arange(columns, dtype=np.float32),
    )
    for _ in range(rng.integers(0, 3)):
        angle, bend, width = rng.uniform(0, np.pi), rng.uniform(-0.008, 0.008), rng.uniform(0.3, 2.5)
        along, aside = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        away = np.abs(aside - rng.uniform(-20, 20) - bend * along**2)
        heat += rng.uniform(-2.5, 2.5) * _soft(-away, -width / 2, 0.12 * width)
    heat *= rng.uniform(0.3, 0.45) * strength / heat.std()
    area = rows * columns * texel**2 / 1e4
    for long, wide, warm, many in ((0.15, 0.1, 0.8, 400), (0.35, 0.25, 0.7, 100), (3.0, 0.14, 0.6, 60)):
        for _ in range(rng.poisson(rng.uniform(0, many) * area)):
            _stamp(heat, rng, texel, long * rng.uniform(0.7, 1.8), wide * rng.uniform(0.7, 1.5), warm * strength)
    grain = gaussian_filter(rng.standard_normal(shape, np.float32), max(0.8, rng.uniform(0.05, 0.15) / texel))
    heat += rng.uniform(0.02, 0.14) * strength * (0.4 + (heat > 0)) * grain / grain.std()
    relief = _field(rng, shape, rng.uniform(5, 12) / texel)
    relief = relief - relief.mean()
    relief *= rng.uniform(*relief_range) / max(np.ptp(relief), 1e-6)
    if len(trees):
        toward = -light.direction[:2] / light.direction[2] * 6.0
        cover = np.zeros((rows // 8 + 1, columns // 8 + 1), np.float32)
        at = np.rint((trees + toward - corner) / texel / 8).astype(int)
        inside = ((at >= 0) & (at < [cover.shape[1], cover.shape[0]])).all(1)
        np.add.at(cover, (at[inside, 1], at[inside, 0]), 1)
        cover = gaussian_filter(cover, 1.8 / texel / 8) * (2 * np.pi * (1.8 / texel / 8) ** 2)
        cover = np.asarray(Image.fromarray(cover).resize((columns, rows), Image.Resampling.BICUBIC))
        shade = np.clip(cover, 0, 1) * (1 - 0.8 * _soft(_field(rng, shape, 1.2 / texel), 0.9, 0.12))
        heat -= rng.uniform(0.1, 0.9) * strength * light.ambient * (shade - shade.mean())
    heat = heat - heat.mean()
    limit = max(strength, 1e-6)
    return Ground((level + limit * np.tanh(heat / limit)).astype(np.float32), relief, corner, texel, slope)


def _stamp(heat: np.ndarray, rng: np.random.Generator, texel: float, long: float, wide: float, warm: float) -> None:
    """Adds an ellipse with soft edges, half axes in metres, somewhere on the ground."""
    angle, reach = rng.uniform(0, np.pi), math.ceil(1.3 * max(long, wide) / texel)
    row, column = (int(rng.integers(0, side)) for side in heat.shape)
    rows, columns = slice(max(row - reach, 0), row + reach + 1), slice(max(column - reach, 0), column + reach + 1)
    y, x = np.mgrid[rows, columns].astype(np.float32)
    part = heat[rows, columns]
    y, x = (y[: part.shape[0], : part.shape[1]] - row) * texel, (x[: part.shape[0], : part.shape[1]] - column) * texel
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    part += rng.uniform(-warm, warm) * _soft(-np.hypot(u / long, v / wide), -1, 0.15)


@compiled
def draw_ground(view, depth, gray, relief, corner, texel, slope, rotation, center, focal):
    height, width = view.shape
    rows, columns = gray.shape
    level = -center[2] - slope[0] * center[0] - slope[1] * center[1]
    for row in range(height):
        for column in range(width):
            a, b = (column - (width - 1) / 2) / focal, (row - (height - 1) / 2) / focal
            dx = rotation[0, 0] * a + rotation[1, 0] * b + rotation[2, 0]
            dy = rotation[0, 1] * a + rotation[1, 1] * b + rotation[2, 1]
            dz = rotation[0, 2] * a + rotation[1, 2] * b + rotation[2, 2]
            fall = max(dz + slope[0] * dx + slope[1] * dy, 0.05)
            rise = 0.0
            for turn in range(4):
                distance = (level - rise) / fall
                u = min(max((center[0] + distance * dx - corner[0]) / texel, 0.0), columns - 1.001)
                v = min(max((center[1] + distance * dy - corner[1]) / texel, 0.0), rows - 1.001)
                i, k = int(v), int(u)
                s, t = v - i, u - k
                source = relief if turn < 3 else gray
                above = source[i, k] * (1 - t) + source[i, k + 1] * t
                below = source[i + 1, k] * (1 - t) + source[i + 1, k + 1] * t
                rise = above * (1 - s) + below * s
            view[row, column] = np.uint8(min(max(rise + 0.5, 0.0), 255.0))
            depth[row, column] = focal / distance
