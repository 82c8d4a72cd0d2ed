"""The ground found in the pictures themselves: the plane on which a flight's views agree best, and better poses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage, optimize, signal
from scipy.spatial.transform import Rotation

from unveil.aos import integrator
from unveil.aos.camera import Cameras
from unveil.errors import UnveilError

SIDE = 256
"""Rows of the pictures that are compared, pixels: enough for people, and four times as fast as full size."""

LIMITS = 1.5, 3.0
"""How far a refined pose may move, metres along the ground and degrees of heading: more than satellites and compass
are wrong by. They count as one standard deviation."""

FARTHEST, REACH, STEEPEST = 16, 6, 0.25
"""Planes are tried up to so many times the nearest distance, then so many steps around, with slopes up to this."""

WINDOW, CELLS = 9, 8
"""Pixels of the windows in which pictures are compared, and cells a side whose agreement is told apart."""

CLEAR = 15.0
"""Standard deviations of the noise by which a peak must stand out: chance makes some of 12."""

Progress = Callable[[int, int], None]
Measure = Callable[[np.ndarray, Cameras, Cameras, float], np.ndarray]


class Ground(NamedTuple):
    """A plane in the world, through ``origin`` (3,); ``rotation`` (3, 3) turns the world until it is level.

    In the ground's own frame the origin is 0 and the plane z = 0.
    """

    rotation: np.ndarray
    origin: np.ndarray

    def cameras(self, cameras: Cameras) -> Cameras:
        """The cameras in the ground's frame."""
        translation = cameras.rotation @ self.origin + cameras.translation
        return _cameras(cameras.rotation @ self.rotation.T, translation, cameras)

    def world(self, points: np.ndarray) -> np.ndarray:
        """World positions (N, 3) of points (N, 3) of the ground's frame, metres."""
        return points @ self.rotation + self.origin

    @property
    def inverse(self) -> Ground:
        """What leads from the ground's frame back to the world."""
        return Ground(self.rotation.T, -self.rotation @ self.origin)

    @property
    def tilt(self) -> float:
        """Angle between the plane and the world's horizontal, degrees."""
        return float(np.degrees(np.arccos(np.clip(self.rotation[2, 2], -1, 1))))


class Focus(NamedTuple):
    """The ground; cameras and target in its frame; how far each camera was moved (V, 3), metres along x and y of the
    ground and degrees of heading; and `sharpness` or `correlation`, whichever found the ground, before and after.
    """

    ground: Ground
    cameras: Cameras
    target: Cameras
    moves: np.ndarray
    agreement: tuple[float, float]


def details(views: np.ndarray) -> np.ndarray:
    """What stands out warm in each view: (V, H, W) gray levels → (V, `SIDE`, W') float32 in [0, 8].

    The views' brightness is taken out (a Gaussian of 6 pixels), and one unit is the spread of what is around (a
    Gaussian of 32 pixels), so that gain, sun and shade do not count; nothing counts more than 8, or one sunlit
    branch would outweigh the ground.
    """
    scale, found = min(SIDE, views.shape[1]) / SIDE, []
    for small in _small(views):
        fine = ndimage.gaussian_filter(small, scale) - ndimage.gaussian_filter(small, 6 * scale)
        found.append((fine, np.sqrt(ndimage.gaussian_filter(fine**2, 32 * scale))))
    fine, spread = map(np.array, zip(*found, strict=True))
    return np.clip(fine / np.maximum(spread, max(np.median(spread) / 2, 1e-6)), 0, 8).astype(np.float32)


def sharpness(maps: np.ndarray, cameras: Cameras, target: Cameras, height: float = 0.0) -> np.ndarray:
    """How sharply warm things show on a plane: the fourth moment of the integral of the views' `details`, by `_cells`.

    Noise in n views averages out as 1/√n; hence the integral counts √n times. The fourth power prefers few things
    seen sharply to many seen vaguely: crowns agree a little over many heights, what lies on the ground at one.
    """
    image, coverage = (part[0] for part in integrator.integrate(maps, cameras, height, target))
    known = 2 * coverage >= len(maps)
    level = np.average(image, weights=known) if known.any() else 0.0
    moment = known * (coverage * (image - level) ** 2) ** 2
    return _cells(moment) / _cells(np.ones_like(moment))


