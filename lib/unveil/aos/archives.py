"""ZIP archives of runs: what lies in them, which runs are whole, and reading one run without unpacking anything.

Archives come from a file-sharing site that splits one folder over several ZIPs: the thirteen files of a run can lie in
two archives, in a subfolder, in any order and twice. :func:`scan` reads central directories only and remembers where
each file lies, so that :func:`read_run` goes straight to its bytes.
"""

import os
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from unveil.aos import parameters
from unveil.errors import UnveilError

if TYPE_CHECKING:
    import pandas as pd

VIEWS = 11
SIZE = 512
ROLES = (*(f"pose_{i}" for i in range(VIEWS)), "GT", "Parameters")

_NAME = re.compile(
    r"([0-9]{1,18})_([0-9]{1,18})_(?:(pose_(?:[0-9]|10))_thermal\.png|(GT)_pose_0_thermal\.png|(Parameters)\.txt)"
)
_ROLE = {role: role for role in ROLES}
_LOCAL = struct.Struct("<4s22xHH")
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_REFETCH = "fetch this archive again"
_REMEDY = "fetch the archive again, or drop the run (prune after a verifying scan)"
_UNFINISHED = ".pruning"
_CHUNK = 1 << 20
_PROPERTIES = ("filename", "date_time", "flag_bits", "external_attr", "comment", "compress_type")
_PROPERTIES += ("CRC", "file_size", "compress_size")


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
            listing = _directory(archive).filelist
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
        _verify(catalogue, workers, progress)
    return catalogue


def read_run(entry: Entry) -> Run:
    """Read and decode one complete run from its archives, with every checksum checked.

    Raises UnveilError naming the archive and the file for anything missing, unreadable or of the wrong size.
    """
    if entry.problems:
        raise UnveilError(f"run {entry.id} is incomplete ({'; '.join(entry.problems)}): {_REMEDY}")
    views = np.empty((VIEWS, SIZE, SIZE), np.uint8)
    truth = np.empty((SIZE, SIZE), np.uint8)
    with _opened(entry.archives) as handles:
        for index in range(VIEWS):
            _decode(entry.members[f"pose_{index}"], handles, views[index])
        _decode(entry.members["GT"], handles, truth)
        found = _parse(entry.members["Parameters"], handles)
    return Run(entry.id, views, truth, found)


def read_parameters(entry: Entry) -> parameters.Parameters:
    """Read the ``Parameters.txt`` of a run alone. Raises UnveilError where it is missing or malformed."""
    if "Parameters" not in entry.members:
        raise UnveilError(f"run {entry.id} has no Parameters.txt: {_REMEDY}")
    with _opened(entry.archives) as handles:
        return _parse(entry.members["Parameters"], handles)


class Pruned(NamedTuple):
    """One archive that holds files to drop: its bytes before and after, the numbers of files dropped and kept."""

    archive: Path
    before: int
    after: int
    dropped: int
    kept: int


@dataclass(frozen=True)
class PruneReport:
    """What :func:`prune` dropped, or would drop: ids of runs, and the archives concerned.

    ``obstacle`` is the reason why it would refuse to go beyond a dry run, if there is one.
    """

    done: bool
    runs: list[str]
    archives: list[Pruned]
    obstacle: str = ""

    def __str__(self) -> str:
        return self.report()

    def report(self) -> str:
        """The same as text."""
        if not self.archives:
            return "nothing to prune: no archive holds files of incomplete runs"
        saved = sum(a.before - a.after for a in self.archives)
        files = sum(a.dropped for a in self.archives)
        verb = "dropped" if self.done else "to drop"
        lines = [f"{verb}: {len(self.runs):,} incomplete runs, {files:,} files, {saved / 1e6:,.1f} MB"]
        for a in self.archives:
            sizes = f"{a.before / 1e6:,.1f} → {a.after / 1e6:,.1f} MB"
            lines.append(f"  {a.archive}: {a.dropped:,} files {verb}, {a.kept:,} kept, {sizes}")
        if self.runs:
            lines.append(f"runs: {', '.join(self.runs)}")
        if not self.done:
            lines.append("nothing was changed: this was a dry run")
        if self.obstacle:
            lines.append(f"beware: {self.obstacle}")
        return "\n".join(lines)


