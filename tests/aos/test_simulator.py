"""The built-in forest: what it draws, how alike it is to the course's, and the archives it writes."""

import errno
import zipfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from unveil.aos import archives, parameters, simulator
from unveil.aos.camera import course_rig
from unveil.aos.integrator import integrate
from unveil.aos.simulator import Variation, simulate, simulate_run, simulate_scene, stratum
from unveil.errors import UnveilError

BLACK = Variation(ground_kelvin=(260, 260))


def canopy_weight(hidden: np.ndarray) -> np.ndarray:
    """Fraction of the views that see forest over each point of the ground, (H, W)."""
    return integrate(hidden.astype(np.float32), course_rig(), [0.0]).image[0]


def smoothness(weight: np.ndarray) -> tuple[float, float]:
    return float(np.diff(weight, axis=1).std()), float(np.diff(weight, axis=0).std())


def test_a_run_has_the_shapes_of_the_course():
    run = simulate_run(0, 3)
    assert run.id == "0_3"
    assert run.views.shape == (11, 512, 512) and run.truth.shape == (512, 512)
    assert run.views.dtype == run.truth.dtype == np.uint8
    assert (run.parameters.pose, run.parameters.density) == stratum(3)
    assert parameters.parse(parameters.to_text(run.parameters)) == run.parameters
    assert run.parameters.rotation_rad == np.radians(run.parameters.rotation_deg)


def test_a_run_depends_on_seed_and_index_alone():
    first, again = simulate_run(4, 7), simulate_run(4, 7)
    assert np.array_equal(first.views, again.views) and np.array_equal(first.truth, again.truth)
    assert first.parameters == again.parameters
    for seed, index in ((5, 7), (4, 8)):
        assert not np.array_equal(simulate_run(seed, index).views, first.views)


def test_without_trees_the_centre_view_is_the_truth():
    for pose in simulator.POSES:
        run = simulate_run(1, 0, density=0, pose=pose)
        assert np.array_equal(run.views[5], run.truth)
        assert run.parameters.density == 0 and run.parameters.pose == pose


def test_where_nothing_occludes_the_centre_view_is_the_truth():
    scene, forest = simulate_scene(2, 1, density=200, pose="laying")
    views, hidden = forest.occlude(scene), forest.hidden(scene)
    assert np.array_equal(views[5][~hidden[5]], scene.truth()[~hidden[5]])
    assert 0.4 < hidden.mean() < 0.95


def test_no_person_leaves_only_ground():
    run = simulate_run(1, 5, density=0, pose="none", ground_kelvin=(290, 290))
    assert run.parameters.position is None
    assert np.ptp(run.truth) < 16 and 0 < run.truth.std() < 3
    assert all(np.array_equal(view, run.truth) for view in run.views)


@pytest.mark.parametrize(("pose", "low", "high"), [("idle", 200, 440), ("sitting", 320, 440), ("laying", 470, 590)])
def test_people_have_the_size_and_brightness_of_the_course(pose, low, high):
    pictures = [simulate_scene(6, k, 0, pose, BLACK)[0].truth() for k in range(10)]
    areas = [int((picture > 100).sum()) for picture in pictures]
    assert low < min(areas) and max(areas) < high
    grays = [picture[picture > 100].mean() for picture in pictures]
    assert 208 < min(grays) and max(grays) < 245
    assert len({picture.tobytes() for picture in pictures}) == 10


def test_a_person_stands_where_the_parameters_say():
    for index in range(6):
        run = simulate_run(8, index, density=0, pose="laying", ground_kelvin=(260, 260))
        rows, columns = np.nonzero(run.truth > 100)
        y, x = run.parameters.position[:2]
        scale = 256 / np.tan(np.radians(25)) / 35
        assert abs(columns.mean() - (255.5 - x * scale)) < 15 and abs(rows.mean() - (255.5 - y * scale)) < 15


