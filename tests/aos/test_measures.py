"""Contrast of a person and the views that show it, exact and from pictures."""

import numpy as np
import pytest

from unveil.aos import measures, simulator
from unveil.aos.camera import VIEWS, course_rig


def test_contrast_is_the_mean_inside_minus_that_around():
    mask = np.zeros((40, 40), bool)
    mask[18:22, 18:22] = True
    image = np.full((40, 40), 50.0)
    image[::2] = 60
    image[mask] = 100
    found = measures.contrast(np.stack([image, 2 * image]), mask)
    np.testing.assert_allclose(found.difference, (45, 90), atol=1)
    np.testing.assert_allclose(found.noise, (5, 10), rtol=0.02)
    np.testing.assert_allclose(found.to_noise, 9, rtol=0.05)


@pytest.fixture(scope="module")
def person():
    scene, forest = simulator.simulate_scene(3, 5, 100, "laying", simulator.Variation(ground_kelvin=(260, 260)))
    return scene, forest, scene.truth() > 100


def test_without_trees_all_views_show_the_person(person):
    scene, _, mask = person
    _, open_land = simulator.simulate_scene(3, 5, 0, "laying")
    assert open_land.visible(scene, mask).all()
    views = open_land.occlude(scene)
    seen = measures.visible(views, scene.truth(), mask, course_rig(), np.arange(0, 0.7, 0.2), tolerance=20)
    assert seen.shape == (VIEWS, mask.sum())
    assert seen.mean() > 0.95


def test_the_estimate_from_pictures_is_near_the_truth(person):
    scene, forest, mask = person
    exact = forest.visible(scene, mask)
    estimate = measures.visible(forest.occlude(scene), scene.truth(), mask, course_rig(), np.arange(0, 0.7, 0.2))
    assert 0.2 < exact.mean() < 0.9
    assert abs(estimate.mean() - exact.mean()) < 0.15
    assert (estimate == exact).mean() > 0.8
    # What the centre view shows lies in it unshifted.
    np.testing.assert_array_equal(exact[5], ~forest.hidden(scene, [0.0])[0][mask])
