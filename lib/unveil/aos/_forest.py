"""The trees of the built-in forest, and how the eleven cameras see them.

Trees are grown by recursive branching (the scheme of proctree.js: a trunk with whorls of side branches, each forking
in two, a leafy twig at every end), all trees of a run at once. They become flat quadrilaterals, textured for twigs
and plain for wood, which are drawn into every view with a depth buffer.

Frame of this module: metres, x along the flight = image columns, y = image rows, **z up** from the ground. A camera at
x = X sees the point (x, y, z) at column ``CENTER + d (x - X)`` and row ``CENTER + d y`` with the disparity
``d = FOCAL / (ALTITUDE - z)`` in pixels per metre, which is linear over the image of a plane and so serves as depth.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from unveil.aos._kernels import compiled
from unveil.aos.camera import ALTITUDE, FOCAL, POSITIONS, SIZE

CENTER = (SIZE - 1) / 2  # pixels, the principal point where pixel centres lie at whole numbers
# ---- where trees stand ---------------------------------------------------------------------------------------------
PLOT = 2 * (100 / 2.1 - 1)  # m, side of the square of one hectare that is planted
REACH = (27.0, 22.0)  # m from the centre in x and y: trees beyond are in no view
MAX_DENSITY = 300  # trees per hectare
# ---- how a tree grows (lengths in units of UNIT) -------------------------------------------------------------------
UNIT = 3.0  # m
TRUNK = 1.13  # height of the first whorl
STEPS = 5  # whorl steps of the trunk
TWIST = 8.0  # turns of the whorls over the trunk
KINK = 0.093  # sideways step of the trunk per whorl
LENGTH_FACTOR, LENGTH_POWER = 0.65, 0.75  # child length = factor * length ** power
CLUMP = (0.40, 0.05)  # straightness of a fork: first + second * r
BRANCH_FACTOR = 2.45  # how far the second child is mirrored away from the first
RADIUS, FLARE = 0.139, 0.70  # trunk at the first whorl; its ratio to the radius at the ground
RADIUS_FALLOFF = 0.67  # radius of a branch: factor per fork
TWIG = 0.198  # half side of a twig's quad
WOBBLE = 0.05  # a parameter of half the trees is multiplied by 1 ± this
WHORLS, WHORL = 14, 6  # whorls of a conifer, branches in one
FACETED = 0.11  # m: wood of a larger radius is drawn as a hexagonal tube, thinner wood as one ribbon
# ---- twig textures (lengths as fractions of the quad's side) -------------------------------------------------------
TEXTURE, TEXTURES = 96, 4  # texels both ways; different ones per run, each also mirrored
LEAFLET_ANGLE = (10.0, 90.0)  # degrees from the stem
LEAFLET_GRAIN = 0.35  # standard deviation of the tone from texel to texel
STEM = 0.012  # half-width
CLEAR = -128  # texel that hides nothing
# ---- gray levels ---------------------------------------------------------------------------------------------------
GRAY_PER_KELVIN, BLACK_KELVIN = 255 / 45, 285.0  # gray level 0 is 285 K
SKY, SUN = 5.0, 51.2  # K: heating of a surface by the sky, by the sun at right angles and albedo 1
TONE, SPREAD = 0.20, 0.05  # relative variation of leaf albedo: within a twig's texture, between twigs
TRUNK_ALBEDO = 0.15


class Light(NamedTuple):
    """Ambient light (0…1) and the sun's place: azimuth and compass in degrees from the zenith and around it."""

    ambient: float
    azimuth: float
    compass: float

    @property
    def direction(self) -> np.ndarray:
        """Unit vector (3,) towards the sun."""
        a, k = np.radians(self.azimuth), np.radians(self.compass)
        return np.array([np.sin(a) * np.cos(k), np.sin(a) * np.sin(k), np.cos(a)])

    def gray(self, kelvin, albedo, cosine):
        """Unclipped gray level of a surface at a temperature in K; `cosine` between its normal and the sun."""
        heating = (1 - albedo * self.ambient / 2) * (SKY + SUN * albedo * cosine)
        return GRAY_PER_KELVIN * (kelvin - BLACK_KELVIN + heating)


