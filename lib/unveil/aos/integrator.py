"""Integral images: views registered on a focal plane and averaged, as a lens as wide as the flight would do it.

For each pixel centre of the target camera a ray is cut with the plane z = −h, the point is projected into every view,
sampled there bilinearly (edge pixels clamped) and averaged over the views whose picture holds it. This is the reference
renderer's arithmetic (JKU Linz, Airborne Optical Sectioning), written down in ``docs/design.md``.

Three ways lead to the same numbers: straight-down rigs shift rows; other rigs use one homography per view and plane;
tensors on a GPU, of float64 or with gradients go through ``torch.nn.functional.grid_sample``. The first two are the
compiled loops of `unveil.aos._kernels`, for NumPy arrays and plain CPU tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from unveil.aos import _kernels
from unveil.aos.camera import Cameras
from unveil.errors import UnveilError

if TYPE_CHECKING:
    import torch

Array: TypeAlias = "np.ndarray | torch.Tensor"
Heights: TypeAlias = "float | Sequence[float] | Array"
Target: TypeAlias = "Cameras | int | None"
Size: TypeAlias = "tuple[int, int] | None"
Count: TypeAlias = "int | None"

HEIGHTS = (0.2, 0.6, 1.0, 1.4, 1.8)
"""Focal heights of the course's stacks, metres above ground."""

STATISTICS = ("mean", "median", "max", "min", "std")


class Integral(NamedTuple):
    """Integral images (P, H, W), float32 in the views' gray levels, and the number of views behind each pixel, int32.

    Where no view sees a pixel's point, coverage and image are 0.
    """

    image: Array
    coverage: Array


class Registration(NamedTuple):
    """Views seen from the target through each plane (P, V, H, W), float32, 0 where ``inside`` (bool) is false."""

    registered: Array
    inside: Array


