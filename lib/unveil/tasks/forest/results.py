"""What the networks reach: the shipped table of 240 test runs, their pictures, and what lies outside the simulator."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from unveil import project
from unveil.aos import integrator, measures, simulator
from unveil.aos.archives import Run
from unveil.aos.camera import CENTER_VIEW, course_rig
from unveil.aos.images import person_mask
from unveil.errors import UnveilError
from unveil.restore.inference import predict
from unveil.restore.metrics import psnr
from unveil.tasks.forest import pairs, persons
from unveil.tasks.forest.restoring import Weights, restore_folders, shipped

TEST_SEED = 4
TOP = {"laying": 0.6, "sitting": 1.8, "idle": 3.4}
"""How high a person reaches above the ground in metres, by pose."""
POSES = {"laying": "lying", "sitting": "sitting", "idle": "standing", "none": "nobody"}
NAMES = {
    "multi_view": "multi-view network",
    "focal_stack": "focal-stack network",
    "rednet": "RED-Net",
    "quick": "quick network",
    "plane 0.2 m": "integral at 0.2 m",
    "plane 0.6 m": "integral at 0.6 m",
    "plane 1 m": "integral at 1.0 m",
    "plane 1.4 m": "integral at 1.4 m",
    "plane 1.8 m": "integral at 1.8 m",
    "maximum": "maximum of planes",
    "median": "median of planes",
    "minimum": "minimum of planes",
    "flat median": "flat, median level",
    "flat steady (planes)": "flat, steadiest of planes",
    "flat steady (views)": "flat, steadiest of views",
}
"""The models of a table in words; others keep their names."""


def table(path: Path | None = None) -> pd.DataFrame:
    """The shipped test table, one row per model and run; ``model`` is categorical, in words, networks first."""
    rows = pd.read_csv(path or pairs.WEIGHTS / "test.csv")
    names = [NAMES.get(name, name) for name in rows["model"].unique()]
    return rows.assign(model=pd.Categorical(rows["model"].map(lambda name: NAMES.get(name, name)), categories=names))


def found_by_none(rows: pd.DataFrame, networks: Sequence[str], by: str = "found") -> pd.DataFrame:
    """Of the people under trees: how many each network finds, and how many of those no baseline finds.

    ``by`` is the column that says 1 or 0. The best single view is chosen with the truth and is no baseline here.
    """
    people = rows[(rows["density"] > 0) & rows[by].notna() & (rows["model"] != "best single view")]
    found = people.pivot(index="id", columns="model", values=by).astype(bool)
    rivals = found.drop(columns=list(networks)).any(axis=1)
    kinds = {"found": found, "found by no baseline": found[~rivals]}
    counts = pd.DataFrame({kind: some[list(networks)].sum() for kind, some in kinds.items()})
    return counts.assign(people=len(found))


@functools.lru_cache(maxsize=64)
def run(run_id: str) -> Run:
    """A run of the test set, made again by seed and number in a fraction of a second."""
    index = int(run_id.split("_")[1])
    pose, density = simulator.stratum(index, balanced=True)
    return simulator.simulate_run(TEST_SEED, index, density, pose)


def restored(one: Weights, flight: Run, ground: float = 0.0) -> np.ndarray:
    """(H, W) in [0, 1]; the focal planes lie ``ground`` metres too high."""
    return predict(one.model, one.inputs(flight.views, course_rig(), CENTER_VIEW, ground))


def pictures(run_id: str, models: Iterable[Weights]) -> dict[str, np.ndarray]:
    """Centre view, integral at 0.2 m, what each network makes of the run, and the truth; all (H, W) in [0, 1]."""
    flight = run(run_id)
    integral = integrator.integrate(flight.views, course_rig(), 0.2, CENTER_VIEW).image[0]
    seen = {"single view": flight.views[CENTER_VIEW] / 255, "integral": integral / 255}
    answers = {NAMES.get(one.name, one.name): restored(one, flight) for one in models}
    return seen | answers | {"truth": flight.truth / 255}


def browsed(run_id: str, one: Weights) -> dict[str, np.ndarray]:
    """What the results browser compares: :func:`pictures` with the answer of a network and its gate's presence."""
    seen, flight = pictures(run_id, ()), run(run_id)
    truth = seen.pop("truth")
    image, presence = answer(one, one.inputs(flight.views, course_rig(), CENTER_VIEW))
    answers = {NAMES.get(one.name, one.name): image} | ({} if presence is None else {"presence": presence})
    return seen | answers | {"truth": truth}


