"""ZIP archives of runs: what lies in them, which runs are whole, and reading one run without unpacking anything.

Archives come from a file-sharing site that splits one folder over several ZIPs: the thirteen files of a run can lie in
two archives, in a subfolder, in any order and twice. :func:`scan` reads central directories only and remembers where
each file lies, so that :func:`read_run` goes straight to its bytes.
"""

import io
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from unveil.aos import parameters
from unveil.errors import UnveilError

if TYPE_CHECKING:
    import pandas as pd

VIEWS = 11
SIZE = 512
ROLES = (*(f"pose_{i}" for i in range(VIEWS)), "GT", "Parameters")

_NAME = re.compile(r"([0-9]+)_([0-9]+)_(?:(pose_(?:[0-9]|10))_thermal\.png|(GT)_pose_0_thermal\.png|(Parameters)\.txt)")
_ROLE = {role: role for role in ROLES}
_LOCAL = struct.Struct("<4s22xHH")
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_REFETCH = "fetch this archive again"
_REMEDY = "fetch the archive again, or drop the run with prune"


class Member(NamedTuple):
    """One file of a run and where its bytes lie: ``compressed`` bytes after the local header at ``offset``."""

    archive: Path
    name: str
    size: int
    crc: int
    method: int
    compressed: int
    offset: int


class Foreign(NamedTuple):
    """A file in an archive that belongs to no run."""

    archive: Path
    name: str


class Duplicate(NamedTuple):
    """A run's file that stands a second time; ``same`` tells whether size and checksum agree (then it is harmless)."""

    id: str
    role: str
    first: Member
    second: Member

    @property
    def same(self) -> bool:
        return (self.first.size, self.first.crc) == (self.second.size, self.second.crc)


class Damaged(NamedTuple):
    """An archive that cannot be read, and why."""

    archive: Path
    reason: str


class Stamp(NamedTuple):
    """How a sound archive looked when it was scanned: bytes, modification time in ns, number of files inside."""

    size: int
    mtime_ns: int
    files: int


@dataclass(slots=True)
class Entry:
    """One run as the scan found it: role → file (the first one where it stands twice), and what is wrong with it."""

    id: str
    batch: int
    number: int
    members: dict[str, Member] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not self.problems

    @property
    def archives(self) -> list[Path]:
        """The archives that its files are read from."""
        return sorted({member.archive for member in self.members.values()})


@dataclass(frozen=True)
class Run:
    """One run: views (11, 512, 512) uint8 of poses 0…10, truth (512, 512) uint8, parameters."""

    id: str
    views: np.ndarray
    truth: np.ndarray
    parameters: parameters.Parameters


@dataclass
class Catalogue:
    """Runs over ZIP archives. ``stamps`` holds the sound archives, ``entries`` every run sorted by (batch, number)."""

    paths: list[Path]
    stamps: dict[Path, Stamp]
    entries: list[Entry]
    duplicates: list[Duplicate]
    foreign: list[Foreign]
    damaged: list[Damaged]

    @property
    def archives(self) -> list[Path]:
        """The archives that could be read."""
        return list(self.stamps)

    @cached_property
    def complete(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.complete]

    @cached_property
    def incomplete(self) -> list[Entry]:
        return [entry for entry in self.entries if not entry.complete]

    @cached_property
    def split(self) -> list[Entry]:
        """Complete runs whose files lie in more than one archive."""
        return [entry for entry in self.complete if len(entry.archives) > 1]

    def table(self) -> "pd.DataFrame":
        """One row per run: id, batch, number, complete, files (of 13), archives, problems."""
        import pandas as pd

        columns = ["id", "batch", "number", "complete", "files", "archives", "problems"]
        rows = [
            (e.id, e.batch, e.number, e.complete, len(e.members), _names(e.archives), "; ".join(e.problems))
            for e in self.entries
        ]
        return pd.DataFrame(rows, columns=columns)

    def report(self) -> str:
        """What was found, as text: counts, then everything that is not as it should be, by name."""
        files = sum(stamp.files for stamp in self.stamps.values())
        size = sum(stamp.size for stamp in self.stamps.values())
        harmless = [d for d in self.duplicates if d.same]
        conflicts = [d for d in self.duplicates if not d.same]
        sections = [
            ("damaged archives", [f"{d.archive}: {d.reason}" for d in self.damaged]),
            ("incomplete runs", [f"{e.id}: {'; '.join(e.problems)}" for e in self.incomplete]),
            ("runs split over archives", [f"{e.id}: {_names(e.archives)}" for e in self.split]),
            ("conflicting duplicates", [_describe(d) for d in conflicts]),
            ("harmless duplicates", [_describe(d) for d in harmless]),
            ("foreign files", [f"{f.archive.name}: {f.name}" for f in self.foreign]),
        ]
        lines = [
            f"{len(self.stamps):,} archives, {files:,} files, {size / 1e6:,.1f} MB",
            f"{len(self.entries):,} runs: {len(self.complete):,} complete, {len(self.incomplete):,} incomplete",
        ]
        for title, items in sections:
            lines.append(f"{title}: {len(items):,}" if items else f"{title}: none")
            lines.extend(f"  {item}" for item in items)
        return "\n".join(lines)


