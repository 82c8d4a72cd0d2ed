"""Parameters.txt is read tolerantly, written exactly, and refused by the name of the line that is wrong."""

import dataclasses

import numpy as np
import pytest

from unveil.aos import parameters
from unveil.aos.parameters import Parameters
from unveil.errors import UnveilError

SAMPLE = """img_GT (0, 0, 35, 0.0, 1.57, 0)

img_1 (0, -5, 35, 0.0, 1.57, 0)
img_2 (0, -4, 35, 0.0, 1.57, 0)
img_3 (0, -3, 35, 0.0, 1.57, 0)
img_4 (0, -2, 35, 0.0, 1.57, 0)
img_5 (0, -1, 35, 0.0, 1.57, 0)
img_6 (0, 0, 35, 0.0, 1.57, 0)
img_7 (0, 1, 35, 0.0, 1.57, 0)
img_8 (0, 2, 35, 0.0, 1.57, 0)
img_9 (0, 3, 35, 0.0, 1.57, 0)
img_10 (0, 4, 35, 0.0, 1.57, 0)
img_11 (0, 5, 35, 0.0, 1.57, 0)

numbers of tree per ha=  100

person shape =  laying
person pose (x,y,z,rot x, rot y, rot z) =  4 -6 0 0 0 -0.0174533
person rotation (z) in radian =  6.265732014659643
person rotation (z) in degree =  359.0

ambient light =  0.6497614048239921

azimuth angle of sun light in degrees =  23.0
compass direction of sunlight in degrees =  224.0

ground surface temperature in kelvin =  286
tree top temperature in kelvin =  306
"""
PERSON = SAMPLE[SAMPLE.index("person shape") : SAMPLE.index("ambient")].rstrip() + "\n"
NOBODY = SAMPLE.replace(PERSON, "person pose =  no person\n")


def test_values_of_the_sample():
    found = parameters.parse(SAMPLE)
    assert (found.density, found.pose, found.position) == (100, "laying", (4, -6, 0, 0, 0, -0.0174533))
    assert (found.rotation_rad, found.rotation_deg, found.ambient) == (6.265732014659643, 359.0, 0.6497614048239921)
    assert (found.azimuth_deg, found.compass_deg, found.ground_kelvin, found.tree_kelvin) == (23.0, 224.0, 286, 306)
    assert list(found.cameras) == list(parameters.CAMERAS)
    assert dict(found.cameras) == parameters.course_cameras()


@pytest.mark.parametrize("text", [SAMPLE, NOBODY], ids=["person", "nobody"])
def test_text_round_trip_is_exact(text):
    assert parameters.to_text(parameters.parse(text)) == text


@pytest.mark.parametrize("number", [float, np.float64])
def test_whole_floats_are_written_as_the_course_writes_them(number):
    found = parameters.parse(SAMPLE)
    given = dataclasses.replace(
        found,
        position=tuple(map(number, found.position)),
        rotation_deg=359,
        ground_kelvin=number(286),
        tree_kelvin=number(306),
        azimuth_deg=23,
        cameras={name: tuple(map(number, line)) for name, line in found.cameras.items()},
    )
    assert parameters.to_text(given) == SAMPLE


def test_value_round_trip_is_exact():
    rng = np.random.default_rng(1)
    for pose in parameters.POSES:
        somebody, turn = pose != "none", float(rng.uniform(0, 6))
        given = Parameters(
            density=int(rng.integers(0, 300)),
            pose=pose,
            position=tuple(rng.normal(0, 5, 6).tolist()) if somebody else None,
            rotation_rad=turn if somebody else None,
            rotation_deg=float(np.degrees(turn)) if somebody else None,
            ambient=1e-7,
            azimuth_deg=float(rng.uniform(0, 90)),
            compass_deg=float(rng.uniform(0, 360)),
            ground_kelvin=float(rng.uniform(260, 312)),
            tree_kelvin=300,
        )
        assert parameters.parse(parameters.to_text(given)) == given


