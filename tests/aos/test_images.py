"""Gray levels are rounded as the renderer does, and the person's pixels found in every truth."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unveil.aos import images
from unveil.errors import UnveilError


def test_gray_levels_round_half_up():
    gray = np.array([[-0.2, 0.49, 0.5, 1.5, 2.5, 254.5, 255.0, 255.4]], np.float32)
    assert images.to_uint8(gray).tolist() == [[0, 0, 1, 2, 3, 255, 255, 255]]
    with pytest.raises(UnveilError, match="NaN"):
        images.to_uint8(np.array([[1, np.nan]], np.float32))


def _truth(ground: int) -> np.ndarray:
    random = np.random.default_rng(ground)
    image = ground + random.normal(0, 1.5, (256, 256)) * (ground > 0)
    image[100:130, 60:72] = random.uniform(190, 255, (30, 12))
    image[110:120, 72:84] = 232
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("ground", [0, 5, 64, 132, 184, 210])
def test_person_mask_finds_the_figure_and_nothing_else(ground: int):
    truth = _truth(ground)
    figure = np.zeros(truth.shape, bool)
    figure[100:130, 60:72] = figure[110:120, 72:84] = True
    found = images.person_mask(truth)
    assert found.dtype == bool and found.shape == truth.shape
    assert (found & figure).sum() >= 0.97 * figure.sum()
    assert (found & ~figure).sum() <= 0.03 * figure.sum()
    nobody = truth.copy()
    nobody[90:140, 50:90] = truth[150:200, 150:190]
    nobody[7, 9] = min(ground + 14, 255)
    assert not images.person_mask(nobody).any()


def test_person_mask_on_real_truths(reference: Path):
    areas = []
    for path in sorted(reference.glob("course_pairs/*/gt.png")):
        truth = np.asarray(Image.open(path))
        mask = images.person_mask(truth)
        areas.append(int(mask.sum()))
        rows, columns = np.nonzero(mask)
        assert 230 <= areas[-1] <= 930
        assert np.ptp(rows) < 70 and np.ptp(columns) < 70
        assert truth[mask].mean() > 200
        assert (np.abs(truth[~mask].astype(int) - np.median(truth)) > 14).sum() == 0
    assert len(areas) == 5
