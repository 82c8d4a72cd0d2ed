"""A search flight, from pictures with poses to a restored picture and a list of places where somebody may lie."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial.distance import pdist

from unveil import files
from unveil.aos import flights, integrator
from unveil.aos.autofocus import Focus, Progress, autofocus, details, on_ground
from unveil.aos.camera import ALTITUDE, FOCAL, Cameras
from unveil.aos.flights import Flight
from unveil.aos.images import to_uint8

ROSE = 5.0
"""Standard deviations by which something must stand out to be seen at all (Rose 1948, doi 10.1364/JOSA.38.000196)."""

AGREE, SHARE, FEWEST = 3.0, 0.5, 3
"""The ground is seen where this share of at least so many views lies within so many gray levels of their median."""

PERSON = 1.25
"""Metres from the middle of a person to the farthest hand or foot."""

TAUGHT = np.array([106.9, 201.8])
"""`flights.tones` of the centre views of 12 simulated runs with trees, on which the networks were trained."""

ENLARGED = 2.0
"""The people of those runs are twice as large as real ones (``person_scale`` in the weights' recipe)."""

CROP, MOST = 192, 12
"""Pixels of the square that a network judges, its training crops being 128 to 256; and the most places it judges."""

LEARNT, CERTAIN = 11, 2.0
"""Views of a run from which the view-attention network learned, and gray levels within which its answers must agree."""

STACK = (0.0, *integrator.HEIGHTS, 5.0, 10.0)
"""Focal heights of the pictures that are written, metres: near the ground, and two among the trees."""

Judge = Callable[[np.ndarray, Cameras, np.ndarray], np.ndarray]
Keep = Callable[[np.ndarray, Cameras, Cameras], np.ndarray]


class Survey(NamedTuple):
    """What a flight shows from its target, in levelled gray levels: the integral on the ground (H, W), the restored
    picture (H, W), where the views agree (H, W) bool, the list of people, and PSNR in dB between the pictures restored
    from the odd and the even views.
    """

    flight: Flight
    focus: Focus
    integral: np.ndarray
    restored: np.ndarray
    seen: np.ndarray
    people: pd.DataFrame
    repeatability: float


def survey(
    flight: Flight, progress: Progress | None = None, judge: Judge | None = None, keep: Keep | None = None
) -> Survey:
    """Find the ground, refine the poses, integrate, list the people, restore.

    ``judge`` says how likely it is that somebody lies at points of the ground; see `network`. Without one, the list
    goes by what stands out alone. ``keep`` says what the ground looks like where few views show it; see `attention`.
    Without one it is filled in smoothly. Errors are those of :func:`unveil.aos.autofocus.autofocus`.
    """
    views = _eight_bits(flight.views)
    focus = autofocus(views, flight.cameras, flight.cameras.target(flight.target), progress)
    maps = details(views)
    people = search(views, maps, focus, judge)
    integral = integrator.integrate(views, focus.cameras, 0.0, focus.target).image[0]
    picture, seen, sizes = restore(views, focus.cameras, focus.target, people, keep)
    people[["length_m", "area_m2"]] = np.reshape(sizes, (-1, 2))
    halves = []
    for half in (slice(1, None, 2), slice(0, None, 2)):
        part = focus._replace(cameras=focus.cameras[half])
        alone = search(views[half], maps[half], part)
        halves.append(restore(views[half], part.cameras, part.target, alone, keep)[0])
    error = np.mean(np.square(np.clip(halves[0], 0, 255) - np.clip(halves[1], 0, 255)))
    return Survey(flight, focus, integral, picture, seen, people, 10 * np.log10(255**2 / max(error, 1e-6)))


def network(views: np.ndarray, cameras: Cameras, points: np.ndarray) -> np.ndarray:
    """A judge: the highest presence that the multi-view network finds within a person's reach, before its gate.

    A virtual camera looks straight down on each point, so high that people have the size in pixels that the network was
    trained on.
    """
    from unveil.restore.inference import predict
    from unveil.tasks.forest import restoring

    one = restoring.load(restoring.shipped()["multi_view"])
    heights, height = [height / ENLARGED for height in one.options.channels], ALTITUDE / ENLARGED
    near = np.hypot(*np.mgrid[-CROP // 2 : CROP // 2, -CROP // 2 : CROP // 2]) < PERSON * FOCAL / height
    views, found = flights.toned(views, flights.tones(views), TAUGHT), []
    for x, y, _ in points:
        above = Cameras(np.column_stack([np.eye(3), [-x, -y, height]]), 2 * np.degrees(np.arctan(CROP / 2 / FOCAL)))
        given = integrator.candidates(views, cameras, heights, above, size=(CROP, CROP))
        found.append(predict(restoring.Part(one.model, 2), given)[near].max())
    return np.array(found)


def attention(views: np.ndarray, cameras: Cameras, target: Cameras) -> np.ndarray:
    """The ground (H, W) in the views' gray levels as the view-attention network chooses it among the views.

    The network learned from `LEARNT` views. It sees every k-th of them at a time, and the mean of its answers counts;
    NaN where they lie more than `CERTAIN` apart: crowns differ from view to view, ground does not.
    """
    from unveil.restore.inference import predict
    from unveil.tasks import common, wild
    from unveil.tasks.forest import restoring

    one = restoring.load(common.file(wild.TASK, "attention"))
    groups = min(len(views), max(2, -(-len(views) // LEARNT)))
    part, tile, answers = restoring.Part(one.model, 0), restoring.TILE // 2, []
    for k in range(groups):
        given = integrator.candidates(views[k::groups], cameras[k::groups], one.options.channels, target)
        answers.append(predict(part, given, tile=tile, overlap=restoring.OVERLAP))
    answers = 255 * np.array(answers)
    return np.where(np.ptp(answers, axis=0) <= CERTAIN, answers.mean(0), np.nan)


def search(views: np.ndarray, maps: np.ndarray, focus: Focus, judge: Judge | None = None) -> pd.DataFrame:
    """People: places that stand out warm on the ground by more than `ROSE`, ranked by presence.

    What stands out is counted in robust standard deviations of the integral of the views' `details` (each view counts
    the same whatever its gain). Presence, 0 to 1, is that count brought to ½ at twice `ROSE`, because branches that
    agree by chance are no plain noise; with a judge it is the mean of both. A view sees a place where its details reach
    3 within half a metre; a place that only one view sees is left out. Columns: ``presence, x, y, z`` (world,
    metres), ``length_m, area_m2`` of what is warm, ``views_seen`` of ``views_looking``, ``stands_out``, ``judged``
    and ``row, column`` in the target's picture.
    """
    registered, inside = (part[0] for part in integrator.register(maps, focus.cameras, 0.0, focus.target))
    count, scale = inside.sum(0), views.shape[1] / maps.shape[1]
    known = count >= FEWEST
    noise = np.where(known, registered.sum(0) / count.clip(1), 0)
    noise = np.where(known, noise - np.median(noise[known]), 0) * np.sqrt(count)
    # A simulated ground can be perfectly plain.
    out = ndimage.gaussian_filter(noise / max(1.4826 * np.median(np.abs(noise[known])), 1e-3), 1)
    pixel = _pixel(focus.target, maps.shape[1:])
    apart = ndimage.maximum_filter(out, round(2 * PERSON / pixel) | 1)
    places = np.argwhere((out == apart) & (out > ROSE) & known)
    places = places[np.argsort(-out[tuple(places.T)])]
    reach = 2 * max(1, round(0.5 / pixel)) + 1
    looks = ndimage.maximum_filter(registered, (1, reach, reach))[:, places[:, 0], places[:, 1]].T > 3
    several = np.flatnonzero(looks.sum(1) > 1)[:MOST]
    places, looks = places[several], looks[several]
    pixels = (places + 0.5) * scale - 0.5
    points = on_ground(focus.target, views.shape[1:], pixels[:, ::-1])
    table = pd.DataFrame({"stands_out": out[tuple(places.T)]})
    table["presence"] = 1 / (1 + np.exp(-(table["stands_out"] - 2 * ROSE) / (ROSE / 2)))
    if judge and len(table):
        table["judged"] = judge(views, focus.cameras, points)
        table["presence"] = (table["presence"] + table["judged"]) / 2
    table[["x", "y", "z"]] = focus.ground.world(points)
    table[["row", "column"]] = np.rint(pixels).astype(int)
    table["views_seen"], table["looks"] = looks.sum(1), list(looks)
    table["views_looking"] = count[tuple(places.T)]
    return table.sort_values("presence", ascending=False, ignore_index=True)


def restore(
    views: np.ndarray, cameras: Cameras, target: Cameras, people: pd.DataFrame, keep: Keep | None = None
) -> tuple[np.ndarray, np.ndarray, list[tuple[float, float]]]:
    """The picture without the forest (H, W) in the views' gray levels, and where its ground is seen (H, W) bool.

    Where views agree (`AGREE`, `SHARE`) their median is kept, and where fewer than `FEWEST` look. Elsewhere the ground
    is what ``keep`` returns, or, where that is NaN, filled in: a Gaussian mean of the medians as wide as a person is
    long, so that it holds nothing of a person's size; each median counts the square of the share of views that agree on
    it. People of a presence from ½ on are drawn on it: the upper quartile of the views that see them, because cold
    twigs hide parts of them in these too. Their outline is cut at a quarter of the warmest spot within half a metre of
    their middle.

    The third answer has length (m) and area (m²) of each of the ``people``.
    """
    registered, inside = integrator.register(views, cameras, 0.0, target)
    median = integrator.statistics(registered, inside)["median"][0]
    registered, inside = registered[0], inside[0]
    count = inside.sum(0)
    agree = (inside & (np.abs(registered - median) <= AGREE)).sum(0) / count.clip(1)
    seen, trust = (agree >= SHARE) & (count >= FEWEST), np.where(count >= FEWEST, agree**2, 0)
    pixel = _pixel(target, median.shape)
    weight = ndimage.gaussian_filter(trust, 2 * PERSON / pixel)
    ground = ndimage.gaussian_filter(median * trust, 2 * PERSON / pixel) / weight.clip(1e-9)
    ground[weight < 1e-9] = np.median(median[count > 0])
    known = seen | ((count > 0) & (count < FEWEST))
    kept = keep(views, cameras, target) if keep else ground
    picture = np.where(known, median, np.where(np.isnan(kept), ground, kept))
    sizes, reach = [], round(PERSON / pixel)
    for one in people.itertuples():
        places = zip((one.row, one.column), median.shape, strict=True)
        window = tuple(slice(max(0, at - reach), min(end, at + reach + 1)) for at, end in places)
        looking = registered[(one.looks, *window)] if one.looks.any() else registered[(slice(None), *window)]
        warm = np.percentile(looking, 75, axis=0)
        out = ndimage.gaussian_filter(warm - ground[window], 1)
        rows, columns = np.ogrid[window]
        middle = np.hypot(rows - one.row, columns - one.column) * pixel < 0.5
        parts, _ = ndimage.label(out > 0.25 * out[middle].max(), np.ones((3, 3)))
        body = parts == parts[np.unravel_index(np.where(middle, out, -np.inf).argmax(), out.shape)]
        corners = np.argwhere(body)
        sizes.append((pixel * (pdist(corners).max(initial=0) + 1), pixel**2 * len(corners)))
        if one.presence >= 0.5:
            picture[window][body] = warm[body]
    return picture, seen, sizes


def write(found: Survey, out: Path) -> list[str]:
    """Write what a survey found into ``out``; what there is to say of it, line by line.

    ``overview.png`` (integral and restored picture, places numbered), ``restored.png`` and ``stack/*cm.png`` (levelled
    gray levels), ``people.csv`` (see `search`), ``poses.json`` (the refined poses) and ``report.html``.
    """
    flight, focus, people = found.flight, found.focus, found.people
    heights = [height for height in STACK if height < -focus.target.centers[0, 2]]
    stack = integrator.integrate(_eight_bits(flight.views), focus.cameras, heights, focus.target).image
    for height, plane in zip(heights, stack, strict=True):
        files.write(out / "stack" / f"{round(100 * height):03d}cm.png", _png(to_uint8(plane)))
    files.write(out / "restored.png", _png(to_uint8(found.restored)))
    overview = _png(np.hstack([_marked(found.integral, people), _marked(found.restored, people)]))
    files.write(out / "overview.png", overview)
    table = people.drop(columns="looks").round(3)
    table.insert(0, "place", np.arange(1, len(table) + 1))
    files.write(out / "people.csv", table.to_csv(index=False))
    extrinsics = focus.ground.inverse.cameras(focus.cameras).extrinsics.tolist()
    poses = {"fov": flight.cameras.fov[0], "center": flight.target, "imagefiles": flight.names, "views": extrinsics}
    files.write_json(out / "poses.json", poses)
    moved = np.linalg.norm(focus.moves[:, :2], axis=1)
    likely = people["presence"] >= 0.5
    rows, columns = flight.views.shape[1:]
    facts = [
        f"{len(flight)} pictures of {columns} × {rows} pixels, seen from {flight.names[flight.target]}",
        f"ground at z = {focus.ground.origin[2]:.1f} m, {-focus.target.centers[0, 2]:.1f} m below the camera, "
        f"tilted by {focus.ground.tilt:.1f}°",
        f"poses moved by {np.sqrt(np.mean(moved**2)):.2f} m and {focus.moves[:, 2].std():.2f}° (root mean square), "
        f"at most {moved.max():.2f} m; agreement on the ground {focus.agreement[0]:.3g}, then {focus.agreement[1]:.3g}",
        f"half of the views agree on {100 * found.seen.mean():.1f} % of the picture; elsewhere it is restored",
        f"restored from odd and from even views alone, the pictures agree to {found.repeatability:.1f} dB",
        f"{likely.sum()} likely people, {(~likely).sum()} other places that stand out",
    ]
    page = jinja2.Template((Path(__file__).parent / "flight.html").read_text("utf-8"), autoescape=True)
    places = table.to_dict("records")
    for place in places:
        place["pictures"] = [_inline(_png(_cut(image, place))) for image in (found.integral, found.restored)]
    page = page.render(facts=facts, overview=_inline(overview), people=places)
    files.write(out / "report.html", page)
    return facts


def _cut(image: np.ndarray, place: dict) -> np.ndarray:
    """48 × 48 pixels around a place, four times enlarged, in the gray range of the picture."""
    at = zip((place["row"], place["column"]), image.shape, strict=True)
    window = tuple(slice(start := int(np.clip(middle - 24, 0, max(0, end - 48))), start + 48) for middle, end in at)
    return np.kron(_shown(image)[window], np.ones((4, 4), np.uint8))


def _shown(image: np.ndarray) -> np.ndarray:
    """Gray levels stretched for the eye."""
    low, high = np.percentile(image, 1), np.percentile(image, 99) * 1.5
    return to_uint8((image - low) * (255 / max(high - low, 1)))


def _marked(image: np.ndarray, people: pd.DataFrame) -> np.ndarray:
    """The picture with a numbered ring around each place, white from a presence of ½ on, else gray."""
    picture = Image.fromarray(_shown(image))
    draw, radius = ImageDraw.Draw(picture), image.shape[0] // 24
    for place, one in enumerate(people.itertuples(), 1):
        tone = 255 if one.presence >= 0.5 else 140
        box = (one.column - radius, one.row - radius, one.column + radius, one.row + radius)
        draw.ellipse(box, outline=tone)
        draw.text((box[2], box[1]), str(place), fill=tone)
    return np.asarray(picture)


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _inline(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _pixel(target: Cameras, size: tuple[int, int]) -> float:
    """Metres on the ground from one pixel to the next, in the middle of the picture."""
    beside = on_ground(target, size, np.array([[0, 0], [1, 0], [0, 1]]) + [size[1] / 2, size[0] / 2])
    return float(np.sqrt(np.linalg.norm(np.cross(beside[1] - beside[0], beside[2] - beside[0]))))


def _eight_bits(views: np.ndarray) -> np.ndarray:
    """The views as float32; brought to 0–255 where a camera of more bits took them."""
    if np.median(views) <= 255:
        return views.astype(np.float32)
    low, high = np.percentile(views, (0.1, 99.9))
    return ((views - low) * (255 / (high - low))).astype(np.float32)
