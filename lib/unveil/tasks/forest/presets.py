"""How the networks of the forest are trained: the shipped presets, one's own runs, and the study of single choices."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from unveil import files
from unveil.aos import simulator
from unveil.aos.build import build_views
from unveil.aos.store import Store
from unveil.errors import UnveilError
from unveil.restore import training, weights
from unveil.restore.metrics import evaluate
from unveil.restore.networks import NETWORKS, Restorer
from unveil.restore.networks.analysis import parameter_count
from unveil.restore.options import Options
from unveil.restore.pairs import PairDataset
from unveil.tasks.forest import persons
from unveil.tasks.forest.pairs import WEIGHTS, Place, feed, split, strata

SEED, VALIDATION_SEED, GATE_SEED = 1, 900_001, 900_002
VALIDATION_RUNS, GATE_RUNS = 48, 300
GATES = [
    (low, high)
    for low in (0.1, 0.2, 0.35, 0.5)
    for high in (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
]
"""Thresholds (low, high) of a network's gate to choose from."""
WIDE = simulator.Variation(
    ambient=(0.2, 1.0), trunk_kelvin=(284, 292), person_gray=(-20, 10), pattern=(0.6, 1.4), noise=(0, 1.5)
)
"""Wider than the course's own forest, so that the weights do not depend on its exact temperatures."""


@dataclass(frozen=True)
class Preset:
    """How weights are made: the training's options, and crops of the first ``runs`` simulated runs of :data:`WIDE`.

    ``jitter`` moves every focal plane of every item by up to so many metres; ``person_crops`` is the share of the
    crops that are placed around the person. A choice of the tuning study changes one ``factor`` to a ``setting``.
    """

    options: Options
    crop: int = 256
    jitter: float = 0.2
    person_crops: float = 0.6
    runs: int = 2400
    factor: str = ""
    setting: str = ""

    def crops(self, runs: Any, ids: Any = None, repeats: int = 1) -> PairDataset:
        """Crops to learn from, mirrored at random."""
        data = feed(self.options, runs, self.jitter, person_crops=self.person_crops)
        return PairDataset(data, ids, crop=self.crop, crops_per_item=repeats, flips="hv", seed=self.options.seed)


_KEPT = json.loads(Path(__file__).with_name("presets.json").read_text("utf-8"))
PRESETS = {
    name: Preset(**row | {"options": Options.from_dict(row["options"], name)}) for name, row in _KEPT["presets"].items()
}
"""How the shipped weights were made: two networks of our own, and the course's RED-Net on the same runs."""


def make(name: str, out: Place, workers: int = 1, **changes: Any) -> Path:
    """Remake the shipped weights of a preset from nothing but its seed, resuming what is there.

    Simulates the runs into ``out``, trains (with ``changes`` of the options), chooses the gate, and writes weights,
    options and log to ``data/weights/forest``.
    """
    if name not in PRESETS:
        raise UnveilError(f"there is no preset {name!r}: choose one of {', '.join(PRESETS)}")
    preset = replace(
        PRESETS[name], options=Options.from_dict(asdict(PRESETS[name].options) | {"recipe": repr(WIDE)} | changes)
    )
    wooded = replace(simulator.COURSE, density=(100, 200))

    def simulated(count: int, seed: int, variation: simulator.Variation = simulator.COURSE) -> Store:
        return build_views(Path(out, f"runs_{seed}"), count, seed, workers, variation)

    runs, check_runs = simulated(preset.runs, SEED, WIDE), simulated(VALIDATION_RUNS, VALIDATION_SEED)
    gate_runs = [simulated(GATE_RUNS, GATE_SEED + i, replace(wooded, persons=(1 - i, 1 - i))) for i in (0, 1)]
    checks = [PairDataset(feed(preset.options, some)) for some in (check_runs, *gate_runs)]
    fit = _fit(preset.options, preset.crops(runs, range(preset.runs)), checks, Path(out, name))
    path = WEIGHTS / f"{name}.safetensors"
    weights.save(path, fit.model, fit.options)
    files.write(path.with_suffix(".log.csv"), fit.history.to_csv(index=False))
    return path


