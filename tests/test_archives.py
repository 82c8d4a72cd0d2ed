"""Archives: what a scan finds, what reading refuses, and that pruning never loses a complete run."""

import io
import os
import signal
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_parameters import SAMPLE

from unveil.aos import archives, parameters
from unveil.aos.png import decode
from unveil.errors import UnveilError


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def gray(level: int) -> np.ndarray:
    image = np.full((512, 512), level, np.uint8)
    image[level % 512, :50] = 255
    return image


def raw_png(rows: bytes, height: int = 512, interlace: int = 0, cut: int = 0) -> bytes:
    """A PNG of filtered rows, whatever their number, all its chunks well-formed; ``cut`` shortens the pixel data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 512, height, 8, 0, 0, 0, interlace)
    pixels = zlib.compress(rows)
    pixels = pixels[: len(pixels) - cut]
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


ROW = b"\0" + b"\x64" * 512
PNGS = [png(gray(level)) for level in range(12)]


def run_files(name: str, folder: str = "") -> dict[str, bytes]:
    """The thirteen files of a run; its views are gray levels 0…10 and its truth is 11."""
    files = {f"{folder}{name}_pose_{i}_thermal.png": PNGS[i] for i in range(11)}
    files[f"{folder}{name}_GT_pose_0_thermal.png"] = PNGS[11]
    files[f"{folder}{name}_Parameters.txt"] = SAMPLE.encode()
    return files


def write_zip(path: Path, *groups: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for files in groups:
            for name, data in files.items():
                archive.writestr(name, data)
    return path


def without(files: dict[str, bytes], *parts: str) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if not any(part in name for part in parts)}


def only(files: dict[str, bytes], *parts: str) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if any(part in name for part in parts)}


def ids(entries: list[archives.Entry]) -> list[str]:
    return [entry.id for entry in entries]


def flip(path: Path, name: str) -> None:
    """Change one bit in the stored bytes of a file inside an archive."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
    data = bytearray(path.read_bytes())
    data[info.header_offset + 30 + len(name) + info.compress_size // 2] ^= 16
    path.write_bytes(data)


def records(path: Path) -> dict[str, tuple[bytes, tuple]]:
    """Every file's raw local record (header, data, descriptor) and what the directory says about it."""
    with zipfile.ZipFile(path) as archive:
        listing, end = archive.infolist(), archive.start_dir
    data = path.read_bytes()
    ends = [*sorted(info.header_offset for info in listing), end]
    found = {}
    for info in listing:
        stop = ends[ends.index(info.header_offset) + 1]
        found[info.filename] = (
            data[info.header_offset : stop],
            (
                info.date_time,
                info.flag_bits,
                info.CRC,
                info.external_attr,
                info.extra,
                info.comment,
                info.create_system,
            ),
        )
    return found


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and path.suffix.lower() != ".zip"]


# What a scan finds


def test_scan_finds_complete_and_incomplete_runs_in_number_order(tmp_path):
    write_zip(tmp_path / "a.zip", run_files("0_10"), run_files("0_9", "deep/er/"), without(run_files("1_0"), "pose_3_"))
    found = archives.scan(tmp_path)
    assert ids(found.complete) == ["0_9", "0_10"] and ids(found.incomplete) == ["1_0"]
    assert found.incomplete[0].problems == ["missing pose_3"]
    assert list(found.complete[0].members) == list(archives.ROLES)
    assert not (found.split or found.duplicates or found.foreign or found.damaged)
    assert found.archives == [tmp_path / "a.zip"]


def test_a_run_split_over_archives_is_complete(tmp_path):
    files = run_files("0_7", "x/")
    reversed_half = dict(reversed(list(only(files, "pose_1", "Parameters").items())))
    write_zip(tmp_path / "b.zip", reversed_half)
    write_zip(tmp_path / "a.zip", {k.replace("x/", ""): v for k, v in files.items() if k not in reversed_half})
    found = archives.scan([tmp_path / "b.zip", tmp_path / "a.zip"])
    assert ids(found.complete) == ids(found.split) == ["0_7"]
    assert [path.name for path in found.split[0].archives] == ["a.zip", "b.zip"]
    run = archives.read_run(found.complete[0])
    assert [int(view[300, 300]) for view in run.views] == list(range(11)) and run.truth[300, 300] == 11


