"""The integrator: geometry against formulas written anew, its ways against each other, and the reference renderer."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from unveil.aos import integrator, simulator
from unveil.aos.camera import ALTITUDE, CENTER_VIEW, Cameras, course_rig
from unveil.aos.integrator import HEIGHTS, candidates, integrate, register, statistics, steady_level
from unveil.errors import UnveilError

RIG = course_rig()
FOCAL = 256 / np.tan(np.radians(25))


def rotation(rng, degrees):
    """A random small rotation about each axis in turn, after any heading."""
    x, y = np.radians(rng.uniform(-degrees, degrees, 2))
    z = rng.uniform(0, 2 * np.pi)
    rx = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    ry = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    rz = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return rx @ ry @ rz


def wild_rig(rng, count=5, degrees=12):
    """Cameras of any heading, tilted, at mixed altitudes and fields of view."""
    extrinsics = np.empty((count, 3, 4))
    for matrix in extrinsics:
        matrix[:, :3] = rotation(rng, degrees)
        matrix[:, 3] = -matrix[:, :3] @ (*rng.uniform(-4, 4, 2), rng.uniform(-40, -25))
    return Cameras(extrinsics, rng.uniform(40, 60, count))


def smooth_views(rng, count=5, height=48, width=48):
    """Views with some structure, for which rounding of sampling positions hardly matters."""
    views = rng.uniform(0, 255, (count, height, width)).astype(np.float32)
    for axis in (1, 2):
        views = (views + np.roll(views, 1, axis) + np.roll(views, 2, axis)) / 3
    return views


def by_the_book(views, cameras, height, target, size):
    """One plane as docs/design.md writes it, pixel by pixel: an oracle that shares nothing with the library."""
    rows, columns = size
    image, coverage = np.zeros(size), np.zeros(size, int)
    half = np.tan(np.radians(target.fov[0]) / 2)
    turn, shift = target.extrinsics[0, :, :3], target.extrinsics[0, :, 3]
    center = -turn.T @ shift
    for r in range(rows):
        for c in range(columns):
            d = ((2 * (c + 0.5) / columns - 1) * half * columns / rows, (2 * (r + 0.5) / rows - 1) * half, 1)
            ray = turn.T @ d
            along = (-height - center[2]) / ray[2]
            if along <= 0:
                continue
            point = center + along * ray
            for view, matrix, fov in zip(views.astype(float), cameras.extrinsics, cameras.fov, strict=True):
                h, w = view.shape
                p = matrix[:, :3] @ point + matrix[:, 3]
                half_view = np.tan(np.radians(fov) / 2)
                u = 0.5 + 0.5 * p[0] / (p[2] * half_view * w / h)
                v = 0.5 + 0.5 * p[1] / (p[2] * half_view)
                if p[2] > 0 and 0 <= u <= 1 and 0 <= v <= 1:
                    x, y = np.clip(u * w - 0.5, 0, w - 1), np.clip(v * h - 0.5, 0, h - 1)
                    c0, r0 = int(x), int(y)
                    c1, r1 = min(c0 + 1, w - 1), min(r0 + 1, h - 1)
                    fx, fy = x - c0, y - r0
                    above = view[r0, c0] * (1 - fx) + view[r0, c1] * fx
                    below = view[r1, c0] * (1 - fx) + view[r1, c1] * fx
                    image[r, c] += above * (1 - fy) + below * fy
                    coverage[r, c] += 1
    return image / np.maximum(coverage, 1), coverage


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [(20, 20), (17, 29)])
def test_any_poses_follow_the_book(seed, size):
    rng = np.random.default_rng(seed)
    views = smooth_views(rng, 5, 20, int(rng.choice([20, 26])))
    cameras, target = wild_rig(rng), wild_rig(rng, 1)
    height = rng.uniform(-3, 3)
    expected, seen = by_the_book(views, cameras, height, target, size)
    image, coverage = integrate(views, cameras, height, target, size=size)
    np.testing.assert_array_equal(coverage[0], seen)
    np.testing.assert_allclose(image[0], expected, atol=1e-3)
    assert seen.max() > seen.min()


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1), (2, 2)])
def test_tilted_views_of_few_pixels_follow_the_book(shape):
    rng = np.random.default_rng(6)
    views, cameras, target = smooth_views(rng, 5, *shape), wild_rig(rng), wild_rig(rng, 1)
    expected, seen = by_the_book(views, cameras, 0.7, target, (9, 9))
    image, coverage = integrate(views, cameras, 0.7, target, size=(9, 9))
    np.testing.assert_array_equal(coverage[0], seen)
    np.testing.assert_allclose(image[0], expected, atol=1e-3)


@pytest.mark.parametrize("shape", [(24, 24), (18, 30), (30, 18), (1, 9), (9, 1)])
def test_course_rig_follows_the_book(shape):
    views = smooth_views(np.random.default_rng(5), 11, *shape)
    expected, seen = by_the_book(views, RIG, 1.3, RIG.target(CENTER_VIEW), shape)
    image, coverage = integrate(views, RIG, 1.3)
    np.testing.assert_array_equal(coverage[0], seen)
    np.testing.assert_allclose(image[0], expected, atol=1e-3)


@pytest.fixture
def general_only(monkeypatch):
    """Integrate without the straight-down shortcut."""

    def run(*arguments, **options):
        with monkeypatch.context() as patch:
            patch.setattr(integrator._Scene, "is_shift", False)
            return integrate(*arguments, **options)

    return run


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("target", [0, 5, 9])
def test_straight_down_shortcut_equals_the_general_way(general_only, kind, target):
    views = np.random.default_rng(target).integers(0, 256, (11, 64, 80)).astype(kind)
    heights = [-10, 0, 0.37, 2, 20, 34.9]
    quick, full = integrate(views, RIG, heights, target), general_only(views, RIG, heights, target)
    np.testing.assert_array_equal(quick.coverage, full.coverage)
    np.testing.assert_allclose(quick.image, full.image, atol=1e-3)


def test_a_view_is_its_own_integral():
    views = np.random.default_rng(0).integers(0, 256, (1, 40, 52), dtype=np.uint8)
    for cameras in (RIG[5], wild_rig(np.random.default_rng(1), 1)):
        image, coverage = integrate(views, cameras, 0.5)
        np.testing.assert_allclose(image[0], views[0], atol=1e-3)
        assert (coverage == 1).all()


@pytest.mark.parametrize("height", [0.0, 1.0, 1.8, 5.0])
def test_views_shift_by_focal_length_times_baseline_over_distance(height):
    column = np.arange(512, dtype=np.float32)
    views = np.broadcast_to(column, (11, 512, 512)).copy()
    registered, inside = register(views, RIG, height)
    for view, x in enumerate(range(5, -6, -1)):
        shift = FOCAL * -x / (ALTITUDE - height)
        middle = slice(150, 360)
        np.testing.assert_allclose(registered[0, view, 100, middle], column[middle] + shift, atol=1e-3)
        seen = (column + 0.5 + shift >= 0) & (column + 0.5 + shift <= 512)
        np.testing.assert_array_equal(inside[0, view, 100], seen)


@pytest.mark.parametrize("height", [0.0, 1.4])
def test_a_point_on_the_plane_comes_into_focus(height):
    rng = np.random.default_rng(3)
    cameras, target = wild_rig(rng, 7, 5), wild_rig(rng, 1, 5)
    point = np.array([0.4, -0.3, -height])
    rows, columns = np.mgrid[:128, :128] + 0.5

    def spot(camera):
        p = camera.rotation[0] @ point + camera.translation[0]
        x, y = 64 + 64 * p[:2] / (p[2] * np.tan(np.radians(camera.fov[0]) / 2))
        return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18).astype(np.float32)

    views = np.stack([spot(cameras[i]) for i in range(7)])
    peak = np.argwhere(spot(target) == spot(target).max())[0]
    sharp, above = integrate(views, cameras, [height, height + 8], target).image
    assert np.abs(np.argwhere(sharp == sharp.max())[0] - peak).max() <= 1
    assert sharp.max() > 0.9
    assert above[tuple(peak)] < 0.7


def test_planes_in_one_call_equal_planes_one_by_one():
    rng = np.random.default_rng(2)
    views = smooth_views(rng)
    for cameras in (RIG[3:8], wild_rig(rng)):
        together = integrate(views, cameras, HEIGHTS)
        assert together.image.shape == together.coverage.shape == (5, 48, 48)
        for plane, height in enumerate(HEIGHTS):
            alone = integrate(views, cameras, height)
            np.testing.assert_array_equal(together.image[plane], alone.image[0])
            np.testing.assert_array_equal(together.coverage[plane], alone.coverage[0])


def test_a_level_height_map_is_a_plane_and_a_stepped_one_is_two():
    rng = np.random.default_rng(4)
    views = smooth_views(rng)
    for cameras in (RIG[3:8], wild_rig(rng)):
        low, high = integrate(views, cameras, [0.5, 2]).image
        steps = np.full((48, 48), 0.5)
        np.testing.assert_allclose(integrate(views, cameras, steps).image[0], low, atol=1e-3)
        steps[:, 24:] = 2
        image = integrate(views, cameras, steps[None]).image[0]
        np.testing.assert_allclose(image[:, :24], low[:, :24], atol=1e-3)
        np.testing.assert_allclose(image[:, 24:], high[:, 24:], atol=1e-3)


def test_the_integral_is_the_mean_of_the_registered_views():
    rng = np.random.default_rng(6)
    views, cameras = smooth_views(rng), wild_rig(rng)
    registered, inside = register(views, cameras, [0, 1])
    image, coverage = integrate(views, cameras, [0, 1])
    assert registered.dtype == np.float32
    assert inside.dtype == bool
    assert (registered[~inside] == 0).all()
    np.testing.assert_array_equal(inside.sum(1), coverage)
    np.testing.assert_allclose(registered.sum(1) / coverage.clip(1), image, atol=1e-3)


def test_statistics_are_numpys_over_the_views_inside():
    rng = np.random.default_rng(7)
    registered = rng.uniform(0, 255, (2, 6, 9, 8)).astype(np.float32)
    inside = rng.random((2, 6, 9, 8)) < 0.6
    inside[:, :, 0, 0] = False
    inside[:, :, 0, 1:] |= np.arange(6)[:, None] == 0
    inside[:, 0, 1:] = True
    found = statistics(registered, inside)
    masked = np.ma.array(registered, mask=~inside)
    expected = {
        "mean": masked.mean(1),
        "median": np.ma.median(masked, axis=1),
        "max": masked.max(1),
        "min": masked.min(1),
        "std": masked.std(1),
    }
    tensors = statistics(torch.from_numpy(registered), torch.from_numpy(inside))
    assert list(found) == list(expected) == list(tensors)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value.filled(0), rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(tensors[name], value.filled(0), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("nadir", [True, False])
def test_uint8_float_and_tensors_agree(nadir):
    rng = np.random.default_rng(8)
    views = rng.integers(0, 256, (5, 40, 48), dtype=np.uint8)
    cameras = RIG[3:8] if nadir else wild_rig(rng)
    expected = integrate(views, cameras, HEIGHTS)
    assert expected.image.dtype == np.float32
    for kind in (np.float32, np.float64, np.int16):
        np.testing.assert_array_equal(integrate(views.astype(kind), cameras, HEIGHTS).image, expected.image)
    read_only = views.copy()
    read_only.setflags(write=False)
    np.testing.assert_array_equal(integrate(read_only[:, ::1], cameras, HEIGHTS).image, expected.image)
    for tensor in (torch.from_numpy(views), torch.from_numpy(views).float().requires_grad_()):
        image, coverage = integrate(tensor, cameras, torch.tensor(HEIGHTS))
        assert isinstance(image, torch.Tensor)
        assert image.dtype == torch.float32
        np.testing.assert_array_equal(coverage, expected.coverage)
        # Float32 sampling positions on white noise: a few thousandths of a gray level.
        np.testing.assert_allclose(image.detach(), expected.image, atol=0.02)


@pytest.mark.parametrize("nadir", [True, False])
def test_gradients_reach_views_and_heights(nadir):
    rng = np.random.default_rng(10)
    cameras = RIG[4:7] if nadir else wild_rig(rng, 3)
    views = torch.from_numpy(rng.uniform(0, 1, (3, 5, 6))).requires_grad_()
    # Bilinear sampling has kinks between pixels, where finite differences say nothing about heights.
    assert torch.autograd.gradcheck(lambda v: integrate(v, cameras, [0.3, 1.1]).image, views)
    heights = torch.full((1, 5, 6), 0.8, dtype=torch.float64, requires_grad=True)
    integrate(views, cameras, heights).image.sum().backward()
    assert torch.isfinite(heights.grad).all()
    assert heights.grad.abs().max() > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_gives_the_same_integrals():
    rng = np.random.default_rng(11)
    views = rng.integers(0, 256, (11, 128, 128), dtype=np.uint8)
    for cameras in (RIG, wild_rig(rng, 11)):
        expected = integrate(views, cameras, HEIGHTS)
        image, coverage = integrate(torch.from_numpy(views).cuda(), cameras, HEIGHTS)
        assert image.is_cuda
        np.testing.assert_array_equal(coverage.cpu(), expected.coverage)
        np.testing.assert_allclose(image.cpu(), expected.image, atol=0.02)


def test_threads_do_not_change_a_bit_and_calls_may_overlap():
    from concurrent.futures import ThreadPoolExecutor

    rng = np.random.default_rng(12)
    views = rng.integers(0, 256, (5, 33, 40), dtype=np.uint8)
    for cameras in (RIG[3:8], wild_rig(rng)):
        expected = integrate(views, cameras, HEIGHTS, threads=1)
        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(integrate, views, cameras, HEIGHTS, threads=n) for n in (1, 2, 3, 100) * 5]
            for call in calls:
                np.testing.assert_array_equal(call.result().image, expected.image)


def test_what_no_view_sees_is_zero_with_coverage_zero():
    views = np.full((1, 32, 32), 200, np.uint8)
    far = Cameras(np.concatenate([np.eye(3), [[-60.0], [0], [35]]], axis=1), 50)
    for way in (views, torch.from_numpy(views).float().requires_grad_()):
        image, coverage = integrate(way, far, 0, RIG.target(5))
        assert (coverage == 0).all()
        assert (image == 0).all()


def test_views_below_the_plane_do_not_count():
    rng = np.random.default_rng(13)
    views = smooth_views(rng, 3)
    extrinsics = RIG[4:7].extrinsics.copy()
    extrinsics[0, 2, 3] = 10
    for low in (10.0, 12.0):
        image, coverage = integrate(views, Cameras(extrinsics, 50), low)
        assert coverage.max() == 2
        assert np.isfinite(image).all()
    heights = np.full((1, 48, 48), 1.0)
    heights[0, 0] = 35
    heights[0, 1] = 40
    coverage = integrate(views, RIG[4:7], heights).coverage
    assert (coverage[0, :2] == 0).all()
    assert (coverage[0, 2:] > 0).all()


def test_a_target_looking_at_the_horizon_sees_ground_below_it_only():
    views = np.full((11, 32, 32), 7.0, np.float32)
    level = Cameras([[[1.0, 0, 0, 0], [0, 0, 1, 5], [0, -1, 0, 0]]], 50)
    for array in (views, torch.from_numpy(views).requires_grad_()):
        image, coverage = (
            np.asarray(part.detach() if hasattr(part, "detach") else part) for part in integrate(array, RIG, 0, level)
        )
        assert (coverage[0, :16] == 0).all()
        assert coverage[0, 31].max() > 0
        np.testing.assert_allclose(image[coverage > 0], 7, atol=1e-5)


def as_candidates(views, cameras, heights, target=None):
    """Registered views in whole gray levels, filled with the mean of those that see the pixel, before rounding."""
    registered, inside = register(views, cameras, heights, target)
    mean = np.ma.array(registered, mask=~inside).mean(1, keepdims=True).filled(0)
    return np.where(inside, registered, mean).reshape(-1, *views.shape[1:])


def candidate_cases():
    rng = np.random.default_rng(14)
    noise = rng.integers(0, 256, (11, 30, 44), dtype=np.uint8)
    yield pytest.param(noise, RIG, HEIGHTS, None, id="course rig")
    yield pytest.param(noise, RIG, 0.2, 9, id="another target")
    yield pytest.param(noise[4:7], RIG[4:7], [0.2, 1.8], RIG.target(0), id="a target that is no view")
    yield pytest.param(noise.astype(np.float32), RIG, [-10, 0, 20, 34.9], 5, id="float views, wide shifts")
    yield pytest.param(rng.uniform(0, 255, (2, 24, 24)), RIG[[3, 8]], [0.0], 0, id="two float64 views")
    yield pytest.param(noise[:5], wild_rig(rng), [0, 1.5], None, id="tilted rig")
    yield pytest.param(noise[:3].astype(np.float64), wild_rig(rng, 3), 0.4, wild_rig(rng, 1), id="tilted, any target")


@pytest.mark.parametrize(("views", "cameras", "heights", "target"), [*candidate_cases()])
def test_candidates_are_registered_views_filled_with_their_mean(views, cameras, heights, target):
    found = candidates(views, cameras, heights, target)
    planes = np.size(heights)
    assert found.dtype == np.uint8
    assert found.shape == (planes * len(views) + 1, *views.shape[1:])
    # Rounded to the nearest level, whichever way ties go.
    assert np.abs(found[:-1] - as_candidates(views, cameras, heights, target)).max() <= 0.501
    assert len(np.unique(found[-1])) == 1
    for threads in (1, 3):
        np.testing.assert_array_equal(candidates(views, cameras, heights, target, threads=threads), found)


def test_both_ways_to_candidates_agree(monkeypatch):
    views = simulator.simulate_run(3, 1, density=50, pose="laying").views[:, ::4, ::4]
    quick = candidates(views, RIG, (0.2, 1.8))
    with monkeypatch.context() as patch:
        patch.setattr(integrator._Scene, "is_shift", False)
        full = candidates(views, RIG, (0.2, 1.8))
    difference = np.abs(quick.astype(int) - full)
    assert difference.max() <= 1
    assert (difference == 0).mean() > 0.99


@pytest.mark.parametrize(("density", "pose"), [(0, "laying"), (0, "none"), (100, "sitting"), (100, "none")])
def test_the_steady_level_is_that_of_the_ground(density, pose):
    for index in range(2):
        run = simulator.simulate_run(7, index, density=density, pose=pose)
        level = int(candidates(run.views, RIG, (0.2, 1.8), CENTER_VIEW)[-1, 0, 0])
        assert abs(level - np.median(run.truth)) <= 1


def test_the_steady_level_listens_to_the_steadiest_pixels_that_all_views_see():
    rng = np.random.default_rng(15)
    mean, spread = rng.uniform(0, 255, (100, 100)), rng.uniform(5, 50, (100, 100))
    mean[40:42, 10:15], spread[40:42, 10:15] = 77, 0.5
    mean[:5], spread[:5] = 200, np.inf
    assert abs(steady_level(mean, spread) - 77) < 0.1
    assert abs(steady_level(np.array([[3.0, 9.0]]), np.array([[2.0, 1.0]])) - 9) < 0.1


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("offset", [-26, 26])
def test_the_steady_level_where_no_pixel_is_seen_by_all_views(axis, offset):
    """Three views far apart: some pixels are seen by two of them, some by none, which must not count as black."""
    extrinsics = np.zeros((3, 3, 4))
    extrinsics[:, :, :3] = np.eye(3)
    extrinsics[:, axis, 3] = offset + np.array([-20, 0, 20])
    extrinsics[:, 2, 3] = ALTITUDE
    cameras, target = Cameras(extrinsics, 50), RIG.target(CENTER_VIEW)
    views = np.full((3, 64, 64), 100, np.uint8)
    coverage = integrate(views, cameras, 0.2, target).coverage
    assert set(np.unique(coverage)) == {0, 1, 2}
    found = candidates(views, cameras, [0.2], target)
    assert (found[-1] == 100).all()
    assert (found[:-1, coverage[0] > 0] == 100).all()
    assert (found[:-1, coverage[0] == 0] == 0).all()


@pytest.mark.parametrize("nadir", [True, False])
def test_one_view_is_its_own_candidate_at_its_own_level(nadir):
    """A view alone is steady everywhere, so that its level is its most frequent one."""
    rng = np.random.default_rng(16)
    views = rng.integers(120, 256, (1, 40, 52), dtype=np.uint8)
    views[0, 8:32] = 90
    cameras = RIG[5] if nadir else wild_rig(rng, 1)
    found = candidates(views, cameras, [0.5])
    assert found.shape == (2, 40, 52)
    np.testing.assert_array_equal(found[0], views[0])
    assert (found[-1] == 90).all()


@pytest.mark.parametrize("way", ["shift", "general"])
@pytest.mark.parametrize(("level", "expected"), [(0, 0), (255, 255), (254.6, 255), (255.7, 255), (300, 255), (-3, 0)])
def test_candidates_never_wrap_around(monkeypatch, way, level, expected):
    if way == "general":
        monkeypatch.setattr(integrator._Scene, "is_shift", False)
    kind = np.uint8 if level in (0, 255) else np.float32
    found = candidates(np.full((11, 16, 64), level, kind), RIG, (0.2, 1.8))
    assert (found == expected).all()


def test_bright_noise_does_not_wrap_around():
    views = np.random.default_rng(17).integers(250, 256, (11, 64, 128), dtype=np.uint8)
    assert candidates(views, RIG, HEIGHTS).min() >= 250


@pytest.mark.parametrize("cameras", [RIG, wild_rig(np.random.default_rng(18), 11)], ids=["nadir", "tilted"])
def test_candidates_want_plain_planes(cameras):
    for heights in (np.zeros((8, 8)), np.zeros((2, 8, 8))):
        with pytest.raises(UnveilError, match="height"):
            candidates(np.zeros((11, 8, 8), np.uint8), cameras, heights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": np.zeros((10, 8, 8), np.uint8)}, "10 views need as many cameras, there are 11"),
        ({"views": np.zeros((8, 8), np.uint8)}, r"shape \(V, H, W\), not \(8, 8\)"),
        ({"views": np.zeros((11, 0, 8), np.uint8)}, r"shape \(V, H, W\)"),
        ({"views": [[1, 2], [3, 4]]}, "not list"),
        ({"views": np.full((11, 8, 8), np.nan, np.float32)}, "views hold values that are not finite"),
        ({"views": np.full((11, 8, 8), np.inf)}, "views hold values that are not finite"),
        ({"heights": np.nan}, "heights must be finite"),
        ({"heights": []}, "heights must be"),
        ({"heights": "ground"}, "not 'ground'"),
        ({"heights": np.zeros((2, 9, 8))}, "heights must be"),
        ({"heights": 35.0}, "35 m above ground, cannot see the plane at 35 m"),
        ({"heights": [0, 60]}, "cannot see the plane at 60 m"),
        ({"target": 11}, "target view 11"),
        ({"target": RIG}, "one camera, not 11"),
        ({"size": (0, 8)}, "size of an integral"),
    ],
)
@pytest.mark.parametrize("run", [integrate, register, candidates])
def test_bad_input_is_named(run, change, message):
    if run is candidates and "size" in change:
        pytest.skip("candidates are as large as the views")
    arguments = {"views": np.zeros((11, 8, 8), np.uint8), "cameras": RIG, "heights": 0.0} | change
    with pytest.raises(UnveilError, match=message):
        run(**arguments)


def read_views(folder, names):
    return np.stack([np.asarray(Image.open(folder / name)) for name in names])


COURSE_NAMES = [f"0_0_pose_{pose}_thermal.png" for pose in range(11)]


@pytest.mark.parametrize("way", ["compiled", "torch"])
@pytest.mark.parametrize(
    ("folder", "tag", "camera", "height"),
    [
        ("synthetic_nadir", "000", "c5", 0.0),
        ("synthetic_nadir", "100", "c5", 1.0),
        ("synthetic_nadir", "200", "c5", 2.0),
        ("synthetic_tilted", "c5_100", "c5", 1.0),
        ("synthetic_tilted", "tilt40_200", "tilt40", 2.0),
        ("flight", "z+12.0", None, -12.0),
        ("flight", "z+18.0", None, -18.0),
    ],
)
def test_reference_renderer(reference, folder, tag, camera, height, way):
    folder = reference / folder
    poses = json.loads((folder / "poses.json").read_text())
    cameras = Cameras(poses["views"], poses["fov_images"])
    if camera is None:
        views, target = read_views(folder / "images", poses["imagefiles"]), cameras.target(poses["center"])
    else:
        views = read_views(folder, COURSE_NAMES)
        target = next(Cameras(v["M3x4"], v["fov"]) for v in poses["virtual"] if v["name"] == camera)
    if way == "torch":
        views = torch.from_numpy(views).double()
    image, coverage = (np.asarray(part[0]) for part in integrate(views, cameras, height, target))
    expected, seen = np.load(folder / f"integral_{tag}.npy"), np.load(folder / f"coverage_{tag}.npy")
    # Beside a view's border the renderer may count one pixel more or less.
    agree = coverage == seen
    assert agree.mean() > 0.999
    difference = np.abs(image - expected)[agree & (coverage > 0)]
    assert difference.mean() <= 0.015
    assert difference.max() <= 0.3
    np.testing.assert_array_equal(np.isnan(expected), seen == 0)


@pytest.mark.parametrize("centimetres", ["000", "060", "150"])
def test_gpu_integrals_of_the_course_run(reference, centimetres):
    folder = reference / "course_run"
    image = integrate(read_views(folder, COURSE_NAMES), RIG, int(centimetres) / 100).image[0]
    expected = np.asarray(Image.open(folder / f"0_0_GPUref_integral_{centimetres}cm.png")).astype(int)
    difference = np.abs(np.rint(image).astype(int) - expected)
    assert (difference == 0).mean() >= 0.97
    assert difference.max() <= 1
