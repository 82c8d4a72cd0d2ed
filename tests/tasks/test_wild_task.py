"""Wild forests as pairs: the frame of the ground, targets with people, and how a gate's regions are counted."""

from dataclasses import replace

import numpy as np
import pytest

from unveil.aos import integrator, wild
from unveil.tasks import wild as task

PLAIN = replace(
    wild.WILD, size=128, relief=(0, 0), others=(0, 0), people=(0, 0), position_error=0, angle_error=0, offset=(0, 0),
    gain=(0, 0), blur=(0, 0), noise=(0, 0), slope=(6, 6),
)  # fmt: skip


def test_on_the_plane_of_the_ground_all_views_agree_with_the_truth():
    run = wild.simulate(0, 3, 0, PLAIN, views=7)
    found = {}
    for name, cameras in (("sloping", task.ground(run).cameras(run.true)), ("level", run.true)):
        image = integrator.integrate(run.views, cameras, 0.0, cameras.target(run.centre)).image[0]
        found[name] = float(np.abs(image - run.truth).mean())
    assert 2 * found["sloping"] < found["level"]
    assert found["sloping"] < 0.5, "gray levels"


def test_nearly_the_same_cameras_are_off_by_what_was_asked():
    run = wild.simulate(0, 1, 0, PLAIN, views=40)
    moved = task.nearly(run.true, np.random.default_rng(0), 0.5, 1.0)
    assert np.std(moved.centers - run.true.centers) == pytest.approx(0.5, rel=0.2)
    turned = np.einsum("vij,vkj->vik", moved.rotation, run.true.rotation)
    assert np.degrees(np.std(turned[:, 0, 1])) == pytest.approx(1.0, rel=0.3)


def test_pairs_of_both_forests_mark_people_in_the_second_channel(tmp_path, monkeypatch):
    small = replace(wild.WILD, size=64, people=(2, 2), contrast=(60, 90))
    monkeypatch.setattr(task, "TAUGHT", small)
    paths = task.prepare(tmp_path, 2, views=3)
    before = [path.stat().st_mtime_ns for path in paths]
    assert [path.stat().st_mtime_ns for path in task.prepare(tmp_path, 2, views=3)] == before

    class Course:
        ids = ("course",)

        def __len__(self):
            return 1

        def item(self, i, rng, crop):
            truth = np.full((1, 64, 64), 0.3, np.float32)
            truth[0, 5:9, 5:9] = 0.8
            return np.zeros((7, 64, 64), np.float32), truth

    both = task.Together([task.WildPairs(paths, person_crops=1), Course()])
    assert both.ids == ["wild_21_0", "wild_21_1", "course"] and len(both) == 3
    inputs, target = both.item(0, np.random.default_rng(0), None)
    label = np.load(paths[0])[-1]
    assert inputs.shape == (7, 64, 64) and inputs.dtype == target.dtype == np.float32
    np.testing.assert_array_equal(target[1], (label > 0) & (label < task.OTHERS))
    _, crop = both.item(0, np.random.default_rng(0), (32, 32))
    assert crop.shape == (2, 32, 32) and crop[1].any()
    _, target = both.item(2, np.random.default_rng(0), None)
    assert target.shape == (2, 64, 64) and target[1].sum() == 16


def test_regions_are_found_people_or_false():
    label = np.zeros((60, 60), np.uint8)
    label[5:15, 5:15], label[40:50, 40:50], label[40:50, 5:15] = 1, 2, task.OTHERS + 1
    shown = np.zeros(label.shape, bool)
    assert task.matched(shown, label) == ([False, False], 0, 0)
    shown[5:10, 5:15] = True
    assert task.matched(shown, label) == ([True, False], 0, 0)
    shown[40:50, 5:15] = shown[20:22, 50:52] = True
    assert task.matched(shown, label) == ([True, False], 1, 1), "another warm thing is no person"
    shown[49:51, 49:51] = True
    assert task.matched(shown, label) == ([True, False], 1, 1), "beside a person, but far too small"