class Species(NamedTuple):
    """What the trees of one run have in common; lengths in units of UNIT, leaflets as fractions of a twig's quad."""

    length: float
    taper: float
    climb: float
    grow: float
    trunk: float
    levels: int
    leaflet_length: float
    leaflet_width: float
    leaflets: int
    leaf_albedo: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Species:
        """A random species: one in five branches once more and has narrower leaflets."""
        fine = rng.random() < 0.2
        length, taper, climb, lift, trunk, leaflet = (
            rng.uniform(*limits)
            for limits in ((0.75, 0.95), (0.70, 0.80), (0.36, 0.50), (0.10, 0.35), (0.85, 1.15), (0.09, 0.14))
        )
        width = rng.uniform(0.027, 0.042) * (0.75 if fine else 1.0)
        count, albedo = int(rng.integers(29, 45)), rng.uniform(0.10, 0.18)
        return cls(length, taper, climb, lift, trunk, 6 if fine else 5, leaflet, width, count, albedo)

    @classmethod
    def conifer(cls, rng: np.random.Generator) -> Species:
        """A random conifer: `length` reach of its lowest branches, `taper` shape of its outline, `climb` height of the
        crown, `grow` droop of the branches' outer halves, `trunk` height below the crown, `levels` 0.
        """
        length, taper, climb, droop, trunk, leaflet, width = (
            rng.uniform(*limits)
            for limits in ((0.55, 1.0), (0.6, 1.1), (2.6, 4.6), (0.1, 0.7), (0.2, 1.4), (0.09, 0.15), (0.03, 0.05))
        )
        return cls(length, taper, climb, droop, trunk, 0, leaflet, width, 44, rng.uniform(0.10, 0.18))


def project(points: np.ndarray) -> np.ndarray:
    """(…, 3) metres → (…, 3) float32: column seen from X = 0, row, disparity in pixels per metre."""
    d = FOCAL / (ALTITUDE - points[..., 2])
    return np.stack([CENTER + d * points[..., 0], CENTER + d * points[..., 1], d], -1).astype(np.float32)


def plant(rng: np.random.Generator, density: int) -> np.ndarray:
    """Places (n, 2) in metres of those of `density` trees per hectare that a view can show, one per cell of a grid."""
    side = int(np.ceil(np.sqrt(density)))
    cells = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)
    places = ((cells + rng.random(cells.shape)) / max(side, 1) - 0.5) * PLOT
    places = rng.permutation(places)[:density]
    return places[(np.abs(places) < REACH).all(1)]


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)


def _whim(rng: np.random.Generator, shape: tuple[int, ...] | int) -> np.ndarray:
    return np.abs(np.cos(rng.uniform(0, 2 * np.pi, shape)))


