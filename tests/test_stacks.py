"""Stack stores: the same bytes however they come about, and nothing lost, half-written or deleted unverified."""

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

from unveil.aos import archives, camera, integrator, parameters, stacks
from unveil.errors import UnveilError

HEIGHTS = (0.6, 1.8)
LIB = Path(stacks.__file__).resolve().parents[2]


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
    text = parameters.format(
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
    monkeypatch.setattr(stacks, "RUNS_PER_SHARD", 2)
    monkeypatch.setattr(stacks, "WORTH_WORKERS", 2)


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
    store = stacks.build(catalogue, tmp_path / "s", HEIGHTS, progress=lambda *done: calls.append(done))
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
    table = stacks.build(archives.scan(folder), tmp_path / "s", HEIGHTS).table()
    assert table["id"].tolist() == [f"0_{number}" for number in range(7)]
    assert table["pose"].tolist() == ["none", "laying", "laying", "none", "laying", "laying", "none"]
    assert table["ground_kelvin"].tolist() == list(range(286, 293))
    assert table.loc[1, ["density", "person_x", "person_y", "azimuth_deg"]].tolist() == [100, 6, -4, 23.0]
    assert table["person_x"].isna().tolist() == [pose == "none" for pose in table["pose"]]


def test_few_files_are_open_at_a_time(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stacks, "MAPPED_SHARDS", 2)
    store = stacks.build(archives.scan(folder), tmp_path / "s", HEIGHTS)
    assert [store[index][1][0, 0] for index in (*range(7), *range(7))] == [*range(7), *range(7)]
    assert len(store._maps) == 2


def test_a_store_travels_to_another_process_without_its_pixels(folder: Path, tmp_path: Path):
    store = stacks.build(archives.scan(folder), tmp_path / "s", HEIGHTS)
    stack, _ = store[6]
    carried = pickle.dumps(store)
    assert len(carried) < 100_000
    np.testing.assert_array_equal(pickle.loads(carried)[6][0], stack)


def test_any_number_of_workers_makes_the_same_bytes(folder: Path, tmp_path: Path):
    _damage(folder / "a.zip", "views/0_1_pose_4_thermal.png")
    catalogue = archives.scan(folder)
    stacks.build(catalogue, tmp_path / "one", HEIGHTS, workers=1)
    stacks.build(catalogue, tmp_path / "two", HEIGHTS, workers=2, png=tmp_path / "png")
    assert _bytes(tmp_path / "one") == _bytes(tmp_path / "two")
    assert len(list((tmp_path / "png").glob("*/*.png"))) == 6 * 3


KILLED = """
import os, signal, sys
from unveil.aos import archives, stacks
stacks.RUNS_PER_SHARD = 2
kill = lambda: os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
moment = sys.argv[3]
if moment == "commit":
    stacks._write_json = lambda *_: kill()
elif moment == "between":
    replace = os.replace
    os.replace = lambda a, b: (replace(a, b), "00001_stacks" in str(b) and kill())
stacks.build(archives.scan(sys.argv[1]), sys.argv[2], (0.6, 1.8),
             progress=lambda done, _: done == 6 and moment == "run" and kill())
"""
ORPHANS = """
import os, signal, sys
from unveil.aos import archives, stacks
stacks.WORTH_WORKERS = 2
if __name__ == "__main__":
    stacks.build(archives.scan(sys.argv[1]), sys.argv[2], (0.6,), workers=2,
                 progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.mark.parametrize("moment", ["run", "commit", "between"])
def test_a_killed_build_resumes_to_the_same_bytes(folder: Path, tmp_path: Path, moment: str):
    _damage(folder / "a.zip", "views/0_1_pose_4_thermal.png")
    out = tmp_path / "s"
    command = [sys.executable, "-c", KILLED, str(folder), str(out), moment]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(LIB)}, capture_output=True, text=True)
    assert killed.returncode != 0 and not killed.stderr
    left = {item.name for item in out.iterdir()}
    assert any(name.endswith(".tmp") for name in left) or moment == "commit"
    whole = len([name for name in left if name.endswith(".json")])
    assert whole == {"run": 2, "commit": 0, "between": 1}[moment]
    catalogue = archives.scan(folder)
    resumed = stacks.build(catalogue, out, HEIGHTS)
    stacks.build(catalogue, tmp_path / "fresh", HEIGHTS)
    assert _bytes(out) == _bytes(tmp_path / "fresh")
    assert list(resumed.skipped) == ["0_1"]


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is for POSIX systems")
def test_workers_end_with_a_killed_build(folder: Path, tmp_path: Path):
    (tmp_path / "build.py").write_text(ORPHANS)
    command = [sys.executable, str(tmp_path / "build.py"), str(folder), str(tmp_path / "s")]
    # The workers inherit the pipes, which therefore close only when the last of them has ended.
    environment = {**os.environ, "PYTHONPATH": str(LIB)}
    killed = subprocess.run(command, env=environment, capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL


def test_a_second_build_integrates_nothing_again(folder: Path, tmp_path: Path):
    catalogue = archives.scan(folder)
    stacks.build(catalogue, tmp_path / "s", HEIGHTS)
    before = _bytes(tmp_path / "s")
    calls = []
    stacks.build(catalogue, tmp_path / "s", HEIGHTS, progress=lambda *done: calls.append(done))
    assert calls == [] and _bytes(tmp_path / "s") == before


def test_new_runs_are_appended(folder: Path, tmp_path: Path):
    later = tmp_path / "later"
    later.mkdir()
    (folder / "b.zip").rename(later / "b.zip")
    first = stacks.build(archives.scan(folder), tmp_path / "s", HEIGHTS)
    assert first.ids == ["0_0", "0_1", "0_2"]
    before = _bytes(tmp_path / "s")
    second = stacks.build(archives.scan([folder, later]), tmp_path / "s", HEIGHTS)
    assert second.ids == [f"0_{number}" for number in range(7)]
    assert before.items() <= _bytes(tmp_path / "s").items()


def test_a_lost_shard_is_built_again_in_its_place(folder: Path, tmp_path: Path):
    catalogue = archives.scan(folder)
    stacks.build(catalogue, tmp_path / "s", HEIGHTS)
    before = _bytes(tmp_path / "s")
    (tmp_path / "s" / "shard_00001.json").unlink()
    stacks.build(catalogue, tmp_path / "s", HEIGHTS)
    assert _bytes(tmp_path / "s") == before


def test_a_damaged_run_is_skipped_and_tried_again(folder: Path, tmp_path: Path):
    catalogue = archives.scan(folder)
    shutil.copy(folder / "b.zip", tmp_path / "sound.zip")
    _damage(folder / "b.zip", "views/0_5_GT_pose_0_thermal.png")
    store = stacks.build(catalogue, tmp_path / "s", HEIGHTS)
    assert store.ids == [f"0_{number}" for number in (0, 1, 2, 3, 4, 6)]
    assert list(store.skipped) == ["0_5"] and "0_5_GT_pose_0_thermal.png" in store.skipped["0_5"]
    assert stacks.open(tmp_path / "s").skipped == store.skipped
    shutil.copy(tmp_path / "sound.zip", folder / "b.zip")
    mended = stacks.build(archives.scan(folder), tmp_path / "s", HEIGHTS)
    assert sorted(mended.ids) == [f"0_{number}" for number in range(7)] and mended.skipped == {}


def test_a_run_of_other_cameras_is_skipped(folder: Path, tmp_path: Path):
    files = dict(RUNS[1])
    text = files["0_1_Parameters.txt"]
    files["0_1_Parameters.txt"] = text.replace(b"img_3 (0, -3, 35", b"img_3 (0, -3, 20")
    assert files["0_1_Parameters.txt"] != text
    _archive(folder / "a.zip", {**RUNS[0], **files})
    store = stacks.build(archives.scan(folder / "a.zip"), tmp_path / "s", HEIGHTS)
    assert store.ids == ["0_0"] and "cameras" in store.skipped["0_1"]


def test_what_does_not_fit_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    catalogue = archives.scan(folder)
    out = tmp_path / "s"
    stacks.build(catalogue, out, HEIGHTS)
    before = _bytes(out)
    with pytest.raises(UnveilError, match=r"0\.6, 1\.8 m, not 0\.2 m: choose another folder"):
        stacks.build(catalogue, out, [0.2])
    other = tmp_path / "other"
    other.mkdir()
    _archive(other / "c.zip", {name.replace("0_6_", "0_2_"): content for name, content in RUNS[6].items()})
    with pytest.raises(UnveilError, match="run 0_2 .* other files .* choose another folder"):
        stacks.build(archives.scan(other), out, HEIGHTS)
    assert _bytes(out) == before
    for heights in ([], [0.2, 0.2], [float("nan")], [40.0]):
        with pytest.raises(UnveilError, match="height"):
            stacks.build(catalogue, tmp_path / "new", heights)
    with pytest.raises(UnveilError, match="whole cm"):
        stacks.build(catalogue, tmp_path / "new", [0.201, 0.204], png=tmp_path / "png")
    usage = namedtuple("usage", "total used free")(10, 9, 1)
    monkeypatch.setattr(stacks.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UnveilError, match="0.0 GB and 0.0 GB are free|are free: free space"):
        stacks.build(catalogue, tmp_path / "new", HEIGHTS)
    assert not (tmp_path / "new").exists() or not list((tmp_path / "new").iterdir())


def test_nothing_to_read_or_nowhere_to_write(folder: Path, tmp_path: Path):
    _archive(tmp_path / "partial.zip", dict(list(RUNS[0].items())[:3]))
    with pytest.raises(UnveilError, match="no complete run"):
        stacks.build(archives.scan(tmp_path / "partial.zip"), tmp_path / "s", HEIGHTS)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnveilError, match="file cannot be written"):
        stacks.build(archives.scan(folder), tmp_path / "file", HEIGHTS)
    _archive(folder / "one.zip", RUNS[1])
    catalogue = archives.scan(folder / "one.zip")
    _damage(folder / "one.zip", "views/0_1_pose_4_thermal.png")
    with pytest.raises(UnveilError, match="none of the 1 runs can be read"):
        stacks.build(catalogue, tmp_path / "s", HEIGHTS)
    with pytest.raises(UnveilError, match="no stack store"):
        stacks.open(tmp_path / "s")


FULL = """
import resource, sys
from unveil.aos import archives, stacks
from unveil.errors import UnveilError
stacks.RUNS_PER_SHARD = 4
catalogue = archives.scan(sys.argv[1])
stacks.build(archives.Catalogue([], catalogue.stamps, catalogue.entries[:4], [], [], []), sys.argv[2], (0.6, 1.8))
resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, 900_000))
try:
    stacks.build(catalogue, sys.argv[2], (0.6, 1.8))
