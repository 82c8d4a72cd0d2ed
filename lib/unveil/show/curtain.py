"""A curtain between two versions of a picture, the quickest way to see what one has that the other lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np

from unveil.errors import UnveilError
from unveil.show import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Curtain(ipywidgets.VBox):
    """Choose a picture and two of its versions; left of the curtain is one, right of it the other.

    ``picture``, ``left``, ``right`` and ``position`` (percent) are the controls; their ``value`` may be set.
    ``pictures`` holds name → version → image (H, W) or (H, W, 3) in [0, 1], all versions of one size.
    """

    def __init__(self, pictures: Mapping[str, Mapping[str, np.ndarray]], zoom: int = 2) -> None:
        versions = list(next(iter(pictures.values())))
        if len(versions) < 2:
            raise UnveilError("a curtain needs two versions of each picture")
        self._pictures, self._zoom = pictures, zoom
        self.picture = ipywidgets.Dropdown(options=list(pictures), description="picture")
        self.left = ipywidgets.Dropdown(options=versions, description="left")
        self.right = ipywidgets.Dropdown(options=versions, value=versions[-1], description="right")
        self.position = ipywidgets.IntSlider(50, 0, 100, description="curtain", layout={"width": "32em"})
        self._image = ipywidgets.Image(format="png", layout={"align_self": "flex-start"})
        controls = (self.picture, self.left, self.right, self.position)
        super().__init__([ipywidgets.HBox(controls, layout={"flex_flow": "row wrap"}), self._image])
        for control in controls:
            control.observe(self._show, "value")
        self._show()

    def frame(self, position: int | None = None) -> np.ndarray:
        """What is seen with the curtain at so many percent, with a line where it hangs."""
        versions = self._pictures[self.picture.value]
        image = versions[self.left.value].copy()
        column = round((self.position.value if position is None else position) / 100 * (image.shape[1] - 1))
        image[:, column:] = versions[self.right.value][:, column:]
        image[:, column] = 1
        return image

    def filmstrip(self, positions: Sequence[int] = (0, 50, 100), **options: Any) -> Figure:
        """The static twin: the curtain at some positions."""
        names = f"{self.left.value} | {self.right.value}"
        return figures.show({f"{names}, {p} %": self.frame(p) for p in positions}, **options)

    def _show(self, _change: Any = None) -> None:
        wide = self.frame().repeat(self._zoom, axis=0).repeat(self._zoom, axis=1)
        self._image.value = figures.pixels(wide, white=1)
