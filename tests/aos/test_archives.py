"""Archives: what a scan finds and what reading refuses, whatever is damaged."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from making import PNGS, ROW, flip, ids, only, png, raw_png, run_files, without, write_zip
from PIL import Image
from test_parameters import SAMPLE

from unveil.aos import archives, parameters
from unveil.aos.png import decode
from unveil.errors import UnveilError

# What a scan finds


def test_scan_finds_complete_and_incomplete_runs_in_number_order(tmp_path):
    write_zip(tmp_path / "a.zip", run_files("0_10"), run_files("0_9", "deep/er/"), without(run_files("1_0"), "pose_3_"))
    found = archives.scan(tmp_path)
    assert ids(found.complete) == ["0_9", "0_10"] and ids(found.incomplete) == ["1_0"]
    assert found.incomplete[0].complaint == "missing pose_3"
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


def test_copies_that_are_both_good_and_differ_make_a_run_unclear(tmp_path):
    write_zip(tmp_path / "a.zip", run_files("0_1"), run_files("0_2"))
    write_zip(tmp_path / "b.zip", {"0_1_pose_4_thermal.png": PNGS[9]})
    found = archives.scan(tmp_path)
    assert ids(found.complete) == ["0_2"]
    (problem,) = found.incomplete[0].problems
    assert problem.kind == archives.UNCLEAR
    assert "pose_4 is there twice with different content" in problem.text
    assert "a.zip" in problem.text and "b.zip" in problem.text
    with pytest.raises(UnveilError, match="different content"):
        archives.read_run(found.incomplete[0])


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("bad", [b"", b"no picture", PNGS[9][:200]], ids=["empty", "no picture", "cut"])
@pytest.mark.parametrize("first", [True, False])
def test_the_good_one_of_two_copies_is_used(tmp_path, bad, first):
    copy = {"0_1_pose_4_thermal.png": bad}
    write_zip(tmp_path / "a.zip", *([copy, run_files("0_1")] if first else [run_files("0_1"), copy]))
    (entry,) = archives.scan(tmp_path).complete
    assert archives.read_run(entry).views[4, 300, 300] == 4


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


def test_a_declared_empty_file_makes_a_run_incomplete(tmp_path):
    write_zip(tmp_path / "a.zip", run_files("0_1") | {"0_1_pose_2_thermal.png": b""})
    (entry,) = archives.scan(tmp_path).incomplete
    assert entry.complaint == f"{tmp_path / 'a.zip'}: 0_1_pose_2_thermal.png is an empty file"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_packing_is_read(tmp_path, method):
    write_zip(tmp_path / "a.zip", run_files("0_1"), method=method)
    (entry,) = archives.scan(tmp_path, verify=True).complete
    run = archives.read_run(entry)
    assert [int(view[300, 300]) for view in run.views] == list(range(11)) and run.truth[300, 300] == 11


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
        assert path.name in found.report() and any(path.name in trouble for trouble in found.troubles())


def directory(path: Path) -> tuple[bytearray, dict[str, int]]:
    """An archive's bytes, and where the directory record of each file begins."""
    data, places = bytearray(path.read_bytes()), {}
    with zipfile.ZipFile(path) as archive:
        position, names = archive.start_dir, archive.namelist()
    for name in names:
        places[name] = position
        position += 46 + sum(struct.unpack_from("<3H", data, position + 28))
    return data, places


def set_bytes(name: str, offset: int, value: bytes):
    def change(data: bytearray, places: dict[str, int]) -> None:
        at = places[name] + offset
        data[at : at + len(value)] = value

    return change


