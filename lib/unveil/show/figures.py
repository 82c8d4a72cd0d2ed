"""Figures in one style: readable on a projector, safe for colour-blind readers, gray levels never rescaled.

Every picture of the notebooks goes through :func:`show` or :func:`filmstrip`, cropped around what it is about by
:func:`crop_around`; every chart goes through a helper below or through matplotlib under :func:`style`. :func:`save`
writes the files that the slides and ``figures/README.md`` use. They hold no dates, so that making them again changes
nothing in git.

The figures show themselves exactly once in a notebook, whether or not they are the cell's last expression.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from matplotlib.ticker import LogFormatter, MaxNLocator
from PIL import Image, ImageDraw, ImageFont

from unveil import files, project
from unveil.errors import UnveilError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

COLOURS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "black": "#000000",
}
"""The palette of Okabe and Ito (2008), told apart with every common colour blindness."""

UNSEEN = "#9ecae1"  # pixels without a value (NaN)

LARGEST_PDF = 300_000
"""Bytes. A PDF of pictures is larger than their PNG and no sharper, so that it is left out."""

Box = tuple[int, int, int, int]
"""A part of an image: top row, left column, height, width, in pixels."""


_waiting: list[Figure] = []


class _Picture(Figure):
    """A figure that shows itself where it is displayed, else at the end of the cell that made it."""

    def _ipython_display_(self) -> None:
        from IPython.display import Image as Picture
        from IPython.display import display

        withdraw(self)
        display(Picture(data=_compact(png(self)), format="png"))


def _compact(content: bytes, dpi: float = 100) -> bytes:
    """The PNG with at most 256 colours, which nobody sees: half the bytes in the repository."""
    file = io.BytesIO()
    picture = Image.open(io.BytesIO(content)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    picture.save(file, "PNG", optimize=True, dpi=(dpi, dpi))
    return file.getvalue()


def _show_waiting() -> None:
    for fig in list(_waiting):
        fig._ipython_display_()


def withdraw(fig: Figure) -> None:
    """Do not show this figure at the end of the cell."""
    if fig in _waiting:
        _waiting.remove(fig)


def crop_around(where: ArrayLike | Box, size: int | tuple[int, int] = 128, shape: tuple[int, int] = (512, 512)) -> Box:
    """The part of ``size`` (or height, width) pixels around a mask (H, W) or a box, moved into the image at its edges.

    An image of ``shape`` is assumed where a box is given; an empty mask gives the middle of the image.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if isinstance(where, tuple):
        top, left, box_height, box_width = where
        row, column = top + box_height / 2, left + box_width / 2
    else:
        mask = _array(where).astype(bool)
        shape = mask.shape
        row, column = np.argwhere(mask).mean(axis=0) + 0.5 if mask.any() else (shape[0] / 2, shape[1] / 2)
    height, width = min(height, shape[0]), min(width, shape[1])
    top, left = np.clip((round(row - height / 2), round(column - width / 2)), 0, (shape[0] - height, shape[1] - width))
    return int(top), int(left), height, width


def cut(image: ArrayLike, box: Box | None) -> np.ndarray:
    """The part of an image that :func:`show` would draw with ``crop=box``."""
    array = _array(image)
    if box is None:
        return array
    top, left, height, width = box
    part = array[max(top, 0) : top + height, max(left, 0) : left + width]
    if 0 in part.shape:
        raise UnveilError(f"show: the part {box} (top, left, height, width) lies outside an image of {array.shape}")
    return part


def style() -> None:
    """Set matplotlib's defaults: the palette, large type, no interpolation, 100 dpi in notebooks, 200 in files."""
    matplotlib.rcParams.update(
        {
            "axes.axisbelow": True,
            "axes.grid": True,
            "axes.prop_cycle": cycler(color=list(COLOURS.values())),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlesize": 14,
            "figure.dpi": 100,
            "figure.titlesize": 16,
            "font.size": 13,
            "grid.alpha": 0.3,
            "image.cmap": "gray",
            "image.interpolation": "none",
            "legend.frameon": False,
            "lines.linewidth": 2.2,
            "pdf.fonttype": 42,
        }
    )


