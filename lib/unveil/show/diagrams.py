"""Diagrams of blocks and arrows."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from unveil.show import figures

Point = tuple[float, float]


class Diagram:
    """A figure of ``size`` inches without axes; ``limits``: left, right, bottom and top in the units of the diagram."""

    def __init__(self, size: Point, limits: tuple[float, float, float, float]) -> None:
        self.figure: Figure = figures.figure(*size)
        self.axes = self.figure.subplots()
        self.axes.set(xlim=limits[:2], ylim=limits[2:])
        self.axes.axis("off")

    def block(
        self, x: float, y: float, size: Point, colour: str, text: str = "", rotation: float = 0, fontsize: float = 10.5
    ) -> None:
        """A filled box of ``size`` (width, height) around (x, y), or ``text`` alone where a side is 0."""
        colour = figures.COLOURS.get(colour, colour)
        if all(size):
            corner = (x - size[0] / 2, y - size[1] / 2)
            self.axes.add_patch(Rectangle(corner, *size, facecolor=colour, edgecolor="white", zorder=2))
        ink = "white" if all(size) else colour
        self.axes.text(x, y, text, ha="center", va="center", color=ink, rotation=rotation, fontsize=fontsize, zorder=3)

    def arrow(self, *points: Point, colour: str = "gray", text: str = "") -> None:
        """A line through the points with a head at the last; the text stands above the middle of the last but one."""
        colour = figures.COLOURS.get(colour, colour)
        style = {"color": colour, "linewidth": 1.5}
        self.axes.plot(*zip(*points[:-1], strict=True), **style, zorder=1)
        head = FancyArrowPatch(*points[-2:], arrowstyle="-|>", mutation_scale=11, shrinkA=0, shrinkB=0, **style)
        self.axes.add_patch(head)
        if text:
            (left, level), right = points[-3], points[-2][0]
            self.axes.text((left + right) / 2, level, text, ha="center", va="bottom", color=colour, fontsize=11)
