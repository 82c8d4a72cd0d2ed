"""ZIP archives of runs: what lies in them, which runs are whole, and reading one run without unpacking anything.

Archives come from a file-sharing site that splits one folder over several ZIPs: the thirteen files of a run can lie in
two archives, in a subfolder, in any order and twice. :func:`scan` reads central directories and remembers where each
file lies, so that :func:`read_run` goes straight to its bytes.
"""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from unveil import workers as pump
from unveil.aos import parameters, zips
from unveil.aos.camera import SIZE, VIEWS
from unveil.aos.zips import Member, shown
from unveil.errors import UnveilError

if TYPE_CHECKING:
    import pandas as pd

ROLES = (*(f"pose_{i}" for i in range(VIEWS)), "GT", "Parameters")
DROPPED = ".dropped.zip"
"""Ends the names of archives in which ``prune`` keeps what it dropped; a scan of their folder passes them over."""
MISSING, BROKEN, UNCLEAR = "missing", "broken", "unclear"

_NAME = re.compile(
    r"([0-9]{1,18})_([0-9]{1,18})_(?:(pose_(?:[0-9]|10))_thermal\.png|(GT)_pose_0_thermal\.png|(Parameters)\.txt)"
)
_PICTURE_LIMIT, _TEXT_LIMIT = 1 << 20, 1 << 16  # bytes that no file of a run exceeds
Given = str | os.PathLike | Iterable[str | os.PathLike]
_Copies = dict[str, dict[str, list[Member]]]  # by run and role
_REMEDY = "fetch the archive again, or drop the run (prune after a verifying scan)"


class Problem(NamedTuple):
    """What is wrong with a run: a file is missing, is broken, or it is unclear which content is meant."""

    kind: str
    text: str
    role: str = ""


class Duplicate(NamedTuple):
    """A run's file that stands a second time; harmless where size and checksum are the ``same``."""

    id: str
    role: str
    first: Member
    second: Member

    @property
    def same(self) -> bool:
        return (self.first.size, self.first.crc) == (self.second.size, self.second.crc)

    def __str__(self) -> str:
        return f"{self.id} {self.role}: {self.first}, {self.second}"


class Damaged(NamedTuple):
    """An archive that is unreadable or whose directory and content disagree, and how; its whole runs are still used."""

    archive: Path
    reason: str


class Stamp(NamedTuple):
    """How a sound archive looked when it was scanned: bytes, modification time in ns, number of files inside."""

    size: int
    mtime_ns: int
    files: int


@dataclass(slots=True)
class Entry:
    """One run as the scan found it: role → file (the good one where there are two), and what is wrong with it."""

    id: str
    batch: int
    number: int
    members: dict[str, Member] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not self.problems

    @property
    def archives(self) -> list[Path]:
        """The archives that its files are read from."""
        return sorted({member.archive for member in self.members.values()})

    @property
    def checksums(self) -> tuple[int, ...]:
        """CRC-32 of its files in the order of ``ROLES``, as the archives' directories have them."""
        return tuple(self.members[role].crc for role in ROLES)

    @property
    def complaint(self) -> str:
        """What is wrong with it, in one line."""
        return "; ".join(problem.text for problem in self.problems)

    def has(self, kind: str) -> bool:
        """Whether it has a problem of this kind."""
        return any(problem.kind == kind for problem in self.problems)


@dataclass(frozen=True)
class Run:
    """One run: views (11, 512, 512) uint8 of poses 0…10, truth (512, 512) uint8, parameters.

    ``checksums``: CRC-32 of the files that it was read from, in the order of ``ROLES``.
    """

    id: str
    views: np.ndarray
    truth: np.ndarray
    parameters: parameters.Parameters
    checksums: tuple[int, ...] = ()