except UnveilError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files as only POSIX systems can")
def test_no_room_in_the_middle_leaves_only_whole_shards(folder: Path, tmp_path: Path):
    out = tmp_path / "s"
    command = [sys.executable, "-c", FULL, str(folder), str(out)]
    told = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(LIB)}, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert "cannot be written (File too large)" in told.stdout and "run the same again" in told.stdout
    assert told.stdout.count("\n") == 1
    assert {item.name.split("_")[1][:5] for item in out.iterdir() if item.name != stacks.SKIPPED} == {"00000"}
    assert not list(out.glob("*.tmp"))
    assert stacks.open(out).ids == [f"0_{number}" for number in range(4)]


def test_a_damaged_store_is_named(folder: Path, tmp_path: Path):
    out = tmp_path / "s"
    stacks.build(archives.scan(folder), out, HEIGHTS)
    short = out / "shard_00002_truths.npy"
    with short.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(UnveilError, match=r"shard_00002_truths\.npy holds 1,000 bytes .* delete shard_00002\.json"):
        stacks.open(out)
    short.unlink()
    with pytest.raises(UnveilError, match=r"shard_00002_truths\.npy cannot be read"):
        stacks.open(out)
    (out / "shard_00001.json").write_text("{")
    with pytest.raises(UnveilError, match=r"shard_00001\.json is damaged"):
        stacks.open(out)
    (out / stacks.SKIPPED).write_text("")
    with pytest.raises(UnveilError, match=r"skipped\.json is damaged: delete it"):
        stacks.open(out)


