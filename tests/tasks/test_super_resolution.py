"""Super-resolution: colour spaces, strips, scales, the command's files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from unveil.degrade.sampling import Resize
from unveil.restore import networks
from unveil.restore.inference import predict
from unveil.tasks import common, photos, super_resolution

SIBLINGS = Path(__import__("os").environ.get("UNVEIL_SIBLINGS", photos.project.ROOT / "data" / "siblings"))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    model = networks.build("subpixel", in_channels=1, features=8, blocks=1)
    torch.nn.init.normal_(model.exit.weight, std=0.05)
    return model.eval()


@pytest.fixture(scope="module")
def picture():
    return photos.unit(photos.samples(["chelsea"])[0])[:, 100:190, 100:170]


def test_luminance_is_that_of_bt601_and_goes_back(picture):
    y = super_resolution.ycbcr(picture)
    assert np.allclose(super_resolution.ycbcr(np.ones((3, 1, 1)))[:, 0, 0] * 255, [235, 128, 128], atol=1e-3)
    assert 16 / 255 <= y[0].min() and y[0].max() <= 235 / 255
    assert np.abs(super_resolution.rgb(y) - picture).max() < 1e-5


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_kind_of_picture_grows(network, picture, channels):
    given = np.concatenate([picture, picture])[:channels]
    small = super_resolution.enlarge(network, given)
    assert small.shape == (channels, 180, 140) and small.dtype == np.float32 and 0 <= small.min() <= small.max() <= 1
    if channels in (2, 4):
        assert np.abs(small[-1] - Resize(2)(given[-1:])[0].clip(0, 1)).max() < 1e-6


def test_bytes_stay_bytes_and_four_is_twice_two(network, picture):
    given = photos.bytes_of(picture)
    twice = super_resolution.enlarge(network, super_resolution.enlarge(network, given))
    assert twice.dtype == np.uint8 and np.array_equal(super_resolution.enlarge(network, given, 4), twice)


def test_strips_leave_no_seams(network, picture):
    gray, seen = picture[:1], []
    whole = predict(network, gray)
    assert np.abs(super_resolution._doubled(network, gray, None, strip=16)[0] - whole).max() < 1e-5
    super_resolution._doubled(network, gray, lambda done, total: seen.append((done, total)), strip=40)
    assert seen == [(40, 90), (80, 90), (90, 90)]


@pytest.mark.parametrize("size", [(1, 1), (2, 7)])
def test_tiny_pictures(network, size):
    assert super_resolution.enlarge(network, np.full((3, *size), 0.5, np.float32)).shape == (
        3,
        2 * size[0],
        2 * size[1],
    )


def test_the_shipped_networks_are_as_small_as_said():
    counts = {
        n: sum(p.numel() for p in common.load("super_resolution", n).parameters()) for n in super_resolution.PRESETS
    }
    assert counts["subpixel"] <= 150_000 and counts["deep"] <= 1_000_000
    assert all(common.file("super_resolution", name).stat().st_size <= 3e6 for name in counts)


def test_the_command_writes_picture_and_comparison(tmp_path, picture):
    file = photos.write(tmp_path / "cat.png", picture[:, :32, :32])
    assert super_resolution.run([file], tmp_path / "out", network="subpixel") == []
    assert photos.read(tmp_path / "out" / "cat_x2.png").shape == (3, 64, 64)
    assert (tmp_path / "out" / "cat_x2_comparison.png").exists()
    with pytest.raises(photos.UnveilError, match="exists already"):
        super_resolution.run([file], tmp_path / "out")


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_stay(tmp_path, picture, channels):
    file = photos.write(tmp_path / "deep.png", picture[:channels, :16, :16] * 0.999, bits=16)
    super_resolution.run([file], tmp_path, network="subpixel")
    large = photos.read(tmp_path / "deep_x2.png")
    assert large.shape == (channels, 32, 32) and photos.bits(large) == 16


def test_networks_beat_the_kernels():
    data = super_resolution.sets()["scikit-image"]
    data = super_resolution.Scored(data.ids[1:2], data[1:2])
    models = {kernel: Resize(2, kernel) for kernel in super_resolution.BASELINES}
    models |= {name: common.load("super_resolution", name) for name in super_resolution.PRESETS}
    table = super_resolution.metrics.compare(models, data, super_resolution.METRICS).set_index("model")["psnr"]
    assert table[list(super_resolution.PRESETS)].min() > table["bicubic"] + 0.3
    assert table[["subpixel", "deep"]].min() > table["lanczos"] + 0.3


@pytest.mark.skipif(not (SIBLINGS / "super_resolution").is_dir(), reason="UNVEIL_SIBLINGS holds no Set5")
def test_bicubic_on_set5_is_the_published_figure():
    data = super_resolution.sets(SIBLINGS)["Set5"]
    # The literature enlarged with MATLAB, whose answer is rounded to 8 bits.
    matlab = Resize(2, rule="matlab", eight_bit=True)
    table = super_resolution.metrics.evaluate(matlab, data, super_resolution.METRICS)
    assert abs(table["psnr"].mean() - 33.66) < 0.01
