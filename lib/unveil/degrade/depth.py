"""An active stereo camera in software: infrared pictures of a scene, matched into depth with its holes and ripples.

Two imagers see the scene under the dots of a projector that stands between them, as Intel's D435 does (Keselman et al.,
"Intel RealSense Stereoscopic Depth Cameras", CVPRW 2017). No fault of the depth image is drawn by formula: holes come
from shadows, dark, shiny and bare surfaces, fat edges and flying pixels from the matching window, ripples from
interpolation between whole pixels, and noise grows with z² because depth is focal length · baseline / disparity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numba import njit
from scipy import ndimage

from unveil.degrade.base import Operator
from unveil.degrade.scene import Scene, cast
from unveil.errors import UnveilError

NEAREST = 21.2 / 64
"""Depth in m of nearness 1: what the camera sees at its largest disparity, 64 pixels."""


def nearness(depth: np.ndarray) -> np.ndarray:
    """Depth in m, 0 where unknown → nearness :data:`NEAREST` / z in [0, 1], float32: inverse depth, 0 stays 0."""
    depth = np.asarray(depth, np.float32)
    return np.clip(np.divide(NEAREST, depth, out=np.zeros_like(depth), where=depth > 0), 0, 1)


def metres(near: np.ndarray) -> np.ndarray:
    """Nearness → depth in m, float32; the inverse of :func:`nearness` beyond :data:`NEAREST`."""
    near = np.asarray(near, np.float32)
    return np.divide(NEAREST, near, out=np.zeros_like(near), where=near > 0)


class Frame(NamedTuple):
    """One shot, all (H, W): ``truth`` and ``measured`` depth uint16 mm, 0 a hole; ``left``, ``right`` light uint8."""

    truth: np.ndarray
    measured: np.ndarray
    left: np.ndarray
    right: np.ndarray


@dataclass(frozen=True)
class StereoCamera:
    """``camera(scene, rng)`` → :class:`Frame`. Lengths in m, image lengths in pixels.

    ``power``: light of a dot at 1 m relative to a room of ``ambient`` 1; ``electrons`` at white set the shot noise,
    ``read`` is the noise beside it; ``blur``: σ of the lens; ``misaligned``: σ of the right picture's vertical offset;
    ``disparities`` are searched; ``unique``: the second best match must cost more by this share.
    """

    width: int = 848
    height: int = 480
    focal: float = 424.0
    baseline: float = 0.05
    power: float = 40.0
    electrons: float = 450.0
    read: float = 5.0
    blur: float = 0.7
    misaligned: float = 0.12
    disparities: int = 64
    unique: float = 0.01

    def __call__(self, scene: Scene, rng: np.random.Generator) -> Frame:
        truth, left, right = self.expose(scene, rng)
        left, right = self.develop(left, rng), self.develop(right, rng)
        measured = self.depth(match(left, right, self.disparities, self.unique))
        return Frame(_millimetres(truth), measured, left, right)

    def expose(self, scene: Scene, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """True depth (H, W) m and the light that falls on both imagers (H, W), white is 1; without noise."""
        bodies = (scene.kind, scene.centre, scene.axes, scene.half)
        window = (self.focal, self.height, self.width)
        dots = pattern(self.height, self.width)
        lamp = np.array([self.baseline / 2, 0.0, 0.0])
        lit, _ = cast(*bodies, lamp, *window)
        pictures, truth = [], None
        for eye in (np.zeros(3), np.array([self.baseline, 0.0, 0.0])):
            depth, seen = cast(*bodies, eye, *window)
            truth = depth if truth is None else truth
            light = (scene.light, scene.ambient, self.power, lamp, lit, dots)
            picture = _shade(depth, seen, *bodies, scene.surface, eye, self.focal, *light)
            pictures.append(ndimage.gaussian_filter(picture, self.blur))
        shift = rng.normal(0, self.misaligned)
        pictures[1] = ndimage.shift(pictures[1], (shift, 0), order=1, mode="nearest")
        # Automatic exposure, as far as the longest exposure allows.
        gain = min(0.8 / np.percentile(pictures[0], 96), 6.0)
        return truth, *(gain * picture for picture in pictures)

    def develop(self, light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Shot noise, read noise, 8 bits: call it again for another exposure of a scene at rest."""
        counted = rng.poisson(np.clip(light, 0, 4) * self.electrons) + rng.normal(0, self.read, light.shape)
        return np.clip(np.rint(counted * (255 / self.electrons)), 0, 255).astype(np.uint8)

    def depth(self, disparity: np.ndarray) -> np.ndarray:
        """Disparity in px, 0 a hole → depth uint16 mm; disparities are kept to 1/32 px."""
        steps = np.rint(disparity * 32) / 32
        return _millimetres(np.where(steps > 0.5, self.focal * self.baseline / np.maximum(steps, 0.5), 0))


