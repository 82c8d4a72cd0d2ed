"""The commands as a user calls them: the whole chain on a small sample, and every kind of bad input in one line."""

import dataclasses
import json
import os
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from unveil import project, recipes
from unveil.__main__ import main
from unveil.aos import build, integrator, simulator, stacks
from unveil.restore import _training_old as training


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Archives of 24 runs and their stacks, made by the commands."""
    folder = tmp_path_factory.mktemp("work")
    before = os.environ["UNVEIL_WORK"]
    os.environ["UNVEIL_WORK"] = str(folder)
    archives, store = folder / "data" / "archives", folder / "data" / "stacks"
    made = ["simulate", "--runs", "24", "--balanced", "--seed", "7", "--workers", "1", "--out", str(archives)]
    assert main(made) == 0
    assert main(["integrate", str(archives), "--out", str(store), "--workers", "1"]) == 0
    yield folder
    os.environ["UNVEIL_WORK"] = before


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small untrained network for five planes."""
    torch.manual_seed(0)
    options = training.Options(
        network="unet", network_options={"features": [4, 8], "unshuffle": 2}, channels=integrator.HEIGHTS
    )
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    training.save_weights(path, options.build(), options)
    return path


@pytest.fixture
def planes(tmp_path):
    """A folder of integral images named by height, 90 × 121 pixels, with a truth."""
    folder = tmp_path / "planes"
    folder.mkdir()
    run = simulator.simulate_run(3, 0, density=100, pose="laying")
    from unveil.aos.camera import course_rig

    images = stacks.to_uint8(integrator.integrate(run.views, course_rig(), [0, 0.3, 0.6, 1.0, 1.5, 2.0]).image)
    for height, image in zip((0, 30, 60, 100, 150, 200), images, strict=True):
        Image.fromarray(image[100:190, 60:181]).save(folder / f"integral_{height:03d}cm.png")
    Image.fromarray(run.truth[100:190, 60:181]).save(folder / "gt.png")
    return folder


def fails(capsys, *command):
    """The one line on stderr of a command that must fail."""
    capsys.readouterr()
    assert main([str(part) for part in command]) == 1
    said = capsys.readouterr().err.strip()
    assert said and "\n" not in said and "Traceback" not in said
    return said


def test_the_chain(work, capsys):
    assert main(["scan", str(work / "data" / "archives"), "--verify", "--csv", str(work / "runs.csv")]) == 0
    assert "complete" in capsys.readouterr().out
    table = pd.read_csv(work / "runs.csv")
    store = stacks.open(work / "data" / "stacks")
    assert len(table) == 24 and table["complete"].sum() == len(store) < 24
    out = work / "data" / "checkpoints" / "small"
    options = ["--network", "unet", "--epochs", "1", "--crop", "64", "--out", str(out)]
    assert main(["train", "--stacks", str(store.path), *options]) == 0
    assert "best validation PSNR" in capsys.readouterr().out
    scores = work / "scores.csv"
    command = [
        "evaluate",
        "--weights",
        str(out / "weights.safetensors"),
        "--stacks",
        str(store.path),
        "--out",
        str(scores),
    ]
    assert main(command) == 0
    scored = pd.read_csv(scores)
    parts = project.sample_split(store)
    assert set(scored["id"]) == set(parts["test"]) and not set(scored["id"]) & set(parts["train"])
    assert {"weights", "flat median", "plane 1 m"} <= set(scored["model"])


def test_prune_is_dry_unless_told(work, tmp_path, capsys):
    copy = tmp_path / "archives"
    shutil.copytree(work / "data" / "archives", copy)
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    assert main(["prune", str(copy)]) == 0
    assert before == {path.name: path.read_bytes() for path in copy.iterdir()}
    assert main(["prune", str(copy), "--yes", "--all-named"]) == 0
    assert main(["scan", str(copy)]) == 0
    capsys.readouterr()
    main(["scan", str(copy), "--csv", str(tmp_path / "after.csv")])
    assert pd.read_csv(tmp_path / "after.csv")["complete"].all()


def test_restore_a_folder_of_planes(planes, weights, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["restore", str(planes), "--out", str(out), "--weights", str(weights)]) == 0
    said = capsys.readouterr().out
    assert "0.3 m for 0.2 m" in said and "1.5 m for 1.4 m" in said and "restored" in said and "flat median" in said
    picture = Image.open(out / "prediction.png")
    assert picture.mode == "L" and picture.size == (121, 90)
    assert {path.name for path in out.iterdir()} == {"prediction.png", "comparison.png"}
    assert main(["restore", str(planes), "--out", str(out), "--weights", str(weights)]) == 0, "a second call replaces"


