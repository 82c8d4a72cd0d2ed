"""The depth camera in software: its faults come from their causes and are as large as those of a real one."""

import time

import numpy as np
import pytest

from unveil.degrade import scene
from unveil.degrade.depth import DisparityNoise, StereoCamera, match, metres, nearness
from unveil.errors import UnveilError

CAMERA = StereoCamera(width=424, height=240, focal=212.0, baseline=0.1)


def wall(distance: float, contrast: float = 0.5, slant: float = 0.0, albedo: float = 0.6) -> scene.Scene:
    """One plane that fills the view."""
    turn = scene.rotation(slant, 0, 0)[None]
    surface = np.array([[albedo, contrast, 0.01, 0.0]])
    place = np.array([[0, 0, distance + 0.01]])
    return scene.Scene(np.array([0]), place, turn, np.array([[9, 9, 0.01]]), surface, np.array([0, -1.0, 0]), 0.05)


def test_a_wall_is_measured_where_it_is():
    frame = CAMERA(wall(1.0), np.random.default_rng(0))
    inner = np.s_[20:-20, 40:-20]
    assert frame.truth[inner].min() == frame.truth[inner].max() == 1000
    measured = frame.measured[inner].astype(float)
    assert (measured > 0).mean() > 0.9
    disparity = 212 * 0.1 / (measured[measured > 0] / 1000)
    assert abs(np.median(disparity) - 21.2) < 0.1, "the imagers are out of register by less than a tenth of a pixel"


def test_noise_grows_with_the_square_of_distance():
    spread = []
    for distance in (0.7, 1.4):
        rng = np.random.default_rng(1)
        _, left, right = CAMERA.expose(wall(distance), rng)
        shots = [CAMERA.depth(match(CAMERA.develop(left, rng), CAMERA.develop(right, rng))) for _ in range(3)]
        shots = np.stack(shots)[:, 20:-20, 40:-20].astype(float)
        spread.append(np.median(shots.std(0, ddof=1)[(shots > 0).all(0)]))
    assert 2.5 < spread[1] / spread[0] < 7


def test_what_the_dots_do_not_reach_is_a_hole():
    bare, dark = wall(1.0, contrast=0.0), wall(1.0, contrast=0.0, albedo=0.0005)
    holes = [(CAMERA(s, np.random.default_rng(2)).measured[20:-20, 40:-20] == 0).mean() for s in (bare, dark)]
    assert holes[0] < 0.1 and holes[1] > 0.5


def test_a_room_looks_like_real_frames_and_is_made_in_time():
    rng = np.random.default_rng([1, 2])
    room = scene.room(rng)
    StereoCamera()(room, rng)
    begin = time.process_time()
    frame = StereoCamera()(room, rng)
    assert time.process_time() - begin < 1.5 * 1.5
    assert frame.measured.shape == (480, 848) and frame.measured.dtype == np.uint16
    assert 0.08 < (frame.measured == 0).mean() < 0.7
    error = np.abs(frame.measured.astype(float) - frame.truth)[(frame.measured > 0) & (frame.truth > 0)]
    assert np.median(error) < 40


def test_frames_come_from_the_generator_alone():
    one, two = (CAMERA(scene.room(rng), rng) for rng in (np.random.default_rng(3), np.random.default_rng(3)))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert repr(CAMERA).startswith("StereoCamera(width=424")


def test_matching_finds_a_shift_and_refuses_other_sizes():
    picture = np.random.default_rng(4).integers(0, 255, (60, 120)).astype(np.uint8)
    found = match(picture, np.roll(picture, -7, axis=1))
    assert np.median(found[10:-10, 30:-20]) == pytest.approx(7, abs=0.1)
    with pytest.raises(UnveilError, match="one size"):
        match(picture, picture[:-1])


def test_nearness_and_metres_are_inverse():
    depth = np.array([[0, 0.5, 1, 4]])
    assert metres(nearness(depth)) == pytest.approx(depth, rel=1e-6)
    assert nearness(np.zeros((2, 2))).max() == 0


def test_the_cheap_model_makes_holes_at_edges_only():
    depth = np.full((80, 80), 1.0, np.float32)
    depth[:, 40:] = 2
    y = DisparityNoise()(nearness(depth)[None], np.random.default_rng(5))[0]
    assert (y[:, 30:50] == 0).mean() > 0.1 and (y[:, :25] == 0).sum() == 0
    error = 64 * (y - nearness(depth))[:, :25]
    assert 0.05 < error.std() < 0.3