@dataclass
class Catalogue:
    """Runs over ZIP archives. ``stamps`` holds the sound archives, ``entries`` every run sorted by (batch, number)."""

    paths: list[Path]
    stamps: dict[Path, Stamp]
    entries: list[Entry]
    duplicates: list[Duplicate] = field(default_factory=list)
    foreign: list[Member] = field(default_factory=list)
    damaged: list[Damaged] = field(default_factory=list)

    @property
    def archives(self) -> list[Path]:
        """The sound archives."""
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

    def entry(self, name: str) -> Entry:
        """The run with this id; UnveilError where the archives hold none."""
        for entry in self.entries:
            if entry.id == name:
                return entry
        raise UnveilError(f"run {name} is in none of the archives {', '.join(map(str, self.paths))}")

    def table(self) -> pd.DataFrame:
        """One row per run: id, batch, number, complete, files (of 13), archives, problems."""
        import pandas as pd

        columns = ["id", "batch", "number", "complete", "files", "archives", "problems"]
        rows = (
            (e.id, e.batch, e.number, e.complete, len(e.members), _names(e.archives), e.complaint) for e in self.entries
        )
        return pd.DataFrame(rows, columns=columns)

    def troubles(self) -> list[str]:
        """What is damaged, not merely absent, a line each: archives, and files of runs."""
        damaged = [f"{shown(found.archive)}: {found.reason}" for found in self.damaged]
        return damaged + [f"{e.id}: {p.text}" for e in self.incomplete for p in e.problems if p.kind != MISSING]

    def report(self) -> str:
        """What was found, as text: counts, then everything that is not as it should be, by name."""
        files = sum(stamp.files for stamp in self.stamps.values())
        size = sum(stamp.size for stamp in self.stamps.values())
        sections = {
            "damaged archives": [f"{shown(d.archive)}: {d.reason}" for d in self.damaged],
            "incomplete runs": [f"{e.id}: {e.complaint}" for e in self.incomplete],
            "runs split over archives": [f"{e.id}: {_names(e.archives)}" for e in self.split],
            "conflicting duplicates": [str(d) for d in self.duplicates if not d.same],
            "harmless duplicates": [str(d) for d in self.duplicates if d.same],
            "foreign files": [f"{shown(f.archive.name)}: {shown(f.name)}" for f in self.foreign],
        }
        lines = [
            f"{len(self.stamps):,} archives, {files:,} files, {size / 1e6:,.1f} MB",
            f"{len(self.entries):,} runs: {len(self.complete):,} complete, {len(self.incomplete):,} incomplete",
        ]
        for title, items in sections.items():
            lines += [f"{title}: {len(items):,}" if items else f"{title}: none", *(f"  {item}" for item in items)]
        return "\n".join(lines)


class ArchiveRuns:
    """Complete runs read straight from their archives, as a :class:`unveil.aos.store.Store` of views gives them."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = list(entries)
        self.ids = [entry.id for entry in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Views (11, H, W) and truth (H, W) of run ``index``, uint8."""
        run = read_run(self.entries[index])
        return run.views, run.truth

    def parameters(self, index: int) -> parameters.Parameters:
        """How run ``index`` was made."""
        return read_parameters(self.entries[index])


def scan(paths: Given, verify: bool = False, workers: int = 1) -> Catalogue:
    """Catalogue the runs in ZIP archives by their central directories; nothing is unpacked.

    ``paths``: archives, and folders that are searched for ``*.zip`` with all their subfolders. ``verify`` also reads
    and decodes every file of the runs with ``workers`` threads. A damaged archive is listed and does not stop the scan.
    Raises UnveilError for an absent path or a folder without archives.
    """
    roots = as_paths(paths)
    catalogue = Catalogue(roots, {}, [])
    copies: _Copies = defaultdict(lambda: defaultdict(list))
    for archive in find_archives(roots):
        stat, found = archive.stat(), zips.listing(archive)
        if found.reason:
            catalogue.damaged.append(Damaged(archive, found.reason))
        else:
            catalogue.stamps[archive] = Stamp(stat.st_size, stat.st_mtime_ns, len(found.members))
        for member in found.members:
            identity = identify(member.name)
            if identity is None:
                catalogue.foreign.append(member)
            else:
                copies[identity.id][identity.role].append(member)
    copies, liars = _check_names(copies, catalogue), []
    for name, roles in sorted(copies.items(), key=lambda item: (*map(int, item[0].split("_")), item[0])):
        catalogue.entries.append(_enter(name, roles, catalogue, liars))

    def check(entry: Entry) -> list[Problem]:
        settled = {problem.role for problem in entry.problems}
        again = [role for role in entry.members if role not in settled]
        return [problem for role in again for problem in _settle(entry, role, copies[entry.id][role], liars)]

    if verify:
        entries = catalogue.entries
        for entry, problems in zip(entries, pump.in_order(check, entries, workers), strict=True):
            entry.problems.extend(problems)
    _distrust(catalogue, liars, "files have other sizes or checksums than its directory says")
    return catalogue


