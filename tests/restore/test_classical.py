"""The classical ways back: each gains on what it is made for and leaves a flat picture alone."""

import numpy as np
import pytest
from scipy.signal import fftconvolve
from skimage import data

from unveil.errors import UnveilError
from unveil.restore import classical
from unveil.restore.metrics import psnr

CLEAN = np.ascontiguousarray(np.float32(data.chelsea()[60:188, 140:268]).transpose(2, 0, 1) / 255)
NOISY = CLEAN + 0.1 * np.random.default_rng(0).standard_normal(CLEAN.shape).astype(np.float32)
DENOISERS = {  # dB above the noisy picture, at least
    "gaussian": (lambda y: classical.gaussian(y, 1), 6),
    "median": (classical.median, 4),
    "bilateral": (lambda y: classical.bilateral(y, 0.2), 6),
    "tv": (lambda y: classical.tv(y, 0.12), 6),
    "wavelet": (lambda y: classical.wavelet(y, 0.1), 6),
    "non-local means": (lambda y: classical.nonlocal_means(y, 0.1), 6),
}


@pytest.mark.parametrize("name", DENOISERS)
def test_denoisers_gain(name):
    denoise, gain = DENOISERS[name]
    result = denoise(NOISY)
    assert result.shape == CLEAN.shape and result.dtype == np.float32
    assert psnr(result, CLEAN) > psnr(NOISY, CLEAN) + gain
    gray = denoise(NOISY[:1, :90])
    assert gray.shape == (1, 90, 128) and psnr(gray, CLEAN[:1, :90]) > psnr(NOISY[:1, :90], CLEAN[:1, :90]) + 4
    assert np.allclose(denoise(np.full((1, 24, 30), 0.3, np.float32)), 0.3, atol=1e-3)


def test_bilateral_without_a_limit_of_value_is_a_gaussian():
    point = np.zeros((1, 21, 21), np.float32)
    point[0, 10, 10] = 1
    bilateral, gaussian = classical.bilateral(point, 1e3, 2), classical.gaussian(point, 2)
    assert np.abs(bilateral - gaussian).max() < 0.005


def test_a_switching_median_leaves_clean_values():
    rng = np.random.default_rng(0)
    hit = rng.random(CLEAN.shape) < 0.2
    y = np.where(hit, np.float32(rng.random(CLEAN.shape) < 0.5), CLEAN)
    result = classical.switching_median(y)
    assert np.array_equal(result[~hit & (y > 0) & (y < 1)], CLEAN[~hit & (y > 0) & (y < 1)])
    assert psnr(result, CLEAN) > psnr(classical.median(y), CLEAN) + 2 > psnr(y, CLEAN) + 10


def test_anscombe_beats_a_constant_sigma_and_is_unbiased():
    photons, rng = 20, np.random.default_rng(0)
    y = np.float32(rng.poisson(CLEAN * photons) / photons)
    plain = classical.tv(y, 1.2 * float(np.sqrt(CLEAN.mean() / photons)))
    assert psnr(classical.anscombe(y, photons, lambda z, s: classical.tv(z, 1.2 * s)), CLEAN) > psnr(plain, CLEAN)
    dim = np.float32(rng.poisson(0.1 * photons, (1, 300, 300)) / photons)
    mean = classical.anscombe(dim, photons, lambda z, _: np.full_like(z, z.mean()))
    assert mean.mean() == pytest.approx(0.1, rel=0.03)


@pytest.mark.parametrize("shape", ["disc", "diagonal"])
def test_known_blur_is_taken_back(shape):
    grid = np.arange(-4, 5)
    kernel = np.float32(np.hypot(grid[:, None], grid) <= 3.5) if shape == "disc" else np.eye(9, dtype=np.float32)
    kernel /= kernel.sum()
    wide = np.pad(CLEAN, [(0, 0), (4, 4), (4, 4)], "symmetric")
    y = fftconvolve(wide, kernel[None], "valid", axes=(1, 2))
    y += 0.002 * np.random.default_rng(0).standard_normal(y.shape).astype(np.float32)
    for result in (classical.wiener(y, kernel, 0.002), classical.richardson_lucy(y, kernel, 20)):
        assert result.shape == y.shape and result.dtype == np.float32
        assert psnr(np.clip(result, 0, 1), CLEAN) > psnr(y, CLEAN) + 1.5


def test_holes_are_filled():
    hole = np.random.default_rng(0).random(CLEAN.shape[1:]) < 0.3
    y = np.where(hole, 0, CLEAN).astype(np.float32)
    smooth, nearest = classical.inpaint(y, hole), classical.fill_nearest(y, hole)
    assert np.array_equal(nearest[:, ~hole], CLEAN[:, ~hole]) and np.allclose(smooth[:, ~hole], CLEAN[:, ~hole])
    assert psnr(smooth, CLEAN) > psnr(nearest, CLEAN) + 2 > psnr(y, CLEAN) + 10
    island = classical.fill_nearest(np.float32([[[0, 5, 0]]]), np.array([[True, False, True]]))
    assert np.array_equal(island, [[[5] * 3]])
    for wrong in (hole[1:], np.ones_like(hole), hole.astype(int)):
        with pytest.raises(UnveilError, match="bool mask"):
            classical.fill_nearest(y, wrong)