def prune(
    catalogue: Catalogue,
    yes: bool = False,
    drop_foreign: bool = False,
    despite_damaged: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PruneReport:
    """Write the archives anew without the files of incomplete runs; without ``yes`` only say what would happen.

    Kept files are copied byte for byte, never recompressed; foreign files stay unless ``drop_foreign``. The new
    archive is written beside the old one under a temporary name, read back, compared, and only then put in its place,
    so that an interruption at any moment leaves either the old or the new archive whole; the next call removes what
    was left over.

    Raises UnveilError where an archive came, went or changed since the scan, where the disk is full or the folder
    read-only, where a kept file fails its checksum, and where files of a run are missing while an archive is damaged
    (it may hold them) unless ``despite_damaged``. An archive named in an error is unchanged.
    """
    _check_unchanged(catalogue)
    doomed = {entry.id for entry in catalogue.incomplete}
    missing = any(len(entry.members) < len(ROLES) for entry in catalogue.incomplete)
    obstacle = ""
    if missing and catalogue.damaged and not despite_damaged:
        obstacle = (
            f"{catalogue.damaged[0].archive}: damaged, and may hold files that incomplete runs miss: "
            "fetch it again or move it elsewhere, then scan and prune"
        )
        if yes:
            raise UnveilError(obstacle)

    def drops(info: zipfile.ZipInfo) -> bool:
        identity = _identify(info.filename)
        return drop_foreign and not info.is_dir() if identity is None else identity.id in doomed

    pruned = []
    for done, (archive, stamp) in enumerate(catalogue.stamps.items(), 1):
        if yes:
            _remove_unfinished(archive)
        plan = _plan(archive, drops)
        if len(plan.kept) < stamp.files:
            if yes:
                _rewrite(archive, stamp, plan)
            pruned.append(Pruned(archive, stamp.size, plan.size, stamp.files - len(plan.kept), len(plan.kept)))
        if progress is not None:
            progress(done, len(catalogue.stamps))
    return PruneReport(yes, [entry.id for entry in catalogue.incomplete], pruned, obstacle)


def check_pruned(before: Catalogue, after: Catalogue) -> None:
    """Check a scan after pruning against the one before: no incomplete run, and the same complete runs, file by file.

    Raises UnveilError naming the first run that differs.
    """
    if after.incomplete:
        raise UnveilError(f"run {after.incomplete[0].id} is still incomplete after pruning: prune again")

    def contents(catalogue: Catalogue) -> dict[str, dict[str, tuple[int, int]]]:
        return {e.id: {role: (m.size, m.crc) for role, m in e.members.items()} for e in catalogue.complete}

    old, new = contents(before), contents(after)
    for name in old.keys() | new.keys():
        if old.get(name) != new.get(name):
            raise UnveilError(f"run {name} is not the same after pruning: do not delete any backup, and fetch it again")


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


def _directory(archive: Path) -> zipfile.ZipFile:
    """The archive's central directory; the file itself is closed again."""
    with zipfile.ZipFile(archive) as directory:
        end = directory.start_dir
    if any(info.header_offset < 0 or info.header_offset + info.compress_size > end for info in directory.filelist):
        raise zipfile.BadZipFile("files listed outside the archive")
    return directory


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


class _Identity(NamedTuple):
    id: str
    batch: int
    number: int
    role: str


def _identify(name: str) -> _Identity | None:
    """Which file of which run a name inside an archive means; None for a foreign file."""
    folder, _, base = name.replace("\\", "/").rpartition("/")
    match = _NAME.fullmatch(base)
    if match is None or "__MACOSX" in folder:
        return None
    return _Identity(f"{match[1]}_{match[2]}", int(match[1]), int(match[2]), _ROLE[match[match.lastindex]])


def _member(archive: Path, info: zipfile.ZipInfo) -> Member:
    sizes = info.file_size, info.CRC, info.compress_type, info.compress_size
    return Member(archive, info.filename, *sizes, info.header_offset)


def _collect(archive: Path, listing: list[zipfile.ZipInfo], runs: dict[str, Entry], catalogue: Catalogue) -> None:
    """Enter the files of one archive into the runs."""
    for info in listing:
        identity = _identify(info.filename)
        if identity is None:
            if not info.is_dir():
                catalogue.foreign.append(Foreign(archive, info.filename))
            continue
        name, batch, number, role = identity
        entry = runs.get(name)
        if entry is None:
            entry = runs[name] = Entry(name, batch, number)
        member = _member(archive, info)
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


def _verify(catalogue: Catalogue, workers: int, progress: Callable[[int, int], None] | None) -> None:
    """Decode every file. Where one is bad and stands a second time, the good copy takes its place."""
    copies: dict[tuple[str, str], list[Member]] = {}
    for duplicate in catalogue.duplicates:
        copies.setdefault((duplicate.id, duplicate.role), [duplicate.first]).append(duplicate.second)

    def check(entry: Entry) -> list[str]:
        image = np.empty((SIZE, SIZE), np.uint8)
        problems = []
        for role, first in entry.members.items():
            if any(problem.startswith(f"{role} ") for problem in entry.problems):
                continue
            failures = []
            for member in copies.get((entry.id, role), [first]):
                try:
                    _check(role, member, image)
                except UnveilError as error:
                    failures.append(str(error).removesuffix(f": {_REMEDY}"))
                else:
                    entry.members[role] = member
                    break
            else:
                problems.extend(failures)
        return problems

    entries = catalogue.entries
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for done, (entry, problems) in enumerate(zip(entries, pool.map(check, entries), strict=True), 1):
            entry.problems.extend(problems)
            if progress is not None:
                progress(done, len(entries))


def _check(role: str, member: Member, image: np.ndarray) -> None:
    with _opened([member.archive]) as handles:
        if role == "Parameters":
            _parse(member, handles)
        else:
            _decode(member, handles, image)


@contextmanager
def _opened(archives: Iterable[Path]) -> Iterator[dict[Path, BinaryIO]]:
    """Archives open for reading, by their paths."""
    handles: dict[Path, BinaryIO] = {}
    try:
        for archive in archives:
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
            # One byte more than announced is enough to notice a file that is too long, whatever it would grow to.
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1)
        except zlib.error as error:
            raise _bad(member, f"cannot be decompressed ({error})") from error
    if len(data) != member.size or zlib.crc32(data) != member.crc:
        raise _bad(member, "fails its checksum")
    return data


