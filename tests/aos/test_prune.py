"""Pruning never loses a complete run, and what it drops comes back."""

import io
import os
import signal
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from making import PNGS, check_pruned, flip, ids, leftovers, only, records, run_files, run_names, without, write_zip
from test_parameters import SAMPLE

from unveil import files as writing
from unveil.aos import archives, prune, repack
from unveil.errors import UnveilError

ALL = {"yes": True, "all_named": True}


@pytest.fixture
def mixed(tmp_path) -> Path:
    """Two archives: complete runs, one of them split, one twice; incomplete runs of several kinds; foreign files."""
    split, bad = run_files("0_4", "x/"), run_files("1_6", "x/")
    write_zip(
        tmp_path / "a.zip",
        without(run_files("0_1", "x/"), "pose_0", "GT"),
        run_files("0_2", "x/"),
        only(split, "pose_1", "Parameters"),
        {"__MACOSX/._x": b"x", "x/.DS_Store": b"y"},
        without(bad, "GT", "Parameters"),
    )
    write_zip(
        tmp_path / "b.zip",
        without(split, "pose_1", "Parameters"),
        only(run_files("0_2"), "pose_7"),
        only(bad, "Parameters") | {"1_6_pose_2_thermal.png": b"other"},
        run_files("0_5") | {"0_5_pose_1_thermal.png": b""},
        run_files("0_8"),
        method=zipfile.ZIP_STORED,
    )
    write_zip(tmp_path / "whole.zip", run_files("0_9"))
    return tmp_path


def contents_by_name(folder: Path) -> dict[str, list[tuple[str, bytes]]]:
    """What lies in every archive of a folder, in no order."""
    found = {}
    for path in folder.glob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            found[path.name] = sorted((name, archive.read(name)) for name in archive.namelist())
    return found


def test_dry_run_changes_nothing_and_foresees_the_sizes(mixed):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in mixed.iterdir()}
    foreseen = prune.prune(archives.scan(mixed), all_named=True)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in mixed.iterdir()} == before
    assert not foreseen.done and foreseen.runs == ["0_1", "0_5", "1_6"] and "dry run" in str(foreseen)
    done = prune.prune(archives.scan(mixed), **ALL)
    assert done.done and done.archives == foreseen.archives
    assert [(a.archive.name, a.after) for a in done.archives] == [
        (name, (mixed / name).stat().st_size) for name in ("a.zip", "b.zip")
    ]


def test_prune_drops_incomplete_runs_and_keeps_every_other_byte(mixed):
    before, old = archives.scan(mixed), {path: records(path) for path in mixed.iterdir()}
    untouched = (mixed / "whole.zip").stat().st_mtime_ns
    prune.prune(before, **ALL)
    after = archives.scan(mixed, verify=True)
    check_pruned(before, after)
    assert ids(after.complete) == ["0_2", "0_4", "0_8", "0_9"] == ids(before.complete) and not after.incomplete
    assert ids(after.split) == ["0_4"] and len(after.duplicates) == 1
    assert [file.name for file in after.foreign] == [file.name for file in before.foreign]
    for path, found in old.items():
        kept = {name: record for name, record in found.items() if not any(i in name for i in ("0_1_", "0_5_", "1_6_"))}
        assert records(path) == kept
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
    assert (mixed / "whole.zip").stat().st_mtime_ns == untouched and not leftovers(mixed)
    assert {path.name for path in mixed.iterdir()} - {path.name for path in old} == {
        "a.zip.dropped.zip",
        "b.zip.dropped.zip",
    }
    assert "nothing to prune" in str(prune.prune(after, **ALL))


def test_prune_drops_foreign_files_when_asked(mixed):
    before = archives.scan(mixed)
    prune.prune(before, **ALL, drop_foreign=True)
    after = archives.scan(mixed)
    check_pruned(before, after)
    assert len(before.foreign) == 2 and not after.foreign


def test_prune_drops_what_verify_found(tmp_path):
    write_zip(tmp_path / "a.zip", run_files("0_1"), run_files("0_2") | {"0_2_pose_0_thermal.png": b"no picture"})
    before = archives.scan(tmp_path, verify=True)
    prune.prune(before, **ALL)
    check_pruned(before, archives.scan(tmp_path, verify=True))