def test_restore_uses_the_truth_for_comparison_only(planes, weights, tmp_path):
    with_truth, without = tmp_path / "a", tmp_path / "b"
    recipes.restore_folders(planes, with_truth, weights)
    (planes / "gt.png").unlink()
    (result,) = recipes.restore_folders(planes, without, weights)
    assert result.metrics is None
    assert (with_truth / "prediction.png").read_bytes() == (without / "prediction.png").read_bytes()


def test_restore_the_views_of_a_run(weights, tmp_path, capsys):
    run = simulator.simulate_run(3, 1, density=0, pose="none")
    folder = tmp_path / "views"
    folder.mkdir()
    for i, view in enumerate(run.views):
        Image.fromarray(view).save(folder / f"0_1_pose_{i}_thermal.png")
    assert main(["restore", str(folder), "--out", str(tmp_path / "out"), "--weights", str(weights)]) == 0
    assert Image.open(tmp_path / "out" / "prediction.png").size == (512, 512)
    # Without trees every plane is the ground, and the untrained network answers with the planes' mean.
    restored = np.asarray(Image.open(tmp_path / "out" / "prediction.png")).astype(int)
    assert np.abs(restored - run.truth).mean() < 3


@pytest.fixture
def run_folder(tmp_path):
    """A folder of the 11 views of a run and its truth."""
    run = simulator.simulate_run(3, 4, density=100, pose="laying")
    folder = tmp_path / "run"
    folder.mkdir()
    for i, view in enumerate(run.views):
        Image.fromarray(view).save(folder / f"0_4_pose_{i}_thermal.png")
    Image.fromarray(run.truth).save(folder / "0_4_GT_pose_0_thermal.png")
    return folder


