"""``Parameters.txt``: what the course's simulator wrote down about one run.

The numbers of an ``img_*`` line are (y, x, z, rotations) of one camera in the simulator's own frame: x and y take a
minus sign in the world frame of :mod:`unveil.aos.camera`, and pose k is ``img_{k + 1}``.
"""

import codecs
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from unveil.errors import UnveilError

POSES = ("laying", "sitting", "idle", "none")
NO_PERSON = "no person"
CAMERAS = ("img_GT", *(f"img_{i}" for i in range(1, 12)))

# The course's words for each field, in the order of the file; the range is what a sound file can say, in its unit.
_LINES = {
    "density": ("numbers of tree per ha", 0, 10_000),
    "position": ("person pose (x,y,z,rot x, rot y, rot z)", -1000, 1000),
    "rotation_rad": ("person rotation (z) in radian", -7, 7),
    "rotation_deg": ("person rotation (z) in degree", -400, 400),
    "ambient": ("ambient light", 0, 1),
    "azimuth_deg": ("azimuth angle of sun light in degrees", -360, 360),
    "compass_deg": ("compass direction of sunlight in degrees", -360, 360),
    "ground_kelvin": ("ground surface temperature in kelvin", 150, 500),
    "tree_kelvin": ("tree top temperature in kelvin", 150, 500),
}
_OF_A_PERSON = ("position", "rotation_rad", "rotation_deg")
_SHAPE, _NOBODY = "person shape", "person pose"
_KEY_WITHOUT_SPACES = {key.replace(" ", ""): key for key in (*(line[0] for line in _LINES.values()), _SHAPE, _NOBODY)}
_NUMBER = re.compile(r"[+-]?([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})([eE][+-]?[0-9]{1,3})?")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
_FAR = 1000
"""Metres and degrees that no camera's line exceeds."""


def course_cameras() -> dict[str, tuple[float, ...]]:
    """The twelve camera lines of every course run: the truth's camera, then poses 0…10 from x = −5 to 5, 35 m up."""
    line = {"img_GT": 0, **{f"img_{i}": i - 6 for i in range(1, 12)}}
    return {name: (0, x, 35, 0.0, 1.57, 0) for name, x in line.items()}


@dataclass(frozen=True)
class Parameters:
    """One run's parameters. Without a person the pose is ``none`` and position and rotations are None.

    density: trees per hectare · pose: laying, sitting, idle (standing) or none · position: the six numbers x, y, z
    (metres), rot x, rot y, rot z of the person · ambient: light, 0…1 · azimuth_deg, compass_deg: of the sun, degrees ·
    ground_kelvin, tree_kelvin: temperatures · cameras: ``img_GT``, ``img_1`` … ``img_11`` → (y, x, z, rotations).
    """

    density: int
    pose: str
    position: tuple[float, ...] | None
    rotation_rad: float | None
    rotation_deg: float | None
    ambient: float
    azimuth_deg: float
    compass_deg: float
    ground_kelvin: float
    tree_kelvin: float
    cameras: Mapping[str, tuple[float, ...]] = field(default_factory=course_cameras)

    def __post_init__(self) -> None:
        if self.pose not in POSES:
            raise UnveilError(f"pose {self.pose!r} is none of {', '.join(POSES)}: correct the parameters")
        if self.pose != "none" and None in (self.position, self.rotation_rad, self.rotation_deg):
            raise UnveilError(f"a person ({self.pose}) needs a position and rotations: complete the parameters")

    @property
    def is_course_rig(self) -> bool:
        """Whether all cameras stand within a centimetre of where the course has them."""
        course = course_cameras()
        return all(math.dist(self.cameras[name], place) < 0.01 for name, place in course.items())


