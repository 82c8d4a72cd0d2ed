"""Clouds of points: geometry, still views, animation, PLY, and what the browser is sent."""

import numpy as np
from PIL import Image

from unveil.show import figures, points


def wall() -> np.ndarray:
    depth = np.full((48, 64), 2.0, np.float32)
    depth[:10] = 0
    depth[40:] = 9
    return depth


def test_a_cloud_holds_the_pixels_within_reach_at_their_places():
    xyz, colours = points.cloud(wall(), focal=32.0, step=1)
    assert xyz.shape == colours.shape == (30 * 64, 3) and colours.dtype == np.uint8
    assert (xyz[:, 2] == 2).all()
    assert np.allclose(xyz[0, :2], [2 * (0.5 - 32) / 32, 2 * (10.5 - 24) / 32])
    dark = points.cloud(wall(), np.zeros((48, 64)), focal=32.0, step=1)[1]
    assert dark.mean() < colours.mean()


def test_pictures_turn_and_the_nearer_point_hides_the_farther():
    near, far = np.array([[0, 0, 1.0]]), np.array([[0, 0, 2.0]])
    colours = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
    widget = points.Points({"two": (np.concatenate([far, near]).astype(np.float32), colours[::-1])})
    front = widget.picture("two", 0, 0)
    assert tuple(front[120, 160]) == (255, 0, 0)
    aside = widget.picture("two", 60, 0)
    assert (aside == (0, 0, 255)).all(-1).any() and (aside == (255, 0, 0)).all(-1).any()


def test_the_browser_gets_the_points_when_it_asks():
    xyz, colours = points.cloud(wall(), focal=32.0)
    widget, sent = points.Points({"wall": (xyz, colours)}), []
    widget.send = lambda content, buffers: sent.append((content, buffers))
    widget._answer(widget, {"type": "points"}, [])
    assert sent[0][0] == {"type": "points"}
    assert np.array_equal(np.frombuffer(sent[0][1][0], np.float32).reshape(-1, 3), xyz)
    assert np.array_equal(np.frombuffer(sent[0][1][1], np.uint8).reshape(-1, 3), colours)


def test_static_twin_animation_and_ply(tmp_path):
    xyz, colours = points.cloud(wall(), focal=32.0)
    widget = points.Points({"a": (xyz, colours), "b": (xyz, colours)})
    fig = widget.filmstrip()
    figures.withdraw(fig)
    assert len(fig.axes) == 4
    with Image.open(widget.turning(tmp_path / "turn.gif", frames=6)) as film:
        assert film.n_frames >= 4 and film.size == (400, 150)
    content = points.write_ply(tmp_path / "wall.ply", xyz, colours).read_bytes()
    header, body = content.split(b"end_header\n", 1)
    assert f"element vertex {len(xyz)}".encode() in header and len(body) == 15 * len(xyz)
    assert np.frombuffer(body[:12], "<f4").tolist() == xyz[0].tolist()
