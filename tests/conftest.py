"""Fixtures that several test files share: folders of data that are not part of the project, and a small flight."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from unveil.aos.autofocus import Focus, Ground, autofocus, on_ground
from unveil.aos.camera import Cameras
from unveil.aos.flights import Flight

DATA = Path(__file__).resolve().parents[1] / "data"


def _folder(variable: str, name: str) -> Path:
    folder = Path(os.environ.get(variable, DATA / name))
    if not folder.is_dir():
        pytest.skip(f"{name} data are not here: set {variable} to their folder")
    return folder


@pytest.fixture(scope="session")
def reference() -> Path:
    """Real runs and a real flight, with integrals of the reference renderer."""
    return _folder("UNVEIL_REFERENCE", "reference")


@pytest.fixture(scope="session")
def siblings() -> Path:
    """Photographs, old photographs and depth frames."""
    return _folder("UNVEIL_SIBLINGS", "siblings")


PEOPLE = ((-5.0, -4.0), (4.0, 5.0))
"""Where people lie on the ground of the small flight, metres."""


@pytest.fixture(scope="session")
def small_flight() -> tuple[Flight, Ground, Cameras]:
    """Nine views of 128 × 128 pixels of a mottled, tilted ground, a fifth of it hidden, with two people at `PEOPLE`.

    The flight with measured poses (errors of 0.3 m and 1°), the true ground and the true cameras. The camera flies 30 m
    above the ground, which lies 4 m below the poses' origin.
    """
    rng, size = np.random.default_rng(5), (128, 128)
    ground = Ground(Rotation.from_euler("xy", (5, -3), degrees=True).as_matrix(), np.array([0.0, 0.0, 4.0]))
    texture = ndimage.gaussian_filter(rng.normal(size=(600, 600)), 2.5)
    texture = 80 + 12 * texture / texture.std()
    centers = np.column_stack([np.linspace(-7, 7, 9), rng.normal(0, 1, 9), np.full(9, -26.0)])
    rotation = Rotation.from_euler("zyx", rng.normal(0, (3, 2, 2), (9, 3)), degrees=True).as_matrix()
    true = Cameras(np.concatenate([rotation, -(rotation @ centers[:, :, None])], 2), 50.0)
    pixels = np.stack(np.meshgrid(np.arange(128), np.arange(128)), -1).reshape(-1, 2)
    views = []
    for camera in range(9):
        x, y, _ = on_ground(ground.cameras(true[camera]), size, pixels).T
        view = ndimage.map_coordinates(texture, [300 + y / 0.1, 300 + x / 0.1], order=1, mode="wrap")
        for place in PEOPLE:
            view[np.hypot((x - place[0]) / 0.9, (y - place[1]) / 0.4) < 1] = 180
        leaves = ndimage.gaussian_filter(rng.normal(size=size), 4).ravel()
        views.append(np.where(leaves > np.quantile(leaves, 0.8), 60 + rng.normal(0, 4, len(x)), view).reshape(size))
    turn = Rotation.from_euler("z", rng.normal(0, 1, (9, 1)), degrees=True).as_matrix()
    wrong = rotation @ turn
    places = centers + rng.normal(0, 0.3, (9, 3)) * (1, 1, 0)
    measured = Cameras(np.concatenate([wrong, -(wrong @ places[:, :, None])], 2), 50.0)
    return Flight(np.array(views, np.float32), measured, 4, [f"{i}.png" for i in range(9)]), ground, true


@pytest.fixture(scope="session")
def small_focus(small_flight) -> Focus:
    """What autofocus makes of the small flight."""
    flight, steps = small_flight[0], []
    found = autofocus(flight.views, flight.cameras, flight.cameras.target(4), lambda *step: steps.append(step))
    assert steps[-1][0] == steps[-1][1] > 8
    return found
