"""New ZIP archives of old ones' files: each is copied with its header, byte for byte, and never packed again."""

from __future__ import annotations

import copy
import itertools
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from unveil.aos import zips
from unveil.errors import UnveilError

_CHUNK = 1 << 20
_PROPERTIES = ("filename", "date_time", "external_attr", "comment", "extra", "compress_type", "CRC", "file_size")
Choose = Callable[[zipfile.ZipInfo], bool]


class Part(NamedTuple):
    """Files that go from an archive into a new one: their directory records, and where each begins and ends."""

    archive: Path
    records: list[tuple[zipfile.ZipInfo, int, int]]
    comment: bytes

    @property
    def size(self) -> int:
        """Bytes that the files take, with their directory records."""
        listed = (46 + len(i.orig_filename.encode()) + len(i.extra) + len(i.comment) for i, _, _ in self.records)
        return sum(end - start for _, start, end in self.records) + sum(listed)


def select(archive: Path, keep: Choose = lambda _: True) -> Part:
    """The files of an archive that ``keep`` names; bytes between files stay with the file before.

    Raises UnveilError for an archive that is damaged.
    """
    reason = zips.listing(archive).reason
    if reason:
        raise UnveilError(f"{zips.shown(archive)}: {reason}")
    with zipfile.ZipFile(archive) as opened:
        infos = sorted(opened.filelist, key=lambda info: info.header_offset)
    ends = [*(info.header_offset for info in infos[1:]), opened.start_dir]
    records = [(info, info.header_offset, end) for info, end in zip(infos, ends, strict=bool(infos)) if keep(info)]
    return Part(archive, records, opened.comment)


def write(parts: list[Part], path: Path) -> None:
    """Write one archive of all the parts' files, with the comment of the first, and see that it is on the disk."""
    with open(path, "wb") as out:
        with zipfile.ZipFile(out, "w") as made:
            made.comment = parts[0].comment
            for part in parts:
                with open(part.archive, "rb") as source:
                    for info, start, end in part.records:
                        # The directory is zipfile's work, which writes what it finds in this list.
                        moved = copy.copy(info)
                        moved.header_offset = out.tell()
                        made.filelist.append(moved)
                        for chunk in _chunks(source, start, end):
                            out.write(chunk)
            made.start_dir, made._didModify = out.tell(), True
        out.flush()
        os.fsync(out.fileno())


def equals(parts: list[Part], path: Path) -> bool:
    """Whether an archive reads back as it should: the same bytes in the same order under the same listing."""
    written = select(path).records
    for part in parts:
        with open(part.archive, "rb") as old, open(path, "rb") as new:
            found, written = written[: len(part.records)], written[len(part.records) :]
            if len(found) < len(part.records):
                return False
            for (before, *span), (after, *other) in zip(part.records, found, strict=True):
                if any(getattr(before, name) != getattr(after, name) for name in _PROPERTIES):
                    return False
                if any(a != b for a, b in itertools.zip_longest(_chunks(old, *span), _chunks(new, *other))):
                    return False
    return not written


def _chunks(handle: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    handle.seek(start)
    while start < end:
        chunk = handle.read(min(_CHUNK, end - start))
        if not chunk:
            raise OSError("unexpected end of file")
        yield chunk
        start += len(chunk)
