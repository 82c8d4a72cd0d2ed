"""Filling stores: focal stacks from archives, raw views from the simulator, and focal stacks as pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from unveil import files
from unveil import workers as pump
from unveil.aos import archives, camera, integrator, simulator, store
from unveil.aos.folders import metres
from unveil.aos.images import to_uint8
from unveil.aos.integrator import HEIGHTS
from unveil.aos.parameters import to_text
from unveil.aos.store import Record, Sample, Store
from unveil.errors import UnveilError

RUNS_PER_SHARD = 64  # stacks: 100 MB at five planes, a few seconds' work to lose when a build is killed
VIEWS_PER_SHARD = 24  # simulated runs: 75 MB, half a minute's work
WORTH_PROCESSES = 8  # fewer simulated runs are done sooner than processes are started
_NOTE = "simulation.json"

Progress = Callable[[int, int], None]


def build_stacks(
    catalogue: archives.Catalogue,
    out: str | Path,
    heights: Sequence[float] = HEIGHTS,
    workers: int = 1,
    png: str | Path | None = None,
    progress: Progress | None = None,
) -> Store:
    """Integrate every complete run of a catalogue that the store ``out`` does not hold yet, on so many threads.

    The store's bytes depend on the catalogue and the heights (metres above ground) alone, not on the number of workers
    nor on how often the build was killed and started again. A run that cannot be read is skipped, named in the store,
    and tried again by the next build. ``png`` is a folder for pictures too, see :func:`export`.

    Raises UnveilError for no complete run, no space, a folder that cannot be written or is being built, a store of
    other heights or made from other files than those of the catalogue, and where no run can be read.
    """
    out, heights = Path(out), _check_heights(heights)
    if png is not None:
        _names(heights)
    with store.building(out) as done:
        if done is not None and done.heights != heights:
            holds = f"{out} holds {'stacks of the heights ' + metres(done.heights) if done.heights else 'views'}"
            raise UnveilError(f"{holds}, not {metres(heights)}: choose another folder, or ask for the same heights")
        if not catalogue.complete and done is None:
            where = ", ".join(map(str, catalogue.paths))
            raise UnveilError(f"{where}: no complete run in the archives, nothing to integrate; scan says why")
        pending = [entry for entry in catalogue.complete if not _is_done(entry, done)]
        store.check_space(out, len(pending) * (len(heights) + 1) * archives.SIZE**2, f"{len(pending):,} focal stacks")
        skipped: dict[str, str] = {}

        def samples() -> Iterator[Sample]:
            results = integrated(pending, heights, workers)
            for count, (entry, result) in enumerate(zip(pending, results, strict=True), 1):
                if isinstance(result, str):
                    skipped[entry.id] = result
                else:
                    yield result
                if progress is not None:
                    progress(count, len(pending))

        store.append(out, samples(), heights, RUNS_PER_SHARD)
        files.write_json(out / store.SKIPPED, skipped)
    if not store.shard_numbers(out):
        raise UnveilError(f"none of the {len(pending):,} runs can be read; the first: {next(iter(skipped.values()))}")
    made = Store(out)
    if png is not None:
        export(made, png, workers)
    return made


def build_views(
    out: str | Path, runs: int, seed: int, workers: int = 1, variation: simulator.Variation = simulator.COURSE
) -> Store:
    """A store of ``runs`` simulated runs as raw views; goes on where an earlier call stopped.

    What run i looks like depends on (seed, i) and ``variation`` alone. More runs may lie there from a longer call.
    Raises UnveilError where the folder holds another simulation, is being built or cannot be written.
    """
    out = Path(out)
    wanted = [f"0_{index}" for index in range(runs)]
    described = {"seed": seed, "variation": repr(variation)}
    with store.building(out) as done:
        known = store.read_json(out / _NOTE) if (out / _NOTE).exists() else None
        if known != described and (known or done):
            raise UnveilError(f"{out}: holds other runs; choose another folder or delete it")
        files.write_json(out / _NOTE, described)
        pending = [index for index in range(runs) if done is None or wanted[index] not in done]
        store.check_space(out, len(pending) * (archives.VIEWS + 1) * archives.SIZE**2, f"{len(pending):,} runs")
        parallel = workers if len(pending) >= WORTH_PROCESSES else 1
        samples = pump.in_order(partial(_simulate, seed, variation), pending, parallel, processes=True)
        store.append(out, samples, (), VIEWS_PER_SHARD)
    return Store(out, wanted)


def integrated(entries: Sequence[archives.Entry], heights: tuple[float, ...], workers: int) -> Iterator[Sample | str]:
    """The stacks of runs in their order; of a run that cannot be read, the reason."""
    # Several workers share the cores already; a single one may use threads.
    threads = 1 if workers > 1 else None

    def work(entry: archives.Entry) -> Sample | str:
        try:
            run = archives.read_run(entry)
            image = to_uint8(integrator.integrate(run.views, camera.course_rig(), heights, threads=threads).image)
            return Sample(Record(entry.id, list(run.checksums), to_text(run.parameters)), image, run.truth)
        except UnveilError as error:
            return str(error)

    return pump.in_order(work, entries, workers)


def export(stacks: Store, folder: str | Path, workers: int = 1) -> None:
    """Write the runs that ``folder`` lacks as pictures: ``<id>/<height in cm>.png`` per plane, then ``<id>/gt.png``."""
    folder, names = Path(folder), [*_names(stacks.heights), "gt.png"]
    # The truth is written last, so a run that has one is whole.
    lacking = [index for index, name in enumerate(stacks.ids) if not (folder / name / "gt.png").is_file()]

    def write(index: int) -> None:
        planes, truth = stacks[index]
        for name, image in zip(names, [*planes, truth], strict=True):
            with files.replacing(folder / stacks.ids[index] / name) as temporary:
                Image.fromarray(np.asarray(image)).save(temporary)

    list(pump.in_order(write, lacking, workers))


def _simulate(seed: int, variation: simulator.Variation, index: int) -> Sample:
    run = simulator.simulate_run(seed, index, variation=variation)
    return Sample(Record(run.id, [], to_text(run.parameters)), run.views, run.truth)


def _is_done(entry: archives.Entry, done: Store | None) -> bool:
    if done is None or entry.id not in done:
        return False
    known = tuple(done.record(done.index(entry.id)).crc)
    # A damaged directory may have a checksum that its file has not: what counts is the file.
    if known not in (entry.checksums, archives.read_run(entry).checksums):
        what = f"run {entry.id} in {done.path} was made from other files than those in {entry.archives[0]}"
        raise UnveilError(f"{what}: choose another folder for these archives")
    return True


def _check_heights(heights: Sequence[float]) -> tuple[float, ...]:
    found = tuple(float(height) for height in np.atleast_1d(np.asarray(heights, dtype=float)))
    if not found or not np.isfinite(found).all() or len(set(found)) < len(found):
        raise UnveilError(f"heights {metres(found)} are not one or more different numbers of metres")
    if max(found) >= camera.ALTITUDE:
        raise UnveilError(f"height {max(found):g} m is not below the cameras at {camera.ALTITUDE:g} m: lower it")
    return found


def _names(heights: tuple[float, ...]) -> list[str]:
    names = [f"{round(height * 100):03d}.png" for height in heights]
    if len(set(names)) < len(names):
        raise UnveilError(f"heights {metres(heights)} share a name in whole cm: choose others or write no PNGs")
    return names
