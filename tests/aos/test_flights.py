"""Real flights: both forms of pose files, levelling, and what is said about bad ones."""

import json

import numpy as np
import pytest
from PIL import Image

from unveil.aos import flights
from unveil.aos.camera import course_rig
from unveil.aos.integrator import integrate
from unveil.errors import UnveilError

RIG = course_rig()[:4]


def jku_poses(suffix=".tiff"):
    """As JKU writes them: raw TIFFs' names, some numbers as strings."""
    matrices = [[[str(n) for n in row] for row in matrix] for matrix in RIG.extrinsics.tolist()]
    return {"images": [{"imagefile": f"{i}{suffix}", "M3x4": matrix} for i, matrix in enumerate(matrices)]}


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(1)
    (tmp_path / "images").mkdir()
    for i in range(4):
        Image.fromarray(rng.integers(0, 60 + 40 * i, (24, 24), dtype=np.uint8)).save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "poses.json").write_text(json.dumps(jku_poses()))
    return tmp_path


def test_jku_form_names_tiffs_but_ships_pngs(folder):
    flight = flights.read(folder)
    assert flight.views.shape == (4, 24, 24)
    assert flight.views.dtype == np.uint8
    np.testing.assert_array_equal(flight.cameras.extrinsics, RIG.extrinsics)
    np.testing.assert_allclose(flight.cameras.fov, 50.8154, atol=1e-4)
    assert flight.names == ["0.tiff", "1.tiff", "2.tiff", "3.tiff"]
    assert flight.target == 2


def test_list_form_tells_centre_and_field_of_view(folder):
    names = [f"{i}.png" for i in range(4)]
    poses = {"fov_images": 43.5, "center": 1, "imagefiles": names, "views": RIG.extrinsics.tolist()}
    (folder / "mine.json").write_text(json.dumps(poses))
    flight = flights.read(folder / "mine.json", fov=60)
    assert flight.target == 1
    assert (flight.cameras.fov == 43.5).all()


def test_pictures_beside_the_poses_or_elsewhere(folder):
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "p.json").write_text(json.dumps(jku_poses(".png")))
    assert len(flights.read(folder / "elsewhere" / "p.json", images=folder / "images", fov=60)) == 4
    for picture in (folder / "images").iterdir():
        picture.rename(folder / picture.name)
    assert len(flights.read(folder)) == 4


def test_levelling_brings_medians_and_spreads_together(folder):
    flight = flights.read(folder, level=True)
    assert flight.views.dtype == np.float32
    medians = np.median(flight.views, axis=(1, 2))
    np.testing.assert_allclose(medians, np.median(np.median(flights.read(folder).views, axis=(1, 2))), atol=1e-4)
    spread = np.subtract(*np.percentile(flight.views, (75, 25), axis=(1, 2)))
    np.testing.assert_allclose(spread, spread[0], rtol=1e-5)


def test_levelling_a_uniform_view_only_shifts_it():
    views = np.stack([np.full((4, 4), 10, np.uint8), np.arange(16, dtype=np.uint8).reshape(4, 4)])
    assert np.ptp(flights.levelled(views)[0]) == 0


def test_sixteen_bit_pictures_keep_their_levels(folder):
    deep = np.full((24, 24), 30000, np.uint16)
    for i in range(4):
        Image.fromarray(deep).save(folder / "images" / f"{i}.tiff")
    flight = flights.read(folder)
    assert flight.views.dtype == np.float32
    assert (flight.views == 30000).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "JSON object"),
        ('{"images": [{"imagefile": "0.png"}]}', "M3x4"),
        ('{"images": []}', "0 pictures"),
        ('{"images": [{"imagefile": "0.png", "M3x4": [["a"]]}]}', "not a pose file"),
        ('{"images": [{"imagefile": "0.png", "M3x4": [[1, 2, 3, 4]]}]}', r"\(V, 3, 4\)"),
        ('{"imagefiles": ["0.png"], "views": []}', "1 pictures and 0 poses"),
        ('{"imagefiles": ["0.png"], "views": [[[1,0,0,0],[0,1,0,0],[0,0,1,9]]], "center": 3}', "centre view 3"),
        ('{"imagefiles": ["9.png"], "views": [[[1,0,0,0],[0,1,0,0],[0,0,1,9]]]}', "9.png is not in"),
    ],
)
def test_bad_pose_files_are_named_with_the_remedy(folder, text, message):
    (folder / "poses.json").write_text(text)
    with pytest.raises(UnveilError, match=message) as error:
        flights.read(folder)
    assert "poses.json" in str(error.value)


