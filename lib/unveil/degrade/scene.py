"""Procedural rooms for a depth camera: what is there, and what an imager sees of it.

A scene is a list of bodies, each a unit cube or unit ball under a rotation and a scaling, in the frame of the left
imager: metres, x right, y down, z forward. Rooms, tables, shelves, poles, plants and balls are made of these two.
The ray caster walks over a body's screen rectangle only, so that a frame costs tenths of a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

BOX, BALL = 0, 1
NOTHING = np.float32(1e6)
"""Depth where a ray meets no body, in metres."""


@dataclass(frozen=True)
class Scene:
    """Bodies (N), in the left imager's frame, and the light that falls on them.

    ``kind`` BOX or BALL; ``centre`` (N, 3) m; ``axes`` (N, 3, 3) rotations, rows are a body's axes; ``half`` (N, 3)
    half sizes in m; ``surface`` (N, 4): albedo, contrast of the texture, its size in m, share reflected as by a mirror;
    ``light`` (3,) towards the lamp; ``ambient`` infrared light of the room.
    """

    kind: np.ndarray
    centre: np.ndarray
    axes: np.ndarray
    half: np.ndarray
    surface: np.ndarray
    light: np.ndarray
    ambient: float


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation matrix (3, 3) about y, then x, then z, radians."""
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    return np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]]) @ about_x @ about_y


class _Builder:
    """Collects the bodies of a room that stands upright; ``finish`` turns it into the camera's frame."""

    def __init__(self, rng: np.random.Generator):
        self.rng, self.bodies = rng, []

    def surface(self, dark: float = 0.2) -> tuple[float, float, float, float]:
        """One material: ``dark`` of them dark, a fifth without texture, a tenth shiny."""
        rng = self.rng
        albedo = rng.uniform(0.03, 0.12) if rng.random() < dark else rng.uniform(0.15, 0.95)
        contrast = 0.0 if rng.random() < 0.2 else rng.uniform(0.05, 0.8)
        shine = rng.uniform(0.5, 0.98) if rng.random() < 0.1 else 0.0
        return albedo, contrast, 10 ** rng.uniform(-2.6, -0.9), shine

    def add(self, kind, centre, half, turn=None, surface=None) -> None:
        turn = np.eye(3) if turn is None else turn
        self.bodies.append((kind, centre, turn, half, surface or self.surface()))

    def room(self, floor: float) -> float:
        """Floor, back wall at 0.75 to 5.25 m and perhaps slanted, side walls, ceiling; returns the wall's distance."""
        rng = self.rng
        back = 0.75 * 7 ** (rng.random() ** 1.8)
        slant = rotation(rng.normal(0, 0.35), 0, 0)
        self.add(BOX, (0, floor + 0.05, 4), (12, 0.05, 12), None, self.surface(0.08))
        self.add(BOX, (0, 0, back + 0.05), (14, 8, 0.05), slant, self.surface(0.08))
        for side in (-1, 1):
            if rng.random() < 0.7:
                self.add(BOX, (side * rng.uniform(1.0, 3.5), 0, 3), (0.05, 8, 8), rotation(rng.normal(0, 0.1), 0, 0))
        if rng.random() < 0.7:
            self.add(BOX, (0, floor - rng.uniform(2.3, 3.0), 3), (12, 0.05, 12))
        return back

    def thing(self, x: float, y: float, z: float) -> None:
        """A piece of furniture, a plant or clutter with its middle near (x, y, z)."""
        rng = self.rng
        turn = rotation(rng.uniform(-math.pi, math.pi), 0, 0)
        what = rng.choice(["box", "tilted", "ball", "table", "shelf", "poles", "plant", "board"])
        size = rng.uniform(0.06, 0.3, 3)
        if what == "box":
            self.add(BOX, (x, y, z), size, turn)
        elif what == "tilted":
            self.add(BOX, (x, y, z), size * rng.uniform(0.15, 1, 3), rotation(*rng.uniform(-math.pi, math.pi, 3)))
        elif what == "ball":
            self.add(BALL, (x, y, z), size, rotation(*rng.uniform(-math.pi, math.pi, 3)))
        elif what == "table":
            surface, (a, b) = self.surface(), rng.uniform(0.25, 0.7, 2)
            self.add(BOX, (x, y, z), (a, 0.015, b), turn, surface)
            for i, k in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
                leg = np.array([i * (a - 0.04), 0.36, k * (b - 0.04)]) @ turn
                self.add(BOX, np.array([x, y, z]) + leg, (0.018, 0.35, 0.018), turn, surface)
        elif what == "shelf":
            surface, count, width = self.surface(), rng.integers(4, 12), rng.uniform(0.006, 0.03)
            step, long, upright = rng.uniform(2.5, 5) * width, rng.uniform(0.2, 0.6), rng.random() < 0.5
            turn = rotation(rng.uniform(-0.7, 0.7), 0, 0)
            for i in range(count):
                at = (i - count / 2) * step
                half = (width, long, 0.02) if upright else (long, width, 0.02)
                place = np.array([at, 0, 0] if upright else [0, at, 0]) @ turn
                self.add(BOX, np.array([x, y, z]) + place, half, turn, surface)
        elif what == "poles":
            for _ in range(rng.integers(1, 5)):
                thick = rng.uniform(0.003, 0.02)
                place = np.array([x, y, z]) + rng.normal(0, 0.15, 3)
                lean = rotation(0, *rng.normal(0, 0.25, 2)) if rng.random() < 0.6 else rotation(*rng.uniform(-3, 3, 3))
                self.add(rng.choice([BOX, BALL]), place, (thick, rng.uniform(0.3, 1.2), thick), lean)
        elif what == "plant":
            surface = (rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.5), 0.01, rng.choice([0, 0.4]))
            for _ in range(rng.integers(10, 26)):
                leaf = rng.uniform(0.02, 0.09) * np.array([1, rng.uniform(0.3, 0.8), 0.03])
                place = np.array([x, y, z]) + rng.normal(0, 0.14, 3)
                self.add(BALL, place, leaf, rotation(*rng.uniform(-3, 3, 3)), surface)
        else:
            half = (rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.6), 0.01)
            self.add(BOX, (x, y, z), half, rotation(rng.uniform(-1.2, 1.2), rng.normal(0, 0.5), 0))

    def finish(self, view: np.ndarray) -> Scene:
        kind, centre, turn, half, surface = (np.array(column) for column in zip(*self.bodies, strict=True))
        centre, turn = centre @ view.T, turn @ view.T
        # A stereo camera sees nothing nearer than its largest disparity: clear the space before it, but for the walls.
        front = centre[:, 2] - (np.abs(turn[:, :, 2]) * half).sum(axis=1)
        kept = (front > 0.4) | (half.max(axis=1) > 5)
        light = np.array([self.rng.normal(0, 0.5), -1.0, self.rng.normal(0, 0.5)]) @ view.T
        return Scene(
            kind[kept].astype(np.int64),
            *(column[kept].astype(np.float64) for column in (centre, turn, half, surface)),
            light / np.linalg.norm(light),
            float(10 ** self.rng.uniform(-2.0, -0.3)),
        )


