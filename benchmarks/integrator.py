"""Milliseconds per focal plane: ``python benchmarks/integrator.py [--planes 5] [--repeats 15] [--threads N]``.

The integrator, straight down and at any poses, against what one would write with PyTorch (a sampling grid per plane,
then ``grid_sample`` of all views and the mean over those inside) and, where OpenCV is installed, against ``cv2.remap``
of all views with maps computed beforehand: their making is not timed, only remapping and summing. All take turns in one
process with the same number of threads; printed are the best and the median of the repeats, the ratio of the medians to
the integrator's first row, and the mean difference of the images in gray levels.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

from unveil.aos.camera import CENTER_VIEW, SIZE, Cameras, course_rig
from unveil.aos.integrator import integrate

try:
    import cv2
except ImportError:
    cv2 = None


def tilted_rig() -> Cameras:
    """The course rig with every camera turned and tilted by up to 6° and moved by up to 2 m."""
    rng = np.random.default_rng(0)
    extrinsics = course_rig().extrinsics.copy()
    for matrix in extrinsics:
        x, y, z = np.radians(rng.uniform(-6, 6, 3))
        turn = np.array([[1, -z, y], [z, 1, -x], [-y, x, 1]])
        u, _, v = np.linalg.svd(turn)
        matrix[:, :3] = u @ v
        matrix[:, 3] += rng.uniform(-2, 2, 3)
    return Cameras(extrinsics, 50)


def sampling_positions(cameras: Cameras, height: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixel positions x, y (V, H, W) float64 at which the views are sampled for the middle camera."""
    target = cameras.target(CENTER_VIEW)
    focal = SIZE / (2 * np.tan(np.radians(cameras.fov) / 2))
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2
    rays = np.stack([columns / focal[CENTER_VIEW], rows / focal[CENTER_VIEW], np.ones_like(rows)]).reshape(3, -1)
    rays = target.rotation[0].T @ rays
    points = target.centers[0][:, None] + (-height - target.centers[0, 2]) / rays[2] * rays
    p = cameras.rotation @ points + cameras.translation[:, :, None]
    x, y = (focal[:, None] * p[:, axis] / p[:, 2] + SIZE / 2 - 0.5 for axis in (0, 1))
    return x.reshape(-1, SIZE, SIZE), y.reshape(-1, SIZE, SIZE)


def with_grid_sample(views: torch.Tensor, cameras: Cameras, heights: list[float]) -> torch.Tensor:
    focal = SIZE / (2 * torch.tan(torch.deg2rad(torch.tensor(cameras.fov, dtype=torch.float32)) / 2))[:, None, None]
    extrinsics = torch.tensor(cameras.extrinsics, dtype=torch.float32)
    center = torch.tensor(cameras.centers[CENTER_VIEW], dtype=torch.float32)
    axis = torch.arange(SIZE) + 0.5 - SIZE / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    rays = torch.stack([x / focal[CENTER_VIEW], y / focal[CENTER_VIEW], torch.ones_like(x)])
    rays = torch.einsum("ji,jhw->ihw", extrinsics[CENTER_VIEW, :, :3], rays)
    images = []
    for height in heights:
        points = center[:, None, None] + (-height - center[2]) / rays[2] * rays
        p = torch.einsum("vij,jhw->vihw", extrinsics[:, :, :3], points) + extrinsics[:, :, 3, None, None]
        grid = torch.stack([focal * p[:, 0] / p[:, 2], focal * p[:, 1] / p[:, 2]], dim=-1) / (SIZE / 2)
        inside = (grid.abs() <= 1).all(-1)
        sampled = torch.nn.functional.grid_sample(
            views[:, None], grid, mode="bilinear", padding_mode="border", align_corners=False
        )[:, 0]
        images.append((sampled * inside).sum(0) / inside.sum(0).clamp(min=1))
    return torch.stack(images)


def with_remap(views: np.ndarray, maps: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    images = []
    for x, y, weight in maps:
        total = np.zeros((SIZE, SIZE), np.float32)
        for view, map_x, map_y in zip(views, x, y, strict=True):
            cv2.accumulate(cv2.remap(view, map_x, map_y, cv2.INTER_LINEAR), total)
        images.append(total * weight)
    return np.stack(images)


def remap_maps(cameras: Cameras, heights: list[float]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Per plane OpenCV's maps, leading outside where a view does not count, and 1/coverage."""
    maps = []
    for height in heights:
        x, y = sampling_positions(cameras, height)
        inside = (np.abs(x + 0.5 - SIZE / 2) <= SIZE / 2) & (np.abs(y + 0.5 - SIZE / 2) <= SIZE / 2)
        x, y = (np.where(inside, part, -10).astype(np.float32) for part in (x, y))
        maps.append((x, y, (1 / np.maximum(inside.sum(0), 1)).astype(np.float32)))
    return maps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--planes", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if cv2:
        cv2.setNumThreads(options.threads)
    heights = np.linspace(0, 2, options.planes).tolist()
    views = np.random.default_rng(0).integers(0, 256, (11, SIZE, SIZE), dtype=np.uint8)
    tensor = torch.from_numpy(views).float()
    print(f"11 views of {SIZE}×{SIZE}, {options.planes} planes per call, {options.threads} threads\n")
    print(f"{'ms per plane':<48}{'best':>8}{'median':>8}{'× first':>9}{'mean |difference|':>20}")
    for name, cameras in (("straight down", course_rig()), ("any poses", tilted_rig())):
        ways = {
            "integrator, uint8": lambda rig=cameras: integrate(views, rig, heights).image,
            "integrator, one plane per call": lambda rig=cameras: [integrate(views, rig, h).image for h in heights],
            "grid_sample": lambda rig=cameras: with_grid_sample(tensor, rig, heights).numpy(),
        }
        if cv2:
            maps = remap_maps(cameras, heights)
            ways["cv2.remap, maps given"] = lambda maps=maps: with_remap(views, maps)
        results = {way: np.asarray(run()).reshape(-1, SIZE, SIZE) for way, run in ways.items()}
        times = {way: [] for way in ways}
        for _ in range(options.repeats):
            for way, run in ways.items():
                start = time.perf_counter()
                run()
                times[way].append((time.perf_counter() - start) * 1000 / options.planes)
        unit = np.median(times["integrator, uint8"])
        for way, taken in times.items():
            off = np.abs(results[way] - results["integrator, uint8"]).mean()
            middle = np.median(taken)
            print(f"{name + ': ' + way:<48}{min(taken):8.2f}{middle:8.2f}{middle / unit:9.1f}{off:20.4f}")


if __name__ == "__main__":
    main()
