"""The built-in forest: simulated flights over people among trees, in the files of the course.

A **run** is a `Scene` (warm ground and perhaps a person) seen through a `Forest` by the course rig; the truth is the
scene alone. ``simulate_run`` makes one in memory, ``simulate`` writes many straight into ZIP archives. Everything
random about run r comes from ``SeedSequence([seed, r])``, so a run does not depend on the others, on their order or on
the number of workers.

The frame is that of `unveil.aos._forest` (metres, z up); positions in ``Parameters.txt`` are (y, x) with both signs
turned, like the course's camera lines.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from unveil import workers as pump
from unveil.aos import parameters
from unveil.aos._forest import (
    CENTER,
    MAX_DENSITY,
    Forest,
    Light,
    Scene,
    Species,
)
from unveil.aos.archives import Run
from unveil.aos.camera import ALTITUDE, FOCAL, SIZE
from unveil.aos.parameters import Parameters
from unveil.errors import UnveilError

__all__ = [
    "COURSE",
    "SIZE",
    "Forest",
    "Light",
    "Scene",
    "Species",
    "Variation",
    "simulate",
    "simulate_run",
    "simulate_scene",
    "stratum",
]

# ---- which runs there are ------------------------------------------------------------------------------------------
POSES = ("laying", "sitting", "idle", "none")
POSE_CYCLE = ("laying", "sitting", "idle") * 3 + ("none",)
DENSITY_CYCLE = (100, 200) * 4 + (0, 100) + (200, 100) * 4 + (0, 200)  # trees per hectare
DENSITIES = (0, 100, 200)
# ---- ground --------------------------------------------------------------------------------------------------------
TILE = 32  # texels of the ground's texture, which repeats every metre
TILE_COLUMNS, TILE_ROWS, TILE_NOISE = 0.75, 0.35, 1.5  # gray levels, standard deviations of stripes and soft noise
TILE_SOFTNESS = (0.8, 1.25)  # texels along y and x
# ---- person (lengths in life-size metres before `Variation.person_scale`) ------------------------------------------
SPACING = 0.015  # m between surface points
GIRTH = {"idle": 0.93, "sitting": 0.83, "laying": 0.68}  # factor on the radii below, so that areas are the course's
PERSON_GRAY = (222.0, 238.0)  # gray level of a body lit at PERSON_COSINE
PERSON_SHADE, PERSON_COSINE = 26.0, 0.8  # gray levels per unit of cosine to the sun
WARMER = {"body": 0.0, "extremity": 8.0, "head": 12.0}  # gray levels
PERSON_NOISE = 5.0  # gray levels per surface point
PERSON_RANGE = (190, 255)  # gray levels
PERSON_REACH = 10  # m from the centre, both ways
# ---- archives ------------------------------------------------------------------------------------------------------
TIMESTAMP = (2022, 1, 1, 0, 0, 0)  # of every member, so that archives are byte-identical
PNG_LEVEL = 1  # zlib's fastest
RUNS_PER_ARCHIVE = 100
RUNS_PER_WORKER = 4  # fewer are not worth the start of a process


@dataclass(frozen=True)
class Variation:
    """The ranges that a run draws its parameters from, as (low, high); the default is the course's.

    density: trees per hectare, None for the strata's · ground_kelvin, tree_kelvin: whole kelvins ·
    trunk_kelvin · ambient: 0…1 · azimuth, compass: whole degrees of the sun from the zenith and around it ·
    ground_albedo · persons: how many · person_scale: times life size · person_gray: gray levels added to the person's ·
    pattern: factor on the ground's texture · noise: gray levels, standard deviation of a sensor noise in every view.
    """

    density: tuple[int, int] | None = None
    ground_kelvin: tuple[int, int] = (260, 312)
    tree_kelvin: tuple[int, int] = (295, 312)
    trunk_kelvin: tuple[float, float] = (290.0, 290.0)
    ambient: tuple[float, float] = (0.3, 1.0)
    azimuth: tuple[int, int] = (0, 60)
    compass: tuple[int, int] = (0, 359)
    ground_albedo: tuple[float, float] = (0.06, 0.14)
    persons: tuple[int, int] = (1, 1)
    person_scale: tuple[float, float] = (2.0, 2.0)
    person_gray: tuple[float, float] = (0.0, 0.0)
    pattern: tuple[float, float] = (1.0, 1.0)
    noise: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for field in fields(self):
            limits = getattr(self, field.name)
            if limits is not None and (len(limits) != 2 or limits[0] > limits[1]):
                raise UnveilError(f"variation {field.name}={limits!r} is no range: give (low, high)")


COURSE = Variation()


def stratum(index: int, balanced: bool = False) -> tuple[str, int]:
    """Pose and density (trees per hectare) of a run.

    The default mixture repeats every 200 runs: 30 % laying, 30 % sitting, 30 % idle, 10 % none; 10 % without trees and
    the others half and half with 100 and 200 per hectare, independent of the pose. ``balanced`` gives the 12
    combinations of 4 poses and 3 densities in turn instead, for test sets.
    """
    if balanced:
        return POSES[index % 4], DENSITIES[index // 4 % 3]
    place = index % 10
    return POSE_CYCLE[place], DENSITY_CYCLE[(index // 10 + 7 * place) % 20]


def simulate_run(
    seed: int,
    index: int,
    density: int | None = None,
    pose: str | None = None,
    variation: Variation = COURSE,
    batch: int = 0,
    **vary: tuple[float, float] | None,
) -> Run:
    """One run: views (11, 512, 512) uint8, truth (512, 512) uint8 and its parameters.

    density: 0–300 trees per hectare and pose: laying, sitting, idle or none; by default those of ``stratum(index)``.
    Further keywords replace single ranges of `variation`, as in ``simulate_run(0, 3, noise=(0, 2))``.
    """
    scene, forest, described, noise, rng = _prepare(seed, index, density, pose, replace(variation, **vary))
    views, truth = forest.occlude(scene), scene.truth()
    if noise > 0:
        shaken = views + noise * rng.standard_normal(views.shape, np.float32)
        views = np.clip(np.rint(shaken), 0, 255).astype(np.uint8)
    return Run(id=f"{batch}_{index}", views=views, truth=truth, parameters=described)


def simulate_scene(
    seed: int, index: int, density: int | None = None, pose: str | None = None, variation: Variation = COURSE
) -> tuple[Scene, Forest]:
    """The same run before the flight: its scene and its forest, for ``forest.occlude(scene)``."""
    return _prepare(seed, index, density, pose, variation)[:2]


def _prepare(
    seed: int, index: int, density: int | None, pose: str | None, variation: Variation
) -> tuple[Scene, Forest, Parameters, float, np.random.Generator]:
    rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
    usual_pose, usual_density = stratum(index)
    pose = usual_pose if pose is None else pose
    drawn = usual_density if variation.density is None else _whole(rng, variation.density)
    density = drawn if density is None else density
    if pose not in POSES:
        raise UnveilError(f"pose {pose!r} is not known: choose one of {', '.join(POSES)}")
    if not 0 <= density <= MAX_DENSITY:
        raise UnveilError(f"density {density} is out of range: choose 0 to {MAX_DENSITY} trees per hectare")

    ground_kelvin, tree_kelvin = _whole(rng, variation.ground_kelvin), _whole(rng, variation.tree_kelvin)
    light = Light(rng.uniform(*variation.ambient), _whole(rng, variation.azimuth), _whole(rng, variation.compass))
    level = light.gray(ground_kelvin, rng.uniform(*variation.ground_albedo), light.direction[2])
    ground = _ground(rng, level, rng.uniform(*variation.pattern))
    people = [
        _person(rng, pose, light, variation) for _ in range(0 if pose == "none" else _whole(rng, variation.persons))
    ]
    points = np.concatenate([p[0] for p in people]) if people else np.zeros((0, 3))
    gray = np.concatenate([p[1] for p in people]) if people else np.zeros(0, np.uint8)
    noise = rng.uniform(*variation.noise)
    forest = Forest.grow(rng, density, light, tree_kelvin, rng.uniform(*variation.trunk_kelvin))
    position, degrees = people[0][2:] if people else (None, None)
    turn = None if degrees is None else float(np.radians(degrees))
    described = Parameters(
        density=int(density),
        pose=pose if people else "none",
        position=None if position is None else (*position, 0, 0, 0, float(f"{_wrapped(turn):.6g}")),
        rotation_rad=turn,
        rotation_deg=degrees,
        ambient=light.ambient,
        azimuth_deg=float(light.azimuth),
        compass_deg=float(light.compass),
        ground_kelvin=ground_kelvin,
        tree_kelvin=tree_kelvin,
    )
    return Scene(ground, points, gray), forest, described, noise, rng


def _whole(rng: np.random.Generator, limits: tuple[float, float]) -> int:
    return int(rng.integers(int(limits[0]), int(limits[1]) + 1))


def _wrapped(angle: float) -> float:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _ground(rng: np.random.Generator, level: float, pattern: float) -> np.ndarray:
    """Ground (SIZE, SIZE) uint8: one level and a faint tile of 1 m.

    Cameras stand whole metres apart, so all see the same picture.
    """

    def soft(shape: tuple[int, int]) -> np.ndarray:
        noise = gaussian_filter(rng.standard_normal(shape), TILE_SOFTNESS, mode="wrap")
        return noise / noise.std()

    tile = TILE_NOISE * soft((TILE, TILE)) + TILE_COLUMNS * soft((1, TILE)) + TILE_ROWS * soft((TILE, 1))
    tile -= tile.mean()
    place = (np.arange(SIZE) - CENTER) * (ALTITUDE / FOCAL) * TILE  # in texels
    below = np.floor(place).astype(int)
    bilinear = np.zeros((SIZE, TILE))
    bilinear[np.arange(SIZE), below % TILE] = 1 - (place - below)
    bilinear[np.arange(SIZE), (below + 1) % TILE] = place - below
    texture = bilinear @ tile @ bilinear.T
    return np.clip(np.rint(level + pattern * texture), 0, 255).astype(np.uint8)


def _limbs(rng: np.random.Generator, pose: str) -> list[tuple[str, list[tuple[float, float, float]], list[float]]]:
    """A figure as (part, joints, radii) in life-size metres, x forward, z up, at the origin."""
    if pose == "idle":
        return _standing(rng)
    return _sitting(rng) if pose == "sitting" else _laying(rng)


def _standing(rng):
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


def _sitting(rng):
    knee, sweep, bow = rng.uniform(-0.06, 0.06), rng.uniform(-0.10, 0.10), rng.uniform(-0.05, 0.06)
    head_x = -0.08 + bow
    limbs = [
        ("body", [(0, 0, 0.13), (-0.06, 0, 0.36), (-0.10 + bow, -0.08, 0.58)], [0.14, 0.13, 0.12]),
        ("body", [(0, 0, 0.13), (-0.06, 0, 0.36), (-0.10 + bow, 0.08, 0.58)], [0.14, 0.13, 0.12]),
        (
            "body",
            [(0.05, 0.09, 0.12), (0.45, 0.16 + sweep / 2, 0.12 + abs(knee)), (0.80, 0.22 + sweep, 0.07)],
            [0.085, 0.065, 0.045],
        ),
        ("extremity", [(0.80, 0.22 + sweep, 0.07), (0.92, 0.25 + sweep, 0.09)], [0.05, 0.05]),
        ("body", [(0.05, -0.09, 0.12), (0.36 + knee, -0.34, 0.16), (0.20, 0.0, 0.07)], [0.085, 0.065, 0.045]),
        ("extremity", [(0.20, 0.0, 0.07), (0.28, 0.06, 0.06)], [0.05, 0.05]),
        ("body", [(-0.10, 0.20, 0.62), (-0.26, 0.34 + sweep / 2, 0.36), (-0.40, 0.40, 0.06)], [0.055, 0.05, 0.04]),
        ("extremity", [(-0.40, 0.40, 0.06), (-0.45, 0.43, 0.04)], [0.045, 0.04]),
        ("body", [(-0.08, -0.20, 0.62), (0.08, -0.36 + knee, 0.40), (0.28, -0.32, 0.26)], [0.055, 0.05, 0.04]),
        ("extremity", [(0.28, -0.32, 0.26), (0.35, -0.30, 0.24)], [0.045, 0.04]),
        ("extremity", [(-0.10 + bow, 0, 0.66), (head_x, 0, 0.74)], [0.06, 0.06]),
        ("head", [(head_x, 0, 0.80), (head_x + 0.02, 0, 0.85)], [0.10, 0.10]),
    ]
    mirror = rng.choice((-1.0, 1.0))
    return [(part, [(0.84 * x, 0.84 * mirror * y, z) for x, y, z in joints], radii) for part, joints, radii in limbs]


def _laying(rng):
    limbs = [
        ("body", [(-0.02, 0, 0.12), (0.22, 0, 0.12)], [0.13, 0.11]),
        ("body", [(0.20, -0.03, 0.12), (0.44, -0.08, 0.12)], [0.11, 0.09]),
        ("body", [(0.20, 0.03, 0.12), (0.44, 0.08, 0.12)], [0.11, 0.09]),
        ("extremity", [(0.52, 0, 0.12), (0.60, 0, 0.12)], [0.06, 0.06]),
        ("head", [(0.66, 0, 0.13), (0.74, 0, 0.13)], [0.10, 0.10]),
    ]
    for side in (-1, 1):
        spread, bend, lift = rng.uniform(0.03, 0.14), rng.uniform(0.0, 0.16), rng.uniform(-0.02, 0.10)
        ankle = (-0.84, side * (0.10 + spread), 0.07)
        elbow, hand = (0.20 + lift, side * (0.27 + bend), 0.09), (-0.04 + lift, side * (0.30 - bend), 0.08)
        limbs += [
            (
                "body",
                [(-0.04, side * 0.09, 0.12), (-0.45, side * (0.11 + spread / 2 + bend), 0.11), ankle],
                [0.085, 0.06, 0.042],
            ),
            ("extremity", [ankle, (-0.96, ankle[1] + side * 0.03, 0.09)], [0.05, 0.05]),
            ("body", [(0.44, side * 0.15, 0.11), elbow, hand], [0.05, 0.042, 0.035]),
            ("extremity", [hand, (hand[0] - 0.08, hand[1], 0.08)], [0.05, 0.045]),
        ]
    return limbs


def _surface(tail, head, tail_radius: float, head_radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) and unit normals (n, 3) of a capsule, about SPACING apart."""
    tail, head = np.asarray(tail, float), np.asarray(head, float)
    length, radius = np.linalg.norm(head - tail), max(tail_radius, head_radius)
    axis = (head - tail) / max(length, 1e-9)
    one = np.cross(axis, [0.0, 0.0, 1.0] if abs(axis[2]) < 0.9 else [1.0, 0.0, 0.0])
    one /= np.linalg.norm(one)
    two = np.cross(axis, one)
    along = np.linspace(0, 1, max(int(length / SPACING), 1) + 1)
    around = np.arange(max(int(2 * np.pi * radius / SPACING), 6))
    t, angle = (a.ravel() for a in np.meshgrid(along, around * (2 * np.pi / len(around)), indexing="ij"))
    barrel = np.cos(angle)[:, None] * one + np.sin(angle)[:, None] * two
    widths = tail_radius + (head_radius - tail_radius) * t
    points, normals = [tail + t[:, None] * (head - tail) + widths[:, None] * barrel], [barrel]
    for end, r in ((tail, tail_radius), (head, head_radius)):
        k = np.arange(max(int(4 * np.pi * r**2 / SPACING**2), 12)) + 0.5
        z, turn = 1 - 2 * k / len(k), k * (np.pi * (1 + 5**0.5))
        ball = np.stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z], -1)
        points.append(end + r * ball)
        normals.append(ball)
    return np.concatenate(points), np.concatenate(normals)


