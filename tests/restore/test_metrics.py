"""Metrics with known values, predictions of any size, tables."""

import numpy as np
import pandas as pd
import pytest
import torch

from unveil.errors import UnveilError
from unveil.restore import metrics
from unveil.restore.inference import predict, predict_spread
from unveil.restore.metrics import PSNR_CAP, compare, evaluate, mae, mse, psnr, ssim, summarise
from unveil.restore.networks import REDNet, build

GROUND = 0.4
METRICS = {"psnr": psnr, "ssim": ssim, "both": lambda p, t: {"mse": mse(p, t), "mae": mae(p, t)}}


def scene(box: tuple[slice, slice]) -> np.ndarray:
    """A plain ground with one bright box of 12×10 pixels."""
    image = np.full((64, 64), GROUND)
    image[box] = 0.9
    return image


class Pairs:
    """Four items: the object in three places and once not at all; every channel is the target plus noise."""

    def __init__(self, channels: int = 3):
        rng = np.random.default_rng(0)
        empty = np.full((64, 64), GROUND)
        self.targets = [scene(np.s_[20:32, 20:30]), scene(np.s_[5:17, 40:50]), scene(np.s_[40:52, 3:13]), empty]
        noise = 0.02 * rng.standard_normal((4, channels, 64, 64))
        self.inputs = [np.clip(t + n, 0, 1).astype(np.float32) for t, n in zip(self.targets, noise, strict=True)]
        self.ids = ["a", "b", "c", "d"]

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return torch.from_numpy(self.inputs[i]), torch.from_numpy(self.targets[i][None].astype(np.float32))


def test_psnr_by_hand():
    black, gray = np.zeros((8, 8)), np.full((8, 8), 0.1)
    assert mse(black, gray) == pytest.approx(0.01)
    assert psnr(black, gray) == pytest.approx(20)
    half = black.copy()
    half[:4] = 0.1
    assert psnr(black, half) == pytest.approx(20 + 10 * np.log10(2))


def test_psnr_of_bytes_tensors_and_equal_images():
    a, b = np.zeros((8, 8), np.uint8), np.full((8, 8), 51, np.uint8)
    assert psnr(a, b) == pytest.approx(-20 * np.log10(0.2))
    assert psnr(torch.zeros(1, 8, 8), torch.full((8, 8), 0.2)) == pytest.approx(-20 * np.log10(0.2))
    assert psnr(a, a) == psnr(a, a + 1e-5) == PSNR_CAP
    assert psnr(np.zeros((8, 8)), np.full((8, 8), 0.5 / 255)) < PSNR_CAP


def test_ssim_is_one_for_equal_and_small_for_unrelated_images():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 32, 32))
    assert ssim(a, a) == pytest.approx(1)
    assert abs(ssim(a, b)) < 0.1


def test_ssim_of_two_constants_by_its_formula():
    """Without variance only the luminance term is left: (2ab + C₁) / (a² + b² + C₁), C₁ = 0.01²."""
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert ssim(np.full((16, 16), 0.2), np.full((16, 16), 0.6)) == pytest.approx(expected)


def test_ssim_of_a_large_picture_is_taken_piece_by_piece(monkeypatch):
    a, b = np.random.default_rng(0).random((2, 3, 80, 40))
    whole = ssim(a, b)
    for rows in (17, 69, 70):
        monkeypatch.setattr(metrics, "SSIM_ROWS", rows)
        assert ssim(a, b) == pytest.approx(whole, abs=1e-12)


def test_predict_takes_any_size_and_gives_images_back():
    model = REDNet(3, layers=2, features=4)
    assert predict(model, np.random.default_rng(0).random((3, 31, 45))).shape == (31, 45)
    several = predict(model, torch.rand(5, 3, 16, 17))
    assert several.shape == (5, 16, 17) and several.dtype == np.float32
    assert 0 <= several.min() <= several.max() <= 1
    assert predict(build("rednet", 3, out_channels=2, layers=2, features=4), torch.rand(3, 8, 8)).shape == (2, 8, 8)


def test_predict_keeps_mode_reads_bytes_and_takes_callables():
    model = REDNet(2, layers=2, features=2).train()
    x = np.full((2, 8, 8), 51, np.uint8)
    assert predict(model, x).shape == (8, 8)
    assert model.training
    np.testing.assert_allclose(predict(lambda stack: stack.max(axis=0), x), 0.2, atol=1e-6)


def _median(stack):
    return np.median(stack, axis=0)