def _fork(rng: np.random.Generator, direction: np.ndarray, lift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit directions of the two children of branches pointing along `direction` (n, 3); `lift` (n,) bends them up."""
    r = _whim(rng, (len(direction), 1))
    normal = np.cross(direction, direction[:, [2, 0, 1]])
    tangent = np.cross(direction, normal)
    aside = np.where(r > 0.5, -1, 1) * (r * normal + (1 - r) * tangent)
    clump = CLUMP[0] + CLUMP[1] * r
    first = _unit(aside * (1 - clump) + direction * clump)
    across = first - direction * (first * direction).sum(1, keepdims=True)
    second = first - BRANCH_FACTOR * (across * first).sum(1, keepdims=True) * across
    first, second = np.where(r > 0.5, second, first), np.where(r > 0.5, first, second)
    up = np.outer(lift, [0, 0, 1])
    return _unit(first + up), _unit(second + up)


class _Grower:
    """Collects wood and twigs of trees at `places` (n, 2 or 3), grown in units of UNIT with the trunk's foot at 0."""

    def __init__(self, rng: np.random.Generator, places: np.ndarray, species: Species, scale: np.ndarray) -> None:
        self.rng, self.places, self.species, self.scale = rng, places, species, scale
        self.length, self.taper, self.climb, self.lift = (self.wobble(v) for v in species[:4])
        self.height, self.radius, self.twist = (self.wobble(v) for v in (TRUNK * species.trunk, RADIUS, TWIST))
        self.turn = rng.uniform(0, 2 * np.pi, len(places))
        self.wood, self.twigs = [], []

    def wobble(self, value: float) -> np.ndarray:
        n = len(self.places)
        return value * np.where(self.rng.random(n) < 0.5, self.rng.uniform(1 - WOBBLE, 1 + WOBBLE, n), 1.0)

    def place(self, points: np.ndarray, tree: np.ndarray) -> np.ndarray:
        """Points (n, …, 3) of the trees (n,) in metres."""
        shape = (-1,) + (1,) * (points.ndim - 2)
        c, s, scale, px, py, *pz = (
            a.reshape(shape)
            for a in (np.cos(self.turn[tree]), np.sin(self.turn[tree]), self.scale[tree], *self.places[tree].T)
        )
        x, y, z = np.moveaxis(points, -1, 0) * UNIT * scale
        return np.stack([c * x - s * y + px, s * x + c * y + py, z + pz[0] if pz else z], -1)

    def add_wood(self, tail, head, tail_radius, head_radius, tree) -> None:
        radii = np.stack([tail_radius, head_radius], -1) * UNIT * self.scale[tree, None]
        self.wood.append(np.concatenate([self.place(tail, tree), self.place(head, tree), radii], -1))

    def trunks(self) -> list[tuple]:
        """Grows the trunks; returns (level, head, direction, length, radius, tree) of branches that will fork."""
        tree, levels, fronts = np.arange(len(self.places)), self.species.levels, []
        length, radius = self.length, self.radius
        head = np.outer(self.height, [0, 0, 1.0])
        self.add_wood(0 * head, head, radius / FLARE, radius, tree)
        for step in range(STEPS, 0, -1):
            r = _whim(self.rng, len(tree))
            angle = 2 * np.pi * self.twist * step / STEPS
            side = _unit(np.stack([np.sin(angle), np.cos(angle), r], -1))
            side = _unit(side + np.outer(self.lift, [0, 0, 1]))
            end = head + side * length[:, None]
            self.add_wood(head, end, radius * 0.85, radius * RADIUS_FALLOFF, tree)
            fronts.append((levels - 1, end, side, LENGTH_FACTOR * length**LENGTH_POWER, radius * RADIUS_FALLOFF, tree))
            kink = (r - 0.5) * 2 * KINK
            above = head + np.stack([kink, kink, self.climb], -1)
            self.add_wood(head, above, radius, radius * self.taper, tree)
            axis = _unit(above - head)
            head, radius, length = above, radius * self.taper, length * self.taper
        return [*fronts, (levels, head, axis, length, radius, tree)]

    def branches(self, fronts: list[tuple]) -> None:
        """Forks the branches down to level 0, where every end carries a twig."""
        for level in range(self.species.levels, -1, -1):
            now, fronts = [f for f in fronts if f[0] == level], [f for f in fronts if f[0] != level]
            head, direction, length, radius, tree = (np.concatenate(part) for part in list(zip(*now, strict=True))[1:])
            pair = _fork(self.rng, direction, self.lift[tree] * (level / self.species.levels) ** 2)
            child_length, thin = LENGTH_FACTOR * length**LENGTH_POWER, radius * RADIUS_FALLOFF
            for d in pair:
                end = head + d * length[:, None]
                self.add_wood(head, end, radius * 0.85, thin if level else thin * 0.3, tree)
                if level:
                    fronts.append((level - 1, end, d, child_length, thin, tree))
                else:
                    across = TWIG * _unit(np.cross(*pair))
                    foot, tip = (
                        end - d * child_length[:, None],
                        end + d * (2 * TWIG - child_length)[:, None],
                    )
                    quad = np.stack([foot - across, foot + across, tip + across, tip - across], 1)
                    self.twigs.append(self.place(quad, tree))

    def fronds(self) -> None:
        """Grows conifers: whorls of straight branches, each of two twigs as long as its halves, the outer drooping."""
        tree, n = np.arange(len(self.places)), len(self.places)
        up, crown = np.array([0, 0, 1.0]), (self.height + self.climb)[:, None]
        self.add_wood(np.zeros((n, 3)), crown * up, 0.3 * self.radius, 0.05 * self.radius, tree)
        for share in np.linspace(0, 0.96, WHORLS):
            start = self.rng.uniform(0, 2 * np.pi, n)
            for k in range(WHORL):
                angle = start + (k + self.rng.uniform(-0.25, 0.25, n)) * 2 * np.pi / WHORL
                out = np.stack([np.cos(angle), np.sin(angle), self.rng.uniform(-0.1, 0.35, n)], -1)
                half = (self.length * (1 - share) ** self.taper * self.rng.uniform(0.35, 0.6, n))[:, None]
                foot = (self.height + self.climb * (share + self.rng.uniform(-0.5, 0.5, n) / WHORLS))[:, None] * up
                middle = foot + half * out
                tip = middle + half * (out - self.lift[:, None] * up)
                self.add_wood(foot, middle, np.full(n, 0.012), np.full(n, 0.006), tree)
                across = (0.06 + 0.4 * half) * _unit(np.cross(up, out))
                for one, two in ((foot, middle), (middle, tip)):
                    quad = np.stack([one - across, one + across, two + across, two - across], 1)
                    self.twigs.append(self.place(quad, tree))


def grow(
    rng: np.random.Generator, places: np.ndarray, species: Species, scale: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Grows one tree at each of `places` (n, 2) or (n, 3), `scale` (n,) times its usual size.

    Returns the wood (m, 8): both ends in metres, both radii in metres; and the twigs (k, 4, 3): corners in metres,
    the twig's stem running from the middle of side 0–1 to the middle of side 3–2.
    """
    grower = _Grower(rng, places, species, np.ones(len(places)) if scale is None else scale)
    if species.levels:
        grower.branches(grower.trunks())
    else:
        grower.fronds()
    return np.concatenate(grower.wood), np.concatenate(grower.twigs)


def twig_textures(rng: np.random.Generator, species: Species) -> np.ndarray:
    """(2 · TEXTURES, TEXTURE, TEXTURE) int8: tone of each texel in 1/100, or CLEAR."""
    v, u = (np.mgrid[:TEXTURE, :TEXTURE].astype(np.float32) + 0.5) / TEXTURE
    textures = np.full((TEXTURES, TEXTURE, TEXTURE), CLEAR, np.int8)
    for texture in textures:
        texture[(np.abs(u - 0.5) < STEM) & (v < 0.9)] = -100
        grain = LEAFLET_GRAIN * rng.standard_normal(u.shape)
        for k, foot in enumerate(np.linspace(0.05, 0.85, species.leaflets)):
            angle = np.radians(rng.uniform(*LEAFLET_ANGLE)) * (1 if k % 2 else -1)
            half, width = species.leaflet_length * rng.uniform(0.8, 1.2), species.leaflet_width * rng.uniform(0.8, 1.2)
            sine, cosine = np.sin(angle), np.cos(angle)
            reach = half + rng.uniform(0, 0.5 - half)  # from the stem: leaflets sit on side shoots, too short to see
            middle = np.array([foot + half * cosine, 0.5 + reach * sine])
            low, high = (np.clip((middle + edge) * TEXTURE, 0, TEXTURE).astype(int) for edge in (-half, half))
            patch = slice(low[0], high[0] + 1), slice(low[1], high[1] + 1)
            x, y = u[patch] - middle[1], v[patch] - middle[0]
            leaflet = ((x * sine + y * cosine) / half) ** 2 + ((x * cosine - y * sine) / width) ** 2 < 1
            texture[patch][leaflet] = np.clip(100 * (rng.uniform(-0.6, 0.6) + grain[patch][leaflet]), -100, 100)
    return np.concatenate([textures, textures[:, :, ::-1]])


def wood_quads(wood: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quads (q, 4, 3) in metres and their unit normals (q, 3) of wood (m, 8)."""
    tail, head, radii = wood[:, :3], wood[:, 3:6], wood[:, 6:]
    axis = _unit(head - tail)
    level = np.cross(axis, [0.0, 0.0, 1.0])
    level[np.linalg.norm(level, axis=1) < 1e-3] = [1.0, 0.0, 0.0]
    level = _unit(level)
    up = np.cross(level, axis)
    thick = radii[:, 0] > FACETED
    across, ends = level[~thick, None], (tail[~thick, None], head[~thick, None])
    a, b = across * radii[~thick, None, :1], across * radii[~thick, None, 1:]
    corners = [np.concatenate([ends[0] - a, ends[0] + a, ends[1] + b, ends[1] - b], 1)]
    normals = [up[~thick]]
    tail, head, level, up, (t, h) = tail[thick], head[thick], level[thick], up[thick], radii[thick].T[:, :, None]
    ring = [np.cos(k * np.pi / 3) * level + np.sin(k * np.pi / 3) * up for k in range(7)]
    for one, two in zip(ring[:-1], ring[1:], strict=True):
        corners.append(np.stack([tail + one * t, tail + two * t, head + two * h, head + one * h], 1))
        normals.append(_unit(one + two))
    corners, normals = np.concatenate(corners), np.concatenate(normals)
    seen = normals[:, 2] > -0.5  # the others face away from every camera
    return corners[seen], normals[seen]


def foliage(
    rng: np.random.Generator,
    places: np.ndarray,
    species: Species,
    light: Light,
    tree_kelvin: float,
    trunk_kelvin: float,
    scale: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Trees as `grow` makes them, as a `Forest`'s four arrays, but with the corners (q, 4, 3) in metres."""
    textures = twig_textures(rng, species)
    wood, twigs = grow(rng, places, species, scale)
    wood_corners, wood_normals = wood_quads(wood)
    wood_gray = light.gray(trunk_kelvin, TRUNK_ALBEDO, np.maximum(0, wood_normals @ light.direction))
    normals = _unit(np.cross(twigs[:, 1] - twigs[:, 0], twigs[:, 3] - twigs[:, 0]))
    cosine = np.abs(normals @ light.direction)
    between = 1 + SPREAD * rng.standard_normal(len(twigs))
    dark, plain, bright = (
        light.gray(tree_kelvin, np.maximum(species.leaf_albedo * (between + tone), 0), cosine)
        for tone in (-TONE, 0, TONE)
    )
    kinds = np.concatenate([np.full(len(wood_corners), -1), rng.integers(0, len(textures), len(twigs))])
    levels, slopes = np.concatenate([wood_gray, plain]), np.concatenate([0 * wood_gray, (bright - dark) / 2])
    gray = np.stack([levels, slopes], -1).astype(np.float32)
    return np.concatenate([wood_corners, twigs]), kinds.astype(np.int16), gray, textures


class Forest(NamedTuple):
    """The forward model: what the trees of one run do to the scene below them.

    corners (q, 4, 3) float32 as `project` gives them; texture (q,) int16, -1 for plain quads; gray (q, 2) float32:
    level at tone 0, change per unit of tone; textures as `twig_textures` gives them.
    """

    corners: np.ndarray
    texture: np.ndarray
    gray: np.ndarray
    textures: np.ndarray

    @classmethod
    def grow(
        cls, rng: np.random.Generator, density: int, light: Light, tree_kelvin: float, trunk_kelvin: float
    ) -> Forest:
        """Grows `density` trees per hectare under the given light; leaves and wood at the given temperatures in K."""
        species, places = Species.draw(rng), plant(rng, density)
        if not len(places):
            none = np.zeros((0, 4, 3), np.float32)
            return cls(none, np.zeros(0, np.int16), np.zeros((0, 2), np.float32), np.zeros((0, 1, 1), np.int8))
        corners, *rest = foliage(rng, places, species, light, tree_kelvin, trunk_kelvin)
        return cls(project(corners), *rest)

    def occlude(self, scene: Scene, cameras_x: np.ndarray = POSITIONS) -> np.ndarray:
        """Views (V, SIZE, SIZE) uint8 of the scene under this forest, from cameras at `cameras_x` metres."""
        return self._draw(scene, cameras_x)[0]

    def hidden(self, scene: Scene, cameras_x: np.ndarray = POSITIONS) -> np.ndarray:
        """Where the forest hides the scene, (V, SIZE, SIZE) bool."""
        return self._draw(scene, cameras_x)[1]

    def visible(self, scene: Scene, mask: np.ndarray) -> np.ndarray:
        """Which of the course's views show each of the n points under the truth's pixels in `mask`: (V, n) bool."""
        rows, columns = np.nonzero(mask)
        where = np.floor(columns - POSITIONS[:, None] * scene.draw()[1][rows, columns] + 0.5).astype(int)
        inside = (where >= 0) & (where < SIZE)
        views = np.arange(len(POSITIONS))[:, None]
        return inside & ~self.hidden(scene)[views, rows, where.clip(0, SIZE - 1)]

    def _draw(self, scene: Scene, cameras_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        views = np.empty((len(cameras_x), SIZE, SIZE), np.uint8)
        hidden = np.empty(views.shape, bool)
        for view, mask, x in zip(views, hidden, cameras_x, strict=True):
            view[:], depth = scene.draw(x)
            below = depth.copy()
            draw_quads(view, depth, *self, np.float32(x))
            np.greater(depth, below, out=mask)
        return views, hidden


class Scene(NamedTuple):
    """What lies under the forest: the ground, the same in every view, and a person as a cloud of surface points.

    ground (SIZE, SIZE) uint8; points (n, 3) metres; gray (n,) uint8.
    """

    ground: np.ndarray
    points: np.ndarray
    gray: np.ndarray

    def draw(self, camera_x: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Picture (SIZE, SIZE) uint8 and depth (SIZE, SIZE) float32 (disparity) from the camera at x metres."""
        view = self.ground.copy()
        depth = np.full(view.shape, FOCAL / ALTITUDE, np.float32)
        draw_points(view, depth, project(self.points), self.gray, np.float32(camera_x))
        return view, depth

    def truth(self) -> np.ndarray:
        """The centre view without a forest, (SIZE, SIZE) uint8."""
        return self.draw()[0]


@compiled
def look(points, rotation, translation, focal, height, width):
    """Points (n, k, 3) of any world → (n, k, 3) float32 as `project` has them, seen by any pinhole camera.

    Rotation (3, 3) and translation (3,) world→camera in metres, focal length in pixels; groups of which a point is less
    than half a metre before the camera are moved out of the picture.
    """
    seen = np.empty(points.shape, np.float32)
    for n in range(len(points)):
        for k in range(points.shape[1]):
            x, y, z = points[n, k, 0], points[n, k, 1], points[n, k, 2]
            depth = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z + translation[2]
            if depth < 0.5:
                seen[n, :, :2], seen[n, :, 2] = -1e6, 0
                break
            d = focal / depth
            across = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z + translation[0]
            along = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z + translation[1]
            seen[n, k, 0] = (width - 1) / 2 + d * across
            seen[n, k, 1] = (height - 1) / 2 + d * along
            seen[n, k, 2] = d
    return seen


@compiled
def draw_points(view, depth, points, gray, camera_x):
    for k in range(len(points)):
        d = points[k, 2]
        column = int(np.floor(points[k, 0] - camera_x * d + 0.5))
        row = int(np.floor(points[k, 1] + 0.5))
        if 0 <= row < view.shape[0] and 0 <= column < view.shape[1] and d > depth[row, column]:
            depth[row, column] = d
            view[row, column] = gray[k]


@partial(compiled, fastmath=True)
def draw_quads(view, depth, corners, texture, gray, textures, camera_x):
    height, width = view.shape
    texels = np.float32(textures.shape[1])
    last = textures.shape[1] - 1
    x, y, d = np.empty(4, np.float32), np.empty(4, np.float32), np.empty(4, np.float32)
    one, half, zero = np.float32(1), np.float32(0.5), np.float32(0)
    for q in range(len(corners)):
        for k in range(4):
            d[k] = corners[q, k, 2]
            x[k] = corners[q, k, 0] - camera_x * d[k]
            y[k] = corners[q, k, 1]
        left, right = min(x[0], x[1], x[2], x[3]), max(x[0], x[1], x[2], x[3])
        top, bottom = min(y[0], y[1], y[2], y[3]), max(y[0], y[1], y[2], y[3])
        if right < 0 or left > width - 1 or bottom < 0 or top > height - 1:
            continue
        ux, uy, vx, vy = x[1] - x[0], y[1] - y[0], x[3] - x[0], y[3] - y[0]
        area = ux * vy - uy * vx
        if abs(area) < np.float32(1e-3):
            continue
        u_step, v_step = vy / area, -uy / area
        du, dv = d[1] - d[0], d[3] - d[0]
        d_step = u_step * du + v_step * dv
        kind = texture[q]
        base, slope = gray[q, 0], gray[q, 1] * np.float32(0.01)
        level = np.uint8(min(max(base + half, zero), np.float32(255)))
        for row in range(max(int(np.ceil(top)), 0), min(int(np.floor(bottom)), height - 1) + 1):
            fy = np.float32(row)
            start, stop = np.float32(1e9), np.float32(-1e9)
            for k in range(4):
                m = (k + 1) & 3
                if (y[k] <= fy) != (y[m] <= fy):
                    cut = x[k] + (fy - y[k]) * (x[m] - x[k]) / (y[m] - y[k])
                    start, stop = min(start, cut), max(stop, cut)
            first = max(int(np.ceil(start)), 0)
            final = min(int(np.floor(stop)), width - 1)
            if first > final:
                continue
            ax, ay = np.float32(first) - x[0], fy - y[0]
            u, v = (ax * vy - ay * vx) / area, (ay * ux - ax * uy) / area
            depth_here = d[0] + u * du + v * dv
            for column in range(first, final + 1):
                if depth_here > depth[row, column]:
                    if kind < 0:
                        view[row, column] = level
                        depth[row, column] = depth_here
                    else:
                        tu = min(max(int(u * texels), 0), last)
                        tv = min(max(int(v * texels), 0), last)
                        tone = textures[kind, tv, tu]
                        if tone != CLEAR:
                            view[row, column] = np.uint8(min(max(base + slope * tone + half, zero), one * 255))
                            depth[row, column] = depth_here
                u += u_step
                v += v_step
                depth_here += d_step