def _person(
    rng: np.random.Generator, pose: str, light: Light, variation: Variation
) -> tuple[np.ndarray, np.ndarray, tuple[int, int], float]:
    """Surface points (n, 3) in metres, their gray (n,) uint8, position and rotation as in Parameters.txt."""
    position = (_whole(rng, (-PERSON_REACH, PERSON_REACH)), _whole(rng, (-PERSON_REACH, PERSON_REACH)))
    degrees = float(rng.integers(0, 360))
    scale, base = rng.uniform(*variation.person_scale), rng.uniform(*PERSON_GRAY) + rng.uniform(*variation.person_gray)
    points, normals, warmth, girth = [], [], [], GIRTH[pose]
    for part, joints, radii in _limbs(rng, pose):
        for k in range(len(joints) - 1):
            p, n = _surface(joints[k], joints[k + 1], girth * radii[k], girth * radii[k + 1])
            points.append(p)
            normals.append(n)
            warmth.append(np.full(len(p), WARMER[part]))
    points, normals, warmth = np.concatenate(points), np.concatenate(normals), np.concatenate(warmth)
    points *= scale
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    # Parameters.txt counts x and y against this module's y and x, which also turns the sense of the rotation.
    to_world = np.array([[-s, -c, 0], [-c, s, 0], [0, 0, 1]])
    points, normals = points @ to_world.T + [-position[1], -position[0], 0], normals @ to_world.T
    gray = base + PERSON_SHADE * (np.maximum(0, normals @ light.direction) - PERSON_COSINE) + warmth
    gray += PERSON_NOISE * rng.standard_normal(len(gray))
    return points, np.clip(np.rint(gray), *PERSON_RANGE).astype(np.uint8), position, degrees


