"""Clean pictures to learn from, and reading and writing of any: gray, colour, alpha, 8 or 16 bits.

Pictures are float32 (C, H, W) in [0, 1] with C = 1 gray, 2 gray and alpha, 3 colour, 4 colour and alpha; sRGB as it
stands in the file. Light adds up in linear values instead: `degrade.noise.Linear` converts.
"""

from __future__ import annotations

import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import png
from PIL import Image, ImageOps, UnidentifiedImageError

from unveil import files, project
from unveil.degrade.ageing import luminance
from unveil.degrade.sampling import Resize
from unveil.errors import UnveilError

LARGEST = 170_000_000  # pixels; Pillow refuses more, because a small file can claim any size
SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".pgm", ".ppm", ".jp2"}


def read(path: str | os.PathLike[str], channels: int | None = None) -> np.ndarray:
    """Any picture Pillow reads, upright (EXIF), as float32 (C, H, W) in [0, 1]; of an animation the first frame.

    ``channels`` 1 or 3 converts, transparency laid over white; None keeps gray, colour and alpha. Palettes, CMYK and
    the like become RGB. Gray keeps 16 bits, and so does RGB, with or without alpha, of PNG and TIFF.
    """
    path = Path(path)
    try:
        if not path.stat().st_size:
            raise UnveilError(f"{path}: is empty (0 bytes); copy or download it again")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture, low = _upright(path), _upright(path, low=True)
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
        raise UnveilError(f"{path}: is not a picture Pillow can read; save it as PNG or JPEG") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnveilError(f"{path}: cannot be read ({reason}); check the path and the file") from error
    if low is None:
        return _array(picture, channels)
    x = (np.asarray(picture, np.float32) * 256 + np.asarray(low)).transpose(2, 0, 1) / np.float32(65535)
    x = x[:3] * x[3:] + 1 - x[3:] if channels and len(x) == 4 else np.ascontiguousarray(x)
    return luminance(x) if channels == 1 else x


def _upright(path: Path, low: bool = False) -> Image.Image | None:
    """The picture; with ``low`` the low bytes of 16-bit colour, of which Pillow keeps the high ones, else None."""
    with Image.open(path) as file:
        if file.width * file.height > LARGEST:
            raise UnveilError(f"{path}: {file.width} × {file.height} is too large; cut it into parts")
        if low:
            file.tile = [swapped for tile in file.tile if (swapped := _swapped(tile))]
            if not file.tile:
                return None
        file.load()
        return ImageOps.exif_transpose(file)


def _swapped(tile: Any) -> Any:
    """The tile of 16-bit colour with its bytes in the other order, so that the low one is kept; None of other tiles."""
    first, *rest = [tile.args] if isinstance(tile.args, str) else tile.args or [""]
    if not (found := re.fullmatch("(RGBA?;16)([BLN])", str(first))):
        return None
    little = found[2] == "L" or (found[2] == "N" and sys.byteorder == "little")
    first = found[1] + ("B" if little else "L")
    return tile._replace(args=(first, *rest) if rest else first)


def _array(picture: Image.Image, channels: int | None) -> np.ndarray:
    if picture.mode.startswith(("I", "F")):
        top = 1.0 if picture.mode == "F" else 65535.0
        x = np.clip(np.asarray(picture, np.float32) / top, 0, 1)[None]
        return x if channels in (None, 1) else np.repeat(x, 3, axis=0)
    if picture.mode not in ("L", "LA", "RGB", "RGBA"):
        picture = picture.convert("L" if picture.mode == "1" else "RGBA" if picture.has_transparency_data else "RGB")
    if channels and picture.mode in ("LA", "RGBA"):
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    if channels:
        picture = picture.convert("L" if channels == 1 else "RGB")
    x = np.asarray(picture)
    x = x[None] if x.ndim == 2 else x.transpose(2, 0, 1)
    return unit(np.ascontiguousarray(x))


def write(path: str | os.PathLike[str], picture: np.ndarray, overwrite: bool = False, bits: int = 8) -> Path:
    """Write (C, H, W) or (H, W) in [0, 1], rounded; the suffix says the format. 16 bits: PNG, and gray TIFF."""
    path, x = vacant(path, overwrite), picture if picture.ndim == 3 else picture[None]
    if path.suffix.lower() not in SUFFIXES:
        raise UnveilError(f"{path}: unknown kind of picture; use one of {', '.join(sorted(SUFFIXES))}")
    if path.suffix.lower() in (".jpg", ".jpeg", ".bmp") and len(x) in (2, 4):
        x = x[:-1] * x[-1:] + 1 - x[-1:]  # these formats have no alpha: over white
    if bits == 16 and len(x) > 1 and path.suffix.lower() == ".png":
        writer = png.Writer(x.shape[2], x.shape[1], greyscale=len(x) == 2, alpha=len(x) in (2, 4), bitdepth=16)
        rows = (np.rint(x[:, r].T.clip(0, 1) * 65535).astype(">u2").tobytes() for r in range(x.shape[1]))
        with files.replacing(path) as temporary, open(temporary, "wb") as file:
            writer.write_packed(file, rows)
        return path
    deep = bits == 16 and len(x) == 1
    image = Image.fromarray(np.rint(x[0].clip(0, 1) * 65535).astype(np.uint16) if deep else shown(bytes_of(x)))
    with files.replacing(path) as temporary:
        image.save(temporary, **({"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg", ".webp") else {}))
    return path


