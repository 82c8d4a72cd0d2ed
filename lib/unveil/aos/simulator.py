"""The built-in forest: simulated flights over people among trees, in the files of the course.

A **run** is a `Scene` (warm ground and perhaps a person) seen through a `Forest` by the course rig; the truth is the
scene alone. ``simulate_run`` makes one in memory, ``simulate`` writes many straight into ZIP archives. Everything
random about run r comes from ``SeedSequence([seed, r])``, so a run does not depend on the others, on their order or on
the number of workers. The frame is that of `unveil.aos._forest`: metres, z up.
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

from unveil import files
from unveil.aos import parameters
from unveil.aos._forest import CENTER, MAX_DENSITY, Forest, Light, Scene
from unveil.aos._people import person
from unveil.aos.archives import Run
from unveil.aos.camera import ALTITUDE, FOCAL, SIZE
from unveil.aos.parameters import POSES, Parameters
from unveil.errors import UnveilError
from unveil.workers import in_order

DENSITIES = (0, 100, 200)  # trees per hectare
POSE_CYCLE = 3 * POSES[:3] + POSES[3:]
DENSITY_CYCLE = (100, 200) * 4 + (0, 100) + (200, 100) * 4 + (0, 200)
# ---- ground --------------------------------------------------------------------------------------------------------
TILE = 32  # texels of the ground's texture, which repeats every metre
TILE_COLUMNS, TILE_ROWS, TILE_NOISE = 0.75, 0.35, 1.5  # gray levels, standard deviations of stripes and soft noise
TILE_SOFTNESS = (0.8, 1.25)  # texels along y and x
# ---- archives ------------------------------------------------------------------------------------------------------
TIMESTAMP = (2022, 1, 1, 0, 0, 0)  # of every member, so that archives are byte-identical
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


def rebuild(run: Run, seed: int) -> tuple[Scene, Forest] | None:
    """Scene and forest of a run that ``simulate(…, seed)`` made; None for a run that comes from elsewhere."""
    scene, forest = simulate_scene(seed, int(run.id.split("_")[1]), run.parameters.density, run.parameters.pose)
    return (scene, forest) if np.array_equal(scene.truth(), run.truth) else None


def _prepare(
    seed: int, index: int, density: int | None, pose: str | None, variation: Variation
) -> tuple[Scene, Forest, Parameters, float, np.random.Generator]:
    rng = np.random.default_rng(np.random.SeedSequence([seed, index]))

    def whole(limits: tuple[float, float]) -> int:
        return int(rng.integers(int(limits[0]), int(limits[1]) + 1))

    usual_pose, usual_density = stratum(index)
    pose = usual_pose if pose is None else pose
    drawn = usual_density if variation.density is None else whole(variation.density)
    density = drawn if density is None else density
    if pose not in POSES:
        raise UnveilError(f"pose {pose!r} is not known: choose one of {', '.join(POSES)}")
    if not 0 <= density <= MAX_DENSITY:
        raise UnveilError(f"density {density} is out of range: choose 0 to {MAX_DENSITY} trees per hectare")

    ground_kelvin, tree_kelvin = whole(variation.ground_kelvin), whole(variation.tree_kelvin)
    light = Light(rng.uniform(*variation.ambient), whole(variation.azimuth), whole(variation.compass))
    level = light.gray(ground_kelvin, rng.uniform(*variation.ground_albedo), light.direction[2])
    ground = _ground(rng, level, rng.uniform(*variation.pattern))
    count = 0 if pose == "none" else whole(variation.persons)
    people = [person(rng, pose, light, variation.person_scale, variation.person_gray) for _ in range(count)]
    points = np.concatenate([np.zeros((0, 3)), *(one[0] for one in people)])
    gray = np.concatenate([np.zeros(0, np.uint8), *(one[1] for one in people)])
    noise = rng.uniform(*variation.noise)
    forest = Forest.grow(rng, density, light, tree_kelvin, rng.uniform(*variation.trunk_kelvin))
    position, degrees = people[0][2:] if people else (None, None)
    turn = float(np.radians(degrees)) if people else None
    described = Parameters(
        density=int(density),
        pose=pose if people else "none",
        position=(*position, 0, 0, 0, float(f"{(turn + np.pi) % (2 * np.pi) - np.pi:.6g}")) if people else None,
        rotation_rad=turn,
        rotation_deg=degrees,
        ambient=light.ambient,
        azimuth_deg=float(light.azimuth),
        compass_deg=float(light.compass),
        ground_kelvin=ground_kelvin,
        tree_kelvin=tree_kelvin,
    )
    return Scene(ground, points, gray), forest, described, noise, rng


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
    per_archive = min(RUNS_PER_ARCHIVE, max(1, -(-runs // 3))) if runs_per_archive is None else runs_per_archive
    if runs < 1 or per_archive < 1:
        raise UnveilError(f"{runs} runs, {per_archive} per archive: ask for at least one of each")
    out = Path(out_dir)
    paths = [out / f"batch_{batch}_{k + 1:03d}.zip" for k in range(-(-runs // per_archive))]
    foreign = sorted(set(out.glob(f"batch_{batch}_*.zip")) - set(paths))
    if foreign:
        raise UnveilError(f"{foreign[0]} is of another simulation of batch {batch}: choose another folder or batch")
    lacking = _chosen(seed, incomplete, 1, runs)
    whole = [index for index in range((len(paths) - 1) * per_archive) if index not in lacking]
    parted = {whole[k] for k in _chosen(seed, split, 2, len(whole))}
    workers = max(1, min(workers or os.cpu_count() or 1, runs // RUNS_PER_WORKER))
    make = partial(_members, seed=seed, batch=batch, balanced=balanced, variation=variation)
    carried: list[tuple[str, bytes]] = []
    with closing(in_order(make, range(runs), workers, processes=True)) as results:
        for number, path in enumerate(paths):
            with files.replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
                _write(archive, carried)
                carried = []
                for index in range(number * per_archive, min((number + 1) * per_archive, runs)):
                    members = next(results)
                    choice = np.random.default_rng(np.random.SeedSequence([seed, index, 3]))
                    if index in lacking:
                        gone = choice.choice(len(members), choice.integers(1, 4), replace=False)
                        members = [member for k, member in enumerate(members) if k not in gone]
                    elif index in parted:
                        first = int(choice.integers(1, len(members)))
                        carried += members[first:]
                        members = members[:first]
                    _write(archive, members)
                    if progress:
                        progress(index + 1, runs)
    return paths


def _chosen(seed: int, fraction: float, salt: int, runs: int) -> set[int]:
    """About `fraction` of the runs, evenly spread, and at least one of a dozen so that samples show the case."""
    offset = np.random.default_rng(np.random.SeedSequence([seed, salt, runs])).random()
    steps = np.floor(np.arange(runs + 1) * fraction + offset)
    chosen = set(np.flatnonzero(np.diff(steps) > 0).tolist())
    return chosen or ({int(offset * runs)} if fraction > 0 and runs >= 12 else set())


def _members(index: int, seed: int, batch: int, balanced: bool, variation: Variation) -> list[tuple[str, bytes]]:
    """The 13 files of a run: (name, content), views first."""
    pose, density = stratum(index, balanced)
    run = simulate_run(seed, index, None if variation.density else density, pose, variation, batch)
    prefix = f"batch_{batch}/{run.id}"
    pictures = {f"{prefix}_pose_{k}_thermal.png": view for k, view in enumerate(run.views)}
    pictures[f"{prefix}_GT_pose_0_thermal.png"] = run.truth
    text = parameters.to_text(run.parameters)
    return [(name, _encode(image)) for name, image in pictures.items()] + [(f"{prefix}_Parameters.txt", text.encode())]


def _encode(image: np.ndarray) -> bytes:
    """PNG of a gray image (H, W) uint8, unfiltered: leaves do not profit from filters, which take most of the time."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", image.shape[1], image.shape[0], 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(np.pad(image, ((0, 0), (1, 0))).tobytes(), 1))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


def _write(archive: zipfile.ZipFile, members: list[tuple[str, bytes]]) -> None:
    for name, content in members:
        archive.writestr(zipfile.ZipInfo(name, TIMESTAMP), content)