def test_prune_preserves_every_kind_of_record(tmp_path):
    """Descriptors of streamed archives, Zip64 fields, names in both encodings, times, comments, a preceding stub."""

    class Stream(io.RawIOBase):
        def __init__(self):
            self.data = b""

        def writable(self):
            return True

        def write(self, data):
            self.data += bytes(data)
            return len(data)

    stream = Stream()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"made by hand"
        doomed = without(run_files("0_1"), "GT")
        for name, data in {**doomed, **run_files("0_2", "wäldchen/"), "ümläut.txt": b"foreign"}.items():
            info = zipfile.ZipInfo(name, (1999, 12, 31, 23, 59, 58))
            info.external_attr, info.comment, info.compress_type = 0o640 << 16, b"note", zipfile.ZIP_DEFLATED
            with archive.open(info, "w", force_zip64="pose_1" in name) as member:
                member.write(data)
    path = tmp_path / "a.zip"
    path.write_bytes(b"#!/bin/sh stub\n" + stream.data)
    old, before = records(path), archives.scan(path, verify=True)
    assert ids(before.complete) == ["0_2"]
    prune.prune(before, **ALL)
    check_pruned(before, archives.scan(path, verify=True))
    assert records(path) == {name: record for name, record in old.items() if "0_1" not in name}
    with zipfile.ZipFile(path) as archive:
        assert archive.comment == b"made by hand" and archive.testzip() is None


