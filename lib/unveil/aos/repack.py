"""New ZIP archives made of old ones' records, byte for byte: nothing is unpacked or packed again.

No library removes files from an archive and keeps every other byte of it (times, comments, descriptors, Zip64 fields).
Source: APPNOTE.TXT 6.3, sections 4.3.12 to 4.3.16.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from unveil.aos import zips
from unveil.aos.zips import LOCAL_SIZE, shown
from unveil.errors import UnveilError

_CHUNK = 1 << 20
_PROPERTIES = ("filename", "date_time", "flag_bits", "external_attr", "comment", "compress_type")
_PROPERTIES += ("CRC", "file_size", "compress_size")


class Part(NamedTuple):
    """Records that go from one archive into a new one, each with its raw directory record."""

    archive: Path
    records: list[tuple[zipfile.ZipInfo, bytearray]]
    spans: list[tuple[int, int]]
    comment: bytes


class Layout(NamedTuple):
    """A new archive: whence its bytes come, its directory's records in order, its closing bytes, its size."""

    parts: list[Part]
    closing: bytes
    size: int

    @property
    def infos(self) -> list[zipfile.ZipInfo]:
        return [info for part in self.parts for info, _ in part.records]


def select(archive: Path, keep: Callable[[zipfile.ZipInfo], bool]) -> Part:
    """The records of a sound archive that ``keep`` names; bytes between files stay with the file before."""
    try:
        with zipfile.ZipFile(archive) as opened, open(archive, "rb") as handle:
            infos, start = opened.filelist, opened.start_dir
            handle.seek(start)
            records = _split_directory(handle.read(), len(infos))
    except (OSError, ValueError, struct.error, zipfile.BadZipFile) as error:
        raise UnveilError(f"{shown(archive)}: {zips.diagnose(archive, error)}") from error
    offsets = sorted({info.header_offset for info in infos})
    # An archive may hold no file at all: then there is nothing that ends where the directory starts.
    ends = dict(zip(offsets, [*offsets[1:], start], strict=False))
    if any(info.header_offset + LOCAL_SIZE + info.compress_size > ends[info.header_offset] for info in infos):
        raise UnveilError(f"{shown(archive)}: files overlap in this archive: {zips.REFETCH}")
    kept = [(info, record) for info, record in zip(infos, records, strict=True) if keep(info)]
    spans = [(offset, ends[offset]) for offset in sorted({info.header_offset for info, _ in kept})]
    return Part(archive, kept, spans, opened.comment)


def lay_out(parts: list[Part]) -> Layout:
    """One archive of all the parts' records, byte for byte, with the comment of the first."""
    position, joined = 0, []
    for part in parts:
        moved = {}
        for start, end in part.spans:
            moved[start] = position
            position += end - start
        for info, record in part.records:
            _relocate(record, moved[info.header_offset])
            joined.append(record)
    count = sum(len(part.records) for part in parts)
    directory = b"".join(joined)
    closing = directory + _closing_records(count, len(directory), position, parts[0].comment)
    return Layout(parts, closing, position + len(closing))


def write(layout: Layout, out: BinaryIO) -> None:
    """Write a laid out archive, and see that it is on the disk."""
    for part in layout.parts:
        with open(part.archive, "rb") as source:
            for span in part.spans:
                for chunk in _chunks(source, *span):
                    out.write(chunk)
    out.write(layout.closing)
    out.flush()
    os.fsync(out.fileno())


def equals(layout: Layout, path: Path) -> bool:
    """Whether an archive reads back as it was laid out: the same bytes in the same order under the same listing."""
    try:
        with zipfile.ZipFile(path) as opened:
            infos = opened.filelist
    except zipfile.BadZipFile:
        return False
    if len(infos) != len(layout.infos) or any(map(_differ, layout.infos, infos)):
        return False
    with open(path, "rb") as copy:
        position = 0
        for part in layout.parts:
            with open(part.archive, "rb") as source:
                for start, end in part.spans:
                    stop = position + end - start
                    pairs = zip(_chunks(source, start, end), _chunks(copy, position, stop), strict=True)
                    if any(before != after for before, after in pairs):
                        return False
                    position = stop
    return True


def _split_directory(directory: bytes, count: int) -> list[bytearray]:
    records, position = [], 0
    for _ in range(count):
        if directory[position : position + 4] != b"PK\1\2":
            raise zipfile.BadZipFile("bad central directory")
        end = position + 46 + sum(struct.unpack_from("<3H", directory, position + 28))
        records.append(bytearray(directory[position:end]))
        position = end
    return records


def _relocate(record: bytearray, offset: int) -> None:
    """Write a file's new place into its directory record, in the Zip64 field where the old place is there."""
    if record[42:46] != b"\xff" * 4:
        if offset >= 0xFFFFFFFF:
            raise UnveilError("an archive would exceed 4 GB, which its records have no room for: move files elsewhere")
        struct.pack_into("<I", record, 42, offset)
        return
    name_size, extra_size = struct.unpack_from("<2H", record, 28)
    position = 46 + name_size
    end = position + extra_size
    while position < end:
        kind, size = struct.unpack_from("<2H", record, position)
        if kind == 1:
            before = 8 * ((record[24:28] == b"\xff" * 4) + (record[20:24] == b"\xff" * 4))
            struct.pack_into("<Q", record, position + 4 + before, offset)
            return
        position += 4 + size


def _closing_records(count: int, size: int, offset: int, comment: bytes) -> bytes:
    """The end of a ZIP (APPNOTE 4.3.14-16), with the Zip64 records where the plain one is too small."""
    zip64 = b""
    if count >= 0xFFFF or size >= 0xFFFFFFFF or offset >= 0xFFFFFFFF:
        zip64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, offset)
        zip64 += struct.pack("<4sLQL", b"PK\6\7", 0, offset + size, 1)
    short = min(count, 0xFFFF)
    limits = min(size, 0xFFFFFFFF), min(offset, 0xFFFFFFFF)
    return zip64 + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, short, short, *limits, len(comment)) + comment


def _chunks(handle: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    handle.seek(start)
    while start < end:
        chunk = handle.read(min(_CHUNK, end - start))
        if not chunk:
            raise OSError("unexpected end of file")
        yield chunk
        start += len(chunk)


def _differ(before: zipfile.ZipInfo, after: zipfile.ZipInfo) -> bool:
    return any(getattr(before, name) != getattr(after, name) for name in _PROPERTIES)
