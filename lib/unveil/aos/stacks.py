"""Focal stacks at rest: archives become a store of stacks, memory-mapped, that grows shard by shard.

A store is a folder. Shard n is three files, written in this order, each under its final name only when it is whole:
``shard_n_stacks.npy`` (runs, P, H, W) uint8, ``shard_n_truths.npy`` (runs, H, W) uint8 and ``shard_n.json`` (heights;
per run its id, the checksums of its thirteen source files and its ``Parameters.txt``). The JSON commits the shard:
without it the arrays do not count. ``skipped.json`` names the runs that the last build could not read.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError
from scipy import ndimage

from unveil.aos import _workers, archives, camera, integrator, parameters
from unveil.aos.integrator import HEIGHTS
from unveil.aos.png import decode
from unveil.errors import UnveilError

if TYPE_CHECKING:
    import pandas as pd

RUNS_PER_SHARD = 64
"""Runs per shard: 100 MB at five planes, a few seconds' work to lose when a build is killed."""

MAPPED_SHARDS = 64
"""Shards mapped at a time: each costs two open files, and systems allow as few as 256 of them."""

WORTH_WORKERS = 32
"""Fewer runs are done sooner than worker processes are started."""

SKIPPED = "skipped.json"
PERSON_DARKEST = 190
"""Darkest gray level of a person in the course's truths."""

GROUND_SPREAD = 8
"""How far the texture of the ground strays from its level; a handful of pixels go further."""

_PERSON_PIXELS = 16
_SHARD = re.compile(r"shard_(\d{5})\.json")
_PLANE = re.compile(r"(?:.*_)?(-?\d{1,5})cm\.png|(-?\d{1,5})\.png", re.IGNORECASE)
_VIEW = re.compile(r"(?:(.*)_)?pose_(\d+)_thermal\.png", re.IGNORECASE)
_TRUTH = re.compile(r"gt\.png|(?:.*_)?GT_pose_0_thermal\.png", re.IGNORECASE)

Progress = Callable[[int, int], None]
Item = TypeVar("Item")
Result = TypeVar("Result")


class Record(NamedTuple):
    """One run of a store: its id, the checksums of its source files in the order of ``archives.ROLES``, parameters."""

    id: str
    crc: list[int]
    parameters: str


class Stack(NamedTuple):
    """One run integrated: planes (P, H, W) uint8, truth (H, W) uint8, text of the parameters."""

    planes: np.ndarray
    truth: np.ndarray
    parameters: str


@dataclass
class Deletion:
    """Archives that were deleted, and those that were kept with the reason."""

    deleted: list[Path] = field(default_factory=list)
    kept: dict[Path, str] = field(default_factory=dict)

    def report(self) -> str:
        lines = [f"deleted {path}: every run of it was read back from the store" for path in self.deleted]
        return "\n".join(lines + [f"kept {path}: {reason}" for path, reason in self.kept.items()])


