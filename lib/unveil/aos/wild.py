"""Forests as they are: flights with a free camera over uneven ground, many kinds of trees and people of true size.

`unveil.aos.simulator` makes the course's runs, all by one rig over level ground. Here every run has its own rig,
ground, trees and light, errors in the measured poses and a drifting sensor, as real flights have. Trees and bodies are
those of `unveil.aos._forest` and `unveil.aos._people`, the ground is that of `unveil.aos._terrain`. Everything random
about a run comes from ``SeedSequence([seed, index, 7])``. The world is that of flights: metres, z down, z = 0 the mean
ground under the middle of the flight.
"""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from unveil import files
from unveil.aos._forest import BLACK_KELVIN, GRAY_PER_KELVIN, Light, Species, draw_points, draw_quads, foliage, look
from unveil.aos._kernels import compiled
from unveil.aos._people import FIGURES, body
from unveil.aos._terrain import Ground, draw_ground
from unveil.aos._terrain import ground as terrain
from unveil.aos.camera import Cameras
from unveil.aos.images import to_uint8
from unveil.aos.parameters import POSES
from unveil.errors import UnveilError

OTHERS = ("animal", "vehicle", "ember", "stone")
OTHER = 100  # label of the first warm thing that is no person
SHARES = (0.4, 0.1, 0.2, 0.3)  # how often each is drawn
PATTERNS = ("line", "grid", "circle", "zigzag")
MARGIN = 3.0  # m of ground beyond what the pictures show
FARTHEST = 90.0  # m, half the side of the largest ground
TALLEST = {"broad-leaved": 14.0, "conifer": 17.0}  # m, of a tree of scale 1, about
CLEARANCE = 6.0  # m between the highest tree and the cameras
FINER = 2  # pixels drawn per pixel of a picture, both ways
CROWN = 5.0  # m, reach of a tree from its trunk
SAME_DEPTH = 0.005  # relative difference of distances below which two are the same surface


@dataclass(frozen=True)
class Wild:
    """The ranges that a run draws from, as (low, high).

    size: pixels of a picture, both ways · density: trees per hectare · bushes: per tree · conifers: share of the trees,
    cut off at 0 and 1 · tree_scale: times the usual size · altitude: m above the mean ground · fov: degrees, vertical ·
    views: how many · aperture: m, the longest way across the pattern · tilt, shake: degrees off nadir, of all views and
    of each · slope: degrees · relief: m, the ground's highest above its lowest · level: mean gray of the ground ·
    texture: gray levels, how far the ground strays from its mean · canopy: gray levels of leaves above the ground's
    mean · tops: and of the highest leaves above the others · uneven: standard deviation among crowns · sunlight:
    contrast among leaves, 1 the course's at noon · people, others: how many · contrast: gray levels of people above the
    ground around them · hiding: share of people partly under a bush · position_error (m), angle_error (degrees):
    standard deviations of a measured pose, per axis · offset (gray levels), gain (relative): drift from picture to
    picture · blur (pixels), noise (gray levels): standard deviations.
    """

    size: int = 512
    density: tuple[int, int] = (0, 600)
    bushes: tuple[float, float] = (0.0, 0.4)
    conifers: tuple[float, float] = (-0.5, 1.5)
    tree_scale: tuple[float, float] = (0.7, 1.4)
    altitude: tuple[float, float] = (25.0, 60.0)
    fov: tuple[float, float] = (35.0, 60.0)
    views: tuple[int, int] = (7, 40)
    aperture: tuple[float, float] = (8.0, 20.0)
    tilt: tuple[float, float] = (0.0, 20.0)
    shake: tuple[float, float] = (-2.0, 2.0)
    slope: tuple[float, float] = (0.0, 6.0)
    relief: tuple[float, float] = (0.0, 0.4)
    level: tuple[float, float] = (40.0, 100.0)
    texture: tuple[float, float] = (4.0, 30.0)
    canopy: tuple[float, float] = (-25.0, 25.0)
    tops: tuple[float, float] = (-10.0, 70.0)
    uneven: tuple[float, float] = (0.0, 15.0)
    sunlight: tuple[float, float] = (0.1, 1.0)
    people: tuple[int, int] = (0, 3)
    others: tuple[int, int] = (0, 3)
    contrast: tuple[float, float] = (10.0, 120.0)
    hiding: float = 0.3
    position_error: float = 0.1
    angle_error: float = 0.2
    offset: tuple[float, float] = (-3.0, 3.0)
    gain: tuple[float, float] = (-0.03, 0.03)
    blur: tuple[float, float] = (0.3, 0.8)
    noise: tuple[float, float] = (0.5, 2.0)