def _millimetres(depth: np.ndarray) -> np.ndarray:
    depth = np.where(depth < 60, depth, 0)
    return np.rint(1000 * depth).astype(np.uint16)


@dataclass(frozen=True)
class DisparityNoise(Operator):
    """The cheap model: noise of ``sigma`` px on disparity, smooth over ``smooth`` px, and holes along depth edges.

    Takes and gives nearness (1, H, W), 64 px at 1. Pixels are drawn from ``shift`` px beside them (Handa et al., ICRA
    2014) and lost with probability ``lost`` within ``band`` px of an edge of more than 5 % of depth.
    """

    random: ClassVar[bool] = True
    sigma: float = 0.15
    smooth: float = 2.0
    shift: float = 0.5
    band: float = 5.0
    lost: float = 0.7

    def apply(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        near = x[0]
        rows, columns = np.indices(near.shape) + rng.normal(0, self.shift, (2, *near.shape))
        moved = ndimage.map_coordinates(near, (rows, columns), order=0, mode="nearest")
        noise = ndimage.gaussian_filter(rng.normal(size=near.shape), self.smooth)
        noisy = moved + noise * (self.sigma / 64 / max(noise.std(), 1e-9))
        steps = np.rint(np.maximum(noisy, 0) * 64 * 32) / (64 * 32)
        high, low = ndimage.maximum_filter(near, 3), ndimage.minimum_filter(near, 3)
        reach = ndimage.distance_transform_edt(high <= 1.05 * low)
        clump = ndimage.gaussian_filter(rng.normal(size=near.shape), 2.0)
        hole = (reach < self.band) & (clump < np.quantile(clump, self.lost))
        return np.where(hole | (near <= 0), 0, steps)[None].astype(np.float32)


def pattern(height: int, width: int, pitch: float = 8.0) -> np.ndarray:
    """The projector's dots (H, W) in [0, 1], always the same: one in every cell of ``pitch`` px, its place random."""
    rng = np.random.default_rng(435)
    rows, columns = np.meshgrid(np.arange(0, height, pitch), np.arange(0, width, pitch), indexing="ij")
    place = np.stack([rows, columns]) + rng.uniform(0, 0.85 * pitch, (2, *rows.shape))
    inside = (place[0] < height - 1) & (place[1] < width - 1)
    dots = np.zeros((height, width), np.float32)
    np.add.at(dots, tuple(place[:, inside].astype(int)), rng.uniform(0.6, 1.0, inside.sum()).astype(np.float32))
    dots = ndimage.gaussian_filter(dots, 1.0)
    return dots / dots.max()


@njit(cache=True, nogil=True)
def _grain(x, y, z):
    """Value noise in [0, 1] on the unit lattice (Perlin 1985), linear between the nodes."""
    a, b, c = math.floor(x), math.floor(y), math.floor(z)
    u, v, w = x - a, y - b, z - c
    total = 0.0
    for i in range(2):
        for j in range(2):
            for k in range(2):
                h = np.uint32(int(a + i) * 73856093 ^ int(b + j) * 19349663 ^ int(c + k) * 83492791)
                h = np.uint32((h ^ (h >> np.uint32(13))) * np.uint32(1274126177))
                weight = (u if i else 1 - u) * (v if j else 1 - v) * (w if k else 1 - w)
                total += weight * ((h >> np.uint32(8)) & np.uint32(65535)) / 65535.0
    return total


@njit(cache=True, nogil=True)
def _shade(depth, seen, kind, centre, axes, half, surface, eye, focal, light, ambient, power, lamp, lit, dots):
    """Light (H, W) an imager at ``eye`` receives: albedo · (ambient + dots · cos θ / Z²), with the dots' shadow."""
    height, width = depth.shape
    out = np.zeros((height, width), np.float32)
    for row in range(height):
        for column in range(width):
            n, z = seen[row, column], depth[row, column]
            if n < 0:
                continue
            ray = np.array([(column + 0.5 - width / 2) / focal, (row + 0.5 - height / 2) / focal, 1.0])
            point = eye + z * ray
            local = np.empty(3)
            for a in range(3):
                local[a] = np.dot(axes[n, a], point - centre[n])
            if kind[n] == 0:
                face = np.argmax(np.abs(local) / half[n])
                normal = axes[n, face] * np.sign(local[face])
            else:
                normal = np.zeros(3)
                for a in range(3):
                    normal = normal + axes[n, a] * local[a] / half[n, a] ** 2
                normal = normal / np.linalg.norm(normal)
            albedo, contrast, size, shine = surface[n]
            if contrast > 0:
                # What is finer than a pixel averages out.
                contrast *= min(1.0, 0.7 * size * focal / z)
                fine = _grain(local[0] / size + 7 * n, local[1] / size, local[2] / size)
                coarse = _grain(local[0] / size / 5, local[1] / size / 5 + 3 * n, local[2] / size / 5)
                albedo *= 1 - contrast + contrast * (fine + coarse)
            back = -ray / np.linalg.norm(ray)
            bright = ambient * (0.35 + 0.65 * max(0.0, np.dot(normal, light)))
            beam = point - lamp
            far = np.linalg.norm(beam)
            beam = beam / far
            cosine = -np.dot(normal, beam)
            u, v = focal * (point[0] - lamp[0]) / point[2] + width / 2, focal * point[1] / point[2] + height / 2
            dot = 0.0
            i, j = int(v - 0.5), int(u - 0.5)
            if cosine > 0 and 0 <= i < height - 1 and 0 <= j < width - 1:
                if point[2] < max(lit[i, j], lit[i + 1, j + 1], lit[i + 1, j], lit[i, j + 1]) * 1.005 + 0.003:
                    p, q = v - 0.5 - i, u - 0.5 - j
                    dot = (1 - p) * ((1 - q) * dots[i, j] + q * dots[i, j + 1])
                    dot += p * ((1 - q) * dots[i + 1, j] + q * dots[i + 1, j + 1])
                    dot *= power / far**2
            value = albedo * (1 - shine) * (bright + dot * max(cosine, 0.0))
            if shine > 0:
                lobe = max(0.0, np.dot(normal, (back + light) / np.linalg.norm(back + light))) ** 60
                mirror = max(0.0, np.dot(normal, (back - beam) / np.linalg.norm(back - beam))) ** 60
                value += shine * (3 * ambient * lobe + dot * mirror)
            out[row, column] = value
    return out


def match(left: np.ndarray, right: np.ndarray, disparities: int = 64, unique: float = 0.01) -> np.ndarray:
    """Disparity (H, W) float32 px of a rectified pair (H, W), 0 a hole: what a stereo camera's chip computes.

    Census transform 9 × 7 (Zabih and Woodfill 1994), costs summed over 7 × 7 pixels, left-right check, uniqueness,
    a parabola between whole pixels, and patches of fewer than 60 pixels removed.
    """
    if left.shape != right.shape or left.ndim != 2:
        raise UnveilError(f"a stereo pair is two gray pictures of one size, not {left.shape} and {right.shape}")
    found = _search(_census(left), _census(right), disparities, unique)
    _despeckle(found, 1.0, 60)
    return found


def _census(picture: np.ndarray) -> np.ndarray:
    """One bit for each of the 62 pixels around that is darker (H, W) uint64."""
    height, width = picture.shape
    padded = np.pad(picture, ((3, 3), (4, 4)), mode="edge")
    code = np.zeros((height, width), np.uint64)
    for i in range(7):
        for j in range(9):
            if (i, j) != (3, 4):
                code = code << np.uint64(1) | (padded[i : i + height, j : j + width] < picture)
    return code


@njit(cache=True, nogil=True)
def _ones(x):
    """Bits set in a uint64, written so that the compiler makes one instruction of it."""
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (x * np.uint64(0x0101010101010101)) >> np.uint64(56)


@njit(cache=True, nogil=True)
def _search(left, right, disparities, unique):
    height, width = left.shape
    radius, worst = 3, 62
    ring = np.zeros((2 * radius + 1, disparities, width), np.int32)
    column = np.zeros((disparities, width), np.int32)
    cost = np.empty((disparities, width), np.int32)
    found = np.zeros((height, width), np.float32)
    best, other = np.empty(width, np.int32), np.empty(width, np.int32)
    for row in range(-radius, height):
        new = min(row + radius, height - 1)
        slot = (row + radius) % (2 * radius + 1)
        for d in range(disparities):
            for x in range(width):
                value = np.int32(_ones(left[new, x] ^ right[new, x - d])) if x >= d else np.int32(worst)
                column[d, x] += value - ring[slot, d, x]
                ring[slot, d, x] = value
        if row < 0:
            continue
        for d in range(disparities):
            total = np.int32(0)
            for x in range(-radius, width):
                total += column[d, min(x + radius, width - 1)]
                if x > radius:
                    total -= column[d, x - radius - 1]
                if x >= 0:
                    cost[d, x] = total
        for x in range(width):
            best[x] = other[x] = 0
            for d in range(1, disparities):
                if cost[d, x] < cost[best[x], x]:
                    best[x] = d
                if x + d < width and cost[d, x + d] < cost[other[x], x + other[x]]:
                    other[x] = d
        for x in range(width):
            d = best[x]
            if d < 1 or d >= disparities - 1 or x < d + 4 or abs(other[x - d] - d) > 1:
                continue
            lowest = cost[d, x]
            accepted = lowest < 0.4 * worst * 49
            for e in range(disparities):
                if abs(e - d) > 1 and cost[e, x] < lowest * (1 + unique):
                    accepted = False
            if accepted:
                before, after = cost[d - 1, x], cost[d + 1, x]
                bend = before + after - 2 * lowest
                found[row, x] = d + (0.5 * (before - after) / bend if bend > 0 else 0.0)
    return found


@njit(cache=True, nogil=True)
def _despeckle(disparity, step, smallest):
    """Set connected patches of fewer than ``smallest`` pixels to 0; neighbours differ by at most ``step``."""
    height, width = disparity.shape
    done = np.zeros((height, width), np.bool_)
    queue = np.empty((height * width, 2), np.int64)
    for row in range(height):
        for column in range(width):
            if done[row, column] or disparity[row, column] <= 0:
                continue
            done[row, column] = True
            queue[0] = row, column
            first, last = 0, 1
            while first < last:
                i, j = queue[first]
                first += 1
                for side in range(4):
                    a, b = i + (side == 1) - (side == 0), j + (side == 3) - (side == 2)
                    if 0 <= a < height and 0 <= b < width and not done[a, b] and disparity[a, b] > 0:
                        if abs(disparity[a, b] - disparity[i, j]) <= step:
                            done[a, b] = True
                            queue[last] = a, b
                            last += 1
            if last < smallest:
                for k in range(last):
                    disparity[queue[k, 0], queue[k, 1]] = 0
