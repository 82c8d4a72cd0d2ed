"""Networks of the forest at work: scored beside all that needs no learning, and applied to folders of pictures."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy import ndimage

from unveil import files
from unveil.aos import folders, integrator, zips
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
"""Pictures of more than two tiles are restored tile by tile; a tile holds enough ground to tell its level.

Of views, which take four times as much memory, tiles have half the side."""
ZOOM, SHOWN = 96, 6
"""Side in pixels of the part around a person that a comparison enlarges, and the most persons for whom it does so."""
LARGEST = 1 << 28  # bytes of one picture in an archive

Progress = Callable[[int, int], None]
Read = Callable[[], folders.Folder]
Box = tuple[int, int, int, int]


class Weights(NamedTuple):
    """A trained network; its options' ``channels`` are the focal heights of its input in metres."""

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


class Part(Restorer):
    """A part of a network's answer, (B, 1, H, W) in [0, 1], with its paddings: 0 the background, 2 the presence by
    which its gate decides.
    """

    def __init__(self, model: Restorer, part: int) -> None:
        super().__init__(model.in_channels, 1, model.multiple)
        self.model, self.part, self.fits = model, part, model.fits

    def restore(self, x: torch.Tensor) -> torch.Tensor:
        found = self.model.answer(x)[self.part]
        return torch.sigmoid(found) if self.part == 2 else found


class Restored(NamedTuple):
    """One restored run and its metrics where a truth lies with it, or the error that kept it from being restored."""

    folder: Path
    note: str = ""
    metrics: pd.DataFrame | None = None
    error: str = ""


def restore_folders(
    given: Place, out: Place, path: Place | None = None, ground: float = 0.0, progress: Progress | None = None
) -> list[Restored]:
    """Restore every run of a folder, of the folders in it, or of a ZIP archive, into ``out`` (or ``out/<run>``).

    A run is a folder of integral images or views, or those files of a folder whose names begin with its id. Writes
    ``prediction.png`` (8-bit gray levels as in the input, the mean over four mirrored inputs) and ``comparison.png``.
    A picture with a truth is scored, beside all baselines if it has no more than two tiles. Of views with poses,
    heights count from the plane ``ground`` metres above the poses' origin. A run that cannot be read is reported and
    does not harm the others. ``progress`` counts the tiles of a picture in its four orientations.
    """
    loaded: dict[Path, Weights] = {Path(path): load(path)} if path else {}
    results = []
    for source, read, place in _sources(Path(given), Path(out)):
        try:
            found = read()
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
            f"{len(scored)} runs: mean PSNR {psnr:.1f} dB, person's region {region.mean():.1f} dB "
            f"(median {region.median():.1f}), {people.sum():.0f} of {len(people)} people found"
        )
    return results


def _sources(given: Path, out: Path) -> Iterator[tuple[Path, Read, Path]]:
    """Each run: what to call it, how to read it, where its pictures go."""

    def pictures(place: Path) -> list[Path]:
        """The pictures but those that an earlier call may have written here; a pose file stands for those below it."""
        kinds = (item for item in place.iterdir() if item.suffix.lower() in folders.SUFFIXES and not item.is_dir())
        return [item for item in kinds if item.name not in OUTPUTS] or list(place.glob("poses.json"))

    if not given.is_dir():
        yield from _zipped(given, out)
        return
    inner = sorted(item for item in given.iterdir() if item.is_dir() and item.resolve() != out.resolve())
    inner = [item for item in inner if pictures(item) or not any(item.iterdir())]
    own = bool(pictures(given) or not inner)
    for folder, place in [(given, out)] if own else [(item, out / item.name) for item in inner]:
        runs = _by_run(pictures(folder))
        if len(runs) < 2:
            yield folder, partial(folders.read_folder, folder), place
        else:
            for run, some in runs.items():
                yield folder / run, partial(folders.read_folder, folder / run, some), place / run


def _by_run(items: Iterable[Any]) -> dict[str, list[Any]]:
    """Files or members, which have a ``name``, by the run that it begins with."""
    runs: dict[str, list[Any]] = {}
    for item in items:
        if run := folders.run_of(item.name.rpartition("/")[2]):
            runs.setdefault(run, []).append(item)
    return dict(sorted(runs.items()))


def _zipped(archive: Path, out: Path) -> Iterator[tuple[Path, Read, Path]]:
    """The runs of an archive; each is unpacked by itself while it is read."""
    listing = zips.listing(archive)
    inside: dict[str, list[zips.Member]] = {}
    for member in listing.members:
        folder, _, name = member.name.replace("\\", "/").rpartition("/")
        wanted = Path(name).suffix.lower() in folders.SUFFIXES and name not in OUTPUTS or name == "poses.json"
        if wanted and "__MACOSX" not in folder:
            inside.setdefault(folder.removesuffix("images").strip("/"), []).append(member)
    if not inside:
        raise UnveilError(f"{archive}: {listing.reason or 'holds no pictures; name a ZIP of runs'}")
    if listing.reason:
        yield archive, partial(_unpacked, archive, [], archive, listing.reason), out
    for folder, members in sorted(inside.items()):
        # No name in an archive decides that something is written elsewhere than below ``out``.
        parts = [part.replace(":", "_") for part in folder.split("/") if part.strip(".")] if len(inside) > 1 else []
        runs = _by_run(members)
        for run, some in (runs if len(runs) > 1 else {"": members}).items():
            called = archive.joinpath(*parts, run)
            yield called, partial(_unpacked, archive, some, called), out.joinpath(*parts, run)