WILD = Wild()


class Person(NamedTuple):
    """Position (x, y, z) of the ground under the middle in metres, pose, gray levels above the ground around, and the
    visible share of the person's pixels in the reference view: those that at least one view sees.
    """

    position: tuple[float, float, float]
    pose: str
    contrast: float
    visible: float


class WildRun(NamedTuple):
    """One run.

    views (V, H, W) uint8; cameras as measured, with errors, and true; centre: index of the reference view, nearest to
    the middle of the flight; truth (H, W) uint8: the reference view without forest, drift, blur and noise; label (H, W)
    uint8: 0 ground, k person k, 100 + k other warm thing k, counted from 1; seen (H, W) uint8: how many views show the
    point of ground or body under the pixel; people; parameters: what was drawn.
    """

    views: np.ndarray
    cameras: Cameras
    true: Cameras
    centre: int
    truth: np.ndarray
    label: np.ndarray
    seen: np.ndarray
    people: list[Person]
    parameters: dict[str, Any]


def simulate(
    seed: int, index: int, density: int | None = None, variation: Wild = WILD, views: int | None = None
) -> WildRun:
    """One run in memory, with so many trees per hectare and so many views, or as many as `variation` draws.

    What is drawn of flight, ground (but for the trees' shade) and people does not depend on `density`. Raises
    UnveilError for a negative density and for fewer than one view.
    """
    if (density or 0) < 0 or (views is not None and views < 1):
        raise UnveilError(f"density {density}, {views} views: give at least 0 trees per hectare and 1 view")
    chance = np.random.SeedSequence([seed, index, 7]).spawn(5)
    rng, on_ground, among, growing, sensing = (np.random.default_rng(one) for one in chance)
    drawn = int(rng.integers(variation.density[0], variation.density[1] + 1))
    density = drawn if density is None else density
    true, flown = _fly(rng, variation, views)
    measured = _mismeasured(rng, true, variation)
    places = true.centers[:, :2]
    centre = int(np.argmin(np.linalg.norm(places - places.mean(0), axis=1)))
    steep, uphill = math.tan(math.radians(rng.uniform(*variation.slope))), rng.uniform(0, 2 * np.pi)
    slope = steep * np.array([math.cos(uphill), math.sin(uphill)])
    light = Light(rng.uniform(*variation.sunlight), rng.uniform(0, 60), rng.uniform(0, 360))
    level = rng.uniform(*variation.level)

    shape, corner, texel = _extent(true, slope, variation.size)
    trees = _plant(growing, density, shape, corner, texel)
    ground = terrain(on_ground, variation.texture, variation.relief, level, shape, corner, texel, slope, trees, light)
    people, points, gray, label, spots = _bodies(among, variation, ground, true[centre])
    forest, grown = _forest(growing, variation, trees, ground, true, light, level, spots)

    size, fine = variation.size, FINER * variation.size
    f = fine / 2 / math.tan(math.radians(true.fov[0]) / 2)
    pictures, scenes = np.empty((2, len(true), size, size), np.float32)
    hidden = np.empty(pictures.shape, bool)
    for k in range(len(true)):
        view, depth = _draw_scene(ground, points, gray, true[k], f, fine)
        if k == centre:
            truth = to_uint8(_coarser(view))
            blank = ground._replace(gray=np.zeros_like(ground.gray))
            marks = _draw_scene(blank, points, label, true[k], f, fine)[0][FINER // 2 :: FINER, FINER // 2 :: FINER]
        bare = depth.copy()
        for corners, *rest in forest:
            draw_quads(view, depth, _seen_from(corners, true[k], f, view), *rest, np.float32(0))
        hidden[k] = 2 * _coarser(depth > bare) >= 1
        pictures[k], scenes[k] = _coarser(view), bare[FINER // 2 :: FINER, FINER // 2 :: FINER] / FINER
    f /= FINER
    relative = true.rotation @ true.rotation[centre].T
    seen = _seen(scenes, hidden, relative, true.translation - relative @ true.translation[centre], f, centre)
    shown, sensed = _sense(sensing, pictures, level, variation)
    for k, one in enumerate(people):
        mine = marks == k + 1
        people[k] = one._replace(visible=float((seen[mine] > 0).mean()) if mine.any() else 0.0)
    parameters = {"seed": seed, "index": index, "density": density, **flown, **grown, **sensed}
    parameters |= {"slope": slope.tolist(), "relief": float(np.ptp(ground.relief)), "level": level}
    parameters["light"] = light._asdict()
    return WildRun(shown, measured, true, centre, truth, marks, seen, people, parameters)


def _fly(rng: np.random.Generator, variation: Wild, views: int | None) -> tuple[Cameras, dict[str, Any]]:
    """Cameras of a drone that flies a pattern at one altitude, all tilted alike but for a shake."""
    drawn = int(rng.integers(variation.views[0], variation.views[1] + 1))
    count, pattern = drawn if views is None else views, str(rng.choice(PATTERNS))
    along = np.linspace(-0.5, 0.5, count)
    if pattern == "line":
        places = np.stack([along, 0.03 * np.cumsum(rng.standard_normal(count)) / math.sqrt(count)], 1)
    elif pattern == "grid":
        side = math.ceil(math.sqrt(count))
        row, column = np.divmod(np.arange(count), side)
        places = np.stack([np.where(row % 2, side - 1 - column, column), row], 1) / max(side - 1, 1) - 0.5
    elif pattern == "circle":
        places = 0.5 * np.stack([np.cos(2 * np.pi * along), np.sin(2 * np.pi * along)], 1) * (1 + 0.1 * along[:, None])
        places[0] *= 0.2
    else:
        places = np.stack([along, 0.5 * np.abs((4 * along + 0.25) % 2 - 1) - 0.25], 1)
    places = places + rng.normal(0, 0.01, places.shape)
    altitude, fov = rng.uniform(*variation.altitude), rng.uniform(*variation.fov)
    tilt, aperture = rng.uniform(*variation.tilt), rng.uniform(*variation.aperture)
    yaw, course, aside = rng.uniform(0, 2 * np.pi, 3)
    turn = np.array([[math.cos(course), -math.sin(course)], [math.sin(course), math.cos(course)]])
    across = places - places.mean(0)
    across *= aperture / max(np.linalg.norm(across[:, None] - across[None], axis=-1).max(), 1e-9)
    centers = np.column_stack([across @ turn.T, -altitude + rng.normal(0, 0.1, count)])
    lean = np.radians(tilt) * np.array([math.cos(aside), math.sin(aside), 0])
    shakes = np.radians(rng.uniform(*variation.shake, (count, 3)))
    looking = Rotation.from_rotvec([0, 0, yaw]) * Rotation.from_rotvec(lean) * Rotation.from_rotvec(shakes)
    flown = {"altitude": altitude, "fov": fov, "tilt": tilt, "aperture": aperture, "pattern": pattern, "views": count}
    return _cameras(looking, centers, fov), flown


def _mismeasured(rng: np.random.Generator, true: Cameras, variation: Wild) -> Cameras:
    wrong = np.radians(variation.angle_error) * rng.standard_normal((len(true), 3))
    looking = Rotation.from_matrix(true.rotation.transpose(0, 2, 1)) * Rotation.from_rotvec(wrong)
    centers = true.centers + variation.position_error * rng.standard_normal((len(true), 3))
    return _cameras(looking, centers, true.fov[0])


def _cameras(looking: Rotation, centers: np.ndarray, fov: float) -> Cameras:
    """Cameras from rotations camera→world and centres (V, 3) in metres."""
    rotation = looking.as_matrix().transpose(0, 2, 1)
    return Cameras(np.concatenate([rotation, -rotation @ centers[:, :, None]], 2), fov)


def _seen_from(points: np.ndarray, camera: Cameras, f: float, view: np.ndarray) -> np.ndarray:
    return look(points, camera.rotation[0], camera.translation[0], f, *view.shape)


def _on_plane(camera: Cameras, pixels: np.ndarray, size: int, slope: np.ndarray) -> np.ndarray:
    """Places (n, 2) in metres where the rays of pixels (n, 2; x, y) meet the sloping plane; far ones come nearer."""
    half = math.tan(math.radians(camera.fov[0]) / 2)
    d = np.column_stack([(2 * (pixels + 0.5) / size - 1) * half, np.ones(len(pixels))]) @ camera.rotation[0]
    c = camera.centers[0]
    distance = (-c[2] - slope @ c[:2]) / np.maximum(d[:, 2] + d[:, :2] @ slope, 0.1)
    return c[:2] + distance[:, None] * d[:, :2]


def _extent(true: Cameras, slope: np.ndarray, size: int) -> tuple[tuple[int, int], np.ndarray, float]:
    """Rows and columns, first corner and texel in metres of a grid that holds what the pictures show."""
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]]) - 0.5
    shown = np.concatenate([_on_plane(true[k], corners, size, slope) for k in range(len(true))])
    low, high = np.maximum(shown.min(0) - MARGIN, -FARTHEST), np.minimum(shown.max(0) + MARGIN, FARTHEST)
    texel = -2 * true.centers[:, 2].mean() * math.tan(math.radians(true.fov[0]) / 2) / size * 0.8
    columns, rows = np.ceil((high - low) / texel).astype(int) + 1
    return (int(rows), int(columns)), low, float(texel)


