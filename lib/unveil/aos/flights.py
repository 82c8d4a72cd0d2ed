"""Real flights: pictures of a drone with the poses from which they were taken.

Poses come as JSON in the form of JKU Linz's Airborne Optical Sectioning data,
``{"images": [{"imagefile": name, "M3x4": [[…], […], […]]}, …]}``, or as the lists ``imagefiles`` and ``views``. The
matrices are world→camera with z down, in metres; the poses' origin is where the flight's surveyor put it, often in the
air, so the ground may lie at a negative focal height.

Or as a table (CSV) with the columns ``name, x, y, z, yaw, pitch, roll``: the camera's place in metres, z down, and its
rotation camera→world in degrees, ``Rz(yaw) Ry(pitch) Rx(roll)``. With all three 0 the camera looks straight down, its
right is +x and its lower edge +y.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from unveil import files
from unveil.aos.camera import Cameras
from unveil.errors import UnveilError

FIELD_OF_VIEW = 50.815436217896945
"""Degrees, of the thermal camera of JKU's flights; their pose files do not name it."""

TONES = (50, 99.9)
"""Percentiles that gray levels are matched by: the median, and the hottest thousandth."""

COLUMNS = ("x", "y", "z", "yaw", "pitch", "roll")
"""Of a table of poses, beside ``name``; metres and degrees."""

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Flight:
    """A flight's pictures (V, H, W), uint8 or (16-bit or levelled) float32, their cameras, the index of the view
    from which integrals are seen, and the pictures' names.
    """

    views: np.ndarray
    cameras: Cameras
    target: int
    names: list[str]

    def __len__(self) -> int:
        return len(self.views)