class Store:
    """A stack store, memory-mapped: ``store[i]`` → (stack (P, H, W) uint8, truth (H, W) uint8), read when touched.

    Attributes:
        path: the folder.
        ids: ids of the runs, in the order of the indices.
        heights: focal heights of the P planes, metres above ground.
        shape: (P, H, W) of a stack.
        skipped: runs that the last build could not read, with the reason.
        deletion: what became of the archives, after a build that was asked to delete them.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.deletion: Deletion | None = None
        self._records: list[Record] = []
        self._rows: list[tuple[int, int]] = []
        self._counts: dict[int, int] = {}
        self._maps: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.skipped: dict[str, str] = _read_json(self.path / SKIPPED) if (self.path / SKIPPED).is_file() else {}
        first = None
        for number in _shard_numbers(self.path):
            name = _shard(self.path, number, ".json")
            remedy = f"delete {name.name} and build the store again; the other shards stay"
            try:
                shard = _read_json(name)
                found = tuple(map(float, shard["heights"])), tuple(map(int, shard["shape"]))
                records = [Record(run["id"], run["crc"], run["parameters"]) for run in shard["runs"]]
            except (KeyError, TypeError, ValueError) as error:
                raise UnveilError(f"{name} is damaged: {remedy}") from error
            if first is None:
                first = found
                self.heights, self.shape = found
            elif found != first:
                raise UnveilError(f"{name} has other planes than the shards before it: {remedy}")
            for suffix, shape in (("_stacks.npy", self.shape), ("_truths.npy", self.shape[1:])):
                _check_size(_shard(self.path, number, suffix), (len(records), *shape), remedy)
            self._counts[number] = len(records)
            self._records += records
            self._rows += [(number, row) for row in range(len(records))]
        if first is None:
            raise UnveilError(f"{self.path} is no stack store: make one with `python -m unveil integrate`")
        self.ids = [record.id for record in self._records]
        self._places = {name: index for index, name in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        number, row = self._rows[index]
        if number not in self._maps:
            if len(self._maps) == MAPPED_SHARDS:
                del self._maps[next(iter(self._maps))]
            self._maps[number] = _map_shard(self.path, number, self._counts[number], self.shape)
        stacks, truths = self._maps[number]
        return stacks[row], truths[row]

    def __getstate__(self) -> dict[str, Any]:
        # A pickled memory map carries its pixels along; another process maps the files itself.
        return {**self.__dict__, "_maps": {}}

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def index(self, name: str) -> int:
        """Index of the run with this id."""
        if name not in self._places:
            raise UnveilError(f"run {name} is not in the store {self.path}")
        return self._places[name]

    def record(self, index: int) -> Record:
        return self._records[index]

    def parameters(self, index: int) -> parameters.Parameters:
        record = self._records[index]
        return parameters.parse(record.parameters, f"{self.path}: parameters of run {record.id}")

    def table(self) -> pd.DataFrame:
        """One row per run: id, density, pose, person_x, person_y (metres in the world frame), rotation_deg, ambient,
        azimuth_deg, compass_deg, ground_kelvin, tree_kelvin; NaN where there is no person."""
        import pandas as pd

        rows = []
        for index, name in enumerate(self.ids):
            p = self.parameters(index)
            # The file gives y before x, both with the sign turned, as in its camera lines.
            x, y = (-p.position[1], -p.position[0]) if p.position else (np.nan, np.nan)
            rotation = np.nan if p.rotation_deg is None else p.rotation_deg
            light = p.ambient, p.azimuth_deg, p.compass_deg, p.ground_kelvin, p.tree_kelvin
            rows.append((name, p.density, p.pose, x, y, rotation, *light))
        columns = ["id", "density", "pose", "person_x", "person_y", "rotation_deg", "ambient", "azimuth_deg"]
        return pd.DataFrame(rows, columns=[*columns, "compass_deg", "ground_kelvin", "tree_kelvin"])


def open(path: str | Path) -> Store:
    """Open a stack store; the sizes of all its files are checked, their pixels not read.

    Raises:
        UnveilError: no store there, a shard that is damaged, cut short or of other planes.
    """
    return Store(path)


def build(
    catalogue: archives.Catalogue,
    out: str | Path,
    heights: Sequence[float] = HEIGHTS,
    workers: int = 1,
    png: str | Path | None = None,
    delete_archives: bool = False,
    progress: Progress | None = None,
) -> Store:
    """Integrate every complete run of a catalogue that the store ``out`` does not hold yet.

    The store's bytes depend on the catalogue and the heights alone, not on the number of workers nor on how often the
    build was killed and started again. A run that cannot be read is skipped, named in the store, and tried again by the
    next build.

    Args:
        catalogue: of :func:`archives.scan`.
        out: folder of the store; made, or added to.
        heights: focal heights of the planes, metres above ground.
        workers: processes that read and integrate, each one run at a time.
        png: folder for pictures too: ``<id>/020.png`` … named by height in cm, and ``<id>/gt.png``.
        delete_archives: delete archives as :func:`delete_verified` does; its outcome is ``Store.deletion``.
        progress: called with (runs done, runs to do).

    Raises:
        UnveilError: no complete run, no space, a folder that cannot be written, a store of other heights or made from
            other files than those of the catalogue, no run that can be read.
    """
    out = Path(out)
    heights = _check_heights(heights)
    if png is not None:
        _names(heights)
    with _writing(out):
        out.mkdir(parents=True, exist_ok=True)
        _sweep(out)
    done = Store(out) if _shard_numbers(out) else None
    if done is not None and done.heights != heights:
        raise UnveilError(
            f"{out} holds stacks of the heights {_metres(done.heights)}, not {_metres(heights)}: "
            "choose another folder, or ask for the same heights"
        )
    if not catalogue.complete and done is None:
        where = ", ".join(map(str, catalogue.paths))
        raise UnveilError(f"{where}: no complete run in the archives, nothing to integrate; scan says what they lack")
    pending = [entry for entry in catalogue.complete if not _is_done(entry, done)]
    pixels = len(pending) * (len(heights) + 1) * archives.SIZE**2
    _check_space(out, pixels, f"the stacks of {len(pending):,} runs")
    skipped = _write_shards(out, pending, heights, workers, progress)
    with _writing(out):
        _write_json(out / SKIPPED, skipped)
    if not _shard_numbers(out):
        raise UnveilError(f"none of the {len(pending):,} runs can be read; the first: {next(iter(skipped.values()))}")
    store = Store(out)
    if png is not None:
        export(store, png, workers)
    if delete_archives:
        store.deletion = delete_verified(catalogue, store, workers)
    return store


def delete_verified(
    catalogue: archives.Catalogue, store: Store, workers: int = 1, progress: Progress | None = None
) -> Deletion:
    """Delete archives whose every run was integrated afresh and found equal, byte for byte, in the store.

    An archive is kept when one of its complete runs is not in the store or differs from it, when it holds files of
    incomplete runs (another archive may complete them; ``prune`` drops them), when it holds no run, or when it changed
    since it was scanned.
    """
    here = [entry for entry in catalogue.complete if entry.id in store]
    failed = {entry.id: "is not in the store" for entry in catalogue.complete if entry.id not in store}
    for done, (entry, fresh) in enumerate(zip(here, _integrate_all(here, store.heights, workers), strict=True), 1):
        index = store.index(entry.id)
        stack, truth = store[index]
        if isinstance(fresh, str):
            failed[entry.id] = f"cannot be read again ({fresh})"
        elif not (
            np.array_equal(stack, fresh.planes)
            and np.array_equal(truth, fresh.truth)
            and store.record(index).parameters == fresh.parameters
        ):
            failed[entry.id] = "differs from its stack in the store"
        if progress is not None:
            progress(done, len(here))
    outcome = Deletion(kept={damage.archive: f"damaged: {damage.reason}" for damage in catalogue.damaged})
    holds: dict[Path, list[archives.Entry]] = {path: [] for path in catalogue.archives}
    for entry in catalogue.entries:
        for path in entry.archives:
            holds[path].append(entry)
    for path, entries in holds.items():
        bad = [f"run {entry.id} {failed[entry.id]}" for entry in entries if entry.id in failed]
        partial_runs = [entry.id for entry in entries if not entry.complete]
        if bad:
            outcome.kept[path] = f"{bad[0]}{_more(bad)}"
        elif partial_runs:
            outcome.kept[path] = f"it holds incomplete runs ({partial_runs[0]}{_more(partial_runs)}): prune it first"
        elif not entries:
            outcome.kept[path] = "no run was read from it"
        elif not _is_unchanged(path, catalogue.stamps[path]):
            outcome.kept[path] = "it changed since it was scanned: scan again"
        else:
            try:
                path.unlink()
                outcome.deleted.append(path)
            except OSError as error:
                outcome.kept[path] = f"it cannot be deleted ({error.strerror})"
    return outcome


def export(store: Store, folder: str | Path, workers: int = 1) -> None:
    """Write the runs that ``folder`` lacks as pictures: ``<id>/<height in cm>.png`` per plane, then ``<id>/gt.png``."""
    folder = Path(folder)
    # The truth is written last, so a run that has one is whole.
    lacking = [index for index, name in enumerate(store.ids) if not (folder / name / "gt.png").is_file()]
    # Places and not the store, whose records would travel to the workers with every run.
    places = [(store.ids[index], *store._rows[index], store._counts[store._rows[index][0]]) for index in lacking]
    for _ in _in_order(partial(_export, store.path, store.heights, store.shape, folder), places, workers):
        pass


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Gray levels rounded half up to uint8, as the renderer's 8-bit targets do, cut off at 0 and 255.

    Raises:
        UnveilError: a gray level is NaN.
    """
    # The smallest value is NaN as soon as any is: cheaper than a mask.
    if np.isnan(image.min(initial=0)):
        raise UnveilError("an integral holds NaN where gray levels belong: check the views and their poses")
    return np.clip(image + np.float32(0.5), 0, 255).astype(np.uint8)