def figure(width: float, height: float) -> Figure:
    """A figure of ``width × height`` inches in the project's style, laid out without overlaps."""
    style()
    fig = _Picture(figsize=(width, height), layout="constrained")
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if hasattr(shell, "kernel"):
        if _show_waiting not in shell.events.callbacks["post_execute"]:
            shell.events.register("post_execute", _show_waiting)
        _waiting.append(fig)
    return fig


def show(
    images: Mapping[str, ArrayLike] | Mapping[str, Mapping[str, ArrayLike]],
    columns: int | None = None,
    title: str | None = None,
    *,
    size: float = 2.6,
    crop: Box | None = None,
    inset: Box | None = None,
    masks: Mapping[str, ArrayLike] | ArrayLike | None = None,
    errors: Sequence[str] = ("error",),
    white: float | None = None,
) -> Figure:
    """Named images side by side on one fixed gray scale, averaged over areas where they are drawn smaller.

    ``images`` maps names to images (H, W), or in colour (H, W, 3) or (3, H, W); or row names to such mappings, one row
    of images each. Black is 0; white is 255 for integers and for floats that go beyond 2 (gray levels), 1 for other
    floats and bool, or what ``white`` says. NaN is drawn light blue. Up to six images stand in one row, or ``columns``.

    ``size`` is the width of one image in inches. ``crop`` shows this part only, see :func:`crop_around`; ``inset`` is
    framed and shown enlarged in the lower right corner. ``masks`` are outlined on every image (one bool (H, W)) or on
    the images of the same name. ``errors`` names signed images, drawn blue (too dark) to red (too bright), ± half the
    gray range. UnveilError for no images, or an image that is none.
    """
    if not images:
        raise UnveilError("show: no images given")
    nested = all(isinstance(value, Mapping) for value in images.values())
    if nested:
        rows = {label: list(row.items()) for label, row in images.items()}
    else:
        named = list(images.items())
        columns = columns or (len(named) if len(named) <= 6 else -(-len(named) // -(-len(named) // 6)))
        rows = {i: named[i : i + columns] for i in range(0, len(named), columns)}
    across = max(map(len, rows.values()))
    first = cut(next(iter(rows.values()))[0][1], crop)
    lines = 1 + max(str(name).count("\n") for row in rows.values() for name, _ in row)
    once = nested and len({tuple(name for name, _ in row) for row in rows.values()}) == 1
    height = len(rows) * (size * first.shape[0] / first.shape[1] + 0.05) + 0.28 * lines * (1 if once else len(rows))
    fig = figure(across * size + (0.4 if nested else 0), height + (0.4 if title else 0))
    axes = fig.subplots(len(rows), across, squeeze=False)
    points = _title_size([str(name) for row in rows.values() for name, _ in row], size)
    for line, (label, row) in zip(axes, rows.items(), strict=True):
        for axis in line:
            axis.set(xticks=[], yticks=[], frame_on=False)
            axis.grid(False)
        if nested:
            line[0].set_ylabel(label)
        for axis, (name, image) in zip(line, row, strict=False):
            part = cut(image, crop)
            _draw(axis, part, white, name in errors, shrunk=part.shape[1] > size * fig.dpi)
            axis.set_title("" if once and not axis.get_subplotspec().is_first_row() else name, fontsize=points)
            mask = masks.get(name) if isinstance(masks, Mapping) else masks
            if mask is not None:
                _outline(axis, cut(mask, crop))
            if inset is not None:
                _enlarge(axis, _array(image), inset, white, name in errors)
    if title:
        fig.suptitle(title)
    return fig


def filmstrip(images: ArrayLike | Sequence[ArrayLike], labels: Iterable[str], **options: Any) -> Figure:
    """Images (N, H, W) in one row, each with its label: the static twin of a widget. ``options``: see :func:`show`."""
    images, labels = list(images), [str(label) for label in labels]
    if len(images) != len(labels):
        raise UnveilError(f"filmstrip: {len(images)} images have {len(labels)} labels")
    if len(set(labels)) != len(labels):
        raise UnveilError(f"filmstrip: labels repeat: {labels}")
    return show(dict(zip(labels, images, strict=True)), **{"columns": len(images), "size": 2.0} | options)


def curves(
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    xlabel: str,
    ylabel: str,
    title: str | None = None,
    *,
    bands: Mapping[str, ArrayLike] | None = None,
    log: bool = False,
    markers: bool = True,
    size: tuple[float, float] = (8, 4.5),
    ax: Axes | None = None,
) -> Figure:
    """Lines told apart by colour, dashes and marker: name → (x, y), with ± ``bands`` around those named there.

    Drawn into ``ax`` where given, else into a new figure of ``size`` inches. Points that are NaN are left out.
    """
    ax = ax if ax is not None else figure(*size).subplots()
    dashes = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
    for i, (name, (x, y)) in enumerate(series.items()):
        x, y = np.asarray(x, float), np.asarray(y, float)
        there = np.isfinite(y)
        mark = "osD^vPX"[i % 7] if markers and there.sum() <= 40 else None
        colour = list(COLOURS.values())[i % len(COLOURS)]
        ax.plot(x[there], y[there], linestyle=dashes[i % len(dashes)], marker=mark, label=name, color=colour)
        if bands and name in bands:
            half = np.asarray(bands[name], float)
            ax.fill_between(x[there], (y - half)[there], (y + half)[there], color=colour, alpha=0.15, linewidth=0)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if log:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
    if xlabel.startswith("epoch"):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if title:
        ax.set_title(title)
    if len(series) > 1:
        ax.legend()
    return ax.figure


def bars(
    table: pd.DataFrame | pd.Series,
    ylabel: str,
    title: str | None = None,
    *,
    fmt: str = "{:.1f}",
    lying: bool = False,
    size: tuple[float, float] = (8, 4.5),
    ax: Axes | None = None,
) -> Figure:
    """Grouped bars: one group per row of ``table``, one hatch and colour per column, values (``fmt``) at their ends.

    They stand, or with ``lying`` go from left to right, the first row at the top, which leaves room for long names.
    """
    ax = ax if ax is not None else figure(*size).subplots()
    table = table.to_frame(table.name or ylabel) if table.ndim == 1 else table
    places, width = np.arange(len(table)), 0.84 / table.shape[1]
    for i, name in enumerate(table.columns):
        values = table[name].to_numpy(dtype=float)
        at, look = places + (i - (table.shape[1] - 1) / 2) * width, list(COLOURS.values())[i % len(COLOURS)]
        how = {"hatch": ("", "//", "..", "\\\\", "xx", "--", "oo")[i % 7], "edgecolor": "white", "linewidth": 0}
        shapes = (ax.barh if lying else ax.bar)(at, values, width * 0.94, label=str(name), color=look, **how)
        ax.bar_label(shapes, [fmt.format(v) if np.isfinite(v) else "" for v in values], fontsize=11, padding=2)
    value, place = ("x", "y") if lying else ("y", "x")
    names = [" · ".join(map(str, row)) if isinstance(row, tuple) else str(row) for row in table.index]
    ax.set(**{f"{place}ticks": places, f"{place}ticklabels": names, f"{value}label": ylabel})
    ax.grid(False, axis=place)
    ax.margins(**{value: 0.12})
    if "%" in ylabel and np.nanmax(table.to_numpy(float)) <= 100:
        ax.set(**{f"{value}lim": (0, 108), f"{value}ticks": range(0, 101, 20)})
    if lying:
        ax.invert_yaxis()
    if title:
        ax.set_title(title)
    if table.shape[1] > 1:
        ax.legend(ncols=min(table.shape[1], 4), loc="upper center", bbox_to_anchor=(0.5, -0.15 if lying else -0.1))
    return ax.figure


def pixels(image: ArrayLike, error: bool = False, white: float | None = None) -> bytes:
    """An image as a PNG of its own pixels, on the gray scale of :func:`show`, or signed as its ``errors`` are."""
    array = _array(image)
    top = _white(np.abs(array) if error else array, white)
    values = np.nan_to_num(array.astype(np.float32)) / top
    if error:
        values = matplotlib.colormaps["RdBu_r"](array / top + 0.5)[..., :3]
    file = io.BytesIO()
    Image.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def png(fig: Figure, dpi: float | None = None) -> bytes:
    """The figure as a PNG file without dates, at its own resolution unless ``dpi`` is given."""
    file = io.BytesIO()
    fig.savefig(file, format="png", dpi=dpi or fig.dpi, metadata={"Software": None}, pil_kwargs={"optimize": True})
    return file.getvalue()


def save(fig: Figure, name: str, caption: str = "") -> None:
    """Write ``figures/<name>.png`` (200 dpi, 256 colours) and, where it is small, ``.pdf``; note the caption.

    ``name`` is ``NN_name``, NN being the number of the notebook that makes it; ``caption`` is the sentence that stands
    under the figure in ``figures/README.md``. UnveilError for a name that is none.
    """
    _check_name(name)
    file, path = io.BytesIO(), project.figures_dir() / f"{name}.pdf"
    files.write(path.with_suffix(".png"), _compact(png(fig, 200), 200))
    fig.savefig(file, format="pdf", dpi=200, metadata={"CreationDate": None, "Creator": None, "Producer": None})
    if len(file.getvalue()) <= LARGEST_PDF:
        files.write(path, file.getvalue())
    else:
        path.unlink(missing_ok=True)
    _note(name, f"{name}.png", caption)


def animate(
    frames: ArrayLike | Sequence[ArrayLike],
    name: str,
    labels: Iterable[str] | None = None,
    *,
    fps: float = 12,
    reduce: int = 2,
    bounce: bool = True,
    hold: float = 0,
    white: float | None = None,
    caption: str = "",
) -> Path:
    """Write frames (N, H, W) as ``figures/<name>.gif``, which plays for ever; returns its path.

    ``labels`` are written into the upper left corner. Pixels are averaged ``reduce × reduce``, which keeps the file
    small. The frames play forwards, with ``bounce`` also backwards, and the last one stands for ``hold`` seconds. The
    other arguments are those of :func:`show` and :func:`save`.
    """
    _check_name(name)
    frames = [_array(frame) for frame in frames]
    if not frames:
        raise UnveilError(f"animate: no frames for {name}")
    labels = [""] * len(frames) if labels is None else [str(label) for label in labels]
    pictures = [_frame(f, text, reduce, white) for f, text in zip(frames, labels, strict=True)]
    duration = [round(1000 / fps)] * len(pictures)
    duration[-1] += round(1000 * hold)
    if bounce:
        pictures, duration = pictures + pictures[-2:0:-1], duration + duration[-2:0:-1]
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0, optimize=False)
    _note(name, f"{name}.gif", caption)
    return files.write(project.figures_dir() / f"{name}.gif", file.getvalue())


def index() -> Path:
    """Write ``figures/README.md``: every saved figure with thumbnail, caption and the notebook cell that makes it."""
    folder = project.figures_dir()
    lines = ["# Figures\n\nWritten by `unveil.show.figures.index()`: change the captions in the notebooks.\n"]
    lines += ["| figure | what it shows | made in |\n|---|---|---|"]
    for name, note in sorted(_captions().items()):
        file = folder / note["file"]
        if not file.exists():
            continue
        picture = f'<a href="{file.name}"><img src="{file.name}" width="260" alt="{name}"></a>'
        caption = note["caption"].replace("|", "\\|").replace("\n", " ")
        link = f" ([PDF]({name}.pdf))" if (folder / f"{name}.pdf").exists() else ""
        books = (project.ROOT / "notebooks").glob(f"{name[:2]}_*.ipynb")
        made = [f"[{b.stem}]({os.path.relpath(b, folder).replace(os.sep, '/')})" for b in sorted(books)[:1]]
        lines.append(f"| {picture} | **{name}**. {caption}{link} | {''.join(made)} |")
    return files.write(folder / "README.md", "\n".join(lines) + "\n")


def _array(image: ArrayLike) -> np.ndarray:
    array = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image)
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (3, 4):
        array = np.moveaxis(array, 0, -1) if len(array) == 3 else array[0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))) or 0 in array.shape:
        raise UnveilError(f"show: an image has the shape (H, W) or (H, W, 3), not {array.shape}")
    return array


