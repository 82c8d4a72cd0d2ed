"""Runs at rest: a folder of arrays, memory-mapped, that grows shard by shard; focal stacks or raw views.

Shard n is ``shard_n_stacks.npy`` (runs, P, H, W) uint8, ``shard_n_truths.npy`` (runs, H, W) uint8 and, written last,
``shard_n.json`` (heights, none where views are stored; per run its id, the checksums of its source files and its
``Parameters.txt``): without the JSON the arrays do not count. ``skipped.json`` names the runs that the last build could
not read. The split of a store lies beside its shards, in ``split.json``.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from unveil import files
from unveil.aos import parameters
from unveil.errors import UnveilError

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    fcntl = None

if TYPE_CHECKING:
    import pandas as pd

MAPPED_SHARDS = 64
"""Shards mapped at a time: each costs two open files, and systems allow as few as 256 of them."""

SKIPPED, LOCK = "skipped.json", ".lock"
_SHARD, _ARRAY = re.compile(r"shard_(\d{5})\.json"), re.compile(r"shard_(\d{5})_(?:stacks|truths)\.npy")
_ARRAYS = ("_stacks.npy", "_truths.npy")
read_json = partial(files.read_json, remedy="delete it and build the store again; the other files stay")
_map = partial(np.lib.format.open_memmap, mode="r")


class Record(NamedTuple):
    """One run of a store: its id, the checksums of its source files in the order of ``archives.ROLES``, parameters."""

    id: str
    crc: list[int]
    parameters: str


class Sample(NamedTuple):
    """One run to be stored: planes or views (P, H, W) uint8, truth (H, W) uint8."""

    record: Record
    images: np.ndarray
    truth: np.ndarray


class Store:
    """A store of runs, memory-mapped: ``store[i]`` → (stack (P, H, W) uint8, truth (H, W) uint8), read when touched.

    ``ids`` opens only these runs, in this order. The sizes of all files are checked, their pixels not read.
    Attributes: ``path`` · ``ids`` · ``heights`` of the P planes, metres above ground, empty where the images are views
    · ``shape`` (P, H, W) · ``skipped``, runs that the last build could not read, with the reason.

    Raises UnveilError for no store there, and a shard that is damaged, cut short or of other planes.
    """

    def __init__(self, path: str | os.PathLike[str], ids: Sequence[str] | None = None) -> None:
        self.path = Path(path)
        self._rows: dict[str, tuple[int, int, Record]] = {}
        self._maps: dict[int, list[np.ndarray]] = {}
        self.skipped: dict[str, str] = read_json(self.path / SKIPPED) if (self.path / SKIPPED).is_file() else {}
        kinds = {}
        for number in shard_numbers(self.path):
            records, *kind = _read_shard(self.path, number)
            kinds[tuple(kind)] = number
            self._rows |= {record.id: (number, row, record) for row, record in enumerate(records)}
        if not kinds:
            raise UnveilError(f"{self.path} is no store of runs: make one with `python -m unveil integrate`")
        if len(kinds) > 1:
            name = _shard(self.path, max(kinds.values()), ".json").name
            raise UnveilError(f"{self.path / name} has other planes than the shards before it: {_remedy(name)}")
        self.heights, self.shape = kinds.popitem()[0]
        self.ids = list(self._rows if ids is None else ids)
        self._places = {name: index for index, name in enumerate(self.ids)}
        for name in self._places.keys() - self._rows.keys():
            raise UnveilError(f"run {name} is not in the store {self.path}")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        number, row, _ = self._rows[self.ids[index]]
        mapped = self._maps.get(number)
        if mapped is None:
            # Threads may come here together, hence no step that fails when another has done it.
            while len(self._maps) >= MAPPED_SHARDS:
                self._maps.pop(next(iter(self._maps.copy()), None), None)
            mapped = self._maps[number] = [_map(_shard(self.path, number, suffix)) for suffix in _ARRAYS]
        return mapped[0][row], mapped[1][row]

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
        return self._rows[self.ids[index]][2]

    def parameters(self, index: int) -> parameters.Parameters:
        """How run ``index`` was made."""
        record = self.record(index)
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


@contextmanager
def building(out: Path) -> Iterator[Store | None]:
    """Alone in a store's folder, tidied up: the store so far, or None where there is none yet.

    Readers meanwhile see the shards that are whole. Raises UnveilError where another build is at work there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = open(out / LOCK, "ab")
    except OSError as error:
        raise UnveilError(f"{out} cannot be written ({error.strerror}): choose another folder") from error
    with lock:
        try:
            if fcntl:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            raise UnveilError(f"{out} is being built by another process: wait, or choose another folder") from None
        files.sweep(out)
        committed = shard_numbers(out)
        for item in out.iterdir():
            # A killed build leaves arrays that no JSON commits.
            if (array := _ARRAY.fullmatch(item.name)) and int(array[1]) not in committed:
                item.unlink()
        yield Store(out) if committed else None