def scan(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    verify: bool = False,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Catalogue:
    """Catalogue the runs in ZIP archives by their central directories; nothing is unpacked.

    ``paths``: archives, and folders that are searched for ``*.zip`` with all their subfolders. ``verify`` also reads
    and decodes every file of the runs with ``workers`` threads, and calls ``progress(done, total)`` per run. A damaged
    archive is listed and does not stop the scan. Raises UnveilError for an absent path or a folder without archives.
    """
    roots = [Path(paths)] if isinstance(paths, str | os.PathLike) else [Path(path) for path in paths]
    runs: dict[str, Entry] = {}
    catalogue = Catalogue(roots, {}, [], [], [], [])
    for archive in _find_archives(roots):
        try:
            stat = archive.stat()
            listing = _list_members(archive)
        except (OSError, ValueError, struct.error, NotImplementedError, zipfile.BadZipFile) as error:
            catalogue.damaged.append(Damaged(archive, _diagnose(archive, error)))
            continue
        catalogue.stamps[archive] = Stamp(stat.st_size, stat.st_mtime_ns, len(listing))
        _collect(archive, listing, runs, catalogue)
    catalogue.entries = sorted(runs.values(), key=lambda entry: (entry.batch, entry.number, entry.id))
    for entry in catalogue.entries:
        entry.members = {role: entry.members[role] for role in ROLES if role in entry.members}
        if len(entry.members) < len(ROLES):
            entry.problems.insert(0, "missing " + ", ".join(role for role in ROLES if role not in entry.members))
    if verify:
        _verify(catalogue.entries, workers, progress)
    return catalogue


def read_run(entry: Entry) -> Run:
    """Read and decode one complete run from its archives, with every checksum checked.

    Raises UnveilError naming the archive and the file for anything missing, unreadable or of the wrong size.
    """
    if entry.problems:
        raise UnveilError(f"run {entry.id} is incomplete ({'; '.join(entry.problems)}): {_REMEDY}")
    views = np.empty((VIEWS, SIZE, SIZE), np.uint8)
    truth = np.empty((SIZE, SIZE), np.uint8)
    with _opened(entry) as handles:
        for index in range(VIEWS):
            _decode(entry.members[f"pose_{index}"], handles, views[index])
        _decode(entry.members["GT"], handles, truth)
        found = _parse(entry.members["Parameters"], handles)
    return Run(entry.id, views, truth, found)


def read_parameters(entry: Entry) -> parameters.Parameters:
    """Read the ``Parameters.txt`` of a run alone. Raises UnveilError where it is missing or malformed."""
    if "Parameters" not in entry.members:
        raise UnveilError(f"run {entry.id} has no Parameters.txt: {_REMEDY}")
    with _opened(entry) as handles:
        return _parse(entry.members["Parameters"], handles)


def _find_archives(roots: list[Path]) -> list[Path]:
    found: dict[Path, Path] = {}
    for root in roots:
        if root.is_dir():
            # "._x.zip" is the shadow that macOS leaves beside x.zip on foreign disks.
            inside = (p for p in root.rglob("*") if p.suffix.lower() == ".zip" and not p.name.startswith("._"))
            archives = sorted(path for path in inside if path.is_file())
            if not archives:
                raise UnveilError(f"{root}: no ZIP archive in this folder: put the downloaded archives there")
        elif root.exists():
            archives = [root]
        else:
            raise UnveilError(f"{root}: no such file or folder: check the path")
        for archive in archives:
            found.setdefault(archive.resolve(), archive)
    if not found:
        raise UnveilError("no archives given: name ZIP files or a folder that holds them")
    return list(found.values())


def _list_members(archive: Path) -> list[zipfile.ZipInfo]:
    with zipfile.ZipFile(archive) as opened:
        listing, end = opened.infolist(), opened.start_dir
    if any(info.header_offset < 0 or info.header_offset + info.compress_size > end for info in listing):
        raise zipfile.BadZipFile("files listed outside the archive")
    return listing


def _diagnose(archive: Path, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or error}): check the file and its permissions"
    try:
        with open(archive, "rb") as handle:
            start = handle.read(2)
    except OSError as failed:
        return f"cannot be read ({failed.strerror or failed}): check the file and its permissions"
    if not start:
        return f"empty file: {_REFETCH}"
    if start != b"PK":
        return f"not a ZIP archive: {_REFETCH}, or move this file elsewhere"
    return f"truncated or damaged ZIP ({str(error).rstrip('.')}): {_REFETCH}"


