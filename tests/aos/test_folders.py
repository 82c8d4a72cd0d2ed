"""Folders of pictures are read by their names, or refused with the reason."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unveil.aos import folders, integrator, simulator
from unveil.aos.camera import course_rig
from unveil.aos.images import to_uint8
from unveil.errors import UnveilError


def test_nearest_says_what_it_took():
    choice = folders.nearest([0.0, 0.4, 0.8, 2.0], [0.2, 0.6, 1.0, 1.4, 1.8])
    assert choice.indices == (0, 1, 2, 2, 3)
    assert choice.heights == (0.0, 0.4, 0.8, 0.8, 2.0)
    assert choice.differences == (-0.2, -0.2, -0.2, -0.6, 0.2)
    assert "0.4 m for 0.6 m" in choice.describe()
    assert (
        choice.describe().count("; ") == 1 and "; warning: 0.8 m stands in for 2 planes (1, 1.4 m)" in choice.describe()
    )
    exact = folders.nearest([1.8, 0.6], [0.6, 1.8])
    assert exact.indices == (1, 0) and exact.differences == (0, 0) and "warning" not in exact.describe()
    with pytest.raises(UnveilError, match="no plane"):
        folders.nearest([], [1.0])


def _save(folder: Path, name: str, image: np.ndarray | None = None, size: tuple[int, int] = (30, 40)) -> None:
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.full(size, len(name), np.uint8) if image is None else image).save(folder / name)


def test_read_folder_knows_planes_by_name(tmp_path: Path):
    for name in ("000.png", "040.PNG", "integral_060cm.png", "0_0_GPUref_integral_150cm.png", "-020.png", "gt.png"):
        _save(tmp_path / "f", name)
    _save(tmp_path / "f", "sketch.png", size=(3, 3))
    (tmp_path / "f" / "notes.txt").write_text("not a picture")
    found = folders.read_folder(tmp_path / "f")
    assert found.heights == (-0.2, 0.0, 0.4, 0.6, 1.5)
    assert found.planes.shape == (5, 30, 40) and found.planes[:, 0, 0].tolist() == [8, 7, 7, 18, 29]
    assert found.truth.shape == (30, 40) and found.views is None
    assert found.notes == ("1 other pictures are left aside (such as sketch.png)",)
    stack, choice = found.stack((0.2, 0.6))
    assert stack[:, 0, 0].tolist() == [7, 18] and choice.differences == (-0.2, 0.0)


def test_read_folder_prefers_the_views(tmp_path: Path):
    for pose in range(11):
        _save(tmp_path / "f", f"0_7_pose_{pose}_thermal.png", np.full((34, 52), 10 * pose, np.uint8))
    _save(tmp_path / "f", "0_7_GT_pose_0_thermal.png", size=(34, 52))
    _save(tmp_path / "f", "0_7_GPUref_integral_060cm.png", size=(34, 52))
    found = folders.read_folder(tmp_path / "f")
    assert found.views[:, 0, 0].tolist() == list(range(0, 110, 10)) and found.truth.shape == (34, 52)
    assert found.heights == () and found.planes.shape == (0, 34, 52)
    assert "integral images are left aside" in found.notes[0]
    stack, choice = found.stack((0.5, 1.0, 2.0))
    assert stack.shape == (3, 34, 52) and stack.dtype == np.uint8 and choice.differences == (0, 0, 0)
    (tmp_path / "f" / "0_7_pose_4_thermal.png").unlink()
    fewer = folders.read_folder(tmp_path / "f")
    assert fewer.views is None and fewer.heights == (0.6,) and "not all 11" in fewer.notes[0]
    (tmp_path / "f" / "0_7_GPUref_integral_060cm.png").unlink()
    with pytest.raises(UnveilError, match="missing: pose_4"):
        folders.read_folder(tmp_path / "f")


def test_read_folder_names_what_is_wrong(tmp_path: Path):
    def refused(match: str) -> None:
        with pytest.raises(UnveilError, match=match):
            folders.read_folder(tmp_path / "f")
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
    _save(tmp_path / "f", "000.png", np.arange(3600).reshape(30, 40, 3).astype(np.uint8))
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
    pair = folders.read_folder(reference / "course_pairs" / "sample_03")
    assert pair.heights == (0.0, 0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 2.5) and pair.truth is not None
    assert folders.nearest(pair.heights, integrator.HEIGHTS).heights == (0.1, 0.6, 1.0, 1.5, 2.0)
    run = folders.read_folder(reference / "course_run")
    assert run.views.shape == (11, 512, 512) and "integral images are left aside" in run.notes[0]
    stack, _ = run.stack((0.0, 0.6, 1.5))
    for plane, name in zip(stack, ("000", "060", "150"), strict=True):
        rendered = np.asarray(Image.open(reference / "course_run" / f"0_0_GPUref_integral_{name}cm.png"))
        off = np.abs(plane.astype(int) - rendered)
        assert (off == 0).mean() >= 0.97 and off.max() <= 1


def test_names_of_other_tools_other_formats_and_gray_in_colour(tmp_path: Path):
    rng = np.random.default_rng(0)
    planes = rng.integers(0, 256, (3, 20, 30), np.uint8)
    Image.fromarray(planes[0]).save(tmp_path / "FP_0.20.png")
    Image.fromarray(planes[1]).save(tmp_path / "FP_1.00_resized.tiff")
    Image.fromarray(np.repeat(planes[2][..., None], 3, 2)).save(tmp_path / "180.png")
    found = folders.read_folder(tmp_path)
    assert found.heights == (0.2, 1.0, 1.8)
    np.testing.assert_array_equal(found.planes, planes)
    assert "1 pictures are RGB with equal channels" in found.notes[0]
    coloured = np.repeat(planes[2][..., None], 3, 2)
    coloured[0, 0] = 1, 2, 3
    Image.fromarray(coloured).save(tmp_path / "180.png")
    with pytest.raises(UnveilError, match="its mode is RGB"):
        folders.read_folder(tmp_path)


def test_any_number_of_views_with_poses(tmp_path: Path):
    rig, run = course_rig(), simulator.simulate_run(3, 0, density=0, pose="laying")
    chosen = [1, 4, 5, 9]
    names = [f"shot {i}.png" for i in chosen]
    for name, i in zip(names, chosen, strict=True):
        Image.fromarray(run.views[i]).save(tmp_path / name)
    poses = {"fov": 50.0, "center": 2, "imagefiles": names, "views": rig.extrinsics[chosen].tolist()}
    (tmp_path / "poses.json").write_text(json.dumps(poses))
    found = folders.read_folder(tmp_path)
    assert (len(found.views), found.target, len(found.cameras)) == (4, 2, 4)
    stack, _ = found.stack([0.2, 1.0])
    expected = integrator.integrate(run.views[chosen], rig[chosen], [0.2, 1.0], 2).image
    np.testing.assert_array_equal(stack, to_uint8(expected))
    raised, _ = found.stack([0.2], ground=0.8)
    np.testing.assert_array_equal(raised[0], stack[1])
    poses["imagefiles"], poses["views"] = names[:2], poses["views"][:2]
    (tmp_path / "poses.json").write_text(json.dumps(poses | {"center": 0}))
    with pytest.raises(UnveilError, match="at least 3"):
        folders.read_folder(tmp_path)