def person(run_id: str) -> np.ndarray:
    """The pixels of the person in the truth, (H, W) bool."""
    return person_mask(run(run_id).truth)


def hidden_share(run_id: str) -> float:
    """Share of the person's pixels that a view does not show, judged from the pictures, mean of the 11 views."""
    flight = run(run_id)
    heights = np.arange(0, TOP[flight.parameters.pose] + 0.1, 0.2)
    return 1 - float(measures.visible(flight.views, flight.truth, person(run_id), course_rig(), heights).mean())


def gains(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with ``hidden``, and ``gain``: the region PSNR over that of a flat image at the true level of the ground.

    A bright person on black ground is a larger error, if missed, than one on bright ground; 0 dB shows nobody.
    """
    known = {}
    for run_id in rows["id"].unique():
        truth = run(run_id).truth
        nobody = persons.region_psnr(np.full_like(truth, np.median(truth)), truth, person(run_id))
        known[run_id] = {"hidden": hidden_share(run_id), "nobody": nobody}
    rows = rows.join(pd.DataFrame(known).T, on="id")
    return rows.assign(gain=rows["region_psnr"] - rows["nobody"])


def misplaced(models: Iterable[Weights], run_ids: Iterable[str], offsets: Iterable[float]) -> pd.DataFrame:
    """PSNR of image and person where all planes lie higher than they say, by ``offsets`` in metres."""
    rows = []
    for run_id in run_ids:
        truth, mask = run(run_id).truth / 255, person(run_id)
        for offset, one in ((offset, one) for offset in offsets for one in models):
            image = restored(one, run(run_id), ground=offset)
            values = {"whole image": psnr(image, truth), "person": persons.region_psnr(image, truth, mask)}
            rows.append({"model": NAMES[one.name], "offset": offset, **values})
    return pd.DataFrame(rows).pivot_table(["whole image", "person"], "offset", "model")


def course_runs(out: Path) -> pd.DataFrame:
    """The course's pairs and run as the command ``restore`` restores and scores them, one row per model and sample."""
    rows = []
    for folder in [*sorted(project.reference("course_pairs").glob("*")), project.reference("course_run")]:
        one_run = folder.name == "course_run"
        for name, path in shipped().items():
            if (name == "multi_view") == one_run:
                with contextlib.redirect_stdout(io.StringIO()):
                    result = restore_folders(folder, out / folder.name / name, path)[0]
                if result.metrics is None:
                    raise UnveilError(f"{folder}: {result.error or 'holds no truth'}")
                scores = result.metrics.rename(index={"restored": name})
                rows.append(scores.rename_axis("model").reset_index().assign(sample=folder.name))
    scores = pd.concat(rows, ignore_index=True).drop_duplicates(["sample", "model"])
    # One table has the nearest planes of each sample; their names say which they are.
    return scores[~scores["model"].str.startswith("plane")].assign(model=scores["model"].map(lambda n: NAMES.get(n, n)))


def answer(one: Weights, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The restored image (H, W), and the presence that its gate decided by, where the network has a gate."""
    if getattr(one.model, "gate", None) is None:
        return predict(one.model, inputs), None
    with torch.inference_mode():
        x = torch.from_numpy(inputs)[None].to(next(one.model.parameters()).device) / 255
        level, objects, presence = one.model.answer(x)
        image = one.model.gated(level, objects, presence).clamp(0, 1)
    return image[0, 0].cpu().numpy(), torch.sigmoid(presence)[0, 0].cpu().numpy()


def standing_out(images: Mapping[str, np.ndarray], boxes: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Per image: contrast to noise of each box, boxes with any object, and objects elsewhere."""
    everybody, rows = np.any(list(boxes.values()), axis=0), {}
    for name, image in images.items():
        objects = persons.segment(image)
        rows[name] = {person: persons.contrast_to_noise(image, box) for person, box in boxes.items()}
        rows[name]["people seen"] = sum(bool(objects[box].any()) for box in boxes.values())
        rows[name]["objects elsewhere"] = persons.detect(image, everybody).false_objects
    return pd.DataFrame(rows).T