NAME = "0_1_pose_3_thermal.png"
DAMAGES = {
    "signature": set_bytes(NAME, 2, b"\3"),
    "name": set_bytes(NAME, 46 + 8, b"x"),
    "folder": set_bytes(NAME, 46 + len(NAME) - 1, b"/"),
    "run's number": set_bytes(NAME, 46 + 2, b"7"),
    "other role": set_bytes(NAME, 46 + 9, b"4"),
    "name is not UTF-8": lambda data, places: [
        set_bytes(NAME, 8, b"\0\x08")(data, places),
        set_bytes(NAME, 46, b"\xff")(data, places),
    ],
    "checksum": set_bytes(NAME, 16, b"\0\1\2\3"),
    "size": set_bytes(NAME, 24, b"\1\0\0\0"),
    "packed size": set_bytes(NAME, 20, b"\1\0\0\0"),
    "packing": set_bytes(NAME, 10, b"\x63"),
    "flags": set_bytes(NAME, 8, b"\1"),
    "offset": set_bytes(NAME, 42, b"\x11\x22\x33\x44"),
    "offset beside": lambda data, places: set_bytes(NAME, 42, bytes([data[places[NAME] + 42] ^ 8]))(data, places),
    "offset within": set_bytes(NAME, 42, b"\x11\x22\0\0"),
    "comment swallows records": set_bytes(NAME, 32, b"\x90\0"),
    "end of directory": lambda data, _: data.__setitem__(slice(-6, -2), b"\xff\xff\xff\x7f"),
}


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("streamed", [False, True])
def test_no_run_is_lost_by_a_damaged_directory(tmp_path, kind, streamed):
    path = write_zip(tmp_path / "a.zip", run_files("0_1"), run_files("0_2"), streamed=streamed)
    data, places = directory(path)
    DAMAGES[kind](data, places)
    path.write_bytes(data)
    found = archives.scan(path)
    assert ids(found.complete) == ["0_1", "0_2"], found.report()
    for entry in found.complete:
        run = archives.read_run(entry)
        assert [int(view[300, 300]) for view in run.views] == list(range(11)) and run.truth[300, 300] == 11
    if kind not in ("checksum", "size", "packed size", "packing", "flags", "offset beside"):  # which only reading finds
        assert found.damaged and "a.zip" in found.troubles()[0]
    verified = archives.scan(path, verify=True)
    assert ids(verified.complete) == ["0_1", "0_2"]
    if kind != "offset beside":
        assert bool(verified.damaged) == (kind not in ("packed size", "packing", "flags"))


def test_a_truncated_archive_gives_the_runs_before_the_cut(tmp_path):
    path = write_zip(tmp_path / "a.zip", run_files("0_1"), run_files("0_2"))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    found = archives.scan(path)
    assert ids(found.complete) == ["0_1"] and ids(found.incomplete) == ["0_2"]
    assert archives.read_run(found.complete[0]).truth[300, 300] == 11
    assert "truncated" in found.damaged[0].reason


@pytest.mark.parametrize("role", ["pose_3_thermal.png", "Parameters.txt"])
def test_a_file_that_grows_beyond_all_bounds_is_refused(tmp_path, role):
    files = run_files("0_1") | {f"0_1_{role}": bytes(50_000_000)}
    write_zip(tmp_path / "a.zip", files)
    (entry,) = archives.scan(tmp_path).complete
    with pytest.raises(UnveilError, match=f"{role} is longer than such a file can be"):
        archives.read_run(entry)
    assert archives.scan(tmp_path, verify=True).incomplete[0].has(archives.BROKEN)


def test_names_that_no_console_prints_are_shown(tmp_path):
    odd = tmp_path / "a\udce9.zip"
    try:
        write_zip(odd, without(run_files("0_1", "x\n/"), "GT"))
    except (OSError, UnicodeError):
        pytest.skip("this file system knows no such names")
    found = archives.scan(tmp_path, verify=True)
    found.report().encode("ascii")
    found.table()["archives"][0].encode("ascii")


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
    assert not archives.scan(tmp_path).troubles()
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
    assert problem.kind == archives.BROKEN
    assert message.startswith(problem.text) and kind.split(",")[0] in problem.text and name in problem.text