def person_mask(truth: np.ndarray) -> np.ndarray:
    """Pixels of the person in a truth (H, W) uint8, as bool (H, W); none where nobody is.

    The ground is one level, the image's median, with a faint texture. Where it is as bright as a person, pixels of the
    figure lie within the texture's spread: these are won back by closing and filling the outline.
    """
    ground = int(np.median(truth))
    mask = np.abs(truth.astype(np.int16) - ground) > GROUND_SPREAD
    square = np.ones((3, 3), bool)
    if ground + GROUND_SPREAD >= PERSON_DARKEST:
        mask = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(mask, 2), square))[2:-2, 2:-2]
    parts, count = ndimage.label(mask, square)
    if count == 0:
        return mask
    large = np.bincount(parts.ravel()) >= _PERSON_PIXELS
    large[0] = False
    return large[parts]


@dataclass(frozen=True)
class Choice:
    """Which given planes stand in for the wanted ones.

    Attributes:
        indices: index of the given plane per wanted plane.
        wanted: wanted heights, metres.
        heights: heights of the planes taken.
    """

    indices: tuple[int, ...]
    wanted: tuple[float, ...]
    heights: tuple[float, ...]

    @property
    def differences(self) -> tuple[float, ...]:
        """Height taken minus height wanted, metres."""
        return tuple(round(taken - wanted, 9) for taken, wanted in zip(self.heights, self.wanted, strict=True))

    @property
    def repeated(self) -> dict[float, tuple[float, ...]]:
        """Heights of planes that stand in for several wanted ones → these."""
        groups: dict[float, list[float]] = {}
        for taken, wanted in zip(self.heights, self.wanted, strict=True):
            groups.setdefault(taken, []).append(wanted)
        return {taken: tuple(wanted) for taken, wanted in groups.items() if len(wanted) > 1}

    def describe(self) -> str:
        """One line for people: which planes were taken for which, and what is doubtful about it."""
        pairs = zip(self.heights, self.wanted, strict=True)
        text = "planes " + ", ".join(f"{t:g} m" if t == w else f"{t:g} m for {w:g} m" for t, w in pairs)
        for taken, wanted in self.repeated.items():
            text += f"; warning: {taken:g} m stands in for {len(wanted)} planes ({_metres(wanted)})"
        return text


