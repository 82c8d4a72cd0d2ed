"""Runs and archives made by hand for the tests."""

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from test_parameters import SAMPLE

from unveil.aos import archives


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def gray(level: int) -> np.ndarray:
    image = np.full((512, 512), level, np.uint8)
    image[level % 512, :50] = 255
    return image


def raw_png(rows: bytes, height: int = 512, interlace: int = 0, cut: int = 0) -> bytes:
    """A PNG of filtered rows, whatever their number, all its chunks well-formed; ``cut`` shortens the pixel data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 512, height, 8, 0, 0, 0, interlace)
    pixels = zlib.compress(rows)
    pixels = pixels[: len(pixels) - cut]
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


ROW = b"\0" + b"\x64" * 512
PNGS = [png(gray(level)) for level in range(12)]


def run_names(name: str) -> list[str]:
    return [
        *(f"{name}_pose_{i}_thermal.png" for i in range(11)),
        f"{name}_GT_pose_0_thermal.png",
        f"{name}_Parameters.txt",
    ]


def run_files(name: str, folder: str = "") -> dict[str, bytes]:
    """The thirteen files of a run; its views are gray levels 0…10 and its truth is 11."""
    files = {f"{folder}{name}_pose_{i}_thermal.png": PNGS[i] for i in range(11)}
    files[f"{folder}{name}_GT_pose_0_thermal.png"] = PNGS[11]
    files[f"{folder}{name}_Parameters.txt"] = SAMPLE.encode()
    return files


class Stream(io.RawIOBase):
    """A file that cannot go back, as of a server that packs while it sends: sizes then stand after the data."""

    def __init__(self, path: Path):
        self.file = open(path, "wb")

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        return self.file.write(data)

    def close(self) -> None:
        self.file.close()


def write_zip(
    path: Path, *groups: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, streamed: bool = False
) -> Path:
    out = Stream(path) if streamed else open(path, "wb")
    with out, zipfile.ZipFile(out, "w", method) as archive:
        for files in groups:
            for name, data in files.items():
                archive.writestr(name, data)
    return path


def without(files: dict[str, bytes], *parts: str) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if not any(part in name for part in parts)}


def only(files: dict[str, bytes], *parts: str) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if any(part in name for part in parts)}


def ids(entries: list[archives.Entry]) -> list[str]:
    return [entry.id for entry in entries]


def flip(path: Path, name: str) -> None:
    """Change one bit in the stored bytes of a file inside an archive."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
    data = bytearray(path.read_bytes())
    data[info.header_offset + 30 + len(name) + info.compress_size // 2] ^= 16
    path.write_bytes(data)


def records(path: Path) -> dict[str, tuple[bytes, tuple]]:
    """Every file's raw local record (header, data, descriptor) and what the directory says about it."""
    with zipfile.ZipFile(path) as archive:
        listing, end = archive.infolist(), archive.start_dir
    data = path.read_bytes()
    ends = [*sorted(info.header_offset for info in listing), end]
    found = {}
    for info in listing:
        stop = ends[ends.index(info.header_offset) + 1]
        found[info.filename] = (
            data[info.header_offset : stop],
            (
                info.date_time,
                info.flag_bits,
                info.CRC,
                info.external_attr,
                info.extra,
                info.comment,
                info.create_system,
            ),
        )
    return found


def leftovers(folder: Path) -> list[str]:
    """Temporary files, which a scan passes over."""
    return [path.name for path in folder.rglob(".*") if path.is_file()]


def check_pruned(before: archives.Catalogue, after: archives.Catalogue) -> None:
    """The same complete runs, file by file, and none that is still to be dropped."""
    for catalogue in (before, after):
        assert [entry.id for entry in catalogue.complete] == [entry.id for entry in before.complete]
    for old, new in zip(before.complete, after.complete, strict=True):
        assert [(m.size, m.crc) for m in old.members.values()] == [(m.size, m.crc) for m in new.members.values()]
    assert not after.incomplete