def test_folders_are_searched_whatever_the_case_and_each_archive_once(tmp_path):
    (tmp_path / "one" / "two").mkdir(parents=True)
    write_zip(tmp_path / "one" / "two" / "a.ZIP", run_files("0_1"))
    write_zip(tmp_path / "one" / "b.zip", run_files("0_2"))
    (tmp_path / "one" / "._b.zip").write_bytes(b"shadow of macOS")
    found = archives.scan([tmp_path, tmp_path / "one", str(tmp_path / "one" / "b.zip")])
    assert ids(found.complete) == ["0_1", "0_2"] and not found.duplicates and not found.damaged


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_harmless_duplicates_within_and_across_archives(tmp_path):
    files = run_files("0_1")
    write_zip(tmp_path / "a.zip", files, only(files, "pose_4_"))
    write_zip(tmp_path / "b.zip", only(files, "GT"))
    found = archives.scan(tmp_path)
    assert ids(found.complete) == ["0_1"] and not found.split
    assert [(d.role, d.same, d.second.archive.name) for d in found.duplicates] == [
        ("pose_4", True, "a.zip"),
        ("GT", True, "b.zip"),
    ]
    assert found.complete[0].members["GT"].archive.name == "a.zip"


def test_duplicates_with_different_content_make_a_run_ambiguous(tmp_path):
    write_zip(tmp_path / "a.zip", run_files("0_1"), run_files("0_2"))
    write_zip(tmp_path / "b.zip", {"0_1_pose_4_thermal.png": PNGS[9]})
    found = archives.scan(tmp_path)
    assert ids(found.complete) == ["0_2"]
    (problem,) = found.incomplete[0].problems
    assert "pose_4 stands twice with different content" in problem and "a.zip" in problem and "b.zip" in problem
    with pytest.raises(UnveilError, match="different content"):
        archives.read_run(found.incomplete[0])


def test_foreign_files_are_listed_and_never_mistaken(tmp_path):
    strange = [
        "__MACOSX/._0_1_pose_0_thermal.png",
        "__MACOSX/x/0_1_pose_0_thermal.png",
        "x/._0_1_pose_0_thermal.png",
        ".DS_Store",
        "0_1_pose_11_thermal.png",
        "0_1_pose_0_thermal.png.bak",
        "0_1_GT_pose_1_thermal.png",
        "readme.txt",
    ]
    write_zip(tmp_path / "a.zip", dict.fromkeys(strange, b"x"), {"folder/": b""}, run_files("0_1"))
    found = archives.scan(tmp_path, verify=True)
    assert [f.name for f in found.foreign] == strange
    assert ids(found.complete) == ["0_1"] and not found.duplicates


def test_declared_empty_files_and_unknown_packing_make_a_run_incomplete(tmp_path):
    write_zip(tmp_path / "a.zip", run_files("0_1") | {"0_1_pose_2_thermal.png": b""})
    write_zip(tmp_path / "b.zip", run_files("0_2"), method=zipfile.ZIP_LZMA)
    found = archives.scan(tmp_path)
    assert found.incomplete[0].problems == ["pose_2 is an empty file (0_1_pose_2_thermal.png in a.zip)"]
    assert "unknown method" in found.incomplete[1].problems[0]


