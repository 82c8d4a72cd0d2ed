"""The ground and the poses of a small flight whose truth is known, and what is said about flights without one."""

import numpy as np
import pytest

from unveil.aos import autofocus, wild
from unveil.aos.autofocus import Ground, on_ground
from unveil.aos.camera import Cameras, course_rig
from unveil.errors import UnveilError


def test_a_ground_leads_there_and_back(small_flight):
    flight, ground, _ = small_flight
    place = ground.cameras(flight.cameras)
    np.testing.assert_allclose(ground.world(place.centers), flight.cameras.centers, atol=1e-12)
    np.testing.assert_allclose(ground.inverse.cameras(place).extrinsics, flight.cameras.extrinsics, atol=1e-12)
    assert ground.tilt == pytest.approx(5.8, abs=0.1)
    assert Ground(np.eye(3), np.zeros(3)).tilt == 0


def test_pixels_fall_on_the_ground_under_the_camera():
    points = on_ground(course_rig()[5], (512, 512), np.array([[255.5, 255.5], [511.5, 255.5]]))
    np.testing.assert_allclose(points, [[0, 0, 0], [35 * np.tan(np.radians(25)), 0, 0]], atol=1e-9)


def test_the_plane_is_found_with_its_tilt(small_flight, small_focus):
    _, ground, _ = small_flight
    spots = small_focus.ground.world(np.array([[x, y, 0.0] for x in (-8, 0, 8) for y in (-8, 0, 8)]))
    above = (spots - ground.origin) @ ground.rotation[2]
    assert np.abs(above).max() < 0.6
    assert np.degrees(np.arccos(small_focus.ground.rotation[2] @ ground.rotation[2])) < 2


def test_pose_errors_shrink_and_the_views_agree_better(small_flight, small_focus):
    flight, _, true = small_flight
    refined = small_focus.ground.inverse.cameras(small_focus.cameras)

    def aims(cameras: Cameras) -> np.ndarray:
        """Where the middles of the pictures lie on the ground."""
        place = small_focus.ground.cameras(cameras)
        return np.concatenate([on_ground(place[i], (128, 128), np.array([[63.5, 63.5]])) for i in range(9)])

    before, after = (aims(cameras) - aims(true) for cameras in (flight.cameras, refined))
    # The mean is a shift of the whole world, which pictures cannot tell.
    spread = [np.sqrt(np.mean(np.sum((d - d.mean(0)) ** 2, 1))) for d in (before, after)]
    assert spread[1] < spread[0] / 2
    assert small_focus.agreement[1] > 1.5 * small_focus.agreement[0]
    assert np.abs(small_focus.moves.mean(0)).max() < 0.1


def test_ground_under_crowns_that_agree_better_is_found_by_its_texture():
    run = wild.simulate(31, 0, density=150, views=15)
    target = run.cameras.target(run.centre)
    found = autofocus.autofocus(run.views, run.cameras, target)
    over = target.centers[0, :2]
    surface = run.parameters["slope"] @ over
    normal = found.ground.rotation[2]
    assert found.ground.origin[2] - normal[:2] @ (over - found.ground.origin[:2]) / normal[2] == pytest.approx(
        surface, abs=1.0
    )


def test_flights_without_a_ground_are_told_why(small_flight):
    flight = small_flight[0]
    views, cameras = flight.views, flight.cameras
    with pytest.raises(UnveilError, match="2 views are too few"):
        autofocus.autofocus(views[:2], cameras[:2], cameras[0])
    with pytest.raises(UnveilError, match="from one place"):
        autofocus.autofocus(views[:3], cameras[[0, 0, 0]], cameras[0])
    up = np.diag([1.0, -1, -1])
    with pytest.raises(UnveilError, match="do not look down"):
        turned = Cameras(np.concatenate([up @ cameras.rotation, cameras.extrinsics[:, :, 3:]], 2), 50.0)
        autofocus.autofocus(views, turned, turned[4])
    noise = np.random.default_rng(0).normal(100, 10, views.shape).astype(np.float32)
    with pytest.raises(UnveilError, match="agree on no plane"):
        autofocus.autofocus(noise, cameras, cameras[4])