def test_views_shift_with_height():
    """A lying person moves by the disparity just above the ground per metre of flight."""
    run = simulate_run(8, 3, density=0, pose="laying", ground_kelvin=(260, 260))
    middle = [np.nonzero(view > 100)[1].mean() for view in run.views]
    assert np.diff(middle).mean() == pytest.approx(256 / np.tan(np.radians(25)) / (35 - 0.3), abs=0.1)


@pytest.mark.slow
def test_the_forest_is_as_dense_as_the_course():
    weights = {}
    for density in (100, 200):
        hidden = []
        for index in range(8):
            scene, forest = simulate_scene(5, index, density)
            hidden.append(forest.hidden(scene))
        weights[density] = [canopy_weight(h) for h in hidden]
        single = np.mean([h[5].mean() for h in hidden])
        assert (0.38 if density == 100 else 0.62) < single < (0.54 if density == 100 else 0.80)
    assert 0.12 < np.mean([(w < 0.02).mean() for w in weights[100]]) < 0.32
    assert np.mean([(w < 0.02).mean() for w in weights[200]]) < 0.12
    dx, dy = np.mean([smoothness(w) for w in weights[100]], axis=0)
    assert 0.06 < dx < 0.10 and 0.07 < dy < 0.12 and dx < dy
    assert 0.03 < np.mean([(w > 0.98).mean() for w in weights[100]]) < 0.14


def test_statistics_beside_the_real_run(reference):
    def load(name):
        return np.asarray(Image.open(reference / "course_run" / f"0_0_{name}.png")).astype(float)

    ground = np.median(load("GT_pose_0_thermal"))
    real = np.stack([np.abs(load(f"pose_{k}_thermal") - ground) > 6 for k in range(11)])
    single = [forest.hidden(scene, [0.0]).mean() for scene, forest in (simulate_scene(77, k, 100) for k in range(20))]
    assert np.mean(single) == pytest.approx(real[5].mean(), abs=0.05)
    ours = [canopy_weight(forest.hidden(scene)) for scene, forest in (simulate_scene(77, k, 100) for k in range(5))]
    assert np.mean([smoothness(w) for w in ours], axis=0) == pytest.approx(smoothness(canopy_weight(real)), rel=0.2)
    scene, forest = simulate_scene(77, 0, 100, variation=Variation(ground_kelvin=(260, 260), tree_kelvin=(306, 306)))
    view, hidden = forest.occlude(scene, [0.0])[0], forest.hidden(scene, [0.0])[0]
    dark = np.mean(load("pose_5_thermal")[real[5]] < 105)
    assert np.mean(view[hidden] < 105) == pytest.approx(dark, abs=0.1)
    assert view[hidden].min() == pytest.approx(load("pose_5_thermal")[real[5]].min(), abs=3)


def test_ground_levels_are_spread_like_the_course():
    levels = np.array([np.median(simulate_scene(12, k, 0, "none")[0].ground) for k in range(100)])
    assert 0.2 < np.mean(levels == 0) < 0.42
    assert 190 < levels.max() <= 225 and 60 < np.percentile(levels[levels > 0], 50) < 150


def test_low_twigs_and_tall_crowns():
    _, forest = simulate_scene(21, 3, 100)
    disparity = forest.corners[forest.texture >= 0][..., 2].mean(1)
    height = 35 - 256 / np.tan(np.radians(25)) / disparity
    assert (height < 4).sum() > 20 and 10 < height.max() < 20


def test_a_run_of_ours_is_rebuilt_and_a_foreign_one_is_not():
    run = simulate_run(11, 4, 100, "laying")
    scene, forest = simulator.rebuild(run, 11)
    np.testing.assert_array_equal(forest.occlude(scene, [0.0])[0], run.views[5])
    assert simulator.rebuild(run, 12) is None


