"""The ground found in the pictures themselves: the plane on which a flight's views agree best, and better poses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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

FARTHEST, STEEPEST = 16, 15.0
"""Planes are tried up to so many times the nearest distance, and tilted by up to so many degrees."""

Progress = Callable[[int, int], None]


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
    ground and degrees of heading; and `sharpness` before and after.
    """

    ground: Ground
    cameras: Cameras
    target: Cameras
    moves: np.ndarray
    sharpness: tuple[float, float]


def details(views: np.ndarray) -> np.ndarray:
    """What stands out warm in each view: (V, H, W) gray levels → (V, `SIDE`, W') float32 in [0, 8].

    The views' brightness is taken out (a Gaussian of 6 pixels), and one unit is the spread of what is around (a
    Gaussian of 32 pixels), so that gain, sun and shade do not count; nothing counts more than 8, or one sunlit
    branch would outweigh the ground.
    """
    rows = min(SIDE, views.shape[1])
    columns, scale, found = round(views.shape[2] * rows / views.shape[1]), rows / SIDE, []
    for view in views:
        small = np.asarray(Image.fromarray(view.astype(np.float32)).resize((columns, rows), Image.Resampling.BOX))
        fine = ndimage.gaussian_filter(small, scale) - ndimage.gaussian_filter(small, 6 * scale)
        found.append((fine, np.sqrt(ndimage.gaussian_filter(fine**2, 32 * scale))))
    fine, spread = map(np.array, zip(*found, strict=True))
    return np.clip(fine / np.maximum(spread, max(np.median(spread) / 2, 1e-6)), 0, 8).astype(np.float32)


def sharpness(maps: np.ndarray, cameras: Cameras, target: Cameras, height: float = 0.0) -> float:
    """How well views agree on a plane: the fourth moment of the integral of their `details`, over the whole picture.

    Noise in n views averages out as 1/√n; hence the integral counts √n times. The fourth power prefers few things
    seen sharply to many seen vaguely: crowns agree a little over many heights, what lies on the ground at one.
    """
    image, coverage = (part[0] for part in integrator.integrate(maps, cameras, height, target))
    known = 2 * coverage >= len(maps)
    level = np.average(image, weights=known) if known.any() else 0.0
    return float(np.mean(known * (coverage * (image - level) ** 2) ** 2))


def autofocus(views: np.ndarray, cameras: Cameras, target: Cameras, progress: Progress | None = None) -> Focus:
    """The plane on which the views (V, H, W) agree best, tilt included, and poses refined by that agreement.

    Heights are tried from where half of the views still cover half of the target's picture to `FARTHEST` times as far,
    in steps of one pixel of parallax. The ground is the lowest clear peak of `sharpness`, because crowns make peaks
    above it. Then `refine` and the search for height and tilt take turns.

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
    for step, distance in enumerate(1 / inverse, 1):
        found.append(sharpness(maps, cameras, target, -target.centers[0, 2] - distance * down))
        if progress:
            progress(step, len(inverse) + 8)
    found = np.array(found)
    peaks, found_peaks = signal.find_peaks(found, prominence=found.max() / 10)
    clear = peaks[found_peaks["prominences"] > found[peaks] / 4]
    if not len(clear):
        raise UnveilError("the views agree on no plane below the cameras: check that pictures overlap and poses fit")
    distance, step = 1 / inverse[clear[-1]], 2 * half / maps.shape[1] / away / inverse[clear[-1]] ** 2
    ground = Ground(np.eye(3), target.centers[0] + distance * target.rotation[0, 2])
    place, eye, moves = ground.cameras(cameras), ground.cameras(target), np.zeros((len(cameras), 3))
    for turn, rounds in enumerate((range(6), range(3, 6)), 1):
        place, more = refine(maps, place, eye, rounds)
        tilted = level(maps, place, eye, step)
        ground = Ground(tilted.rotation @ ground.rotation, ground.world(tilted.origin))
        place, eye, moves = tilted.cameras(place), tilted.cameras(eye), moves + more
        if progress:
            progress(len(inverse) + 4 * turn, len(inverse) + 8)
    before = sharpness(maps, ground.cameras(cameras), eye)
    return Focus(ground, place, eye, moves, (before, sharpness(maps, place, eye)))


def level(maps: np.ndarray, cameras: Cameras, target: Cameras, step: float) -> Ground:
    """Where the plane z = 0 must be moved (about ``step`` metres) and tilted to for the views to agree best.

    What tilt the odd and the even views do not agree upon is noise and is shrunk away (James and Stein 1961).
    """

    def plane(x: np.ndarray) -> Ground:
        return Ground(Rotation.from_rotvec([x[1], x[2], 0]).as_matrix(), x[0] * target.rotation[0, 2])

    def fit(some: slice, start: np.ndarray, free: int = 3) -> np.ndarray:
        def loss(x: np.ndarray) -> float:
            it = plane(np.append(x, start[free:]))
            if it.tilt > STEEPEST:
                return 0.0
            return -sharpness(maps[some], it.cameras(cameras[some]), it.cameras(target))

        simplex = start[:free] + np.diag([step, 0.05, 0.05])[:free, :free]
        options = {"initial_simplex": [start[:free], *simplex], "maxfev": 60, "xatol": 1e-3, "fatol": 0}
        found = optimize.minimize(loss, start[:free], method="Nelder-Mead", options=options).x
        return np.append(found, start[free:])

    both = fit(slice(None), np.zeros(3))
    odd, even = (fit(slice(first, None, 2), np.zeros(3)) for first in (1, 0))
    noise = np.sum((odd - even)[1:] ** 2) / 4
    both[1:] *= max(0.0, 1 - noise / np.sum(both[1:] ** 2))
    return plane(fit(slice(None), both, 1))


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
            clear = fit[best] > fit[turn, (far > 1.5 * metres) & (far < 2.5 * metres)].max()
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
