"""Networks of the forest at work: scored beside all that needs no learning, and applied to folders of pictures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from unveil import files
from unveil.aos import folders, integrator
from unveil.aos.camera import CENTER_VIEW, Cameras, course_rig
from unveil.aos.images import to_uint8
from unveil.errors import UnveilError
from unveil.restore import weights
from unveil.restore.inference import predict
from unveil.restore.metrics import compare, measure
from unveil.restore.networks import Restorer
from unveil.restore.options import Options
from unveil.restore.pairs import PairDataset
from unveil.tasks.forest import persons
from unveil.tasks.forest.pairs import WEIGHTS, FocalPairs, Place, StackPairs, feed

OUTPUTS = ("prediction.png", "comparison.png")
TILE, OVERLAP = 1024, 128
"""Pictures of more than two tiles are restored tile by tile; a tile holds enough ground to tell its level."""

Progress = Callable[[int, int], None]


class Weights(NamedTuple):
    """A trained network; its options' ``channels`` are the focal heights in metres that it wants to see."""

    name: str
    model: Restorer
    options: Options

    @property
    def takes_views(self) -> bool:
        """Whether it pools registered views itself instead of taking a focal stack."""
        return self.model.wants == "views"

    def inputs(
        self, views: np.ndarray, cameras: Cameras, target: Cameras | int | None = None, ground: float = 0.0
    ) -> np.ndarray:
        """Input (C, H, W) uint8 made of views (V, H, W), with heights counted from the plane ``ground`` metres up."""
        heights = [ground + height for height in self.options.channels]
        if self.takes_views:
            return integrator.candidates(views, cameras, heights, target)
        return to_uint8(integrator.integrate(views, cameras, heights, target).image)


def load(path: Place) -> Weights:
    """Weights that were trained on focal heights in metres; :class:`UnveilError` for any others."""
    model, options = weights.load(path)
    heights = options.channels
    if not heights or not all(isinstance(height, int | float) for height in heights):
        raise UnveilError(
            f"{path}: its channels {list(heights)} are no focal heights in metres; name weights that were trained on "
            "focal stacks or views (python -m unveil train)"
        )
    return Weights(Path(path).stem, model, options)


def shipped() -> dict[str, Path]:
    """Names and files of the weights in ``data/weights/forest``."""
    return {path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors"))}


def flat_steady(stack: np.ndarray) -> np.ndarray:
    """A flat image at the gray level where the planes (P, H, W) agree best.

    Leaves change from plane to plane and bare ground does not: the level is the median of the 1 % of the pixels that
    change least. The strongest baseline that shows nobody.
    """
    stack = np.asarray(stack, np.float64)
    change = stack.std(axis=0)
    return np.full(stack.shape[1:], np.median(stack.mean(axis=0)[change <= np.quantile(change, 0.01)]))


def baselines(heights: Sequence[float]) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What needs no learning, on a focal stack (P, H, W): each plane, statistics over the planes, flat images."""

    def flat_median(stack: np.ndarray) -> np.ndarray:
        middle = (stack.size - 1) // 2
        return np.full(stack.shape[1:], np.partition(stack, middle, axis=None)[middle])

    planes = {f"plane {height:g} m": partial(np.take, indices=i, axis=0) for i, height in enumerate(heights)}
    statistics = {"maximum": np.max, "median": np.median, "minimum": np.min}
    over_planes = {name: partial(function, axis=0) for name, function in statistics.items()}
    return planes | over_planes | {"flat median": flat_median, "flat steady (planes)": flat_steady}


def best_view(views: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of the views registered on the ground the one nearest to the truth, which nobody could pick without it."""
    registered = integrator.candidates(views, course_rig(), 0.0, CENTER_VIEW)[:-1]
    return min(registered, key=lambda view: np.mean(np.square(view.astype(np.float32) - truth)))


FROM_VIEWS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "centre view": lambda views, truth: views[CENTER_VIEW],
    "best single view": best_view,
    # At the level where the views agree best, the first guess of the multi-view network.
    "flat steady (views)": lambda views, truth: integrator.candidates(views, course_rig(), 0.2, CENTER_VIEW)[-1],
}
"""Baselines of a run's views (V, H, W) and truth."""


