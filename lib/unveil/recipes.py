"""What the commands and notebooks do with the three wings together: train, score and apply networks to AOS data.

This is where the forest (:mod:`unveil.aos`) meets the restoration networks (:mod:`unveil.restore`), which know nothing
of each other.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from unveil import project
from unveil.aos import archives, build, integrator, simulator, stacks, views
from unveil.aos.camera import CENTER_VIEW, Cameras, course_rig
from unveil.aos.store import Store
from unveil.errors import UnveilError
from unveil.restore import _networks_old as networks
from unveil.restore import _training_old as training
from unveil.restore import datasets, evaluation
from unveil.restore._training_old import Fit, Options

DEFAULT_WEIGHTS = "focal_stack.safetensors"
DEFAULT_VIEW_WEIGHTS = "multi_view.safetensors"
OUTPUTS = ("prediction.png", "comparison.png")
VALIDATION_SEED = 900_001


@dataclasses.dataclass(frozen=True)
class Preset:
    """How shipped weights were made: the training's options and the simulated runs it saw.

    ``jitter`` moves every focal plane of every sample by up to so many metres, so that the weights accept planes near
    those they are named for. Person crops make up ``person_crops`` of the samples.
    """

    options: Options
    runs: int
    seed: int
    variation: simulator.Variation = simulator.COURSE
    validation_runs: int = 48
    crop: int = 256
    jitter: float = 0.2
    person_crops: float = 0.6


WIDE = simulator.Variation(
    ambient=(0.2, 1.0), trunk_kelvin=(284, 292), person_gray=(-20, 10), pattern=(0.6, 1.4), noise=(0, 1.5)
)
"""Wider than the course's own forest, so that the weights do not depend on its exact temperatures."""

FOCAL_STACK = Options(
    network="level",
    network_options={"features": [24, 48, 96, 160], "blocks": [1, 1, 2, 2], "gate": [0.3, 0.6]},
    channels=integrator.HEIGHTS,
    in_channels=len(integrator.HEIGHTS),
    epochs=16,
    batch=4,
    learning_rate=1e-3,
    weight_decay=1e-4,
    l1_from=0.0,
    squared_weight=10.0,
    object_weight=5.0,
    presence_weight=0.5,
    average=0.999,
    precision="bf16-mixed",
    pictures_every=2,
    seed=0,
)
MULTI_VIEW = dataclasses.replace(
    FOCAL_STACK,
    network="multiview",
    network_options={
        "planes": 2,
        "view_features": 16,
        "features": [32, 48, 96, 160],
        "blocks": [1, 1, 2, 2],
        "gate": [0.3, 0.6],
    },
    channels=(0.2, 1.8),
    in_channels=2 * len(course_rig()) + 1,
    epochs=12,
)
PRESETS = {
    "multi_view": Preset(MULTI_VIEW, runs=2400, seed=1, variation=WIDE, crop=192, jitter=0.0),
    "focal_stack": Preset(FOCAL_STACK, runs=2400, seed=1, variation=WIDE),
    "rednet": Preset(
        dataclasses.replace(
            FOCAL_STACK,
            network="rednet",
            network_options={"layers": 11, "features": 64},
            epochs=17,
            object_weight=3.0,
            presence_weight=0.0,
        ),
        runs=2400,
        seed=1,
        variation=WIDE,
        crop=128,
    ),
}
"""How the shipped weights were made: two networks of our own, and the course's RED-Net on the same runs."""


