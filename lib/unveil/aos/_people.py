"""The people of the built-in forest: capsules whose surface is sampled as a cloud of points.

Limbs are in life-size metres before `scale`, x forward, z up, at the origin. Positions and rotations are those of
``Parameters.txt``, which counts x and y against this package's y and x; this also turns the sense of the rotation.
"""

from __future__ import annotations

import numpy as np

from unveil.aos._forest import Light
from unveil.aos.parameters import POSES

SPACING = 0.015  # m between surface points
GRAY = (222.0, 238.0)  # gray level of a body lit at COSINE
SHADE, COSINE = 26.0, 0.8  # gray levels per unit of cosine to the sun
WARMER = {"body": 0.0, "extremity": 8.0, "head": 12.0}  # gray levels
NOISE = 5.0  # gray levels per surface point
RANGE = (190, 255)  # gray levels
REACH = 10  # m from the centre, both ways


def person(
    rng: np.random.Generator, pose: str, light: Light, scales: tuple[float, float], grays: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, tuple[int, int], float]:
    """A person drawn at random, times life size and with gray levels added as the ranges say.

    Returns surface points (n, 3) in metres, their gray (n,) uint8, position and rotation in degrees.
    """
    position = (int(rng.integers(-REACH, REACH + 1)), int(rng.integers(-REACH, REACH + 1)))
    degrees = float(rng.integers(0, 360))
    scale, base = rng.uniform(*scales), rng.uniform(*GRAY) + rng.uniform(*grays)
    draw, girth = FIGURES[pose]
    points, normals, warmth = body(draw(rng), girth)
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    to_world = np.array([[-s, -c, 0], [-c, s, 0], [0, 0, 1]])
    points, normals = (points * scale) @ to_world.T + [-position[1], -position[0], 0], normals @ to_world.T
    gray = base + SHADE * (np.maximum(0, normals @ light.direction) - COSINE) + warmth
    gray += NOISE * rng.standard_normal(len(gray))
    return points, np.clip(np.rint(gray), *RANGE).astype(np.uint8), position, degrees


def body(limbs: list[tuple], girth: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Surface points (n, 3), unit normals (n, 3) and warmth (n,) in gray levels of limbs, their radii times `girth`."""
    parts = []
    for part, joints, radii in limbs:
        for k in range(len(joints) - 1):
            points, normals = _surface(joints[k], joints[k + 1], girth * radii[k], girth * radii[k + 1])
            parts.append((points, normals, np.full(len(points), WARMER[part])))
    points, normals, warmth = map(np.concatenate, zip(*parts, strict=True))
    return points, normals, warmth


def _surface(tail, head, tail_radius: float, head_radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) and unit normals (n, 3) of a capsule, about SPACING apart."""
    tail, head = np.asarray(tail, float), np.asarray(head, float)
    length, radius = np.linalg.norm(head - tail), max(tail_radius, head_radius)
    axis = (head - tail) / max(length, 1e-9)
    one = np.cross(axis, [0.0, 0.0, 1.0] if abs(axis[2]) < 0.9 else [1.0, 0.0, 0.0])
    one /= np.linalg.norm(one)
    along = np.linspace(0, 1, max(int(length / SPACING), 1) + 1)
    around = np.arange(max(int(2 * np.pi * radius / SPACING), 6))
    t, angle = (a.ravel() for a in np.meshgrid(along, around * (2 * np.pi / len(around)), indexing="ij"))
    barrel = np.cos(angle)[:, None] * one + np.sin(angle)[:, None] * np.cross(axis, one)
    widths = tail_radius + (head_radius - tail_radius) * t
    points, normals = [tail + t[:, None] * (head - tail) + widths[:, None] * barrel], [barrel]
    for end, r in ((tail, tail_radius), (head, head_radius)):
        k = np.arange(max(int(4 * np.pi * r**2 / SPACING**2), 12)) + 0.5
        z, turn = 1 - 2 * k / len(k), k * (np.pi * (1 + 5**0.5))
        ball = np.stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z], -1)
        points.append(end + r * ball)
        normals.append(ball)
    return np.concatenate(points), np.concatenate(normals)


# A figure is a list of limbs: (part, joints, radii).


def _standing(rng: np.random.Generator) -> list[tuple]:
    limbs = [
        ("body", [(0, 0, 0.95), (0, 0, 1.18)], [0.14, 0.14]),
        ("body", [(0, -0.06, 1.18), (0, -0.08, 1.38)], [0.13, 0.13]),
        ("body", [(0, 0.06, 1.18), (0, 0.08, 1.38)], [0.13, 0.13]),
        ("extremity", [(0, 0, 1.45), (0.01, 0, 1.55)], [0.06, 0.06]),
        ("head", [(0.02, 0, 1.62), (0.02, 0, 1.68)], [0.10, 0.10]),
    ]
    for side in (-1, 1):
        stride, reach, swing = rng.uniform(-0.07, 0.07), rng.uniform(0.05, 0.22), rng.uniform(-0.10, 0.15)
        knee, foot = (stride / 2 + 0.03, side * 0.10, 0.48), (stride, side * 0.11, 0.06)
        elbow, hand = (swing / 3, side * (0.22 + reach / 2), 1.12), (swing + 0.1, side * (0.24 + reach), 0.86)
        limbs += [
            ("body", [foot, knee, (0, side * 0.09, 0.92)], [0.06, 0.07, 0.09]),
            ("extremity", [foot, (stride + 0.18, side * 0.12, 0.04)], [0.05, 0.04]),
            ("body", [(0, side * 0.20, 1.40), elbow, hand], [0.055, 0.05, 0.04]),
            ("extremity", [hand, (hand[0] + 0.06, hand[1], 0.80)], [0.05, 0.04]),
        ]
    return limbs