def test_bad_pictures_are_named(folder):
    with pytest.raises(UnveilError, match="nowhere: cannot be read"):
        flights.read(folder / "nowhere")
    Image.new("L", (24, 25)).save(folder / "images" / "2.png")
    with pytest.raises(UnveilError, match=r"2\.png: .*first picture"):
        flights.read(folder)
    Image.new("RGB", (24, 24)).save(folder / "images" / "2.png")
    with pytest.raises(UnveilError, match=r"2\.png: a gray picture"):
        flights.read(folder)
    whole = (folder / "images" / "3.png").read_bytes()
    Image.new("L", (24, 24)).save(folder / "images" / "2.png")
    (folder / "images" / "3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnveilError, match=r"3\.png: not a readable picture"):
        flights.read(folder)


def test_tones_are_matched_by_one_straight_line():
    views = np.random.default_rng(0).integers(20, 120, (3, 40, 40), dtype=np.uint8)
    brought = flights.toned(views, flights.tones(views), np.array([110.0, 190.0]))
    assert brought.dtype == np.float32
    np.testing.assert_allclose(flights.tones(brought), (110, 190), atol=1e-3)
    steps = np.diff(brought.ravel()[np.argsort(views.ravel())])
    assert steps.min() >= 0
    np.testing.assert_allclose(brought, np.polyval(np.polyfit(views.ravel(), brought.ravel(), 1), views), atol=1e-3)
    with pytest.raises(UnveilError, match="no range"):
        flights.toned(views, np.array([5.0, 5.0]), np.array([1.0, 2.0]))


def test_a_table_of_poses_turns_about_its_own_axes(folder):
    lines = ["name, x, y, z, yaw, pitch, roll"]
    lines += [
        f"{i}.png, {x}, 2, -35, {yaw}, 0, {roll}" for i, x, yaw, roll in [(0, 5, 0, 0), (1, 4, 90, 0), (2, 3, 0, 10)]
    ]
    (folder / "poses.json").unlink()
    (folder / "poses.csv").write_text("\n".join(lines))
    cameras = flights.read(folder, fov=50).cameras
    np.testing.assert_allclose(cameras.centers, [[5, 2, -35], [4, 2, -35], [3, 2, -35]], atol=1e-12)
    assert (cameras.fov == 50).all()
    np.testing.assert_allclose(cameras.rotation[0], np.eye(3), atol=1e-12)
    # Turned by 90°, the picture's right is the world's y; rolled by 10°, the camera looks towards −y.
    np.testing.assert_allclose(cameras.rotation[1][0], (0, 1, 0), atol=1e-12)
    np.testing.assert_allclose(cameras.rotation[2][2], (0, -np.sin(np.radians(10)), np.cos(np.radians(10))), atol=1e-12)
    (folder / "poses.csv").write_text(lines[0] + "\n0.png, 1, 2, x, 0, 0, 0")
    with pytest.raises(UnveilError, match=r"poses\.csv: not a table of poses .*name, x, y, z, yaw, pitch, roll"):
        flights.read(folder)


def test_the_tools_of_jku_keep_poses_in_a_folder_of_their_own(folder):
    (folder / "poses").mkdir()
    (folder / "poses.json").rename(folder / "poses" / "first30.json")
    assert len(flights.read(folder)) == 4
    assert len(flights.read(folder / "poses" / "first30.json")) == 4
    (folder / "poses" / "second.json").write_text("{}")
    with pytest.raises(UnveilError, match="2 files may hold the poses"):
        flights.read(folder)


def test_the_people_of_the_real_flight_stand_out(reference):
    flight = flights.read(reference / "flight", level=True)
    assert flight.target == 15
    assert len(flight) == 30

    def brightest(height):
        """How far the warmest spot stands above the median, in units of the scene's spread."""
        image, coverage = (part[0] for part in integrate(flight.views, flight.cameras, height, flight.target))
        low, middle, high = np.percentile(image[coverage > 3], (5, 50, 95))
        return (image[203:225, 208:226].max() - middle) / (high - low)

    heights = (-12, -15, -17.5, -20, -23)
    assert max(heights, key=brightest) == -17.5
    assert brightest(-17.5) > 1.4