def texture(views: np.ndarray) -> np.ndarray:
    """Each view (V, H, W) at `SIDE` rows, less its mean and over its standard deviation in windows of `WINDOW` pixels.

    (V, `SIDE`, W') float32. Faint ground counts as much as bright crowns.
    """
    found = []
    for view in _small(views):
        mean = ndimage.uniform_filter(view, WINDOW)
        spread = np.sqrt((ndimage.uniform_filter(view**2, WINDOW) - mean**2).clip(0.3))
        found.append((view - mean) / spread)
    return np.array(found, np.float32)


def correlation(maps: np.ndarray, cameras: Cameras, target: Cameras, height: float = 0.0) -> np.ndarray:
    """Mean correlation of all pairs of views on a plane, from their `texture`, by `_cells`.

    A pair with a leaf in between adds nothing on average. 0 where fewer than half of the views look.
    """
    registered, inside = (part[0] for part in integrator.register(maps, cameras, height, target))
    count = inside.sum(0)
    known = 2 * count >= len(maps)
    # The square of a sum holds every pair twice, and each view with itself.
    registered *= inside
    products = registered.sum(0) ** 2 - np.square(registered).sum(0)
    return _cells(known * products) / _cells(known * count * (count - 1)).clip(1)


def autofocus(views: np.ndarray, cameras: Cameras, target: Cameras, progress: Progress | None = None) -> Focus:
    """The plane on which the views (V, H, W) agree best, tilt included, and poses refined by that agreement.

    Heights are tried from where half of the views still cover half of the target's picture to `FARTHEST` times as far,
    in steps of one pixel of parallax. The ground is the lowest clear peak of `sharpness` or of `correlation`, because
    crowns make peaks above it: few warm things on the ground show in the one, texture through many gaps in the other.
    Then `refine` and the search for height and tilt take turns.

    Raises UnveilError for fewer than three views, cameras that do not look down or that stand all in one place, and
    views that do not overlap.
    """
    if len(cameras) < 3:
        raise UnveilError(f"{len(cameras)} views are too few to find the ground; give at least three")
    if target.rotation[0, 2, 2] < 0.5:
        raise UnveilError("the cameras do not look down (z points down in the world): mend the poses")
    maps = details(views)
    away = float(np.median(np.linalg.norm(cameras.centers - target.centers, axis=1)))
    if away < 1e-3:
        raise UnveilError("all pictures were taken from one place, which shows no heights: mend the poses")
    half = np.tan(np.radians(target.fov[0]) / 2)
    inverse = np.arange(half / away, half / away / FARTHEST, -2 * half / maps.shape[1] / away)
    down, found = target.rotation[0, 2, 2], []
    kinds = [(sharpness, maps), (correlation, texture(views))]
    for step, distance in enumerate(1 / inverse, 1):
        height = -target.centers[0, 2] - distance * down
        found.append([measure(given, cameras, target, height).mean() for measure, given in kinds])
        if progress:
            progress(step, len(inverse) + 8)
    place, kind = max((_lowest(values), kind) for kind, values in enumerate(np.transpose(found)))
    if place < 0:
        raise UnveilError("the views agree on no plane below the cameras: check that pictures overlap and poses fit")
    distance, step = 1 / inverse[place], 2 * half / maps.shape[1] / away / inverse[place] ** 2
    ground = Ground(np.eye(3), target.centers[0] + distance * target.rotation[0, 2])
    measure, given = kinds[kind]
    place, eye, moves = ground.cameras(cameras), ground.cameras(target), np.zeros((len(cameras), 3))
    for turn, rounds in enumerate((range(6), range(3, 6)), 1):
        place, more = refine(maps, place, eye, rounds)
        tilted = level(measure, given, place, eye, step)
        ground = Ground(tilted.rotation @ ground.rotation, ground.world(tilted.origin))
        place, eye, moves = tilted.cameras(place), tilted.cameras(eye), moves + more
        if progress:
            progress(len(inverse) + 4 * turn, len(inverse) + 8)
    agreement = [float(measure(given, some, eye).mean()) for some in (ground.cameras(cameras), place)]
    return Focus(ground, place, eye, moves, (agreement[0], agreement[1]))