def test_pngs_per_plane_read_back(folder: Path, tmp_path: Path):
    png = tmp_path / "png"
    store = stacks.build(archives.scan(folder), tmp_path / "s", (1.8, 0.6), png=png)
    assert sorted(item.name for item in (png / "0_4").iterdir()) == ["060.png", "180.png", "gt.png"]
    found = stacks.read_folder(png / "0_4")
    assert found.heights == (0.6, 1.8) and found.views is None and found.notes == ()
    stack, truth = store[4]
    np.testing.assert_array_equal(found.planes, stack[::-1])
    np.testing.assert_array_equal(found.truth, truth)
    (png / "0_4" / "gt.png").unlink()
    stacks.build(archives.scan(folder), tmp_path / "s", (1.8, 0.6), png=png)
    np.testing.assert_array_equal(stacks.read_folder(png / "0_4").truth, truth)


def test_archives_are_deleted_once_every_run_was_compared(folder: Path, tmp_path: Path):
    store = stacks.build(archives.scan(folder), tmp_path / "s", HEIGHTS, delete_archives=True)
    assert store.deletion.deleted == [folder / "a.zip", folder / "b.zip"] and not store.deletion.kept
    assert not list(folder.iterdir())
    assert len(stacks.open(tmp_path / "s")) == 7


