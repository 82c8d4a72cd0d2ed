"""Training pairs from raw views: the same every time."""

import numpy as np
import pytest

from unveil.aos import build, camera, integrator, views
from unveil.aos.images import person_mask, to_uint8
from unveil.restore import datasets

RUNS, SEED = 3, 4


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    return build.build_views(tmp_path_factory.mktemp("views"), RUNS, SEED)


def test_focal_pairs_are_integrals(rehearsed):
    pairs = views.FocalPairs(rehearsed)
    stack, truth = pairs[1]
    expected = integrator.integrate(rehearsed[1][0], camera.course_rig(), integrator.HEIGHTS).image
    np.testing.assert_array_equal(stack, to_uint8(expected))
    np.testing.assert_array_equal(truth, rehearsed[1][1])
    assert (len(pairs), pairs.ids) == (RUNS, rehearsed.ids)


def test_jittered_planes_change_with_the_epoch_only(rehearsed):
    pairs = views.FocalPairs(rehearsed, (0.2, 1.0), jitter=0.3)
    first, again = pairs[2][0], pairs[2][0]
    np.testing.assert_array_equal(first, again)
    pairs.set_epoch(1)
    second = pairs[2][0]
    assert not np.array_equal(first, second)
    pairs.set_epoch(0)
    np.testing.assert_array_equal(pairs[2][0], first)


def test_view_pairs_are_candidates(rehearsed):
    pairs = views.ViewPairs(rehearsed, (0.2, 1.8))
    given, truth = pairs[1]
    expected = integrator.candidates(rehearsed[1][0], camera.course_rig(), (0.2, 1.8), camera.CENTER_VIEW)
    assert given.shape == (23, 512, 512)
    np.testing.assert_array_equal(given, expected)
    np.testing.assert_array_equal(truth, rehearsed[1][1])
    assert (len(pairs), pairs.ids) == (RUNS, rehearsed.ids)


def test_a_data_set_crops_view_pairs(rehearsed):
    data = datasets.PairDataset(
        views.ViewPairs(rehearsed, [0.2, 1.8]), crop=64, region=person_mask, region_probability=1.0, flips=True
    )
    x, y = data[0]
    assert (x.shape, y.shape) == ((23, 64, 64), (1, 64, 64))
    assert data.in_channels == 23
    assert x.min() >= 0 and x.max() <= 1
    assert len(x[-1].unique()) == 1


def test_the_centre_view_is_its_own_candidate(rehearsed):
    """On every plane, for the target is the centre view."""
    given, _ = views.ViewPairs(rehearsed, (0.2, 1.8))[0]
    for plane in range(2):
        np.testing.assert_array_equal(given[11 * plane + camera.CENTER_VIEW], rehearsed[0][0][camera.CENTER_VIEW])