def train(runs: Any, out: Place, crop: int = 0, crops: int = 2400, resume: bool = True, **changes: Any) -> training.Fit:
    """Train what suits a run store: the focal-stack network on stacks, the multi-view network on runs with views.

    The options are those of the network's preset but for ``changes``. An epoch has about ``crops`` crops, of ``crop``
    pixels or the preset's; the gate is chosen on the validation runs.
    """
    heights = getattr(runs, "heights", ())
    network = changes.get("network") or ("level" if heights else "multiview")
    suited = PRESETS["multi_view" if getattr(NETWORKS.get(network), "wants", "") == "views" else "focal_stack"]
    suited = replace(suited, options=replace(suited.options, network=network, network_options={}))
    preset = next((p for p in PRESETS.values() if p.options.network == network), suited)
    # The presets' precision suits the processors that they were made on.
    options = replace(preset.options, precision="auto")
    options = replace(options, loss_options={}) if "loss" in changes else options
    for name in ("network_options", "loss_options"):
        changes[name] = getattr(options, name) | (changes.get(name) or {})
    if heights:
        changes = {"channels": heights, "in_channels": len(heights)} | changes
    options = Options.from_dict(asdict(options) | changes)
    options.build()
    parts, labels = split(runs), strata(runs)
    empty = [run for run in parts["validation"] if labels[run].startswith("none")]
    people = [run for run in parts["validation"] if run not in empty]
    checks = [PairDataset(feed(options, runs), ids) for ids in (parts["validation"], people, empty)]
    repeats = max(1, round(crops / max(1, len(parts["train"]))))
    train_set = replace(preset, options=options, crop=crop or preset.crop).crops(runs, parts["train"], repeats)
    return _fit(options, train_set, checks, out, resume)


def _fit(
    options: Options, train_set: PairDataset, checks: Sequence[PairDataset], out: Place, resume: bool = True
) -> training.Fit:
    """Train, and choose the gate where the network has one; ``checks``: all validation runs, with people, without."""
    fit = training.train(options, train_set, checks[0], out, resume=resume, progress=sys.stderr.isatty())
    if getattr(fit.model, "gate", None) and all(map(len, checks)):
        gate = calibrate(fit.model, *checks[1:])
        options = replace(options, network_options=options.network_options | {"gate": list(gate)})
        weights.save(fit.weights, fit.model, options)
    return replace(fit, options=options)


def calibrate(model: Restorer, people: PairDataset, deserted: PairDataset) -> tuple[float, float]:
    """The gate with the largest share of people found less the share of deserted runs in which it shows somebody.

    This is Youden's index (doi 10.1002/1097-0142(1950)3:1<32::AID-CNCR2820030106>3.0.CO;2-3); of equals the one with
    the higher PSNR of the region. Returns (low, high) of :data:`GATES` and leaves the network with it.
    """
    person = persons.metrics()["person"]

    def judged(data: PairDataset) -> np.ndarray:
        """Found, having false objects, and the region's PSNR: (runs, gates, 3)."""
        rows = []
        for inputs, target in data:
            with torch.inference_mode():
                answer = model.answer(inputs[None])
            presence, known = torch.sigmoid(answer[2])[0, 0].numpy(), {}
            peaks = {low: _peaks(presence, low) for low in {low for low, _ in GATES}}
            for model.gate in GATES:
                low, high = model.gate
                # Gates of one low threshold by which the same objects pass answer alike.
                passing = low, (peaks[low] > high).sum()
                if passing not in known:
                    seen = person(model.gated(*answer)[0].clamp(0, 1), target)
                    known[passing] = seen["found"], seen["false_objects"] > 0, seen["region_psnr"]
                rows.append(known[passing])
        return np.reshape(rows, (len(data), len(GATES), 3)).astype(float)

    model.eval()
    found, _, region = np.nanmean(judged(people), axis=0).T
    wrong = judged(deserted)[..., 1].mean(axis=0)
    best = max(range(len(GATES)), key=lambda i: (found[i] - wrong[i], region[i]))
    model.gate = GATES[best]
    print(f"gate {GATES[best]}: found {found[best]:.0%}, false persons in {wrong[best]:.0%} of the deserted runs")
    return model.gate


