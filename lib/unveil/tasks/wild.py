"""Wild forests: pairs for a network that keeps the ground, how its weights are made, and their test set."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from unveil import files
from unveil.aos import integrator, wild
from unveil.aos.autofocus import Ground, autofocus
from unveil.aos.build import build_views
from unveil.aos.camera import Cameras
from unveil.aos.wild import WildRun
from unveil.errors import UnveilError
from unveil.restore import training
from unveil.restore.networks.level import hysteresis
from unveil.restore.options import Options
from unveil.restore.pairs import PairDataset, window
from unveil.tasks.common import file
from unveil.tasks.forest import persons, presets, restoring
from unveil.tasks.forest.flight import ENLARGED
from unveil.tasks.forest.pairs import Place, ViewPairs
from unveil.tasks.forest.restoring import Weights
from unveil.tasks.forest.results import answer
from unveil.workers import in_order

TASK = "wild"

HEIGHTS = (0.0, 0.9)
"""Planes on which the views are registered, metres above the ground: the ground itself and the middle of people."""
SEED, GATE_SEED, TEST_SEED = 21, 22, 23
DENSITIES = (50, 150, 300)
"""Trees per hectare of the test set."""
TAUGHT = replace(wild.WILD, density=(0, 300))
"""Forests to learn from, as dense as the densest of the test set."""
REFINED = 0.03, 0.03
"""What refined poses are still wrong by when a network learns: standard deviations in metres and degrees."""
OTHERS = 100
"""Labels from here on are warm things that are no people."""


def ground(run: WildRun) -> Ground:
    """The plane of a run's ground, as `autofocus` should find it."""
    along = np.array([1, 0, -run.parameters["slope"][0]])
    down = np.array([*run.parameters["slope"], 1])
    along, down = along / np.linalg.norm(along), down / np.linalg.norm(down)
    return Ground(np.stack([along, np.cross(down, along), down]), np.zeros(3))


def nearly(cameras: Cameras, rng: np.random.Generator, metres: float, degrees: float) -> Cameras:
    """The cameras with errors of so many metres and degrees, standard deviations per axis."""
    turned = Rotation.from_rotvec(np.radians(degrees) * rng.standard_normal((len(cameras), 3))).as_matrix()
    rotation = turned @ cameras.rotation
    centers = cameras.centers + metres * rng.standard_normal((len(cameras), 3))
    return Cameras(np.concatenate([rotation, -rotation @ centers[:, :, None]], 2), cameras.fov)


def given(run: WildRun, cameras: Cameras, heights: Sequence[float] = HEIGHTS) -> np.ndarray:
    """What a network on views is fed: :func:`integrator.candidates` with cameras in the frame of the ground."""
    return integrator.candidates(run.views, cameras, heights, cameras.target(run.centre), threads=1)


def prepare(
    folder: Place, count: int, seed: int = SEED, views: int = 11, progress: Callable[[int, int], None] | None = None
) -> list[Path]:
    """Runs to learn from, each as ``wild_<seed>_<index>.npy`` (C, H, W) uint8: candidates, truth, label.

    A batch needs equally many views of each. The poses have errors as after refinement. What is there is kept.
    """
    paths = [Path(folder, f"wild_{seed}_{index}.npy") for index in range(count)]
    for index, path in enumerate(paths):
        if not path.exists():
            run = wild.simulate(seed, index, variation=TAUGHT, views=views)
            cameras = nearly(run.true, np.random.default_rng([seed, index, 8]), *REFINED)
            channels = [*given(run, ground(run).cameras(cameras)), run.truth, run.label]
            with files.replacing(path) as temporary, open(temporary, "wb") as file:
                np.save(file, np.stack(channels))
        if progress:
            progress(index + 1, count)
    return paths


@dataclass
class WildPairs:
    """Prepared runs: candidates, and truth with the pixels of people as second channel, float32 in [0, 1].

    ``person_crops`` is the share of the crops that are placed around a person, where there is one.
    """

    paths: Sequence[Path]
    person_crops: float = 0.5

    def __post_init__(self) -> None:
        self.ids = [path.stem for path in self.paths]

    def __len__(self) -> int:
        return len(self.paths)

    def item(self, i: int, rng: np.random.Generator, crop: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray]:
        channels = np.load(self.paths[i], mmap_mode="r")
        if crop:
            label, box = np.asarray(channels[-1]), None
            people = np.setdiff1d(label[label < OTHERS], [0])
            if len(people) and rng.random() < self.person_crops:
                rows, columns = np.nonzero(label == rng.choice(people))
                box = (rows.min(), rows.max(), columns.min(), columns.max())
            channels = channels[(slice(None), *window(rng, label.shape, crop, box))]
        truth, label = np.divide(channels[-2], 255, dtype=np.float32), channels[-1]
        people = (label > 0) & (label < OTHERS)
        return np.divide(channels[:-2], 255, dtype=np.float32), np.stack([truth, people]).astype(np.float32)