def test_an_archive_that_differs_from_the_store_is_kept(folder: Path, tmp_path: Path):
    catalogue = archives.scan(folder)
    stacks.build(catalogue, tmp_path / "s", HEIGHTS)
    with (tmp_path / "s" / "shard_00002_stacks.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    outcome = stacks.delete_verified(catalogue, stacks.open(tmp_path / "s"))
    assert outcome.deleted == [folder / "a.zip"]
    assert outcome.kept == {folder / "b.zip": "run 0_5 differs from its stack in the store"}
    assert (folder / "b.zip").is_file() and "kept" in outcome.report()


def test_both_archives_of_a_split_run_are_kept_when_it_fails(folder: Path, tmp_path: Path):
    _damage(folder / "b.zip", "views/0_3_GT_pose_0_thermal.png")
    store = stacks.build(archives.scan(folder), tmp_path / "s", HEIGHTS, delete_archives=True)
    assert store.deletion.deleted == []
    assert all("run 0_3 is not in the store" in reason for reason in store.deletion.kept.values())
    assert sorted(item.name for item in folder.iterdir()) == ["a.zip", "b.zip"]


def test_archives_with_more_than_verified_runs_are_kept(folder: Path, tmp_path: Path):
    """Half a run may be completed by an archive that was not given; a damaged or changed archive tells nothing."""
    (tmp_path / "b.zip").write_bytes((folder / "b.zip").read_bytes())
    (folder / "b.zip").write_bytes(b"PK no archive")
    _archive(folder / "c.zip", RUNS[4])
    _archive(folder / "d.zip", {"readme.txt": b"nothing"})
    catalogue = archives.scan(folder)
    store = stacks.build(catalogue, tmp_path / "s", HEIGHTS)
    os.utime(folder / "c.zip", (1, 1))
    outcome = stacks.delete_verified(catalogue, store)
    assert outcome.deleted == []
    reasons = {path.name: reason for path, reason in outcome.kept.items()}
    assert "incomplete runs (0_3): prune" in reasons["a.zip"] and "damaged" in reasons["b.zip"]
    assert "changed" in reasons["c.zip"] and "no run" in reasons["d.zip"]


def test_gray_levels_round_half_up():
    gray = np.array([[-0.2, 0.49, 0.5, 1.5, 2.5, 254.5, 255.0, 255.4]], np.float32)
    assert stacks.to_uint8(gray).tolist() == [[0, 0, 1, 2, 3, 255, 255, 255]]
    with pytest.raises(UnveilError, match="NaN"):
        stacks.to_uint8(np.array([[1, np.nan]], np.float32))


def _truth(ground: int) -> np.ndarray:
    random = np.random.default_rng(ground)
    image = ground + random.normal(0, 1.5, (256, 256)) * (ground > 0)
    image[100:130, 60:72] = random.uniform(190, 255, (30, 12))
    image[110:120, 72:84] = 232
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("ground", [0, 5, 64, 132, 184, 210])
def test_person_mask_finds_the_figure_and_nothing_else(ground: int):
    truth = _truth(ground)
    figure = np.zeros(truth.shape, bool)
    figure[100:130, 60:72] = figure[110:120, 72:84] = True
    found = stacks.person_mask(truth)
    assert found.dtype == bool and found.shape == truth.shape
    assert (found & figure).sum() >= 0.97 * figure.sum()
    assert (found & ~figure).sum() <= 0.03 * figure.sum()
    nobody = truth.copy()
    nobody[90:140, 50:90] = truth[150:200, 150:190]
    nobody[7, 9] = min(ground + 14, 255)
    assert not stacks.person_mask(nobody).any()


def test_person_mask_on_real_truths(reference: Path):
    areas = []
    for path in sorted(reference.glob("course_pairs/*/gt.png")):
        truth = np.asarray(Image.open(path))
        mask = stacks.person_mask(truth)
        areas.append(int(mask.sum()))
        rows, columns = np.nonzero(mask)
        assert 230 <= areas[-1] <= 930
        assert np.ptp(rows) < 70 and np.ptp(columns) < 70
        assert truth[mask].mean() > 200
        assert (np.abs(truth[~mask].astype(int) - np.median(truth)) > 14).sum() == 0
    assert len(areas) == 5


def test_nearest_says_what_it_took():
    choice = stacks.nearest([0.0, 0.4, 0.8, 2.0], [0.2, 0.6, 1.0, 1.4, 1.8])
    assert choice.indices == (0, 1, 2, 2, 3)
    assert choice.heights == (0.0, 0.4, 0.8, 0.8, 2.0)
    assert choice.differences == (-0.2, -0.2, -0.2, -0.6, 0.2)
    assert choice.repeated == {0.8: (1.0, 1.4)}
    assert "0.4 m for 0.6 m" in choice.describe() and "warning: 0.8 m stands in for 2 planes" in choice.describe()
    exact = stacks.nearest([1.8, 0.6], [0.6, 1.8])
    assert exact.indices == (1, 0) and exact.differences == (0, 0) and "warning" not in exact.describe()
    with pytest.raises(UnveilError, match="no plane"):
        stacks.nearest([], [1.0])


def _save(folder: Path, name: str, image: np.ndarray | None = None, size: tuple[int, int] = (30, 40)) -> None:
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.full(size, len(name), np.uint8) if image is None else image).save(folder / name)