def _peaks(presence: np.ndarray, low: float) -> np.ndarray:
    """The highest presence (H, W) in each region above ``low``."""
    labels, count = ndimage.label(presence > low, persons.SQUARE)
    return ndimage.maximum(presence, labels, range(1, count + 1))


def choices() -> list[Preset]:
    """The trainings of the tuning study, each with one factor other than in the base; the base with three seeds."""
    base, rows = _KEPT["study"]["base"], _KEPT["study"]["choices"]
    made = ((row, Options.from_dict(base | row.get("options", {}), row["setting"])) for row in rows)
    return [Preset(**{"crop": 192} | row | {"options": options}) for row, options in made]


def study(
    folder: Place,
    out: Place,
    minutes: float = 2.0,
    only: str | None = None,
    chosen: list[Preset] | None = None,
    checked: int = VALIDATION_RUNS,
) -> pd.DataFrame:
    """Train every choice that the table ``out`` lacks for ``minutes`` of processor time on one thread, and score it.

    What is cheaper per step takes more steps. The table is written anew after each training, so that a call goes on
    where another stopped; the runs lie in ``folder``, where :func:`make` puts them too.
    """
    out, chosen = Path(out), choices() if chosen is None else chosen
    rows = pd.read_csv(out, dtype={"setting": str}).to_dict("records") if out.exists() else []
    if any((row.get("minutes"), row.get("validation_runs")) != (minutes, checked) for row in rows):
        raise UnveilError(f"{out}: no table of this study's budget; name another file or give the same --minutes")
    done = {(row["factor"], row["setting"], row["seed"]) for row in rows}
    if only not in (None, *(choice.factor for choice in chosen)):
        raise UnveilError(f"there is no factor {only!r}: choose one of {', '.join({c.factor: 0 for c in chosen})}")
    wanted = [c for c in chosen if only in (None, c.factor) and (c.factor, c.setting, c.options.seed) not in done]
    print(f"{len(wanted)} trainings of {minutes:g} minutes each; {len(done)} rows are there")
    runs = build_views(Path(folder, f"runs_{SEED}"), max((c.runs for c in wanted), default=1), SEED, variation=WIDE)
    check_runs = build_views(Path(folder, f"runs_{VALIDATION_SEED}"), checked, VALIDATION_SEED)
    torch.set_num_threads(1)
    for number, choice in enumerate(wanted):
        known = {"factor": choice.factor, "setting": choice.setting, "seed": choice.options.seed}
        scores = _trial(choice, runs, check_runs, minutes, Path(folder, "study", str(number)))
        rows.append(known | {"minutes": minutes, "validation_runs": checked} | scores)
        files.write(out, pd.DataFrame(rows).to_csv(index=False))
    return pd.DataFrame(rows)


def _trial(choice: Preset, runs: Store, check_runs: Store, minutes: float, folder: Path) -> dict[str, Any]:
    """Train and score: means over the validation runs."""
    options, started = replace(choice.options, cpu_minutes=minutes), time.perf_counter()
    data = feed(options, check_runs)
    # The last weights count, so a single run is enough to validate on.
    train_set = choice.crops(runs, range(min(choice.runs, len(runs.ids))))
    model = training.train(options, train_set, PairDataset(data, [0]), folder, resume=False).model
    scores = {"parameters": parameter_count(model), "seconds": round(time.perf_counter() - started, 1)}
    table = evaluate(model, PairDataset(data), persons.metrics())
    table["density"] = [check_runs.parameters(i).density for i in range(len(table))]
    means = persons.summary(table.assign(model=0)).loc[0]
    scores |= {name: means[name] for name in ("psnr", "region_psnr", "found", "false_objects", "empty_false")}
    return scores | {f"psnr_{density}": mean for density, mean in table.groupby("density")["psnr"].mean().items()}
