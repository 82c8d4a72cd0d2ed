"""Figures: fixed gray scales, files that are the same every time, an index that finds the notebook's cell."""

import io
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


def test_an_image_that_is_drawn_smaller_is_averaged():
    stripes = np.tile(np.array([0, 255], np.uint8), (300, 300))
    fig = figures.show({"stripes": stripes}, size=1.0)
    fig.draw_without_rendering()
    picture = np.asarray(Image.open(io.BytesIO(figures.png(fig))).convert("L"))
    inner = picture[45:70, 20:80]
    assert inner.std() < 30 and abs(inner.mean() - 127.5) < 15


def test_colour_images_have_their_channels_first_or_last():
    colour = np.random.default_rng(0).random((3, 20, 30), dtype=np.float32)
    for image in (colour, np.moveaxis(colour, 0, -1), np.rint(255 * np.moveaxis(colour, 0, -1)).astype(np.uint8)):
        drawn = figures.show({"colour": image}).axes[0].images[0].get_array()
        assert np.abs(np.asarray(drawn) - np.moveaxis(colour, 0, -1)).max() < 0.003


@pytest.mark.parametrize(
    ("where", "size", "box"),
    [
        ((100, 200, 20, 40), 64, (78, 188, 64, 64)),
        ((0, 500, 10, 10), 64, (0, 448, 64, 64)),
        ((100, 200, 20, 40), (32, 600), (94, 0, 32, 512)),
    ],
)
def test_a_crop_lies_around_what_it_is_about_and_inside_the_image(where, size, box):
    assert figures.crop_around(where, size) == box
    mask = np.zeros((512, 512), bool)
    mask[where[0] : where[0] + where[2], where[1] : where[1] + where[3]] = True
    assert figures.crop_around(mask, size) == box
    assert figures.cut(mask, box).shape == box[2:]
    assert figures.crop_around(np.zeros((64, 64), bool), 16) == (24, 24, 16, 16)


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
        "02_focal_sweep.gif",
        "captions.json",
    }
    assert set(first) == suffixes
    assert Image.open(folder / "02_focal_stack.png").info["dpi"][0] == pytest.approx(200, abs=1)
    animation = Image.open(folder / "02_focal_sweep.gif")
    assert animation.n_frames == 6 and animation.size == (32, 32)

    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "02_aos.ipynb").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(project, "ROOT", tmp_path)
    text = figures.index().read_text(encoding="utf-8")
    assert "Two planes \\| side by side." in text and "02_focal_sweep.gif" in text
    assert "([PDF](02_focal_stack.pdf)) | [02_aos](../notebooks/02_aos.ipynb)" in text


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
    share = pd.Series({"centre view": 12.0, "network": 88.0}, name="people found in %")
    assert figures.bars(share, "people found in %").axes[0].get_yticks().tolist() == [0, 20, 40, 60, 80, 100]


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


def test_titles_do_not_run_into_each_other():
    image = np.zeros((8, 8), np.uint8)
    names = ["5 views, 10 m", "11 views, 10 m", "a much longer title\nof two lines"]
    fig = figures.show({name: image for name in names}, size=1.45)
    fig.draw_without_rendering()
    boxes = [axis.title.get_window_extent() for axis in fig.axes]
    assert all(left.x1 + 9 < right.x0 for left, right in zip(boxes, boxes[1:], strict=False)), "a space between"
    assert figures.show({"short": image}).axes[0].title.get_size() == 14