def _unpacked(archive: Path, members: Iterable[zips.Member], called: Path, reason: str = "") -> folders.Folder:
    if reason:
        raise UnveilError(f"{archive}: {reason}")
    with tempfile.TemporaryDirectory() as folder, zips.opened([archive]) as handles:
        try:
            for member in members:
                data, _ = zips.read(member, handles[archive], LARGEST)
                Path(folder, member.name.replace("\\", "/").rpartition("/")[2]).write_bytes(data)
            return dataclasses.replace(folders.read_folder(folder), path=called)
        except UnveilError as error:
            raise UnveilError(str(error).replace(folder, str(called))) from error
        except ValueError as error:
            raise UnveilError(f"{member.place} {error}: {zips.REFETCH}") from error


def _restore(
    found: folders.Folder, out: Path, one: Weights, ground: float = 0.0, progress: Progress | None = None
) -> Restored:
    if one.takes_views and found.views is None:
        raise UnveilError(f"{found.path}: {one.name} needs a run's views, and here are only integral images")
    stack, choice = found.stack(integrator.HEIGHTS if one.takes_views else one.options.channels, ground)
    inputs, note = stack, choice.describe()
    if one.takes_views:
        inputs = one.inputs(found.views, found.cameras, found.target, ground)
        note = f"{len(found.views)} views registered on {', '.join(f'{h:g}' for h in one.options.channels)} m"
    large = inputs[0].size > 2 * TILE**2
    tile = (TILE // 2 if one.takes_views else TILE) if large else None
    how = {"tile": tile, "overlap": OVERLAP, "progress": progress}
    gray = to_uint8(255 * predict(one.model, inputs, flips=True, **how))
    gated = getattr(one.model, "gate", None) is not None
    people = _people(gray, predict(Part(one.model, 2), inputs, **how) if gated else None)
    middle, title, metrics = len(stack) // 2, "restored", None
    if found.truth is not None:
        images = {"restored": gray}
        if not large:  # they would take more time and memory than the network
            images |= {name: answer(stack / 255) for name, answer in baselines(choice.heights).items()}
        rows = {name: measure(image, found.truth, persons.metrics()) for name, image in images.items()}
        metrics = pd.DataFrame(rows).T.rename_axis("image")
        title = f"restored · {metrics.loc['restored', 'psnr']:.1f} dB"
    panels = {f"integral at {choice.heights[middle]:g} m": stack[middle], title: gray}
    panels |= {} if found.truth is None else {"truth": found.truth}
    with files.replacing(out / OUTPUTS[0]) as temporary:
        Image.fromarray(gray).save(temporary)
    files.write(out / OUTPUTS[1], _comparison(panels, people))
    said = ", ".join(people) or "nobody found"
    return Restored(found.path, "; ".join([f"{one.name}: {note}", said, *found.notes]), metrics)


def _people(gray: np.ndarray, presence: np.ndarray | None) -> dict[str, Box]:
    """Where the objects in a restored picture are, the most certain (else the largest) first, by what is said of them:
    the presence that lets an object pass the gate is its highest.
    """
    labels = persons.segment(gray)
    parts = [(where, labels[where] == n) for n, where in enumerate(ndimage.find_objects(labels), 1)]
    worth = [mask.sum() if presence is None else presence[where][mask].max() for where, mask in parts]
    note = "" if presence is None else " presence {:.2f}"
    return {
        f"person {n}{note.format(worth[i])}": (*(s.start for s in parts[i][0]), *parts[i][1].shape)
        for n, i in enumerate(np.argsort(worth)[::-1], 1)
    }


def _comparison(panels: dict[str, np.ndarray], people: dict[str, Box]) -> bytes:
    """The panels with a box around each person, and below them a row of the same panels enlarged for each."""
    from unveil.show import figures

    shape = next(iter(panels.values())).shape
    boxes = {name: figures.crop_around(box, ZOOM, shape) for name, box in list(people.items())[:SHOWN]}
    # They are drawn 340 pixels wide, but matplotlib would convert every pixel of a large picture.
    reduced = max(1, max(shape) // 1024)
    rows = {"" if boxes else "whole": {t: np.asarray(Image.fromarray(i).reduce(reduced)) for t, i in panels.items()}}
    for name, box in boxes.items():
        rows[name.replace(" presence", "\npresence")] = {title: figures.cut(i, box) for title, i in panels.items()}
    drawn = figures.show(rows, size=3.4)
    figures.withdraw(drawn)
    for axis in drawn.axes[: len(panels)]:
        for box in boxes.values():
            figures.frame(axis, tuple(side / reduced for side in box))
    return figures.png(drawn)
