"""Widgets for notebooks: scrub through focal planes, browse results, watch a training.

Each has a static twin (its ``filmstrip()``) for readers without a kernel, and works by keyboard. Pictures keep one
fixed gray range.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets
import numpy as np
import pandas as pd
import traitlets
from PIL import Image

from unveil.aos import integrator
from unveil.aos.camera import Cameras, course_rig
from unveil.errors import UnveilError
from unveil.show import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from unveil.aos.archives import Run
    from unveil.aos.flights import Flight


_FITTED = {"max_width": "100%", "align_self": "flex-start", "object_fit": "contain"}


class FocalScrubber(anywidget.AnyWidget):
    """The widget of :func:`focal_scrubber`.

    The views go to the browser once, in a message that no saved notebook keeps; integrals are made there. The traits
    ``height`` (metres), ``aperture`` (index into ``geometry["apertures"]``), ``view``, ``picture`` (integral, median,
    max, min, std, view, truth), ``pin`` (row, column), ``off`` (views that do not count), ``levels`` (the gray levels
    shown black and white), ``zoom`` (about the pin) and ``beside`` (the truth) follow the controls and may be set.
    """

    _esm = "\n".join(
        Path(__file__).with_name(f"{name}.js").read_text("utf-8") for name in ("registration", "focal_scrubber")
    )
    _css = Path(__file__).with_name("focal_scrubber.css")
    geometry = traitlets.Dict().tag(sync=True)
    height = traitlets.Float().tag(sync=True)
    aperture = traitlets.Int().tag(sync=True)
    view = traitlets.Int().tag(sync=True)
    picture = traitlets.Enum(["integral", "median", "max", "min", "std", "view", "truth"], "integral").tag(sync=True)
    pin = traitlets.List(traitlets.Int(), minlen=2, maxlen=2).tag(sync=True)
    off = traitlets.List(traitlets.Int()).tag(sync=True)
    levels = traitlets.List(traitlets.Float(), minlen=2, maxlen=2).tag(sync=True)
    zoom = traitlets.Float(1).tag(sync=True)
    beside = traitlets.Bool(False).tag(sync=True)

    def __init__(self, scene: _Scene, low: float, high: float, step: float, white: float, **traits: Any) -> None:
        self._scene = scene
        geometry = scene.geometry() | {"low": low, "high": high, "step": step, "white": white}
        super().__init__(geometry=geometry, levels=[0, white], **traits)
        self.on_msg(self._answer)

    def _answer(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        if content.get("type") == "views":
            truth = b"" if self._scene.truth is None else self._scene.truth.tobytes()
            self.send({"type": "views"}, [self._scene.views.tobytes(), truth])

    @traitlets.validate("height")
    def _within(self, proposal: Any) -> float:
        return min(max(proposal["value"], self.geometry["low"]), self.geometry["high"])

    def filmstrip(self, heights: Iterable[float] | None = None, **options: Any) -> Figure:
        """The static twin: integrals of all views at six heights, or at ``heights``; ``options`` of figures.show."""
        scene, geometry = self._scene, self.geometry
        heights = np.linspace(geometry["low"], geometry["high"], 6) if heights is None else [*map(float, heights)]
        integral = integrator.integrate(scene.views, scene.cameras, heights, scene.target)
        return figures.filmstrip(
            integral.image, [f"{h:.2f} m" for h in heights], **{"white": geometry["white"]} | options
        )

    def __repr__(self) -> str:
        g = self.geometry
        size = f"{g['count']} views of {g['rows']} × {g['columns']}"
        return f"FocalScrubber({size} pixels, {g['low']:g} to {g['high']:g} m)"


def focal_scrubber(
    run_or_views: Run | Flight | ArrayLike,
    cameras: Cameras | None = None,
    heights: tuple[float, float] | None = None,
    truth: ArrayLike | None = None,
    *,
    target: Cameras | int | None = None,
    step: float | None = None,
    height: float | None = None,
    pin: tuple[int, int] | None = None,
    white: float = 255,
) -> FocalScrubber:
    """Drag the focal height and see the integral refocus, computed in the browser without a round trip to the kernel.

    ``run_or_views`` is a run (its views and truth), a real flight (its views, cameras and target), or views (V, H, W)
    uint8, float in [0, 1] or float gray levels, with the course rig's cameras by default. ``heights`` are the lowest
    and the highest focal height in metres: 0 to 3, for flights −30 to 0 (their poses start above ground). ``target`` is
    the camera from which the integral is seen, or the index of a view: a flight's own, else the middle one. ``step`` of
    the height is a sixtieth of the range; ``height`` to begin with is the lowest, ``pin`` (row, column), whose focus
    curve is drawn, the middle. ``white`` is the gray level shown as white; less than 255 helps with a flight's dull
    views. UnveilError for views without cameras, or shapes that do not fit.
    """
    scene = _Scene(run_or_views, cameras, truth, target)
    low, high = map(float, heights or scene.heights)
    if not low < high:
        raise UnveilError(f"heights: expected (lowest, highest) in metres, not ({low:g}, {high:g})")
    rows, columns = scene.views.shape[1:]
    return FocalScrubber(
        scene,
        low,
        high,
        step or (high - low) / 60,
        white,
        height=low if height is None else height,
        aperture=len(scene.apertures()) - 1,
        view=scene.nearest()[0],
        pin=list(pin or (rows // 2, columns // 2)),
    )


class ResultsBrowser(anywidget.AnyWidget):
    """Every run of a table: sorted, scattered, and its pictures compared under a curtain. ``.run`` is the open row.

    Open a run by its id, by a dot of the scatter or with the arrow keys. Its pictures are made in a thread, then those
    of its neighbours, and kept: what is made already appears at once.

    Parameters
    ----------
    table
        one row per run with the columns ``id_column``, ``metric`` and those of ``by`` to pick from.
    lookup
        id → named images of one size (single view, planes, prediction, truth, presence), asked once per run. The error
        is added where the last but one are; the zoom goes to what stands out of ``truth``, the last of its kind.
    early
        id → those of the images that take no time, shown until ``lookup`` has made them all.
    lower_is_better
        metrics whose best is their least.
    """

    _esm = Path(__file__).with_name("results_browser.js")
    _css = Path(__file__).with_name("results_browser.css")
    table = traitlets.Dict().tag(sync=True)
    shown = traitlets.List(traitlets.Unicode()).tag(sync=True)
    metric = traitlets.Unicode().tag(sync=True)
    chosen = traitlets.Dict().tag(sync=True)
    run_id = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        table: pd.DataFrame,
        lookup: Callable[[Any], Mapping[str, ArrayLike]],
        metric: str = "psnr",
        *,
        early: Callable[[Any], Mapping[str, ArrayLike]] | None = None,
        by: Sequence[str] = ("pose", "density"),
        id_column: str = "id",
        lower_is_better: Sequence[str] = ("mse", "mae", "false_objects", "milliseconds"),
    ) -> None:
        if {metric, id_column} - set(table) or not table[metric].notna().any():
            raise UnveilError(f"results browser: the table needs the columns {id_column} and {metric} with values")
        self._table, self._lower, self._lookup = table.set_index(id_column, drop=False), lower_is_better, lookup
        self._table.index, self._id = self._table.index.map(str), id_column
        self._by = [name for name in by if name in table]
        # One after another, so that a request waits for no more than one run of the neighbours'.
        self._worker, self._made = ThreadPoolExecutor(1), {}
        self._early, self._early_worker = early, ThreadPoolExecutor(1)
        numbers = [name for name in table.select_dtypes("number") if name not in self._by]
        known = {name: [None if pd.isna(v) else float(v) for v in table[name]] for name in numbers}
        kinds = {name: [str(value) for value in table[name]] for name in self._by}
        super().__init__(table={"ids": list(self._table.index), "metrics": known, "kinds": kinds}, metric=metric)
        self._arrange()
        self.run_id = self.shown[0]
        self.observe(self._arrange, ["metric", "chosen"])
        self.observe(self._open, "run_id")
        self.on_msg(self._open)

    def rows(self, **choices: Any) -> pd.DataFrame:
        """The rows with the ``choices`` (pose="laying", density=100), the best one by the chosen metric first."""
        rows = self._table
        for name, value in choices.items():
            rows = rows[rows[name].astype(str) == str(value)]
        rows = rows.dropna(subset=[self.metric])
        return rows.sort_values(self.metric, ascending=self.metric in self._lower, kind="stable")

    def pick(self, case: str, **choices: Any) -> pd.Series | None:
        """The best, median or worst of :meth:`rows`, None if there is none."""
        rows = self.rows(**choices)
        return rows.iloc[{"best": 0, "median": len(rows) // 2, "worst": -1}[case]] if len(rows) else None

    @property
    def run(self) -> pd.Series:
        return self._table.loc[self.run_id]

    def filmstrip(self, cases: Sequence[str] = ("best", "median", "worst"), **options: Any) -> Figure:
        """The static twin: a row of pictures for each case over all runs; ``options`` of figures.show."""
        chosen = {case: self.pick(case) for case in cases}
        rows = {
            f"{case}\n{row.name} · {row[self.metric]:.4g}": self._pictures(row.name)
            for case, row in chosen.items()
            if row is not None
        }
        return figures.show(rows, **options)

    def _pictures(self, run_id: str) -> dict[str, ArrayLike]:
        pictures = dict(self._lookup(self._table.at[run_id, self._id]))
        if {"prediction", "truth"} <= set(pictures) and "error" not in pictures:
            prediction, truth = (_unit(pictures[name]) for name in ("prediction", "truth"))
            pictures["error"] = prediction - truth
        return pictures

    def _arrange(self, _change: Any = None) -> None:
        self.shown = list(self.rows(**{name: value for name, value in self.chosen.items() if value != "all"}).index)

    def _open(self, *_: Any) -> None:
        """Have the open run's pictures made before those that an earlier run asked for, then its neighbours'."""
        for run_id, future in list(self._made.items()):
            if future.cancel():
                del self._made[run_id]
        future = self._ask(self.run_id)
        if self._early and not future.done():
            self._early_worker.submit(self._show_early, self.run_id, future)
        future.add_done_callback(functools.partial(self._deliver, self.run_id))
        at = self.shown.index(self.run_id) if self.run_id in self.shown else 0
        for neighbour in self.shown[max(0, at - 1) : at + 2]:
            self._ask(neighbour)

    def _ask(self, run_id: str) -> Future[tuple[dict[str, Any], list[bytes]]]:
        if run_id not in self._made:
            self._made[run_id] = self._worker.submit(self._answer, run_id)
        return self._made[run_id]

    def _show_early(self, run_id: str, future: Future[tuple[dict[str, Any], list[bytes]]]) -> None:
        if run_id == self.run_id and not future.done():
            about, buffers = self._described(run_id, self._early(self._table.at[run_id, self._id]))
            self.send({"type": "pictures", "id": run_id, "early": True, **about}, buffers)

    def _answer(self, run_id: str) -> tuple[dict[str, Any], list[bytes]]:
        return self._described(run_id, self._pictures(run_id))

    def _described(self, run_id: str, pictures: Mapping[str, ArrayLike]) -> tuple[dict[str, Any], list[bytes]]:
        truth = _unit(pictures.get("truth", next(iter(pictures.values()))))
        apart = np.abs(truth - np.median(truth))
        top, left, height, width = figures.crop_around(apart > max(apart.max() / 2, 0.02), 2)
        rows, columns = truth.shape
        row = self._table.loc[run_id]
        numbers = [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items() if not pd.isna(v)]
        names = list(pictures)
        about = {"names": names, "text": " · ".join(numbers), "aspect": columns / rows}
        about["center"] = [(left + width / 2) / columns, (top + height / 2) / rows]
        second = "truth" if "truth" in names else names[-1]
        about["compared"] = [
            next((n for n in reversed(names) if n not in ("truth", "error", "presence")), names[0]),
            second,
        ]
        return about, [figures.pixels(image, name == "error") for name, image in pictures.items()]

    def _deliver(self, run_id: str, future: Future[tuple[dict[str, Any], list[bytes]]]) -> None:
        if future.cancelled() or run_id != self.run_id:
            return
        if error := future.exception():
            self.send({"type": "failed", "id": run_id, "text": f"{run_id}: {error}"})
            del self._made[run_id]
        else:
            about, buffers = future.result()
            self.send({"type": "pictures", "id": run_id, **about}, buffers)


class TrainingMonitor(ipywidgets.VBox):
    """The widget of :func:`training_monitor`; ``button`` asks the training to stop."""

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self._folder = None if folder is None else Path(folder)
        self._history = pd.DataFrame()
        self._strip: Mapping[str, ArrayLike] = {}
        self._stamps: dict[str, Any] = {}
        # The training's thread reports an epoch while the watching one reads the folder.
        self._lock, self._closed = threading.RLock(), threading.Event()
        self._bar = ipywidgets.FloatProgress(max=1, layout={"width": "20em"})
        self.button = ipywidgets.Button(description="Stop", disabled=True, tooltip="end the training after this batch")
        self.button.on_click(self._ask_to_stop)
        self._said = ipywidgets.HTML("Waiting for the first batch…")
        self._text = ipywidgets.HTML()
        self._images = [ipywidgets.Image(format="png", layout=_FITTED | {"display": "none"}) for _ in range(2)]
        super().__init__([ipywidgets.HBox([self._bar, self.button, self._said]), self._text, *self._images])
        self.refresh()

    def update(
        self,
        history: pd.DataFrame | Sequence[Mapping[str, float]] | Mapping[str, Sequence[float]],
        strip: Mapping[str, ArrayLike] | ArrayLike | None = None,
    ) -> None:
        """Draw the log so far: rows or columns with ``epoch``, losses and metrics, and the latest prediction strip.

        It can be passed to a training as its listener. ``strip`` is one image or named images; without it the latest
        pictures in the monitored folder are taken.
        """
        history = pd.DataFrame(history)
        if history.empty:
            return
        with self._lock:
            self._changed("log.csv")
            self._history = history.select_dtypes("number").groupby("epoch").mean()
            if strip is not None:
                self._strip = strip if isinstance(strip, Mapping) else {"latest prediction": strip}
            else:
                self._strip = self._latest_pictures() or self._strip
            values = [f"{_readable(k)} {v:.4g}" for k, v in self._history.iloc[-1].items() if pd.notna(v)]
            self._text.value = f"epoch {self._history.index[-1]:g} · " + " · ".join(values)
            self._put(0, self.filmstrip())
            if self._strip:
                self._put(1, figures.show(self._strip))

    def refresh(self) -> bool:
        """Read what the training has written since; whether there was anything."""
        with self._lock:
            news = [self._changed(name) for name in ("progress.json", "log.csv")]
            # The other process may be in the middle of its first row.
            with contextlib.suppress(pd.errors.EmptyDataError, ValueError, OSError):
                if news[0]:
                    self._tell(json.loads((self._folder / "progress.json").read_text("utf-8")))
                if news[1]:
                    self.update(pd.read_csv(self._folder / "log.csv"))
            return any(news)

    def watch(self, seconds: float = 1) -> TrainingMonitor:
        """Follow the training in a thread, until :meth:`close`."""

        def follow() -> None:
            while not self._closed.wait(seconds):
                self.refresh()
                # ipykernel 7.4 notes which of its threads a widget last spoke from, and answers there: in the one that
                # trains. Without the note a click comes to the thread that JupyterLab keeps for widgets.
                getattr(self.button.comm, "__dict__", {}).pop("_reply_subshell_id", None)

        threading.Thread(target=follow, daemon=True).start()
        return self

    def close(self) -> None:
        self._closed.set()
        super().close()

    def _changed(self, name: str) -> bool:
        """Whether a file of the folder is another one than at the last call."""
        path = None if self._folder is None else self._folder / name
        if path is None or not path.is_file():
            return False
        before, stat = self._stamps.get(name), path.stat()
        self._stamps[name] = stat.st_mtime_ns, stat.st_size
        return before != self._stamps[name]

    def _tell(self, state: Mapping[str, Any]) -> None:
        self.button.disabled = "ended" in state
        if "ended" in state:
            self._said.value = f"Ended after {_many(state['epoch'], 'epoch')}: {state['ended']}."
            return
        self._bar.value, minutes = state["share"], state["seconds_left"] / 60
        left = f"{minutes:.0f} min" if minutes >= 2 else f"{60 * minutes:.0f} s"
        self._said.value = f"epoch {state['epoch']}, batch {state['batch']} of {state['batches']} · about {left} left"

    def _ask_to_stop(self, _button: Any) -> None:
        if self._folder is not None:
            (self._folder / "stop").touch()
            self.button.disabled, self._said.value = True, "Stopping after this batch…"

    def filmstrip(self) -> Figure:
        """The static twin: the curves as they stand."""
        groups = {"loss": ("loss", "mse", "l1"), "PSNR (dB)": ("psnr",), "SSIM": ("ssim",)}
        chosen = {
            label: {_readable(name): self._history[name] for name in self._history if name.split("_")[-1] in endings}
            for label, endings in groups.items()
        }
        chosen = {label: columns for label, columns in chosen.items() if columns}
        fig = figures.figure(4.8 * max(len(chosen), 1), 3.4)
        for place, (label, columns) in enumerate(chosen.items(), 1):
            axis = fig.add_subplot(1, len(chosen), place)
            lines = {name: (column.index, column) for name, column in columns.items()}
            figures.curves(
                lines, "epoch", label, next(iter(lines)) if len(lines) == 1 else None, log=label == "loss", ax=axis
            )
        return fig

    def _put(self, place: int, fig: Figure) -> None:
        self._images[place].value = _png(fig)
        self._images[place].layout.display = None

    def _latest_pictures(self) -> dict[str, np.ndarray]:
        folder = Path("" if self._folder is None else self._folder, "pictures", "item_0")
        names = {"input": "input", "latest": "latest prediction", "target": "target"}
        paths = {title: folder / f"{name}.png" for name, title in names.items()}
        return {title: np.asarray(Image.open(path)) for title, path in paths.items() if path.exists()}


def training_monitor(folder: str | os.PathLike[str] | None = None) -> TrainingMonitor:
    """How far a training in ``folder`` is, its curves and latest prediction, and a button to stop it.

    The folder need not exist yet. It is followed in a thread, beside another process or in the same kernel, where the
    training may also call ``update`` as its listener. While a cell runs, the button works in JupyterLab 4.4 and later,
    which talk to widgets in a thread of the kernel.
    """
    return TrainingMonitor(folder) if folder is None else TrainingMonitor(folder).watch()


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _readable(name: str) -> str:
    """The name of a logged value in words: val_psnr → validation PSNR."""
    words = {"train": "training", "val": "validation", "psnr": "PSNR", "ssim": "SSIM", "mse": "MSE", "l1": "L1"}
    return " ".join(words.get(word, word) for word in name.split("_"))


class _Scene:
    """Views (V, H, W) uint8 with their cameras, the target, the truth (H, W) uint8 or None, and names."""

    def __init__(self, source: Any, cameras: Cameras | None, truth: ArrayLike | None, target: Cameras | int | None):
        self.views = _bytes(getattr(source, "views", source))
        if self.views.ndim != 3:
            raise UnveilError(f"views must have the shape (V, H, W), these have {self.views.shape}")
        is_flight = hasattr(source, "cameras") and hasattr(source, "target")
        cameras = cameras or getattr(source, "cameras", None) or course_rig()
        if len(cameras) != len(self.views):
            raise UnveilError(f"{len(self.views)} views need as many cameras, there are {len(cameras)}: pass cameras=…")
        if target is None:
            target = source.target if is_flight else len(cameras) // 2
        self.cameras = cameras
        self.target = target if isinstance(target, Cameras) else cameras.target(int(target))
        truth = getattr(source, "truth", None) if truth is None else truth
        self.truth = None if truth is None else _bytes(truth)
        if self.truth is not None and self.truth.shape != self.views.shape[1:]:
            raise UnveilError(f"the truth's shape {self.truth.shape} is not the views' {self.views.shape[1:]}")
        self.names = [str(name) for name in getattr(source, "names", [f"view {i}" for i in range(len(self.views))])]
        self.heights = (-30.0, 0.0) if is_flight else (0.0, 3.0)

    def nearest(self) -> list[int]:
        """The views by distance from the target."""
        distances = np.linalg.norm(self.cameras.centers - self.target.centers, axis=1).round(6)
        return np.argsort(distances, kind="stable").tolist()

    def apertures(self) -> list[dict[str, Any]]:
        """Growing synthetic apertures about the target, two views at a time: their views and widths in metres."""
        order, centers = self.nearest(), self.cameras.centers
        counts = sorted({*range(1, len(order) + 1, 2), len(order)})
        groups = [order[:count] for count in counts]
        widths = [np.linalg.norm(centers[g][:, None] - centers[g][None], axis=2).max() for g in groups]
        return [{"views": group, "metres": float(width)} for group, width in zip(groups, widths, strict=True)]

    def geometry(self) -> dict[str, Any]:
        """What the browser needs to register a view on the plane z = −h: see `integrator.Rays`."""
        count, rows, columns = self.views.shape
        rays = integrator.rays(self.cameras, self.target, (rows, columns), (rows, columns))
        return {
            "count": count,
            "rows": rows,
            "columns": columns,
            "origins": rays.origins.tolist(),
            "directions": rays.directions.reshape(count, 9).tolist(),
            "slope": rays.slope.tolist(),
            "z": rays.z,
            "apertures": self.apertures(),
            "names": self.names,
            "truth": self.truth is not None,
        }


def _png(fig: Figure) -> bytes:
    """The figure's PNG, for a widget that shows it instead of the cell."""
    figures.withdraw(fig)
    return figures.png(fig)


def _bytes(image: ArrayLike) -> np.ndarray:
    """Gray levels as uint8; floats in [0, 1] are scaled, other floats are gray levels."""
    array = np.asarray(image)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.size and array.dtype.kind == "f" and array.max() <= 1:
        array = array * 255
    return np.ascontiguousarray(np.clip(np.rint(array), 0, 255).astype(np.uint8))


def _unit(image: ArrayLike) -> np.ndarray:
    array = figures.cut(image, None)
    return array.astype(np.float32) / (255 if array.dtype.kind in "iu" else 1)
