"""Clean pictures and the reading of everybody's."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from unveil.degrade.ageing import luminance
from unveil.errors import UnveilError
from unveil.tasks import photos


@pytest.fixture
def colours():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))


def test_leaves_depend_on_the_seed_alone_and_look_like_photographs():
    one, again, other = photos.leaves(2)[0], photos.leaves(2)[0], photos.leaves(2)[1]
    assert one.shape == (3, 256, 256) and one.dtype == np.uint8
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    gray = np.stack([photos.leaves(8)[i].mean(0) for i in range(8)])
    power = np.abs(np.fft.rfft(gray - gray.mean((1, 2), keepdims=True), axis=2))[..., 1:] ** 2
    slope = np.polyfit(np.log(np.arange(1, 65)), np.log(power.mean((0, 1))[:64]), 1)[0]
    assert -2.6 < slope < -1.2  # natural images: about −2


@pytest.mark.parametrize("shape", [(1, 1), (7, 40)])
def test_leaves_of_any_shape(shape):
    picture = photos.dead_leaves(shape, np.random.default_rng(0))
    assert picture.shape == (3, *shape) and picture.dtype == np.float32 and 0 <= picture.min() <= picture.max() <= 1


@pytest.mark.parametrize(
    ("mode", "suffix", "channels"),
    [("RGB", "png", 3), ("L", "png", 1), ("P", "png", 3), ("LA", "png", 2), ("RGBA", "png", 4), ("1", "png", 1)]
    + [("CMYK", "jpg", 3), ("YCbCr", "jpg", 3), ("LAB", "tif", 3)],
)
def test_every_kind_of_picture(colours, tmp_path, mode, suffix, channels):
    file = tmp_path / f"picture.{suffix}"
    colours.convert(mode).save(file)
    assert photos.read(file).shape == (channels, 20, 30)
    assert photos.read(file, 1).shape == (1, 20, 30) and photos.read(file, 3).shape == (3, 20, 30)
    assert 0 <= photos.read(file).min() and photos.read(file).max() <= 1


def test_sixteen_bits_survive(tmp_path):
    picture = np.arange(600, dtype=np.float32).reshape(1, 20, 30) / 65535
    file = photos.write(tmp_path / "deep.png", picture, bits=16)
    assert np.abs(photos.read(file) - picture).max() < 1e-6


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(
    ("suffix", "options"),
    [("png", {}), ("tif", {}), ("tif", {"byteorder": ">"}), ("tif", {"compression": "zlib", "rowsperstrip": 7})],
)
def test_sixteen_bits_of_colour_survive(tmp_path, channels, suffix, options):
    levels = np.random.default_rng(0).integers(0, 65536, (20, 30, channels), dtype=np.uint16)
    file, picture = tmp_path / f"deep.{suffix}", levels.transpose(2, 0, 1) / np.float32(65535)
    if suffix == "png":
        photos.write(file, picture, bits=16)
    else:
        extra = ["unassalpha"] if channels == 4 else None
        tifffile.imwrite(file, levels, photometric="rgb", extrasamples=extra, **options)
    found = photos.read(file)
    assert found.dtype == np.float32 and np.abs(found - picture).max() < 1e-6 and photos.bits(found) == 16
    over = picture[:3] * picture[3:] + 1 - picture[3:] if channels == 4 else picture
    assert np.abs(photos.read(file, 3) - over).max() < 1e-6
    assert np.abs(photos.read(file, 1) - luminance(over)).max() < 1e-6
    assert photos.bits(photos.unit(photos.bytes_of(found))) == 8


def test_a_truncated_picture_of_sixteen_bits_is_named(tmp_path):
    file = photos.write(tmp_path / "deep.png", np.random.default_rng(0).random((3, 40, 40), np.float32), bits=16)
    file.write_bytes(file.read_bytes()[:4000])
    with pytest.raises(UnveilError, match=r"deep\.png: cannot be read \(.*truncated.*\); check") as caught:
        photos.read(file)
    assert "\n" not in str(caught.value)


def test_animation_orientation_and_one_pixel(colours, tmp_path):
    colours.save(tmp_path / "moving.gif", save_all=True, append_images=[colours.rotate(90)])
    exif = colours.getexif()
    exif[274] = 6
    colours.save(tmp_path / "turned.jpg", exif=exif)
    colours.resize((1, 1)).save(tmp_path / "one.png")
    assert photos.read(tmp_path / "moving.gif").shape[1:] == (20, 30)
    assert photos.read(tmp_path / "turned.jpg").shape == (3, 30, 20)
    assert photos.read(tmp_path / "one.png").shape == (3, 1, 1)


def test_transparency_is_laid_over_white(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert photos.read(tmp_path / "clear.png", 3).min() == 1


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "missing", "folder", "huge"])
def test_bad_files_are_named_in_one_line(colours, tmp_path, kind, monkeypatch):
    file = tmp_path / f"{kind}.png"
    colours.save(tmp_path / "good.png")
    good = (tmp_path / "good.png").read_bytes()
    if kind == "folder":
        file.mkdir()
    elif kind == "huge":
        monkeypatch.setattr(photos, "LARGEST", 100)
        file.write_bytes(good)
    elif kind != "missing":
        file.write_bytes({"empty": b"", "text": b"hello", "truncated": good[:600]}[kind])
    with pytest.raises(UnveilError, match=kind) as caught:
        photos.read(file)
    assert "\n" not in str(caught.value)


def test_nothing_is_overwritten_unasked(tmp_path):
    file = photos.write(tmp_path / "a.png", np.zeros((8, 8), np.float32))
    with pytest.raises(UnveilError, match="exists already"):
        photos.write(file, np.ones((1, 8, 8), np.float32))
    photos.write(file, np.ones((1, 8, 8), np.float32), overwrite=True)
    assert photos.read(file).min() == 1


def test_every_free_photo_has_a_licence():
    table = (photos.project.ROOT / "data" / "samples" / "photos" / "LICENCES.csv").read_text(encoding="utf-8")
    pictures = photos.free_photos()
    assert len(pictures) == 65 and all(name.split("/")[1] in table for name in pictures.ids)


def test_cifar_from_the_binary_version(tmp_path):
    record = np.concatenate([[3], np.repeat([10, 20, 30], 1024)]).astype(np.uint8)
    np.stack([record, record]).tofile(tmp_path / "data_batch_1.bin")
    pictures = photos.cifar(tmp_path)
    assert len(pictures) == 2 and pictures[1].shape == (3, 32, 32) and pictures[1][2, 5, 5] == 30