def _sitting(rng: np.random.Generator) -> list[tuple]:
    knee, sweep, bow = rng.uniform(-0.06, 0.06), rng.uniform(-0.10, 0.10), rng.uniform(-0.05, 0.06)
    nape, thigh, foot = -0.08 + bow, (0.45, 0.16 + sweep / 2, 0.12 + abs(knee)), (0.80, 0.22 + sweep, 0.07)
    limbs = [
        ("body", [(0, 0, 0.13), (-0.06, 0, 0.36), (-0.10 + bow, -0.08, 0.58)], [0.14, 0.13, 0.12]),
        ("body", [(0, 0, 0.13), (-0.06, 0, 0.36), (-0.10 + bow, 0.08, 0.58)], [0.14, 0.13, 0.12]),
        ("body", [(0.05, 0.09, 0.12), thigh, foot], [0.085, 0.065, 0.045]),
        ("extremity", [foot, (0.92, 0.25 + sweep, 0.09)], [0.05, 0.05]),
        ("body", [(0.05, -0.09, 0.12), (0.36 + knee, -0.34, 0.16), (0.20, 0.0, 0.07)], [0.085, 0.065, 0.045]),
        ("extremity", [(0.20, 0.0, 0.07), (0.28, 0.06, 0.06)], [0.05, 0.05]),
        ("body", [(-0.10, 0.20, 0.62), (-0.26, 0.34 + sweep / 2, 0.36), (-0.40, 0.40, 0.06)], [0.055, 0.05, 0.04]),
        ("extremity", [(-0.40, 0.40, 0.06), (-0.45, 0.43, 0.04)], [0.045, 0.04]),
        ("body", [(-0.08, -0.20, 0.62), (0.08, -0.36 + knee, 0.40), (0.28, -0.32, 0.26)], [0.055, 0.05, 0.04]),
        ("extremity", [(0.28, -0.32, 0.26), (0.35, -0.30, 0.24)], [0.045, 0.04]),
        ("extremity", [(-0.10 + bow, 0, 0.66), (nape, 0, 0.74)], [0.06, 0.06]),
        ("head", [(nape, 0, 0.80), (nape + 0.02, 0, 0.85)], [0.10, 0.10]),
    ]
    mirror = rng.choice((-1.0, 1.0))
    return [(part, [(0.84 * x, 0.84 * mirror * y, z) for x, y, z in joints], radii) for part, joints, radii in limbs]


def _laying(rng: np.random.Generator) -> list[tuple]:
    limbs = [
        ("body", [(-0.02, 0, 0.12), (0.22, 0, 0.12)], [0.13, 0.11]),
        ("body", [(0.20, -0.03, 0.12), (0.44, -0.08, 0.12)], [0.11, 0.09]),
        ("body", [(0.20, 0.03, 0.12), (0.44, 0.08, 0.12)], [0.11, 0.09]),
        ("extremity", [(0.52, 0, 0.12), (0.60, 0, 0.12)], [0.06, 0.06]),
        ("head", [(0.66, 0, 0.13), (0.74, 0, 0.13)], [0.10, 0.10]),
    ]
    for side in (-1, 1):
        spread, bend, lift = rng.uniform(0.03, 0.14), rng.uniform(0.0, 0.16), rng.uniform(-0.02, 0.10)
        hip, knee = (-0.04, side * 0.09, 0.12), (-0.45, side * (0.11 + spread / 2 + bend), 0.11)
        ankle, elbow = (-0.84, side * (0.10 + spread), 0.07), (0.20 + lift, side * (0.27 + bend), 0.09)
        hand = (-0.04 + lift, side * (0.30 - bend), 0.08)
        limbs += [
            ("body", [hip, knee, ankle], [0.085, 0.06, 0.042]),
            ("extremity", [ankle, (-0.96, ankle[1] + side * 0.03, 0.09)], [0.05, 0.05]),
            ("body", [(0.44, side * 0.15, 0.11), elbow, hand], [0.05, 0.042, 0.035]),
            ("extremity", [hand, (hand[0] - 0.08, hand[1], 0.08)], [0.05, 0.045]),
        ]
    return limbs


# How each pose is drawn, and the factor on its radii with which areas are the course's.
FIGURES = dict(zip(POSES, ((_laying, 0.68), (_sitting, 0.83), (_standing, 0.93)), strict=False))
