"""From archives to crops, in ratios: ``python benchmarks/pipeline.py [--quick]``.

- archive → stack: reading, integrating and rounding one run against decoding its 11 PNGs alone, one thread each, in
  turn on the same runs; then a whole build, with writing, syncing and starting the workers.
- scan: 33,000 runs as 429,000 empty members in 33 archives, in a process of its own for its memory.
- crops: what the dataset gives in a second against what a training step of RED-Net uses, one process each.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import numpy as np
from PIL import Image

from unveil.aos import archives, build, camera, integrator, simulator
from unveil.aos.images import person_mask, to_uint8
from unveil.aos.store import Store

LIB = Path(__file__).resolve().parents[1] / "lib"
SCAN = """
import re, sys, time
from pathlib import Path
from unveil.aos import archives
start = time.perf_counter()
catalogue = archives.scan(sys.argv[1])
seconds = time.perf_counter() - start
status = Path("/proc/self/status")
memory = int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) * 1024 if status.exists() else float("nan")
print(len(catalogue.entries), seconds, memory / 1e6)
"""


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
    members = [entry.members[f"pose_{pose}"] for pose in range(archives.VIEWS)]
    found = []
    for member in members:
        with zipfile.ZipFile(member.archive) as archive:
            found.append(archive.read(member.name))
    return found


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
    for workers in (1, 2):
        out = folder / f"stacks_{workers}"
        each = seconds(lambda: build.build_stacks(catalogue, out, workers=workers)) / runs  # noqa: B023
        row(
            f"build of {runs} runs, {workers} worker(s), per run",
            f"{1000 * each:.1f} ms",
            f"{each / alone:.2f} × decoding",
        )
    return Store(folder / "stacks_1")


def scan(folder: Path, runs: int) -> None:
    made = folder / "empty"
    made.mkdir()
    for first in range(0, runs, 1000):
        with zipfile.ZipFile(made / f"part_{first:05d}.zip", "w") as archive:
            for number in range(first, min(first + 1000, runs)):
                for role in archives.ROLES:
                    name = {"GT": "GT_pose_0_thermal.png", "Parameters": "Parameters.txt"}.get(
                        role, f"{role}_thermal.png"
                    )
                    archive.writestr(f"batch/0_{number}_{name}", b"")
    listing = seconds(lambda: [zipfile.ZipFile(path).close() for path in sorted(made.iterdir())])
    environment = {**os.environ, "PYTHONPATH": str(LIB)}
    command = [sys.executable, "-c", SCAN, str(made)]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    found, took, memory = (float(word) for word in told.split())
    members = int(found) * len(archives.ROLES)
    row(f"scan of {found:,.0f} runs, {members:,} members", f"{took:.1f} s", f"{took / listing:.2f} × zipfile's listing")
    # Linux alone tells a process's own peak; getrusage also counts its parent's before the exec.
    row("  its largest memory", f"{memory:,.0f} MB", f"{memory * 1e6 / members:,.0f} bytes per member")


def crops(store: Store, size: int = 128, batch: int = 8, steps: int = 3) -> None:
    # Not at the top, or every worker of the builds would import torch with this file.
    import torch

    from unveil.restore import datasets, networks

    torch.set_num_threads(1)
    pairs = datasets.PairDataset(store, crop=size, crops_per_item=8, region=person_mask, flips=True)
    read = len(pairs) / min(seconds(lambda: [pairs[item] for item in range(len(pairs))]) for _ in range(3))
    network = networks.build("rednet", pairs.in_channels)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    given, target = next(iter(datasets.loader(pairs, batch)))

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
        scan(Path(folder), 1000 if quick else 33_000)


if __name__ == "__main__":
    main()
