"""Figures: fixed gray scales, files that are the same every time, an index that finds the notebook's cell."""

import io
import json
import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from unveil import project
from unveil.errors import UnveilError
from unveil.show import figures

RAMP = np.arange(64 * 64, dtype=np.float32).reshape(64, 64) / (64 * 64 - 1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("UNVEIL_WORK", str(tmp_path))
    return tmp_path / "figures"


def limits(fig):
    return [image.get_clim() for axis in fig.axes for image in axis.images]


@pytest.mark.parametrize(
    ("image", "white"),
    [
        (np.full((8, 8), 3, np.uint8), 255),
        (np.full((8, 8), 3, np.int64), 255),
        (RAMP * 0.1, 1),
        (RAMP * 1.1, 1),
        (RAMP * 200, 255),
        (RAMP > 0.5, 1),
    ],
)
def test_gray_range_is_fixed_by_type_and_never_smoothed(image, white):
    fig = figures.show({"image": image})
    assert limits(fig) == [(0, white)]
    assert fig.axes[0].images[0].get_interpolation() == "none"


def test_show_lays_out_rows_masks_insets_and_errors():
    fig = figures.show({str(i): RAMP for i in range(8)}, inset=(2, 3, 10, 12), masks=RAMP > 0.5, title="eight")
    assert sum(axis.get_title() != "" for axis in fig.axes) == 8
    assert len({axis.get_subplotspec().rowspan.start for axis in fig.axes if axis.get_title()}) == 2
    fig = figures.show({"best": {"prediction": RAMP, "error": RAMP - 0.5}, "worst": {"prediction": RAMP}})
    assert (-0.5, 0.5) in limits(fig) and [a.get_ylabel() for a in fig.axes if a.get_ylabel()] == ["best", "worst"]
    cropped = figures.show({"part": RAMP}, crop=(10, 20, 5, 7)).axes[0].images[0].get_array()
    assert (np.asarray(cropped) == RAMP[10:15, 20:27]).all()


def test_pixels_reach_the_file_unchanged():
    gray = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    fig = figures.figure(0.64, 0.64)
    fig.set_layout_engine("none")
    axis = fig.add_axes((0, 0, 1, 1))
    axis.axis("off")
    figures._draw(axis, gray, None, False)
    picture = np.asarray(Image.open(io.BytesIO(figures.png(fig, 100))).convert("L"))
    assert np.abs(picture.astype(int) - gray).max() <= 1


@pytest.mark.parametrize("bad", [{}, {"x": np.zeros(3)}, {"x": np.zeros((2, 5, 5))}])
def test_show_refuses_what_is_no_image(bad):
    with pytest.raises(UnveilError, match="show"):
        figures.show(bad)


def test_filmstrip_needs_a_label_each():
    assert len(figures.filmstrip(np.stack([RAMP, RAMP]), ["0 m", "1 m"]).axes) == 2
    with pytest.raises(UnveilError, match="2 images have 1 labels"):
        figures.filmstrip([RAMP, RAMP], ["0 m"])


def test_saved_files_are_identical_and_indexed(folder, tmp_path, monkeypatch):
    def make():
        figures.save(figures.filmstrip([RAMP, RAMP], ["0 m", "1 m"]), "02_focal_stack", "Two planes | side by side.")
        figures.animate(
            [np.roll(RAMP, i, 0) for i in range(4)], "02_focal_sweep", ["a", "b", "c", "d"], caption="Sweep."
        )
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    first = make()
    assert make() == first
    suffixes = {
        "02_focal_stack.png",
        "02_focal_stack.pdf",
        "02_focal_sweep.webp",
        "02_focal_sweep.gif",
        "captions.json",
    }
    assert set(first) == suffixes
    assert Image.open(folder / "02_focal_stack.png").info["dpi"][0] == pytest.approx(200, abs=1)
    for kind in ("webp", "gif"):
        animation = Image.open(folder / f"02_focal_sweep.{kind}")
        assert animation.n_frames == 6 and animation.size == (32, 32)

    cells = [
        {"cell_type": "markdown", "source": ["# Two\n", "text\n", "## Focal stack"]},
        {"cell_type": "code", "source": ['figures.save(fig, "02_focal_stack")'], "execution_count": 7},
    ]
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "02_aos.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    monkeypatch.setattr(project, "ROOT", tmp_path)
    text = figures.index().read_text(encoding="utf-8")
    assert "Two planes \\| side by side." in text and "02_focal_sweep.gif" in text
    assert "[02_aos](../notebooks/02_aos.ipynb), Focal stack, cell [7]" in text


def test_names_and_folders_are_checked(folder, tmp_path, monkeypatch):
    with pytest.raises(UnveilError, match="NN_name"):
        figures.save(figures.show({"x": RAMP}), "Focal stack")
    figures.save(figures.show({"x": RAMP}), "02_x")
    (folder / "captions.json").write_text("{")
    with pytest.raises(UnveilError, match="captions.json"):
        figures.index()


def test_charts_hold_their_numbers():
    fig = figures.curves(
        {"a": ([1, 2, 3], [3, np.nan, 1]), "b": ([1, 2], [2, 2])}, "epoch", "loss", bands={"b": [1, 1]}
    )
    assert [len(line.get_xdata()) for line in fig.axes[0].lines] == [2, 2]
    table = pd.DataFrame({"ours": [30.0, 31.0], "single": [20.0, np.nan]}, index=["laying", "idle"])
    fig = figures.bars(table, "PSNR (dB)")
    assert {t.get_text() for t in fig.axes[0].texts} == {"30.0", "31.0", "20.0", ""}
    fig = figures.matrix(table, label="dB")
    assert {t.get_text() for t in fig.axes[0].texts} == {"30.0", "31.0", "20.0"}


def test_a_notebook_shows_each_figure_once(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    from nbclient import NotebookClient

    lines = [
        f"import sys; sys.path.insert(0, {str(project.ROOT / 'lib')!r})",
        "import numpy as np\nfrom unveil.show import figures\nimage = np.zeros((8, 8))",
    ]
    cells = ["fig = figures.show({'a': image})", "figures.show({'a': image})", "fig", "figures.save(fig, '01_a')"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in [*lines, *cells]])
    environment = os.environ | {"UNVEIL_WORK": str(tmp_path), "IPYTHONDIR": str(tmp_path)}
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute(env=environment)
    shown = [sum("image/png" in o.get("data", {}) for o in cell.outputs) for cell in notebook.cells[2:]]
    assert shown == [1, 1, 1, 0]
