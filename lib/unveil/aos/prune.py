"""Dropping files of unusable runs from archives, putting them back, and deleting archives that a store replaces.

An archive is written anew beside the old one, read back, compared, and only then put in its place, so that an
interruption at any moment leaves the old or the new one whole. What is dropped moves into ``<archive>.dropped.zip``
first.
"""

from __future__ import annotations

import glob
import stat
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipInfo

import numpy as np

from unveil import files
from unveil.aos import archives, repack
from unveil.aos.archives import BROKEN, DROPPED, MISSING, Catalogue, Entry, Stamp, find_archives, identify
from unveil.aos.store import Store
from unveil.aos.zips import shown
from unveil.errors import UnveilError

_DRY = "nothing was changed: this was a dry run"


class Pruned(NamedTuple):
    """One archive that holds files to drop: its bytes before and after, the numbers of files dropped and kept."""

    archive: Path
    before: int
    after: int
    dropped: int
    kept: int


@dataclass(frozen=True)
class PruneReport:
    """What :func:`prune` dropped, or would drop: ids of runs, and the archives concerned; ``str()`` says it.

    troubles: what is damaged, and incomplete runs that stay, a line each · obstacle: why it would refuse to go on.
    """

    done: bool
    discarded: bool
    runs: list[str]
    archives: list[Pruned]
    troubles: list[str]
    obstacle: str = ""

    def __str__(self) -> str:
        saved = sum(a.before - a.after for a in self.archives)
        count = sum(a.dropped for a in self.archives)
        verb, would = ("dropped", "") if self.done else ("to drop", "would ")
        lines = [f"{verb}: {len(self.runs):,} incomplete runs, {count:,} files, {saved / 1e6:,.1f} MB"]
        if not self.archives:
            lines = ["nothing to prune: no archive holds files of runs that are known to be unusable"]
        for a in self.archives:
            sizes = f"{a.before / 1e6:,.1f} to {a.after / 1e6:,.1f} MB"
            lines.append(f"  {shown(a.archive)}: {a.dropped:,} files {verb}, {a.kept:,} kept, {sizes}")
        if self.runs:
            lines.append(f"runs: {', '.join(self.runs)}")
        if self.archives and not self.discarded:
            lines.append(f"dropped files {would}lie in <archive>{DROPPED}; unprune puts them back")
        lines += [f"stays: {trouble}" for trouble in self.troubles]
        if self.archives and not self.done:
            lines.append(_DRY)
        return "\n".join([*lines, f"beware: {self.obstacle}"] if self.obstacle else lines)


def prune(
    catalogue: Catalogue,
    yes: bool = False,
    discard: bool = False,
    all_named: bool = False,
    drop_foreign: bool = False,
    despite_damaged: bool = False,
) -> PruneReport:
    """Take the files of unusable runs out of the archives; without ``yes`` only say what would happen.

    A run is unusable when one of its files is broken (only a verifying scan reads them all), or, if ``all_named``
    confirms that the catalogue spans every archive of the set, when it lacks files. A run of which copies differ, or
    whose parameters alone cannot be used, stays. Kept files are copied byte for byte, foreign ones stay unless
    ``drop_foreign``. Dropped files move into ``<archive>.dropped.zip`` (:func:`restore_dropped`); ``discard`` deletes
    them instead.

    Raises UnveilError where an archive came, went or changed since the scan, where the disk is full or the folder
    read-only, and where a run lacks files while a damaged archive may hold them, unless ``despite_damaged``. An archive
    named in an error is unchanged.
    """
    _check_unchanged(catalogue)
    doomed = [e for e in catalogue.incomplete if (all_named if e.has(MISSING) else e.has(BROKEN))]
    obstacle = ""
    if catalogue.damaged and not despite_damaged and any(entry.has(MISSING) for entry in doomed):
        why = f"{shown(catalogue.damaged[0].archive)}: damaged, and may hold files that incomplete runs miss"
        obstacle = f"{why}: fetch it again or move it elsewhere, then scan and prune"
        if yes:
            raise UnveilError(obstacle)
    ids = {entry.id for entry in doomed}

    def drops(info: ZipInfo) -> bool:
        identity = identify(info.filename)
        return drop_foreign and not info.is_dir() if identity is None else identity.id in ids

    pruned = []
    for archive, stamp in catalogue.stamps.items():
        kept, dropped = repack.select(archive, lambda info: not drops(info)), repack.select(archive, drops)
        if dropped.records:
            # What stands before the first file of an archive goes, too.
            after = stamp.size - dropped.size - min(start for _, start, _ in kept.records + dropped.records)
            if yes:
                if not discard:
                    _set_aside(archive, drops)
                _place(archive, [kept], stamp)
                after = archive.stat().st_size
            pruned.append(Pruned(archive, stamp.size, after, len(dropped.records), len(kept.records)))
    troubles = [f"{shown(damaged.archive)}: {damaged.reason}" for damaged in catalogue.damaged]
    for entry in catalogue.incomplete:
        if entry.id not in ids:
            remedy = "; confirm that all archives of the set are named, and it is dropped" if entry.has(MISSING) else ""
            troubles.append(f"{entry.id}: {entry.complaint}{remedy}")
    return PruneReport(yes, discard, [entry.id for entry in doomed], pruned, troubles, obstacle)


