"""The zoo: panels, controls, the static twin, and the time of a step."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from unveil.show.degradations import Degradation, Zoo, histogram, spectrum

RNG = np.random.default_rng(0)
PICTURES = {name: RNG.random((3, 128, 128), dtype=np.float32) for name in ("first", "second")}


class Darker:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x, rng):
        return x * np.float32(self.factor)

    def __repr__(self):
        return f"Darker({self.factor})"


ENTRIES = {
    "darker": Degradation(Darker, (0.25, 0.5, 1.0), "{:g} times", lambda y, op: y / op.factor, "division"),
    "half as many": Degradation(lambda s: lambda x, rng: x[:, :: int(s), :: int(s)], (1, 2, 4), "{:d} pixels"),
}


@pytest.fixture
def zoo():
    return Zoo(PICTURES, ENTRIES)


def test_a_step_shows_what_is_lost_and_what_comes_back(zoo):
    recipe, panels = zoo.step("first", "darker", 0.5)
    assert recipe == "Darker(0.5)" and len(panels) == 8 and "division\n60.0 dB" in panels
    assert panels["left over × 4"].max() == 0 < panels["|y − x| × 4"].max()
    _, panels = zoo.step("first", "half as many", 4)
    assert len(panels) == 6 and [p.shape[0] for p in panels.values()] == [128, 128, 128, 256, 128, 32]


def test_controls_redraw(zoo):
    seen = {zoo._image.value}
    steps = (zoo.strength, 0.25), (zoo.picture, "second"), (zoo.entry, "half as many"), (zoo.strength, 4)
    for control, value in steps:
        control.value = value
        seen.add(zoo._image.value)
    assert len(seen) == 5 and [label for label, _ in zoo.strength.options] == ["1 pixels", "2 pixels", "4 pixels"]
    assert Image.open(io.BytesIO(zoo._image.value)).size[1] == 2 * (256 + 22)


def test_static_twin_has_a_row_per_entry(zoo):
    fig = zoo.filmstrip()
    assert len(fig.axes) == 2 * 6 and sum(axis.has_data() for axis in fig.axes) == 6 + 4


def test_a_step_is_fast(zoo):
    zoo.step("first", "darker", 0.5)
    begin = time.process_time()
    for value in (0.25, 0.5, 1.0) * 3:
        zoo.strength.value = value
    assert (time.process_time() - begin) / 9 < 0.05


def test_spectrum_finds_a_wave_and_the_histogram_its_levels():
    wave = np.float32(0.5 + 0.4 * np.sin(2 * np.pi * np.arange(64) / 8))[None, None].repeat(64, 1)
    assert np.unravel_index(spectrum(wave).argmax(), (64, 64)) in ((32, 24), (32, 40))
    sheet = histogram(wave, np.full_like(wave, 0.5))
    assert sheet.shape == (256, 256) and sheet[:, 128].min() == 0 and sheet.max() == 1
