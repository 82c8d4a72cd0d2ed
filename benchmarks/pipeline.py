"""From archives to crops, in ratios: ``python benchmarks/pipeline.py [--quick]``.

- archive → stack: reading, integrating and rounding one run against decoding its 11 PNGs alone, one thread each, in
  turn on the same runs.
- small and large sets: builds of 40 and 400 runs with one and two workers, each build in a process of its own.
- scan: 100, 1,000 and 33,000 runs as 429,000 empty members in 33 archives, in a process of its own for its memory.
- crops: what the dataset gives in a second against what a training step of RED-Net uses, one process each.
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import numpy as np
from PIL import Image

from unveil.aos import archives, build, camera, integrator, simulator
from unveil.aos.images import to_uint8
from unveil.aos.store import Store

LIB = Path(__file__).resolve().parents[1] / "lib"
# Linux alone tells a process's own peak; getrusage also counts its parent's before the exec.
MEASURED = """
import re, sys, time
from pathlib import Path
from unveil.aos import archives
def show(count, seconds):
    status = Path("/proc/self/status")
    memory = int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) * 1024 if status.exists() else float("nan")
    print(count, seconds, memory / 1e6)
"""
SCAN = (
    MEASURED
    + """
start = time.perf_counter()
count = len(archives.scan(sys.argv[1]).entries)
show(count, time.perf_counter() - start)
"""
)
BUILD = (
    MEASURED
    + """
from unveil.aos import build
catalogue = archives.scan(sys.argv[1])
# The first run waits for the compiler.
list(build.integrated(catalogue.complete[:1], build.HEIGHTS, 1))
start = time.perf_counter()
build.build_stacks(catalogue, sys.argv[2], workers=int(sys.argv[3]))
show(len(catalogue.complete), time.perf_counter() - start)
"""
)


def seconds(task: Callable[[], object]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def decode(pngs: list[bytes]) -> None:
    for png in pngs:
        Image.open(io.BytesIO(png)).load()


def stack(entry: archives.Entry) -> np.ndarray:
    run = archives.read_run(entry)
    return to_uint8(integrator.integrate(run.views, camera.course_rig(), integrator.HEIGHTS, threads=1).image)


def views(entry: archives.Entry) -> list[bytes]:
    return [data for member, data in files(entry) if "_pose_" in member.name and "_GT_" not in member.name]


def archive_to_stack(folder: Path, runs: int) -> Store:
    simulator.simulate(folder / "zips", runs, seed=1, incomplete=0, balanced=True)
    catalogue = archives.scan(folder / "zips")
    stack(catalogue.complete[0])
    measured = []
    for entry in catalogue.complete:
        pngs = views(entry)
        measured.append(
            [
                min(times)
                for times in zip(
                    *(
                        (seconds(lambda: decode(pngs)), seconds(lambda: stack(entry)))  # noqa: B023
                        for _ in range(3)
                    ),
                    strict=True,
                )
            ]
        )
    alone, whole = np.median(measured, axis=0)
    ratio = np.median([both / one for one, both in measured])
    row("decode the 11 views of a run (Pillow)", f"{1000 * alone:.1f} ms", "1")
    row("archive → stack of 5 planes", f"{1000 * whole:.1f} ms", f"{ratio:.2f} × decoding")
    return build.build_stacks(catalogue, folder / "stacks")


def builds(folder: Path, made: list[archives.Entry], counts: list[int]) -> None:
    """Whole builds, with writing and syncing, of the same few runs under many ids."""
    names = {run.id: {member.name: data for member, data in files(run)} for run in made}
    for count in counts:
        path = folder / f"{count}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for number in range(count):
                run = made[number % len(made)].id
                for name, data in names[run].items():
                    archive.writestr(f"7_{number}_{name.rpartition('/')[2].removeprefix(f'{run}_')}", data)
        for workers in (1, 2):
            _, took, memory = told(BUILD, path, folder / f"{count}_{workers}", workers)
            figure = f"{1000 * took / count:.1f} ms, {memory:,.0f} MB"
            row(f"build of {count} runs, {workers} worker(s), per run", figure, f"{count / took:.0f} runs per s")
            shutil.rmtree(folder / f"{count}_{workers}")
        path.unlink()


def files(entry: archives.Entry) -> Iterator[tuple[archives.zips.Member, bytes]]:
    for member in entry.members.values():
        with zipfile.ZipFile(member.archive) as archive:
            yield member, archive.read(member.name)


def told(program: str, *arguments: object) -> list[float]:
    """The numbers that a program prints in a process of its own."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(LIB)}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return [float(word) for word in said.split()]


def scan(folder: Path, runs: int) -> None:
    made = folder / f"empty_{runs}"
    made.mkdir()
    for first in range(0, runs, 1000):
        with zipfile.ZipFile(made / f"part_{first:05d}.zip", "w") as archive:
            for number in range(first, min(first + 1000, runs)):
                for role in archives.ROLES:
                    name = {"GT": "GT_pose_0_thermal.png", "Parameters": "Parameters.txt"}.get(
                        role, f"{role}_thermal.png"
                    )
                    archive.writestr(f"batch/0_{number}_{name}", b"x")
    listing = seconds(lambda: [zipfile.ZipFile(path).close() for path in sorted(made.iterdir())])
    found, took, memory = told(SCAN, made)
    figure = f"{took:.2f} s, {memory:,.0f} MB"
    row(
        f"scan of {found:,.0f} runs",
        figure,
        f"{found / took:,.0f} runs per s, {took / listing:.2f} × zipfile's listing",
    )


def crops(store: Store, size: int = 128, batch: int = 8, steps: int = 3) -> None:
    # Not at the top, or every worker of the builds would import torch with this file.
    import torch

    from unveil.restore import networks
    from unveil.restore.pairs import PairDataset
    from unveil.tasks.forest.pairs import StackPairs

    torch.set_num_threads(1)
    pairs = PairDataset(StackPairs(store), crop=size, crops_per_item=8, flips="hv")
    read = len(pairs) / min(seconds(lambda: [pairs[item] for item in range(len(pairs))]) for _ in range(3))
    network = networks.build("rednet", len(pairs[0][0]))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    given, target = next(iter(torch.utils.data.DataLoader(pairs, batch)))

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(network(given), target).backward()
        optimizer.step()

    step()
    used = batch / min(seconds(step) for _ in range(steps))
    row(f"crops of {size}² that RED-Net trains on", f"{used:.1f} per s", "1")
    row(f"crops of {size}² from the dataset", f"{read:,.0f} per s", f"{read / used:,.0f} × what training uses")


def row(what: str, figure: str, ratio: str) -> None:
    print(f"{what:<48} {figure:>14}   {ratio}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        store = archive_to_stack(Path(folder), 12 if quick else 72)
        crops(store)
        del store
        builds(Path(folder), archives.scan(Path(folder) / "zips").complete[:12], [10, 40] if quick else [40, 400])
        for runs in (100, 1000) if quick else (100, 1000, 33_000):
            scan(Path(folder), runs)


if __name__ == "__main__":
    main()
