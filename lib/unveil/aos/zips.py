"""ZIP archives below the level of runs: what lies in one, and its files' bytes.

Python's zipfile believes the central directory. Here every file also has a say through its own header, so that damage
to the directory loses nothing that is whole, and no number in an archive decides how much memory is taken.
Source: APPNOTE.TXT 6.3, sections 4.3 and 4.4.
"""

from __future__ import annotations

import io
import itertools
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from unveil.errors import UnveilError

REFETCH = "fetch this archive again"
_LOCAL = struct.Struct("<4s2x2H4x3I2H")
LOCAL_SIZE = _LOCAL.size
_MARK = b"PK\3\4"
_STREAMED, _UTF8, _ENCRYPTED = 8, 0x800, 1
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_GAP = 100
"""More bytes between two files than extra fields and a descriptor usually take: a file may lie there unlisted."""
_CHUNK, _STEP = 1 << 20, 1 << 13
_DIRECTORY_LIMIT = 1 << 27  # bytes: three times what the course's 429,000 files take


class Member(NamedTuple):
    """One file in an archive and where it lies: ``compressed`` bytes after the local header at ``offset``."""

    archive: Path
    name: str
    size: int
    crc: int
    method: int
    compressed: int
    offset: int

    def __str__(self) -> str:
        return f"{shown(self.name)} in {shown(self.archive.name)}"

    @property
    def end(self) -> int:
        """The least offset at which the next file can begin."""
        return self.offset + LOCAL_SIZE + len(self.name) + self.compressed

    @property
    def place(self) -> str:
        """How an error begins that is about this file."""
        return f"{shown(self.archive)}: {shown(self.name)}"


class Listing(NamedTuple):
    """An archive's files, and why its directory is not to be trusted."""

    members: list[Member]
    reason: str = ""


class _Header(NamedTuple):
    """A file's own header; its data begin at ``start``. Streamed files give CRC and sizes after their data."""

    name: str
    flags: int
    method: int
    crc: int
    compressed: int
    size: int
    start: int


class _Bounded(io.BufferedReader):
    """A file that is not read into memory as a whole because an archive says that its directory is so long."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _DIRECTORY_LIMIT:
            raise zipfile.BadZipFile("absurd size of its directory")
        return super().read(size)


def shown(text: str | os.PathLike[str]) -> str:
    """A name as one line that every console can print, whatever bytes it was made of."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in os.fspath(text))


def listing(archive: Path) -> Listing:
    """What lies in an archive by its directory, and by the files' own headers where the directory is damaged."""
    try:
        return _listed(archive)
    except OSError as error:
        return Listing([], f"cannot be read ({error.strerror}): check the file and its permissions")


def _listed(archive: Path) -> Listing:
    try:
        with _Bounded(io.FileIO(archive)) as handle, zipfile.ZipFile(handle) as opened:
            infos, start = opened.filelist, opened.start_dir
    except Exception as error:  # zipfile lets through whatever a damaged directory makes it stumble over
        found = list(_walk(archive, [(0, archive.stat().st_size)]))
        found_by = f"; {len(found)} files were found by their own headers" if found else ""
        return Listing(found, _diagnose(archive, error) + found_by)
    members = [
        Member(archive, i.filename, i.file_size, i.CRC, i.compress_type, i.compress_size, i.header_offset)
        for i in infos
    ]
    inside = sorted((m for m in members if m.offset >= 0 and m.end <= start), key=lambda member: member.offset)
    reasons = [f"{len(members) - len(inside)} files listed outside the archive"] if len(inside) < len(members) else []
    if any(member.end > after.offset for member, after in itertools.pairwise(inside)):
        reasons.append("files overlap in its directory")
    if reasons:
        with open(archive, "rb") as handle:
            inside = [member for member in inside if _header(handle, member.offset)]
    ends = itertools.accumulate((member.end for member in inside), max, initial=0)
    starts = [*(member.offset for member in inside), start]
    gaps = [span for span in zip(ends, starts, strict=True) if span[1] > span[0] + (0 if reasons else _GAP)]
    listed = {member.offset for member in inside}
    unlisted = [member for member in _walk(archive, gaps) if member.offset not in listed]
    if unlisted:
        reasons.append(f"{len(unlisted)} files not listed in its directory")
    reason = f"damaged ZIP ({', '.join(reasons)}): {REFETCH}" if reasons else ""
    return Listing([m for m in [*inside, *unlisted] if m.size or not m.name.endswith("/")], reason)


def own_name(member: Member, handle: BinaryIO) -> str | None:
    """The name in the file's own header; None where there is no header."""
    header = _header(handle, member.offset)
    return header and header.name


