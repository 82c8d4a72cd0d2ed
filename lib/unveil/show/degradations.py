"""The zoo of degradations: choose picture, operator and strength, and see at once what is lost and what comes back.

Operators are passed in; all that is asked of one is ``operator(x, rng)``. Panels are drawn with numpy and Pillow: a
matplotlib figure alone takes longer than a step may (50 ms).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from unveil.show import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray
Operator = Callable[[Array, np.random.Generator], Array]


@dataclass(frozen=True)
class Degradation:
    """One entry of the zoo: ``make(strength)`` is the operator; ``back(y, operator)`` is the classical way back.

    ``strengths`` are the stops of the slider, ``label`` formats them, ``way`` names the way back.
    """

    make: Callable[[float], Operator]
    strengths: Sequence[float]
    label: str = "{:g}"
    back: Callable[[Array, Any], Array] | None = None
    way: str = "no way back"


class Zoo(ipywidgets.VBox):
    """Choose a picture, an operator and its strength; see y, |y − x|, histogram, spectra, and the classical way back.

    ``picture``, ``entry`` and ``strength`` are the controls; their ``value`` may be set. ``pictures`` holds name →
    float32 (C, H, W) in [0, 1]; 128 × 128 pixels keep a step below 50 ms. ``seed`` is that of the noise, the same at
    every step, so that only the strength changes.
    """

    def __init__(self, pictures: Mapping[str, Array], entries: Mapping[str, Degradation], seed: int = 0) -> None:
        self._pictures, self._entries, self._seed = pictures, entries, seed
        self.picture = ipywidgets.Dropdown(options=list(pictures), description="picture")
        self.entry = ipywidgets.Dropdown(options=list(entries), description="operator")
        self.strength = ipywidgets.SelectionSlider(options=[0], description="strength", layout={"width": "32em"})
        self._text = ipywidgets.HTML()
        self._image = ipywidgets.Image(format="png", layout={"max_width": "100%", "align_self": "flex-start"})
        controls = ipywidgets.HBox([self.picture, self.entry, self.strength], layout={"flex_flow": "row wrap"})
        super().__init__([controls, self._text, self._image])
        self._choose()
        self.entry.observe(self._choose, "value")
        for control in (self.picture, self.strength):
            control.observe(self._show, "value")

    def step(self, picture: str, entry: str, strength: float) -> tuple[str, dict[str, Array]]:
        """The recipe and the panels by name: x, y, |y − x|, histogram, spectra, way back and what it leaves."""
        chosen, x = self._entries[entry], self._pictures[picture]
        operator = chosen.make(strength)
        y = operator(x, np.random.default_rng(self._seed))
        seen = _enlarge(y, x.shape[1:])
        panels = {
            "x": _flat(x),
            f"y\n{_psnr(seen, x):.1f} dB": _flat(seen),
            "|y − x| × 4": _flat(4 * np.abs(seen - x)),
            "histogram": histogram(x, y),
            "spectrum of x": spectrum(x),
            "spectrum of y": spectrum(y),
        }
        if chosen.back is None:
            return repr(operator), panels
        back = _enlarge(chosen.back(y, operator), x.shape[1:])
        panels |= {f"{chosen.way}\n{_psnr(back, x):.1f} dB": _flat(back), "left over × 4": _flat(4 * np.abs(back - x))}
        return repr(operator), panels

    def filmstrip(self, entries: Iterable[str] | None = None, picture: str | None = None, **options: Any) -> Figure:
        """The static twin: one row per entry at the middle of its slider; ``options`` of figures.show."""
        rows, picture = {}, picture or self.picture.value
        for name in entries or self._entries:
            entry = self._entries[name]
            middle = entry.strengths[len(entry.strengths) // 2]
            _, panels = self.step(picture, name, middle)
            del panels["x"], panels["spectrum of x"]
            rows[f"{name}\n{entry.label.format(middle)}"] = panels
        return figures.show(rows, **({"size": 1.9, "white": 1} | options))

    def _choose(self, _change: Any = None) -> None:
        """Put the stops of the chosen entry on the slider, and show its middle."""
        chosen = self._entries[self.entry.value]
        stops = [(chosen.label.format(s), s) for s in chosen.strengths]
        with self.hold_trait_notifications():
            self.strength.unobserve_all("value")
            self.strength.options = stops
            self.strength.value = stops[len(stops) // 2][1]
            self.strength.observe(self._show, "value")
        self._show()

    def _show(self, _change: Any = None) -> None:
        recipe, panels = self.step(self.picture.value, self.entry.value, self.strength.value)
        self._text.value = f"<code>{recipe}</code>"
        self._image.value = _compose(panels)


def spectrum(x: Array) -> Array:
    """Power of the gray picture per frequency under a Hann window, zero in the middle; 10⁻⁶ is black, 10² white."""
    gray = x.mean(axis=0)
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in gray.shape))
    power = np.abs(np.fft.fftshift(np.fft.fft2((gray - gray.mean()) * window))) ** 2 / (window**2).sum()
    return np.clip((np.log10(power + 1e-12) + 6) / 8, 0, 1).astype(np.float32)


def histogram(x: Array, y: Array, size: int = 256) -> Array:
    """Values of x (gray area) and y (line) from −¼ to 1¼ as a picture (size, size); the lines stand at 0 and 1."""
    shares = [np.histogram(v, 64, (-0.25, 1.25))[0] / v.size for v in (x, y)]
    top = size - 8 - (size - 16) * np.sqrt(np.minimum(shares, 0.25) / 0.25)
    place = (np.arange(64) + 0.5) * size / 64
    sheet = Image.new("L", (size, size), 255)
    draw = ImageDraw.Draw(sheet)
    draw.polygon([(0, size - 8), *zip(place, top[0], strict=True), (size, size - 8)], fill=190)
    for edge in (size / 6, size * 5 / 6):
        draw.line([(edge, 0), (edge, size)], fill=150)
    draw.line(list(zip(place, top[1], strict=True)), fill=0, width=max(1, size // 100))
    return np.asarray(sheet, np.float32) / 255


def _psnr(prediction: Array, target: Array) -> float:
    return float(-10 * np.log10(max(np.mean((np.clip(prediction, 0, 1) - target) ** 2), 1e-6)))


def _flat(x: Array) -> Array:
    x = np.clip(x, 0, 1)
    return x[0] if len(x) == 1 else x.transpose(1, 2, 0)


def _enlarge(y: Array, size: tuple[int, int]) -> Array:
    """Every pixel repeated until the picture has this size again."""
    rows, columns = (np.arange(n) * m // n for n, m in zip(size, y.shape[1:], strict=True))
    return y if y.shape[1:] == size else y[:, rows][:, :, columns]


@cache
def _font() -> ImageFont.FreeTypeFont:
    """matplotlib's, since Pillow's own lacks the minus and the times sign."""
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 14)


def _compose(panels: Mapping[str, Array], side: int = 256, title: int = 22) -> bytes:
    """The panels four to a row under their names, as PNG."""
    sheet = Image.new("RGB", (4 * (side + 6), -(-len(panels) // 4) * (side + title)), "white")
    draw, font = ImageDraw.Draw(sheet), _font()
    for i, (name, panel) in enumerate(panels.items()):
        left, top = i % 4 * (side + 6), i // 4 * (side + title)
        picture = Image.fromarray(np.round(panel * 255).astype(np.uint8))
        sheet.paste(picture.resize((side, side), Image.Resampling.NEAREST), (left, top + title))
        draw.text((left + 2, top + 2), name.replace("\n", ", "), "black", font)
    file = io.BytesIO()
    sheet.save(file, "PNG", compress_level=1)
    return file.getvalue()
