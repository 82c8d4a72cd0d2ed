"""Quantisation: declared error, exact mean with dither, JPEG's order of qualities."""

import numpy as np
import pytest

from unveil.degrade.quantisation import JPEG, Bits
from unveil.errors import UnveilError

RAMP = np.linspace(0, 1, 256 * 256, dtype=np.float32).reshape(1, 256, 256)


def test_rounding_has_the_declared_error():
    y = Bits(3)(RAMP)
    assert len(np.unique(y)) == 8 and not Bits(3).random
    assert np.abs(y - RAMP).max() <= 0.5 / 7 + 1e-6
    assert (y - RAMP).var() == pytest.approx(1 / 49 / 12, rel=0.01)
    assert np.array_equal(Bits(3)(y), y) and Bits(1)(2 * RAMP).max() == 1


def test_dither_keeps_the_mean_that_rounding_loses():
    level = np.full((1, 200, 200), 0.45, np.float32)
    dithered = Bits(2, dither=True)(level, np.random.default_rng(0))
    assert np.unique(Bits(2)(level)).tolist() == pytest.approx([1 / 3])
    assert dithered.mean() == pytest.approx(0.45, abs=0.003) and len(np.unique(dithered)) == 2
    assert dithered.var() == pytest.approx(0.35 * 0.65 / 9, rel=0.03)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_worse_at_lower_quality(channels):
    x = np.random.default_rng(0).random((channels, 40, 52), dtype=np.float32)
    coarse, fine = (JPEG(q, full_colour=True)(x) for q in (10, 95))
    assert coarse.shape == x.shape and np.abs(fine - x).mean() < 0.02 < np.abs(coarse - x).mean()
    assert coarse.mean() == pytest.approx(x.mean(), abs=0.01)


def test_jpeg_refuses_two_channels():
    with pytest.raises(UnveilError, match="1 or 3 channels"):
        JPEG()(np.zeros((2, 8, 8), np.float32))