def test_read_folder_knows_planes_by_name(tmp_path: Path):
    for name in ("000.png", "040.PNG", "integral_060cm.png", "0_0_GPUref_integral_150cm.png", "-020.png", "gt.png"):
        _save(tmp_path / "f", name)
    _save(tmp_path / "f", "sketch.png", size=(3, 3))
    (tmp_path / "f" / "notes.txt").write_text("not a picture")
    found = stacks.read_folder(tmp_path / "f")
    assert found.heights == (-0.2, 0.0, 0.4, 0.6, 1.5)
    assert found.planes.shape == (5, 30, 40) and found.planes[:, 0, 0].tolist() == [8, 7, 7, 18, 29]
    assert found.truth.shape == (30, 40) and found.views is None
    assert found.notes == ("1 other pictures are left aside (sketch.png)",)
    stack, choice = found.stack((0.2, 0.6))
    assert stack[:, 0, 0].tolist() == [7, 18] and choice.differences == (-0.2, 0.0)


def test_read_folder_prefers_the_views(tmp_path: Path):
    for pose in range(11):
        _save(tmp_path / "f", f"0_7_pose_{pose}_thermal.png", np.full((34, 52), 10 * pose, np.uint8))
    _save(tmp_path / "f", "0_7_GT_pose_0_thermal.png", size=(34, 52))
    _save(tmp_path / "f", "0_7_GPUref_integral_060cm.png", size=(34, 52))
    found = stacks.read_folder(tmp_path / "f")
    assert found.views[:, 0, 0].tolist() == list(range(0, 110, 10)) and found.truth.shape == (34, 52)
    assert found.heights == () and found.planes.shape == (0, 34, 52)
    assert "integral images are left aside" in found.notes[0]
    stack, choice = found.stack((0.5, 1.0, 2.0))
    assert stack.shape == (3, 34, 52) and stack.dtype == np.uint8 and choice.differences == (0, 0, 0)
    (tmp_path / "f" / "0_7_pose_4_thermal.png").unlink()
    fewer = stacks.read_folder(tmp_path / "f")
    assert fewer.views is None and fewer.heights == (0.6,) and "not all 11" in fewer.notes[0]
    (tmp_path / "f" / "0_7_GPUref_integral_060cm.png").unlink()
    with pytest.raises(UnveilError, match="missing: pose_4"):
        stacks.read_folder(tmp_path / "f")


