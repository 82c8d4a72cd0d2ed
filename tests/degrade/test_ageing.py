"""Ageing: reproducible, gray, and honest about what is lost."""

import numpy as np
import pytest

from unveil.degrade import ageing
from unveil.degrade.ageing import Ageing


@pytest.fixture(scope="module")
def picture():
    rows, columns = np.mgrid[:96, :128].astype(np.float32)
    return np.stack([columns / 127, rows / 95, 0.5 + 0.4 * np.sin(columns / 9)]).astype(np.float32)


def test_same_generator_same_print(picture):
    aged = [Ageing()(picture, np.random.default_rng(3)) for _ in range(2)]
    assert np.array_equal(*aged)
    assert not np.array_equal(aged[0], Ageing()(picture, np.random.default_rng(4)))
    assert aged[0].shape == (1, 96, 128) and aged[0].dtype == np.float32
    assert 0 <= aged[0].min() and aged[0].max() <= 1


def test_gray_of_colour_and_of_gray(picture):
    gray = ageing.luminance(picture)
    np.testing.assert_allclose(gray[0], np.tensordot(ageing.LUMA, picture, 1), rtol=1e-6)
    assert ageing.luminance(gray) is gray
    assert np.array_equal(Ageing()(gray, np.random.default_rng(0)), Ageing()(picture, np.random.default_rng(0)))


def test_outside_the_mask_nothing_but_fading_and_grain_happened(picture):
    steps = Ageing().steps(picture, np.random.default_rng(1))
    kept = steps["mask"] == 0
    assert steps["mask"].any() and set(np.unique(steps["mask"])) == {0, 1}
    # Covers of at most a quarter leave a trace outside the mask, and only near it.
    changed = np.abs(steps["damage"] - steps["grain"]) > 1e-6
    assert (changed & kept).mean() < 0.05
    assert list(steps)[:4] == ["luminance", "gamma", "blur", "fading"]


def test_mean_damage_is_a_few_percent():
    flat = np.full((1, 256, 256), 0.5, np.float32)
    lost = [Ageing().with_mask(flat, np.random.default_rng(seed))[1].mean() for seed in range(30)]
    assert 0.01 < np.mean(lost) < 0.05


def test_grain_is_strongest_in_mid_grays_and_correlated():
    levels = np.repeat(np.float32([0.02, 0.5, 0.98]), 200)[None, None].repeat(300, 1)
    plain = Ageing(gamma=0, stain=0, black=(0, 0), white=(1, 1), grain=(0.05, 0.05), grain_size=(0.8, 0.8))
    grain = (lambda s: s["grain"] - s["blur"])(plain.steps(levels, np.random.default_rng(0)))[0]
    dark, middle, light = (grain[:, start + 50 : start + 150] for start in (0, 200, 400))
    assert middle.std() > 1.5 * max(dark.std(), light.std())
    assert np.corrcoef(middle[:, :-1].ravel(), middle[:, 1:].ravel())[0, 1] > 0.4


def test_strength_scales_the_recipe(picture):
    mild, strong = (Ageing().scaled(s) for s in (0.3, 2.0))
    error = [np.mean((op(picture, np.random.default_rng(5)) - ageing.luminance(picture)) ** 2) for op in (mild, strong)]
    assert error[0] < error[1]
    nothing = Ageing().scaled(0)
    np.testing.assert_allclose(nothing(picture, np.random.default_rng(5)), ageing.luminance(picture), atol=1e-6)
    assert eval(repr(mild), {"Ageing": Ageing}) == mild


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 3)])
def test_tiny_pictures(size):
    aged, mask = Ageing().with_mask(np.full((3, *size), 0.5, np.float32), np.random.default_rng(0))
    assert aged.shape == mask.shape == (1, *size)
