"""Lenses: straight through the centre, bent elsewhere, and back again."""

import numpy as np
import pytest

from unveil.degrade.blur import GaussianBlur
from unveil.degrade.lens import Distortion, Fisheye
from unveil.errors import UnveilError

SMOOTH = GaussianBlur(2)(np.random.default_rng(0).random((3, 81, 121), dtype=np.float32))
LENSES = [Distortion(-0.25), Distortion(0.3), Fisheye(120)]


@pytest.mark.parametrize("lens", LENSES, ids=repr)
def test_the_inverse_brings_everything_back(lens):
    y = lens(SMOOTH)
    back = lens.inverse()(y)
    assert y.shape == SMOOTH.shape and y.dtype == np.float32 and lens.inverse().inverse() == lens
    inside = np.s_[:, 6:-6, 6:-6]
    assert np.abs(y - SMOOTH)[inside].mean() > 20 * np.abs(back - SMOOTH)[inside].mean()
    assert np.abs(back - SMOOTH)[inside].max() < 0.03
    assert np.allclose(y[:, 40, 60], SMOOTH[:, 40, 60], atol=1e-5)


def test_barrel_pulls_inwards_and_pincushion_keeps_corners():
    far = np.zeros((1, 101, 101), np.float32)
    far[:, 50, 90] = 1
    place = [np.argmax(lens(far)[0, 50]) for lens in LENSES]
    radius = 40 / np.hypot(50, 50)
    expected = [1 - 0.25 * radius**2, (1 + 0.3 * radius**2) / 1.3, np.arctan(radius * 3**0.5) / 3**0.5 / radius]
    assert place == pytest.approx([50 + 40 * e for e in expected], abs=0.51)
    assert np.allclose(Distortion(0.3)(SMOOTH)[:, 0, 0], SMOOTH[:, 0, 0], atol=1e-4)


@pytest.mark.parametrize("lens", [Distortion(-0.4), Fisheye(180)])
def test_impossible_lenses_get_one_line(lens):
    with pytest.raises(UnveilError, match="k must|pinhole"):
        lens(SMOOTH)