def test_read_folder_names_what_is_wrong(tmp_path: Path):
    def refused(match: str) -> None:
        with pytest.raises(UnveilError, match=match):
            stacks.read_folder(tmp_path / "f")
        shutil.rmtree(tmp_path / "f", ignore_errors=True)

    refused("is no folder")
    (tmp_path / "f").mkdir()
    refused("no focal stack: name its PNGs")
    _save(tmp_path / "f", "060.png")
    _save(tmp_path / "f", "integral_060cm.png")
    refused("060.png and integral_060cm.png are the same plane")
    _save(tmp_path / "f", "000.png")
    _save(tmp_path / "f", "040.png", size=(30, 41))
    refused("000.png 40 × 30 and 040.png 41 × 30")
    _save(tmp_path / "f", "000.png")
    _save(tmp_path / "f", "gt.png", size=(31, 40))
    refused("gt.png 40 × 31")
    _save(tmp_path / "f", "000.png", np.zeros((30, 40, 3), np.uint8))
    refused("000.png is not an 8-bit gray picture .*RGB")
    _save(tmp_path / "f", "000.png", np.zeros((30, 40), np.uint16))
    refused("000.png is not an 8-bit gray picture .*I;16")
    _save(tmp_path / "f", "000.png", np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    whole = (tmp_path / "f" / "000.png").read_bytes()
    (tmp_path / "f" / "000.png").write_bytes(whole[: len(whole) // 2])
    refused("000.png is a truncated PNG")
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "000.png").write_bytes(b"")
    refused("000.png is empty or no picture")
    for run in (1, 2):
        for pose in range(11):
            _save(tmp_path / "f", f"0_{run}_pose_{pose}_thermal.png")
    refused("views of 2 runs")


def test_read_folder_on_real_data(reference: Path):
    pair = stacks.read_folder(reference / "course_pairs" / "sample_03")
    assert pair.heights == (0.0, 0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 2.5) and pair.truth is not None
    assert stacks.nearest(pair.heights, integrator.HEIGHTS).heights == (0.1, 0.6, 1.0, 1.5, 2.0)
    run = stacks.read_folder(reference / "course_run")
    assert run.views.shape == (11, 512, 512) and "integral images are left aside" in run.notes[0]
    stack, _ = run.stack((0.0, 0.6, 1.5))
    for plane, name in zip(stack, ("000", "060", "150"), strict=True):
        rendered = np.asarray(Image.open(reference / "course_run" / f"0_0_GPUref_integral_{name}cm.png"))
        off = np.abs(plane.astype(int) - rendered)
        assert (off == 0).mean() >= 0.97 and off.max() <= 1