@pytest.mark.parametrize(
    "content, words",
    [
        (SAMPLE.replace("ambient light", "light").encode(), "'ambient light' is missing"),
        (SAMPLE.encode("utf-16-le"), "is missing"),
        (SAMPLE.replace("=  0.6", "=  1e308 0.6").encode(), "has 2 numbers"),
        (SAMPLE.replace("img_3 (0, -3, 35", "img_3 (0, -3, 20").encode(), "other cameras than the course's"),
        (SAMPLE.replace("(0, -", "(1, -").encode(), "other cameras than the course's"),
        (b"\n", "is missing"),
    ],
)
def test_unusable_parameters_are_refused_by_name_and_found_by_verify(tmp_path, content, words):
    write_zip(tmp_path / "a.zip", run_files("0_1") | {"0_1_Parameters.txt": content})
    (entry,) = archives.scan(tmp_path).complete
    for read in (archives.read_run, archives.read_parameters):
        with pytest.raises(UnveilError, match=words) as caught:
            read(entry)
        assert "a.zip: 0_1_Parameters.txt" in str(caught.value)
    (entry,) = archives.scan(tmp_path, verify=True).incomplete
    assert words in entry.complaint and not entry.has(archives.BROKEN) and not entry.has(archives.MISSING)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_bad_checksum_is_refused(tmp_path, method):
    path = write_zip(tmp_path / "a.zip", run_files("0_1"), run_files("0_2"), method=method)
    flip(path, "0_1_pose_6_thermal.png")
    found = archives.scan(path, verify=True, workers=2)
    assert ids(found.complete) == ["0_2"] and "0_1_pose_6_thermal.png" in found.incomplete[0].complaint
    with pytest.raises(UnveilError, match="0_1_pose_6_thermal.png (fails its checksum|cannot be decompressed)"):
        archives.read_run(archives.scan(path).complete[0])


def test_verify_takes_the_good_copy_of_a_file_that_stands_twice(tmp_path):
    flip(write_zip(tmp_path / "a.zip", run_files("0_1")), "0_1_pose_6_thermal.png")
    write_zip(tmp_path / "b.zip", only(run_files("0_1"), "pose_6"))
    (entry,) = archives.scan(tmp_path, verify=True).complete
    assert entry.members["pose_6"].archive.name == "b.zip"
    assert archives.read_run(entry).views[6, 300, 300] == 6


def test_verify_does_not_depend_on_workers(tmp_path):
    broken = run_files("0_2") | {"0_2_pose_0_thermal.png": BAD["16-bit gray"], "0_2_Parameters.txt": b"x"}
    write_zip(tmp_path / "a.zip", run_files("0_1"), broken, without(run_files("0_3"), "GT"))
    one, two = (archives.scan(tmp_path, verify=True, workers=n) for n in (1, 2))
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


def test_a_run_is_found_by_its_id(tmp_path):
    write_zip(tmp_path / "a.zip", run_files("0_3"))
    catalogue = archives.scan(tmp_path)
    assert catalogue.entry("0_3") is catalogue.entries[0]
    with pytest.raises(UnveilError, match="0_4 is in none of"):
        catalogue.entry("0_4")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_to_any_packing_is_named(tmp_path, method):
    path = write_zip(tmp_path / "a.zip", run_files("0_1"), method=method)
    flip(path, "0_1_pose_6_thermal.png")
    (entry,) = archives.scan(path, verify=True).incomplete
    assert "0_1_pose_6_thermal.png" in entry.complaint and entry.has(archives.BROKEN)


def test_an_absurd_directory_is_not_read_into_memory(tmp_path):
    path = write_zip(tmp_path / "a.zip", run_files("0_1"))
    with open(path, "r+b") as file:
        data = file.read()
        file.truncate(300_000_000)  # takes no room on the disk
        file.seek(0, 2)
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 13, 13, 300_000_000 - 10, 0, 0))
    found = archives.scan(path)
    assert ids(found.complete) == ["0_1"] and "absurd size" in found.damaged[0].reason
    assert len(data) < 300_000
