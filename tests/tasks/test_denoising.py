"""Denoising: noise of any strength, pictures of any kind, the command's files."""

import numpy as np
import pytest

from unveil.restore import metrics
from unveil.tasks import common, denoising, photos


@pytest.fixture(scope="module")
def picture():
    return photos.unit(photos.samples(["chelsea"])[0])[:, 60:150, 100:196]


def test_noise_of_any_strength_and_gray_stays_gray(picture):
    op = denoising.AnyNoise()
    levels = [float((op(picture, np.random.default_rng(i)) - picture).std()) for i in range(20)]
    assert 0 <= min(levels) < 0.05 and 0.15 < max(levels) < 0.21
    y = op(np.repeat(picture[:1], 3, axis=0), np.random.default_rng(0))
    assert np.array_equal(y[0], y[1]) and np.array_equal(y[0], y[2])


def test_small_pictures_are_the_same_every_time():
    one, again = denoising.small_pictures(9), denoising.small_pictures(9)
    assert all(np.array_equal(one[i], again[i]) and one[i].shape == (3, 36, 36) for i in (0, 5))
    gray = denoising.gray(one)[5]
    assert np.array_equal(gray[0], gray[2]) and gray.dtype == np.uint8


@pytest.mark.parametrize("name", list(denoising.PRESETS))
def test_the_shipped_networks_take_the_noise_away(name, picture):
    network = common.load("denoising", name)
    noisy = denoising.NOISE(picture, np.random.default_rng(0))
    assert metrics.psnr(denoising.denoise(network, noisy), picture) > 26
    assert common.file("denoising", name).stat().st_size <= 3e6


def test_the_deep_network_is_blind(picture):
    network, rng = common.load("denoising", "deep"), np.random.default_rng(0)
    for sigma, least in ((0.0, 36), (0.05, 31), (0.2, 25)):
        noisy = picture + np.float32(sigma) * rng.standard_normal(picture.shape, dtype=np.float32)
        assert metrics.psnr(denoising.denoise(network, noisy), picture) > least


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (9, 31)])
def test_every_kind_of_picture(channels, size):
    given = np.random.default_rng(0).random((channels, *size), dtype=np.float32)
    y = denoising.denoise(common.load("denoising", "plain"), given)
    assert y.shape == given.shape and (channels in (1, 3) or np.array_equal(y[-1], given[-1]))


def test_the_command_writes_three_models_and_a_comparison(tmp_path, picture):
    noisy = denoising.NOISE(picture[:, :40, :40], np.random.default_rng(0))
    file = photos.write(tmp_path / "noisy.png", noisy, bits=16)
    assert denoising.run([file], tmp_path / "out") == []
    names = {"Model1.png", "Model2.png", "Model3.png", "Deep.png", "comparison.png"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == names
    assert photos.bits(photos.read(tmp_path / "out" / "Deep.png")) == 16
    with pytest.raises(photos.UnveilError, match="exists already"):
        denoising.run([file], tmp_path / "out")


def test_filters_get_the_strength_that_suits(picture):
    pairs = denoising.noisy(photos.samples(["chelsea"]), 1, 64)
    filters = denoising.tuned(pairs)
    scores = {
        name: metrics.psnr(method(pairs[0][0].numpy()).clip(0, 1), pairs[0][1]) for name, method in filters.items()
    }
    assert min(scores, key=scores.get) == "noisy" and max(scores.values()) > 25