def damage(tmp_path: Path) -> dict[str, Path]:
    """One archive of every damaged kind, by what the reason says."""
    whole = write_zip(tmp_path / "whole.zip", run_files("0_1"))
    data = whole.read_bytes()
    whole.unlink()
    kinds = {
        "empty file": b"",
        "not a ZIP": b"<html>quota exceeded</html>",
        "truncated": data[: len(data) // 2],
        "outside": data[: data.index(b"PK\1\2") // 2] + data[data.index(b"PK\1\2") :],
        "central directory": data.replace(b"PK\1\2", b"PK\1\3", 1),
    }
    paths = {}
    for index, (reason, content) in enumerate(kinds.items()):
        paths[reason] = tmp_path / f"bad{index}.zip"
        paths[reason].write_bytes(content)
    return paths


def test_damaged_archives_are_named_and_do_not_stop_the_scan(tmp_path):
    bad = damage(tmp_path)
    write_zip(tmp_path / "good.zip", run_files("0_5"))
    found = archives.scan(tmp_path)
    assert ids(found.complete) == ["0_5"]
    reasons = {item.archive: item.reason for item in found.damaged}
    assert set(reasons) == set(bad.values())
    for reason, path in bad.items():
        assert reason in reasons[path] and "fetch this archive again" in reasons[path]
        assert path.name in found.report()


def test_absent_paths_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(UnveilError, match="no ZIP archive in this folder"):
        archives.scan(tmp_path)
    with pytest.raises(UnveilError, match="absent.*no such file or folder"):
        archives.scan(tmp_path / "absent")
    with pytest.raises(UnveilError, match="no archives given"):
        archives.scan([])


def test_zip64_archives_are_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in run_files("0_1").items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(data)
    found = archives.scan(tmp_path, verify=True)
    assert ids(found.complete) == ["0_1"]


def test_report_and_table(tmp_path):
    write_zip(tmp_path / "a.zip", run_files("0_1"), without(run_files("0_2"), "GT"), {".DS_Store": b"x"})
    write_zip(tmp_path / "b.zip", only(run_files("0_1"), "pose_5"))
    found = archives.scan(tmp_path)
    table = found.table()
    assert list(table.columns) == ["id", "batch", "number", "complete", "files", "archives", "problems"]
    assert table.values.tolist() == [
        ["0_1", 0, 1, True, 13, "a.zip", ""],
        ["0_2", 0, 2, False, 12, "a.zip", "missing GT"],
    ]
    report = found.report()
    for words in (
        "2 archives, 27 files",
        "1 complete, 1 incomplete",
        "0_2: missing GT",
        ".DS_Store",
        "0_1 pose_5",
        "split over archives: none",
    ):
        assert words in report


# Reading a run


def test_read_run_returns_views_in_order_truth_and_parameters(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 512, 512), np.uint8)
    files = dict(zip(run_files("0_1"), [*map(png, images), SAMPLE.encode()], strict=True))
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        write_zip(tmp_path / "a.zip", files, method=method)
        (entry,) = archives.scan(tmp_path).complete
        run = archives.read_run(entry)
        assert run.id == "0_1" and run.views.dtype == run.truth.dtype == np.uint8
        assert np.array_equal(run.views, images[:11]) and np.array_equal(run.truth, images[11])
        assert run.parameters == archives.read_parameters(entry) == parameters.parse(SAMPLE)


def test_every_filter_of_a_png_is_undone():
    """Against Pillow, which chooses filters row by row; made by hand so that each filter is used, also in row 0."""
    rng = np.random.default_rng(0)
    smooth = (np.add.outer(np.arange(512), np.arange(512)) // 3 + rng.integers(0, 9, (512, 512))).astype(np.uint8)
    for kind in range(5):
        rows = np.concatenate([np.full((512, 1), kind, np.uint8), smooth], axis=1)
        data = raw_png(rows.tobytes())
        out = np.empty((512, 512), np.uint8)
        decode(data, out)
        assert np.array_equal(out, np.asarray(Image.open(io.BytesIO(data)))), f"filter {kind}"
    mixed = np.concatenate([rng.integers(0, 5, (512, 1), np.uint8), smooth], axis=1)
    decode(raw_png(mixed.tobytes()), out)
    assert np.array_equal(out, np.asarray(Image.open(io.BytesIO(raw_png(mixed.tobytes())))))


def test_a_black_picture_is_read(tmp_path):
    black = png(np.zeros((512, 512), np.uint8))
    write_zip(tmp_path / "a.zip", run_files("0_1") | {"0_1_GT_pose_0_thermal.png": black})
    assert not archives.read_run(archives.scan(tmp_path).complete[0]).truth.any()


BAD = {
    "truncated PNG": PNGS[3][: len(PNGS[3]) // 2],
    "truncated PNG, no end": PNGS[3][:-12],
    "truncated PNG, rows": raw_png(ROW * 200),
    "truncated PNG, one row": raw_png(ROW * 511),
    "truncated PNG, stream": raw_png(ROW * 512, cut=8),
    "bad length of pixel data": raw_png(ROW * 513),
    "bad length of pixel data, checksum": raw_png(ROW * 512, cut=2),
    "unknown filter": raw_png(b"\5" + ROW[1:] + ROW * 511),
    "truncated PNG, no pixels": raw_png(b""),
    "damaged PNG": PNGS[3].replace(b"IDAT", b"IDAX"),
    "bad chunk checksum": PNGS[3][:-20] + bytes([PNGS[3][-20] ^ 1]) + PNGS[3][-19:],
    "is not a PNG": b"GIF89a" * 30,
    "256×256 pixels where 512×512": png(np.zeros((256, 256), np.uint8)),
    "512×513 pixels": raw_png(ROW * 513, 513),
    "8-bit RGB where 8-bit gray": png(np.zeros((512, 512, 3), np.uint8)),
    "8-bit RGBA": png(np.zeros((512, 512, 4), np.uint8)),
    "16-bit gray": png(np.zeros((512, 512), np.uint16)),
    "1-bit gray": png(np.zeros((512, 512), bool)),
    "interlaced": raw_png(ROW * 512, interlace=1),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_pictures_are_refused_by_name_and_found_by_verify(tmp_path, kind):
    name = "0_1_pose_3_thermal.png"
    write_zip(tmp_path / "a.zip", run_files("0_1") | {name: BAD[kind]})
    (entry,) = archives.scan(tmp_path).complete
    with pytest.raises(UnveilError) as caught:
        archives.read_run(entry)
    message = str(caught.value)
    assert kind.split(",")[0] in message and name in message and "a.zip" in message and "\n" not in message
    verified = archives.scan(tmp_path, verify=True)
    (problem,) = verified.incomplete[0].problems
    assert message.startswith(problem) and kind.split(",")[0] in problem and name in problem


@pytest.mark.parametrize(
    "content, words",
    [
        (SAMPLE.replace("ambient light", "light").encode(), "'ambient light' is missing"),
        (SAMPLE.encode("utf-16"), "is not text"),
        (b"\n", "is missing"),
    ],
)
def test_bad_parameters_are_refused_by_name_and_found_by_verify(tmp_path, content, words):
    write_zip(tmp_path / "a.zip", run_files("0_1") | {"0_1_Parameters.txt": content})
    (entry,) = archives.scan(tmp_path).complete
    for read in (archives.read_run, archives.read_parameters):
        with pytest.raises(UnveilError, match=words) as caught:
            read(entry)
        assert "a.zip: 0_1_Parameters.txt" in str(caught.value)
    assert words in archives.scan(tmp_path, verify=True).incomplete[0].problems[0]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_bad_checksum_is_refused(tmp_path, method):
    path = write_zip(tmp_path / "a.zip", run_files("0_1"), run_files("0_2"), method=method)
    flip(path, "0_1_pose_6_thermal.png")
    found = archives.scan(path, verify=True, workers=2)
    assert ids(found.complete) == ["0_2"] and "0_1_pose_6_thermal.png" in found.incomplete[0].problems[0]
    with pytest.raises(UnveilError, match="0_1_pose_6_thermal.png (fails its checksum|cannot be decompressed)"):
        archives.read_run(archives.scan(path).complete[0])


def test_verify_takes_the_good_copy_of_a_file_that_stands_twice(tmp_path):
    flip(write_zip(tmp_path / "a.zip", run_files("0_1")), "0_1_pose_6_thermal.png")
    write_zip(tmp_path / "b.zip", only(run_files("0_1"), "pose_6"))
    (entry,) = archives.scan(tmp_path, verify=True).complete
    assert entry.members["pose_6"].archive.name == "b.zip"
    assert archives.read_run(entry).views[6, 300, 300] == 6


def test_verify_reports_progress_and_does_not_depend_on_workers(tmp_path):
    broken = run_files("0_2") | {"0_2_pose_0_thermal.png": BAD["16-bit gray"], "0_2_Parameters.txt": b"x"}
    write_zip(tmp_path / "a.zip", run_files("0_1"), broken, without(run_files("0_3"), "GT"))
    seen = []
    one = archives.scan(tmp_path, verify=True, progress=lambda done, total: seen.append((done, total)))
    two = archives.scan(tmp_path, verify=True, workers=2)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert [entry.problems for entry in one.entries] == [entry.problems for entry in two.entries]
    assert len(one.entries[1].problems) == 2


def test_an_archive_that_changed_or_went_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", run_files("0_1"))
    (entry,) = archives.scan(path).complete
    path.write_bytes(b"x" * 100)
    with pytest.raises(UnveilError, match="a.zip.*scan the archives again"):
        archives.read_run(entry)
    path.unlink()
    with pytest.raises(UnveilError, match="a.zip.*scan the archives again"):
        archives.read_run(entry)


def test_real_run_is_read_as_it_is(tmp_path, reference):
    names = [f"0_0_pose_{i}_thermal.png" for i in range(11)] + ["0_0_GT_pose_0_thermal.png"]
    files = {name: (reference / "course_run" / name).read_bytes() for name in names}
    write_zip(tmp_path / "a.zip", files, {"0_0_Parameters.txt": SAMPLE.encode()})
    run = archives.read_run(archives.scan(tmp_path, verify=True).complete[0])
    for name, image in zip(names, [*run.views, run.truth], strict=True):
        assert np.array_equal(image, np.asarray(Image.open(reference / "course_run" / name)))


# Pruning


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
        only(bad, "pose_"),
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


def test_dry_run_changes_nothing_and_foresees_the_sizes(mixed):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in mixed.iterdir()}
    foreseen = archives.prune(archives.scan(mixed))
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in mixed.iterdir()} == before
    assert not foreseen.done and foreseen.runs == ["0_1", "0_5", "1_6"] and "dry run" in str(foreseen)
    done = archives.prune(archives.scan(mixed), yes=True)
    assert done.done and done.archives == foreseen.archives
    assert [(a.archive.name, a.after) for a in done.archives] == [
        (name, (mixed / name).stat().st_size) for name in ("a.zip", "b.zip")
    ]


def test_prune_drops_incomplete_runs_and_keeps_every_other_byte(mixed):
    before, old = archives.scan(mixed), {path: records(path) for path in mixed.iterdir()}
    untouched = (mixed / "whole.zip").stat().st_mtime_ns
    archives.prune(before, yes=True)
    after = archives.scan(mixed, verify=True)
    archives.check_pruned(before, after)
    assert ids(after.complete) == ["0_2", "0_4", "0_8", "0_9"] == ids(before.complete) and not after.incomplete
    assert ids(after.split) == ["0_4"] and len(after.duplicates) == 1 and after.foreign == before.foreign
    for path, files in old.items():
        kept = {name: record for name, record in files.items() if not any(i in name for i in ("0_1_", "0_5_", "1_6_"))}
        assert records(path) == kept
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
    assert (mixed / "whole.zip").stat().st_mtime_ns == untouched and not leftovers(mixed)
    assert "nothing to prune" in archives.prune(after, yes=True).report()


def test_prune_drops_foreign_files_when_asked(mixed):
    before = archives.scan(mixed)
    archives.prune(before, yes=True, drop_foreign=True)
    after = archives.scan(mixed)
    archives.check_pruned(before, after)
    assert len(before.foreign) == 2 and not after.foreign


def test_prune_drops_what_verify_found(tmp_path):
    write_zip(tmp_path / "a.zip", run_files("0_1"), run_files("0_2") | {"0_2_pose_0_thermal.png": BAD["16-bit gray"]})
    before = archives.scan(tmp_path, verify=True)
    archives.prune(before, yes=True)
    archives.check_pruned(before, archives.scan(tmp_path, verify=True))


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
    archives.prune(before, yes=True)
    archives.check_pruned(before, archives.scan(path, verify=True))
    assert records(path) == {name: record for name, record in old.items() if "0_1" not in name}
    with zipfile.ZipFile(path) as archive:
        assert archive.comment == b"made by hand" and archive.testzip() is None


def test_relocation_writes_the_zip64_place():
    extra = struct.pack("<HH4x", 0x5455, 4) + struct.pack("<HHQQ", 1, 16, 5_000_000_000, 6_000_000_000)
    fixed = struct.pack(
        "<4s6H3I5H2I", b"PK\1\2", 45, 45, 0, 0, 0, 0, 0, 7, 2**32 - 1, 1, len(extra), 0, 0, 0, 0, 2**32 - 1
    )
    record = bytearray(fixed + b"n" + extra)
    archives._relocate(record, 4_999_999_999)
    assert record[:-8] == (fixed + b"n" + extra)[:-8] and struct.unpack("<Q", record[-8:]) == (4_999_999_999,)


def test_more_files_than_a_plain_zip_can_count_are_pruned(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(5100):
            for role in range(13 if number else 12):
                name = (
                    f"0_{number}_pose_{role}_thermal.png"
                    if role < 11
                    else f"0_{number}_{('Parameters.txt', 'GT_pose_0_thermal.png')[role - 11]}"
                )
                archive.writestr(name, b"x")
    before = archives.scan(path)
    assert ids(before.incomplete) == ["0_0"] and len(before.complete) == 5099
    archives.prune(before, yes=True)
    archives.check_pruned(before, archives.scan(path))


@pytest.mark.parametrize("module, function", [("os", "fsync"), ("shutil", "copymode"), ("os", "replace")])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_interrupted_prune_loses_nothing(mixed, monkeypatch, module, function, error):
    before = archives.scan(mixed)
    contents = {path: path.read_bytes() for path in mixed.iterdir()}

    def interrupt(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(getattr(archives, module), function, interrupt)
        with pytest.raises(UnveilError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
            archives.prune(before, yes=True)
    if isinstance(error, OSError):
        assert "a.zip" in str(caught.value) and "No space left" in str(caught.value)
    assert {path: path.read_bytes() for path in mixed.iterdir()} == contents
    archives.prune(before, yes=True)
    archives.check_pruned(before, archives.scan(mixed))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize("module, function, call", [("os", "fsync", 1), ("os", "replace", 1), ("os", "replace", 2)])
def test_killed_prune_loses_nothing_and_the_next_one_tidies_up(mixed, module, function, call):
    before = archives.scan(mixed)
    code = f"""
import os, shutil, signal, sys
from unveil.aos import archives
calls, real = [], {module}.{function}
def kill(*arguments):
    calls.append(1)
    if len(calls) == {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*arguments)
{module}.{function} = kill
archives.prune(archives.scan(sys.argv[1]), yes=True)
"""
    library = Path(archives.__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", code, str(mixed)], env={**os.environ, "PYTHONPATH": str(library)})
    assert ended.returncode == -signal.SIGKILL
    assert leftovers(mixed)
    between = archives.scan(mixed, verify=True)
    assert ids(between.complete) == ids(before.complete) and between.incomplete and not between.damaged
    archives.prune(archives.scan(mixed), yes=True)
    archives.check_pruned(before, archives.scan(mixed))
    assert not leftovers(mixed)


def test_full_disk_is_one_clear_error(mixed):
    resource = pytest.importorskip("resource")
    before = archives.scan(mixed)
    contents = {path: path.read_bytes() for path in mixed.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(UnveilError, match="a.zip: cannot be written anew .*free disk space"):
            archives.prune(before, yes=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path: path.read_bytes() for path in mixed.iterdir()} == contents


def test_a_place_that_cannot_be_written_is_one_clear_error(mixed):
    before = archives.scan(mixed)
    (mixed / "a.zip.pruning").mkdir()
    with pytest.raises(UnveilError, match="a.zip: cannot be written anew .*make the folder writable"):
        archives.prune(before, yes=True)
    assert ids(archives.scan(mixed).complete) == ids(before.complete)


def test_prune_refuses_archives_that_changed_came_or_went(mixed):
    before = archives.scan(mixed)
    write_zip(mixed / "new.zip", run_files("0_1"))
    with pytest.raises(UnveilError, match="new.zip: new since the scan"):
        archives.prune(before, yes=True)
    (mixed / "new.zip").unlink()
    os.utime(mixed / "whole.zip", (1, 1))
    with pytest.raises(UnveilError, match="whole.zip: changed since the scan"):
        archives.prune(before, yes=True)
    (mixed / "whole.zip").unlink()
    with pytest.raises(UnveilError, match="whole.zip: gone since the scan"):
        archives.prune(before, yes=True)


def test_prune_refuses_an_archive_that_changes_under_it(mixed, monkeypatch):
    def change(old, new):
        os.utime(old, (1, 1))

    monkeypatch.setattr(archives.shutil, "copymode", change)
    with pytest.raises(UnveilError, match="a.zip: changed since the scan"):
        archives.prune(archives.scan(mixed), yes=True)
    assert not leftovers(mixed)


def test_prune_waits_for_damaged_archives_that_may_complete_a_run(tmp_path):
    split = run_files("0_1")
    other = write_zip(tmp_path / "b.zip", without(split, "pose_1"))
    whole = other.read_bytes()
    other.write_bytes(whole[: len(whole) // 2])
    write_zip(tmp_path / "a.zip", only(split, "pose_1"), run_files("0_2"))
    found = archives.scan(tmp_path)
    foreseen = archives.prune(found)
    assert foreseen.runs == ["0_1"] and "b.zip: damaged" in str(foreseen)
    with pytest.raises(UnveilError, match="b.zip: damaged, and may hold files"):
        archives.prune(found, yes=True)
    archives.prune(found, yes=True, despite_damaged=True)
    assert other.read_bytes() == whole[: len(whole) // 2]
    archives.check_pruned(found, archives.scan(tmp_path))


def test_a_kept_file_with_a_bad_checksum_stops_its_archive(mixed):
    flip(mixed / "a.zip", "x/0_2_pose_3_thermal.png")
    content = (mixed / "a.zip").read_bytes()
    with pytest.raises(UnveilError, match="a.zip: x/0_2_pose_3_thermal.png"):
        archives.prune(archives.scan(mixed), yes=True)
    assert (mixed / "a.zip").read_bytes() == content and not leftovers(mixed)


def test_a_copy_that_differs_is_never_put_in_place(mixed, monkeypatch):
    content = (mixed / "a.zip").read_bytes()
    real = os.fsync

    def corrupt(number):
        real(number)
        path = mixed / "a.zip.pruning"
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 1
        path.write_bytes(data)

    monkeypatch.setattr(archives.os, "fsync", corrupt)
    with pytest.raises(UnveilError, match="a.zip: its copy differs"):
        archives.prune(archives.scan(mixed), yes=True)
    assert (mixed / "a.zip").read_bytes() == content and not leftovers(mixed)


def test_an_archive_of_nothing_but_incomplete_runs_becomes_an_empty_one(tmp_path):
    path = write_zip(tmp_path / "a.zip", without(run_files("0_1"), "GT"))
    write_zip(tmp_path / "b.zip", run_files("0_2"))
    before = archives.scan(tmp_path)
    archives.prune(before, yes=True)
    after = archives.scan(tmp_path)
    archives.check_pruned(before, after)
    assert path in after.archives and zipfile.ZipFile(path).namelist() == []


def test_the_check_after_pruning_notices_a_lost_run(tmp_path):
    path = write_zip(tmp_path / "a.zip", run_files("0_1"), run_files("0_2"))
    before = archives.scan(path)
    write_zip(path, run_files("0_1"))
    with pytest.raises(UnveilError, match="run 0_2 is not the same"):
        archives.check_pruned(before, archives.scan(path))
    write_zip(path, run_files("0_1"), only(run_files("0_2"), "GT"))
    with pytest.raises(UnveilError, match="run 0_2 is still incomplete"):
        archives.check_pruned(before, archives.scan(path))