class Rays(NamedTuple):
    """Where the rays of a target's pixels meet the views: origins (V, 3), directions (V, 3, 3), slope (3,), z in m.

    At the height h, pixel x = (column + ½, row + ½, 1) of the target is sampled in view v at the pixel index
    q_x/q_z, q_y/q_z with q = origins[v] + λ directions[v]·x and λ = (−h − z) / slope·x, where λ and q_z are positive.
    """

    origins: np.ndarray
    directions: np.ndarray
    slope: np.ndarray
    z: float

    def homographies(self, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Maps (P, V, 3, 3) from x to q for planes at heights (P,), and sides (P, 3): side·x > 0 where λ > 0."""
        distance = -heights - self.z
        sign = np.sign(distance)
        maps = self.origins[None, :, :, None] * self.slope + distance[:, None, None, None] * self.directions
        return sign[:, None, None, None] * maps, sign[:, None] * self.slope


def rays(cameras: Cameras, target: Cameras, view_size: tuple[int, int], size: tuple[int, int]) -> Rays:
    """The rays of a target of ``size`` (H, W) pixels among views of ``view_size`` (H, W) pixels."""
    rows, columns = size
    half = math.tan(math.radians(target.fov[0]) / 2)
    pixel = 2 * half / rows
    to_world = target.rotation[0].T @ [[pixel, 0, -half * columns / rows], [0, pixel, -half], [0, 0, 1.0]]
    rows, columns = view_size
    to_pixels = np.zeros((len(cameras), 3, 3))
    to_pixels[:, 0, 0] = to_pixels[:, 1, 1] = rows / (2 * np.tan(np.radians(cameras.fov) / 2))
    to_pixels[:, :, 2] = columns / 2 - 0.5, rows / 2 - 0.5, 1
    center = target.centers[0]
    origins = np.einsum("vij,vj->vi", to_pixels, cameras.rotation @ center + cameras.translation)
    return Rays(origins, to_pixels @ cameras.rotation @ to_world, to_world[2].copy(), float(center[2]))


def integrate(
    views: Array, cameras: Cameras, heights: Heights, target: Target = None, *, size: Size = None, threads: Count = None
) -> Integral:
    """Integrate views on focal planes.

    Parameters
    ----------
    views : (V, H, W) gray levels, uint8 or float, NumPy or torch.
    cameras : the V views' cameras.
    heights : metres above ground (plane z = −h): one, P of them, or a height map per pixel (P, H, W) or (H, W).
    target : the camera from which the integral is seen, or the index of a view; the middle view by default.
    size : (H, W) of the integral; the views' by default.
    threads : CPU threads; by default as many as torch uses, or one per core where torch is not loaded.

    Returns NumPy for NumPy; torch for torch, on the views' device, differentiable in views and heights. Float64 tensors
    stay float64. Raises UnveilError for shapes that do not fit, values that are not finite and planes that the target
    cannot see.
    """
    scene = _Scene(views, cameras, heights, target, size)
    if scene.needs_torch(views):
        return Integral(*_stacked(_mean_torch(*_sample_torch(views, scene, plane)) for plane in range(scene.planes)))
    if scene.is_map:
        registered, inside = register(views, cameras, heights, target, size=size, threads=threads)
        count = inside.sum(1)
        return Integral(registered.sum(1) / count.clip(1), count.astype(np.int32) if _is_numpy(count) else count.int())
    array, back = _as_array(views)
    image = np.empty((scene.planes, *scene.size), np.float32)
    coverage = np.empty(image.shape, np.int32)
    if scene.is_shift:
        _kernels.share_rows(_kernels.shift_rows, scene.size[0], threads, array, scene.shifts(), image, coverage)
    else:
        planes = scene.rays.homographies(scene.plain_heights())
        _kernels.share_rows(_kernels.plane_rows, scene.size[0], threads, array, *planes, image, coverage)
    return Integral(back(image), back(coverage))


def register(
    views: Array, cameras: Cameras, heights: Heights, target: Target = None, *, size: Size = None, threads: Count = None
) -> Registration:
    """Look at each view from the target camera through each focal plane; arguments and errors as in `integrate`.

    The integral is the mean of the registered views over those inside. P·V·H·W floats are returned: 58 MB for five
    planes of the course rig.
    """
    scene = _Scene(views, cameras, heights, target, size)
    if scene.needs_torch(views):
        return Registration(*_stacked(_sample_torch(views, scene, plane) for plane in range(scene.planes)))
    array, back = _as_array(views)
    registered = np.empty((scene.planes, len(array), *scene.size), np.float32)
    inside = np.empty(registered.shape, np.bool_)
    maps = scene.plain_heights() if scene.is_map else scene.plain_heights()[:, None, None]
    maps = np.ascontiguousarray(np.broadcast_to(maps, (scene.planes, *scene.size)))
    _kernels.share_rows(_kernels.register_rows, scene.size[0], threads, array, *scene.rays, maps, registered, inside)
    return Registration(back(registered), back(inside))


def statistics(registered: Array, inside: Array, *, threads: Count = None) -> dict[str, Array]:
    """Mean, median, max, min and std (population) over the views behind each pixel, 0 where no view looks.

    ``registered`` and ``inside`` are (P, V, H, W) from `register`; each result is (P, H, W) float32. The median of an
    even number lies between the middle two.
    """
    if registered.shape != inside.shape or registered.ndim != 4:
        shapes = tuple(registered.shape), tuple(inside.shape)
        raise UnveilError(f"registered views and their mask must both be (P, V, H, W), not {shapes[0]} and {shapes[1]}")
    arrays = [np.ascontiguousarray(_numpy(a), kind) for a, kind in ((registered, np.float32), (inside, np.bool_))]
    planes, _, *size = registered.shape
    found = np.empty((len(STATISTICS), planes, *size), np.float32)
    _kernels.share_rows(_kernels.statistics_rows, size[0], threads, *arrays, found)
    found = found if _is_numpy(registered) else registered.new_tensor(found)
    return dict(zip(STATISTICS, found, strict=True))


def candidates(
    views: Array, cameras: Cameras, heights: Heights, target: Target = None, *, size: Size = None, threads: Count = None
) -> np.ndarray:
    """What each view says of each pixel on each focal plane, for networks that pool the views themselves.

    Takes NumPy views and plain heights, else as `integrate`. Returns (P·V + 1, H, W) uint8 gray levels: channel
    p·V + v is view v registered on plane p; where it does not see the pixel it says the mean of those that do (0 where
    none does). The last channel is constant: the `steady_level` of the first plane.
    """
    scene = _Scene(views, cameras, heights, target, size)
    if scene.is_map:
        raise UnveilError(f"candidates lie on planes: heights must be numbers, not of shape {np.shape(heights)}")
    count = len(views)
    found = np.empty((scene.planes * count + 1, *scene.size), np.uint8)
    said = found[:-1].reshape(scene.planes, count, *scene.size)
    mean, spread = np.empty(scene.size, np.float32), np.empty(scene.size, np.float32)
    if scene.is_shift:
        array, _ = _as_array(views)
        _kernels.share_rows(_kernels.candidate_rows, scene.size[0], threads, array, scene.shifts(), said, mean, spread)
    else:
        registered, inside = register(views, cameras, heights, target, size=size, threads=threads)
        total = inside.sum(1, keepdims=True)
        means = registered.sum(1, keepdims=True) / total.clip(1)
        filled = np.where(inside, registered, means)
        said[:] = np.clip(np.floor(filled + 0.5), 0, 255)
        mean[:] = means[0, 0]
        missing = count - total[0, 0]
        spread[:] = np.where(missing < count, filled[0].std(0) + _kernels.UNSEEN * missing, np.inf)
    found[-1] = np.clip(np.rint(steady_level(mean, spread)), 0, 255)
    return found


def steady_level(mean: np.ndarray, spread: np.ndarray) -> float:
    """The gray level of the ground, from the pixels where views (or focal planes) agree best.

    ``mean`` and ``spread`` (H, W) are the mean and standard deviation in gray levels, over the views, of each pixel on
    a plane near the ground; a larger spread where not all views look, an infinite one where none does.

    Leaves change from view to view and the ground does not. Every pixel votes for its own level, the more the less it
    changes (a Gaussian of one gray level above the smallest spread); the ground is one level and gathers its votes,
    while leaves that happen to agree scatter theirs. The answer is the weighted mean around the level with most votes:
    within 3 gray levels of the truth for all of 180 simulated runs at 100 trees per hectare and 178 of 180 at 200.
    """
    seen = np.isfinite(spread)
    if not seen.any():
        return 0.0
    level, excess = mean[seen].clip(0, 255), spread[seen] - spread[seen].min()
    weight = np.exp(-0.5 * np.square(excess))
    votes = np.bincount(np.rint(level).astype(int), weight, 256)
    most = np.convolve(votes, np.ones(3), "same").argmax()
    near = np.abs(level - most) <= 1.5
    return float(np.average(level[near], weights=weight[near]))


class _Scene:
    """Checked geometry of one call: target, heights, sizes, and what follows from them in float64."""

    def __init__(self, views, cameras, heights, target, size) -> None:
        if getattr(views, "ndim", None) != 3 or 0 in views.shape:
            shape = tuple(getattr(views, "shape", ())) or type(views).__name__
            raise UnveilError(f"views must be an array or a tensor of shape (V, H, W), not {shape}")
        if len(cameras) != len(views):
            raise UnveilError(f"{len(views)} views need as many cameras, there are {len(cameras)}")
        if not _is_finite(views):
            raise UnveilError("the views hold values that are not finite (NaN or infinite): mend or drop those views")
        if not isinstance(target, Cameras):
            target = len(cameras) // 2 if target is None else int(target)
            if not -len(cameras) <= target < len(cameras):
                raise UnveilError(f"target view {target} is not among the {len(cameras)} views")
            target = cameras[target]
        if len(target) != 1:
            raise UnveilError(f"the target must be one camera, not {len(target)}")
        self.cameras, self.target = cameras, target
        self.view_size = tuple(views.shape[1:])
        self.size = self.view_size if size is None else tuple(int(n) for n in size)
        if len(self.size) != 2 or min(self.size) < 1:
            raise UnveilError(f"the size of an integral is (height, width) in pixels, not {size}")
        self.rays = rays(cameras, target, self.view_size, self.size)
        if _is_numpy(views) and hasattr(heights, "detach"):
            heights = _numpy(heights)
        self.heights = self._checked_heights(heights)
        self.planes, self.is_map = len(self.heights), self.heights.ndim == 3
        if not self.is_map:
            self._check_seen()

    def _checked_heights(self, heights):
        if not hasattr(heights, "detach"):
            try:
                heights = np.asarray(heights, dtype=np.float64)
            except (TypeError, ValueError):
                raise UnveilError(f"focal heights must be numbers of metres above ground, not {heights!r}") from None
        if heights.ndim < 3:
            heights = heights[None] if heights.ndim == 2 else heights.reshape(-1)
        if heights.ndim not in (1, 3) or 0 in heights.shape or heights.shape[1:] not in ((), self.size):
            shape = tuple(heights.shape)
            raise UnveilError(f"heights must be one number, P numbers or maps (P, {self.size}), not of shape {shape}")
        if not _is_finite(heights):
            raise UnveilError("focal heights must be finite numbers of metres above ground")
        return heights

    def _check_seen(self) -> None:
        rows, columns = self.size
        corners = np.array([(x, y, 1.0) for x in (0.5, columns - 0.5) for y in (0.5, rows - 0.5)])
        slope, z = corners @ self.rays.slope, self.rays.z
        for height in self.plain_heights():
            if not ((-height - z) * slope > 0).any():
                what = f"the target camera, {-z:g} m above ground, cannot see the plane at {height:g} m"
                raise UnveilError(f"{what}: focal heights are metres above ground and lie below the camera")

    def needs_torch(self, views) -> bool:
        """Whether compiled code cannot serve: other devices, gradients or double precision."""
        tensors = [array for array in (views, self.heights) if not _is_numpy(array)]
        special = any(tensor.device.type != "cpu" or tensor.requires_grad for tensor in tensors)
        return special or (not _is_numpy(views) and views.element_size() == 8)

    @property
    def is_shift(self) -> bool:
        """Whether registration is a shift along the rows."""
        extrinsics = np.concatenate([self.cameras.extrinsics, self.target.extrinsics])
        together = Cameras(extrinsics, np.concatenate([self.cameras.fov, self.target.fov]))
        return self.size == self.view_size and together.is_nadir

    def plain_heights(self) -> np.ndarray:
        return _numpy(self.heights).astype(np.float64)

    def shifts(self) -> np.ndarray:
        """(P, V) pixels from a target column to the view's: f·(x_i − x_v)/distance; NaN where the plane lies behind."""
        distance = -self.plain_heights() - self.rays.z
        offset = self.cameras.translation[:, 0] - self.target.translation[0, 0]
        focal = self.size[0] / (2 * math.tan(math.radians(self.target.fov[0]) / 2))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(distance > 0, 1 / distance, np.nan)[:, None] * offset * focal


def _is_numpy(array) -> bool:
    return isinstance(array, np.ndarray)


def _numpy(array) -> np.ndarray:
    return array if _is_numpy(array) else array.detach().cpu().numpy()


def _is_finite(array) -> bool:
    if _is_numpy(array):
        return array.dtype.kind in "iub" or bool(np.isfinite(array.min()) and np.isfinite(array.max()))
    return not array.dtype.is_floating_point or bool(array.isfinite().all())


def _as_array(views: Array) -> tuple[np.ndarray, Callable[[np.ndarray], Array]]:
    """The views as C-contiguous uint8 or float32, and the way back to their kind."""
    back = np.asarray
    if not _is_numpy(views):
        import torch

        back = torch.from_numpy
        views = views.float().numpy() if views.dtype.is_floating_point else views.numpy()
    return np.ascontiguousarray(views, dtype=None if views.dtype == np.uint8 else np.float32), back


def _sample_torch(views: Array, scene: _Scene, plane: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One plane's registered views (V, H, W) and their inside mask, by ``grid_sample``."""
    import torch

    views = torch.as_tensor(views)
    views = views if views.dtype == torch.float64 else views.float()
    # Apple's GPUs know no float64: there the geometry is done on the CPU.
    device = torch.device("cpu") if views.device.type == "mps" else views.device
    origins, d, slope = (torch.from_numpy(array).to(device) for array in scene.rays[:3])
    height = torch.as_tensor(scene.heights[plane]).to(device, torch.float64)
    rows, columns = scene.size
    x = torch.arange(columns, dtype=torch.float64, device=device) + 0.5
    y = torch.arange(rows, dtype=torch.float64, device=device)[:, None] + 0.5
    along = (-height - scene.rays.z) / (slope[0] * x + slope[1] * y + slope[2])
    d = d[..., None, None]
    q = origins[..., None, None] + along * (d[:, :, 0] * x + d[:, :, 1] * y + d[:, :, 2])
    rows, columns = scene.view_size
    depth = q[:, 2]
    before = (along > 0) & (depth > 0)
    depth = torch.where(before, depth, 1.0)
    u = (q[:, 0] / depth + 0.5) / columns
    v = (q[:, 1] / depth + 0.5) / rows
    inside = (before & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)).to(views.device)
    grid = torch.stack([2 * u - 1, 2 * v - 1], dim=-1).to(views.dtype).to(views.device)
    grid = grid.where(inside[..., None], 0.0)
    sampled = torch.nn.functional.grid_sample(
        views[:, None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )[:, 0]
    return sampled.where(inside, 0.0), inside


def _mean_torch(sampled: torch.Tensor, inside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    coverage = inside.sum(0).int()
    return sampled.sum(0) / coverage.clamp(min=1), coverage


def _stacked(planes: Iterable[tuple[torch.Tensor, ...]]) -> list[torch.Tensor]:
    import torch

    return [torch.stack(part) for part in zip(*planes, strict=True)]
