"""Pairs of the forest: what networks are fed, crops around persons, jittered planes, the split beside its store."""

import dataclasses
import json

import numpy as np
import pytest

from unveil.aos import archives, build, camera, integrator, simulator
from unveil.aos.images import person_mask, to_uint8
from unveil.errors import UnveilError
from unveil.restore.pairs import PairDataset
from unveil.tasks.forest import pairs
from unveil.tasks.forest.presets import PRESETS

RNG = np.random.default_rng
VIEWS, FOCAL = PRESETS["multi_view"].options, PRESETS["focal_stack"].options


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Four runs with their views."""
    return build.build_views(tmp_path_factory.mktemp("views"), 4, 4)


@pytest.fixture(scope="module")
def stacks(tmp_path_factory):
    """Focal stacks of 12 runs."""
    folder = tmp_path_factory.mktemp("stacks")
    simulator.simulate(folder / "archives", 12, seed=7, incomplete=0, workers=1, balanced=True)
    return build.build_stacks(archives.scan(folder / "archives"), folder / "store")


def test_focal_pairs_are_integrals(runs):
    given, truth = pairs.FocalPairs(runs).item(1, RNG(0), None)
    expected = integrator.integrate(runs[1][0], camera.course_rig(), integrator.HEIGHTS).image
    np.testing.assert_array_equal(given, to_uint8(expected) / np.float32(255))
    np.testing.assert_array_equal(truth[0], runs[1][1] / np.float32(255))
    assert given.dtype == truth.dtype == np.float32


def test_view_pairs_are_candidates(runs):
    given, _ = pairs.ViewPairs(runs, (0.2, 1.8)).item(1, RNG(0), None)
    expected = integrator.candidates(runs[1][0], camera.course_rig(), (0.2, 1.8), camera.CENTER_VIEW)
    np.testing.assert_array_equal(given, expected / np.float32(255))
    for plane in range(2):
        centre = given[11 * plane + camera.CENTER_VIEW]
        np.testing.assert_array_equal(centre, runs[1][0][camera.CENTER_VIEW] / np.float32(255))


def test_jitter_is_drawn_from_the_given_generator(runs):
    jittered = pairs.FocalPairs(runs, (0.2, 1.0), jitter=0.3)
    first, again, other = (jittered.item(2, RNG(seed), None)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_crops_hold_the_person(runs):
    data = pairs.ViewPairs(runs, [0.2], person_crops=1.0)
    for i in range(len(data)):
        person = person_mask(np.asarray(runs[i][1]))
        given, truth = data.item(i, RNG(i), (160, 160))
        assert given.shape == (12, 160, 160) and truth.shape == (1, 160, 160)
        found = person_mask(np.rint(255 * truth[0]).astype(np.uint8)).sum()
        assert not person.any() or found >= 0.9 * person.sum()
    with pytest.raises(UnveilError, match="do not fit"):
        data.item(0, RNG(0), (600, 600))


def test_further_channels(stacks):
    given, _ = pairs.StackPairs(stacks, planes=[0, 4], statistics=("max", "min", "std")).item(0, RNG(0), None)
    both = np.asarray(stacks[0][0])[[0, 4]] / 255
    np.testing.assert_allclose(given, np.stack([*both, both.max(0), both.min(0), both.std(0)]), atol=1e-6)


def test_a_network_is_fed_what_it_wants(runs, stacks):
    assert isinstance(pairs.feed(VIEWS, runs), pairs.ViewPairs)
    assert isinstance(pairs.feed(FOCAL, runs), pairs.FocalPairs)
    wanted = dataclasses.replace(FOCAL, channels=(1.8, 0.2, "max"), in_channels=3)
    for data in (pairs.feed(wanted, stacks), pairs.feed(wanted, runs)):
        given, _ = PairDataset(data, crop=32)[0]
        assert given.shape == (3, 32, 32)
    with pytest.raises(UnveilError, match="--archives"):
        pairs.feed(VIEWS, stacks)
    with pytest.raises(UnveilError, match="--heights"):
        pairs.feed(dataclasses.replace(FOCAL, channels=(0.2, 0.3), in_channels=2), stacks)


def test_the_split_lies_beside_its_store(stacks):
    parts = pairs.split(stacks)
    assert sorted(sum(parts.values(), [])) == sorted(stacks.ids)
    kept = stacks.path / "split.json"
    assert json.loads(kept.read_text()) == parts
    moved = {"train": parts["test"], "validation": parts["validation"], "test": parts["train"]}
    kept.write_text(json.dumps(moved))
    assert pairs.split(stacks) == moved, "what is kept is used"
    kept.write_text(json.dumps({part: ids[:1] for part, ids in parts.items()}))
    assert pairs.split(stacks) == parts, "a store that has grown is divided anew"


def test_runs_of_archives_are_pairs_too(tmp_path, runs):
    paths = simulator.simulate(tmp_path, 2, seed=4, workers=1, incomplete=0)
    straight = archives.ArchiveRuns(archives.scan(paths).complete)
    for one, other in zip(
        pairs.FocalPairs(straight).item(1, RNG(0), None), pairs.FocalPairs(runs).item(1, RNG(0), None), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert set(pairs.split(straight)) == {"train", "validation", "test"}