def _encode(image: np.ndarray) -> bytes:
    """PNG of a gray image (H, W) uint8, unfiltered: leaves do not profit from filters, which take most of the time."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", image.shape[1], image.shape[0], 8, 0, 0, 0, 0)
    rows = np.pad(image, ((0, 0), (1, 0))).tobytes()
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows, PNG_LEVEL))
        + chunk(b"IEND", b"")
    )


def _members(seed: int, batch: int, balanced: bool, variation: Variation, index: int) -> list[tuple[str, bytes]]:
    """The 13 files of a run: (name, content), views first."""
    pose, density = stratum(index, balanced)
    run = simulate_run(seed, index, None if variation.density else density, pose, variation, batch)
    files = [(f"{run.id}_pose_{k}_thermal.png", _encode(view)) for k, view in enumerate(run.views)]
    files.append((f"{run.id}_GT_pose_0_thermal.png", _encode(run.truth)))
    files.append((f"{run.id}_Parameters.txt", parameters.to_text(run.parameters).encode()))
    return files


def _chosen(seed: int, fraction: float, salt: int, runs: int) -> set[int]:
    """About `fraction` of the runs, evenly spread, and at least one of a dozen so that samples show the case."""
    offset = np.random.default_rng(np.random.SeedSequence([seed, salt, runs])).random()
    steps = np.floor(np.arange(runs + 1) * fraction + offset)
    chosen = set(np.flatnonzero(np.diff(steps) > 0).tolist())
    return chosen or ({int(offset * runs)} if fraction > 0 and runs >= 12 else set())


def simulate(
    out_dir: str | os.PathLike,
    runs: int,
    seed: int = 0,
    workers: int | None = None,
    incomplete: float = 0.028,
    split: float = 0.03,
    runs_per_archive: int | None = None,
    batch: int = 0,
    balanced: bool = False,
    variation: Variation = COURSE,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Writes `runs` simulated flights as ZIP archives in the course's layout; returns their paths.

    incomplete: fraction of the runs that lack one to three of their 13 files on purpose · split: fraction of the others
    whose files lie in two archives · runs_per_archive: by default three archives are made, or more of 100 runs ·
    balanced: see `stratum` · progress(done, runs) is called after every run.

    An archive appears under its name only when it is whole; its bytes depend on the arguments and on nothing else,
    workers included. Raises UnveilError where the folder cannot be written or holds other archives of the batch.
    """
    if runs_per_archive is None:
        runs_per_archive = min(RUNS_PER_ARCHIVE, max(1, -(-runs // 3)))
    if runs < 1 or runs_per_archive < 1:
        raise UnveilError(f"{runs} runs, {runs_per_archive} per archive: ask for at least one of each")
    out = Path(out_dir)
    count = -(-runs // runs_per_archive)
    paths = [out / f"batch_{batch}_{k + 1:03d}.zip" for k in range(count)]
    try:
        out.mkdir(parents=True, exist_ok=True)
        foreign = sorted(set(out.glob(f"batch_{batch}_*.zip")) - set(paths))
    except OSError as error:
        raise UnveilError(f"cannot write to {out}: {error.strerror}; choose another folder") from None
    if foreign:
        raise UnveilError(f"{foreign[0]} is of another simulation of batch {batch}: choose another folder or batch")

    lacking = _chosen(seed, incomplete, 1, runs)
    whole = [index for index in range((count - 1) * runs_per_archive) if index not in lacking]
    parted = {whole[k] for k in _chosen(seed, split, 2, len(whole))}
    members = partial(_members, seed, batch, balanced, variation)
    workers = max(1, min(workers or os.cpu_count() or 1, runs // RUNS_PER_WORKER))
    carried: list[tuple[str, bytes]] = []
    with closing(pump.in_order(members, range(runs), workers, processes=True)) as results:
        for number, path in enumerate(paths):
            part = path.with_name(path.name + ".part")
            try:
                with zipfile.ZipFile(part, "w") as archive:
                    for name, content in carried:
                        _write(archive, batch, name, content)
                    carried = []
                    for index in range(number * runs_per_archive, min((number + 1) * runs_per_archive, runs)):
                        files = next(results)
                        choice = np.random.default_rng(np.random.SeedSequence([seed, index, 3]))
                        if index in lacking:
                            gone = choice.choice(len(files), choice.integers(1, 4), replace=False)
                            files = [file for k, file in enumerate(files) if k not in gone]
                        elif index in parted:
                            first = int(choice.integers(1, len(files)))
                            carried += files[first:]
                            files = files[:first]
                        for name, content in files:
                            _write(archive, batch, name, content)
                        if progress:
                            progress(index + 1, runs)
                os.replace(part, path)
            except OSError as error:
                why = error.strerror or error
                raise UnveilError(f"cannot write {path}: {why}; free some space or choose another folder") from None
            finally:
                part.unlink(missing_ok=True)
    return paths


def _write(archive: zipfile.ZipFile, batch: int, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(f"batch_{batch}/{name}", TIMESTAMP), content)
