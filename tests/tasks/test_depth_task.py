"""Depth frames: pairs, measures, baselines, networks, and the commands on folders of files."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from unveil import project
from unveil.degrade.depth import StereoCamera, metres, nearness
from unveil.errors import UnveilError
from unveil.restore import weights
from unveil.restore.networks import build
from unveil.restore.networks.depth import candidates
from unveil.restore.options import Options
from unveil.tasks import depth, depth_files, depth_results

SIBLINGS = Path(os.environ.get("UNVEIL_SIBLINGS", "data/siblings")) / "depth"
CAMERA = StereoCamera(width=160, height=128, focal=80.0, baseline=0.265)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> depth.DepthPairs:
    return depth.simulate(tmp_path_factory.mktemp("frames"), 3, camera=CAMERA)


@pytest.fixture
def folder(tmp_path, pairs) -> Path:
    """Two frames as the files of the course's depth project."""
    for name, frame in zip("ab", pairs.frames, strict=False):
        for prefix, layer in (("gt-", frame[0]), ("res-", frame[1])):
            Image.fromarray(np.asarray(layer)).save(tmp_path / f"{prefix}{name}.png")
        Image.fromarray(np.asarray(frame[2]).astype(np.uint8)).save(tmp_path / f"left-{name}.png")
    return tmp_path


def small(infrared: bool):
    torch.manual_seed(0)
    return build("depth", 3 if infrared else 2, features=(8, 8)).eval()


def test_pairs_depend_on_the_generator_alone_and_vary(pairs):
    varied = depth.DepthPairs(pairs.frames, pairs.ids, varied=True)
    one, again, other = (varied.item(0, np.random.default_rng(s), (64, 64)) for s in (1, 1, 2))
    assert one[0].shape == (3, 64, 64) and one[1].shape == (2, 64, 64)
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one[0], other[0])
    x, y = pairs.item(0, np.random.default_rng(0), None)
    assert np.array_equal(x[1] > 0, pairs.frames[0][1] > 0) and np.array_equal(y[1], x[1])
    assert 0 <= x.min() and x.max() <= 1


def test_measures_are_zero_for_the_truth_and_count_what_they_say():
    truth = np.full((20, 20), 2.0, np.float32)
    mask = np.ones_like(truth)
    mask[:, :10] = 0
    target = np.stack([nearness(truth), mask])
    perfect = depth.measures(nearness(truth), target)
    assert perfect["rmse"] < 1e-3 and perfect["filled"] == 100
    found = truth.copy()
    found[:, :10] = 2.2
    values = depth.measures(nearness(found), target)
    assert values["measured_mae"] < 1e-3 and values["off"] == 50 and values["filled"] == 0
    assert values["mae"] == pytest.approx(100, rel=1e-3)


@pytest.mark.parametrize("name", [n for n in depth.BASELINES if n != "Telea"])
def test_baselines_fill_every_hole_near_the_truth(name, pairs):
    x, target = pairs.item(1, np.random.default_rng(0), None)
    y = depth.BASELINES[name](x)
    assert y.shape == (1, *x.shape[1:]) and (y > 0).all()
    assert depth.measures(y, target)["measured_median"] < 40


def test_telea_needs_opencv(pairs):
    pytest.importorskip("cv2")
    x, _ = pairs.item(1, np.random.default_rng(0), None)
    assert (depth.BASELINES["Telea"](x) > 0).mean() > 0.99


def test_candidates_hold_the_measurement_and_the_neighbours_across_a_hole():
    near = torch.full((1, 1, 16, 32), 0.2)
    near[..., 20:] = 0.6
    valid = torch.ones_like(near, dtype=torch.bool)
    valid[..., 10:20] = False
    values, gaps, _ = candidates(near * valid, valid)
    assert torch.allclose(values[:, :1][valid], near[valid])
    assert values[0, 7, 8, 15].item() == pytest.approx(0.2, abs=0.03)
    assert values[0, 8, 8, 15].item() == pytest.approx(0.6, abs=0.03)
    assert gaps[0, 0, 8, 12].item() == pytest.approx(3 / 64)


@pytest.mark.parametrize("infrared", [False, True])
def test_networks_take_any_size_and_frames_without_a_single_value(infrared):
    model = small(infrared)
    x = torch.rand(1, 2 + infrared, 37, 50)
    x[:, 1] = 1
    y = model(x)
    assert y.shape == (1, 1, 37, 50) and torch.isfinite(y).all()
    assert torch.isfinite(model(torch.zeros_like(x))).all()


def test_the_gan_trains_its_parts_in_turn():
    model = build("depth_gan", 2, features=(8, 8), critic=4)
    x = torch.rand(2, 2, 32, 32)
    target = torch.rand(2, 2, 32, 32) * 0.5 + 0.1
    generator, critic = (list(part) for part in model.parts())
    model.loss(x, target, Options(), part=1).backward()
    assert all(p.grad is None for p in generator) and all(p.grad is not None for p in critic)
    model.zero_grad()
    model.loss(x, target, Options(), part=0).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in generator)


def test_crops_cover_the_frame_to_its_last_row(folder, tmp_path):
    (folder / "res-lonely.png").write_bytes((folder / "res-a.png").read_bytes())
    Image.fromarray(np.zeros((128, 160), np.uint8)).save(folder / "gt-b.png")
    count, troubles = depth_files.crop(folder, tmp_path / "crops", 64)
    crops = np.load(tmp_path / "crops" / "a.npy")
    assert crops.shape == (6, 3, 64, 64) and count == 6
    assert np.array_equal(crops[-1, 0], np.asarray(Image.open(folder / "gt-a.png"))[-64:, -64:])
    assert len(troubles) == 2 and any("8 bits" in t for t in troubles) and any("no truth" in t for t in troubles)


