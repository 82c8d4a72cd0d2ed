"""Ageing of photographs: what a century does to a print, from fading to torn corners, with the mask of what is lost.

The order is the physical one. A colour-blind emulsion records the luminance with its own gamma through a soft lens; the
print fades and is stained; its grain stays; scratches, cracks, dust, flaked patches and torn corners come last and hide
everything below them. All textures are procedural, so no scans of dirt are needed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from unveil.degrade.base import Operator

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the gray value (ITU-R BT.601, applied to sRGB values as they are)."""


def luminance(x: np.ndarray) -> np.ndarray:
    """(3, H, W) or (1, H, W) → (1, H, W)."""
    return x if len(x) == 1 else np.tensordot(np.float32(LUMA), x, 1)[None].astype(np.float32)


@dataclass(frozen=True)
class Ageing(Operator):
    """An aged gray print of a clean picture.

    Pairs are the ends of a uniform range drawn once per picture. The numbers of scratches and so on are the means of
    Poisson distributions for a picture of 256 × 256 pixels and grow with the area.

    Parameters
    ----------
    gamma
        standard deviation of log γ; the gray values become x^γ
    blur
        standard deviation of the lens blur, pixels
    black, white
        gray value of the faded blacks and whites
    stain
        largest change of the gray value by stains
    grain
        standard deviation of the grain; at gray value x it is multiplied by ½ + √(x(1−x)), so mid grays show most
    grain_size
        correlation length of the grain (standard deviation of a Gaussian), pixels
    scratches, cracks, dust, patches, corners
        mean numbers; scratches run nearly vertically, cracks wander and branch, patches are flaked areas
    bright
        share of the pictures whose damage shows white (bare paper), not dark (dirt)
    """

    gamma: float = 0.15
    blur: tuple[float, float] = (0.2, 0.8)
    black: tuple[float, float] = (0.0, 0.15)
    white: tuple[float, float] = (0.75, 1.0)
    stain: float = 0.05
    grain: tuple[float, float] = (0.04, 0.12)
    grain_size: tuple[float, float] = (0.35, 0.8)
    scratches: float = 3.0
    cracks: float = 1.5
    dust: float = 12.0
    patches: float = 0.7
    corners: float = 0.25
    bright: float = 0.7

    random: ClassVar[bool] = True

    def apply(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(1 or 3, H, W) in [0, 1] → (1, H, W) in [0, 1]: a scanner clips."""
        return self.with_mask(x, rng)[0]

    def with_mask(self, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The aged picture and the mask (1, H, W) of its lost pixels: 1 lost, 0 kept, float32."""
        steps = self.steps(x, rng)
        return steps["damage"], steps["mask"]

    def steps(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Every stage of the ageing by its name, each (1, H, W), the last two ``damage`` and ``mask``."""
        steps = {"luminance": luminance(x)}
        steps["gamma"] = steps["luminance"].clip(0, 1) ** np.float32(np.exp(rng.normal(0, self.gamma)))
        steps["blur"] = gaussian_filter(steps["gamma"], (0, *2 * [rng.uniform(*self.blur)]))
        black, white = rng.uniform(*self.black), rng.uniform(*self.white)
        steps["fading"] = np.float32(black) + np.float32(white - black) * steps["blur"]
        steps["stains"] = steps["fading"] + np.float32(self.stain) * clouds(x.shape[1:], 48, rng)
        grain = _grain(x.shape[1:], rng.uniform(*self.grain_size), rng) * np.float32(rng.uniform(*self.grain))
        level = steps["stains"].clip(0, 1)
        steps["grain"] = (steps["stains"] + grain * (0.5 + np.sqrt(level * (1 - level)))).clip(0, 1)
        cover = self.cover(x.shape[1:], rng)
        tone = rng.uniform(0.8, 1.0) if rng.random() < self.bright else rng.uniform(0.0, 0.15)
        surface = np.float32(tone) + 0.03 * clouds(x.shape[1:], 4, rng) + 0.3 * grain
        steps["damage"] = (steps["grain"] * (1 - cover) + surface * cover).clip(0, 1)[None]
        steps["mask"] = (cover > 0.25).astype(np.float32)[None]
        return {name: step.reshape(1, *x.shape[1:]) for name, step in steps.items()}

    def cover(self, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """How much of each pixel the damage hides, (H, W) in [0, 1]."""
        area = shape[0] * shape[1] / 256**2
        canvas = Image.new("L", (2 * shape[1], 2 * shape[0]))
        draw = ImageDraw.Draw(canvas)
        counts = {_scratch: self.scratches, _crack: self.cracks, _speck: self.dust, _patch: self.patches}
        for stroke, count in counts.items():
            for _ in range(rng.poisson(count * area)):
                stroke(draw, canvas.size, rng)
        for _ in range(rng.poisson(self.corners)):
            _corner(draw, canvas.size, rng)
        # Drawn at twice the size and averaged, so that thin strokes have soft edges.
        return np.asarray(canvas.reduce(2), np.float32) / 255

    def scaled(self, strength: float) -> Ageing:
        """The same recipe, milder (< 1) or stronger (> 1): fading, stains, grain and all counts times ``strength``."""
        times = ("gamma", "stain", "scratches", "cracks", "dust", "patches", "corners")
        changes = {name: strength * getattr(self, name) for name in times}
        changes |= {n: tuple(strength * v for v in getattr(self, n)) for n in ("black", "blur", "grain")}
        return replace(self, white=tuple(1 - strength * (1 - w) for w in self.white), **changes)


def clouds(shape: tuple[int, int], size: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise in about [−1, 1] whose blobs are ``size`` pixels wide."""
    rows, columns = (max(2, round(n / size) + 1) for n in shape)
    coarse = Image.fromarray(rng.uniform(-1, 1, (rows, columns)).astype(np.float32))
    return np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC))