def nearest(heights: Sequence[float], wanted: Sequence[float]) -> Choice:
    """For each wanted height the given plane nearest to it, the lower one of two as near."""
    if len(heights) == 0:
        raise UnveilError("no plane is given to choose from")
    indices = tuple(
        min(range(len(heights)), key=lambda i: (round(abs(heights[i] - height), 6), heights[i])) for height in wanted
    )
    return Choice(indices, tuple(map(float, wanted)), tuple(float(heights[i]) for i in indices))


@dataclass(frozen=True)
class Folder:
    """A folder of pictures of one run.

    Attributes:
        path: the folder.
        heights: heights of the planes, metres, ascending; empty for a folder of views.
        planes: (N, H, W) uint8; N = 0 for a folder of views.
        truth: (H, W) uint8 or None.
        views: (11, H, W) uint8 or None.
        notes: what was found and left aside, one line each.
    """

    path: Path
    heights: tuple[float, ...]
    planes: np.ndarray
    truth: np.ndarray | None
    views: np.ndarray | None
    notes: tuple[str, ...] = ()

    def stack(self, heights: Sequence[float] = HEIGHTS) -> tuple[np.ndarray, Choice]:
        """Focal stack (P, H, W) uint8 for these heights: integrated from the views, or the nearest planes."""
        if self.views is None:
            choice = nearest(self.heights, heights)
            return self.planes[list(choice.indices)], choice
        wanted = tuple(map(float, heights))
        image = integrator.integrate(self.views, camera.course_rig(), wanted).image
        return to_uint8(image), Choice(tuple(range(len(wanted))), wanted, wanted)