def level(measure: Measure, maps: np.ndarray, cameras: Cameras, target: Cameras, step: float) -> Ground:
    """Where the plane z = 0 must be moved and tilted to for the views to agree best, in steps of about ``step`` metres.

    Agreement is measured by cells at up to `REACH` steps above and below. The best plane is the one along which it is
    greatest on average, less 1 % for a tilt of 4° and 6 % for one of 10°: a few warm things agree on any tilt.
    """
    shifts, cells = np.arange(-REACH, REACH + 0.5, 0.5), np.indices((CELLS, CELLS)).reshape(2, -1)
    found = np.array([measure(maps, cameras, target, step * shift) for shift in shifts])
    middles = (cells.T[:, ::-1] + 0.5) / CELLS * maps.shape[:0:-1] - 0.5
    places = on_ground(target, maps.shape[1:], middles)[:, :2] / step

    def loss(x: np.ndarray) -> float:
        at = 2 * (x[0] + places @ x[1:] + REACH)
        agreed = ndimage.map_coordinates(found, [at, *cells], order=1, mode="nearest").mean()
        return -agreed * np.exp(-2 * x[1:] @ x[1:])

    options = {"initial_simplex": np.eye(4, 3, -1) * (1, 0.05, 0.05), "xatol": 1e-3, "fatol": 0}
    bounds = [(-1, 1), *2 * [(-STEEPEST, STEEPEST)]]
    best = optimize.minimize(loss, np.zeros(3), method="Nelder-Mead", bounds=bounds, options=options).x
    normal = np.array([*best[1:], 1]) / np.sqrt(1 + best[1:] @ best[1:])
    along = np.array([1, 0, -best[1]]) / np.hypot(1, best[1])
    return Ground(np.stack([along, np.cross(normal, along), normal]), np.array([0, 0, -step * best[0]]))


def _lowest(values: np.ndarray) -> int:
    """The index of the last clear peak of values, -1 without one."""
    noise = np.median(np.abs(np.diff(values, 2))) / 0.6745 / np.sqrt(6)
    peaks, found = signal.find_peaks(values, prominence=max(values.max() / 10, CLEAR * noise, 1e-9))
    clear = peaks[found["prominences"] > values[peaks] / 4]
    return int(clear[-1]) if len(clear) else -1


def refine(maps: np.ndarray, cameras: Cameras, target: Cameras, rounds: Iterable[int]) -> tuple[Cameras, np.ndarray]:
    """Cameras moved along the ground z = 0 and turned about the vertical until each view's `details` fit the others'.

    Each round finds, for every view, the heading (in ever finer steps) and the shift (by Fourier correlation) that fit
    the mean of the others best, within `LIMITS`. A view that fits about as well far outside the limits stays where it
    is. What pictures cannot tell is left as measured: mean position, mean heading and the scale, which belongs to the
    ground's height. Returns the cameras and the moves (V, 3) in metres and degrees.
    """
    size, (metres, degrees), moves = maps.shape[1:], LIMITS, np.zeros((len(maps), 3))
    middle = np.array([[0, 0], [1, 0], [0, 1]]) + [size[1] / 2, size[0] / 2]
    first, *aside = on_ground(target, size, middle)[:, :2]
    pixel = np.array(aside - first).T
    reach = int(np.ceil(2.5 * metres / np.linalg.norm(pixel, axis=0).min()))
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    offsets = np.stack([columns, rows], -1) @ pixel.T
    away = cameras.centers[:, :2] - cameras.centers[:, :2].mean(0)
    for number in rounds:
        registered, inside = _centred(maps, _moved(cameras, moves), target)
        total, count, old = registered.sum(0), inside.sum(0), moves.copy()
        for view in range(len(maps)):
            others = count - inside[view]
            mean = np.where(others >= 2, (total - registered[view]) / np.sqrt(others.clip(1)), 0)
            trials = old[view] + np.outer(degrees * np.linspace(-1, 1, 9) / 2**number, (0, 0, 1))
            same = [view] * len(trials)
            turned, _ = _centred(maps[same], _moved(cameras[same], trials), target)
            fit = np.fft.irfft2(np.fft.rfft2(mean.clip(0) ** 2) * np.conj(np.fft.rfft2(turned)), s=size)
            fit = np.roll(fit, (reach, reach), (1, 2))[:, : 2 * reach + 1, : 2 * reach + 1]
            far = np.linalg.norm(offsets + old[view, :2], axis=2)
            likely = fit * np.exp(-0.5 * ((far / metres) ** 2 + (trials[:, 2] / degrees)[:, None, None] ** 2))
            turn, *_ = best = np.unravel_index((likely * (far < metres)).argmax(), fit.shape)
            clear = fit[best] > fit[turn, (far > 1.5 * metres) & (far < 2.5 * metres)].max(initial=-np.inf)
            fit, trial = likely[turn], trials[turn]
            _, row, column = best
            shift = [column - reach + _vertex(fit[row], column), row - reach + _vertex(fit[:, column], row)]
            moves[view] = trial + [*pixel @ shift, 0] if clear else 0
        # What a turn or a scale of the whole world would do.
        moves[:, 2] -= moves[:, 2].mean()
        moves[:, :2] -= moves[:, :2].mean(0)
        moves[:, :2] -= (moves[:, :2] * away).sum() / (away**2).sum() * away
    return _moved(cameras, moves), moves