@dataclass(frozen=True)
class RestoreReport:
    """What :func:`restore_dropped` put back, or would: archive → (files, ids of runs); ``str()`` says it."""

    done: bool
    archives: dict[Path, tuple[int, list[str]]]

    def __str__(self) -> str:
        verb = "put back" if self.done else "to put back"
        if not self.archives:
            return f"nothing to put back: no archive has one beside it that ends in {DROPPED}"
        lines = [
            f"{shown(archive)}: {count:,} files {verb}, runs: {', '.join(ids) or 'none'}"
            for archive, (count, ids) in self.archives.items()
        ]
        return "\n".join(lines if self.done else [*lines, _DRY])


def restore_dropped(paths: archives.Given, yes: bool = False) -> RestoreReport:
    """Put back what :func:`prune` moved into ``<archive>.dropped.zip``; without ``yes`` only list it.

    ``paths``: archives, their dropped files' archives, or folders of them. Raises UnveilError as :func:`prune` does.
    """
    aside = []
    for root in archives.as_paths(paths):
        beside = root if root.name.endswith(DROPPED) else root.with_name(root.name + DROPPED)
        aside += sorted(root.rglob(f"*{DROPPED}")) if root.is_dir() else [beside] if beside.is_file() else []
    found: dict[Path, tuple[int, list[str]]] = {}
    for path in dict.fromkeys(aside):
        archive = path.with_name(path.name.removesuffix(DROPPED))
        parts = [repack.select(archive)] if archive.is_file() else []
        parts.append(repack.select(path, _lacking(parts)))
        back = [identify(info.filename) for info, _, _ in parts[-1].records]
        if yes:
            _place(archive, parts)
            path.unlink()
        found[archive] = len(back), list(dict.fromkeys(identity.id for identity in back if identity))
    return RestoreReport(yes, found)


@dataclass
class Deletion:
    """Archives that were deleted, and those that were kept with the reason."""

    deleted: list[Path] = field(default_factory=list)
    kept: dict[Path, str] = field(default_factory=dict)

    def report(self) -> str:
        lines = [f"deleted {shown(path)}: every run of it was read back from the store" for path in self.deleted]
        return "\n".join(lines + [f"kept {shown(path)}: {reason}" for path, reason in self.kept.items()])