def read(
    folder: str | Path, level: bool = False, *, images: str | Path | None = None, fov: float | None = None
) -> Flight:
    """Read a flight from a pose file, or from the folder that holds it.

    Of a folder ``poses.json`` or ``poses.csv`` is read, else the only JSON or CSV file in it or in ``poses`` below it.

    level: bring the views' gray levels together, because the camera's gain steps show as seams; see `levelled` ·
    images: where the pictures lie; by default beside the pose file, or in ``images`` below or beside ``poses`` · fov:
    vertical field of view in degrees where the pose file names none; by default that of JKU's camera. The target is the
    pose file's ``center``, else the middle view.

    Raises UnveilError for a pose file that is missing or malformed, pictures that cannot be read or differ in size.
    """
    path = Path(folder)
    if path.is_dir():
        path = _find_poses(path)
    poses = _read_table(path) if path.suffix.lower() == ".csv" else _read_json(path)
    try:
        if "images" in poses:
            poses |= {"imagefiles": [image["imagefile"] for image in poses["images"]]}
            poses |= {"views": [image["M3x4"] for image in poses["images"]]}
        # JKU's files write some of the numbers as strings.
        names, extrinsics = list(map(str, poses["imagefiles"])), np.array(poses["views"]).astype(np.float64)
        fov = float(poses.get("fov_images", poses.get("fov", FIELD_OF_VIEW if fov is None else fov)))
        target = int(poses.get("center", len(names) // 2))
    except (KeyError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {error}"
        raise UnveilError(f"{path}: not a pose file ({what}); expected images with imagefile and M3x4 each") from None
    if not names or len(names) != len(extrinsics):
        raise UnveilError(f"{path}: {len(names)} pictures and {len(extrinsics)} poses; each picture needs one pose")
    if not 0 <= target < len(names):
        raise UnveilError(f"{path}: the centre view {target} is not among the {len(names)} pictures")
    try:
        cameras = Cameras(extrinsics, fov)
    except UnveilError as error:
        raise UnveilError(f"{path}: {error}") from None
    places = [path.parent, path.parent / "images"] if images is None else [Path(images)]
    if images is None and path.parent.name == "poses":
        places.append(path.parent.parent / "images")
    found = [_find_picture(name, places, path) for name in names]
    pictures = [_read_picture(picture) for picture in found]
    for picture, pixels in zip(found, pictures, strict=True):
        if pixels.shape != pictures[0].shape:
            raise UnveilError(f"{picture}: {pixels.shape} pixels, the flight's first picture has {pictures[0].shape}")
    views = np.stack(pictures)
    return Flight(levelled(views) if level else views, cameras, target, names)


def levelled(views: np.ndarray) -> np.ndarray:
    """Undo the camera's gain steps: each view is scaled and shifted to the same median and interquartile range.

    (V, H, W) gray levels → float32, not clipped, with the median of the views' medians and of their ranges. A view
    without any range is only shifted. On JKU's flight the median alone leaves seams where the gain changed.
    """
    low, median, high = np.percentile(views, (25, 50, 75), axis=(1, 2))[:, :, None, None]
    spread = high - low
    gain = np.divide(np.median(spread), spread, out=np.ones_like(spread), where=spread > 0)
    return ((views - median) * gain + np.median(median)).astype(np.float32)


def tones(images: np.ndarray) -> np.ndarray:
    """The two gray levels of images of any shape that `toned` goes by: their `TONES` percentiles, float64 (2,)."""
    return np.percentile(images, TONES)


def toned(views: np.ndarray, seen: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Bring a flight's gray levels (V, H, W) to those that a network was trained on.

    ``seen`` are the `tones` of the flight in what the network is fed with (views or integral images), ``known`` those
    of the same kind of images in the training. Returns float32, not clipped: one straight line for all gray levels
    that takes ``seen`` to ``known``. Raises UnveilError where the two tones are equal, as in a plain image.
    """
    if not seen[1] > seen[0]:
        raise UnveilError(f"gray levels with the tones {seen[0]:g} and {seen[1]:g} have no range that could be matched")
    gain = (known[1] - known[0]) / (seen[1] - seen[0])
    return ((views - seen[0]) * gain + known[0]).astype(np.float32)


def _find_poses(folder: Path) -> Path:
    for usual in (folder / "poses.json", folder / "poses.csv"):
        if usual.is_file():
            return usual
    found = sorted(path for place in (folder, folder / "poses") for path in place.glob("*.[cj]s[vo]*"))
    if len(found) > 1:
        raise UnveilError(f"{folder}: {len(found)} files may hold the poses; name one of them, such as {found[0]}")
    return found[0] if found else folder / "poses.json"


def _read_table(path: Path) -> dict:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
        names = [row["name"] for row in rows]
        numbers = np.array([[float(row[key]) for key in COLUMNS] for row in rows]).reshape(-1, len(COLUMNS))
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise UnveilError(f"{path}: not a table of poses ({error}); it needs name, {', '.join(COLUMNS)}") from None
    rotation = Rotation.from_euler("ZYX", numbers[:, 3:], degrees=True).as_matrix().transpose(0, 2, 1)
    translation = -np.einsum("vij,vj->vi", rotation, numbers[:, :3])
    return {"imagefiles": names, "views": np.concatenate([rotation, translation[:, :, None]], axis=2)}


def _read_json(path: Path) -> dict:
    poses = files.read_json(path, "name the file that holds the poses")
    if not isinstance(poses, dict):
        raise UnveilError(f"{path}: a pose file is a JSON object, this is a {type(poses).__name__}")
    return poses


def _find_picture(name: str, places: list[Path], poses: Path) -> Path:
    for place in places:
        # JKU's pose files name raw TIFFs, of which the published pictures are PNGs.
        for candidate in (place / name, *((place / name).with_suffix(suffix) for suffix in SUFFIXES)):
            if candidate.is_file():
                return candidate
    looked = " or ".join(str(place) for place in places)
    raise UnveilError(f"{poses}: the picture {name} is not in {looked}; put it there or leave it out of the poses")


def _read_picture(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnveilError(f"{path}: not a readable picture ({error})") from None
    if pixels.ndim != 2 or pixels.dtype.kind not in "uif":
        raise UnveilError(f"{path}: a gray picture is needed, this one has the mode {picture.mode}; convert it")
    return pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)