def _title_size(titles: Iterable[str], width: float) -> float:
    """The style's size of titles in points, or less where one would reach into its neighbour's ``width`` inches."""
    points = matplotlib.rcParams["axes.titlesize"]
    lines = [line for title in titles for line in title.split("\n") if line.strip()]
    widest = max((TextPath((0, 0), line, size=points).get_extents().width for line in lines), default=0)
    return points * min(1, 72 * 0.85 * width / max(widest, 1))


def _white(array: np.ndarray, white: float | None) -> float:
    if white is None:
        white = 255 if array.dtype.kind in "iu" or (array.dtype != bool and np.nanmax(array, initial=0) > 2) else 1
    return white


def _draw(axis: Axes, array: np.ndarray, white: float | None, error: bool, shrunk: bool = False) -> None:
    """``shrunk``: the image has more pixels than it is drawn with, so that neighbours are averaged against moiré."""
    top = _white(np.abs(array) if error else array, white)
    how = {"interpolation": "antialiased" if shrunk else "none"}
    if error:
        axis.imshow(array, cmap="RdBu_r", vmin=-top / 2, vmax=top / 2, **how)
    elif array.ndim == 3:
        axis.imshow(np.clip(array / top, 0, 1), **how)
    else:
        gray = matplotlib.colormaps["gray"].with_extremes(bad=UNSEEN)
        axis.imshow(np.ma.masked_invalid(array), cmap=gray, vmin=0, vmax=top, **how)