@dataclass
class Together:
    """Several pairs as one, in which a target of one channel gets the pixels that stand out of it as its second."""

    parts: Sequence
    contrast: float = 0.05

    def __post_init__(self) -> None:
        self.ids = [name for part in self.parts for name in part.ids]
        self._places = [(part, i) for part in self.parts for i in range(len(part))]

    def __len__(self) -> int:
        return len(self._places)

    def item(self, i: int, rng: np.random.Generator, crop: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray]:
        part, place = self._places[i]
        inputs, target = part.item(place, rng, crop)
        if len(target) == 1:
            target = np.concatenate([target, np.abs(target - np.median(target)) > self.contrast])
        return inputs, target.astype(np.float32)


@dataclass(frozen=True)
class Training:
    """How weights are made: crops of ``runs`` wild runs and ``course_runs`` of the course's forest, mixed.

    It begins with the weights of the multi-view network. The gate is chosen on ``gate_runs`` further wild runs.
    """

    options: Options
    runs: int = 600
    course_runs: int = 110
    gate_runs: int = 60
    crop: int = 192

    def fit(self, out: Place, **changes: Any) -> training.Fit:
        """Simulate and train in the folder ``out``, resuming, with these options but for ``changes``."""
        torch.set_num_threads(1)
        options = replace(self.options, recipe=f"{TAUGHT!r} and {presets.WIDE!r}", **changes)
        course = build_views(Path(out, "course"), self.course_runs, presets.SEED, 1, presets.WIDE)
        paths = prepare(Path(out, "wild"), self.runs)
        both = Together([WildPairs(paths), ViewPairs(course, heights=HEIGHTS)])
        train_set = PairDataset(both, crop=self.crop, crops_per_item=4, flips="hv", seed=options.seed)
        checks = WildPairs(prepare(Path(out, "wild"), self.gate_runs, GATE_SEED))
        fit = training.train(options, train_set, PairDataset(checks, range(8)), Path(out, "training"))
        fit.model.gate = calibrate(fit.model.eval(), checks)
        gated = options.network_options | {"gate": list(fit.model.gate)}
        return replace(fit, options=replace(fit.options, network_options=gated))


PRESETS = {
    "attention": Training(
        replace(
            presets.PRESETS["multi_view"].options, network="attention", channels=HEIGHTS, learning_rate=5e-4,
            start="forest/multi_view.safetensors", epochs=1000, cpu_minutes=80.0, pictures_every=1000,
        )
    )
}  # fmt: skip
"""How the shipped weights were made: ``python -m unveil learn wild attention``."""


def calibrate(model: torch.nn.Module, checks: WildPairs, false: float = 0.1) -> tuple[float, float]:
    """The gate (low, high) that finds most people of prepared runs with at most so many regions on nothing per run."""
    counts = np.zeros((len(presets.GATES), 2))
    for i, path in enumerate(checks.paths):
        inputs, label = torch.from_numpy(checks.item(i, np.random.default_rng(0), None)[0]), np.load(path)[-1]
        with torch.inference_mode():
            presence = torch.sigmoid(model.answer(inputs[None])[2])
        for k, gate in enumerate(presets.GATES):
            found, _, nothing = matched(hysteresis(presence, *gate)[0, 0].numpy() > 0, label)
            counts[k] += sum(found), nothing
    careful = np.flatnonzero(counts[:, 1] <= max(false * len(checks), counts[:, 1].min()))
    best = max(careful, key=lambda k: counts[k, 0])
    print(f"gate {presets.GATES[best]}: {counts[best, 0]:.0f} people found, {counts[best, 1]:.0f} false regions")
    return presets.GATES[best]


@functools.cache
def networks() -> dict[str, Weights]:
    """The course's networks and the one that was trained on wild forests."""
    course = {name: restoring.load(path) for name, path in restoring.shipped().items()}
    return course | {"attention": restoring.load(file(TASK, "attention"))}


def results(
    _outside: Place | None = None, count: int = 40, refined: bool = False, workers: int | None = None
) -> pd.DataFrame:
    """The wild test set: ``count`` runs at each of :data:`DENSITIES`, scored without and with networks.

    The geometry is known (true poses, true plane of the ground), or with ``refined`` found by `autofocus` from the
    measured poses; runs in which it finds no ground are left out. One row per model and run, see :func:`scores`; kept
    beside the weights.
    """
    runs = list(itertools.product(DENSITIES, range(count)))
    workers = workers or os.cpu_count() or 1
    with closing(in_order(functools.partial(_judged, refined=refined), runs, workers, processes=True)) as judged:
        table = pd.DataFrame(list(itertools.chain.from_iterable(judged)))
    path = file(TASK, "refined" if refined else "results").with_suffix(".csv")
    files.write(path, table.round(3).to_csv(index=False))
    return table