def _identify(name: str) -> tuple[str, str, str, str] | None:
    """Batch, number and role of a file name inside an archive, and the run's id; None for a foreign file."""
    folder, _, base = name.replace("\\", "/").rpartition("/")
    match = _NAME.fullmatch(base)
    if match is None or "__MACOSX" in folder:
        return None
    batch, number = match[1], match[2]
    return batch, number, _ROLE[match[match.lastindex]], f"{batch}_{number}"


def _collect(archive: Path, listing: list[zipfile.ZipInfo], runs: dict[str, Entry], catalogue: Catalogue) -> None:
    """Enter the files of one archive into the runs."""
    for info in listing:
        identity = _identify(info.filename)
        if identity is None:
            if not info.is_dir():
                catalogue.foreign.append(Foreign(archive, info.filename))
            continue
        batch, number, role, name = identity
        entry = runs.get(name)
        if entry is None:
            entry = runs[name] = Entry(name, int(batch), int(number))
        member = Member(
            archive,
            info.filename,
            info.file_size,
            info.CRC,
            info.compress_type,
            info.compress_size,
            info.header_offset,
        )
        first = entry.members.setdefault(role, member)
        if first is not member:
            duplicate = Duplicate(name, role, first, member)
            catalogue.duplicates.append(duplicate)
            if not duplicate.same:
                entry.problems.append(f"{role} stands twice with different content ({_where(first)}, {_where(member)})")
        elif member.size == 0:
            entry.problems.append(f"{role} is an empty file ({_where(member)})")
        elif member.method not in (_STORED, _DEFLATED) or info.flag_bits & 1:
            entry.problems.append(f"{role} is encrypted or packed by an unknown method ({_where(member)})")


def _verify(entries: list[Entry], workers: int, progress: Callable[[int, int], None] | None) -> None:
    def check(entry: Entry) -> list[str]:
        image = np.empty((SIZE, SIZE), np.uint8)
        problems = []
        for role, member in entry.members.items():
            if any(problem.startswith(f"{role} ") for problem in entry.problems):
                continue
            try:
                with _opened(entry) as handles:
                    if role == "Parameters":
                        _parse(member, handles)
                    else:
                        _decode(member, handles, image)
            except UnveilError as error:
                problems.append(str(error))
        return problems

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for done, (entry, problems) in enumerate(zip(entries, pool.map(check, entries), strict=True), 1):
            entry.problems.extend(problems)
            if progress is not None:
                progress(done, len(entries))