def bits(picture: np.ndarray) -> int:
    """16 where (C, H, W) has levels between the 256 of bytes, else 8."""
    levels = (rows * 255 for rows in picture.transpose(1, 0, 2))
    return 16 if any(np.abs(row - np.rint(row)).max() > 0.002 for row in levels) else 8


def vacant(path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """The path, if nothing is there or may be overwritten; ask before long work."""
    if Path(path).exists() and not overwrite:
        raise UnveilError(f"{path}: exists already; choose another --out or say --overwrite")
    return Path(path)


def bytes_of(picture: np.ndarray) -> np.ndarray:
    """[0, 1] to uint8, clipped and rounded; bytes stay."""
    return picture if picture.dtype == np.uint8 else np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def unit(picture: np.ndarray) -> np.ndarray:
    """Bytes to float32 in [0, 1]; floats stay."""
    return np.divide(picture, np.float32(255), dtype=np.float32) if picture.dtype == np.uint8 else picture


def shown(picture: np.ndarray) -> np.ndarray:
    """(C, H, W) as (H, W) or (H, W, C), the order of figures and of Pillow."""
    return picture[0] if len(picture) == 1 else np.ascontiguousarray(picture.transpose(1, 2, 0))


def find(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The pictures among files and in folders (searched whole), sorted; a file named outright is always taken."""
    found: list[Path] = []
    for path in map(Path, paths):
        found += sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not found:
            raise UnveilError(f"{path}: no pictures in this folder; give a folder with PNG or JPEG files")
    return found


@dataclass
class Pictures:
    """Clean pictures, uint8 (3, H, W), by number; ``+`` joins and ``* n`` repeats, to mix in other proportions."""

    ids: list[str]
    load: Callable[[int], np.ndarray]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.load(i)

    def __add__(self, other: Pictures) -> Pictures:
        return Pictures(self.ids + other.ids, lambda i: self[i] if i < len(self) else other[i - len(self)])

    def __mul__(self, times: int) -> Pictures:
        return Pictures([f"{n}:{i}" for n in range(times) for i in self.ids], lambda i: self[i % len(self)])

    def shrunk(self, factor: float) -> Pictures:
        """Averaged down, 0 < factor ≤ 1, which also hides JPEG's traces."""
        down, ids = Resize(factor, "area"), [f"{i}@{factor}" for i in self.ids]
        return Pictures(ids, cache(lambda i: bytes_of(down(unit(self[i])))))


def folder(path: str | os.PathLike[str]) -> Pictures:
    """All pictures of a folder, read anew each time."""
    return several(find([path]))


def several(paths: Sequence[Path]) -> Pictures:
    """Pictures from these files."""
    return Pictures([f"{p.parent.name}/{p.name}" for p in paths], lambda i: bytes_of(read(paths[i], 3)))


def free_photos() -> Pictures:
    """The 65 photographs under free licences that come with the project; `LICENCES.csv` names their authors."""
    photos = folder(project.ROOT / "data" / "samples" / "photos")
    return Pictures(photos.ids, cache(photos.load))


def samples(names: Sequence[str] = ("astronaut", "chelsea", "coffee", "rocket")) -> Pictures:
    """Pictures that travel with scikit-image: kept out of the training, so that every reader can score on them."""
    import skimage.data

    return Pictures(list(names), lambda i: np.ascontiguousarray(getattr(skimage.data, names[i])().transpose(2, 0, 1)))


def cifar(path: str | os.PathLike[str]) -> Pictures:
    """CIFAR-10's 32 × 32 pictures: a folder of its binary version (``*.bin``), or one PNG with 32-pixel tiles."""
    path = Path(path)
    if path.is_dir():
        parts = [np.fromfile(p, np.uint8).reshape(-1, 3073)[:, 1:] for p in sorted(path.glob("*_batch*.bin"))]
        if not parts:
            raise UnveilError(f"{path}: no *_batch*.bin in this folder; unpack cifar-10-binary.tar.gz here")
        tiles = np.concatenate(parts).reshape(-1, 3, 32, 32)
    else:
        sheet = bytes_of(read(path, 3))
        rows, columns = sheet.shape[1] // 32, sheet.shape[2] // 32
        sheet = sheet[:, : 32 * rows, : 32 * columns].reshape(3, rows, 32, columns, 32)
        tiles = sheet.transpose(1, 3, 0, 2, 4).reshape(-1, 3, 32, 32)
    return Pictures([f"cifar/{i:05d}" for i in range(len(tiles))], lambda i: tiles[i])


def leaves(count: int = 800, size: int = 256, seed: int = 7) -> Pictures:
    """Dead leaves pictures, made when first asked for (about 25 ms each of 256 × 256)."""
    ids = [f"leaves/{seed}-{i:05d}" for i in range(count)]
    return Pictures(ids, cache(lambda i: bytes_of(dead_leaves((size, size), np.random.default_rng([seed, i])))))


def dead_leaves(shape: tuple[int, int], rng: np.random.Generator, oversample: int = 2) -> np.ndarray:
    """A picture from nothing: overlapping opaque shapes (Lee, Mumford & Huang 2001; Achddou et al. 2021).

    Ellipses, and boxes one time in three, with radii of density r⁻³: statistics independent of scale, as those of
    photographs are. Luminance Beta(1.3, 1.5), narrow chroma, a slight gradient and sine texture inside a leaf. Drawn
    front to back at ``oversample`` times the size and averaged. Returns float32 (3, H, W).
    """
    height, width = (oversample * side for side in shape)
    side = max(height, width)
    canvas, covered = np.zeros((height, width, 3), np.float32), np.zeros((height, width), bool)
    smallest = min(oversample * math.exp(rng.uniform(0, math.log(14))), side / 4)
    shift, spread = rng.normal(0, 0.12), rng.uniform(0.01, 0.08)
    tint, axis, texture = rng.normal(0, 0.04, (2, 1)), rng.normal(0, 1, (2, 1)), rng.uniform(0, 0.08)
    axis /= np.linalg.norm(axis)
    remaining, n = covered.size, 4096
    while remaining:
        radius = smallest / np.sqrt(1 - rng.random(n) * (1 - (smallest / side) ** 2))
        centres = rng.uniform(-0.2 * side, 1.2 * side, n), rng.uniform(-0.2 * side, 1.2 * side, n)
        form = np.stack(
            [*centres, radius, rng.uniform(0.4, 1, n), rng.uniform(0, math.pi, n), rng.random(n) < 1 / 3], 1
        )
        y = np.clip(rng.beta(1.3, 1.5, n) + shift, 0, 1)
        cb, cr = tint + spread * (axis * rng.normal(0, 1, n) + 0.35 * rng.normal(0, 1, (2, n)))
        colour = np.stack([y + 1.402 * cr, y - 0.344 * cb - 0.714 * cr, y + 1.772 * cb], 1)
        slope, frequency = rng.normal(0, 0.06, n), rng.uniform(0.15, 1.2, n) / oversample
        angle = rng.uniform(0, 2 * math.pi, n)
        strength = np.where(rng.random(n) < 0.5, rng.uniform(0, texture, n), 0)
        wave = np.stack([strength, frequency * np.cos(angle), frequency * np.sin(angle), 7 * angle], 1)
        remaining = _paint(canvas, covered, remaining, form, colour, slope, wave)
    canvas = canvas.clip(0, 1).reshape(shape[0], oversample, shape[1], oversample, 3).mean((1, 3))
    return np.ascontiguousarray(canvas.transpose(2, 0, 1))


@numba.njit(cache=True)
def _paint(canvas, covered, remaining, form, colour, slope, wave):  # type: ignore[no-untyped-def]
    """Draw leaves behind all that is there until nothing is bare; returns how many pixels are."""
    height, width = covered.shape
    for n in range(len(form)):
        cy, cx, radius, ratio, angle, box = form[n]
        sine, cosine, reach = math.sin(angle), math.cos(angle), 1.5 * radius
        for y in range(max(0, math.ceil(cy - reach)), min(height, math.floor(cy + reach) + 1)):
            for x in range(max(0, math.ceil(cx - reach)), min(width, math.floor(cx + reach) + 1)):
                if covered[y, x]:
                    continue
                u = (cosine * (x - cx) + sine * (y - cy)) / radius
                v = (cosine * (y - cy) - sine * (x - cx)) / (radius * ratio)
                if (max(abs(u), abs(v)) if box else math.sqrt(u * u + v * v)) > 1.0:
                    continue
                covered[y, x] = True
                remaining -= 1
                phase = radius * (wave[n, 1] * u + wave[n, 2] * v) + wave[n, 3]
                for c in range(3):
                    canvas[y, x, c] = colour[n, c] + slope[n] * u + wave[n, 0] * math.sin(phase)
        if remaining == 0:
            break
    return remaining