def make(
    name: str,
    out: str | os.PathLike[str],
    minutes: float | None = None,
    devices: int | str | None = None,
    workers: int = 1,
) -> list[Path]:
    """Remake the shipped weights of a preset (``full``: of all) from nothing but its seed, resuming what is there.

    Simulates the training runs into ``out``, trains, writes the weights, their options and log to ``data/weights/``.
    """
    if name != "full" and name not in PRESETS:
        raise UnveilError(f"there is no preset {name!r}: choose full or one of {', '.join(PRESETS)}")
    written = []
    for key in PRESETS if name == "full" else [name]:
        preset = PRESETS[key]
        options = dataclasses.replace(
            preset.options,
            minutes=minutes or preset.options.minutes,
            devices=devices or preset.options.devices,
        )
        folder = Path(out)
        train_runs = build.build_views(
            folder / f"runs_{preset.seed}", preset.runs, preset.seed, workers, preset.variation
        )
        check_runs = build.build_views(
            folder / f"runs_{VALIDATION_SEED}", preset.validation_runs, VALIDATION_SEED, workers
        )
        if options.network == "multiview":
            train_pairs, check_pairs = (views.ViewPairs(runs, options.channels) for runs in (train_runs, check_runs))
        else:
            train_pairs = views.FocalPairs(train_runs, options.channels, preset.jitter, options.seed)
            check_pairs = views.FocalPairs(check_runs, options.channels)
        train_set = datasets.PairDataset(
            train_pairs,
            crop=preset.crop,
            region=stacks.person_mask,
            region_probability=preset.person_crops,
            flips=True,
            seed=options.seed,
        )
        check_set = datasets.PairDataset(check_pairs)
        started = time.perf_counter()
        fit = training.train(options, train_set, check_set, folder / key, progress=sys.stdout.isatty())
        hours = (time.perf_counter() - started) / 3600
        if getattr(fit.model, "gate", None):
            gate = calibrate(Weights(key, fit.model, options), *_gate_runs(folder, workers))
            options = dataclasses.replace(options, network_options=options.network_options | {"gate": list(gate)})
        weights = project.weights_dir() / f"{key}.safetensors"
        training.save_weights(weights, fit.model, options)
        fit.history.to_csv(weights.with_suffix(".log.csv"), index=False)
        print(f"{weights}: {len(fit.history)} epochs, {hours:.2f} h, best {fit.history['val_psnr'].max():.2f} dB")
        written.append(weights)
    return written


GATES = [(low, high) for low in (0.2, 0.35, 0.5) for high in (0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98)]
"""Thresholds (low, high) of :func:`networks.hysteresis` to choose from."""
FALSE_RUNS = 0.02
"""The share of deserted runs in which a gate may show somebody."""
GATE_RUNS, GATE_SEED = 60, 900_002


def _gate_runs(folder: Path, workers: int) -> tuple[Store, Store]:
    """Validation runs of wooded ground with people, and without anybody."""
    wooded = dataclasses.replace(simulator.COURSE, density=(100, 200))
    deserted = dataclasses.replace(wooded, persons=(0, 0))
    return (
        build.build_views(folder / "runs_people", GATE_RUNS, GATE_SEED, workers, wooded),
        build.build_views(folder / "runs_deserted", GATE_RUNS, GATE_SEED + 1, workers, deserted),
    )


def calibrate(weights: Weights, people: Store, deserted: Store) -> tuple[float, float]:
    """The gate that finds most people of those that see one in at most :data:`FALSE_RUNS` of the deserted runs.

    Returns (low, high) of :data:`GATES` and leaves the network with it. Where none is that careful, the most careful
    one is taken.
    """
    model = weights.model.eval()

    def judged(runs: Store) -> np.ndarray:
        """Per gate, averages of `found`, of having false objects, and of the region's PSNR."""
        rows = []
        for inputs, target in datasets.PairDataset(weights.pairs(runs)):
            mask = stacks.person_mask(stacks.to_uint8(255 * target[0].numpy()))
            with torch.inference_mode():
                parts = model.parts(inputs[None])
            for gate in GATES:
                model.gate = gate
                image = model.gated(*parts)[0, 0].clamp(0, 1).numpy()
                seen = evaluation.found(image, mask)
                rows.append((seen.found, seen.false_objects > 0, evaluation.region_psnr(image, target[0], mask)))
        return np.nanmean(np.reshape(rows, (len(runs), len(GATES), 3)).astype(float), axis=0)

    found, _, region = judged(people).T
    with warnings.catch_warnings():
        # Where nobody is, nobody can be found.
        warnings.simplefilter("ignore", RuntimeWarning)
        wrong = judged(deserted)[:, 1]
    careful = wrong <= max(FALSE_RUNS, wrong.min())
    best = max(np.flatnonzero(careful), key=lambda i: (found[i], region[i]))
    model.gate = GATES[best]
    print(f"gate {GATES[best]}: found {found[best]:.0%}, false persons in {wrong[best]:.0%} of the deserted runs")
    return model.gate


