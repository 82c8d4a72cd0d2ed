"""Pinhole cameras in the course's world frame, and the course's rig.

Metres, x along the flight, z down. Extrinsics are OpenCV-style world→camera matrices ``[R|t]`` (camera axes: x right,
y down, z forward): a world point X lies at ``R X + t`` in the camera, whose centre is ``−Rᵀt``. Intrinsics are one
number, the vertical field of view; the principal point is the image's middle and pixels are square.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unveil.errors import UnveilError

# The course's rig: every other module takes its numbers from here.
VIEWS = 11
CENTER_VIEW = 5  # index of the middle view, from which the truth is seen
SIZE = 512  # pixels, both ways
ALTITUDE = 35.0  # m above ground
FIELD_OF_VIEW = 50.0  # degrees
FOCAL = SIZE / 2 / np.tan(np.radians(FIELD_OF_VIEW / 2))  # pixels
POSITIONS = np.arange(5.0, -6.0, -1.0)  # m along the flight, poses 0…10


@dataclass(frozen=True, eq=False)
class Cameras:
    """V pinhole cameras.

    Parameters
    ----------
    extrinsics : (V, 3, 4) world→camera matrices ``[R|t]``, metres; a single (3, 4) matrix makes one camera.
    fov : vertical field of view in degrees, one for all or one per camera.

    Raises UnveilError for wrong shapes, values that are not finite, matrices that are no rotation and fields of view
    outside (0°, 180°).
    """

    extrinsics: np.ndarray
    fov: np.ndarray

    def __post_init__(self) -> None:
        extrinsics = np.array(self.extrinsics, dtype=np.float64)
        if extrinsics.ndim == 2:
            extrinsics = extrinsics[None]
        if extrinsics.ndim != 3 or extrinsics.shape[1:] != (3, 4) or len(extrinsics) == 0:
            raise UnveilError(f"camera extrinsics must have the shape (V, 3, 4), these have {extrinsics.shape}")
        if not np.isfinite(extrinsics).all():
            raise UnveilError("camera extrinsics hold values that are not finite: mend the poses")
        rotation = extrinsics[:, :, :3]
        skew = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
        wrong = np.flatnonzero((skew > 1e-3) | (np.linalg.det(rotation) < 0))
        if len(wrong):
            raise UnveilError(f"camera {wrong[0]} has no rotation in its extrinsics: expected world→camera [R|t]")
        fov = np.array(self.fov, dtype=np.float64)
        if fov.ndim > 1 or (fov.ndim == 1 and len(fov) != len(extrinsics)):
            raise UnveilError(f"{len(extrinsics)} cameras need one field of view or {len(extrinsics)}, not {fov.shape}")
        if not ((fov > 0) & (fov < 180)).all():
            raise UnveilError("fields of view must lie between 0 and 180 degrees")
        fov = np.broadcast_to(fov, len(extrinsics)).copy()
        for array in (extrinsics, fov):
            array.setflags(write=False)
        object.__setattr__(self, "extrinsics", extrinsics)
        object.__setattr__(self, "fov", fov)

    def __len__(self) -> int:
        return len(self.extrinsics)

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> Cameras:
        """The cameras at ``index``, again as cameras (a single index makes one camera)."""
        if isinstance(index, (int, np.integer)):
            index = [index]
        return Cameras(self.extrinsics[index], self.fov[index])

    def target(self, index: int) -> Cameras:
        """The one camera at ``index``, as the virtual camera of an integral."""
        return self[index]

    @property
    def rotation(self) -> np.ndarray:
        """(V, 3, 3) rotations world→camera."""
        return self.extrinsics[:, :, :3]

    @property
    def translation(self) -> np.ndarray:
        """(V, 3) translations world→camera, metres."""
        return self.extrinsics[:, :, 3]

    @property
    def centers(self) -> np.ndarray:
        """(V, 3) camera centres in the world, metres."""
        return -np.einsum("vji,vj->vi", self.rotation, self.translation)

    @property
    def is_nadir(self) -> bool:
        """Whether all look straight down, alike but for places along their common x axis.

        Then a horizontal plane maps from one view to another by a shift along the image rows.
        """
        down = np.allclose(self.rotation[:, 2], (0, 0, 1), rtol=0, atol=1e-9)
        alike = np.ptp(self.rotation, axis=0).max() < 1e-9 and np.ptp(self.fov) < 1e-9
        return bool(down and alike and np.ptp(self.translation[:, 1:], axis=0).max() < 1e-9)


def course_rig() -> Cameras:
    """The course's 11 cameras: x = 5, 4, …, −5 m for pose 0…10, 35 m above ground, straight down, 50°."""
    extrinsics = np.zeros((VIEWS, 3, 4))
    extrinsics[:, :, :3] = np.eye(3)
    extrinsics[:, 0, 3] = -POSITIONS
    extrinsics[:, 2, 3] = ALTITUDE
    return Cameras(extrinsics, FIELD_OF_VIEW)
