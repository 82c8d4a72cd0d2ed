"""Persons: masks of truths, objects found and invented, the region's PSNR, contrast, a matched filter."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from unveil.errors import UnveilError
from unveil.restore.metrics import evaluate, psnr
from unveil.tasks.forest import persons
from unveil.tasks.forest.persons import Detection, ObjectRule, contrast_to_noise, detect, region_psnr, segment

GROUND = 0.4


def scene(level: float = 0.9, box: tuple[slice, slice] = np.s_[20:32, 20:30]) -> np.ndarray:
    """A plain ground with one bright box of 12×10 pixels."""
    image = np.full((64, 64), GROUND)
    image[box] = level
    return image


MASK = scene() > 0.5


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
    assert contrast_to_noise(1 - image, mask, margin=4, gap=4) == pytest.approx(-5, rel=1e-12)
    plain = np.full((40, 40), 50, np.uint8)
    plain[mask] = 57
    assert contrast_to_noise(plain, mask) == pytest.approx(7), "in gray levels where the background is plain"
    assert np.isnan(contrast_to_noise(plain, np.zeros_like(mask)))
    with pytest.raises(UnveilError, match="8 to 40 pixels around"):
        contrast_to_noise(plain, np.ones_like(mask))


def test_found_shifted_and_missed():
    assert detect(scene(), MASK) == Detection(1.0, 1.0, 0)
    shifted = detect(np.roll(scene(), 5, axis=1), MASK)
    assert shifted == (pytest.approx(5 / 15), 0, 0)
    assert detect(np.full((64, 64), GROUND), MASK) == Detection(0.0, 0.0, 0)
    alone = detect(scene(), np.zeros_like(MASK))
    assert np.isnan([alone.iou, alone.found]).all() and alone.false_objects == 1


def test_false_objects_lie_away_from_the_region():
    prediction = scene()
    prediction[50:60, 50:60] = 0.9
    prediction[50:55, 5:10] = 0.9
    assert detect(prediction, MASK) == Detection(1.0, 1.0, 1), "25 pixels are too few for an object"
    near = scene()
    near[20:32, 33:43] = 0.9
    assert detect(near, MASK) == (pytest.approx(0.5), 1, 0)


def test_faint_strong_and_blurred_objects_are_cut_by_their_own_level():
    image = np.full((64, 64), 0.8)
    image[MASK] = 0.86
    assert detect(image, MASK).iou == 1
    assert detect(ndimage.gaussian_filter(scene(1.0), 1.5), MASK).iou > 0.75
    both = scene(1.0)
    both[50:60, 50:60] = GROUND + 0.1
    assert segment(both).max() == 2
    assert segment(both, ObjectRule(contrast=0.2)).max() == 1
    assert segment(1 - scene()).max() == 0, "a person is warm"


def test_a_matched_filter_locates_what_has_no_clean_outline():
    rng = np.random.default_rng(0)
    textured, flat = GROUND + 0.3 * ndimage.gaussian_filter(rng.standard_normal((64, 64)), 1), np.full((64, 64), GROUND)
    textured[MASK] += 0.5
    assert persons.located(textured, scene()) == 1
    assert detect(textured, MASK).false_objects > 0
    assert persons.located(np.roll(scene(), 20, axis=1), scene()) == 0
    assert persons.located(flat, scene()) == 0
    assert np.isnan(persons.located(textured, flat))


class Truths:
    """Three truths, the last without a person; the input is the truth with noise."""

    ids = ["a", "b", "c"]
    targets = [scene(), scene(box=np.s_[5:17, 40:50]), np.full((64, 64), GROUND)]

    def __len__(self):
        return 3

    def __getitem__(self, i):
        target = torch.from_numpy(np.rint(255 * self.targets[i]).astype(np.float32) / 255)[None]
        noise = torch.from_numpy(np.random.default_rng(i).standard_normal((1, 64, 64)).astype(np.float32))
        return (target + 0.02 * noise).clamp(0, 1), target


def test_tables_and_their_summary():
    table = evaluate(lambda x: x[0], Truths(), persons.metrics())
    columns = ["id", "psnr", "ssim", "mse", "region_psnr", "iou", "found", "false_objects", "milliseconds"]
    assert list(table.columns) == columns
    assert table["found"].tolist()[:2] == [1, 1] and table.loc[2, ["region_psnr", "iou", "found"]].isna().all()
    table.loc[0, "region_psnr"], table.loc[2, "false_objects"] = 60, 3
    summary = persons.summary(table.assign(model="noisy"))
    row = summary.loc["noisy"]
    assert (row["images"], row["persons"], row["empty_false"]) == (3, 2, 1)
    assert row["region_psnr"] == row["region_median"] == pytest.approx(table["region_psnr"][:2].mean())
    assert row["psnr"] == pytest.approx(table["psnr"].mean())


def test_a_mask_must_fit():
    with pytest.raises(UnveilError, match="bool mask"):
        detect(scene(), MASK.astype(int))
    with pytest.raises(UnveilError, match="bool mask"):
        region_psnr(scene(), scene(), MASK[1:])


def test_numbers_of_the_course_pairs(reference):
    """A flat image at the true ground reaches about 34 dB in the full frame, and shows why that says little."""
    truths = [np.asarray(Image.open(path)) for path in sorted((reference / "course_pairs").glob("sample_*/gt.png"))]
    masks = [persons.person_mask(truth) for truth in truths]
    flats = [np.full(truth.shape, np.median(truth) / 255) for truth in truths]
    assert 33 < np.mean([psnr(flat, truth) for flat, truth in zip(flats, truths, strict=True)]) < 36
    assert np.mean([region_psnr(*three) for three in zip(flats, truths, masks, strict=True)]) < 15
    assert min(detect(truth, mask).iou for truth, mask in zip(truths, masks, strict=True)) > 0.6