def _decode(member: Member, handles: dict[Path, BinaryIO], out: np.ndarray) -> None:
    # Imported here because its compiler takes half a second to load, which a scan need not wait for.
    from unveil.aos import png

    try:
        png.decode(_read(member, handles), out)
    except ValueError as error:
        raise _bad(member, str(error)) from error


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


class _Plan(NamedTuple):
    """A new archive: kept files with their raw directory records, spans of the old archive to copy, closing record."""

    kept: list[tuple[zipfile.ZipInfo, bytearray]]
    spans: list[tuple[int, int]]
    directory: bytes
    size: int


def _stamp(archive: Path) -> tuple[int, int]:
    stat = archive.stat()
    return stat.st_size, stat.st_mtime_ns


def _check_unchanged(catalogue: Catalogue) -> None:
    known = {*catalogue.stamps, *(damaged.archive for damaged in catalogue.damaged)}
    for archive in known.symmetric_difference(_find_archives(catalogue.paths)):
        raise UnveilError(f"{archive}: {'gone' if archive in known else 'new'} since the scan: scan again")
    for archive, stamp in catalogue.stamps.items():
        _check_stamp(archive, stamp)


def _check_stamp(archive: Path, stamp: Stamp) -> None:
    if _stamp(archive) != (stamp.size, stamp.mtime_ns):
        raise UnveilError(f"{archive}: changed since the scan: scan again")


def _unfinished(archive: Path) -> Path:
    """The temporary name beside the file itself, also where the archive is a link to it."""
    target = archive.resolve()
    return target.with_name(target.name + _UNFINISHED)


