"""Noise: mean and variance as declared, determined by the generator."""

import numpy as np
import pytest

from unveil.degrade.noise import CameraNoise, GaussianNoise, ImpulseNoise, Linear, PoissonNoise, Speckle

LEVEL = 0.4
FLAT = np.full((3, 200, 200), LEVEL, np.float32)
WHITE = 30_000 * 100 / 6400
CASES = {  # operator: mean, variance
    GaussianNoise(0.1): (LEVEL, 0.01),
    PoissonNoise(50): (LEVEL, LEVEL / 50),
    ImpulseNoise(0.2): (0.8 * LEVEL + 0.1, 0.8 * LEVEL**2 + 0.1 - (0.8 * LEVEL + 0.1) ** 2),
    Speckle(8): (LEVEL, LEVEL**2 / 8),
    CameraNoise(6400): (LEVEL, LEVEL / WHITE + (5 / WHITE) ** 2),
}


@pytest.mark.parametrize("op", CASES, ids=repr)
def test_mean_and_variance_are_as_declared(op):
    mean, variance = CASES[op]
    y = op(FLAT, np.random.default_rng(0))
    assert y.dtype == np.float32 and y.shape == FLAT.shape
    assert y.mean() == pytest.approx(mean, abs=4 * np.sqrt(variance / y.size))
    assert y.var() == pytest.approx(variance, rel=0.03)
    again, other = (op(FLAT, np.random.default_rng(seed)) for seed in (0, 1))
    assert np.array_equal(y, again) and not np.array_equal(y, other)


def test_a_sensor_clips_and_an_amplifier_does_not():
    white = np.ones((1, 64, 64), np.float32)
    assert CameraNoise(25600)(white, np.random.default_rng(0)).max() == 1
    assert GaussianNoise(0.1)(white, np.random.default_rng(0)).max() > 1.2


def test_impulses_are_black_or_white_and_leave_the_rest():
    y = ImpulseNoise(0.3)(FLAT, np.random.default_rng(0))
    assert set(np.unique(y)) == {0, np.float32(LEVEL), 1} and (y == 1).mean() == pytest.approx(0.15, abs=0.005)


def test_linear_light_comes_back():
    x = np.linspace(-0.1, 1.2, 600, dtype=np.float32).reshape(1, 20, 30)
    assert np.abs(Linear().inverse()(Linear()(x)) - x).max() < 1e-6
    assert Linear()(np.full((1, 1, 1), 0.5, np.float32)).item() == pytest.approx(0.21404, abs=1e-5)
