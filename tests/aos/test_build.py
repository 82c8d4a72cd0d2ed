"""Stores: the same bytes however they come about, and nothing lost, half-written or deleted unverified."""

import io
import os
import pickle
import shutil
import signal
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unveil.aos import archives, build, camera, folders, integrator, parameters, prune, simulator
from unveil.aos import store as stores
from unveil.aos.store import Store
from unveil.errors import UnveilError

HEIGHTS = (0.6, 1.8)
LIB = Path(stores.__file__).resolve().parents[2]


def _png(image: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "PNG", compress_level=1)
    return encoded.getvalue()


def _members(number: int) -> dict[str, bytes]:
    """The thirteen files of a run that differs from every other."""
    random = np.random.default_rng(number)
    name = f"0_{number}"
    files = {}
    for pose in range(11):
        view = np.full((512, 512), 20 + number, np.uint8)
        row, column = random.integers(0, 400, 2)
        view[row : row + 90, column : column + 90] = random.integers(0, 256, dtype=np.uint8)
        files[f"{name}_pose_{pose}_thermal.png"] = _png(view)
    truth = np.full((512, 512), number, np.uint8)
    truth[200:230, 100:110] = 240
    files[f"{name}_GT_pose_0_thermal.png"] = _png(truth)
    nobody = number % 3 == 0
    text = parameters.to_text(
        parameters.Parameters(
            density=100,
            pose="none" if nobody else "laying",
            position=None if nobody else (4, -6, 0, 0, 0, -0.0174533),
            rotation_rad=None if nobody else 6.265732014659643,
            rotation_deg=None if nobody else 359.0,
            ambient=0.25,
            azimuth_deg=23.0,
            compass_deg=224.0,
            ground_kelvin=286 + number,
            tree_kelvin=306,
        )
    )
    files[f"{name}_Parameters.txt"] = text.encode()
    return files


RUNS = {number: _members(number) for number in range(7)}


def _archive(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr("views/" + name, content)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two archives of seven runs; the files of run 0_3 lie in both."""
    made = tmp_path / "archives"
    made.mkdir()
    split = list(RUNS[3].items())
    _archive(made / "a.zip", {**RUNS[0], **RUNS[1], **RUNS[2], **dict(split[:5])})
    _archive(made / "b.zip", {**dict(split[5:]), **RUNS[4], **RUNS[5], **RUNS[6]})
    return made


@pytest.fixture(autouse=True)
def small_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "RUNS_PER_SHARD", 2)
    monkeypatch.setattr(build, "VIEWS_PER_SHARD", 2)


def _bytes(store: Path) -> dict[str, bytes]:
    return {item.name: item.read_bytes() for item in sorted(store.iterdir())}


def _damage(archive: Path, name: str) -> None:
    """Flip bits in the middle of a member's data, as a bad disk would."""
    with zipfile.ZipFile(archive) as opened:
        info = opened.getinfo(name)
    with archive.open("r+b") as file:
        file.seek(info.header_offset + 30 + len(name) + info.file_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 255]))


def test_store_holds_the_integrals_of_every_run(folder: Path, tmp_path: Path):
    calls = []
    catalogue = archives.scan(folder)
    store = build.build_stacks(catalogue, tmp_path / "s", HEIGHTS, progress=lambda *done: calls.append(done))
    assert store.ids == [f"0_{number}" for number in range(7)] and len(store) == 7
    assert store.heights == HEIGHTS and store.shape == (2, 512, 512) and store.skipped == {}
    assert calls[-1] == (7, 7) and len(calls) == 7
    assert len(list((tmp_path / "s").glob("shard_*.json"))) == 4
    for index, entry in enumerate(catalogue.complete):
        run = archives.read_run(entry)
        expected = integrator.integrate(run.views, camera.course_rig(), HEIGHTS).image
        stack, truth = store[index]
        np.testing.assert_array_equal(stack, np.floor(expected + 0.5).astype(np.uint8))
        np.testing.assert_array_equal(truth, run.truth)
        assert store.parameters(index) == run.parameters
    assert isinstance(store[0][0], np.memmap)


