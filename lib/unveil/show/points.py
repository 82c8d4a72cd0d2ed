"""Depth as a cloud of points: to turn with the mouse, as still views, as a turning animation and as ``.ply``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import matplotlib
import numpy as np
import traitlets
from matplotlib.figure import Figure
from PIL import Image

from unveil import files
from unveil.show import figures


def cloud(
    depth: np.ndarray, gray: np.ndarray | None = None, *, focal: float = 424.0, step: int = 2, far: float = 4.0
) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) float32 in m, x right, y down, z forward, and their colours (N, 3) uint8, of depth (H, W) in m.

    Every ``step``-th pixel with a depth below ``far``; the colour tells distance, ``gray`` (H, W) in [0, 1] the light.
    """
    rows, columns = (grid[::step, ::step] for grid in np.indices(depth.shape))
    z = depth[::step, ::step]
    seen = (z > 0) & (z < far)
    x, y = (columns + 0.5 - depth.shape[1] / 2) / focal * z, (rows + 0.5 - depth.shape[0] / 2) / focal * z
    colours = matplotlib.colormaps["viridis_r"](z[seen] / far)[:, :3]
    if gray is not None:
        colours = colours * (0.35 + 0.65 * np.sqrt(gray[::step, ::step][seen]))[:, None]
    return np.stack([x, y, z], -1)[seen].astype(np.float32), np.rint(255 * colours).astype(np.uint8)


class Points(anywidget.AnyWidget):
    """Clouds side by side that turn together: drag, or the arrow keys; the wheel moves nearer.

    The points go to the browser once, in a message that no saved notebook keeps. ``yaw`` and ``pitch`` are in degrees.
    """

    _esm = Path(__file__).with_name("points.js")
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    counts = traitlets.List(traitlets.Int()).tag(sync=True)
    centre = traitlets.List(traitlets.Float()).tag(sync=True)
    yaw = traitlets.Float(15.0).tag(sync=True)
    pitch = traitlets.Float(10.0).tag(sync=True)
    zoom = traitlets.Float(1.0).tag(sync=True)

    def __init__(self, clouds: Mapping[str, tuple[np.ndarray, np.ndarray]], **traits: Any) -> None:
        self.clouds = dict(clouds)
        points = np.concatenate([xyz for xyz, _ in self.clouds.values()])
        centre = np.median(points, axis=0) if len(points) else np.array([0, 0, 1.0])
        counts = [len(xyz) for xyz, _ in self.clouds.values()]
        super().__init__(names=list(self.clouds), counts=counts, centre=[float(v) for v in centre], **traits)
        self.on_msg(self._answer)

    def _answer(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        if content.get("type") == "points":
            pairs = self.clouds.values()
            self.send({"type": "points"}, [part.tobytes() for pair in pairs for part in pair])

    def picture(self, name: str, yaw: float, pitch: float, size: tuple[int, int] = (240, 320)) -> np.ndarray:
        """One cloud from one side (H, W, 3) uint8: what the browser draws, made here."""
        xyz, colours = self.clouds[name]
        (cy, cp), (sy, sp) = np.cos(np.radians([yaw, pitch])), np.sin(np.radians([yaw, pitch]))
        turn = np.array([[cy, 0, sy], [sp * sy, cp, -sp * cy], [-cp * sy, sp, cp * cy]])
        centre = np.array(self.centre)
        p = (xyz - centre) @ turn.T + (0, 0, centre[2] / self.zoom)
        p, colours = p[p[:, 2] > 0.1], colours[p[:, 2] > 0.1]
        column, row = np.rint(size[1] * 0.6 * p[:, :2] / p[:, 2:] + np.divide(size[::-1], 2)).astype(int).T
        inside = (column >= 0) & (column < size[1] - 1) & (row >= 0) & (row < size[0] - 1)
        order = np.flatnonzero(inside)[np.argsort(-p[inside, 2])]
        image = np.full((*size, 3), 255, np.uint8)
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            image[row[order] + i, column[order] + j] = colours[order]
        return image

    def filmstrip(self, angles: Sequence[tuple[float, float]] = ((0, 0), (35, 15))) -> Figure:
        """The static twin: every cloud from each of the sides (yaw, pitch)."""
        sides = [{name: self.picture(name, yaw, pitch) / 255 for name in self.clouds} for yaw, pitch in angles]
        return figures.show({f"{yaw:g}° aside": side for (yaw, _), side in zip(angles, sides, strict=True)})

    def turning(self, path: str | os.PathLike[str], frames: int = 16, swing: float = 35.0) -> Path:
        """An animation (GIF or WebP by the suffix) of all clouds side by side, swinging left and right."""
        angles = swing * np.sin(2 * np.pi * np.arange(frames) / frames)
        strips = ([self.picture(n, a, self.pitch, (150, 200)) for n in self.clouds] for a in angles)
        images = [Image.fromarray(np.concatenate(strip, axis=1)) for strip in strips]
        with files.replacing(path) as temporary:
            images[0].save(temporary, save_all=True, append_images=images[1:], duration=100, loop=0, quality=40)
        return Path(path)


def write_ply(path: str | os.PathLike[str], xyz: np.ndarray, colours: np.ndarray) -> Path:
    """A cloud as binary PLY, which Blender, CloudCompare and MeshLab read."""
    kind = [(axis, "<f4") for axis in "xyz"] + [(name, "u1") for name in ("red", "green", "blue")]
    points = np.rec.fromarrays([*xyz.T, *colours.T], kind)
    fields = "".join(f"property {'float' if code == '<f4' else 'uchar'} {name}\n" for name, code in kind)
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(xyz)}\n{fields}end_header\n"
    return files.write(path, header.encode() + points.tobytes())