@pytest.mark.parametrize(
    "text",
    [
        SAMPLE.replace("\n", "\r\n"),
        SAMPLE.replace("=  ", "="),
        SAMPLE.replace("  ", "\t ").replace("\n", "  \n"),
        "\ufeff" + SAMPLE,
        SAMPLE.replace(", ", ","),
        "\n".join(reversed(SAMPLE.splitlines())),
        SAMPLE.rstrip("\n"),
        SAMPLE + "weather =  fine\nmade by a simulator\n",
    ],
    ids=["crlf", "tight", "tabs", "bom", "commas", "reversed", "no last line end", "unknown lines"],
)
def test_layout_does_not_matter(text):
    assert parameters.parse(text) == parameters.parse(SAMPLE)


@pytest.mark.parametrize("line", ["person pose =  no person", "person shape =  no person", "person shape=no person"])
def test_both_forms_of_nobody(line):
    found = parameters.parse(SAMPLE.replace(PERSON, line + "\n"))
    assert found.pose == "none"
    assert found.position is found.rotation_rad is found.rotation_deg is None
    assert found == parameters.parse(NOBODY)


@pytest.mark.parametrize("line", [line for line in SAMPLE.splitlines() if line])
def test_every_missing_line_is_named(line):
    name = line.split(" (0")[0].split("=")[0].strip()
    with pytest.raises(UnveilError, match="missing") as caught:
        parameters.parse(SAMPLE.replace(line + "\n", ""), "a.zip: 0_1_Parameters.txt")
    assert f"'{name}'" in str(caught.value) and "a.zip: 0_1_Parameters.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "old, new, named",
    [
        ("=  286", "=  warm", "ground surface"),
        ("=  286", "=  nan", "ground surface"),
        ("=  286", "= ", "ground surface"),
        ("=  286", "=  286 287", "ground surface"),
        ("4 -6 0 0 0 -0.0174533", "4 -6 0 0 0", "person pose (x,y,z"),
        ("(0, 5, 35, 0.0, 1.57, 0)", "(0, 5, 35)", "img_11"),
        ("(0, 5, 35, 0.0, 1.57, 0)", "(0, 5, 35, 0.0, east, 0)", "img_11"),
        ("laying", "flying", "person shape"),
        ("ha=  100", "ha=  10.5", "numbers of tree"),
        ("ha=  100", "ha=  -1", "numbers of tree"),
        ("tree top", "ground surface", "ground surface"),
        ("=  0.6497614048239921", "=  1e308", "ambient light"),
        ("=  0.6497614048239921", "=  -5", "ambient light"),
        ("=  0.6497614048239921", "=  1_0", "ambient light"),
        ("=  0.6497614048239921", "=  \u0661", "ambient light"),
        ("=  286", "=  " + "9" * 5000, "ground surface"),
        ("=  286", "=  100000000000000", "ground surface"),
        ("=  306", "=  33", "tree top"),
        ("4 -6 0 0 0 -0.0174533", "4 1000000000000000 0 0 0 0", "person pose (x,y,z"),
        ("=  359.0", "=  90.0", "person rotation (z) in degree"),
        ("(0, 5, 35, 0.0, 1.57, 0)", "(0, 5, 1e15, 0.0, 1.57, 0)", "img_11"),
    ],
)
def test_every_malformed_line_is_named(old, new, named):
    assert old in SAMPLE
    with pytest.raises(UnveilError) as caught:
        parameters.parse(SAMPLE.replace(old, new))
    assert named in str(caught.value)


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_every_encoding_of_a_text_is_read(code):
    text = SAMPLE + "wind from = Süden\n"
    assert parameters.parse(parameters.decode(text.encode(code))) == parameters.parse(SAMPLE)


def test_a_comma_may_stand_for_the_decimal_point():
    found = parameters.parse(SAMPLE.replace("0.6497614048239921", "0,6497614048239921"))
    assert found == parameters.parse(SAMPLE)


def test_the_rig_is_compared_with_the_course_s():
    assert parameters.parse(SAMPLE).is_course_rig
    assert not parameters.parse(SAMPLE.replace("img_3 (0, -3", "img_3 (1, -3")).is_course_rig


def test_impossible_parameters_are_refused():
    found = parameters.parse(SAMPLE)
    with pytest.raises(UnveilError, match="flying"):
        dataclasses.replace(found, pose="flying")
    with pytest.raises(UnveilError, match="position"):
        dataclasses.replace(found, position=None)
