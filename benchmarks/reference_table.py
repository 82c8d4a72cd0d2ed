"""The integrator against the reference renderer: ``python benchmarks/reference_table.py [REFERENCE_FOLDER]``.

Prints, per case, the mean and the largest absolute difference in gray levels where the coverages agree (one pixel along
a view's border may differ), and against the 8-bit integrals of the course run the share of equal pixels.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

from unveil.aos.camera import Cameras, course_rig
from unveil.aos.integrator import integrate


def read_views(folder: Path, names: list[str]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(folder / name)) for name in names])


def float_cases(reference: Path):
    """Yields (case, views, cameras, height, target, integral, coverage) of every float integral of the reference."""
    course_names = [f"0_0_pose_{pose}_thermal.png" for pose in range(11)]
    for name in ("synthetic_nadir", "synthetic_tilted"):
        folder = reference / name
        poses = json.loads((folder / "poses.json").read_text())
        views, cameras = read_views(folder, course_names), Cameras(poses["views"], poses["fov_images"])
        virtual = {v["name"]: Cameras(v["M3x4"], v["fov"]) for v in poses["virtual"]}
        for path in sorted(folder.glob("integral_*.npy")):
            tag = path.stem.removeprefix("integral_")
            camera = virtual[tag.split("_")[0] if "_" in tag else "c5"]
            height = int(tag.split("_")[-1]) / 100
            coverage = np.load(folder / f"coverage_{tag}.npy")
            yield f"{name} {tag}", views, cameras, height, camera, np.load(path), coverage
    folder = reference / "flight"
    poses = json.loads((folder / "poses.json").read_text())
    views, cameras = read_views(folder / "images", poses["imagefiles"]), Cameras(poses["views"], poses["fov_images"])
    for path in sorted(folder.glob("integral_*.npy")):
        tag = path.stem.removeprefix("integral_")
        height = -float(tag.removeprefix("z"))
        coverage = np.load(folder / f"coverage_{tag}.npy")
        yield f"flight {tag}", views, cameras, height, cameras.target(poses["center"]), np.load(path), coverage


def compare(
    image: np.ndarray, coverage: np.ndarray, integral: np.ndarray, seen: np.ndarray
) -> tuple[float, float, float]:
    """Mean and largest difference where the coverages agree, and the share of pixels where they do."""
    agree = (coverage == seen) & (coverage > 0)
    difference = np.abs(image - integral)[agree]
    return difference.mean(), difference.max(), (coverage == seen).mean()


def main() -> None:
    default = os.environ.get("UNVEIL_REFERENCE", Path(__file__).resolve().parents[1] / "data" / "reference")
    reference = Path(sys.argv[1] if len(sys.argv) > 1 else default)
    if not reference.is_dir():
        print(f"{reference} is not here: name the reference data with UNVEIL_REFERENCE")
        return
    print(f"{'case':32}{'mean':>10}{'max':>10}{'coverage agrees':>18}")
    for case, views, cameras, height, target, integral, seen in float_cases(reference):
        image, coverage = (part[0] for part in integrate(views, cameras, height, target))
        mean, largest, agree = compare(image, coverage, integral, seen)
        print(f"{case:32}{mean:10.5f}{largest:10.5f}{agree:18.3%}")
    folder = reference / "course_run"
    views = read_views(folder, [f"0_0_pose_{pose}_thermal.png" for pose in range(11)])
    print(f"\n{'8-bit GPU integral':32}{'equal':>10}{'max':>10}")
    for path in sorted(folder.glob("*GPUref_integral_*cm.png")):
        centimetres = path.stem[-5:-2]
        image = integrate(views, course_rig(), int(centimetres) / 100).image[0]
        difference = np.abs(np.rint(image) - np.asarray(Image.open(path)).astype(np.float32))
        print(f"{'course_run ' + centimetres:32}{(difference == 0).mean():10.3%}{difference.max():10.0f}")


if __name__ == "__main__":
    main()