def delete_verified(catalogue: Catalogue, store: Store, workers: int = 1) -> Deletion:
    """Delete archives whose every run was integrated afresh and found equal, byte for byte, in the store.

    An archive is kept when one of its complete runs is not in the store or differs from it, when it holds files of
    incomplete runs (another archive may complete them; ``prune`` drops them), when it holds no run, when it is damaged,
    or when it changed since it was scanned.
    """
    # Imported here because its compiler takes half a second to load, which pruning need not wait for.
    from unveil.aos.build import integrated

    here = [entry for entry in catalogue.complete if entry.id in store]
    failed = {entry.id: "is not in the store" for entry in catalogue.complete if entry.id not in store}
    for entry, fresh in zip(here, integrated(here, store.heights, workers), strict=True):
        index = store.index(entry.id)
        if isinstance(fresh, str):
            failed[entry.id] = f"cannot be read again ({fresh})"
        elif not (
            all(map(np.array_equal, store[index], (fresh.images, fresh.truth)))
            and store.record(index).parameters == fresh.record.parameters
        ):
            failed[entry.id] = "differs from its stack in the store"
    failed |= {entry.id: "is incomplete: prune first" for entry in catalogue.incomplete}
    outcome = Deletion(kept={found.archive: f"damaged: {found.reason}" for found in catalogue.damaged})
    holds: dict[Path, list[Entry]] = defaultdict(list)
    for entry in catalogue.entries:
        for path in entry.archives:
            holds[path].append(entry)
    for path in catalogue.archives:
        reasons = [f"run {entry.id} {failed[entry.id]}" for entry in holds[path] if entry.id in failed]
        if not holds[path]:
            reasons = ["no run was read from it"]
        try:
            if not reasons:
                _check_stamp(path, catalogue.stamps[path])
                path.unlink()
        except (OSError, UnveilError) as error:
            reasons = [f"it cannot be deleted ({getattr(error, 'strerror', None) or error})"]
        if reasons:
            outcome.kept[path] = reasons[0] + (f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else "")
        else:
            outcome.deleted.append(path)
    return outcome


def _check_unchanged(catalogue: Catalogue) -> None:
    known = {*catalogue.stamps, *(damaged.archive for damaged in catalogue.damaged)}
    for archive in known.symmetric_difference(find_archives(catalogue.paths)):
        raise UnveilError(f"{shown(archive)}: {'gone' if archive in known else 'new'} since the scan: scan again")
    for archive, stamp in catalogue.stamps.items():
        _check_stamp(archive, stamp)


def _check_stamp(archive: Path, stamp: Stamp) -> None:
    found = archive.stat() if archive.exists() else None
    if found is None or (found.st_size, found.st_mtime_ns) != (stamp.size, stamp.mtime_ns):
        raise UnveilError(f"{shown(archive)}: changed since the scan: scan again")


def _lacking(parts: list[repack.Part]) -> repack.Choose:
    """Whether a file is not yet among these parts, as it is after an interruption between two archives."""
    there = {(info.filename, info.CRC, info.file_size) for part in parts for info, _, _ in part.records}
    return lambda info: (info.filename, info.CRC, info.file_size) not in there


def _set_aside(archive: Path, drops: repack.Choose) -> None:
    """Copy what is to be dropped into the archive of dropped files beside, behind what that holds already."""
    target = archive.resolve()
    aside = target.with_name(target.name + DROPPED)
    parts = [repack.select(aside)] if aside.exists() else []
    lacking = _lacking(parts)
    parts.append(repack.select(archive, lambda info: drops(info) and lacking(info)))
    if parts[-1].records:
        _place(aside, parts)


def _place(archive: Path, parts: list[repack.Part], stamp: Stamp | None = None) -> None:
    """Write an archive, read it back, and put it in the place of the old one if that is still as its stamp says."""
    target = archive.resolve()
    files.sweep(target.parent, glob.escape(target.stem))
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    with files.replacing(target) as temporary:
        repack.write(parts, temporary)
        if not repack.equals(parts, temporary):
            raise UnveilError(f"{shown(archive)}: its copy differs, so it stays as it is: check the disk, then prune")
        if stamp is not None:
            _check_stamp(archive, stamp)
    if mode is not None:
        target.chmod(mode)
