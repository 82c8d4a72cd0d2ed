"""The shipped test table in words, runs made again, and what notebook 06 measures on them."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from unveil.aos import simulator
from unveil.errors import UnveilError
from unveil.restore.options import Options
from unveil.tasks.forest import restoring, results


def test_the_shipped_table_is_in_words():
    table = results.table()
    assert table["id"].nunique() == 240 and table["model"].cat.categories[0] == "multi-view network"
    assert not [name for name in table["model"].cat.categories if "_" in name]
    counts = table.groupby("model", observed=True).size()
    assert set(counts) == {240}


def test_people_whom_no_baseline_finds():
    found = {"net": [1, 1, 0], "rule": [0, 1, 0], "best single view": [1, 1, 1]}
    rows = [
        {"model": model, "id": str(i), "density": 100, "found": float(value)}
        for model, values in found.items()
        for i, value in enumerate(values)
    ]
    rows += [{"model": "net", "id": "9", "density": 0, "found": 1.0}]
    counts = results.found_by_none(pd.DataFrame(rows), ["net"])
    assert counts.loc["net"].to_dict() == {"found": 2, "found by no baseline": 1, "people": 3}


def test_a_run_of_the_test_set_comes_back_by_seed_and_number():
    run = results.run("0_44")
    pose, density = simulator.stratum(44, balanced=True)
    assert (run.parameters.pose, run.parameters.density) == (pose, density) == ("laying", 200)
    assert results.run("0_44") is run and run.views.shape == (11, 512, 512)
    assert 100 < results.person("0_44").sum() < 5000


def test_hidden_share_and_gain_of_showing_nobody():
    rows = pd.DataFrame({"id": ["0_0", "0_44"], "region_psnr": [20.0, 20.0]})
    gains = results.gains(rows)
    assert gains["hidden"].iloc[0] < 0.2 < 0.5 < gains["hidden"].iloc[1] < 1
    assert (gains["gain"] == gains["region_psnr"] - gains["nobody"]).all() and (gains["nobody"] < 30).all()


def test_standing_out_counts_people_and_the_rest():
    image, box = np.full((96, 96), 0.2), np.zeros((96, 96), bool)
    box[40:52, 40:52] = True
    image[42:50, 42:50] = 0.9
    spotted = image.copy()
    spotted[80:90, 5:15] = 0.8
    table = results.standing_out({"clean": image, "spotted": spotted}, {"A": box})
    assert table["people seen"].tolist() == [1, 1] and table["objects elsewhere"].tolist() == [0, 1]
    assert table.loc["clean", "A"] > 5


def test_a_reference_folder_without_a_truth_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("UNVEIL_REFERENCE", str(tmp_path))
    folder = tmp_path / "course_pairs" / "one"
    folder.mkdir(parents=True)
    for height in (20, 60, 100, 140, 180):
        Image.fromarray(np.full((64, 64), height, np.uint8)).save(folder / f"{height:03d}.png")
    with pytest.raises(UnveilError, match="one: holds no truth"):
        results.course_runs(tmp_path / "out")


def test_what_the_browser_compares():
    torch.manual_seed(0)
    small = {"features": (4, 8), "blocks": (1, 1), "gate": (0.3, 0.5)}
    options = Options(network="level", network_options=small, channels=(0.2, 1.0), in_channels=2)
    seen = results.browsed("0_44", restoring.Weights("small", options.build().eval(), options))
    assert list(seen) == ["single view", "integral", "small", "presence", "truth"]
    assert all(image.shape == (512, 512) and 0 <= image.min() and image.max() <= 1 for image in seen.values())