def read_run(entry: Entry) -> Run:
    """Read and decode one complete run from its archives, with every checksum checked.

    Raises UnveilError naming the archive and the file for anything missing, unreadable or of the wrong size, and for
    parameters that say that other cameras than the course's took the views.
    """
    if entry.problems:
        raise UnveilError(f"run {entry.id} is incomplete ({entry.complaint}): {_REMEDY}")
    images = np.empty((VIEWS + 1, SIZE, SIZE), np.uint8)
    with zips.opened(entry.archives) as handles:
        files = [_load(member := entry.members[role], handles[member.archive], role, images) for role in ROLES]
    return Run(entry.id, images[:VIEWS], images[VIEWS], files[-1][2], tuple(crc for _, crc, _ in files))


def read_parameters(entry: Entry) -> parameters.Parameters:
    """Read the ``Parameters.txt`` of a run alone. Raises UnveilError where it is missing or malformed."""
    if "Parameters" not in entry.members:
        raise UnveilError(f"run {entry.id} has no Parameters.txt: {_REMEDY}")
    member = entry.members["Parameters"]
    with zips.opened([member.archive]) as handles:
        return _load(member, handles[member.archive], "Parameters")[2]


class Identity(NamedTuple):
    """Which file of which run."""

    id: str
    role: str


def identify(name: str) -> Identity | None:
    """What a name inside an archive means; None for a foreign file."""
    folder, _, base = name.replace("\\", "/").rpartition("/")
    match = _NAME.fullmatch(base)
    if match is None or "__MACOSX" in folder:
        return None
    return Identity(f"{match[1]}_{match[2]}", sys.intern(match[match.lastindex]))


def as_paths(given: Given) -> list[Path]:
    """One path or several, as a list."""
    return [Path(given)] if isinstance(given, str | os.PathLike) else [Path(path) for path in given]


def find_archives(roots: list[Path]) -> list[Path]:
    """The ZIP files named by paths and found in folders, each once, without hidden and dropped ones."""
    found: dict[Path, Path] = {}
    for root in roots:
        if root.is_dir():
            inside = (p for p in root.rglob("*") if p.suffix.lower() == ".zip" and not p.name.startswith("."))
            archives = sorted(path for path in inside if path.is_file() and not path.name.endswith(DROPPED))
            if not archives:
                raise UnveilError(f"{shown(root)}: no ZIP archive in this folder: put the downloaded archives there")
        elif root.is_file():
            archives = [root]
        else:
            raise UnveilError(f"{shown(root)}: no such file or folder: check the path")
        for archive in archives:
            found.setdefault(archive.resolve(), archive)
    if not found:
        raise UnveilError("no archives given: name ZIP files or a folder that holds them")
    return list(found.values())


def _check_names(copies: _Copies, catalogue: Catalogue) -> _Copies:
    """Where a directory's name leads to nothing whole, ask the file's own header, and go by that where it fits in.

    Only foreign files, files of runs that lack some, and copies that differ are asked: a flipped byte in a name makes
    one of these, and the others need no second opinion.
    """
    suspects: list[tuple[Member, Identity | None]] = [(member, None) for member in catalogue.foreign]
    for name, roles in copies.items():
        for role, members in roles.items():
            if len(roles) < len(ROLES) or len({(m.size, m.crc) for m in members}) > 1:
                suspects += [(member, Identity(name, role)) for member in members]
    moved: list[Path] = []
    for archive in {member.archive for member, _ in suspects}:
        with zips.opened([archive]) as handles:
            for member, listed in suspects:
                own = member.archive == archive and zips.own_name(member, handles[archive])
                identity = identify(own) if own else None
                if identity is None or identity == listed or identity.role in copies[identity.id]:
                    continue
                if listed is None:
                    catalogue.foreign.remove(member)
                else:
                    copies[listed.id][listed.role].remove(member)
                copies[identity.id][identity.role] = [member._replace(name=own)]
                moved.append(archive)
    _distrust(catalogue, moved, "files have other names in its directory than of their own")
    left = {name: {role: members for role, members in roles.items() if members} for name, roles in copies.items()}
    return {name: roles for name, roles in left.items() if roles}