def test_table_has_a_row_per_run(folder: Path, tmp_path: Path):
    table = build.build_stacks(archives.scan(folder), tmp_path / "s", HEIGHTS).table()
    assert table["id"].tolist() == [f"0_{number}" for number in range(7)]
    assert table["pose"].tolist() == ["none", "laying", "laying", "none", "laying", "laying", "none"]
    assert table["ground_kelvin"].tolist() == list(range(286, 293))
    assert table.loc[1, ["density", "person_x", "person_y", "azimuth_deg"]].tolist() == [100, 6, -4, 23.0]
    assert table["person_x"].isna().tolist() == [pose == "none" for pose in table["pose"]]


def test_few_files_are_open_at_a_time(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stores, "MAPPED_SHARDS", 2)
    store = build.build_stacks(archives.scan(folder), tmp_path / "s", HEIGHTS)
    assert [store[index][1][0, 0] for index in (*range(7), *range(7))] == [*range(7), *range(7)]
    assert len(store._maps) == 2


def test_a_store_travels_to_another_process_without_its_pixels(folder: Path, tmp_path: Path):
    store = build.build_stacks(archives.scan(folder), tmp_path / "s", HEIGHTS)
    stack, _ = store[6]
    carried = pickle.dumps(store)
    assert len(carried) < 100_000
    np.testing.assert_array_equal(pickle.loads(carried)[6][0], stack)


def test_any_number_of_workers_makes_the_same_bytes(folder: Path, tmp_path: Path):
    _damage(folder / "a.zip", "views/0_1_pose_4_thermal.png")
    catalogue = archives.scan(folder)
    build.build_stacks(catalogue, tmp_path / "one", HEIGHTS, workers=1)
    build.build_stacks(catalogue, tmp_path / "two", HEIGHTS, workers=2, png=tmp_path / "png")
    assert _bytes(tmp_path / "one") == _bytes(tmp_path / "two")
    assert len(list((tmp_path / "png").glob("*/*.png"))) == 6 * 3


KILLED = """
import os, signal, sys
from unveil import files
from unveil.aos import archives, build
build.RUNS_PER_SHARD = 2
kill = lambda: os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
moment = sys.argv[3]
if moment == "commit":
    files.write_json = lambda *_: kill()
elif moment == "between":
    replace = os.replace
    os.replace = lambda a, b: (replace(a, b), "00001_truths" in str(b) and kill())
build.build_stacks(archives.scan(sys.argv[1]), sys.argv[2], (0.6, 1.8),
                   progress=lambda done, _: done == 6 and moment == "run" and kill())
"""
ORPHANS = """
import os, signal, sys
from unveil.aos import build
if __name__ == "__main__":
    build.WORTH_PROCESSES = 2
    build.store.append = lambda _, samples, *rest: (next(samples), os.kill(os.getpid(), signal.SIGKILL))
    build.build_views(sys.argv[1], 9, 0, workers=2)
"""