def _remove_unfinished(archive: Path) -> None:
    with suppress(OSError):
        _unfinished(archive).unlink(missing_ok=True)


def _plan(archive: Path, drops: Callable[[zipfile.ZipInfo], bool]) -> _Plan:
    """Lay out the archive without the files that ``drops`` names; bytes between files stay with the file before."""
    try:
        directory = _directory(archive)
        listing, start = directory.filelist, directory.start_dir
        with open(archive, "rb") as handle:
            handle.seek(start)
            records = _split_directory(handle.read(), len(listing))
    except (OSError, ValueError, struct.error, zipfile.BadZipFile) as error:
        raise UnveilError(f"{archive}: {_diagnose(archive, error)}") from error
    offsets = sorted({info.header_offset for info in listing})
    # An archive may hold no file at all: then there is nothing that ends where the directory starts.
    ends = dict(zip(offsets, [*offsets[1:], start], strict=False))
    if any(info.header_offset + _LOCAL.size + info.compress_size > ends[info.header_offset] for info in listing):
        raise UnveilError(f"{archive}: files overlap in this archive: {_REFETCH}")
    kept = [(info, record) for info, record in zip(listing, records, strict=True) if not drops(info)]
    spans, moved, position = [], {}, 0
    for offset in sorted({info.header_offset for info, _ in kept}):
        spans.append((offset, ends[offset]))
        moved[offset] = position
        position += ends[offset] - offset
    for info, record in kept:
        _relocate(record, moved[info.header_offset])
    joined = b"".join(record for _, record in kept)
    closing = joined + _closing_records(len(kept), len(joined), position, directory.comment)
    return _Plan(kept, spans, closing, position + len(closing))


def _split_directory(directory: bytes, count: int) -> list[bytearray]:
    """The raw records of a central directory (APPNOTE 4.3.12)."""
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


def _rewrite(archive: Path, stamp: Stamp, plan: _Plan) -> None:
    target, temporary = archive.resolve(), _unfinished(archive)
    try:
        with open(target, "rb") as source, open(temporary, "wb") as out:
            for span in plan.spans:
                for chunk in _chunks(source, *span):
                    out.write(chunk)
            out.write(plan.directory)
            out.flush()
            os.fsync(out.fileno())
        _compare(archive, target, temporary, plan)
        shutil.copymode(target, temporary)
        _check_stamp(archive, stamp)
        os.replace(temporary, target)
    except OSError as error:
        raise UnveilError(
            f"{archive}: cannot be written anew ({error.strerror or error}), it is unchanged: "
            "free disk space or make the folder writable"
        ) from error
    finally:
        _remove_unfinished(archive)


def _chunks(handle: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    handle.seek(start)
    while start < end:
        chunk = handle.read(min(_CHUNK, end - start))
        if not chunk:
            raise OSError("unexpected end of file")
        yield chunk
        start += len(chunk)


def _compare(archive: Path, old: Path, new: Path, plan: _Plan) -> None:
    """Read a new archive back: same bytes, same listing, and the checksum of every file of a run."""
    differs = UnveilError(f"{archive}: its copy differs from it, it is unchanged: check the disk, then prune again")
    try:
        listing = _directory(new).filelist
    except zipfile.BadZipFile:
        raise differs from None
    with open(old, "rb") as source, open(new, "rb") as copy:
        position = 0
        for start, end in plan.spans:
            stop = position + end - start
            for before, after in zip(_chunks(source, start, end), _chunks(copy, position, stop), strict=True):
                if before != after:
                    raise differs
            position = stop
        kept = (info for info, _ in plan.kept)
        if len(listing) != len(plan.kept) or any(map(_differ, kept, listing)):
            raise differs
        for info in listing:
            if _identify(info.filename) is not None:
                _read(_member(archive, info), {archive: copy})


def _differ(before: zipfile.ZipInfo, after: zipfile.ZipInfo) -> bool:
    return any(getattr(before, name) != getattr(after, name) for name in _PROPERTIES)
