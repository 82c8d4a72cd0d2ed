"""What the tasks on single pictures share."""

import numpy as np
import pytest

from unveil.degrade.sampling import Resize
from unveil.errors import UnveilError
from unveil.tasks import common, photos


def test_pairs_are_aligned_at_any_scale_and_size():
    pairs = common.Degraded(photos.samples(["chelsea"]).shrunk(0.5) + photos.leaves(1) * 2, Resize(1 / 2), scale=2)
    assert len(pairs) == 3 and len(set(pairs.ids)) == 3
    low, high = pairs.item(0, np.random.default_rng(0))
    assert high.shape == (3, 150, 226) and low.shape == (3, 75, 113)
    low, high = pairs.item(1, np.random.default_rng(0), (32, 40))
    assert low.shape == (3, 32, 40) and high.shape == (3, 64, 80)
    assert np.abs(high.reshape(3, 32, 2, 40, 2).mean((2, 4)) - low).mean() < 0.02
    assert pairs.item(0, np.random.default_rng(0), (100, 20))[1].shape == (3, 200, 40)


def test_a_comparison_shows_where_something_is():
    picture = np.zeros((1, 90, 120), np.float32)
    picture[0, 60:70, 20:40] = np.random.default_rng(0).random((10, 20))
    part = picture[common.busiest(picture, 32)]
    assert part.sum() == picture.sum() and part.shape == (1, 32, 32)
    assert picture[common.busiest(picture, 500)].shape == picture.shape


def test_of_several_pictures_the_good_ones_are_done(tmp_path):
    photos.write(tmp_path / "a.png", np.zeros((1, 4, 4), np.float32))
    (tmp_path / "b.png").write_bytes(b"")
    done = []
    troubles = common.each([tmp_path], lambda path: done.append(photos.read(path)))
    assert len(done) == 1 and len(troubles) == 1 and "b.png" in troubles[0]
    with pytest.raises(UnveilError, match="b.png"):
        common.each([tmp_path / "b.png"], photos.read)
