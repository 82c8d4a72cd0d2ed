"""Cameras: the course rig's geometry, slicing, and what is refused."""

import numpy as np
import pytest

from unveil.aos.camera import CENTER_VIEW, Cameras, course_rig
from unveil.errors import UnveilError


def test_course_rig_flies_along_x_looking_down():
    rig = course_rig()
    assert len(rig) == 11
    np.testing.assert_allclose(rig.centers, [(x, 0, -35) for x in range(5, -6, -1)], atol=1e-12)
    assert (rig.fov == 50).all()
    assert rig.is_nadir


def test_a_target_is_one_camera_and_slices_stay_cameras():
    rig = course_rig()
    target = rig.target(CENTER_VIEW)
    assert len(target) == 1
    np.testing.assert_allclose(target.centers, [(0, 0, -35)], atol=1e-12)
    np.testing.assert_array_equal(rig[2:5].extrinsics, rig.extrinsics[2:5])
    np.testing.assert_array_equal(rig[[0, 10]].extrinsics, rig.extrinsics[[0, 10]])
    assert len(rig[-1]) == 1


@pytest.mark.parametrize(
    ("entry", "value"),
    [((2, 1, 3), 0.5), ((2, 2, 3), 36.0)],
    ids=["beside the line", "at another altitude"],
)
def test_moving_one_camera_off_the_line_ends_nadir(entry, value):
    extrinsics = course_rig().extrinsics.copy()
    extrinsics[entry] = value
    assert not Cameras(extrinsics, 50).is_nadir


def test_unequal_fields_of_view_or_tilt_end_nadir():
    extrinsics = course_rig().extrinsics
    assert not Cameras(extrinsics, [50.0] * 10 + [51.0]).is_nadir
    angle = np.radians(5)
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    assert not Cameras(np.concatenate([np.tile(tilt, (11, 1, 1)), extrinsics[:, :, 3:]], axis=2), 50).is_nadir


def test_cameras_cannot_be_changed_behind_their_back():
    extrinsics = course_rig().extrinsics.copy()
    rig = Cameras(extrinsics, 50)
    extrinsics[0, 0, 3] = 99
    assert rig.extrinsics[0, 0, 3] == -5
    with pytest.raises(ValueError, match="read-only"):
        rig.extrinsics[0, 0, 3] = 99


@pytest.mark.parametrize(
    ("extrinsics", "fov", "message"),
    [
        (np.zeros((11, 4, 4)), 50, r"\(V, 3, 4\)"),
        (np.zeros((2, 3, 4)), 50, "camera 0 has no rotation"),
        (np.full((1, 3, 4), np.nan), 50, "not finite"),
        (np.diag([1.0, 1, -1])[None] @ np.eye(3, 4), 50, "no rotation"),
        (np.eye(3, 4), 180, "between 0 and 180"),
        (np.eye(3, 4), np.nan, "between 0 and 180"),
        (np.eye(3, 4), [50, 50], "field of view"),
    ],
)
def test_bad_cameras_are_named(extrinsics, fov, message):
    with pytest.raises(UnveilError, match=message):
        Cameras(extrinsics, fov)