def decode(data: bytes) -> str:
    """Text of a file: UTF-16 with its mark, UTF-8, or else Latin-1, which old editors write."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def parse(text: str, source: str = "Parameters.txt") -> Parameters:
    """Read the text of a ``Parameters.txt``; spaces, blank lines, line ends and unknown lines do not matter.

    Raises UnveilError naming ``source`` and the line that is missing, is there twice, does not make sense or holds a
    value that cannot be.
    """
    lines: dict[str, str] = {}

    def fail(key: str, what: str) -> UnveilError:
        return UnveilError(f"{source}: line '{key}' {what}: correct the file or fetch it again")

    for line in text.lstrip("\ufeff").splitlines():
        left, equals, value = line.partition("=")
        name, _, rest = line.partition("(")
        if equals:
            key, value = _KEY_WITHOUT_SPACES.get("".join(left.split())), " ".join(value.split())
        else:
            key = name.strip() if name.strip() in CAMERAS else None
            value = " ".join(rest.rstrip(") \t\r").replace(",", " ").split())
        if key is not None and lines.setdefault(key, value) != value:
            raise fail(key, "is there twice with different values")

    def numbers(key: str, count: int, low: float, high: float) -> tuple[float, ...]:
        if key not in lines:
            raise fail(key, "is missing")
        value = lines[key]
        if count == 1 and _DECIMAL_COMMA.fullmatch(value):
            value = value.replace(",", ".")
        words = value.replace(",", " ").split()
        if not all(map(_NUMBER.fullmatch, words)):
            raise fail(key, f"has no number in {_short(lines[key])}")
        if len(words) != count:
            raise fail(key, f"has {len(words)} numbers where {count} belong")
        found = tuple(float(w) if set(w) & set(".eE") else int(w) for w in words)
        if not all(low <= number <= high for number in found):
            raise fail(key, f"says {_short(lines[key])}, which is not between {low:g} and {high:g}")
        return found

    cameras = {name: numbers(name, 6, -_FAR, _FAR) for name in CAMERAS}
    shape = lines.get(_SHAPE, lines.get(_NOBODY))
    if shape is None:
        raise fail(_SHAPE, "is missing")
    pose = "none" if NO_PERSON in (shape, lines.get(_NOBODY)) else shape
    if pose not in POSES:
        raise fail(_SHAPE, f"is {_short(shape)}, none of laying, sitting, idle, {NO_PERSON}")
    values: dict[str, Any] = dict.fromkeys(_OF_A_PERSON)
    for name, (key, low, high) in _LINES.items():
        if pose != "none" or name not in _OF_A_PERSON:
            found = numbers(key, 6 if name == "position" else 1, low, high)
            values[name] = found if name == "position" else found[0]
    if values["density"] != int(values["density"]):
        raise fail(_LINES["density"][0], f"is {values['density']}, no count")
    if pose != "none" and abs(math.sin((values["rotation_rad"] - math.radians(values["rotation_deg"])) / 2)) > 0.03:
        raise fail(_LINES["rotation_deg"][0], f"is not the angle {values['rotation_rad']:g} rad of the line before")
    return Parameters(pose=pose, cameras=cameras, **values | {"density": int(values["density"])})


def to_text(parameters: Parameters) -> str:
    """Write parameters as the course does: whole where the original has integers, with a point elsewhere.

    ``parse(to_text(p)) == p`` for every p with finite numbers.
    """
    p = parameters

    def camera(name: str) -> str:
        y, x, z, rot_x, rot_y, rot_z = p.cameras[name]
        return f"{name} ({_whole(y)}, {_whole(x)}, {_whole(z)}, {_point(rot_x)}, {_point(rot_y)}, {_whole(rot_z)})"

    def lines(write: Callable[[float], str], *fields: str) -> list[str]:
        return [f"{_LINES[f][0]}{'' if f == 'density' else ' '}=  {write(getattr(p, f))}" for f in fields]

    person = [f"{_NOBODY} =  {NO_PERSON}"]
    if p.pose != "none":
        position = lines(lambda six: " ".join(map(_whole, six)), "position")
        person = [f"{_SHAPE} =  {p.pose}", *position, *lines(_point, "rotation_rad", "rotation_deg")]
    blocks = [
        [camera("img_GT")],
        [camera(name) for name in CAMERAS[1:]],
        lines(_whole, "density"),
        person,
        lines(_point, "ambient"),
        lines(_point, "azimuth_deg", "compass_deg"),
        lines(_whole, "ground_kelvin", "tree_kelvin"),
    ]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _short(value: str) -> str:
    return repr(value if len(value) <= 60 else value[:57] + "...")


def _point(value: float) -> str:
    return repr(float(value))


def _whole(value: float) -> str:
    return str(int(value)) if value == int(value) else _point(value)