def _judged(which: tuple[int, int], refined: bool) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    density, index = which
    run = wild.simulate(TEST_SEED, index, density)
    known = {"set": f"{density} trees", "id": f"{density}_{index}"}
    try:
        cameras = flown(run, refined)
    except UnveilError as error:
        print(f"{density}_{index}: {error}")
        return []
    made = answers(run, cameras, networks())
    return [known | {"model": name} | scores(*one, run) for name, one in made.items()]


def flown(run: WildRun, refined: bool = False) -> Cameras:
    """A run's cameras in the frame of its ground: the true ones, or those that `autofocus` finds from the measured."""
    if refined:
        return autofocus(run.views, run.cameras, run.cameras.target(run.centre)).cameras
    return ground(run).cameras(run.true)


def answers(
    run: WildRun, cameras: Cameras, judged: Mapping[str, Weights]
) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Pictures (H, W) in [0, 1] by name, and where a network's gate shows people (H, W) bool, None without a gate."""
    target = cameras.target(run.centre)
    over = integrator.statistics(*integrator.register(run.views, cameras, 0.0, target, threads=1), threads=1)
    pictures = {name: over[kind][0] for name, kind in (("integral", "mean"), ("median", "median"), ("maximum", "max"))}
    pictures["flat median"] = np.full_like(pictures["integral"], np.median(pictures["integral"]))
    made = {name: (picture / 255, None) for name, picture in {"centre view": run.views[run.centre], **pictures}.items()}
    for name, one in judged.items():
        # The course's people are twice life size; a network of the course wants its planes at half the height.
        heights = [height / (1 if name == "attention" else ENLARGED) for height in one.options.channels]
        one = one._replace(options=replace(one.options, channels=tuple(heights)))
        picture, presence = answer(one, one.inputs(run.views, cameras, target))
        shown = None if presence is None else hysteresis(torch.from_numpy(presence)[None, None], *one.model.gate)
        made[name] = picture, None if shown is None else shown[0, 0].numpy() > 0
    return made


def scores(picture: np.ndarray, shown: np.ndarray | None, run: WildRun) -> dict[str, float]:
    """How a picture (H, W) in [0, 1] compares with the truth of a run.

    ``ground``: root-mean-square error where no bodies are, gray levels; of the people, NaN where there are none:
    ``region_psnr``, mean within 8 pixels of each; ``clear``, share whose contrast to noise is at least 5 (Rose 1948);
    ``visible``, share of their pixels that a view sees. Where a gate shows people (``shown``), the share ``found`` and
    the numbers of ``warm`` and ``false`` regions, see :func:`matched`.
    """
    truth = run.truth / np.float32(255)
    people = _people(run.label)
    values = {
        "ground": 255 * float(np.sqrt(np.mean((picture - truth)[run.label == 0] ** 2))),
        "people": len(people),
        "region_psnr": np.mean([persons.region_psnr(picture, truth, mask) for mask in people] or np.nan),
        "clear": np.mean([persons.contrast_to_noise(picture, mask) >= 5 for mask in people] or np.nan),
        "visible": np.mean([(run.seen[mask] > 0).mean() for mask in people] or np.nan),
    }
    if shown is not None:
        found, warm, false = matched(shown, run.label)
        values |= {"found": np.mean(found or np.nan), "warm": warm, "false": false}
    return values


def matched(shown: np.ndarray, label: np.ndarray) -> tuple[list[bool], int, int]:
    """Which people of a label picture (H, W) a mask's regions cover; regions on other warm things; regions on nothing.

    A person is found whom the regions within 8 pixels overlap (IoU) by at least a quarter. Regions are connected, and
    belong to other warm things, or to nothing, where they are farther than that from all people, or from all bodies.
    """
    regions, number = ndimage.label(shown, np.ones((3, 3)))
    found, people = [], set()
    for mask in _people(label):
        near = _touching(regions, mask)
        region = np.isin(regions, list(near))
        found.append(bool((region & mask).sum() >= 0.25 * (region | mask).sum()))
        people |= near
    warm = _touching(regions, label >= OTHERS) - people
    return found, len(warm), number - len(people | warm)


def _touching(regions: np.ndarray, mask: np.ndarray) -> set[int]:
    return set(regions[ndimage.binary_dilation(mask, iterations=8)].tolist()) - {0}


def _people(label: np.ndarray) -> list[np.ndarray]:
    return [label == k for k in np.unique(label[(label > 0) & (label < OTHERS)])]