def _draw_scene(ground: Ground, points, gray, camera: Cameras, f: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Picture (H, W) uint8 and depth (H, W) float32 in pixels per metre, of ground and bodies alone."""
    view, depth = np.empty((size, size), np.uint8), np.empty((size, size), np.float32)
    draw_ground(view, depth, *ground, camera.rotation[0], camera.centers[0], f)
    at = _seen_from(points[:, None], camera, f, view)[:, 0]
    for shift in np.ndindex(FINER, FINER):  # a point is as wide as a pixel of the coarser picture
        draw_points(view, depth, at + np.float32([*shift, 0]), gray, np.float32(0))
    return view, depth


def _coarser(fine: np.ndarray) -> np.ndarray:
    """Means of FINER × FINER pixels, float32."""
    parts = [fine[row::FINER, column::FINER].astype(np.float32) for row, column in np.ndindex(FINER, FINER)]
    return sum(parts) / len(parts)


def _bodies(rng: np.random.Generator, variation: Wild, ground: Ground, camera: Cameras):
    """People, not yet known how visible; points (n, 3), gray and label (n,) uint8 of all bodies; places of bushes."""
    people, spots, parts = [], [], [(np.zeros((0, 3)), np.zeros(0), np.zeros(0))]
    counts = [int(rng.integers(low, high + 1)) for low, high in (variation.people, variation.others)]
    pixels = rng.uniform(0.06, 0.94, (sum(counts), 2)) * variation.size
    places = _on_plane(camera, pixels, variation.size, ground.slope)
    heights = ground.height(places)
    for k, (place, height) in enumerate(zip(places, heights, strict=True)):
        near = ground.gray[tuple(_window(ground, place, 1.5))]
        if k < counts[0]:
            pose, contrast = POSES[int(rng.integers(3))], rng.uniform(*variation.contrast)
            surface, normals, warmth = body(FIGURES[pose][0](rng))
            gray = near.mean() + contrast * (1 + 0.01 * (warmth - 6)) + 0.12 * contrast * (normals[:, 2] - 0.6)
            gray = np.maximum(gray + 2 * rng.standard_normal(len(gray)), np.percentile(near, 90) + 4)
            people.append(Person((*place.tolist(), float(-height)), pose, float(contrast), 0.0))
            if rng.random() < variation.hiding:
                spots.append(place + rng.uniform(-0.7, 0.7, 2))
        else:
            kind = str(rng.choice(OTHERS, p=SHARES))
            surface, warm = _thing(rng, kind)
            gray = near.mean() + warm * (1 + 0.15 * surface[:, 0].clip(-2, 2)) + 2 * rng.standard_normal(len(surface))
        c, s = math.cos(turn := rng.uniform(0, 2 * np.pi)), math.sin(turn)
        surface = surface @ np.array([[c, s, 0], [-s, c, 0], [0, 0, -1.0]]) + [*place, -height]
        mark = k + 1 if k < counts[0] else OTHER + k + 1 - counts[0]
        parts.append((surface, gray, np.full(len(surface), mark)))
    points, gray, label = map(np.concatenate, zip(*parts, strict=True))
    return people, points, to_uint8(gray), label.astype(np.uint8), spots


def _window(ground: Ground, place: np.ndarray, reach: float) -> tuple[slice, slice]:
    column, row = np.rint((place - ground.corner) / ground.texel).astype(int)
    half = max(2, round(reach / ground.texel))
    return slice(max(row - half, 0), max(row + half, 1)), slice(max(column - half, 0), max(column + half, 1))


def _thing(rng: np.random.Generator, kind: str) -> tuple[np.ndarray, float]:
    """Surface points (n, 3) in metres, z up from the ground, and gray levels above the ground around."""
    if kind == "animal":
        long, thick = rng.uniform(0.25, 0.9), rng.uniform(0.1, 0.24)
        limbs = [("body", [(-long / 2, 0, 2 * thick), (long / 2, 0, 2 * thick)], [thick, 0.9 * thick])]
        nose = (long / 2 + 1.7 * thick, 0, 2.4 * thick)
        limbs += [("body", [(long / 2, 0, 2 * thick), nose], [0.6 * thick, 0.5 * thick])]
        return body(limbs)[0], rng.uniform(15, 90)
    if kind == "vehicle":
        half = np.array([rng.uniform(1.6, 2.6), rng.uniform(0.75, 1.0), rng.uniform(0.6, 1.0)])
        points = rng.uniform(-1, 1, (90_000, 3))
        face = rng.choice(5, len(points), p=np.array([8, 3, 3, 2, 2]) / 18)
        points[np.arange(len(points)), np.array([2, 1, 1, 0, 0])[face]] = np.array([1, 1, -1, 1, -1])[face]
        return (points + [0, 0, 1]) * half, rng.uniform(5, 45)
    radius = rng.uniform(0.06, 0.2) if kind == "ember" else rng.uniform(0.2, 0.5)
    warm = rng.uniform(60, 150) if kind == "ember" else rng.uniform(8, 35)
    points = body([("body", [(0, 0, 0), (rng.uniform(0, 2 * radius), 0, 0)], [radius, radius * rng.uniform(0.5, 1)])])[
        0
    ]
    return points * [1, 1, 0.7], warm


def _plant(rng: np.random.Generator, density: int, shape, corner, texel) -> np.ndarray:
    """Places (n, 2) in metres of trees over the whole ground, one per cell of a grid that is turned at random."""
    if density == 0:
        return np.zeros((0, 2))
    side, cell = np.array(shape)[::-1] * texel, 100 / math.sqrt(density)
    reach = math.ceil(np.hypot(*side) / 2 / cell) + 1
    cells = np.stack(np.meshgrid(*2 * [np.arange(-reach, reach)]), -1).reshape(-1, 2)
    places = (cells + rng.random(cells.shape)) * cell
    angle = rng.uniform(0, np.pi / 2)
    places = places @ [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]] + corner + side / 2
    return places[((places > corner) & (places < corner + side)).all(1)]


def _forest(rng, variation: Wild, trees, ground: Ground, true: Cameras, light: Light, level: float, spots):
    """Trees and bushes as lists of (corners (q, 4, 3) in the world, texture, gray, textures), and what was drawn."""
    size, canopy = variation.size, rng.uniform(*variation.canopy)
    share, wood = float(np.clip(rng.uniform(*variation.conifers), 0, 1)), canopy + rng.uniform(-25, 15)
    grown = {"conifers": share, "canopy": canopy, "wood": wood}
    parts: list[tuple] = []
    if not len(trees):
        return parts, grown | {"trees": 0, "bushes": 0}
    altitude = -true.centers[:, 2].mean()
    scales = rng.uniform(*variation.tree_scale) * rng.uniform(0.7, 1.2, len(trees))
    conifer = rng.random(len(trees)) < share
    bushes = rng.uniform(*variation.bushes)
    low = rng.permutation(len(trees))[: round(bushes * len(trees))]
    among = np.concatenate([trees[low] + rng.uniform(-4, 4, (len(low), 2)), *(spot[None] for spot in spots)])
    uneven = gaussian_filter(rng.standard_normal((64, 64)), 2.0, mode="wrap")  # over squares of 1 m, repeating
    uneven *= rng.uniform(*variation.uneven) / uneven.std()
    tops = rng.uniform(*variation.tops)
    f = size / 2 / math.tan(math.radians(true.fov[0]) / 2)
    for kind, places, scale in (
        ("broad-leaved", trees[~conifer], scales[~conifer]),
        ("conifer", trees[conifer], scales[conifer]),
        ("bush", among, rng.uniform(0.06, 0.13, len(among))),
    ):
        scale = np.minimum(scale, (altitude - CLEARANCE) / TALLEST.get(kind, 1.0))
        heights = ground.height(places)
        parts_of = np.linspace(0, 1, 3)[:, None] * TALLEST.get(kind, 1.0) * scale  # (3, n) m above the ground
        trunks = np.stack([np.column_stack([places, -heights - up]) for up in parts_of], 1)
        shown = np.zeros(len(places), bool)
        for k in range(len(true)):
            at = look(trunks, true.rotation[k], true.translation[k], f, size, size)
            reach = size / 2 + CROWN * scale[:, None, None] * at[..., 2:]
            shown |= (np.abs(at[..., :2] - (size - 1) / 2) < reach).all(-1).any(-1)
        places, scale, heights = places[shown], scale[shown], heights[shown]
        if not len(places):
            continue
        species = Species.conifer(rng) if kind == "conifer" else Species.draw(rng)
        if kind == "bush":
            species = species._replace(trunk=0.1, length=1.6, leaflet_width=0.06)
        usual = light.gray(BLACK_KELVIN, species.leaf_albedo, 0.5) / GRAY_PER_KELVIN
        kelvins = [BLACK_KELVIN + (level + warm) / GRAY_PER_KELVIN - usual for warm in (canopy, wood)]
        corners, texture, gray, textures = foliage(
            rng, np.column_stack([places, heights]), species, light, *kelvins, scale
        )
        corners = np.ascontiguousarray(corners * [1, 1, -1.0], np.float32)
        x, y, z = corners[:, 0].T
        patch = uneven[np.floor(y).astype(int) % 64, np.floor(x).astype(int) % 64]
        gray[:, 0] += (texture >= 0) * (patch + tops * (z / min(z.min(), -1)) ** 2)
        parts.append((corners, texture, gray, textures))
    return parts, grown | {"trees": len(trees), "bushes": len(among)}


@compiled
def _seen(scenes, hidden, rotation, translation, focal, centre):
    """How many views show the point of the scene under each pixel of the centre view, (H, W) uint8.

    Rotations (V, 3, 3) and translations (V, 3) lead from the centre view to each view, in metres.
    """
    count, height, width = scenes.shape
    seen = np.zeros((height, width), np.uint8)
    for row in range(height):
        for column in range(width):
            z = focal / scenes[centre, row, column]
            a, b = (column - (width - 1) / 2) / focal * z, (row - (height - 1) / 2) / focal * z
            for v in range(count):
                m, t = rotation[v], translation[v]
                depth = m[2, 0] * a + m[2, 1] * b + m[2, 2] * z + t[2]
                if depth <= 0:
                    continue
                d = focal / depth
                i = int(np.floor((m[1, 0] * a + m[1, 1] * b + m[1, 2] * z + t[1]) * d + height / 2))
                k = int(np.floor((m[0, 0] * a + m[0, 1] * b + m[0, 2] * z + t[0]) * d + width / 2))
                if 0 <= i < height and 0 <= k < width and not hidden[v, i, k]:
                    seen[row, column] += abs(scenes[v, i, k] / d - 1) < SAME_DEPTH
    return seen


def _sense(rng: np.random.Generator, pictures: np.ndarray, level: float, variation: Wild):
    """What the sensor makes of pictures (V, H, W): blur, a gain and an offset each, noise; uint8."""
    blur, noise = rng.uniform(*variation.blur), rng.uniform(*variation.noise)
    gains, offsets = 1 + rng.uniform(*variation.gain, len(pictures)), rng.uniform(*variation.offset, len(pictures))
    shown = np.empty(pictures.shape, np.uint8)
    for picture, out, gain, offset in zip(pictures, shown, gains, offsets, strict=True):
        soft = gaussian_filter(picture, blur) if blur else picture
        soft = gain * soft + ((1 - gain) * level + offset) + noise * rng.standard_normal(soft.shape, np.float32)
        out[:] = to_uint8(soft)
    return shown, {"blur": blur, "noise": noise, "gain": gains.tolist(), "offset": offsets.tolist()}


def write(run: WildRun, folder: str | os.PathLike[str]) -> Path:
    """Write a run as a folder that `unveil.aos.flights.read` reads: pictures, the measured poses in ``poses.json``,
    ``truth.png``, ``label.png``, ``seen.png``, and all else in ``run.json``. Returns the folder.
    """
    folder = Path(folder)
    names = [f"{k:02d}.png" for k in range(len(run.views))]
    pictures = dict(zip((f"images/{name}" for name in names), run.views, strict=True))
    for name, picture in {**pictures, "truth.png": run.truth, "label.png": run.label, "seen.png": run.seen}.items():
        content = io.BytesIO()
        Image.fromarray(picture).save(content, "png", compress_level=1)
        files.write(folder / name, content.getvalue())
    people, true = [one._asdict() for one in run.people], run.true.extrinsics.tolist()
    files.write_json(folder / "run.json", {"people": people, "true": true, "parameters": run.parameters})
    poses = {"fov": run.cameras.fov[0], "center": run.centre, "imagefiles": names}
    files.write_json(folder / "poses.json", poses | {"views": run.cameras.extrinsics.tolist()})
    return folder