def read_folder(path: str | Path) -> Folder:
    """Read one run given as pictures: a focal stack, or the 11 views of the course rig.

    Planes are named by their height in cm: ``000.png``, ``040.png`` or ``integral_060cm.png``. Views are named
    ``…pose_0_thermal.png`` to ``…pose_10_thermal.png``; where all eleven are there they win over planes. The truth is
    ``gt.png`` or ``…GT_pose_0_thermal.png``. All are 8-bit gray PNGs of one size, whatever it is.

    Raises:
        UnveilError: no such folder, no planes nor views in it, two files for one plane, pictures that cannot be read,
            are not 8-bit gray or differ in size.
    """
    path = Path(path)
    if not path.is_dir():
        raise UnveilError(f"{path} is no folder: give a folder of PNGs named by height in cm, or of a run's 11 views")
    views: dict[str, dict[int, Path]] = {}
    planes: dict[float, Path] = {}
    truths, others = [], []
    for file in sorted(item for item in path.iterdir() if item.suffix.lower() == ".png" and not item.is_dir()):
        if _TRUTH.fullmatch(file.name):
            truths.append(file)
        elif found := _VIEW.fullmatch(file.name):
            views.setdefault(found[1] or "", {})[int(found[2])] = file
        elif found := _PLANE.fullmatch(file.name):
            height = int(found[1] or found[2]) / 100
            if height in planes:
                raise UnveilError(
                    f"{path}: {planes[height].name} and {file.name} are the same plane: remove one of them"
                )
            planes[height] = file
        else:
            others.append(file.name)
    if len(truths) > 1:
        raise UnveilError(f"{path}: {truths[0].name} and {truths[1].name} are both truths: remove one of them")
    whole = [prefix for prefix, files in views.items() if sorted(files) == list(range(archives.VIEWS))]
    notes = [f"{len(others)} other pictures are left aside ({others[0]}{_more(others)})"] if others else []
    if len(whole) > 1:
        raise UnveilError(f"{path} holds the views of {len(whole)} runs: give each run a folder of its own")
    if whole:
        chosen = [file for _, file in sorted(views[whole[0]].items())]
        if planes:
            notes.append(
                f"{len(planes)} integral images are left aside: the 11 views beside them are integrated instead"
            )
    elif planes:
        heights, chosen = tuple(sorted(planes)), [planes[height] for height in sorted(planes)]
        if views:
            notes.append(f"views are left aside, for there are not all {archives.VIEWS} of them")
    elif views:
        prefix, files = max(views.items(), key=lambda item: len(item[1]))
        absent = [f"pose_{pose}" for pose in range(archives.VIEWS) if pose not in files]
        lack = ", ".join(absent) or "none, but there are others than pose_0 … pose_10"
        raise UnveilError(f"{path}: of the views of one run these are missing: {lack}; add them")
    else:
        raise UnveilError(
            f"{path} holds no focal stack: name its PNGs by height in cm (000.png, 040.png, integral_060cm.png), "
            "or give the 11 views of a run"
        )
    images = [_read_gray(file) for file in chosen + truths]
    for file, image in zip(chosen + truths, images, strict=True):
        if image.shape != images[0].shape:
            sizes = " and ".join(
                f"{name.name} {w} × {h}" for name, (h, w) in ((chosen[0], images[0].shape), (file, image.shape))
            )
            raise UnveilError(f"{path}: pictures of different sizes ({sizes}): all must have one size")
    truth = images.pop() if truths else None
    stack = np.stack(images)
    if whole:
        return Folder(path, (), stack[:0], truth, stack, tuple(notes))
    return Folder(path, heights, stack, truth, None, tuple(notes))


def _read_gray(path: Path) -> np.ndarray:
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            mode, size = image.mode, image.size
    except UnidentifiedImageError:
        raise UnveilError(f"{path} is empty or no picture: replace it") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnveilError(f"{path} cannot be read as a PNG ({error}): replace it") from error
    if mode != "L":
        raise UnveilError(f"{path} is not an 8-bit gray picture (its mode is {mode}): convert it to 8-bit gray")
    pixels = np.empty(size[::-1], np.uint8)
    try:
        # Pillow would pass over a cut-off end.
        decode(data, pixels)
    except ValueError as error:
        raise UnveilError(f"{path} {error}: replace it") from error
    return pixels


def _integrate_run(heights: tuple[float, ...], threads: int | None, entry: archives.Entry) -> Stack | str:
    """The run's stack, or why it has none."""
    try:
        run = archives.read_run(entry)
        if not _is_course_rig(run.parameters):
            raise UnveilError(f"run {entry.id} was not flown with the course's cameras (see its Parameters.txt)")
        image = integrator.integrate(run.views, camera.course_rig(), heights, threads=threads).image
        return Stack(to_uint8(image), run.truth, parameters.format(run.parameters))
    except UnveilError as error:
        return str(error)