@pytest.mark.parametrize("moment", ["run", "commit", "between"])
def test_a_killed_build_resumes_to_the_same_bytes(folder: Path, tmp_path: Path, moment: str):
    _damage(folder / "a.zip", "views/0_1_pose_4_thermal.png")
    out = tmp_path / "s"
    command = [sys.executable, "-c", KILLED, str(folder), str(out), moment]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(LIB)}, capture_output=True, text=True)
    assert killed.returncode != 0 and not killed.stderr
    left = {item.name for item in out.iterdir()}
    assert moment == "run" or {"shard_00001_stacks.npy", "shard_00000_stacks.npy"} & left
    whole = len([name for name in left if name.startswith("shard") and name.endswith(".json")])
    assert whole == {"run": 2, "commit": 0, "between": 1}[moment]
    catalogue = archives.scan(folder)
    resumed = build.build_stacks(catalogue, out, HEIGHTS)
    build.build_stacks(catalogue, tmp_path / "fresh", HEIGHTS)
    assert _bytes(out) == _bytes(tmp_path / "fresh")
    assert list(resumed.skipped) == ["0_1"]


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is for POSIX systems")
def test_workers_end_with_a_killed_build(tmp_path: Path):
    (tmp_path / "build.py").write_text(ORPHANS)
    command = [sys.executable, str(tmp_path / "build.py"), str(tmp_path / "s")]
    # The workers inherit the pipes, which therefore close only when the last of them has ended.
    environment = {**os.environ, "PYTHONPATH": str(LIB)}
    killed = subprocess.run(command, env=environment, capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL


def test_a_second_build_integrates_nothing_again(folder: Path, tmp_path: Path):
    catalogue = archives.scan(folder)
    build.build_stacks(catalogue, tmp_path / "s", HEIGHTS)
    before = _bytes(tmp_path / "s")
    calls = []
    build.build_stacks(catalogue, tmp_path / "s", HEIGHTS, progress=lambda *done: calls.append(done))
    assert calls == [] and _bytes(tmp_path / "s") == before


def test_new_runs_are_appended(folder: Path, tmp_path: Path):
    later = tmp_path / "later"
    later.mkdir()
    (folder / "b.zip").rename(later / "b.zip")
    first = build.build_stacks(archives.scan(folder), tmp_path / "s", HEIGHTS)
    assert first.ids == ["0_0", "0_1", "0_2"]
    before = _bytes(tmp_path / "s")
    second = build.build_stacks(archives.scan([folder, later]), tmp_path / "s", HEIGHTS)
    assert second.ids == [f"0_{number}" for number in range(7)]
    assert before.items() <= _bytes(tmp_path / "s").items()


def test_a_lost_shard_is_built_again_in_its_place(folder: Path, tmp_path: Path):
    catalogue = archives.scan(folder)
    build.build_stacks(catalogue, tmp_path / "s", HEIGHTS)
    before = _bytes(tmp_path / "s")
    (tmp_path / "s" / "shard_00001.json").unlink()
    build.build_stacks(catalogue, tmp_path / "s", HEIGHTS)
    assert _bytes(tmp_path / "s") == before


def test_a_damaged_run_is_skipped_and_tried_again(folder: Path, tmp_path: Path):
    catalogue = archives.scan(folder)
    shutil.copy(folder / "b.zip", tmp_path / "sound.zip")
    _damage(folder / "b.zip", "views/0_5_GT_pose_0_thermal.png")
    store = build.build_stacks(catalogue, tmp_path / "s", HEIGHTS)
    assert store.ids == [f"0_{number}" for number in (0, 1, 2, 3, 4, 6)]
    assert list(store.skipped) == ["0_5"] and "0_5_GT_pose_0_thermal.png" in store.skipped["0_5"]
    assert Store(tmp_path / "s").skipped == store.skipped
    shutil.copy(tmp_path / "sound.zip", folder / "b.zip")
    mended = build.build_stacks(archives.scan(folder), tmp_path / "s", HEIGHTS)
    assert sorted(mended.ids) == [f"0_{number}" for number in range(7)] and mended.skipped == {}


def test_a_wrong_checksum_in_the_directory_alone_changes_nothing(folder: Path, tmp_path: Path):
    """Whether a scan verified or not, the store tells what it was made from, and knows its archives again."""
    (folder / "b.zip").unlink()
    sound = build.build_stacks(archives.scan(folder), tmp_path / "sound", HEIGHTS)
    data = bytearray((folder / "a.zip").read_bytes())
    record = data.rindex(b"PK\1\2", 0, data.rindex(b"0_1_pose_4_thermal.png"))
    data[record + 16] ^= 1
    (folder / "a.zip").write_bytes(data)
    build.build_stacks(archives.scan(folder), tmp_path / "s", HEIGHTS)
    assert _bytes(tmp_path / "s") == _bytes(tmp_path / "sound")
    for verify in (False, True):
        for out in ("s", "sound"):
            assert build.build_stacks(archives.scan(folder, verify=verify), tmp_path / out, HEIGHTS).ids == sound.ids


def test_a_run_of_other_cameras_is_skipped(folder: Path, tmp_path: Path):
    files = dict(RUNS[1])
    text = files["0_1_Parameters.txt"]
    files["0_1_Parameters.txt"] = text.replace(b"img_3 (0, -3, 35", b"img_3 (0, -3, 20")
    assert files["0_1_Parameters.txt"] != text
    _archive(folder / "a.zip", {**RUNS[0], **files})
    store = build.build_stacks(archives.scan(folder / "a.zip"), tmp_path / "s", HEIGHTS)
    assert store.ids == ["0_0"] and "other cameras" in store.skipped["0_1"]


def test_two_builds_into_one_folder_do_not_meet(folder: Path, tmp_path: Path):
    out, catalogue = tmp_path / "s", archives.scan(folder)
    first = build.build_stacks(archives.scan(folder / "a.zip"), out, HEIGHTS)
    seen = []

    def second(*_):
        if not seen:
            with pytest.raises(UnveilError, match="is being built by another process: wait"):
                build.build_stacks(catalogue, out, HEIGHTS)
            seen.extend(Store(out).ids)

    store = build.build_stacks(catalogue, out, HEIGHTS, progress=second)
    assert seen == first.ids and len(store) == 7


def test_what_does_not_fit_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    catalogue = archives.scan(folder)
    out = tmp_path / "s"
    build.build_stacks(catalogue, out, HEIGHTS)
    before = _bytes(out)
    with pytest.raises(UnveilError, match=r"0\.6, 1\.8 m, not 0\.2 m: choose another folder"):
        build.build_stacks(catalogue, out, [0.2])
    other = tmp_path / "other"
    other.mkdir()
    _archive(other / "c.zip", {name.replace("0_6_", "0_2_"): content for name, content in RUNS[6].items()})
    with pytest.raises(UnveilError, match="run 0_2 .* other files .* choose another folder"):
        build.build_stacks(archives.scan(other), out, HEIGHTS)
    assert _bytes(out) == before
    for heights in ([], [0.2, 0.2], [float("nan")], [40.0]):
        with pytest.raises(UnveilError, match="height"):
            build.build_stacks(catalogue, tmp_path / "new", heights)
    with pytest.raises(UnveilError, match="whole cm"):
        build.build_stacks(catalogue, tmp_path / "new", [0.201, 0.204], png=tmp_path / "png")
    usage = namedtuple("usage", "total used free")(10, 9, 1)
    monkeypatch.setattr(stores.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UnveilError, match="0.0 GB and 0.0 GB are free|are free: free space"):
        build.build_stacks(catalogue, tmp_path / "new", HEIGHTS)
    assert not list((tmp_path / "new").glob("*shard*"))


def test_nothing_to_read_or_nowhere_to_write(folder: Path, tmp_path: Path):
    _archive(tmp_path / "partial.zip", dict(list(RUNS[0].items())[:3]))
    with pytest.raises(UnveilError, match="no complete run"):
        build.build_stacks(archives.scan(tmp_path / "partial.zip"), tmp_path / "s", HEIGHTS)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnveilError, match="file cannot be written"):
        build.build_stacks(archives.scan(folder), tmp_path / "file", HEIGHTS)
    _archive(folder / "one.zip", RUNS[1])
    catalogue = archives.scan(folder / "one.zip")
    _damage(folder / "one.zip", "views/0_1_pose_4_thermal.png")
    with pytest.raises(UnveilError, match="none of the 1 runs can be read"):
        build.build_stacks(catalogue, tmp_path / "s", HEIGHTS)
    with pytest.raises(UnveilError, match="no store of runs"):
        Store(tmp_path / "s")