def test_flips_average_and_spread():
    def ramp(stack):
        """A 'model' with an opinion on left and right: its mirrored answers differ by a known amount."""
        return np.tile(np.linspace(0, 1, stack.shape[2], dtype=np.float32), (stack.shape[1], 1))

    x = np.zeros((1, 4, 5), np.float32)
    np.testing.assert_allclose(predict(ramp, x, flips=True), 0.5)
    mean, spread = predict_spread(ramp, x)
    np.testing.assert_allclose(mean, 0.5)
    np.testing.assert_allclose(spread[0], [0.5, 0.25, 0, 0.25, 0.5])
    seen = []
    predict(ramp, np.zeros((2, 1, 4, 5), np.float32), True, tile=4, progress=lambda *now: seen.append(now))
    assert seen == [(n, 16) for n in range(1, 17)], "two pictures of two tiles in four orientations"
    y = torch.rand(3, 9, 8)
    np.testing.assert_array_equal(predict(_median, y, flips=True), predict(_median, y))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_numbers_are_refused(bad):
    x = np.zeros((2, 16, 16), np.float32)
    x[0, 3, 3] = bad
    with pytest.raises(UnveilError, match="NaN or infinity"):
        predict(REDNet(2), x)
    with pytest.raises(UnveilError, match="NaN or infinity"):
        psnr(x[0], x[1])
    with pytest.raises(UnveilError, match="diverged"):
        predict(lambda stack: stack[0] * np.float32(np.nan), np.ones((2, 16, 16), np.float32))


def test_errors_name_the_sizes():
    with pytest.raises(UnveilError, match=r"\(8, 8\) does not fit its target of size \(8, 9\)"):
        psnr(np.zeros((8, 8)), np.zeros((8, 9)))
    assert np.isnan(ssim(np.zeros((8, 8)), np.zeros((8, 8))))
    with pytest.raises(UnveilError, match=r"restores \(C, H, W\)"):
        predict(REDNet(2), np.zeros((8, 8)))
    with pytest.raises(UnveilError, match="3 predictions do not fit the 4 items"):
        evaluate(Pairs().targets[:3], Pairs(), METRICS)
    with pytest.raises(UnveilError, match="no column density"):
        summarise(evaluate(Pairs().targets, Pairs(), METRICS), by="density")


def test_colour_counts_every_channel():
    a = np.zeros((3, 16, 16))
    b = a.copy()
    b[0] = 0.3
    assert mse(a, b) == pytest.approx(0.03) and mae(a, b) == pytest.approx(0.1)
    assert ssim(a, b) == pytest.approx((ssim(a[0], b[0]) + 2) / 3)


def test_evaluate_predictions_that_are_the_truth():
    pairs = Pairs()
    table = evaluate([t.astype(np.float32) for t in pairs.targets], pairs, METRICS)
    assert table.columns.tolist() == ["id", "psnr", "ssim", "mse", "mae", "milliseconds"]
    assert table["id"].tolist() == pairs.ids
    assert (table["psnr"] == PSNR_CAP).all()
    assert table["milliseconds"].isna().all()


def test_compare_and_summarise():
    pairs = Pairs()
    models = {"z mean": lambda x: x.mean(axis=0), "a plane": lambda x: x[0], "truth": pairs.targets}
    table = compare(models, pairs, METRICS)
    assert len(table) == 12
    summary = summarise(table)
    assert summary.index.tolist() == list(models)
    assert summary["images"].tolist() == [4] * 3
    # Three channels with σ = 0.02: their mean has an error of 0.02² / 3.
    assert summary.loc["z mean", "psnr"] == pytest.approx(-10 * np.log10(0.02**2 / 3), abs=0.3)
    rows = table[table["model"] == "a plane"]
    assert summary.loc["a plane", "psnr"] == pytest.approx(rows["psnr"].mean())


def test_summarise_by_strata_keeps_those_without_a_name():
    table = evaluate(lambda x: x[0], Pairs(), METRICS)
    table = table.merge(pd.DataFrame({"id": list("abcd"), "shape": ["box", "box", "rod", None]}), on="id")
    assert summarise(table, ["shape"])["images"].tolist() == [2, 1, 1]


def test_tiles_make_the_whole_image():
    torch.manual_seed(0)
    model = REDNet(2, layers=2, features=4)
    x, seen = torch.rand(2, 70, 50), []
    tiled = predict(model, x, tile=24, overlap=16, progress=lambda *now: seen.append(now))
    np.testing.assert_allclose(tiled, predict(model, x), atol=1e-6)
    assert seen[-1] == (9, 9)