def training_pairs(
    store: stacks.Store,
    parts: Mapping[str, Sequence[str]],
    crop: int | None = 128,
    crops_per_run: int = 1,
    seed: int = 0,
) -> tuple[datasets.PairDataset, datasets.PairDataset]:
    """Training crops (half of them around the person, mirrored at random) and whole validation images."""
    train_set = datasets.PairDataset(
        store,
        parts["train"],
        crop=crop,
        crops_per_item=crops_per_run,
        region=stacks.person_mask,
        flips=True,
        seed=seed,
    )
    return train_set, datasets.PairDataset(store, parts["validation"])


def train_on_stacks(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    crop: int | None = 128,
    resume: bool = True,
    **changes: Any,
) -> Fit:
    """Train on a stack store with the default options but for ``changes`` (fields of :class:`training.Options`)."""
    store = stacks.open(folder)
    options = Options(channels=store.heights, in_channels=len(store.heights))
    options = dataclasses.replace(options, **changes)
    train_set, validation_set = training_pairs(store, project.sample_split(store), crop, seed=options.seed)
    return training.train(options, train_set, validation_set, out, resume=resume)


def baselines(heights: Sequence[float]) -> dict[str, networks.Restorer]:
    """The non-learned baselines on a focal stack: each plane, statistics over the stack, a flat image."""
    count = len(heights)
    made = {f"plane {height:g} m": networks.Channel(count, channel=i) for i, height in enumerate(heights)}
    made |= {"maximum": networks.Maximum(count), "median": networks.Median(count), "minimum": networks.Minimum(count)}
    return made | {"flat median": networks.FlatMedian(count)}


def with_strata(table: pd.DataFrame, store: stacks.Store) -> pd.DataFrame:
    """An evaluation table with the pose and the density (trees per hectare) of every run."""
    known = store.table().set_index("id")[["pose", "density"]]
    return table.join(known, on="id")


def shipped() -> dict[str, Path]:
    """Names and files of the weights in ``data/weights``."""
    return {path.stem: path for path in sorted(project.weights_dir().glob("*.safetensors"))}


@dataclasses.dataclass(frozen=True)
class Weights:
    """A trained network and what it wants to see of a run.

    Its options' ``channels`` are focal heights in metres. A network that `takes_views` gets all views registered on
    them, any other one the integral on each.
    """

    name: str
    model: networks.Restorer
    options: Options

    @property
    def takes_views(self) -> bool:
        """Whether it pools registered views itself instead of taking a focal stack."""
        return isinstance(self.model, networks.MultiViewUNet)

    def inputs(
        self,
        run_views: np.ndarray,
        cameras: Cameras,
        target: Cameras | int | None = None,
        ground: float = 0.0,
    ) -> np.ndarray:
        """Input (C, H, W) uint8 made of views (V, H, W), with heights counted from the plane ``ground`` metres up."""
        heights = [ground + height for height in self.options.channels]
        if self.takes_views:
            return integrator.candidates(run_views, cameras, heights, target)
        return stacks.to_uint8(integrator.integrate(run_views, cameras, heights, target).image)

    def pairs(self, runs: Store | archives.ArchiveRuns) -> views.ViewPairs | views.FocalPairs:
        """Inputs and truths of runs of the course rig, for a :class:`datasets.PairDataset`."""
        kind = views.ViewPairs if self.takes_views else views.FocalPairs
        return kind(runs, self.options.channels)