def on_ground(target: Cameras, size: tuple[int, int], pixels: np.ndarray) -> np.ndarray:
    """Points (N, 3) of the plane z = 0 that a target of ``size`` (H, W) sees at ``pixels`` (N, 2), columns and rows."""
    half = np.tan(np.radians(target.fov[0]) / 2)
    across = half * (2 * (np.asarray(pixels) + 0.5) - (size[1], size[0])) / size[0]
    rays = np.pad(across, ((0, 0), (0, 1)), constant_values=1) @ target.rotation[0]
    return target.centers[0] - rays * target.centers[0, 2] / rays[:, 2:]


def _small(views: np.ndarray) -> Iterator[np.ndarray]:
    """Views (V, H, W) one by one, averaged down to at most `SIDE` rows, float32."""
    rows = min(SIDE, views.shape[1])
    size = round(views.shape[2] * rows / views.shape[1]), rows
    for view in views:
        yield np.asarray(Image.fromarray(view.astype(np.float32)).resize(size, Image.Resampling.BOX))


def _cells(image: np.ndarray) -> np.ndarray:
    """Sums over `CELLS` × `CELLS` parts of an image."""
    edges = [np.linspace(0, side, CELLS + 1).astype(int)[:-1] for side in image.shape]
    return np.add.reduceat(np.add.reduceat(image, edges[0], 0), edges[1], 1)


def _cameras(rotation: np.ndarray, translation: np.ndarray, like: Cameras) -> Cameras:
    return Cameras(np.concatenate([rotation, translation[:, :, None]], axis=2), like.fov)


def _moved(cameras: Cameras, moves: np.ndarray) -> Cameras:
    turn = Rotation.from_euler("z", moves[:, 2:], degrees=True).as_matrix()
    rotation = cameras.rotation @ turn.transpose(0, 2, 1)
    centers = cameras.centers + moves * (1, 1, 0)
    return _cameras(rotation, -np.einsum("vij,vj->vi", rotation, centers), cameras)


def _centred(maps: np.ndarray, cameras: Cameras, target: Cameras) -> tuple[np.ndarray, np.ndarray]:
    """Maps registered on the ground, less their means, 0 outside; and what is inside."""
    registered, inside = (part[0] for part in integrator.register(maps, cameras, 0.0, target))
    mean = registered.sum((1, 2), keepdims=True) / inside.sum((1, 2), keepdims=True).clip(1)
    return np.where(inside, registered - mean, 0), inside


def _vertex(values: np.ndarray, top: int) -> float:
    """How far the vertex of the parabola through the greatest value and its neighbours lies from it, −½ to ½."""
    if not 0 < top < len(values) - 1:
        return 0.0
    left, middle, right = values[top - 1 : top + 2]
    return 0.5 * (left - right) / min(left - 2 * middle + right, -1e-12)
