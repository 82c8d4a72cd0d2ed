"""One run given as a folder of pictures: integral images named by their heights, or views."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from unveil.aos import camera, flights, integrator, png
from unveil.aos.camera import VIEWS
from unveil.aos.flights import SUFFIXES
from unveil.aos.images import to_uint8
from unveil.aos.integrator import HEIGHTS
from unveil.errors import UnveilError

FEWEST = 3  # views of one's own that make an integral
_PLANE = re.compile(r"(?:.*_)?(-?\d{1,5})cm|(-?\d{1,5})|FP_(-?\d+\.\d+)(?:_resized)?", re.IGNORECASE)
_VIEW = re.compile(r"(?:(.*)_)?pose_(\d+)_thermal", re.IGNORECASE)
_TRUTH = re.compile(r"gt|(?:(.*)_)?GT_pose_0_thermal", re.IGNORECASE)


@dataclass(frozen=True)
class Choice:
    """Which given planes stand in for the wanted ones: their indices, heights wanted, heights taken (metres)."""

    indices: tuple[int, ...]
    wanted: tuple[float, ...]
    heights: tuple[float, ...]

    @property
    def differences(self) -> tuple[float, ...]:
        """Height taken minus height wanted, metres."""
        return tuple(round(taken - wanted, 9) for taken, wanted in zip(self.heights, self.wanted, strict=True))

    def describe(self) -> str:
        """One line for people: which planes were taken for which, and what is doubtful about it."""
        pairs = list(zip(self.heights, self.wanted, strict=True))
        text = "planes " + ", ".join(f"{t:g} m" if t == w else f"{t:g} m for {w:g} m" for t, w in pairs)
        for height in dict.fromkeys(self.heights):
            wanted = [w for t, w in pairs if t == height]
            if len(wanted) > 1:
                text += f"; warning: {height:g} m stands in for {len(wanted)} planes ({metres(wanted)})"
        return text


def nearest(heights: Sequence[float], wanted: Sequence[float]) -> Choice:
    """For each wanted height the given plane nearest to it, the lower one of two as near."""
    if len(heights) == 0:
        raise UnveilError("no plane is given to choose from")
    indices = tuple(
        min(range(len(heights)), key=lambda i: (round(abs(heights[i] - height), 6), heights[i])) for height in wanted
    )
    return Choice(indices, tuple(map(float, wanted)), tuple(float(heights[i]) for i in indices))


def metres(heights: Iterable[float]) -> str:
    """Heights as text."""
    return ", ".join(f"{height:g}" for height in heights) + " m"


@dataclass(frozen=True)
class Folder:
    """A folder of pictures of one run.

    heights: of the planes, metres, ascending; empty for a folder of views · planes: (N, H, W) uint8; N = 0 for a folder
    of views · truth: (H, W) uint8 or None · views: (V, H, W) uint8 or None · notes: what was left aside, a line each ·
    cameras, target: of the views, and the one that is restored.
    """

    path: Path
    heights: tuple[float, ...]
    planes: np.ndarray
    truth: np.ndarray | None
    views: np.ndarray | None
    notes: tuple[str, ...] = ()
    cameras: camera.Cameras = field(default_factory=camera.course_rig)
    target: int = camera.CENTER_VIEW

    def stack(self, heights: Sequence[float] = HEIGHTS, ground: float = 0.0) -> tuple[np.ndarray, Choice]:
        """Focal stack (P, H, W) uint8 for these heights: integrated from the views, or the nearest planes.

        Of views, heights count from the plane ``ground`` metres up.
        """
        if self.views is None:
            choice = nearest(self.heights, heights)
            every = choice.indices == tuple(range(len(self.planes)))
            return self.planes if every else self.planes[list(choice.indices)], choice
        wanted = tuple(map(float, heights))
        planes = [ground + height for height in wanted]
        image = integrator.integrate(self.views, self.cameras, planes, self.target).image
        return to_uint8(image), Choice(tuple(range(len(wanted))), wanted, wanted)


def run_of(name: str) -> str | None:
    """The run that the name of a view or truth begins with (0_7 of 0_7_pose_3_thermal.png); None for other names."""
    match = _TRUTH.fullmatch(Path(name).stem) or _VIEW.fullmatch(Path(name).stem)
    return match and match[1]


def read_folder(path: str | Path, pictures: Iterable[Path] | None = None) -> Folder:
    """Read one run given as pictures: a focal stack, the 11 views of the course rig, or views with poses.

    Planes are named by their height in cm (``000.png``, ``integral_060cm.png``) or, as JKU's tools do, in metres
    (``FP_0.20.png``, ``FP_1.00_resized.png``). Views are named ``…pose_0_thermal.png`` to ``…pose_10_thermal.png``, or
    are those of a ``poses.json`` that names them, see :func:`flights.read`; they win over planes. The truth is
    ``gt.png`` or ``…GT_pose_0_thermal.png``. All are of one size and 8-bit gray (or RGB with equal channels): PNG, JPEG
    or TIFF. Of a folder that holds many runs, ``pictures`` are those of one, and ``path`` is what errors call it.

    Raises UnveilError for no such folder, no planes nor views in it, two files for one plane, and pictures that cannot
    be read, are not 8-bit gray or differ in size.
    """
    path = Path(path)
    if pictures is None and not path.is_dir():
        raise UnveilError(f"{path} is no folder: give a folder of PNGs named by height in cm, or of a run's 11 views")
    views, planes, truths, others = _sort(path, path.iterdir() if pictures is None else pictures)
    poses = path / "poses.json"
    if poses.is_file() and "imagefile" in poses.read_text("utf-8", errors="replace"):
        return _flown(path, truths)
    whole = [prefix for prefix, files in views.items() if sorted(files) == list(range(VIEWS))]
    notes = [f"{len(others)} other pictures are left aside (such as {others[0]})"] if others else []
    if len(whole) > 1:
        raise UnveilError(f"{path} holds the views of {len(whole)} runs: give each run a folder of its own")
    if whole:
        chosen = [file for _, file in sorted(views[whole[0]].items())]
        if planes:
            notes.append(f"{len(planes)} integral images are left aside: the 11 views are integrated instead")
    elif planes:
        chosen = [file for _, file in sorted(planes.items())]
        if views:
            notes.append(f"views are left aside, for there are not all {VIEWS} of them")
    elif views:
        files = max(views.values(), key=len)
        absent = [f"pose_{pose}" for pose in range(VIEWS) if pose not in files]
        lack = ", ".join(absent) or "none, but there are others than pose_0 … pose_10"
        raise UnveilError(f"{path}: of the views of one run these are missing: {lack}; add them")
    else:
        names = "000.png, integral_060cm.png"
        raise UnveilError(f"{path} holds no focal stack: name its PNGs by height in cm ({names}) or give a run's views")
    images, coloured = _read_all(path, chosen + truths)
    notes += coloured
    truth = images.pop() if truths else None
    stack = np.stack(images)
    if whole:
        return Folder(path, (), stack[:0], truth, stack, tuple(notes))
    return Folder(path, tuple(sorted(planes)), stack, truth, None, tuple(notes))


def _flown(path: Path, truths: list[Path]) -> Folder:
    """Views with poses of their own."""
    flight = flights.read(path)
    if len(flight) < FEWEST:
        raise UnveilError(f"{path}: {len(flight)} views are too few to integrate: at least {FEWEST} are needed")
    views = to_uint8(flight.views) if flight.views.dtype != np.uint8 else flight.views
    images, notes = _read_all(path, truths)
    if truths and images[0].shape != views[0].shape:
        raise UnveilError(f"{truths[0]}: its size is not that of the views; remove it")
    return Folder(path, (), views[:0], (images or [None])[0], views, tuple(notes), flight.cameras, flight.target)


def _sort(
    path: Path, pictures: Iterable[Path]
) -> tuple[dict[str, dict[int, Path]], dict[float, Path], list[Path], list[str]]:
    """Pictures by their names: views by prefix and pose, planes by height, truths, names of others."""
    views: dict[str, dict[int, Path]] = {}
    planes: dict[float, Path] = {}
    truths, others = [], []
    for file in sorted(item for item in pictures if item.suffix.lower() in SUFFIXES and not item.is_dir()):
        if _TRUTH.fullmatch(file.stem):
            truths.append(file)
        elif match := _VIEW.fullmatch(file.stem):
            views.setdefault(match[1] or "", {})[int(match[2])] = file
        elif match := _PLANE.fullmatch(file.stem):
            height = float(match[3]) if match[3] else int(match[1] or match[2]) / 100
            if planes.setdefault(height, file) is not file:
                raise UnveilError(f"{path}: {planes[height].name} and {file.name} are the same plane: remove one")
        else:
            others.append(file.name)
    if len(truths) > 1:
        raise UnveilError(f"{path}: {truths[0].name} and {truths[1].name} are both truths: remove one of them")
    return views, planes, truths, others


def _read_all(path: Path, files: list[Path]) -> tuple[list[np.ndarray], list[str]]:
    """The pictures, and a note where some are in colour."""
    images, coloured = [], []
    for file in files:
        image, in_colour = _read_gray(file)
        images.append(image)
        coloured += [file.name] if in_colour else []
        if image.shape != images[0].shape:
            sizes = [f"{f.name} {i.shape[1]} × {i.shape[0]}" for f, i in ((files[0], images[0]), (file, image))]
            raise UnveilError(f"{path}: pictures of different sizes ({' and '.join(sizes)}): all must have one size")
    return images, [f"{len(coloured)} pictures are RGB with equal channels, read as gray"] if coloured else []


def _read_gray(path: Path) -> tuple[np.ndarray, bool]:
    """The pixels, and whether the file is in colour."""
    if not path.is_file():
        raise UnveilError(f"{path} is no ordinary file: replace it")
    try:
        with Image.open(path) as image:
            mode, kind, pixels = image.mode, image.format, np.empty(image.size[::-1], np.uint8)
            if (mode, kind) == ("L", "PNG"):
                # Pillow would pass over a cut-off end.
                png.decode(path.read_bytes(), pixels)
            else:
                pixels = np.asarray(image)
    except UnidentifiedImageError:
        raise UnveilError(f"{path} is empty or no picture: replace it") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        what = error if isinstance(error, ValueError) else f"cannot be read as a picture ({error})"
        raise UnveilError(f"{path} {what}: replace it") from error
    if mode == "RGB" and (pixels == pixels[..., :1]).all():
        return pixels[..., 0], True
    if mode != "L":
        raise UnveilError(f"{path} is not an 8-bit gray picture (its mode is {mode}): convert it to 8-bit gray")
    return pixels, False