@contextmanager
def _opened(entry: Entry) -> Iterator[dict[Path, BinaryIO]]:
    """The entry's archives, each opened once."""
    handles: dict[Path, BinaryIO] = {}
    try:
        for archive in entry.archives:
            try:
                handles[archive] = open(archive, "rb")
            except OSError as error:
                raise UnveilError(f"{archive}: cannot be read ({error.strerror}): scan the archives again") from error
        yield handles
    finally:
        for handle in handles.values():
            handle.close()


def _bad(member: Member, what: str) -> UnveilError:
    return UnveilError(f"{member.archive}: {member.name} {what}: {_REMEDY}")


def _read(member: Member, handles: dict[Path, BinaryIO]) -> bytes:
    """The file's bytes, their checksum checked."""
    handle = handles[member.archive]
    try:
        handle.seek(member.offset)
        header = handle.read(_LOCAL.size)
        if len(header) < _LOCAL.size or not header.startswith(b"PK\3\4"):
            raise UnveilError(f"{member.archive}: {member.name} is not where it was: scan the archives again")
        _, name_size, extra_size = _LOCAL.unpack(header)
        handle.seek(name_size + extra_size, os.SEEK_CUR)
        data = handle.read(member.compressed)
    except OSError as error:
        raise _bad(member, f"cannot be read ({error.strerror})") from error
    if member.method == _DEFLATED:
        try:
            # One byte more than announced is enough to notice a file that is too long, whatever its real length.
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1)
        except zlib.error as error:
            raise _bad(member, f"cannot be decompressed ({error})") from error
    if len(data) != member.size or zlib.crc32(data) != member.crc:
        raise _bad(member, "fails its checksum")
    return data


def _decode(member: Member, handles: dict[Path, BinaryIO], out: np.ndarray) -> None:
    """Decode an 8-bit gray PNG into ``out`` (512, 512)."""
    data = _read(member, handles)
    _check_png(member, data)
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            out[:] = image
    except (OSError, ValueError, SyntaxError, zlib.error, struct.error) as error:
        raise _bad(member, f"is a damaged PNG ({error})") from error


def _check_png(member: Member, data: bytes) -> None:
    """Header and chunks, with checksums: Pillow passes over a missing end and over bad checksums of pixel data."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise _bad(member, "is not a PNG")
    view = memoryview(data)
    position, kind = 8, b""
    while kind != b"IEND":
        if position + 12 > len(data):
            raise _bad(member, "is a truncated PNG")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            raise _bad(member, "is a truncated PNG")
        if zlib.crc32(view[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise _bad(member, "is a damaged PNG (bad chunk checksum)")
        if position == 8:
            _check_header(member, kind, view[position + 8 : end])
        position = end + 4


def _check_header(member: Member, kind: bytes, header: memoryview) -> None:
    if kind != b"IHDR" or len(header) != 13:
        raise _bad(member, "is a damaged PNG (no header)")
    width, height, depth, colour = struct.unpack_from(">IIBB", header)
    if (width, height) != (SIZE, SIZE):
        raise _bad(member, f"has {width}×{height} pixels where {SIZE}×{SIZE} belong")
    if (depth, colour) != (8, 0):
        kinds = {0: "gray", 2: "RGB", 3: "palette", 4: "gray and alpha", 6: "RGBA"}
        raise _bad(member, f"is {depth}-bit {kinds.get(colour, 'colour')} where 8-bit gray belongs")


def _parse(member: Member, handles: dict[Path, BinaryIO]) -> parameters.Parameters:
    data = _read(member, handles)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise _bad(member, "is not text") from None
    return parameters.parse(text, f"{member.archive}: {member.name}")


def _where(member: Member) -> str:
    return f"{member.name} in {member.archive.name}"


def _names(archives: Iterable[Path]) -> str:
    return ", ".join(archive.name for archive in archives)


def _describe(duplicate: Duplicate) -> str:
    return f"{duplicate.id} {duplicate.role}: {_where(duplicate.first)}, {_where(duplicate.second)}"