@pytest.mark.slow
def test_more_files_than_a_plain_zip_can_count_are_pruned(tmp_path):
    path, local, directory, at = tmp_path / "a.zip", [], [], 0
    names = [name.encode() for number in range(5100) for name in run_names(f"0_{number}")[number == 0 :]]
    for name in names:
        sizes = (0x8CDC1683, 1, 1, len(name), 0)  # of the one byte x
        local.append(struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0, *sizes) + name + b"x")
        directory.append(struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, *sizes, 0, 0, 0, 0, at) + name)
        at += len(local[-1])
    listed = b"".join(directory)
    end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, len(names), len(names), len(listed), at)
    end += struct.pack("<4sLQL", b"PK\6\7", 0, at + len(listed), 1)
    end += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(listed), at, 0)
    path.write_bytes(b"".join(local) + listed + end)
    before = archives.scan(path)
    assert ids(before.incomplete) == ["0_0"] and len(before.complete) == 5099
    prune.prune(before, **ALL)
    check_pruned(before, archives.scan(path))


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_interrupted_prune_loses_nothing(mixed, monkeypatch, function, call, error):
    before = archives.scan(mixed)
    contents, inside = {path: path.read_bytes() for path in mixed.iterdir()}, contents_by_name(mixed)
    calls, real = [], getattr(os, function)

    def interrupt(*arguments):
        calls.append(1)
        if len(calls) == call:
            raise error
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, function, interrupt)
        with pytest.raises(UnveilError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
            prune.prune(before, **ALL)
    if isinstance(error, OSError):
        assert ".zip" in str(caught.value) and "No space left" in str(caught.value)
    assert not leftovers(mixed)
    for path, content in contents.items():
        assert path.read_bytes() == content or (path.name == "a.zip" and call == 3)
    assert ids(archives.scan(mixed).complete) == ids(before.complete)
    prune.prune(archives.scan(mixed), **ALL)
    check_pruned(before, archives.scan(mixed))
    prune.restore_dropped(mixed, yes=True)
    assert contents_by_name(mixed) == inside


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize("function, call", [("fsync", 1), ("fsync", 3), ("replace", 1), ("replace", 2), ("replace", 4)])
def test_killed_prune_loses_nothing_and_the_next_one_tidies_up(mixed, function, call):
    before = archives.scan(mixed)
    code = f"""
import os, signal, sys
from unveil.aos import archives, prune
calls, real = [], os.{function}
def kill(*arguments):
    calls.append(1)
    if len(calls) == {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*arguments)
os.{function} = kill
prune.prune(archives.scan(sys.argv[1]), yes=True, all_named=True)
"""
    library = Path(archives.__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", code, str(mixed)], env={**os.environ, "PYTHONPATH": str(library)})
    assert ended.returncode == -signal.SIGKILL
    assert leftovers(mixed)
    between = archives.scan(mixed, verify=True)
    assert ids(between.complete) == ids(before.complete) and between.incomplete and not between.damaged
    prune.prune(archives.scan(mixed), **ALL)
    check_pruned(before, archives.scan(mixed))
    assert not leftovers(mixed)


def test_full_disk_is_one_clear_error(mixed):
    resource = pytest.importorskip("resource")
    before = archives.scan(mixed)
    contents = {path: path.read_bytes() for path in mixed.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(UnveilError, match=r"a.zip.*: cannot be written .*free space"):
            prune.prune(before, **ALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path: path.read_bytes() for path in mixed.iterdir()} == contents


def test_prune_refuses_archives_that_changed_came_or_went(mixed):
    before = archives.scan(mixed)
    write_zip(mixed / "new.zip", run_files("0_1"))
    with pytest.raises(UnveilError, match="new.zip: new since the scan"):
        prune.prune(before, **ALL)
    (mixed / "new.zip").unlink()
    os.utime(mixed / "whole.zip", (1, 1))
    with pytest.raises(UnveilError, match="whole.zip: changed since the scan"):
        prune.prune(before, **ALL)
    (mixed / "whole.zip").unlink()
    with pytest.raises(UnveilError, match="whole.zip: gone since the scan"):
        prune.prune(before, **ALL)


def test_prune_refuses_an_archive_that_changes_under_it(mixed, monkeypatch):
    real = repack.equals

    def change(parts, path):
        os.utime(mixed / "a.zip", (1, 1))
        return real(parts, path)

    monkeypatch.setattr(repack, "equals", change)
    with pytest.raises(UnveilError, match="a.zip: changed since the scan"):
        prune.prune(archives.scan(mixed), **ALL)
    assert not leftovers(mixed)


def test_prune_waits_for_damaged_archives_that_may_complete_a_run(tmp_path):
    split = run_files("0_1")
    other = write_zip(tmp_path / "b.zip", without(split, "pose_1"))
    whole = other.read_bytes()
    other.write_bytes(whole[: len(whole) // 2])
    write_zip(tmp_path / "a.zip", only(split, "pose_1"), run_files("0_2"))
    found = archives.scan(tmp_path)
    foreseen = prune.prune(found, all_named=True)
    assert foreseen.runs == ["0_1"] and "b.zip: damaged" in str(foreseen)
    with pytest.raises(UnveilError, match="b.zip: damaged, and may hold files"):
        prune.prune(found, **ALL)
    prune.prune(found, **ALL, despite_damaged=True)
    assert other.read_bytes() == whole[: len(whole) // 2]
    assert ids(archives.scan(tmp_path).complete) == ["0_2"]


def test_a_broken_file_of_a_run_that_stays_is_kept_as_it_is(mixed):
    flip(mixed / "a.zip", "x/0_2_pose_3_thermal.png")
    before = records(mixed / "a.zip")["x/0_2_pose_3_thermal.png"]
    prune.prune(archives.scan(mixed), **ALL)
    assert records(mixed / "a.zip")["x/0_2_pose_3_thermal.png"] == before


def test_a_copy_that_differs_is_never_put_in_place(mixed, monkeypatch):
    content = (mixed / "a.zip").read_bytes()
    real = repack.write

    def corrupt(parts, path):
        real(parts, path)
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 1
        path.write_bytes(data)

    monkeypatch.setattr(repack, "write", corrupt)
    with pytest.raises(UnveilError, match="a.zip: its copy differs"):
        prune.prune(archives.scan(mixed), discard=True, **ALL)
    assert (mixed / "a.zip").read_bytes() == content and not leftovers(mixed)


def test_an_archive_of_nothing_but_incomplete_runs_becomes_an_empty_one(tmp_path):
    path = write_zip(tmp_path / "a.zip", without(run_files("0_1"), "GT"))
    write_zip(tmp_path / "b.zip", run_files("0_2"))
    before = archives.scan(tmp_path)
    prune.prune(before, **ALL)
    after = archives.scan(tmp_path)
    check_pruned(before, after)
    assert path in after.archives and zipfile.ZipFile(path).namelist() == []


# What pruning must not touch, and what it gives back


def test_runs_that_lack_files_stay_until_all_archives_are_named(tmp_path):
    split = run_files("0_1")
    here = write_zip(tmp_path / "here.zip", only(split, "pose_1"), run_files("0_2"))
    write_zip(tmp_path / "there.zip", without(split, "pose_1"))
    content = here.read_bytes()
    report = prune.prune(archives.scan(here), yes=True)
    assert here.read_bytes() == content and not report.archives
    assert "0_1: missing" in report.troubles[0] and "all archives of the set are named" in str(report)
    assert prune.prune(archives.scan(here), all_named=True).runs == ["0_1"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "files",
    [
        run_files("0_1") | {"0_1_Parameters.txt": SAMPLE.replace("=  286", "=  28,6,1").encode()},
        run_files("0_1") | {"0_1_Parameters.txt": SAMPLE.replace("laying", "li\u00e9gend").encode("latin-1")},
        run_files("0_1") | {"0_1_Parameters.txt": SAMPLE.encode("utf-16-le")},
        run_files("0_1") | {"copy/0_1_pose_4_thermal.png": PNGS[9]},
        run_files("0_1") | {"copy/0_1_pose_4_thermal.png": b""},
    ],
    ids=["comma", "latin-1", "utf-16", "other picture", "empty copy"],
)
def test_a_run_whose_pictures_are_fine_is_never_dropped(tmp_path, files):
    path = write_zip(tmp_path / "a.zip", files, run_files("0_2"))
    content = path.read_bytes()
    report = prune.prune(archives.scan(path, verify=True), **ALL)
    assert path.read_bytes() == content and not report.runs


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_no_packing_makes_a_run_unusable(tmp_path, method):
    path = write_zip(tmp_path / "a.zip", run_files("0_1"), method=method)
    assert not prune.prune(archives.scan(path, verify=True), **ALL).archives


def test_what_was_dropped_is_listed_and_comes_back(mixed):
    before = contents_by_name(mixed)
    prune.prune(archives.scan(mixed), drop_foreign=True, **ALL)
    found = archives.scan(mixed)
    assert not found.incomplete and [path.name for path in found.archives] == ["a.zip", "b.zip", "whole.zip"]
    listed = prune.restore_dropped([mixed / "a.zip", mixed / "b.zip.dropped.zip"])
    assert "dry run" in str(listed) and "runs: 0_1, 1_6" in str(listed) and (mixed / "a.zip.dropped.zip").exists()
    assert prune.restore_dropped(mixed, yes=True).archives == listed.archives
    assert contents_by_name(mixed) == before
    assert "nothing to put back" in str(prune.restore_dropped(mixed, yes=True))


def test_what_is_dropped_later_joins_what_was_dropped_before(tmp_path):
    path = write_zip(tmp_path / "a.zip", run_files("0_1"), run_files("0_2"), without(run_files("0_3"), "GT"))
    before = contents_by_name(tmp_path)
    prune.prune(archives.scan(path), **ALL)
    flip(path, "0_2_pose_3_thermal.png")
    prune.prune(archives.scan(path, verify=True), **ALL)
    assert ids(archives.scan(path).complete) == ["0_1"]
    with zipfile.ZipFile(tmp_path / "a.zip.dropped.zip") as archive:
        assert len(archive.namelist()) == 12 + 13
    prune.restore_dropped(path, yes=True)
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == [name for name, _ in before["a.zip"]]


def test_discarded_files_are_gone(mixed):
    prune.prune(archives.scan(mixed), discard=True, **ALL)
    assert {path.name for path in mixed.iterdir()} == {"a.zip", "b.zip", "whole.zip"}


def test_a_damaged_archive_is_left_alone(tmp_path):
    path = write_zip(tmp_path / "a.zip", run_files("0_1"), without(run_files("0_2"), "GT"))
    data = path.read_bytes().replace(b"PK\1\2", b"PK\1\3", 1)
    path.write_bytes(data)
    report = prune.prune(archives.scan(path), despite_damaged=True, **ALL)
    assert path.read_bytes() == data and "a.zip" in report.troubles[0]


def test_permissions_stay(mixed):
    (mixed / "a.zip").chmod(0o640)
    prune.prune(archives.scan(mixed), **ALL)
    assert (mixed / "a.zip").stat().st_mode & 0o777 == 0o640


def test_what_is_swept_away_is_of_one_file(tmp_path):
    names = [".a.part-abcdefgh.zip", ".ab.part-abcdefgh.zip", ".a.part.zip", "a.zip"]
    for name in names:
        (tmp_path / name).touch()
    writing.sweep(tmp_path, "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])
