"""Blur: kernels sum to 1 and stay centred, the adjoint is one, spectra vanish where the docstrings say."""

import numpy as np
import pytest

from unveil.degrade.blur import DefocusBlur, GaussianBlur, MotionBlur, ShakeBlur, Turbulence

BLURS = [GaussianBlur(1.5), DefocusBlur(3.5), MotionBlur(9, 30), ShakeBlur(12, seed=3)]
PICTURE = np.random.default_rng(0).random((3, 31, 44), dtype=np.float32)


@pytest.mark.parametrize("blur", BLURS, ids=repr)
def test_kernel_and_adjoint(blur):
    kernel = blur.kernel()
    grid = np.arange(len(kernel)) - len(kernel) // 2
    assert kernel.shape[0] == kernel.shape[1] and len(kernel) % 2 and kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert abs(kernel.sum(0) @ grid) < 0.01 and abs(kernel.sum(1) @ grid) < 0.01
    x, y = blur(PICTURE), np.random.default_rng(1).random(PICTURE.shape, dtype=np.float32)
    assert x.shape == PICTURE.shape and x.dtype == np.float32 and x.std() < PICTURE.std()
    assert np.vdot(x, y) == pytest.approx(np.vdot(PICTURE, blur.adjoint(y)), rel=1e-5)
    assert np.allclose(blur(np.full((1, 20, 30), 0.7, np.float32)), 0.7, atol=1e-5)


def test_gaussian_has_its_width():
    kernel = GaussianBlur(2).kernel()
    grid = np.arange(len(kernel)) - len(kernel) // 2
    assert kernel.sum(0) @ grid**2 == pytest.approx(4, rel=0.01)


def test_steady_motion_loses_one_frequency_and_nothing_across():
    spectrum = np.abs(np.fft.fft2(MotionBlur(8).kernel(), s=(64, 64)))
    assert spectrum[0, 8] < 0.02 and np.allclose(spectrum[:, 0], 1, atol=1e-5)


def test_defocus_has_a_circle_of_zeros():
    spectrum = np.abs(np.fft.fft2(DefocusBlur(5).kernel(), s=(256, 256)))
    assert spectrum[0, round(256 * 3.8317 / (2 * np.pi * 5))] < 0.02  # first zero of J₁


def test_motion_turns_upwards():
    kernel = MotionBlur(9, 45).kernel()
    corner = len(kernel) // 2 + 3
    assert kernel[len(kernel) - 1 - corner, corner] > 10 * max(kernel[corner, corner], 1e-6)


def test_shake_is_drawn_or_fixed():
    drawn = [ShakeBlur(12)(PICTURE, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert ShakeBlur(12).random and np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    assert not ShakeBlur(12, seed=1).random and np.array_equal(ShakeBlur(12, seed=1)(PICTURE), drawn[2])


def test_turbulence_moves_as_far_as_declared():
    ramp = np.tile(np.linspace(0, 1, 128, dtype=np.float32), (1, 128, 1))
    y = Turbulence(strength=2, scale=8, sigma=1)(ramp, np.random.default_rng(0))
    moved = (y - ramp)[:, :, 12:-12].std() * 127
    assert 1.6 < moved < 2.2 and y.mean() == pytest.approx(0.5, abs=0.01)
    assert np.array_equal(y, Turbulence(2, 8, 1)(ramp, np.random.default_rng(0)))
