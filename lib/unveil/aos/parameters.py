"""``Parameters.txt``: what the course's simulator wrote down about one run.

The numbers of an ``img_*`` line are (y, x, z, rotations) of one camera in the simulator's own frame: x and y take a
minus sign in the world frame of :mod:`unveil.aos.camera`, and pose k is ``img_{k + 1}``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from unveil.errors import UnveilError

POSES = ("laying", "sitting", "idle", "none")
NO_PERSON = "no person"
CAMERAS = ("img_GT", *(f"img_{i}" for i in range(1, 12)))

_DENSITY = "numbers of tree per ha"
_SHAPE = "person shape"
_NOBODY = "person pose"
_POSITION = "person pose (x,y,z,rot x, rot y, rot z)"
_RADIAN = "person rotation (z) in radian"
_DEGREE = "person rotation (z) in degree"
_AMBIENT = "ambient light"
_AZIMUTH = "azimuth angle of sun light in degrees"
_COMPASS = "compass direction of sunlight in degrees"
_GROUND = "ground surface temperature in kelvin"
_TREE = "tree top temperature in kelvin"
_KEYS = (_DENSITY, _SHAPE, _NOBODY, _POSITION, _RADIAN, _DEGREE, _AMBIENT, _AZIMUTH, _COMPASS, _GROUND, _TREE)
_KEY_WITHOUT_SPACES = {key.replace(" ", ""): key for key in _KEYS}


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


def parse(text: str, source: str = "Parameters.txt") -> Parameters:
    """Read the text of a ``Parameters.txt``; spaces, blank lines, line ends and unknown lines do not matter.

    Raises UnveilError naming ``source`` and the line that is missing, stands twice or does not make sense.
    """
    lines: dict[str, str] = {}
    cameras: dict[str, tuple[float, ...]] = {}

    def fail(key: str, what: str) -> UnveilError:
        return UnveilError(f"{source}: line '{key}' {what}: correct the file or fetch it again")

    def numbers(key: str, value: str, count: int) -> tuple[float, ...]:
        words = value.replace(",", " ").split()
        try:
            found = tuple(_number(word) for word in words)
        except ValueError:
            raise fail(key, f"has no number in {value!r}") from None
        if len(found) != count:
            raise fail(key, f"has {len(found)} numbers where {count} belong")
        return found

    for line in text.lstrip("\ufeff").splitlines():
        left, equals, value = line.partition("=")
        name, _, rest = line.partition("(")
        if equals:
            key, entry, store = _KEY_WITHOUT_SPACES.get("".join(left.split())), " ".join(value.split()), lines
        elif name.strip() in CAMERAS:
            key, store = name.strip(), cameras
            entry = numbers(key, rest.rstrip(") \t\r"), 6)
        else:
            continue
        if key is None:
            continue
        if store.setdefault(key, entry) != entry:
            raise fail(key, "stands twice with different values")

    def values(key: str, count: int = 1) -> tuple[float, ...]:
        if key not in lines:
            raise fail(key, "is missing")
        return numbers(key, lines[key], count)

    for name in CAMERAS:
        if name not in cameras:
            raise fail(name, "is missing")
    density = values(_DENSITY)[0]
    if density < 0 or density != int(density):
        raise fail(_DENSITY, f"is {density}, no count")
    shape = lines.get(_SHAPE, lines.get(_NOBODY))
    if shape is None:
        raise fail(_SHAPE, "is missing")
    pose = "none" if NO_PERSON in (shape, lines.get(_NOBODY)) else shape
    if pose not in POSES:
        raise fail(_SHAPE, f"is {shape!r}, none of laying, sitting, idle, {NO_PERSON}")
    somebody = pose != "none"
    return Parameters(
        density=int(density),
        pose=pose,
        position=values(_POSITION, 6) if somebody else None,
        rotation_rad=values(_RADIAN)[0] if somebody else None,
        rotation_deg=values(_DEGREE)[0] if somebody else None,
        ambient=values(_AMBIENT)[0],
        azimuth_deg=values(_AZIMUTH)[0],
        compass_deg=values(_COMPASS)[0],
        ground_kelvin=values(_GROUND)[0],
        tree_kelvin=values(_TREE)[0],
        cameras={name: cameras[name] for name in CAMERAS},
    )


def format(parameters: Parameters) -> str:
    """Write parameters as the course does: whole where the original has integers, with a point elsewhere.

    ``parse(format(p)) == p`` for every p with finite numbers.
    """
    p = parameters

    def camera(name: str) -> str:
        y, x, z, rot_x, rot_y, rot_z = p.cameras[name]
        return f"{name} ({_whole(y)}, {_whole(x)}, {_whole(z)}, {_point(rot_x)}, {_point(rot_y)}, {_whole(rot_z)})"

    if p.pose == "none":
        person = [f"{_NOBODY} =  {NO_PERSON}"]
    else:
        person = [
            f"{_SHAPE} =  {p.pose}",
            f"{_POSITION} =  {' '.join(map(_whole, p.position))}",
            f"{_RADIAN} =  {_point(p.rotation_rad)}",
            f"{_DEGREE} =  {_point(p.rotation_deg)}",
        ]
    blocks = [
        [camera("img_GT")],
        [camera(name) for name in CAMERAS[1:]],
        [f"{_DENSITY}=  {_whole(p.density)}"],
        person,
        [f"{_AMBIENT} =  {_point(p.ambient)}"],
        [f"{_AZIMUTH} =  {_point(p.azimuth_deg)}", f"{_COMPASS} =  {_point(p.compass_deg)}"],
        [f"{_GROUND} =  {_whole(p.ground_kelvin)}", f"{_TREE} =  {_whole(p.tree_kelvin)}"],
    ]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _number(word: str) -> float:
    try:
        return int(word)
    except ValueError:
        value = float(word)
    if not math.isfinite(value):
        raise ValueError(word)
    return value


def _point(value: float) -> str:
    return repr(float(value))


def _whole(value: float) -> str:
    return str(int(value)) if value == int(value) else _point(value)
