"""Accidents rehearsed: ``python tests/rehearse.py [kills] [fill levels]``, 42 and 24 if nothing is said.

Pruning, integrating and training are killed (SIGKILL) at random moments, and meet disks with less room than they need.
Afterwards each is called again and must end as an undisturbed call does, byte for byte; a full disk must be one line.
The disks are small tmpfs: where you may not mount, call it under ``unshare -rm``.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import redirect_stdout
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "lib"), str(HERE / "aos"), str(HERE / "restore")]

import torch  # noqa: E402
from making import run_files, without, write_zip  # noqa: E402
from test_training import SMALL, Squares  # noqa: E402

from unveil.aos import archives, build, prune, store  # noqa: E402
from unveil.errors import UnveilError  # noqa: E402
from unveil.restore import training  # noqa: E402
from unveil.restore.pairs import PairDataset  # noqa: E402

SAID, TIMED = ".said", ("log.csv", "progress.json")  # what a process printed; what holds seconds


def prepare(folder: Path) -> None:
    first, second = run_files("0_1"), run_files("0_2")
    write_zip(folder / "a.zip", first, without(run_files("0_3"), "GT"), without(run_files("0_4"), "pose_2"))
    write_zip(folder / "b.zip", second, without(run_files("0_5"), "Parameters"), run_files("0_6"), run_files("0_7"))


def pruning(folder: Path) -> None:
    prune.prune(archives.scan(folder), yes=True, all_named=True)


def integrating(folder: Path) -> None:
    build.RUNS_PER_SHARD = 1
    # The check beforehand knows nothing of what others write meanwhile.
    store.check_space = lambda *_: None
    build.build_stacks(archives.scan(folder), folder / "stacks", (0.6, 1.8))


def learning(folder: Path) -> None:
    pairs = Squares()
    sets = PairDataset(pairs, [0, 1, 2, 3], crop=16, crops_per_item=2, flips="hv"), PairDataset(pairs, [4, 5])
    training.train(SMALL, *sets, folder / "training")


JOBS = {"prune": pruning, "integrate": integrating, "train": learning}


def started(job: str, folder: Path) -> int:
    """The id of a process at work on the job; it ends with 0, with 2 after a line for people, or with 1."""
    process = os.fork()
    if process == 0:
        status = 1
        with open(folder / SAID if folder.exists() else os.devnull, "w") as said, redirect_stdout(said):
            try:
                JOBS[job](folder)
                status = 0
            except UnveilError as error:
                status = 2 if "\n" not in str(error) else 1
            except BaseException:
                traceback.print_exc()
        os._exit(status)
    return process


def status(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the checkpoints, which hold times; of a log, which holds seconds, only that it is there."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file() and path.name != SAID}
    found = {name: path for name, path in found.items() if path.name[0] == "." or ".ckpt" not in name}
    return {name: b"" if path.name in TIMED else path.read_bytes() for name, path in found.items()}


def rehearse(job: str, root: Path, rng: random.Random, kills: int, levels: int) -> bool:
    def ends_wrongly(folder: Path) -> bool:
        """Whether another call ends otherwise than the undisturbed one."""
        return status(started(job, folder)) != 0 or contents(folder) != expected

    undisturbed = shutil.copytree(root / "prepared", root / f"{job}-undisturbed")
    begin = time.monotonic()
    if status(started(job, undisturbed)):
        raise SystemExit((undisturbed / SAID).read_text())
    duration, expected = time.monotonic() - begin, contents(undisturbed)
    killed = wrong = 0
    while killed < kills:
        folder = shutil.copytree(root / "prepared", root / "killed")
        process = started(job, folder)
        time.sleep(rng.uniform(0, duration))
        os.kill(process, signal.SIGKILL)
        if status(process) == -signal.SIGKILL:
            killed, wrong = killed + 1, wrong + ends_wrongly(folder)
        shutil.rmtree(folder)
    print(f"{job:<10} {killed} kills within {duration:.2f} s, {wrong} end otherwise than undisturbed", flush=True)
    need = sum(path.stat().st_size for path in undisturbed.rglob("*") if path.is_file())
    folder, ends = root / "disk", []
    folder.mkdir()
    for level in range(levels):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={4 * need + (1 << 20)}", "none", folder], check=True)
        shutil.copytree(root / "prepared", folder, dirs_exist_ok=True)
        room = int((level + rng.random()) / levels * need)
        (folder / "ballast").write_bytes(bytes(max(0, shutil.disk_usage(folder).free - room)))
        ended = status(started(job, folder))
        (folder / "ballast").unlink()
        if ended not in (0, 2) or ends_wrongly(folder):
            print(f"{job} with {room:,} bytes free: {(folder / SAID).read_text()[-2000:]}")
            ended = 1
        ends.append(ended)
        subprocess.run(["umount", folder], check=True)
    folder.rmdir()
    full, fits, bad = map(ends.count, (2, 0, 1))
    print(f"{'':<10} {levels} disks: {full} full, in one line; {fits} with room enough; {bad} end wrongly", flush=True)
    return not wrong and not bad


if __name__ == "__main__":
    torch.set_num_threads(1)
    kills, levels = (int(word) for word in sys.argv[1:] or ("42", "24"))
    with tempfile.TemporaryDirectory() as place:
        rng = random.Random(0)
        (Path(place) / "prepared").mkdir()
        prepare(Path(place) / "prepared")
        results = [rehearse(job, Path(place), rng, kills // len(JOBS), levels // len(JOBS)) for job in JOBS]
    sys.exit(0 if all(results) else 1)
