"""Old photographs: what the networks learn from, hints, painted masks, plates, and the command's files."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from unveil.degrade.ageing import luminance
from unveil.errors import UnveilError
from unveil.restore import networks
from unveil.restore.networks.gated import filled
from unveil.tasks import old_photos, photos
from unveil.tasks import old_photos_pairs as pairs


@pytest.fixture(scope="module")
def picture():
    rows, columns = np.mgrid[:72, :90].astype(np.float32)
    halves = np.where(columns < 45, 0.7, 0.3)
    return np.stack([halves, 0.5 * halves + rows / 300, 0.4 + 0.1 * np.sin(columns / 5)]).astype(np.float32)


@pytest.fixture
def untrained(monkeypatch):
    """Small networks in place of the shipped ones."""
    torch.manual_seed(0)
    small = {
        "finder": networks.build("finder", 1, features=(4, 8)),
        "repair": networks.build("gated", 2, features=(4, 8)),
        "direct": networks.build("gated", 2, out_channels=3, features=(4, 8)),
        "colour": networks.build("colouriser", 4, features=(4, 8)),
    }
    monkeypatch.setattr(old_photos, "model", lambda name: small[name].eval())


def library(picture, count=2):
    return photos.Pictures([f"p{i}" for i in range(count)], lambda i: photos.bytes_of(picture))


def test_chroma_leaves_gray_alone(picture):
    there = pairs.with_chroma(luminance(picture), pairs.chroma(picture))
    np.testing.assert_allclose(there, picture, atol=1e-5)
    colouriser = networks.build("colouriser", 4, features=(4, 8))
    gray = torch.rand(1, 4, 20, 26)
    np.testing.assert_allclose(luminance(colouriser(gray)[0].detach().numpy())[0], gray[0, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "channels"), [("finder", (1, 1)), ("repair", (2, 1)), ("direct", (2, 3)), ("colour", (4, 3))]
)
def test_pairs_depend_on_the_generator_alone(picture, kind, channels):
    data = pairs.AgedPairs(library(picture), kind)
    first, again = (data.item(0, np.random.default_rng(3), (32, 48)) for _ in range(2))
    for a, b, count in zip(first, again, channels, strict=True):
        assert a.shape == (count, 32, 48) and a.dtype == np.float32
        assert np.array_equal(a, b)
    assert data.item(1, np.random.default_rng(0))[0].shape[1:] == picture.shape[1:]


@pytest.mark.parametrize("kind", ["finder", "repair", "direct", "colour"])
def test_every_loss_falls(picture, kind):
    options = pairs.PRESETS[kind].options
    torch.manual_seed(0)
    small = {k: v for k, v in options.network_options.items()} | {"features": (8, 16)}
    network = networks.build(options.network, options.in_channels, **small)
    items = [pairs.AgedPairs(library(picture), kind).item(0, np.random.default_rng(i), (32, 32)) for i in range(4)]
    inputs, target = (torch.from_numpy(np.stack(part)) for part in zip(*items, strict=True))
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for _ in range(25):
        loss = network.loss(inputs, target, options)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (13, 7)])
def test_networks_take_any_size(untrained, size):
    gray = np.full((1, *size), 0.4, np.float32)
    assert old_photos.find_damage(gray).shape == (1, *size)
    assert old_photos.repair(gray).shape == (1, *size)
    assert old_photos.colour(gray).shape == (3, *size)


def test_filling_takes_known_pixels_only():
    image = torch.full((1, 1, 40, 50), 0.25)
    mask = torch.zeros_like(image)
    mask[..., 5:30, 10:40] = 1
    torch.testing.assert_close(filled(torch.where(mask > 0, 9.0, image), mask), image)


def test_hints_spread_to_their_like(picture):
    hints = pairs.hints_at(picture, np.array([[36, 20], [36, 70]]))
    near = pairs.spread(luminance(picture), hints)
    truth = pairs.chroma(picture)
    assert near.shape == (3, 72, 90)
    assert np.abs(near[:2] - truth)[:, :, :40].mean() < 0.5 * np.abs(truth)[:, :, :40].mean()
    assert near[2, 36, 20] > 0.95 and near[2].min() < 0.8
    assert not pairs.spread(luminance(picture), None).any()


def test_imperfect_masks_vary_and_stay_masks(picture):
    _, mask = pairs.AGEING.with_mask(np.zeros((1, 128, 128), np.float32), np.random.default_rng(4))
    drawn = [pairs.imperfect(mask, pairs.WIDE, np.random.default_rng(i)) for i in range(40)]
    assert all(d.shape == mask.shape and 0 <= d.min() and d.max() <= 1 for d in drawn)
    shares = [float((d * mask).sum() / mask.sum()) for d in drawn]
    assert min(shares) == 0 and max(shares) > 0.95


def test_painted_masks_and_hints(tmp_path, picture):
    strokes = np.zeros((72, 90, 4), np.uint8)
    strokes[10:14, 20:30] = (200, 40, 40, 255)
    Image.fromarray(strokes).save(tmp_path / "alpha.png")
    assert old_photos.read_mask(tmp_path / "alpha.png", (72, 90)).sum() == 40
    hints = old_photos.read_hints(tmp_path / "alpha.png", (72, 90))
    assert ((hints[:, 0] >= 10) & (hints[:, 0] < 14)).all() and (hints[:, 3] > 0.2).all()
    gray = np.full((72, 90, 3), 128, np.uint8)
    gray[40:44, 50:54] = (40, 40, 200)
    Image.fromarray(gray).save(tmp_path / "opaque.png")
    assert (old_photos.read_hints(tmp_path / "opaque.png", (72, 90))[:, 2] > 0.2).all()
    with pytest.raises(UnveilError, match="paint on a copy"):
        old_photos.read_mask(tmp_path / "alpha.png", (71, 90))
    Image.fromarray(gray[..., 0]).save(tmp_path / "nothing.png")
    with pytest.raises(UnveilError, match="no hint"):
        old_photos.read_hints(tmp_path / "nothing.png", (72, 90))


def test_plate_comes_into_register():
    rng = np.random.default_rng(0)
    scene = ndimage.gaussian_filter(rng.random((200, 240)), 3)
    scene = ((scene - scene.min()) / np.ptp(scene)).astype(np.float32)
    exposures = [ndimage.shift(scene, shift, order=1, mode="nearest") for shift in ((3, -4), (0, 0), (-5, 2))]
    rgb = old_photos.align_plate(np.concatenate(exposures)[None])
    assert np.abs(rgb[0] - rgb[1]).mean() < 0.02 and np.abs(rgb[2] - rgb[1]).mean() < 0.02


def test_scores():
    truth = np.stack([np.linspace(0, 1, 100).reshape(10, 10), np.eye(10)]).astype(np.float32)
    scores = old_photos.gray_scores(0.2 + 0.5 * truth[0], truth)
    assert scores["psnr"] < 20 and scores["curve"] > 50 and scores["inside"] > 50
    colour = np.stack([truth[0], truth[0] ** 2, 1 - truth[0]])
    same = old_photos.colour_scores(colour, colour)
    assert same["ab"] == 0 and same["colourful"] == pytest.approx(1)
    assert old_photos.colourfulness(np.repeat(truth[:1], 3, 0)) == pytest.approx(0)


def test_run_writes_everything_and_overwrites_nothing(untrained, tmp_path, picture):
    scan, out = tmp_path / "grandma.png", tmp_path / "out"
    photos.write(scan, picture, bits=16)
    assert not old_photos.run([scan], out, in_colour=True)
    names = {path.name.removeprefix("grandma_") for path in out.iterdir()}
    assert names == {"mask.png", "repaired.png", "coloured.png", "comparison.png"}
    coloured = photos.read(out / "grandma_coloured.png")
    assert coloured.shape == picture.shape and photos.bits(coloured) == 16
    old_photos.run([scan], tmp_path / "again", mask=out / "grandma_mask.png")
    assert set(np.unique(photos.read(tmp_path / "again" / "grandma_mask.png"))) <= {0, 1}
    with pytest.raises(UnveilError, match="exists already"):
        old_photos.run([scan], out)
    (tmp_path / "empty.png").touch()
    with pytest.raises(UnveilError, match="empty"):
        old_photos.run([tmp_path / "empty.png"], out)


def test_tables_name_every_way(untrained, picture):
    table = old_photos.repairs(library(picture))
    assert len(table) == 2 * table["model"].nunique() and table["model"].nunique() == 9
    assert {"psnr", "curve", "inside"} <= set(table)
    colours = old_photos.colourings(library(picture), hints=4)
    gray = colours[colours["model"] == "gray"]
    assert np.allclose(gray["colourful"], 0)
    oracle = colours[colours["model"] == "own mean chroma (oracle)"]
    assert (oracle["psnr"].to_numpy() >= gray["psnr"].to_numpy()).all()
