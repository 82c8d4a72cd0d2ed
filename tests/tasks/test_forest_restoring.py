"""Folders restored, and runs scored beside all baselines."""

import io
import json
import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from unveil.__main__ import main
from unveil.aos import archives, integrator, simulator
from unveil.aos.camera import course_rig
from unveil.aos.images import to_uint8
from unveil.errors import UnveilError
from unveil.restore import weights as kept
from unveil.restore.networks import NETWORKS
from unveil.restore.options import Options
from unveil.show import figures
from unveil.tasks.forest import restoring


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small untrained network for five planes."""
    torch.manual_seed(0)
    small = {"features": [4, 8], "unshuffle": 2}
    options = Options(network="unet", network_options=small, channels=integrator.HEIGHTS, in_channels=5)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    kept.save(path, options.build(), options)
    return path


@pytest.fixture
def planes(tmp_path):
    """A folder of integral images named by height, 90 × 121 pixels, with a truth."""
    folder = tmp_path / "planes"
    folder.mkdir()
    run = simulator.simulate_run(3, 0, density=100, pose="laying")
    images = to_uint8(integrator.integrate(run.views, course_rig(), [0, 0.3, 0.6, 1.0, 1.5, 2.0]).image)
    for height, image in zip((0, 30, 60, 100, 150, 200), images, strict=True):
        Image.fromarray(image[100:190, 60:181]).save(folder / f"integral_{height:03d}cm.png")
    Image.fromarray(run.truth[100:190, 60:181]).save(folder / "gt.png")
    return folder


@pytest.fixture
def views(tmp_path):
    """A folder of the 11 views of a run and its truth."""
    run = simulator.simulate_run(3, 4, density=100, pose="laying")
    folder = tmp_path / "run"
    folder.mkdir()
    for i, view in enumerate(run.views):
        Image.fromarray(view).save(folder / f"0_4_pose_{i}_thermal.png")
    Image.fromarray(run.truth).save(folder / "0_4_GT_pose_0_thermal.png")
    return folder


def restore(*parts):
    return main(["restore", *map(str, parts)])


def test_a_folder_of_planes(planes, weights, tmp_path, capsys):
    out = tmp_path / "out"
    assert restore(planes, "--out", out, "--weights", weights) == 0
    said = capsys.readouterr().out
    assert "0.3 m for 0.2 m" in said and "1.5 m for 1.4 m" in said and "restored" in said and "flat steady" in said
    picture = Image.open(out / "prediction.png")
    assert picture.mode == "L" and picture.size == (121, 90)
    assert {path.name for path in out.iterdir()} == {"prediction.png", "comparison.png"}
    assert restore(planes, "--out", out, "--weights", weights) == 0, "a second call replaces"


def test_the_truth_is_for_comparison_only(planes, weights, tmp_path):
    restoring.restore_folders(planes, tmp_path / "a", weights)
    (planes / "gt.png").unlink()
    (result,) = restoring.restore_folders(planes, tmp_path / "b", weights)
    assert result.metrics is None
    assert (tmp_path / "a" / "prediction.png").read_bytes() == (tmp_path / "b" / "prediction.png").read_bytes()


def test_views_go_to_the_multi_view_network(views, planes, tmp_path, capsys):
    (result,) = restoring.restore_folders(views, tmp_path / "out")
    assert "multi_view: 11 views registered on 0.2, 1.8 m" in result.note
    scores = result.metrics.drop(index="flat steady (planes)")
    assert scores.loc["restored", "psnr"] > scores.drop(index="restored")["psnr"].max() + 3
    assert restore(planes, "--out", tmp_path / "planes_out") == 0
    assert "focal_stack: planes" in capsys.readouterr().out
    assert restore(planes, "--out", tmp_path / "none", "--weights", restoring.shipped()["multi_view"]) == 1
    assert "needs a run's views" in capsys.readouterr().err


def test_a_bad_folder_does_not_harm_the_others(planes, weights, tmp_path, capsys):
    many = tmp_path / "many"
    for name in ("bad", "good", "other"):
        shutil.copytree(planes, many / name)
    (many / "bad" / "integral_060cm.png").write_bytes(b"\x89PNG broken")
    capsys.readouterr()
    assert restore(many, "--out", tmp_path / "out", "--weights", weights) == 1
    said = capsys.readouterr()
    assert "bad: not restored" in said.err and "integral_060cm.png" in said.err and "\n" not in said.err.strip()
    assert "2 runs: mean PSNR" in said.out
    assert (tmp_path / "out" / "good" / "prediction.png").exists() and not (tmp_path / "out" / "bad").exists()


@pytest.fixture
def batch(tmp_path):
    """Three runs of 64 × 64 pixels whose files lie in one folder; the last lacks a view."""
    folder = tmp_path / "batch"
    folder.mkdir()
    for number, pose in enumerate(("laying", "sitting", "none")):
        run = simulator.simulate_run(3, number, density=0, pose=pose)
        for i, view in enumerate(run.views[: 11 if number < 2 else 10]):
            Image.fromarray(np.ascontiguousarray(view[:64, :64])).save(folder / f"0_{number}_pose_{i}_thermal.png")
        Image.fromarray(np.ascontiguousarray(run.truth[:64, :64])).save(folder / f"0_{number}_GT_pose_0_thermal.png")
    return folder


def test_a_folder_of_many_runs(batch, weights, tmp_path, capsys):
    assert restore(batch, "--out", tmp_path / "out", "--weights", weights) == 1
    said = capsys.readouterr()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"0_0", "0_1"}
    assert "0_2: not restored" in said.err and "missing: pose_10" in said.err and "2 runs: mean PSNR" in said.out
    alone = tmp_path / "alone"
    alone.mkdir()
    for path in batch.glob("0_1_*"):
        shutil.copy(path, alone)
    restore(alone, "--out", tmp_path / "o", "--weights", weights)
    same = [(place / "prediction.png").read_bytes() for place in (tmp_path / "o", tmp_path / "out" / "0_1")]
    assert same[0] == same[1]


def test_a_zip_of_runs_and_folders(batch, planes, weights, tmp_path, capsys):
    archive = tmp_path / "mixed.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for path in [*batch.iterdir(), *planes.iterdir()]:
            out.write(path, f"../{path.parent.name}/{path.name}")
    content = bytearray(archive.read_bytes())
    at = content.index(b"0_1_pose_4_thermal.png") + 60
    content[at] ^= 255
    archive.write_bytes(content)
    assert restore(archive, "--out", tmp_path / "out", "--weights", weights) == 1
    said = capsys.readouterr().err
    assert "0_1: not restored" in said and "0_1_pose_4_thermal.png" in said
    assert f"0_2: not restored: {archive}/batch/0_2: of the views" in said, "the temporary folder is not named"
    made = {str(path.parent.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("prediction.png")}
    assert made == {"batch/0_0", "planes"}, "below the folder asked for, whatever the archive says"
    (tmp_path / "bad.zip").write_bytes(b"no archive")
    assert restore(tmp_path / "bad.zip", "--out", tmp_path / "out") == 2
    assert "bad.zip" in capsys.readouterr().err


def test_a_flight_in_a_zip(weights, tmp_path):
    run, rig = simulator.simulate_run(3, 0, density=0, pose="none"), course_rig()
    poses = {"imagefiles": [f"{i}.png" for i in range(4)], "views": rig.extrinsics[:4].tolist(), "fov": 50.0}
    with zipfile.ZipFile(tmp_path / "flight.zip", "w") as out:
        out.writestr("poses.json", json.dumps(poses))
        for i, view in enumerate(run.views[:4]):
            file = io.BytesIO()
            Image.fromarray(view).save(file, "PNG")
            out.writestr(f"images/{i}.png", file.getvalue())
    (done,) = restoring.restore_folders(tmp_path / "flight.zip", tmp_path / "out", weights)
    assert not done.error and (tmp_path / "out" / "prediction.png").is_file()


def test_a_person_has_a_row_and_a_box(planes, weights, tmp_path, monkeypatch):
    picture = np.full((90, 121), 0.3, np.float32)
    picture[20:40, 30:38], picture[60:75, 90:100] = 0.9, 0.8
    monkeypatch.setattr(restoring, "predict", lambda model, x, **more: picture)
    drawn = []
    monkeypatch.setattr(figures, "withdraw", drawn.append)
    (done,) = restoring.restore_folders(planes, tmp_path / "out", weights)
    assert "person 1" in done.note and "person 2" in done.note and "presence" not in done.note, "it has no gate"
    first, *_ = drawn[0].axes
    assert len(drawn[0].axes) == 9 and len(first.patches) == 2
    people = restoring._people((255 * picture).astype(np.uint8), np.where(picture == np.float32(0.8), 0.97, 0.6))
    assert people == {"person 1 presence 0.97": (60, 90, 15, 10), "person 2 presence 0.60": (20, 30, 20, 8)}


def test_presence_is_the_gates_in_any_size():
    torch.manual_seed(0)
    model = NETWORKS["level"](5, features=(4, 8), blocks=(1, 1), gate=(0.3, 0.5))
    x = torch.rand(1, 5, 24, 32)
    asked = restoring.Part(model, 2)
    np.testing.assert_allclose(asked(x).detach(), torch.sigmoid(model.answer(x)[2]).detach())
    assert asked(x[..., :21, :30]).shape == (1, 1, 21, 30)


def test_tiny_pictures_beside_its_own_outputs(planes, weights, tmp_path, capsys):
    for path in planes.iterdir():
        Image.open(path).crop((0, 0, 7, 9)).save(path)
    for _ in range(2):
        assert restore(planes, "--out", tmp_path, "--weights", weights) == 0
    assert restore(tmp_path, "--out", tmp_path / "out", "--weights", weights) == 0
    assert Image.open(tmp_path / "out" / "planes" / "prediction.png").size == (7, 9)


def test_large_pictures_are_restored_in_tiles(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(restoring, "TILE", 64)
    seen = []
    monkeypatch.setattr(restoring, "predict", lambda model, x, **more: seen.append(more["tile"]) or x[0] / 255)
    for side in (80, 200):
        stack = np.zeros((5, side, side), np.uint8)
        folder = restoring.folders.Folder(tmp_path, integrator.HEIGHTS, stack, None, None)
        restoring._restore(folder, tmp_path, restoring.load(weights))
    assert seen == [None, 64]


def test_weights_of_something_else(weights, tmp_path):
    model, options = kept.load(weights)
    named = Options.from_dict({**vars(options), "channels": ("red", "green", "blue", "near", "far")})
    kept.save(tmp_path / "colours.safetensors", model, named)
    with pytest.raises(UnveilError, match="colours.*no focal heights"):
        restoring.load(tmp_path / "colours.safetensors")


def test_baselines_by_hand():
    stack = np.random.default_rng(0).random((5, 20, 20)).astype(np.float32)
    stack[:, :3] = 0.25
    made = {name: answer(stack) for name, answer in restoring.baselines(integrator.HEIGHTS).items()}
    np.testing.assert_array_equal(made["plane 1 m"], stack[2])
    np.testing.assert_array_equal(made["maximum"], stack.max(0))
    np.testing.assert_array_equal(made["median"], np.sort(stack, 0)[2])
    assert (made["flat median"] == np.sort(stack.ravel())[999]).all()
    assert (made["flat steady (planes)"] == 0.25).all(), "the only pixels that do not change"


@pytest.mark.slow
def test_evaluate_straight_from_archives(weights, tmp_path):
    simulator.simulate(tmp_path, 3, seed=5, incomplete=0, workers=1)
    runs = archives.ArchiveRuns(archives.scan(tmp_path).complete)
    table = restoring.evaluate(weights, runs)
    wanted = {"small", "centre view", "best single view", "flat steady (views)", "flat steady (planes)", "plane 1 m"}
    assert wanted <= set(table["model"])
    assert table.groupby("model", observed=True)["id"].nunique().eq(3).all() and table["density"].notna().all()
    scores = table.pivot(index="id", columns="model", values="mse")
    assert (scores["best single view"] <= scores["centre view"] + 1e-9).all(), "one of those it chooses from"
