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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from unveil import project
from unveil.aos import integrator, simulator, stacks, views
from unveil.errors import UnveilError
from unveil.restore import datasets, evaluation, networks, training
from unveil.restore.training import Fit, Options

DEFAULT_WEIGHTS = "focal_stack.safetensors"
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
    network_options={"features": [24, 48, 96, 160], "blocks": [1, 1, 2, 2]},
    channels=integrator.HEIGHTS,
    in_channels=len(integrator.HEIGHTS),
    epochs=40,
    batch=4,
    learning_rate=1e-3,
    weight_decay=1e-4,
    l1_from=0.0,
    squared_weight=10.0,
    object_weight=3.0,
    average=0.999,
    precision="bf16-mixed",
    pictures_every=2,
    seed=0,
)
PRESETS = {
    "focal_stack": Preset(FOCAL_STACK, runs=1200, seed=1, variation=WIDE),
    "rednet": Preset(
        dataclasses.replace(FOCAL_STACK, network="rednet", network_options={"layers": 11, "features": 64}),
        runs=1200,
        seed=1,
        variation=WIDE,
        crop=128,
    ),
}
"""How the shipped weights were made: the focal-stack network, and the course's RED-Net on the same runs."""


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
        train_runs = views.rehearse(folder / f"runs_{preset.seed}", preset.runs, preset.seed, workers, preset.variation)
        check_runs = views.rehearse(
            folder / f"runs_{VALIDATION_SEED}", preset.validation_runs, VALIDATION_SEED, workers
        )
        train_set = datasets.PairDataset(
            views.FocalPairs(train_runs, options.channels, preset.jitter, options.seed),
            crop=preset.crop,
            region=stacks.person_mask,
            region_probability=preset.person_crops,
            flips=True,
            seed=options.seed,
        )
        check_set = datasets.PairDataset(views.FocalPairs(check_runs, options.channels))
        started = time.perf_counter()
        fit = training.train(options, train_set, check_set, folder / key, progress=sys.stdout.isatty())
        hours = (time.perf_counter() - started) / 3600
        weights = project.weights_dir() / f"{key}.safetensors"
        training.save_weights(weights, fit.model, options)
        fit.history.to_csv(weights.with_suffix(".log.csv"), index=False)
        print(f"{weights}: {len(fit.history)} epochs, {hours:.2f} h, best {fit.history['val_psnr'].max():.2f} dB")
        written.append(weights)
    return written


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


def evaluate_on_stacks(
    weights: str | os.PathLike[str] | None, folder: str | os.PathLike[str], subset: str = "test"
) -> pd.DataFrame:
    """Metrics of weights (by default of all shipped ones) and of all baselines on every run of a subset.

    Returns a long table: one row per model and run, with pose and density. Only a complete subset counts: the split is
    the one of :func:`unveil.project.sample_split`; ``all`` takes every run and is for stores that no training saw.
    """
    store = stacks.open(folder)
    ids = store.ids if subset == "all" else project.sample_split(store)[subset]
    if not ids:
        raise UnveilError(f"{folder}: its {len(store)} runs are too few for a {subset} subset; use more, or subset all")
    models, choices = {}, set()
    for path in [Path(weights)] if weights else shipped().values():
        model, options = _focal_network(path)
        choices.add(choice := _same_planes(store, options, path))
        models[path.stem] = model
    if not models:
        raise UnveilError(f"{project.weights_dir()}: holds no weights; make them with make full, or name a file")
    if len(choices) > 1:
        raise UnveilError(f"{', '.join(models)} want different planes; evaluate them one at a time (--weights)")
    data = datasets.PairDataset(store, ids, channels=choice.indices)
    table = evaluation.compare(models | baselines(choice.heights), data, stacks.person_mask)
    return with_strata(table, store)


def _focal_network(path: Path) -> tuple[networks.Restorer, Options]:
    """Weights whose channels are focal heights in metres."""
    model, options = training.load_weights(path)
    heights = options.channels
    if len(heights) != options.in_channels or not all(isinstance(height, int | float) for height in heights):
        raise UnveilError(
            f"{path}: its channels {list(heights)} are not {options.in_channels} focal heights in metres; "
            "name weights that were trained on focal stacks (python -m unveil train)"
        )
    return model, options


def _same_planes(store: stacks.Store, options: Options, path: Path) -> stacks.Choice:
    choice = stacks.nearest(store.heights, options.channels)
    if any(abs(difference) > 1e-6 for difference in choice.differences):
        raise UnveilError(
            f"{store.path}: its planes {store.heights} are not those of {path.name}, {options.channels}; "
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
    weights = Path(weights or project.weights_dir() / DEFAULT_WEIGHTS)
    model, options = _focal_network(weights)
    results = []
    for source, place in _sources(folder, out):
        try:
            result = _restore(source, place, model, options)
            print(f"{source.name}: {result.planes}")
            if result.metrics is not None:
                print(result.metrics.to_string(index=False, float_format="{:.4g}".format))
        except UnveilError as error:
            result = Restored(source, error=str(error))
            print(f"{source.name}: not restored: {error}", file=sys.stderr)
        results.append(result)
    return results


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


def _restore(source: Path, out: Path, model: networks.Restorer, options: Options) -> Restored:
    found = stacks.read_folder(source)
    stack, choice = found.stack(options.channels)
    prediction = evaluation.predict(model, stack, flips=True)
    gray = stacks.to_uint8(255 * prediction)
    metrics = None
    if found.truth is not None:
        rows = {"restored": gray} | {f"plane {h:g} m": plane for h, plane in zip(choice.heights, stack, strict=True)}
        rows["flat median"] = np.full_like(gray, np.median(stack))
        measured = {name: evaluation.measure(image, found.truth, stacks.person_mask) for name, image in rows.items()}
        metrics = pd.DataFrame(measured).T.rename_axis("image").reset_index()
    _write_pictures(out, stack, choice, gray, found.truth, metrics)
    notes = "; ".join([choice.describe(), *found.notes])
    return Restored(source, notes, gray, metrics)


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