def load(path: str | os.PathLike[str]) -> Weights:
    """Weights that were trained on focal heights in metres; :class:`UnveilError` for any others."""
    path = Path(path)
    model, options = training.load_weights(path)
    heights = options.channels
    planes = model.planes if isinstance(model, networks.MultiViewUNet) else options.in_channels
    if len(heights) != planes or not all(isinstance(height, int | float) for height in heights):
        raise UnveilError(
            f"{path}: its channels {list(heights)} are not {planes} focal heights in metres; "
            "name weights that were trained on focal stacks (python -m unveil train)"
        )
    return Weights(path.stem, model, options)


def _wanted(weights: str | os.PathLike[str] | None) -> list[Weights]:
    """The weights of a file, or all shipped ones."""
    found = [load(path) for path in ([weights] if weights else shipped().values())]
    if not found:
        raise UnveilError(f"{project.weights_dir()}: holds no weights; make them with make full, or name a file")
    return found


def evaluate_on_stacks(
    weights: str | os.PathLike[str] | None, folder: str | os.PathLike[str], subset: str = "test"
) -> pd.DataFrame:
    """Metrics of weights (by default of all shipped ones for stacks) and of all baselines on every run of a subset.

    Returns a long table: one row per model and run, with pose and density. Only a complete subset counts: the split is
    the one of :func:`unveil.project.sample_split`; ``all`` takes every run and is for stores that no training saw.
    """
    store = stacks.open(folder)
    ids = store.ids if subset == "all" else project.sample_split(store)[subset]
    if not ids:
        raise UnveilError(f"{folder}: its {len(store)} runs are too few for a {subset} subset; use more, or subset all")
    found = _wanted(weights)
    found = [one for one in found if not one.takes_views]
    if not found:
        raise UnveilError(f"{weights or project.weights_dir()}: takes views, not stacks; evaluate with --archives")
    choices = {_same_planes(store, one.options, one.name) for one in found}
    if len(choices) > 1:
        raise UnveilError(f"{', '.join(o.name for o in found)} want different planes; evaluate them one at a time")
    choice = choices.pop()
    data = datasets.PairDataset(store, ids, channels=choice.indices)
    models = {one.name: one.model for one in found} | baselines(choice.heights)
    return with_strata(evaluation.compare(models, data, stacks.person_mask), store)


def evaluate_on_archives(weights: str | os.PathLike[str] | None, folder: str | os.PathLike[str]) -> pd.DataFrame:
    """Metrics of weights (by default of all shipped ones) and of all baselines on every complete run of archives.

    For archives that no training saw. Besides :func:`baselines` there are the centre view, and the best single view:
    of the views registered on the ground the one nearest to the truth, which nobody could pick without the truth.
    Returns a long table: one row per model and run, with pose and density.
    """
    runs = archives.ArchiveRuns(archives.scan([Path(folder)]).complete)
    if not len(runs):
        raise UnveilError(f"{folder}: holds no complete run; python -m unveil scan says what it lacks")
    stack = datasets.PairDataset(views.FocalPairs(runs, integrator.HEIGHTS))
    tables = [
        evaluation.compare({one.name: one.model}, datasets.PairDataset(one.pairs(runs)), stacks.person_mask)
        for one in _wanted(weights)
    ]
    tables.append(evaluation.compare(_single_views(runs), stack, stacks.person_mask))
    tables.append(evaluation.compare(baselines(integrator.HEIGHTS), stack, stacks.person_mask))
    names = [name for table in tables for name in table["model"].cat.categories]
    table = pd.concat([table.astype({"model": str}) for table in tables], ignore_index=True)
    table["model"] = pd.Categorical(table["model"], categories=names)
    known = {run_id: runs.parameters(i) for i, run_id in enumerate(runs.ids)}
    table["pose"] = [known[run_id].pose for run_id in table["id"]]
    table["density"] = [known[run_id].density for run_id in table["id"]]
    return table