def test_views_go_to_the_multi_view_network(run_folder, planes, tmp_path, capsys):
    assert main(["restore", str(run_folder), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "multi_view: 11 views registered on 0.2, 1.8 m" in said
    (result,) = recipes.restore_folders(run_folder, tmp_path / "again")
    scores = result.metrics.set_index("image")
    assert scores.loc["restored", "psnr"] > scores.drop(index="restored")["psnr"].max() + 3
    assert main(["restore", str(planes), "--out", str(tmp_path / "planes_out")]) == 0
    assert "focal_stack: planes" in capsys.readouterr().out
    several = project.weights_dir() / recipes.DEFAULT_VIEW_WEIGHTS
    said = fails(capsys, "restore", planes, "--out", tmp_path / "none", "--weights", several)
    assert "needs a run's 11 views" in said


def test_evaluate_straight_from_archives(work, weights, tmp_path, capsys):
    few = tmp_path / "archives"
    assert (
        main(["simulate", "--runs", "3", "--seed", "5", "--incomplete", "0", "--workers", "1", "--out", str(few)]) == 0
    )
    out = tmp_path / "table.csv"
    assert main(["evaluate", "--archives", str(few), "--weights", str(weights), "--out", str(out)]) == 0
    table = pd.read_csv(out)
    assert {"small", "centre view", "best single view", "plane 1 m", "flat median"} <= set(table["model"])
    assert table.groupby("model")["id"].nunique().eq(3).all() and table["density"].notna().all()
    scores = table.pivot(index="id", columns="model", values="mse")
    registered = scores["best single view"]
    assert (registered <= scores["centre view"] + 1e-9).all(), "the centre view is one of those it chooses from"
    (tmp_path / "empty").mkdir()
    assert "empty" in fails(capsys, "evaluate", "--archives", tmp_path / "empty", "--weights", weights)
    several = project.weights_dir() / recipes.DEFAULT_VIEW_WEIGHTS
    store = work / "data" / "stacks"
    assert "--archives" in fails(capsys, "evaluate", "--stacks", store, "--weights", several, "--subset", "all")


def test_the_gate_is_chosen_on_validation_runs(tmp_path):
    torch.manual_seed(0)
    options = training.Options(
        network="multiview",
        network_options={"planes": 1, "view_features": 4, "features": [4, 8], "blocks": [1, 1], "gate": [0.3, 0.6]},
        channels=(0.2,),
        in_channels=12,
    )
    weights = recipes.Weights("small", options.build(), options)
    with torch.no_grad():
        weights.model.presence.bias.fill_(5.0)
        weights.model.objects.bias.normal_(std=0.5)
    people = build.build_views(tmp_path / "people", 2, 3)
    deserted = build.build_views(tmp_path / "deserted", 2, 4, variation=simulator.Variation(persons=(0, 0)))
    assert all(deserted.parameters(i).pose == "none" for i in range(2))
    gate = recipes.calibrate(weights, people, deserted)
    assert gate in recipes.GATES and weights.model.gate == gate


def test_a_bad_folder_does_not_harm_the_others(planes, weights, tmp_path, capsys):
    many = tmp_path / "many"
    shutil.copytree(planes, many / "good")
    shutil.copytree(planes, many / "bad")
    (many / "bad" / "integral_060cm.png").write_bytes(b"\x89PNG broken")
    capsys.readouterr()
    assert main(["restore", str(many), "--out", str(tmp_path / "out"), "--weights", str(weights)]) == 1
    said = capsys.readouterr()
    assert "bad: not restored" in said.err and "integral_060cm.png" in said.err and "\n" not in said.err.strip()
    assert (tmp_path / "out" / "good" / "prediction.png").exists()
    assert not (tmp_path / "out" / "bad").exists()


def test_bad_archives(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert "empty" in fails(capsys, "scan", tmp_path / "empty")
    assert "absent" in fails(capsys, "scan", tmp_path / "absent")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.zip").write_bytes(b"PK\x03\x04 cut off")
    capsys.readouterr()
    assert main(["scan", str(broken)]) == 1
    said = capsys.readouterr()
    assert "a.zip" in said.out and "a.zip" in said.err
    assert "a.zip" in fails(capsys, "integrate", broken, "--out", tmp_path / "stacks")
    assert not list(tmp_path.glob("stacks/*.npy"))


def test_wrong_heights_and_foreign_stores(work, tmp_path, capsys):
    archives = work / "data" / "archives"
    with pytest.raises(SystemExit):
        main(["integrate", str(archives), "--heights", "low,high"])
    assert "35" in fails(capsys, "integrate", archives, "--out", tmp_path / "x", "--heights", "40")
    said = fails(capsys, "integrate", archives, "--out", work / "data" / "stacks", "--heights", "0.2,0.6")
    assert "0.2" in said
    assert "no-stacks" in fails(capsys, "train", "--stacks", tmp_path / "no-stacks", "--out", tmp_path / "y")


def test_bad_weights(planes, tmp_path, capsys):
    said = fails(capsys, "restore", planes, "--out", tmp_path / "o", "--weights", tmp_path / "none.safetensors")
    assert "none.safetensors" in said
    (tmp_path / "text.safetensors").write_text("these are no weights")
    said = fails(capsys, "restore", planes, "--out", tmp_path / "o", "--weights", tmp_path / "text.safetensors")
    assert "text.safetensors" in said and not (tmp_path / "o").exists()
    assert "there is no preset" in fails(capsys, "train", "--preset", "better", "--out", tmp_path / "p")


def test_unwritable_out(planes, weights, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    capsys.readouterr()
    assert main(["restore", str(planes), "--out", str(tmp_path / "file" / "out"), "--weights", str(weights)]) == 1
    said = capsys.readouterr()
    assert "file" in said.err and "\n" not in said.err.strip()
    assert "file" in fails(capsys, "scan", tmp_path / "file", "--csv", tmp_path / "file" / "runs.csv")


def test_restore_tiny_pictures_beside_its_own_outputs(planes, weights, tmp_path, capsys):
    for path in planes.iterdir():
        Image.open(path).crop((0, 0, 7, 9)).save(path)
    for _ in range(2):
        assert main(["restore", str(planes), "--out", str(tmp_path), "--weights", str(weights)]) == 0
    assert main(["restore", str(tmp_path), "--out", str(tmp_path / "out"), "--weights", str(weights)]) == 0
    assert Image.open(tmp_path / "out" / "planes" / "prediction.png").size == (7, 9)
    (planes / "integral_060cm.png").write_bytes((planes / "integral_060cm.png").read_bytes()[:-12])
    assert "truncated" in fails(capsys, "restore", planes, "--out", tmp_path / "cut", "--weights", weights)


def test_weights_of_something_else(planes, weights, tmp_path, capsys):
    model, options = training.load_weights(weights)
    named = dataclasses.replace(options, channels=("red", "green", "blue", "near", "far"))
    training.save_weights(tmp_path / "colours.safetensors", model, named)
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))
    training.save_weights(tmp_path / "diverged.safetensors", model, options)
    for name in ("colours", "diverged"):
        path = tmp_path / f"{name}.safetensors"
        assert name in fails(capsys, "restore", planes, "--out", tmp_path / "o", "--weights", path)


def test_prune_an_archive_without_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "none.zip", "w"):
        pass
    assert main(["prune", str(tmp_path), "--yes"]) == 0


def test_results_are_plain_json(tmp_path, monkeypatch):
    monkeypatch.setenv("UNVEIL_WORK", str(tmp_path))
    path = recipes.save_results("numbers", {"a": np.float32(0.5), "b": np.int64(3), "c": [1.5]})
    assert json.loads(path.read_text()) == {"a": 0.5, "b": 3, "c": [1.5]}


def test_presets_cover_the_shipped_weights():
    for name, path in recipes.shipped().items():
        preset, (_, options) = recipes.PRESETS[name], training.load_weights(path)
        assert path.stat().st_size <= 12_000_000
        assert options.network == preset.options.network and options.channels == preset.options.channels
        assert options == training.Options.load(path.with_suffix(".json"))
        assert path.with_suffix(".log.csv").exists()
