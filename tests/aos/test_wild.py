"""Wild forests: what a run holds, its geometry from end to end, and its folder."""

from dataclasses import replace

import numpy as np
import pytest

from unveil.aos import flights, wild
from unveil.aos.integrator import integrate
from unveil.aos.wild import WILD, Wild
from unveil.errors import UnveilError

SMALL = replace(WILD, size=128)
PLAIN = replace(SMALL, blur=(0, 0), noise=(0, 0), offset=(0, 0), gain=(0, 0))
FLAT = replace(PLAIN, slope=(0, 0), relief=(0, 0), people=(0, 0), others=(0, 0))


def test_a_run_has_the_shapes_it_says():
    run = wild.simulate(0, 0, 100, SMALL, views=9)
    assert run.views.shape == (9, 128, 128)
    assert run.truth.shape == run.label.shape == run.seen.shape == (128, 128)
    assert {a.dtype for a in (run.views, run.truth, run.label, run.seen)} == {np.dtype(np.uint8)}
    assert len(run.cameras) == len(run.true) == 9 and 0 <= run.centre < 9 and run.seen.max() <= 9
    altitude = -run.true.centers[:, 2]
    assert np.abs(altitude - run.parameters["altitude"]).max() < 1


def test_a_run_depends_on_seed_and_index_alone():
    first, again, other = (wild.simulate(4, k, variation=SMALL, views=7) for k in (7, 7, 8))
    assert all(np.array_equal(a, b) for a, b in zip(first[:1] + first[3:7], again[:1] + again[3:7], strict=True))
    assert np.array_equal(first.cameras.extrinsics, again.cameras.extrinsics)
    assert first.people == again.people and first.parameters == again.parameters
    assert not np.array_equal(first.views, other.views)


def test_draws_stay_within_their_ranges():
    for index in range(4):
        run = wild.simulate(2, index, 0, SMALL)
        for name in ("altitude", "fov", "tilt", "aperture"):
            low, high = getattr(WILD, name)
            assert low <= run.parameters[name] <= high
        assert WILD.views[0] <= len(run.views) <= WILD.views[1] and len(run.people) <= WILD.people[1]
        moved = run.cameras.centers - run.true.centers
        assert 0.03 < moved.std() < 0.3


def test_without_trees_and_sensor_the_reference_view_is_the_truth():
    for index in range(4):
        run = wild.simulate(1, index, 0, PLAIN, views=7)
        assert np.array_equal(run.views[run.centre], run.truth)
        assert (run.seen[run.label > 0] > 0).all() and all(person.visible == 1 for person in run.people)


def test_the_integral_on_flat_ground_is_the_truth():
    for index in range(4):
        run = wild.simulate(3, index, 0, FLAT, views=9)
        integral, coverage = (part[0] for part in integrate(run.views, run.true, 0.0, run.centre))
        assert np.abs(integral - run.truth).mean() < 1.5
        blurred = integrate(run.views, run.cameras, 0.0, run.centre).image[0]
        assert np.abs(integral - run.truth).mean() < np.abs(blurred - run.truth).mean()
        assert (run.seen == coverage).mean() > 0.97


def test_people_are_warmer_than_the_ground_and_where_they_say():
    count = 0
    for index in range(6):
        run = wild.simulate(5, index, 0, replace(PLAIN, people=(1, 2), others=(0, 0)), views=7)
        camera, f = run.true[run.centre], 64 / np.tan(np.radians(run.parameters["fov"] / 2))
        for k, person in enumerate(run.people, 1):
            mine = run.label == k
            if mine.sum() < 4:
                continue
            count += 1
            assert np.median(run.truth[mine]) > np.median(run.truth[run.label == 0]) - 30
            x, y, z = camera.rotation[0] @ person.position + camera.translation[0]
            rows, columns = np.nonzero(mine)
            metre = f / z
            assert np.hypot(columns.mean() - 63.5 - f * x / z, rows.mean() - 63.5 - f * y / z) < 1.2 * metre + 1
            assert mine.sum() < 1.6 * metre**2 + 6
    assert count > 4


def test_a_denser_forest_shows_less():
    dense = [wild.simulate(6, k, density, SMALL, views=7) for k in range(2) for density in (0, 100, 300)]
    seen = np.array([run.seen.mean() for run in dense]).reshape(2, 3).mean(0)
    assert seen[0] > 1.1 * seen[1] > 1.2 * seen[2]
    shares = [np.mean([one.visible for run in dense[k::3] for one in run.people]) for k in range(3)]
    assert shares[0] == 1 and shares[0] >= shares[1] >= shares[2]
    assert all(np.array_equal(dense[k].label, dense[k + 2].label) for k in range(0, 6, 3))


def test_a_folder_is_a_flight(tmp_path):
    run = wild.simulate(0, 2, variation=SMALL, views=8)
    flight = flights.read(wild.write(run, tmp_path / "wild_0_2"))
    assert np.array_equal(flight.views, run.views) and flight.target == run.centre
    np.testing.assert_allclose(flight.cameras.extrinsics, run.cameras.extrinsics, atol=1e-12)
    assert flight.cameras.fov[0] == run.cameras.fov[0]


def test_what_cannot_be_is_said():
    with pytest.raises(UnveilError, match="density -1"):
        wild.simulate(0, 0, -1)
    with pytest.raises(UnveilError, match="0 views"):
        wild.simulate(0, 0, 0, Wild(), 0)