def _single_views(runs: archives.ArchiveRuns) -> dict[str, list[np.ndarray]]:
    centre, best = [], []
    for i in range(len(runs)):
        seen, truth = runs[i]
        registered = integrator.candidates(seen, course_rig(), 0.0, CENTER_VIEW)[:-1]
        errors = [np.mean(np.square(view.astype(np.float32) - truth)) for view in registered]
        centre.append(seen[CENTER_VIEW])
        best.append(registered[int(np.argmin(errors))])
    return {"centre view": centre, "best single view": best}


def _same_planes(store: stacks.Store, options: Options, name: str) -> stacks.Choice:
    choice = stacks.nearest(store.heights, options.channels)
    if any(abs(difference) > 1e-6 for difference in choice.differences):
        raise UnveilError(
            f"{store.path}: its planes {store.heights} are not those of {name}, {options.channels}; "
            "integrate the archives at these heights (python -m unveil integrate --heights …)"
        )
    return choice


def readable(table: pd.DataFrame) -> str:
    """Means by model and density as aligned text."""
    means = evaluation.summarise(table, by=["model", "density"])
    return means.round(3).to_string()


def save_table(table: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table as CSV; the file appears whole or not at all."""
    _write(Path(path), table.to_csv(index=False).encode())


def save_results(name: str, content: Mapping[str, Any]) -> Path:
    """Write ``data/results/<name>.json``, which figures, slides and README read."""
    path = project.data_dir("results") / f"{name}.json"
    _write(path, (json.dumps(content, indent=1, default=_plain) + "\n").encode())
    return path


def _write(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        reason = error.strerror or error
        raise UnveilError(f"{path}: cannot be written ({reason}); free space or choose another place") from error


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


@dataclasses.dataclass(frozen=True)
class Restored:
    """One restored folder: its pictures, or the error that kept it from being restored."""

    folder: Path
    planes: str = ""
    prediction: np.ndarray | None = None
    metrics: pd.DataFrame | None = None
    error: str = ""


def restore_folders(
    folder: str | os.PathLike[str], out: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None
) -> list[Restored]:
    """Restore a folder of integral images or views, or every such folder in it, into ``out`` (or ``out/<name>``).

    Writes ``prediction.png`` (8-bit gray levels as in the input) and ``comparison.png``. A folder that cannot be read
    is reported and does not harm the others.
    """
    folder, out = Path(folder), Path(out)
    if not folder.is_dir():
        raise UnveilError(f"{folder}: no such folder; give a folder of PNGs named by height in cm, or of 11 views")
    loaded: dict[Path, Weights] = {}
    if weights:
        loaded[Path(weights)] = load(weights)
    results = []
    for source, place in _sources(folder, out):
        try:
            found = stacks.read_folder(source)
            path = Path(weights) if weights else _default_weights(found)
            if path not in loaded:
                loaded[path] = load(path)
            result = _restore(found, place, loaded[path])
            print(f"{source.name}: {result.planes}")
            if result.metrics is not None:
                print(result.metrics.to_string(index=False, float_format="{:.4g}".format))
        except UnveilError as error:
            result = Restored(source, error=str(error))
            print(f"{source.name}: not restored: {error}", file=sys.stderr)
        results.append(result)
    return results


def _default_weights(found: stacks.Folder) -> Path:
    """The network for all there is: views hold more than integrals."""
    several = project.weights_dir() / DEFAULT_VIEW_WEIGHTS
    if found.views is not None and several.is_file():
        return several
    return project.weights_dir() / DEFAULT_WEIGHTS


def _sources(folder: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    def pictures(place: Path) -> bool:
        """Whether there are pictures other than those that an earlier call may have written here."""
        return any(item.suffix.lower() == ".png" and item.name not in OUTPUTS for item in place.iterdir())

    inner = sorted(item for item in folder.iterdir() if item.is_dir() and item.resolve() != out.resolve())
    inner = [item for item in inner if pictures(item) or not any(item.iterdir())]
    if pictures(folder) or not inner:
        yield folder, out
    else:
        yield from ((item, out / item.name) for item in inner)


def _restore(found: stacks.Folder, out: Path, weights: Weights) -> Restored:
    if not weights.takes_views:
        stack, choice = found.stack(weights.options.channels)
        inputs, note = stack, choice.describe()
    elif found.views is None:
        raise UnveilError(f"{found.path}: {weights.name} needs a run's 11 views, and here are only integral images")
    else:
        stack, choice = found.stack()
        inputs = weights.inputs(found.views, course_rig(), CENTER_VIEW)
        note = f"{len(found.views)} views registered on {', '.join(f'{h:g}' for h in weights.options.channels)} m"
    prediction = evaluation.predict(weights.model, inputs, flips=True)
    gray = stacks.to_uint8(255 * prediction)
    metrics = None
    if found.truth is not None:
        rows = {"restored": gray} | {f"plane {h:g} m": plane for h, plane in zip(choice.heights, stack, strict=True)}
        rows["flat median"] = np.full_like(gray, np.median(stack))
        measured = {name: evaluation.measure(image, found.truth, stacks.person_mask) for name, image in rows.items()}
        metrics = pd.DataFrame(measured).T.rename_axis("image").reset_index()
    _write_pictures(out, stack, choice, gray, found.truth, metrics)
    notes = "; ".join([f"{weights.name}: {note}", *found.notes])
    return Restored(found.path, notes, gray, metrics)


def _write_pictures(
    out: Path,
    stack: np.ndarray,
    choice: stacks.Choice,
    gray: np.ndarray,
    truth: np.ndarray | None,
    metrics: pd.DataFrame | None,
) -> None:
    from unveil.show import figures

    middle = len(stack) // 2
    plane = f"{choice.heights[middle]:g} m"
    panels = {f"integral at {plane}": stack[middle], "restored": gray}
    if truth is not None and metrics is not None:
        scores = metrics.set_index("image")["psnr"]
        panels = {
            f"integral at {plane} · {scores[f'plane {plane}']:.1f} dB": stack[middle],
            f"restored · {scores['restored']:.1f} dB": gray,
            "truth": truth,
        }
    comparison = figures.png(figures.show(panels, size=4.0))
    encoded = io.BytesIO()
    Image.fromarray(gray).save(encoded, "PNG")
    for name, content in zip(OUTPUTS, (encoded.getvalue(), comparison), strict=True):
        _write(out / name, content)


def run_course() -> None:
    """Execute the six notebooks in order and say what was made and where.

    The executed copies go to ``data/results/notebooks``; the committed notebooks stay as they are.
    """
    from unveil import notebooks
    from unveil.show import figures

    books = notebooks.course()
    out = project.data_dir("results", "notebooks")
    started = time.perf_counter()
    for number, path in enumerate(books, 1):
        print(f"[{number}/{len(books)}] {path.stem}", flush=True)
        notebooks.execute(path, out / path.name)
    figures.index()
    made = sorted(project.figures_dir().glob("*.png"))
    tables = sorted(project.data_dir("results").glob("*.json"))
    print(f"\nDone in {(time.perf_counter() - started) / 60:.1f} minutes. Made:")
    print(f"  archives    {project.data_dir('archives')}")
    print(f"  stacks      {project.data_dir('stacks')}")
    print(f"  training    {project.data_dir('checkpoints')}")
    print(f"  results     {project.data_dir('results')} ({', '.join(path.name for path in tables)})")
    print(f"  figures     {project.figures_dir()} ({len(made)} pictures; overview in README.md)")
    print(f"  notebooks   {out}")
    print("Look first at figures/README.md, then open the notebooks with: make lab")