def _is_course_rig(found: parameters.Parameters) -> bool:
    course = parameters.course_cameras()
    return all(np.allclose(found.cameras[name], line, rtol=0, atol=0.01) for name, line in course.items())


def _integrate_all(
    entries: Sequence[archives.Entry], heights: tuple[float, ...], workers: int
) -> Iterator[Stack | str]:
    # Several processes share the cores already; a single one may use threads.
    return _in_order(partial(_integrate_run, heights, 1 if workers > 1 else None), entries, workers)


def _in_order(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """Results in the order of the items, with only two items per worker under way at any time."""
    if workers <= 1 or len(items) < WORTH_WORKERS:
        yield from map(function, items)
        return
    pool = _workers.pool(workers)
    waiting: deque = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise UnveilError(
            "a worker process died, perhaps for want of memory: run the same again with fewer workers; "
            "what is finished stays"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _write_shards(
    out: Path, pending: Sequence[archives.Entry], heights: tuple[float, ...], workers: int, progress: Progress | None
) -> dict[str, str]:
    """Integrate and store; returns the runs that could not be read, with the reason."""
    skipped: dict[str, str] = {}
    writer: _ShardWriter | None = None
    try:
        with _writing(out):
            for done, (entry, result) in enumerate(
                zip(pending, _integrate_all(pending, heights, workers), strict=True), 1
            ):
                if isinstance(result, str):
                    skipped[entry.id] = result
                else:
                    writer = writer or _ShardWriter(out, heights, result.planes.shape)
                    writer.add(Record(entry.id, _checksums(entry), result.parameters), result)
                    if len(writer.records) == RUNS_PER_SHARD:
                        writer.commit()
                        writer = None
                if progress is not None:
                    progress(done, len(pending))
            if writer is not None:
                writer.commit()
                writer = None
    finally:
        if writer is not None:
            writer.abandon()
    return skipped


class _ShardWriter:
    """One shard under way, under temporary names until :meth:`commit`.

    Pixels go through ordinary writes: a full disk is then an error and not a crash, as it would be in a memory map.
    """

    def __init__(self, out: Path, heights: tuple[float, ...], shape: tuple[int, ...]):
        taken = set(_shard_numbers(out))
        self.number = next(number for number in range(len(taken) + 1) if number not in taken)
        self.out, self.heights, self.shape = out, heights, shape
        self.records: list[Record] = []
        self.files: dict[str, tuple[BinaryIO, tuple[int, ...]]] = {}
        for suffix, each in (("_stacks.npy", shape), ("_truths.npy", shape[1:])):
            file = _temporary(_shard(out, self.number, suffix)).open("wb")
            self.files[suffix] = file, each
            file.write(_header((RUNS_PER_SHARD, *each)))

    def add(self, record: Record, stack: Stack) -> None:
        for (file, _), pixels in zip(self.files.values(), (stack.planes, stack.truth), strict=True):
            file.write(np.ascontiguousarray(pixels).data)
        self.records.append(record)

    def commit(self) -> None:
        for file, each in self.files.values():
            file.seek(0)
            file.write(_header((len(self.records), *each)))
            _flush(file)
            file.close()
        for suffix in self.files:
            final = _shard(self.out, self.number, suffix)
            os.replace(_temporary(final), final)
        runs = [record._asdict() for record in self.records]
        _write_json(
            _shard(self.out, self.number, ".json"), {"heights": self.heights, "shape": self.shape, "runs": runs}
        )

    def abandon(self) -> None:
        for suffix, (file, _) in self.files.items():
            # Closing flushes once more onto the full disk; the file goes away all the same.
            with suppress(OSError):
                file.close()
            _temporary(_shard(self.out, self.number, suffix)).unlink(missing_ok=True)


def _header(shape: tuple[int, ...]) -> bytes:
    """Header of a .npy file of uint8; NumPy pads it so that its length does not depend on the first number."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


def _check_size(path: Path, shape: tuple[int, ...], remedy: str) -> None:
    expected = len(_header(shape)) + int(np.prod(shape))
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            found = np.lib.format.read_array_header_1_0(file) if version == (1, 0) else None
    except (OSError, ValueError) as error:
        raise UnveilError(f"{path} cannot be read ({error}): {remedy}") from error
    if found != (shape, False, np.dtype(np.uint8)) or size != expected:
        raise UnveilError(f"{path} holds {size:,} bytes where {expected:,} belong: {remedy}")


def _shard(out: Path, number: int, suffix: str) -> Path:
    return out / f"shard_{number:05d}{suffix}"


def _shard_numbers(out: Path) -> list[int]:
    if not out.is_dir():
        return []
    return sorted(int(match[1]) for item in out.iterdir() if (match := _SHARD.fullmatch(item.name)))


def _map_shard(out: Path, number: int, count: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Stacks (count, P, H, W) and truths (count, H, W); several times faster than ``np.load`` as the shape is known."""
    found = []
    for suffix, each in (("_stacks.npy", (count, *shape)), ("_truths.npy", (count, *shape[1:]))):
        found.append(np.memmap(_shard(out, number, suffix), np.uint8, "r", len(_header(each)), each))
    return found[0], found[1]


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + ".tmp")


def _sweep(out: Path) -> None:
    """Remove what a killed build left: temporary files, and arrays that no JSON commits."""
    committed = set(_shard_numbers(out))
    for item in out.iterdir():
        array = re.fullmatch(r"shard_(\d{5})_(?:stacks|truths)\.npy", item.name)
        if re.fullmatch(r"(shard_\d{5}.*|skipped\.json)\.tmp", item.name) or (array and int(array[1]) not in committed):
            item.unlink()


def _is_done(entry: archives.Entry, store: Store | None) -> bool:
    if store is None or entry.id not in store:
        return False
    if store.record(store.index(entry.id)).crc != _checksums(entry):
        raise UnveilError(
            f"run {entry.id} in {store.path} was made from other files than those in {entry.archives[0]}: "
            "choose another folder for these archives"
        )
    return True


def _checksums(entry: archives.Entry) -> list[int]:
    return [entry.members[role].crc for role in archives.ROLES]


def _is_unchanged(path: Path, stamp: archives.Stamp) -> bool:
    try:
        stat = path.stat()
    except OSError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (stamp.size, stamp.mtime_ns)


def _check_heights(heights: Sequence[float]) -> tuple[float, ...]:
    found = tuple(float(height) for height in np.atleast_1d(np.asarray(heights, dtype=float)))
    if not found or not np.isfinite(found).all() or len(set(found)) < len(found):
        raise UnveilError(f"heights {_metres(found)} are not one or more different numbers of metres")
    if max(found) >= camera.ALTITUDE:
        raise UnveilError(f"height {max(found):g} m is not below the cameras at {camera.ALTITUDE:g} m: lower it")
    return found


def _check_space(folder: Path, needed: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UnveilError(
            f"{folder}: {what} take {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: "
            "free space or choose another folder"
        )


def _names(heights: tuple[float, ...]) -> list[str]:
    names = [f"{round(height * 100):03d}.png" for height in heights]
    if len(set(names)) < len(names):
        raise UnveilError(f"heights {_metres(heights)} share a name in whole cm: choose others or write no PNGs")
    return names


def _export(
    out: Path, heights: tuple[float, ...], shape: tuple[int, ...], folder: Path, place: tuple[str, int, int, int]
) -> None:
    name, number, row, count = place
    stacks, truths = _map_shard(out, number, count, shape)
    where = folder / name
    with _writing(where):
        where.mkdir(parents=True, exist_ok=True)
        for name, image in zip([*_names(heights), "gt.png"], [*stacks[row], truths[row]], strict=True):
            encoded = io.BytesIO()
            Image.fromarray(np.asarray(image)).save(encoded, "PNG")
            _write_bytes(where / name, encoded.getbuffer())


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Say in one line what keeps a folder from being written."""
    try:
        yield
    except OSError as error:
        raise UnveilError(
            f"{error.filename or folder} cannot be written ({error.strerror or error}): free space or choose another "
            "folder, then run the same again; what is finished stays"
        ) from error


def _write_json(path: Path, content: Any) -> None:
    _write_bytes(path, json.dumps(content, indent=1).encode())


def _write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that it appears whole, on the disk, or not at all."""
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            _flush(file)
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UnveilError(f"{path} cannot be read ({error.strerror}): check the file and its permissions") from error
    except ValueError as error:
        raise UnveilError(f"{path} is damaged: delete it and build the store again; the other files stay") from error


def _metres(heights: Iterable[float]) -> str:
    return ", ".join(f"{height:g}" for height in heights) + " m"


def _more(items: Sequence[Any]) -> str:
    return f" and {len(items) - 1} more" if len(items) > 1 else ""