def _grain(shape: tuple[int, int], size: float, rng: np.random.Generator) -> np.ndarray:
    """White noise blurred over ``size`` pixels, with standard deviation 1."""
    grain = gaussian_filter(rng.standard_normal(shape, np.float32), size, mode="wrap")
    return grain / max(float(grain.std()), 1e-6)


def _opacity(rng: np.random.Generator) -> int:
    return int(rng.integers(130, 256))


def _width(rng: np.random.Generator, most: float) -> int:
    """Width of a stroke in half pixels; thin ones are the most frequent."""
    return int(np.exp(rng.uniform(np.log(2), np.log(2 * most))))


def _scratch(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator) -> None:
    """A nearly straight line along the transport of the film, sometimes across it."""
    length = rng.uniform(0.2, 1.2) * max(size)
    angle = rng.normal(np.pi / 2, 0.12) if rng.random() < 0.8 else rng.uniform(0, np.pi)
    start = rng.uniform(-0.1, 1.0, 2) * size
    along = np.linspace(0, length, 12)[:, None] * [np.cos(angle), np.sin(angle)]
    bend = np.cumsum(rng.normal(0, 0.004 * length, (12, 1)), 0) * [-np.sin(angle), np.cos(angle)]
    points = start * [1, 0.6] + along + bend
    draw.line([tuple(p) for p in points], fill=_opacity(rng), width=_width(rng, 2.5))


def _crack(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator, point=None, angle=0.0, width: int = 0
) -> None:
    """A wandering line that thins out and throws a branch now and then."""
    trunk = point is None
    if trunk:
        point, angle, width = rng.uniform(0, 1, 2) * size, rng.uniform(0, 2 * np.pi), _width(rng, 5)
    fill = _opacity(rng) if trunk else 255
    for step in range(int(rng.integers(6, 30) if trunk else rng.integers(3, 10))):
        angle += rng.normal(0, 0.45)
        after = point + rng.uniform(4, 16) * np.array([np.cos(angle), np.sin(angle)])
        draw.line([tuple(point), tuple(after)], fill=fill, width=width)
        if trunk and rng.random() < 0.15:
            _crack(draw, size, rng, after, angle + rng.choice([-1, 1]) * rng.uniform(0.5, 1.2), max(1, width // 2))
        if step % 6 == 5 and width > 2:
            width -= 1
        point = after


def _speck(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator) -> None:
    """A grain of dust or, one time in five, a hair."""
    centre, radius = rng.uniform(0, 1, 2) * size, np.exp(rng.uniform(np.log(1.2), np.log(6)))
    if rng.random() < 0.2:
        box = [*(centre - 6 * radius), *(centre + 6 * radius)]
        start = rng.uniform(0, 360)
        draw.arc(box, start, start + rng.uniform(40, 160), fill=_opacity(rng), width=2)
    else:
        draw.polygon(_outline(centre, radius, 7, 0.3, rng), fill=_opacity(rng))


def _patch(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator) -> None:
    """A flaked area with a ragged outline."""
    radius = np.exp(rng.uniform(np.log(8), np.log(40)))
    draw.polygon(_outline(rng.uniform(0, 1, 2) * size, radius, 40, 0.5, rng), fill=int(rng.integers(200, 256)))


def _outline(centre: np.ndarray, radius: float, points: int, rough: float, rng: np.random.Generator) -> list:
    """A closed outline about ``centre`` whose radius varies smoothly by the share ``rough``."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    wave = sum(rng.normal(0, rough / k) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (1, 2, 3, 7, 11))
    reach = radius * np.exp(wave) * [[1.0], [rng.uniform(0.4, 1.0)]]
    return [tuple(p) for p in centre + (reach * [np.cos(angle), np.sin(angle)]).T]


def _corner(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator) -> None:
    """A torn-off corner with a ragged edge."""
    corner = rng.integers(0, 2, 2) * size
    inward = np.where(corner > 0, -1, 1)
    reach = rng.uniform(0.04, 0.2, 2) * min(size)
    share = np.linspace(0, 1, 14)[:, None]
    edge = share * [reach[0], 0] + (1 - share) * [0, reach[1]]
    edge += rng.normal(0, 0.04 * reach.mean(), edge.shape)
    draw.polygon([tuple(corner), *(tuple(p) for p in corner + inward * edge)], fill=255)