def test_train_then_test_then_statistics(folder, tmp_path):
    crops, models, out = tmp_path / "crops", tmp_path / "models", tmp_path / "out"
    with pytest.raises(UnveilError, match="no crops"):
        depth_files.train(crops, models)
    depth_files.crop(folder, crops, 64)
    options = {"network_options": {"features": [8, 8]}, "precision": "32-true"}
    fit = depth_files.train(crops, models, infrared=True, epochs=1, **options)
    assert fit.options.channels == ("nearness", "mask", "infrared") and "StereoCamera" in fit.options.recipe
    newest = depth_files.newest(models, False)
    assert newest == models / "unet_infrared" / "weights.safetensors"
    (folder / "left-b.png").unlink()
    table, troubles = depth_files.test(folder, out, weights.load(newest)[0])
    assert list(table["name"]) == ["a"] and len(troubles) == 1
    answer = depth_files.read_depth(out / "a.png")
    assert answer.shape == (128, 160) and (answer > 0).all()
    table, troubles = depth_files.statistics(folder, out)
    assert {"holes", "rmse", "edge"} <= set(table) and not troubles
    assert (out / "statistics.png").is_file() and (out / "statistics.csv").is_file()


def test_an_empty_folder_gives_an_empty_table_and_no_model_an_error(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    table, troubles = depth_files.test(tmp_path / "empty", tmp_path / "out", small(False))
    assert table.empty and not troubles
    monkeypatch.setattr(project, "weights_dir", lambda: tmp_path)
    with pytest.raises(UnveilError, match="no model"):
        depth_files.newest(tmp_path / "models", False)


def test_depth_is_read_in_metres_from_all_its_kinds(tmp_path):
    values = np.array([[0, 1.5, np.nan], [-1, 0.25, 3]])
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "b.npy", (1000 * np.nan_to_num(values.clip(0))).astype(np.uint16))
    depth_files.write_depth(tmp_path / "c.png", np.nan_to_num(values.clip(0)))
    for name in ("a.npy", "b.npy", "c.png"):
        assert depth_files.read_depth(tmp_path / name) == pytest.approx(np.array([[0, 1.5, 0], [0, 0.25, 3]]))
    Image.fromarray(np.full((2, 2), 51, np.uint8)).save(tmp_path / "left.png")
    assert depth_files.read_infrared(tmp_path / "left.png") == pytest.approx(0.2)


def test_what_a_network_answers_is_depth_in_metres(pairs):
    frame = pairs.frames[0]
    answer = depth.restored(small(True), frame[1] / 1000, frame[2] / np.float32(255))
    assert answer.shape == frame.shape[1:] and (answer > 0.3).all()
    assert metres(nearness(answer)) == pytest.approx(answer, rel=1e-5)


@pytest.mark.parametrize("name", ["unet", "unet_infrared", "gan", "autoencoder"])
def test_shipped_networks_beat_the_nearest_fill(name, tmp_path_factory):
    path = project.weights_dir() / depth.TASK / f"{name}.safetensors"
    model, options = weights.load(path)
    test = depth.simulate(tmp_path_factory.getbasetemp() / "shipped", 1, seed=1)
    x, target = depth.DepthPairs(test.frames, test.ids, options.in_channels == 3).item(
        0, np.random.default_rng(0), None
    )
    with torch.inference_mode():
        ours = depth.measures(model(torch.from_numpy(x)[None])[0].numpy(), target)
    plain = depth.measures(depth.nearest(x), target)
    assert ours["rmse"] < plain["rmse"] and ours["measured_mae"] < plain["measured_mae"]


@pytest.mark.skipif(not SIBLINGS.is_dir(), reason="UNVEIL_SIBLINGS names no folder with real depth frames")
def test_real_frames_at_rest_do_not_become_more_restless():
    model = weights.load(project.weights_dir() / depth.TASK / "unet.safetensors")[0]
    shots = [depth_files.read_depth(p) for p in sorted((SIBLINGS / "realsense_repeats").glob("pose8_*.png"))]
    before, after = depth_results.spread(shots), depth_results.spread([depth.restored(model, shot) for shot in shots])
    assert after < before


def test_restlessness_is_that_of_what_a_model_does(tmp_path):
    rng = np.random.default_rng(0)
    scene = np.full((40, 60), 1.0, np.float32)
    for number in range(3):
        depth_files.write_depth(tmp_path / f"room_{number}.png", scene + rng.normal(0, 0.01, scene.shape))
    assert depth_results.restlessness(lambda x: x[:1], tmp_path) == pytest.approx(100, abs=2)
    assert depth_results.restlessness(depth.tv, tmp_path) < 70


@pytest.mark.slow
def test_the_study_varies_frames_infrared_and_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(project, "weights_dir", lambda: tmp_path)
    frames = depth.simulate(tmp_path, 2, seed=3, camera=CAMERA)
    table = depth_results.study(frames, frames, tmp_path / "study", (2,), (0, 1), 0.01)
    assert len(table) == 4 and set(table["infrared"]) == {False, True}
    assert len(pd.read_csv(tmp_path / "depth" / "study.csv")) == 4
