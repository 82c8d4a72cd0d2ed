"""Raw views on disk and the pairs made from them: complete, resumable, and the same every time."""

import numpy as np
import pytest

from unveil.aos import archives, camera, integrator, simulator, stacks, views
from unveil.errors import UnveilError
from unveil.restore import datasets

RUNS, SEED = 5, 4


@pytest.fixture(scope="module", autouse=True)
def small_shards():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "SHARD", 2)
        yield


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory, small_shards):
    return views.rehearse(tmp_path_factory.mktemp("views"), RUNS, SEED)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_store_holds_the_simulated_runs(rehearsed):
    assert len(rehearsed) == len(rehearsed.ids) == RUNS
    for index in (0, 3, 4):
        run = simulator.simulate_run(SEED, index)
        given, truth = rehearsed[index]
        assert rehearsed.ids[index] == run.id
        assert rehearsed.parameters(index) == run.parameters
        np.testing.assert_array_equal(given, run.views)
        np.testing.assert_array_equal(truth, run.truth)
        assert isinstance(given, np.memmap)


def test_a_rehearsal_goes_on_where_it_stopped(rehearsed, tmp_path):
    heard = []
    views.rehearse(tmp_path, 3, SEED, progress=lambda *done: heard.append(done))
    assert heard == [(2, 3), (3, 3)]
    before = contents(tmp_path)
    longer = views.rehearse(tmp_path, RUNS, SEED, progress=lambda *done: heard.append(done))
    assert heard[2:] == [(4, 5), (5, 5)], "the whole first shard is kept"
    assert {name: before[name] for name in before if "0000" in name}.items() <= contents(tmp_path).items()
    assert contents(tmp_path) == contents(rehearsed.folder)
    assert longer.ids == rehearsed.ids
    views.rehearse(tmp_path, RUNS, SEED, progress=pytest.fail)


def test_a_longer_rehearsal_serves_a_shorter_one(rehearsed):
    assert views.rehearse(rehearsed.folder, 3, SEED, progress=pytest.fail).ids == rehearsed.ids[:3]
    assert len(views.ViewStore(rehearsed.folder, 1)) == 1


def test_other_simulations_and_damage_are_named(rehearsed, tmp_path):
    with pytest.raises(UnveilError, match="another simulation"):
        views.rehearse(rehearsed.folder, RUNS, SEED + 1)
    with pytest.raises(UnveilError, match="no simulated views"):
        views.ViewStore(tmp_path)
    (tmp_path / "shard_0000.json").write_text("{")
    with pytest.raises(UnveilError, match="shard_0000.json: damaged"):
        views.rehearse(tmp_path, RUNS, SEED)


def test_focal_pairs_are_integrals(rehearsed):
    pairs = views.FocalPairs(rehearsed)
    stack, truth = pairs[1]
    expected = integrator.integrate(rehearsed[1][0], camera.course_rig(), integrator.HEIGHTS).image
    np.testing.assert_array_equal(stack, stacks.to_uint8(expected))
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
        views.ViewPairs(rehearsed, [0.2, 1.8]), crop=64, region=stacks.person_mask, region_probability=1.0, flips=True
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


def test_runs_come_straight_from_their_archives(rehearsed, tmp_path):
    paths = simulator.simulate(tmp_path, 2, seed=SEED, workers=1, incomplete=0)
    runs = views.ArchiveRuns(archives.scan(paths).complete)
    assert len(runs) == 2
    assert runs.ids == rehearsed.ids[:2]
    for index in range(2):
        assert runs.parameters(index) == rehearsed.parameters(index)
        for kept, expected in zip(runs[index], rehearsed[index], strict=True):
            np.testing.assert_array_equal(kept, expected)
    np.testing.assert_array_equal(views.ViewPairs(runs, [0.6])[1][0], views.ViewPairs(rehearsed, [0.6])[1][0])
    assert {path.suffix for path in tmp_path.iterdir()} == {".zip"}