def read(member: Member, handle: BinaryIO, limit: int) -> tuple[bytes, int]:
    """The file's bytes and their CRC-32, which the directory, the file's header or its descriptor gives.

    Raises ValueError, to follow the file's name: a file that is longer than ``limit``, cannot be unpacked or fits no
    checksum.
    """
    try:
        header = _header(handle, member.offset) or _neighbour(member, handle)
        if header is None:
            raise ValueError("is not where it was: scan the archives again")
        what, packed = "", None if header.flags & _STREAMED else header.compressed
        ways = [(member.method, member.compressed), (header.method, packed)]
        for method, compressed in dict.fromkeys(ways):
            handle.seek(header.start)
            # What is longer packed than it may be unpacked cannot be right, but for a few bytes of an awkward packer.
            raw = handle.read(min(limit + limit // 8 if compressed is None else compressed, limit + limit // 8))
            try:
                data, rest = _unpack(method, raw, limit)
            except ValueError as error:
                what = what or f"cannot be decompressed ({error})"
                continue
            if len(data) > limit:
                what = what or "is longer than such a file can be"
            elif (crc := zlib.crc32(data)) in (member.crc, _described(header, rest or handle.read(8))):
                return data, crc
        raise ValueError("is encrypted" if header.flags & _ENCRYPTED else what or "fails its checksum")
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error


@contextmanager
def opened(archives: Iterable[Path]) -> Iterator[dict[Path, BinaryIO]]:
    """Archives open for reading, by their paths."""
    with ExitStack() as stack:
        try:
            handles = {archive: stack.enter_context(open(archive, "rb")) for archive in archives}
        except OSError as error:
            where = shown(error.filename)
            raise UnveilError(f"{where}: cannot be read ({error.strerror}): scan the archives again") from error
        yield handles


def _diagnose(archive: Path, error: Exception) -> str:
    """Why an archive that can be opened cannot be read, and what to do."""
    with open(archive, "rb") as handle:
        start = handle.read(2)
    if not start:
        return f"empty file: {REFETCH}"
    if start != b"PK" and not isinstance(error, UnicodeError):
        return f"not a ZIP archive, or one without its beginning: {REFETCH}, or move this file elsewhere"
    return f"truncated or damaged ZIP ({str(error).rstrip('.') or type(error).__name__}): {REFETCH}"


def _header(handle: BinaryIO, offset: int) -> _Header | None:
    handle.seek(offset)
    fixed = handle.read(LOCAL_SIZE)
    if len(fixed) < LOCAL_SIZE or not fixed.startswith(_MARK):
        return None
    _, flags, method, crc, compressed, size, name_size, extra_size = _LOCAL.unpack(fixed)
    name = handle.read(name_size).decode("utf-8" if flags & _UTF8 else "cp437", "replace")
    if 0xFFFFFFFF in (compressed, size):
        sizes = _zip64_field(handle.read(extra_size))
        size, compressed = sizes if sizes else (size, compressed)
    return _Header(name, flags, method, crc, compressed, size, offset + LOCAL_SIZE + name_size + extra_size)


def _neighbour(member: Member, handle: BinaryIO) -> _Header | None:
    """The header of this name a few bytes beside the place where the directory has it."""
    place = _find(handle, max(member.offset - _GAP, 0), member.offset + _GAP)
    header = None if place is None else _header(handle, place)
    return header if header and header.name == member.name else None


def _zip64_field(extra: bytes) -> tuple[int, int] | None:
    position = 0
    while position + 20 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == 1 and length >= 16:
            return struct.unpack_from("<2Q", extra, position + 4)
        position += 4 + length
    return None


def _unpack(method: int, raw: bytes, limit: int) -> tuple[bytes, bytes]:
    """Unpacked bytes, at most one more than ``limit``, and the packed ones left over; ValueError where it fails."""
    if method == _STORED:
        return raw, b""
    try:
        if method == _DEFLATED:
            stream = zlib.decompressobj(-zlib.MAX_WBITS)
            return stream.decompress(raw, limit + 1), stream.unused_data
        info = zipfile.ZipInfo()
        info.compress_type, info.compress_size, info.file_size, info.CRC = method, len(raw), limit + 1, None
        with zipfile.ZipExtFile(io.BytesIO(raw), "r", info) as file:
            return file.read(limit + 1), b""
    except Exception as error:  # every packing has its own
        raise ValueError(str(error) or type(error).__name__) from error


def _described(header: _Header, following: bytes) -> int | None:
    """The checksum in the header, or in a streamed file's descriptor, which may or may not begin with a mark."""
    if not header.flags & _STREAMED:
        return header.crc
    if len(following) < 8:
        return None
    return struct.unpack_from("<I", following, 4 if following.startswith(b"PK\7\x08") else 0)[0]


def _walk(archive: Path, spans: list[tuple[int, int]]) -> Iterator[Member]:
    """Files whose own headers lie in these spans of an archive, whatever its directory says."""
    with open(archive, "rb") as handle:
        for position, end in spans:
            while (position := _find(handle, position, end)) is not None:
                header = _header(handle, position)
                offset, position = position, position + len(_MARK)
                if header is None or not header.name or header.start + header.compressed > end:
                    continue
                size, compressed, crc = header.size, header.compressed, header.crc
                if header.flags & _STREAMED:
                    handle.seek(header.start)
                    raw = handle.read(min(_CHUNK + _CHUNK // 8, end - header.start))
                    try:
                        data, rest = _unpack(header.method, raw, _CHUNK)
                    except ValueError:
                        continue
                    size, compressed, crc = len(data), len(raw) - len(rest), zlib.crc32(data)
                    if crc != _described(header, rest):
                        continue
                yield Member(archive, header.name, size, crc, header.method, compressed, offset)
                position = header.start + compressed


def _find(handle: BinaryIO, start: int, end: int) -> int | None:
    """The next place of a local header's mark."""
    while start + len(_MARK) <= end:
        handle.seek(start)
        at = handle.read(min(_STEP, end - start)).find(_MARK)
        if at >= 0:
            return start + at
        start += _STEP - len(_MARK) + 1
    return None