def _distrust(catalogue: Catalogue, archives: list[Path], what: str) -> None:
    """Name archives whose directories were caught lying, once for each file."""
    for archive in dict.fromkeys(archives):
        catalogue.stamps.pop(archive, None)
        reason = f"damaged ZIP ({archives.count(archive)} {what}): {zips.REFETCH}"
        catalogue.damaged.append(Damaged(archive, reason))


def _enter(name: str, roles: dict[str, list[Member]], catalogue: Catalogue, liars: list[Path]) -> Entry:
    """The entry of one run; files are read only where copies differ or one is said to be empty."""
    entry = Entry(name, *map(int, name.split("_")))
    absent = [role for role in ROLES if role not in roles]
    if absent:
        entry.problems.append(Problem(MISSING, f"missing {', '.join(absent)}"))
    for role in filter(roles.get, ROLES):
        first, *others = roles[role]
        entry.members[role] = first
        catalogue.duplicates += [Duplicate(name, role, first, other) for other in others]
        if first.size == 0 or any((other.size, other.crc) != (first.size, first.crc) for other in others):
            entry.problems += _settle(entry, role, roles[role], liars)
    return entry


def _settle(entry: Entry, role: str, copies: Sequence[Member], liars: list[Path]) -> list[Problem]:
    """Let the one good copy of a file count; returns what is wrong where there is none, or several that differ.

    Archives whose directories say something else of a good file join the ``liars``.
    """
    good: dict[tuple[int, int], Member] = {}
    problems = []
    for member in copies:
        said = member.size, member.crc
        if said in good:
            continue
        try:
            with zips.opened([member.archive]) as handles:
                size, crc, _ = _load(member, handles[member.archive], role)
            good.setdefault((size, crc), member._replace(size=size, crc=crc))
            if (size, crc) != said:
                liars.append(member.archive)
        except UnveilError as error:
            kind = UNCLEAR if isinstance(error, _Unclear) else BROKEN
            problems.append(Problem(kind, str(error).removesuffix(f": {_REMEDY}"), role))
    if len(good) > 1:
        first, second = list(good.values())[:2]
        return [Problem(UNCLEAR, f"{role} is there twice with different content ({first}, {second})", role)]
    if good:
        entry.members[role] = next(iter(good.values()))
        return []
    return problems


class _Unclear(UnveilError):
    """The bytes are whole, but what they say cannot be used."""


def _load(
    member: Member, handle: BinaryIO, role: str, images: np.ndarray | None = None
) -> tuple[int, int, parameters.Parameters | None]:
    """Size, checksum and parameters of a file; a picture goes into ``images`` (12, 512, 512), ordered as ``ROLES``."""
    is_text = role == "Parameters"
    try:
        data, crc = zips.read(member, handle, _TEXT_LIMIT if is_text else _PICTURE_LIMIT)
        if not data:
            raise ValueError("is an empty file")
        if not is_text:
            # Imported here because its compiler takes half a second to load, which a scan need not wait for.
            from unveil.aos import png

            png.decode(data, np.empty((SIZE, SIZE), np.uint8) if images is None else images[ROLES.index(role)])
            return len(data), crc, None
    except ValueError as error:
        raise UnveilError(f"{member.place} {error}: {_REMEDY}") from error
    try:
        said = parameters.parse(parameters.decode(data), member.place)
    except UnveilError as error:
        raise _Unclear(str(error)) from error
    if not said.is_course_rig:
        raise _Unclear(f"{member.place} tells of other cameras than the course's 11, which alone can be integrated")
    return len(data), crc, said


def _names(archives: Iterable[Path]) -> str:
    return ", ".join(shown(archive.name) for archive in archives)