def room(rng: np.random.Generator) -> Scene:
    """A random room with 12 to 23 things at 0.45 m to the back wall, seen by a camera held by hand or by a robot."""
    build = _Builder(rng)
    floor = rng.uniform(0.25, 0.8)
    back = build.room(floor)
    for _ in range(rng.integers(12, 24)):
        z = math.exp(rng.uniform(math.log(0.5), math.log(max(0.7, min(back, 1.8)))))
        x, y = z * rng.uniform(-1.0, 1.0), z * rng.uniform(-0.6, 0.6)
        build.thing(x, min(y, floor - 0.05), z)
    return build.finish(rotation(rng.normal(0, 0.1), rng.normal(-0.12, 0.15), rng.normal(0, 0.05)))


@njit(cache=True, nogil=True)
def cast(kind, centre, axes, half, eye, focal, height, width):
    """Depth (H, W) m and index of the body seen (H, W) from a pinhole at ``eye`` that looks along z; -1 is none."""
    depth = np.full((height, width), NOTHING, np.float32)
    seen = np.full((height, width), -1, np.int32)
    for n in range(len(kind)):
        top, bottom, left, right = height, -1, width, -1
        behind = False
        for corner in range(8):
            p = centre[n] - eye
            for a in range(3):
                p = p + axes[n, a] * half[n, a] * (1.0 if corner >> a & 1 else -1.0)
            if p[2] < 0.02:
                behind = True
            else:
                u, v = focal * p[0] / p[2] + width / 2, focal * p[1] / p[2] + height / 2
                left, right = min(left, int(max(u, 0))), max(right, int(min(u, width - 1.0)))
                top, bottom = min(top, int(max(v, 0))), max(bottom, int(min(v, height - 1.0)))
        if behind:
            top, bottom, left, right = 0, height - 1, 0, width - 1
        o = np.empty(3)
        for a in range(3):
            o[a] = np.dot(axes[n, a], eye - centre[n]) / half[n, a]
        for row in range(top, bottom + 1):
            y = (row + 0.5 - height / 2) / focal
            for column in range(left, right + 1):
                x = (column + 0.5 - width / 2) / focal
                near, far, oo, od, dd = 0.02, 1e9, 0.0, 0.0, 0.0
                for a in range(3):
                    d = (axes[n, a, 0] * x + axes[n, a, 1] * y + axes[n, a, 2]) / half[n, a]
                    if kind[n] == 0:
                        inverse = 1.0 / (d if abs(d) > 1e-12 else 1e-12)
                        one, two = (-1.0 - o[a]) * inverse, (1.0 - o[a]) * inverse
                        near, far = max(near, min(one, two)), min(far, max(one, two))
                    else:
                        oo, od, dd = oo + o[a] * o[a], od + o[a] * d, dd + d * d
                if kind[n] == 1:
                    root = od * od - dd * (oo - 1.0)
                    if root <= 0.0:
                        continue
                    near = (-od - math.sqrt(root)) / dd
                    far = 1e9 if near > 0.02 else 0.0
                if near < far and near < depth[row, column]:
                    depth[row, column] = near
                    seen[row, column] = n
    return depth, seen