def _outline(axis: Axes, mask: np.ndarray) -> None:
    if mask.any() and not mask.all():
        axis.contour(mask, levels=[0.5], colors=[COLOURS["orange"]], linewidths=1.2)


def _enlarge(axis: Axes, array: np.ndarray, box: Box, white: float | None, error: bool) -> None:
    frame(axis, box)
    inset = axis.inset_axes([0.54, 0.02, 0.44, 0.44])
    _draw(inset, cut(array, box), _white(array, white), error)
    inset.set(xticks=[], yticks=[])
    inset.grid(False)
    inset.spines[:].set(visible=True, color=COLOURS["orange"], linewidth=1.2)


def frame(axis: Axes, box: Box) -> None:
    """Draw a box of pixels on an image."""
    top, left, height, width = box
    look = {"fill": False, "edgecolor": COLOURS["orange"], "linewidth": 1.2}
    axis.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, **look))


def _frame(array: np.ndarray, text: str, reduce: int, white: float | None) -> Image.Image:
    scaled = np.nan_to_num(array.astype(np.float32)) * (255 / _white(array, white))
    # 64 gray levels: neighbouring frames repeat more, and the file has half the bytes.
    picture = Image.fromarray(np.clip(np.rint(scaled / 4) * 4, 0, 255).astype(np.uint8)).reduce(reduce)
    if text:
        font = ImageFont.load_default(size=max(12, picture.height // 16))
        ImageDraw.Draw(picture).text((6, 4), text, fill=255, font=font, stroke_width=2, stroke_fill=0)
    return picture


def _check_name(name: str) -> None:
    if not re.fullmatch(r"\d\d_[a-z0-9_]+", name):
        raise UnveilError(f"figure name {name!r}: expected NN_name in small letters, as 02_focal_stack")


def _captions() -> dict[str, dict[str, str]]:
    path = project.figures_dir() / "captions.json"
    return files.read_json(path, "delete it and make the figures again") if path.exists() else {}


def _note(name: str, file: str, caption: str) -> None:
    captions = _captions() | {name: {"caption": caption, "file": file}}
    text = json.dumps(captions, indent=1, sort_keys=True, ensure_ascii=False)
    files.write(project.figures_dir() / "captions.json", text + "\n")
