"""Deliberate bugs, each of which a test must catch: ``python tests/bugs.py [names of bugs]``.

A bug is a change of one place in the library's source. A process of its own imports the library with it (the files stay
as they are) and runs the test named beside it. First all these tests are run without any bug.
"""

import importlib.machinery
import os
import sys
from pathlib import Path

import lightning  # noqa: F401  (once, before the processes part)
import pytest
import skimage.metrics  # noqa: F401
import torch

ROOT = Path(__file__).resolve().parents[1]
A, R = "tests/aos/test_", "tests/restore/test_"
BUGS = [  # what · file below lib/unveil · the code · the bug · the test
    ("sign of h", "aos/integrator.py", "distance = -heights - self.z", "distance = heights - self.z",
     A + "integrator.py::test_any_poses_follow_the_book"),
    ("half a pixel", "aos/integrator.py", "columns / 2 - 0.5, rows / 2 - 0.5, 1", "columns / 2, rows / 2, 1",
     A + "integrator.py::test_any_poses_follow_the_book"),
    ("coverage", "aos/integrator.py", "sampled.sum(0) / coverage.clamp(min=1)", "sampled.sum(0) / len(sampled)",
     A + "integrator.py::test_uint8_float_and_tensors_agree"),
    ("pose order", "aos/archives.py", "images[ROLES.index(role)]", "images[sorted(ROLES).index(role) - 2]",
     A + "archives.py::test_read_run_returns_views_in_order_truth_and_parameters"),
    ("place of the rig", "aos/camera.py", "extrinsics[:, 0, 3] = -POSITIONS", "extrinsics[:, 0, 3] = POSITIONS",
     A + "camera.py::test_course_rig_flies_along_x_looking_down"),
    ("rounding", "aos/images.py", "image + np.float32(0.5)", "image", A + "images.py::test_gray_levels_round_half_up"),
    ("checksum of a file", "aos/zips.py", "in (member.crc,", "in (zlib.crc32(data), member.crc,",
     A + "archives.py::test_bad_checksum_is_refused"),
    ("checksum of a PNG's chunk", "aos/png.py", "if zlib.crc32(view[position + 4 : end]) !=", "if not",
     A + "archives.py::test_bad_pictures_are_refused_by_name_and_found_by_verify"),
    ("checksum that a store keeps", "aos/build.py", "list(run.checksums)", "list(entry.checksums)",
     A + "build.py::test_a_wrong_checksum_in_the_directory_alone_changes_nothing"),
    ("other cameras", "aos/parameters.py", "< 0.01 for", "< 10 for",
     A + "parameters.py::test_the_rig_is_compared_with_the_course_s"),
    ("runs of archives not named", "aos/prune.py", "(all_named if e.has(MISSING) else", "(True if e.has(MISSING) else",
     A + "prune.py::test_runs_that_lack_files_stay_until_all_archives_are_named"),
    ("what is dropped is set aside", "aos/prune.py", "if not discard:", "if discard:",
     A + "prune.py::test_what_was_dropped_is_listed_and_comes_back"),
    ("resuming a build", "aos/store.py", "taken = set(shard_numbers(out))", "taken = set()",
     A + "build.py::test_new_runs_are_appended"),
    ("lock of a build", "aos/store.py", "fcntl.LOCK_EX", "fcntl.LOCK_SH",
     A + "build.py::test_two_builds_into_one_folder_do_not_meet"),
    ("rename", "files.py", "yield temporary\n", "yield path\n", A + "prune.py::test_interrupted_prune_loses_nothing"),
    ("split leak", "restore/pairs.py", "np.cumsum(count)[:-1])", "np.cumsum(count)[:-1] - 1)",
     R + "pairs.py::test_split_keeps_every_stratum_in_proportion"),
    ("two parts share an id", "restore/pairs.py", "if len(set(names)) < len(names):", "if False:",
     R + "pairs.py::test_splits_are_saved_whole_and_checked_when_read"),
    ("PSNR range", "restore/metrics.py", "values / 255 if", "values / 1 if",
     R + "metrics.py::test_psnr_of_bytes_tensors_and_equal_images"),
    ("mean of PSNR", "restore/metrics.py", "result = groups[numbers].mean()", "result = groups[numbers].median()",
     R + "metrics.py::test_compare_and_summarise"),
    ("mirrored back", "restore/inference.py", "y = y.flip(axes) if axes else y", "y = y",
     R + "metrics.py::test_flips_average_and_spread"),
    ("tiles", "restore/inference.py", "c = scale * (top - rows.start), scale * (left - columns.start)", "c = 0, 0",
     R + "toy.py::test_colour_at_twice_the_size_learns"),
    ("gate", "restore/networks/level.py", "grown = (probability > high)", "grown = (probability > low)",
     R + "networks.py::test_hysteresis_keeps_the_weak_beside_the_strong"),
    ("resuming a training", "restore/training.py", "ckpt_path=start and str(start),", "ckpt_path=None,",
     R + "toy.py::test_a_resumed_training_is_the_uninterrupted_one"),
    ("checkpoint before", "restore/callbacks.py", "os.replace(path, before(path))", "os.remove(path)",
     R + "toy.py::test_a_damaged_checkpoint_falls_back_to_the_one_before"),
    ("checkpoints run code", "restore/training.py", "and str(start),\n                weights_only=True",
     "and str(start),\n                weights_only=False", R + "training.py::test_a_checkpoint_cannot_run_code"),
]  # fmt: skip


def infect(file: str, code: str, bug: str) -> None:
    """Let the library be imported with a bug in one place."""
    path, load = ROOT / "lib/unveil" / file, importlib.machinery.SourceFileLoader.get_code
    text = path.read_text(encoding="utf-8")
    if text.count(code) != 1:
        raise SystemExit(f"{file}: {code!r} stands there {text.count(code)} times: amend the list")

    def get_code(loader: importlib.machinery.SourceFileLoader, name: str):
        changed = loader.path == str(path)
        return compile(text.replace(code, bug), path, "exec") if changed else load(loader, name)

    importlib.machinery.SourceFileLoader.get_code = get_code


def passes(tests: list[str], *bug: str) -> bool:
    process = os.fork()
    if process == 0:
        status = 3
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            if bug:
                infect(*bug)
            status = pytest.main(["-q", "-x", "-p", "no:cacheprovider", *tests])
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status not in (0, 1):
        raise SystemExit(f"{tests}: pytest ended with {status}")
    return status == 0


if __name__ == "__main__":
    os.chdir(ROOT)
    torch.set_num_threads(1)
    bugs = [bug for bug in BUGS if bug[0] in sys.argv[1:] or len(sys.argv) == 1]
    if not passes(sorted({test for *_, test in bugs})):
        raise SystemExit("a test fails without any bug")
    caught = 0
    for what, file, code, bug, test in bugs:
        survives = passes([test], file, code, bug)
        caught += not survives
        print(f"{'NOT CAUGHT' if survives else 'caught'}  {what:<28} {file:<28} {test.split('::')[1]}", flush=True)
    print(f"{caught} of {len(bugs)} bugs caught")
    sys.exit(caught < len(bugs))