FULL = """
import resource, sys
from unveil.aos import archives, build
from unveil.errors import UnveilError
build.RUNS_PER_SHARD = 4
catalogue = archives.scan(sys.argv[1])
build.build_stacks(archives.Catalogue([], catalogue.stamps, catalogue.entries[:4]), sys.argv[2], (0.6, 1.8))
resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, 900_000))
try:
    build.build_stacks(catalogue, sys.argv[2], (0.6, 1.8))
except UnveilError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files as only POSIX systems can")
def test_no_room_in_the_middle_leaves_only_whole_shards(folder: Path, tmp_path: Path):
    out = tmp_path / "s"
    command = [sys.executable, "-c", FULL, str(folder), str(out)]
    told = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(LIB)}, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert "cannot be written (File too large)" in told.stdout
    assert told.stdout.count("\n") == 1
    assert {item.name[:11] for item in out.iterdir()} == {"shard_00000", stores.SKIPPED[:11], stores.LOCK}
    assert Store(out).ids == [f"0_{number}" for number in range(4)]


def test_a_damaged_store_is_named(folder: Path, tmp_path: Path):
    out = tmp_path / "s"
    build.build_stacks(archives.scan(folder), out, HEIGHTS)
    short = out / "shard_00002_truths.npy"
    with short.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(UnveilError, match=r"shard_00002_truths\.npy cannot be read .* delete shard_00002\.json"):
        Store(out)
    short.write_bytes((out / "shard_00001_truths.npy").read_bytes() + b"x")
    with pytest.raises(UnveilError, match=r"shard_00002_truths\.npy has 524,417 bytes that are no array"):
        Store(out)
    short.unlink()
    with pytest.raises(UnveilError, match=r"shard_00002_truths\.npy cannot be read"):
        Store(out)
    (out / "shard_00001.json").write_text("{")
    with pytest.raises(UnveilError, match=r"shard_00001\.json: not JSON .* delete it"):
        Store(out)
    (out / stores.SKIPPED).write_text("")
    with pytest.raises(UnveilError, match=r"skipped\.json: not JSON .* delete it"):
        Store(out)


def test_pngs_per_plane_read_back(folder: Path, tmp_path: Path):
    png = tmp_path / "png"
    store = build.build_stacks(archives.scan(folder), tmp_path / "s", (1.8, 0.6), png=png)
    assert sorted(item.name for item in (png / "0_4").iterdir()) == ["060.png", "180.png", "gt.png"]
    found = folders.read_folder(png / "0_4")
    assert found.heights == (0.6, 1.8) and found.views is None and found.notes == ()
    stack, truth = store[4]
    np.testing.assert_array_equal(found.planes, stack[::-1])
    np.testing.assert_array_equal(found.truth, truth)
    (png / "0_4" / "gt.png").unlink()
    build.build_stacks(archives.scan(folder), tmp_path / "s", (1.8, 0.6), png=png)
    np.testing.assert_array_equal(folders.read_folder(png / "0_4").truth, truth)


def test_archives_are_deleted_once_every_run_was_compared(folder: Path, tmp_path: Path):
    store = build.build_stacks(archives.scan(folder), tmp_path / "s", HEIGHTS)
    deletion = prune.delete_verified(archives.scan(folder), store)
    assert deletion.deleted == [folder / "a.zip", folder / "b.zip"] and not deletion.kept
    assert not list(folder.iterdir())
    assert len(Store(tmp_path / "s")) == 7


def test_an_archive_that_differs_from_the_store_is_kept(folder: Path, tmp_path: Path):
    catalogue = archives.scan(folder)
    build.build_stacks(catalogue, tmp_path / "s", HEIGHTS)
    with (tmp_path / "s" / "shard_00002_stacks.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    outcome = prune.delete_verified(catalogue, Store(tmp_path / "s"))
    assert outcome.deleted == [folder / "a.zip"]
    assert outcome.kept == {folder / "b.zip": "run 0_5 differs from its stack in the store"}
    assert (folder / "b.zip").is_file() and "kept" in outcome.report()


def test_both_archives_of_a_split_run_are_kept_when_it_fails(folder: Path, tmp_path: Path):
    _damage(folder / "b.zip", "views/0_3_GT_pose_0_thermal.png")
    store = build.build_stacks(archives.scan(folder), tmp_path / "s", HEIGHTS)
    deletion = prune.delete_verified(archives.scan(folder), store)
    assert deletion.deleted == []
    assert all("run 0_3 is not in the store" in reason for reason in deletion.kept.values())
    assert sorted(item.name for item in folder.iterdir()) == ["a.zip", "b.zip"]


def test_archives_with_more_than_verified_runs_are_kept(folder: Path, tmp_path: Path):
    """Half a run may be completed by an archive that was not given; a damaged or changed archive tells nothing."""
    (tmp_path / "b.zip").write_bytes((folder / "b.zip").read_bytes())
    (folder / "b.zip").write_bytes(b"PK no archive")
    _archive(folder / "c.zip", RUNS[4])
    _archive(folder / "d.zip", {"readme.txt": b"nothing"})
    catalogue = archives.scan(folder)
    store = build.build_stacks(catalogue, tmp_path / "s", HEIGHTS)
    os.utime(folder / "c.zip", (1, 1))
    outcome = prune.delete_verified(catalogue, store)
    assert outcome.deleted == []
    reasons = {path.name: reason for path, reason in outcome.kept.items()}
    assert "0_3 is incomplete: prune" in reasons["a.zip"] and "damaged" in reasons["b.zip"]
    assert "changed" in reasons["c.zip"] and "no run" in reasons["d.zip"]


# Stores of simulated views

SEED = 4


@pytest.fixture(scope="module")
def views(tmp_path_factory) -> Store:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "VIEWS_PER_SHARD", 2)
        return build.build_views(tmp_path_factory.mktemp("views"), 5, SEED)


def test_a_store_holds_the_simulated_runs(views: Store):
    assert len(views) == 5 and views.heights == () and views.shape == (11, 512, 512)
    for index in (0, 3, 4):
        run = simulator.simulate_run(SEED, index)
        given, truth = views[index]
        assert views.ids[index] == run.id and views.parameters(index) == run.parameters
        np.testing.assert_array_equal(given, run.views)
        np.testing.assert_array_equal(truth, run.truth)
        assert isinstance(given, np.memmap)


def test_a_simulation_goes_on_where_it_stopped(views: Store, tmp_path: Path, monkeypatch):
    made, simulate = [], simulator.simulate_run
    monkeypatch.setattr(simulator, "simulate_run", lambda *a, **more: made.append(a[1]) or simulate(*a, **more))
    build.build_views(tmp_path, 3, SEED)
    longer = build.build_views(tmp_path, 5, SEED)
    assert made == [0, 1, 2, 3, 4]
    assert longer.ids == views.ids
    for index in range(5):
        np.testing.assert_array_equal(longer[index][0], views[index][0])
    assert build.build_views(tmp_path, 4, SEED).ids == views.ids[:4] and len(made) == 5


def test_processes_make_the_same_runs(views: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "WORTH_PROCESSES", 2)
    build.build_views(tmp_path, 5, SEED, workers=2)
    assert _bytes(tmp_path) == _bytes(views.path)


def test_other_simulations_are_not_mixed(views: Store, folder: Path, tmp_path: Path):
    with pytest.raises(UnveilError, match="holds other runs"):
        build.build_views(views.path, 5, SEED + 1)
    with pytest.raises(UnveilError, match="holds views, not 0.6, 1.8 m"):
        build.build_stacks(archives.scan(folder), views.path, HEIGHTS)
    build.build_stacks(archives.scan(folder), tmp_path / "s", HEIGHTS)
    with pytest.raises(UnveilError, match="holds other runs"):
        build.build_views(tmp_path / "s", 5, SEED)


def test_a_store_opens_the_runs_that_are_asked_for(views: Store):
    some = Store(views.path, ["0_3", "0_1"])
    assert some.ids == ["0_3", "0_1"] and some.index("0_1") == 1 and "0_0" not in some
    np.testing.assert_array_equal(some[0][1], views[3][1])
    with pytest.raises(UnveilError, match="run 0_9 is not in the store"):
        Store(views.path, ["0_9"])


def test_runs_come_straight_from_their_archives(views: Store, tmp_path: Path):
    paths = simulator.simulate(tmp_path, 2, seed=SEED, workers=1, incomplete=0)
    runs = archives.ArchiveRuns(archives.scan(paths).complete)
    assert len(runs) == 2 and runs.ids == views.ids[:2]
    for index in range(2):
        assert runs.parameters(index) == views.parameters(index)
        for kept, expected in zip(runs[index], views[index], strict=True):
            np.testing.assert_array_equal(kept, expected)