class _Made:
    """Predictions made from views when asked for, so that any number of runs fits into memory."""

    def __init__(self, runs: Any, answer: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        self.runs, self.answer = runs, answer

    def __len__(self) -> int:
        return len(self.runs.ids)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.answer(*self.runs[i])


def evaluate(path: Place | None, runs: Any, ids: Sequence[str] | None = None) -> pd.DataFrame:
    """Metrics of weights (by default of all shipped ones that fit) and of all baselines on runs that no training saw.

    On a store of stacks (of which ``ids`` may choose runs) :func:`baselines`, on all runs with their views also
    :data:`FROM_VIEWS`. Returns a long table: one row per model and run, with pose and density.
    """
    stored, metrics = getattr(runs, "heights", ()), persons.metrics()
    found = [load(one) for one in ([path] if path else shipped().values())]
    found = [one for one in found if path or not (stored and one.takes_views)]
    tables = [compare({one.name: one.model}, PairDataset(feed(one.options, runs), ids), metrics) for one in found]
    stacks = PairDataset(StackPairs(runs) if stored else FocalPairs(runs), ids)
    if not stored:
        tables.append(compare({name: _Made(runs, make) for name, make in FROM_VIEWS.items()}, stacks, metrics))
    tables.append(compare(baselines(stored or integrator.HEIGHTS), stacks, metrics))
    table = pd.concat([table.astype({"model": str}) for table in tables], ignore_index=True)
    table["model"] = pd.Categorical(table["model"], categories=table["model"].unique())
    known = {run: runs.parameters(i) for i, run in enumerate(runs.ids)}
    return table.assign(
        pose=[known[run].pose for run in table["id"]], density=[known[run].density for run in table["id"]]
    )


class Restored(NamedTuple):
    """One restored folder and its metrics where a truth lies in it, or the error that kept it from being restored."""

    folder: Path
    note: str = ""
    metrics: pd.DataFrame | None = None
    error: str = ""


def restore_folders(
    folder: Place, out: Place, path: Place | None = None, ground: float = 0.0, progress: Progress | None = None
) -> list[Restored]:
    """Restore a folder of integral images or views, or every such folder in it, into ``out`` (or ``out/<name>``).

    Writes ``prediction.png`` (8-bit gray levels as in the input, the mean over four mirrored inputs) and
    ``comparison.png``. Of views with poses, heights count from the plane ``ground`` metres above the poses' origin. A
    folder that cannot be read is reported and does not harm the others. ``progress`` counts tiles of large pictures.
    """
    loaded: dict[Path, Weights] = {Path(path): load(path)} if path else {}
    results = []
    for source, place in _sources(Path(folder), Path(out)):
        try:
            found = folders.read_folder(source)
            # Views hold more than integrals.
            suited = "focal_stack" if found.views is None else "multi_view"
            chosen = Path(path or WEIGHTS / f"{suited}.safetensors")
            loaded[chosen] = loaded.get(chosen) or load(chosen)
            result = _restore(found, place, loaded[chosen], ground, progress)
            print(f"{source.name}: {result.note}")
            if result.metrics is not None:
                print(result.metrics.to_string(float_format="{:.4g}".format))
        except UnveilError as error:
            result = Restored(source, error=str(error))
            print(f"{source.name}: not restored: {error}", file=sys.stderr)
        results.append(result)
    scored = pd.DataFrame([result.metrics.loc["restored"] for result in results if result.metrics is not None])
    if len(scored) > 1:
        psnr, region, people = scored["psnr"].mean(), scored["region_psnr"], scored["found"].dropna()
        print(
            f"{len(scored)} folders: mean PSNR {psnr:.1f} dB, person's region {region.mean():.1f} dB "
            f"(median {region.median():.1f}), {people.sum():.0f} of {len(people)} people found"
        )
    return results


def _sources(folder: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    def pictures(place: Path) -> bool:
        """Whether there are pictures other than those that an earlier call may have written here."""
        return any(item.suffix.lower() in folders.SUFFIXES and item.name not in OUTPUTS for item in place.iterdir())

    inner = sorted(item for item in folder.iterdir() if item.is_dir() and item.resolve() != out.resolve())
    inner = [item for item in inner if pictures(item) or not any(item.iterdir())]
    if pictures(folder) or not inner:
        yield folder, out
    else:
        yield from ((item, out / item.name) for item in inner)


def _restore(
    found: folders.Folder, out: Path, one: Weights, ground: float = 0.0, progress: Progress | None = None
) -> Restored:
    from unveil.show import figures

    if one.takes_views and found.views is None:
        raise UnveilError(f"{found.path}: {one.name} needs a run's views, and here are only integral images")
    stack, choice = found.stack(integrator.HEIGHTS if one.takes_views else one.options.channels, ground)
    inputs, note = stack, choice.describe()
    if one.takes_views:
        inputs = one.inputs(found.views, found.cameras, found.target, ground)
        note = f"{len(found.views)} views registered on {', '.join(f'{h:g}' for h in one.options.channels)} m"
    tile = TILE if inputs[0].size > 2 * TILE**2 else None
    gray = to_uint8(255 * predict(one.model, inputs, flips=True, tile=tile, overlap=OVERLAP, progress=progress))
    middle, title, metrics = len(stack) // 2, "restored", None
    if found.truth is not None:
        images = {name: answer(stack / 255) for name, answer in baselines(choice.heights).items()}
        images = {"restored": gray, **images}
        rows = {name: measure(image, found.truth, persons.metrics()) for name, image in images.items()}
        metrics = pd.DataFrame(rows).T.rename_axis("image")
        title = f"restored · {metrics.loc['restored', 'psnr']:.1f} dB"
    panels = {f"integral at {choice.heights[middle]:g} m": stack[middle], title: gray}
    with files.replacing(out / OUTPUTS[0]) as temporary:
        Image.fromarray(gray).save(temporary)
    drawn = figures.show(panels if found.truth is None else panels | {"truth": found.truth}, size=4.0)
    figures.withdraw(drawn)
    files.write(out / OUTPUTS[1], figures.png(drawn))
    return Restored(found.path, "; ".join([f"{one.name}: {note}", *found.notes]), metrics)
