"""Evaluation: metrics with known values, objects found and invented, predictions of any size, tables."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import ndimage

from unveil.errors import UnveilError
from unveil.restore import evaluation
from unveil.restore._networks_old import REDNet, build
from unveil.restore.evaluation import (
    METRICS,
    PSNR_CAP,
    ObjectRule,
    compare,
    contrast_to_noise,
    evaluate,
    found,
    mse,
    predict,
    predict_spread,
    psnr,
    region_psnr,
    segment,
    ssim,
    summarise,
)

GROUND = 0.4


def scene(level: float = 0.9, box: tuple[slice, slice] = np.s_[20:32, 20:30], size: int = 64) -> np.ndarray:
    """A plain ground with one bright box of 12×10 pixels."""
    image = np.full((size, size), GROUND)
    image[box] = level
    return image


def region(target: np.ndarray) -> np.ndarray:
    assert target.dtype == np.uint8
    return target > 200


MASK = scene() > 0.5


class Pairs:
    """Four items: the object in three places and once not at all; every channel is the target plus noise."""

    def __init__(self, channels: int = 3):
        rng = np.random.default_rng(0)
        empty = np.full((64, 64), GROUND)
        self.targets = [scene(), scene(box=np.s_[5:17, 40:50]), scene(box=np.s_[40:52, 3:13]), empty]
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


def test_region_psnr_counts_the_region_only():
    target, mask = np.zeros((32, 32)), np.zeros((32, 32), bool)
    mask[10:14, 10:14] = True
    prediction = target.copy()
    prediction[mask] = 0.1
    assert region_psnr(prediction, target, mask, margin=0) == pytest.approx(20)
    # One pixel around a 4×4 square (without its corners): 16 of 32 pixels are wrong.
    assert region_psnr(prediction, target, mask, margin=1) == pytest.approx(20 + 10 * np.log10(2))
    prediction[25:] = 1
    assert region_psnr(prediction, target, mask, margin=1) == pytest.approx(20 + 10 * np.log10(2))
    assert np.isnan(region_psnr(prediction, target, np.zeros_like(mask)))


def test_contrast_to_noise_by_hand():
    image = np.full((40, 40), 0.2)
    image[::2] = 0.4
    mask = np.zeros((40, 40), bool)
    mask[16:24, 16:24] = True
    image[mask] = 0.8
    # Around it as many rows of 0.2 as of 0.4: mean 0.3, standard deviation 0.1. What lies beyond or in the gap is mute.
    image[:4] = image[-4:] = 1
    image[12:16, 16:24] = 0.8
    assert contrast_to_noise(image, mask, margin=4, gap=4) == pytest.approx(5, rel=1e-12)
    assert contrast_to_noise(0.5 * image + 0.1, mask, margin=4, gap=4) == pytest.approx(5, rel=1e-12)
    assert contrast_to_noise(1 - image, mask, margin=4, gap=4) == pytest.approx(-5, rel=1e-12)


def test_contrast_to_noise_of_a_plain_background_is_in_gray_levels():
    image = np.full((40, 40), 50, np.uint8)
    mask = np.zeros((40, 40), bool)
    mask[10:20, 10:20] = True
    image[mask] = 57
    assert contrast_to_noise(image, mask) == pytest.approx(7)
    assert np.isnan(contrast_to_noise(image, np.zeros((40, 40), bool)))
    with pytest.raises(UnveilError, match="8 to 40 pixels around"):
        contrast_to_noise(image, np.ones((40, 40), bool))


def test_the_truth_is_found_with_full_iou():
    assert found(scene(), MASK) == evaluation.Detection(1.0, 1.0, 0)


def test_iou_of_a_shifted_object():
    shifted = np.roll(scene(), 5, axis=1)
    result = found(shifted, MASK)
    assert result.iou == pytest.approx(5 / 15)
    assert result.found == 0
    assert result.false_objects == 0


def test_nothing_is_found_on_a_flat_image():
    assert found(np.full((64, 64), GROUND), MASK) == evaluation.Detection(0.0, 0.0, 0)


def test_false_objects_lie_away_from_the_region():
    prediction = scene()
    prediction[50:60, 50:60] = 0.9
    prediction[50:55, 5:10] = 0.9
    result = found(prediction, MASK)
    assert (result.iou, result.found) == (1, 1)
    assert result.false_objects == 1, "25 pixels are too few for an object"
    near = scene()
    near[20:32, 33:43] = 0.9
    assert found(near, MASK).false_objects == 0
    assert found(near, MASK).iou == pytest.approx(0.5)


def test_without_an_object_everything_is_false():
    result = found(scene(), np.zeros_like(MASK))
    assert np.isnan(result.iou) and np.isnan(result.found)
    assert result.false_objects == 1


def test_faint_strong_and_blurred_objects_are_cut_by_their_own_level():
    image = np.full((64, 64), 0.8)
    image[MASK] = 0.86
    assert found(image, MASK).iou == 1
    assert found(ndimage.gaussian_filter(scene(1.0), 1.5), MASK).iou > 0.75
    both = scene(1.0)
    both[50:60, 50:60] = GROUND + 0.1
    assert segment(both).max() == 2


def test_polarity():
    dark = 1 - scene()
    assert segment(dark).max() == 0
    assert found(dark, MASK, ObjectRule(polarity="dark")).iou == 1
    both = scene()
    both[50:60, 50:60] = 0.1
    assert [segment(both, ObjectRule(polarity=p)).max() for p in ("bright", "dark", "either")] == [1, 1, 2]


def test_rules_that_make_no_sense_are_refused():
    with pytest.raises(UnveilError, match="choose bright"):
        ObjectRule(polarity="warm")
    with pytest.raises(UnveilError, match="makes no sense"):
        ObjectRule(contrast=0)


def test_predict_takes_any_size_and_gives_images_back():
    model = REDNet(3, layers=2, features=4)
    assert predict(model, np.random.default_rng(0).random((3, 31, 45))).shape == (31, 45)
    several = predict(model, torch.rand(5, 3, 16, 17), batch=2)
    assert several.shape == (5, 16, 17) and several.dtype == np.float32
    assert 0 <= several.min() <= several.max() <= 1
    assert predict(build("rednet", 3, out_channels=2, layers=2, features=4), torch.rand(3, 8, 8)).shape == (2, 8, 8)


def test_predict_does_not_depend_on_the_batch():
    torch.manual_seed(0)
    model, x = REDNet(2, layers=3, features=4), torch.rand(3, 2, 16, 16)
    together = predict(model, x, batch=3)
    np.testing.assert_allclose(together, np.stack([predict(model, one) for one in x]), atol=1e-6)


def test_predict_keeps_mode_reads_bytes_and_takes_callables():
    model = build("mean", 2).train()
    x = np.full((2, 8, 8), 51, np.uint8)
    np.testing.assert_allclose(predict(model, x), 0.2, atol=1e-6)
    assert model.training
    np.testing.assert_allclose(predict(lambda stack: stack.max(axis=0), x), 0.2, atol=1e-6)


def test_flips_average_and_spread():
    def ramp(stack):
        """A 'model' with an opinion on left and right: its mirrored answers differ by a known amount."""
        return np.tile(np.linspace(0, 1, stack.shape[2], dtype=np.float32), (stack.shape[1], 1))

    x = np.zeros((1, 4, 5), np.float32)
    np.testing.assert_allclose(predict(ramp, x, flips=True), 0.5)
    mean, spread = predict_spread(ramp, x)
    np.testing.assert_allclose(mean, 0.5)
    np.testing.assert_allclose(spread[0], [0.5, 0.25, 0, 0.25, 0.5])
    symmetric = build("median", 3)
    y = torch.rand(3, 9, 8)
    np.testing.assert_array_equal(predict(symmetric, y, flips=True), predict(symmetric, y))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_numbers_are_refused(bad):
    x = np.zeros((2, 16, 16), np.float32)
    x[0, 3, 3] = bad
    with pytest.raises(UnveilError, match="NaN or infinity"):
        predict(build("mean", 2), x)
    with pytest.raises(UnveilError, match="NaN or infinity"):
        psnr(x[0], x[1])
    with pytest.raises(UnveilError, match="diverged"):
        predict(lambda stack: stack[0] * np.float32(np.nan), np.ones((2, 16, 16), np.float32))


def test_errors_name_the_sizes():
    with pytest.raises(UnveilError, match=r"\(8, 8\) does not fit its target of size \(8, 9\)"):
        psnr(np.zeros((8, 8)), np.zeros((8, 9)))
    with pytest.raises(UnveilError, match="11×11"):
        ssim(np.zeros((8, 8)), np.zeros((8, 8)))
    with pytest.raises(UnveilError, match=r"restores \(C, H, W\)"):
        predict(build("mean", 2), np.zeros((8, 8)))
    with pytest.raises(UnveilError, match="bool mask"):
        found(scene(), MASK.astype(int))
    with pytest.raises(UnveilError, match="3 predictions do not fit the 4 items"):
        evaluate(Pairs().targets[:3], Pairs())
    with pytest.raises(UnveilError, match="no column density"):
        summarise(evaluate(Pairs().targets, Pairs()), by="density")


def test_evaluate_predictions_that_are_the_truth():
    pairs = Pairs()
    table = evaluate([t.astype(np.float32) for t in pairs.targets], pairs, region)
    assert table.columns.tolist() == ["id", *METRICS, "milliseconds"]
    assert table["id"].tolist() == pairs.ids
    assert (table["psnr"] == PSNR_CAP).all()
    assert table["ssim"].to_numpy() == pytest.approx(1)
    assert table["found"].tolist()[:3] == [1, 1, 1]
    assert table.loc[3, ["region_psnr", "iou", "found"]].isna().all()
    assert (table["false_objects"] == 0).all()
    assert table["milliseconds"].isna().all()


def test_evaluate_a_model_reports_progress_and_time():
    seen = []
    table = evaluate(build("mean", 3), Pairs(), region, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert (table["milliseconds"] > 0).all()
    # Three channels with σ = 0.02: their mean has an error of 0.02² / 3.
    assert table["psnr"].to_numpy() == pytest.approx(-10 * np.log10(0.02**2 / 3), abs=0.3)


def test_without_region_the_object_columns_stay_empty():
    table = evaluate(build("mean", 3), Pairs())
    assert table[["region_psnr", "iou", "found", "false_objects"]].isna().all(axis=None)
    assert table["psnr"].notna().all()


def test_compare_and_summarise():
    pairs, seen = Pairs(), []
    models = {"z mean": build("mean", 3), "a plane": build("channel", 3), "flat": build("flat", 3)}
    table = compare(models | {"truth": pairs.targets}, pairs, region, progress=lambda *now: seen.append(now))
    assert len(table) == 16 and seen[-1] == (16, 16)
    summary = summarise(table, "model")
    assert summary.index.tolist() == ["z mean", "a plane", "flat", "truth"]
    assert summary["images"].tolist() == [4] * 4 and summary["objects"].tolist() == [3] * 4
    assert summary.loc["z mean", "psnr"] > summary.loc["a plane", "psnr"]
    assert summary.loc["a plane", "region_psnr"] > summary.loc["flat", "region_psnr"] + 10
    assert summary["found"].tolist() == [1, 1, 0, 1]
    rows = table[table["model"] == "a plane"]
    assert summary.loc["a plane", "psnr"] == pytest.approx(rows["psnr"].mean())
    assert summary.loc["a plane", "region_psnr"] == pytest.approx(rows["region_psnr"][:3].mean())


def test_summarise_by_strata_keeps_those_without_a_name():
    table = evaluate(build("mean", 3), Pairs(), region)
    table = table.merge(pd.DataFrame({"id": list("abcd"), "shape": ["box", "box", "rod", None]}), on="id")
    summary = summarise(table, ["shape"])
    assert summary["images"].tolist() == [2, 1, 1]
    assert np.isnan(summary["found"].iloc[-1])
    assert summarise(table)["images"].tolist() == [4]


def test_numbers_of_the_real_pairs(reference):
    """A flat image at the true ground reaches about 34 dB in the full frame, and shows why that says little."""
    scores, regions, overlaps = [], [], []
    for path in sorted((reference / "course_pairs").glob("sample_*/gt.png")):
        truth = np.asarray(Image.open(path))
        mask = ndimage.binary_closing(np.abs(truth - np.median(truth)) > 10, iterations=3)
        labels, _ = ndimage.label(mask)
        sizes = np.bincount(labels.ravel())[1:]
        mask = labels == 1 + sizes.argmax()
        flat = np.full(truth.shape, np.median(truth) / 255)
        scores.append(psnr(flat, truth))
        regions.append(region_psnr(flat, truth, mask))
        overlaps.append(found(truth, mask).iou)
    assert 33 < np.mean(scores) < 36
    assert np.mean(regions) < 15
    assert min(overlaps) > 0.6