def append(out: Path, samples: Iterator[Sample], heights: Sequence[float], runs_per_shard: int) -> None:
    """Store samples in shards of so many runs; each appears when it is whole, in the first place that is free.

    Pixels go through ordinary writes: a full disk is then an error and not a crash, as it would be in a memory map.
    """
    taken = set(shard_numbers(out))
    free = (number for number in itertools.count() if number not in taken)
    while (first := next(samples, None)) is not None:
        records: list[Record] = []
        arrays = [np.empty((runs_per_shard, *image.shape), np.uint8) for image in (first.images, first.truth)]
        for sample in itertools.chain([first], itertools.islice(samples, runs_per_shard - 1)):
            for array, image in zip(arrays, (sample.images, sample.truth), strict=True):
                array[len(records)] = image
            records.append(sample.record)
        number = next(free)
        for suffix, array in zip(_ARRAYS, arrays, strict=True):
            with files.replacing(_shard(out, number, suffix)) as temporary, open(temporary, "wb") as file:
                whole = array[: len(records)]
                np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(whole))
                file.write(whole.data)  # np.save does not tell why a write failed
        content = {"heights": heights, "shape": first.images.shape, "runs": [record._asdict() for record in records]}
        files.write_json(_shard(out, number, ".json"), content)


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raise UnveilError where fewer bytes are free than are needed."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        sizes = f"{what} take {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free"
        raise UnveilError(f"{folder}: {sizes}: free space or choose another folder")


def shard_numbers(out: Path) -> list[int]:
    """Numbers of the shards that are whole."""
    if not out.is_dir():
        return []
    return sorted(int(match[1]) for item in out.iterdir() if (match := _SHARD.fullmatch(item.name)))


def _remedy(name: str) -> str:
    return f"delete {name} and build the store again; the other shards stay"


def _read_shard(out: Path, number: int) -> tuple[list[Record], tuple[float, ...], tuple[int, ...]]:
    """Records, heights and shape of a shard whose arrays have the right sizes."""
    name = _shard(out, number, ".json")
    try:
        shard = read_json(name)
        heights, shape = tuple(map(float, shard["heights"])), tuple(map(int, shard["shape"]))
        records = [Record(run["id"], run["crc"], run["parameters"]) for run in shard["runs"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UnveilError(f"{name} is damaged: {_remedy(name.name)}") from error
    for suffix, full in zip(_ARRAYS, [(len(records), *shape), (len(records), *shape[1:])], strict=True):
        path = _shard(out, number, suffix)
        try:
            found, size = _map(path), path.stat().st_size
        except (OSError, ValueError) as error:
            raise UnveilError(f"{path} cannot be read ({error}): {_remedy(name.name)}") from error
        if (found.shape, found.dtype, size) != (full, np.uint8, found.offset + found.nbytes):
            raise UnveilError(f"{path} has {size:,} bytes that are no array {full}: {_remedy(name.name)}")
    return records, heights, shape


def _shard(out: Path, number: int, suffix: str) -> Path:
    return out / f"shard_{number:05d}{suffix}"
