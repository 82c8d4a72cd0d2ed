"""Sampling: as Pillow and MATLAB do it, mean kept, adjoint, aliasing."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unveil.degrade.sampling import KERNELS, Resize
from unveil.errors import UnveilError

FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "area": 4}
SET5 = Path(os.environ.get("UNVEIL_SIBLINGS", "data/siblings")) / "super_resolution" / "Set5"


@pytest.fixture
def picture():
    return np.random.default_rng(0).random((3, 37, 48), dtype=np.float32)


@pytest.mark.parametrize("scale", [1 / 2, 1 / 3, 0.45, 2, 3])
@pytest.mark.parametrize("kernel", FILTERS)
def test_equals_pillow_in_float(picture, kernel, scale):
    y = Resize(scale, kernel)(picture)
    theirs = [Image.fromarray(c).resize(y.shape[:0:-1], FILTERS[kernel]) for c in picture]
    equal = np.abs(y - np.stack(list(map(np.asarray, theirs)))) < 2e-6
    # Half-way between two pixels, nearest is decided by the last bit.
    assert y.dtype == np.float32 and (equal.mean() > 0.9 if kernel == "nearest" else equal.all())


def test_equals_pillow_in_bytes(picture):
    colours = np.uint8(picture * 255).transpose(1, 2, 0)
    theirs = np.asarray(Image.fromarray(colours).resize((24, 19), 3)).transpose(2, 0, 1)
    ours = Resize(1 / 2, eight_bit=True)(np.float32(colours.transpose(2, 0, 1)) / 255) * 255
    apart = np.abs(ours - theirs)
    assert apart.max() < 1.5 and (apart < 0.5).mean() > 0.99


@pytest.mark.skipif(not SET5.is_dir(), reason="the Set5 pictures are absent (UNVEIL_SIBLINGS)")
def test_equals_matlab():
    for path in sorted(SET5.glob("*_HR.png")):
        x, theirs = (
            np.asarray(Image.open(p).convert("RGB"), np.float32).transpose(2, 0, 1) / 255
            for p in (path, path.with_name(path.name.replace("HR", "LR")))
        )
        apart = np.abs(np.round(Resize(1 / 2, rule="matlab", eight_bit=True)(x) * 255) - theirs * 255)
        assert (apart < 1.5).mean() >= 0.999 and (apart < 0.5).mean() > 0.995, path.name


@pytest.mark.parametrize("kernel", ["nearest", *KERNELS])
@pytest.mark.parametrize("rule", ["pillow", "matlab"])
def test_constant_stays_and_adjoint_is_one(picture, kernel, rule):
    for scale in (1 / 2, 3):
        op = Resize(scale, kernel, rule)
        assert np.allclose(op(np.full((1, 12, 20), 0.3, np.float32)), 0.3, atol=1e-6)
        x = picture[:, :36]
        y = np.random.default_rng(1).random(op(x).shape, dtype=np.float32)
        assert np.vdot(op(x), y) == pytest.approx(np.vdot(x, op.adjoint(y)), rel=1e-5)


def test_without_the_low_pass_stripes_fold_back():
    stripes = np.tile(np.float32([0, 1]), (1, 32, 32))
    folded, averaged = (Resize(2 / 3, antialias=a)(stripes)[:, 8:-8, 8:-8].std() for a in (False, True))
    assert folded > 3 * averaged


def test_the_rules_differ_at_the_border_only(picture):
    x = picture[:, :36]
    apart = np.abs(Resize(1 / 2)(x) - Resize(1 / 2, rule="matlab")(x))
    assert apart.max() > 1e-3 and apart[:, 2:-2, 2:-2].max() < 1e-6


@pytest.mark.parametrize("op", [Resize(0), Resize(2, "sinc"), Resize(2, rule="gimp")])
def test_unknown_settings_get_one_line(picture, op):
    with pytest.raises(UnveilError, match="scale > 0"):
        op(picture)