def test_strata():
    mixture = Counter(stratum(k) for k in range(200))
    poses = Counter(stratum(k)[0] for k in range(200))
    densities = Counter(stratum(k)[1] for k in range(200))
    assert poses == {"laying": 60, "sitting": 60, "idle": 60, "none": 20}
    assert densities == {0: 20, 100: 90, 200: 90}
    assert mixture["none", 100] == 9 and mixture["laying", 0] == 6 and len(mixture) == 12
    assert Counter(stratum(k, balanced=True) for k in range(24)) == dict.fromkeys(mixture, 2)


def test_variation_widens_the_ranges():
    noisy = simulate_run(0, 0, density=0, pose="none", ground_kelvin=(295, 295), noise=(3, 3))
    plain = simulate_run(0, 0, density=0, pose="none", ground_kelvin=(295, 295))
    assert np.std(noisy.views[0] - plain.views[0].astype(float)) == pytest.approx(3, abs=0.2)
    assert np.array_equal(noisy.truth, plain.truth)
    dense = simulate_scene(0, 0, variation=Variation(density=(300, 300)))[1]
    assert len(dense.corners) > 2 * len(simulate_scene(0, 0, 100)[1].corners)
    couple = simulate_scene(0, 0, 0, "sitting", Variation(persons=(2, 2)))[0]
    assert len(couple.points) > 1.9 * len(simulate_scene(0, 0, 0, "sitting")[0].points)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: simulate_run(0, 0, density=301), "301"),
        (lambda: simulate_run(0, 0, density=-1), "-1"),
        (lambda: simulate_run(0, 0, pose="flying"), "flying"),
        (lambda: simulate_run(0, 0, noise=(2, 1)), "noise"),
        (lambda: simulate("unused", 0), "at least one"),
    ],
)
def test_wrong_arguments_are_named(call, word):
    with pytest.raises(UnveilError, match=word):
        call()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    seen = []
    options = dict(runs=12, seed=9, incomplete=0.25, split=0.4, runs_per_archive=4, balanced=True)
    paths = simulate(folder, workers=1, progress=lambda done, runs: seen.append((done, runs)), **options)
    return paths, options, seen


def test_archives_have_the_layout_of_the_course(written):
    paths, _, seen = written
    assert [path.name for path in paths] == ["batch_0_001.zip", "batch_0_002.zip", "batch_0_003.zip"]
    assert seen == [(k, 12) for k in range(1, 13)]
    catalogue = archives.scan(paths, verify=True)
    assert len(catalogue.complete) == 9 and len(catalogue.incomplete) == 3
    assert catalogue.split and not catalogue.foreign and not catalogue.damaged and not catalogue.duplicates
    for entry in catalogue.complete:
        number = int(entry.id.split("_")[1])
        run = archives.read_run(entry)
        expected = simulate_run(9, number, *reversed(stratum(number, balanced=True)))
        assert np.array_equal(run.views, expected.views) and np.array_equal(run.truth, expected.truth)
        assert run.parameters == expected.parameters


@pytest.mark.slow
def test_archives_do_not_depend_on_the_number_of_workers(written, tmp_path):
    paths, options, _ = written
    again = simulate(tmp_path, workers=2, **options)
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in paths]


def test_about_three_percent_are_incomplete():
    for seed in range(3):
        assert 26 <= len(simulator._chosen(seed, 0.028, 1, 1000)) <= 30
        assert simulator._chosen(seed, 0.0, 1, 1000) == set()
        assert len(simulator._chosen(seed, 0.028, 1, 12)) == 1 and not simulator._chosen(seed, 0.0, 1, 12)


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    def full(self, *_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(UnveilError, match=r"batch_0_001\.zip.*No space left"):
        simulate(tmp_path, 1, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnveilError, match="file"):
        simulate(tmp_path / "file", 1)


def test_archives_of_another_simulation_are_left_alone(tmp_path):
    (tmp_path / "batch_0_007.zip").write_bytes(b"precious")
    with pytest.raises(UnveilError, match="batch_0_007"):
        simulate(tmp_path, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["batch_0_007.zip"]
