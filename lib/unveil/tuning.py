"""Which choices matter: the focal-stack network with one factor changed at a time, all at the same small budget.

The budget is processor time on one thread, spent on training and on making the crops it learns from: what is cheaper
per step may take more steps, as it could in a long training. Processor time instead of the clock's leaves other work
on the machine out of the comparison. The learning rate falls with the share of the budget that is spent, so every
training ends its cosine. Because a count of steps that follows from speed is never twice the same, results repeat
within the spread of the base configuration over its seeds only, and smaller differences mean nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from unveil import recipes
from unveil.aos import build, integrator, stacks, views
from unveil.aos.store import Store
from unveil.errors import UnveilError
from unveil.restore import _networks_old as networks
from unveil.restore import _training_old as training
from unveil.restore import datasets, evaluation
from unveil.restore._training_old import Options

RUNS, RUNS_SEED, VALIDATION_RUNS = 2400, 1, 48
JITTER, PERSON_CROPS = 0.2, 0.6
WARMUP = 0.05
"""Share of the budget over which the learning rate rises."""

BASE = Options(
    network="level",
    network_options={"features": [24, 48, 96, 160], "blocks": [1, 1, 2, 2]},
    channels=integrator.HEIGHTS,
    in_channels=len(integrator.HEIGHTS),
    batch=4,
    learning_rate=1e-3,
    weight_decay=1e-4,
    l1_from=0.0,
    squared_weight=10.0,
    object_weight=3.0,
    average=0.999,
    precision="bf16-mixed",
)
"""Written out, not taken from the presets: what was compared stays as it was when they move on."""


@dataclasses.dataclass(frozen=True)
class Configuration:
    """One training of the study: what it changes (``factor``), to what (``setting``), and all that defines it.

    ``runs`` are the first so many of the simulated runs, ``statistics`` further channels computed over the planes.
    """

    factor: str
    setting: str
    options: Options = BASE
    crop: int = 192
    runs: int = RUNS
    statistics: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells it from all others."""
        return self.factor, self.setting, self.options.seed


def configurations() -> list[Configuration]:
    """All configurations, the base first; again with other seeds as second and last, for the spread over both."""

    def changed(factor: str, setting: str, **options: Any) -> Configuration:
        return Configuration(factor, setting, dataclasses.replace(BASE, **options))

    def planes(setting: str, *heights: float) -> Configuration:
        return changed("planes", setting, channels=heights, in_channels=len(heights))

    def channels(*statistics: str) -> Configuration:
        options = dataclasses.replace(
            BASE, channels=(*BASE.channels, *statistics), in_channels=BASE.in_channels + len(statistics)
        )
        return Configuration("channels", "planes + " + ", ".join(statistics), options, statistics=statistics)

    def level(factor: str, setting: str, **network_options: Any) -> Configuration:
        return changed(factor, setting, network_options=BASE.network_options | network_options)

    rednet = dataclasses.replace(BASE, network="rednet", network_options={"layers": 11, "features": 64})
    base = [changed("base", "5 planes, level network", seed=seed) for seed in range(3)]
    return [
        *base[:2],
        planes("1 (0.2 m)", 0.2),
        planes("2 (0.2, 1.8 m)", 0.2, 1.8),
        planes("3 (0.2, 1, 1.8 m)", 0.2, 1.0, 1.8),
        planes("9 (0.2 to 1.8 m)", *np.arange(0.2, 1.9, 0.2).round(1).tolist()),
        planes("5 upward (0.2 to 8 m)", 0.2, 1.0, 2.0, 4.0, 8.0),
        planes("5 high (2 to 10 m)", 2.0, 4.0, 6.0, 8.0, 10.0),
        channels("std"),
        channels("max", "min", "std"),
        # All its layers work at half the resolution: on the base's crop it would come to a few slow steps only.
        Configuration("network", "RED-Net22", rednet, crop=128),
        changed("network", "U-Net", network="unet", network_options={"features": [32, 64, 128, 192], "unshuffle": 2}),
        changed("network", "NAFNet", network="nafnet", network_options={"width": 32, "unshuffle": 2}),
        Configuration("views", "multi-view network", recipes.MULTI_VIEW),
        level("features", "half", features=[12, 24, 48, 80]),
        level("features", "double", features=[48, 96, 192, 320]),
        level("depth", "1 block per scale", blocks=[1, 1, 1, 1]),
        level("depth", "twice the blocks", blocks=[2, 2, 4, 4]),
        changed("loss", "squared error", l1_from=2.0),
        changed("loss", "no object weight", object_weight=0.0),
        changed(
            "loss",
            "gate and presence",
            network_options=BASE.network_options | {"gate": [0.3, 0.6]},
            object_weight=5.0,
            presence_weight=0.5,
        ),
        Configuration("crop", "128", crop=128),
        Configuration("crop", "384", crop=384),
        changed("learning rate", "0.0003", learning_rate=3e-4),
        changed("learning rate", "0.003", learning_rate=3e-3),
        Configuration("data", "100 runs", runs=100),
        Configuration("data", "400 runs", runs=400),
        base[2],
    ]


def kept(configuration: Configuration, preset: recipes.Preset) -> bool:
    """Whether a preset does what sets the configuration apart from the base (the base itself: always)."""

    def choices(options: Options, crop: int, runs: int) -> dict[str, Any]:
        values = dataclasses.asdict(options) | {"crop": crop, "runs": runs}
        return values | values.pop("network_options")

    base = choices(BASE, Configuration.crop, Configuration.runs)
    mine = choices(configuration.options, configuration.crop, configuration.runs)
    theirs = choices(preset.options, preset.crop, preset.runs)
    return all(theirs.get(name) == value for name, value in mine.items() if value != base.get(name) and name != "seed")


def study(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    minutes: float = 2.0,
    only: str | None = None,
    validation_runs: int = VALIDATION_RUNS,
    chosen: Sequence[Configuration] | None = None,
    report: Callable[[str], object] = print,
) -> list[str]:
    """Train and score every configuration that the table ``out`` lacks, writing the table anew after each.

    The runs lie in ``folder``/runs_1 (:data:`recipes.WIDE`) and ``folder``/runs_900001, where ``train --preset`` puts
    them too, and are simulated if they do not. ``only`` names a factor. Torch keeps to one thread meanwhile.

    Returns:
        What went wrong, a line per configuration that could not be trained; the others are not harmed.

    Raises:
        UnveilError: no factor is called ``only``, or ``out`` holds results of another budget.
    """
    chosen = configurations() if chosen is None else list(chosen)
    factors = list(dict.fromkeys(configuration.factor for configuration in chosen))
    if only is not None and only not in factors:
        raise UnveilError(f"there is no factor {only!r}: choose one of {', '.join(factors)}")
    rows = _rows(Path(out), minutes, validation_runs)
    done = {(row["factor"], str(row["setting"]), row["seed"]) for row in rows}
    wanted = [c for c in chosen if only in (None, c.factor) and c.key not in done]
    report(f"{len(wanted)} configurations of {minutes:g} minutes each; {len(done)} rows are there")
    if not wanted:
        return []
    folder = Path(folder)
    count = max(configuration.runs for configuration in wanted)
    train_runs = build.build_views(folder / f"runs_{RUNS_SEED}", count, RUNS_SEED, variation=recipes.WIDE)
    check_runs = build.build_views(folder / f"runs_{recipes.VALIDATION_SEED}", validation_runs, recipes.VALIDATION_SEED)
    troubles = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for configuration in wanted:
            name = f"{configuration.factor}: {configuration.setting} (seed {configuration.options.seed})"
            try:
                row = trial(configuration, train_runs, check_runs, minutes)
            except (UnveilError, RuntimeError) as error:
                troubles.append(f"{name}: {error}")
                report(f"{name}: failed: {error}")
                continue
            rows.append(row)
            recipes.save_table(pd.DataFrame(rows), out)
            report(f"{name}: {row['steps']} steps, {row['psnr']:.2f} dB, person {row['region_psnr']:.2f} dB")
    finally:
        torch.set_num_threads(threads)
    return troubles


def trial(configuration: Configuration, train_runs: Store, check_runs: Store, minutes: float) -> dict[str, Any]:
    """Train one configuration for so many minutes of processor time and score it: a row of the study's table.

    psnr (also per density, psnr_0 …), region_psnr, found (share of the people) and false_objects (per run) are means
    over the validation runs, empty_false is the share of the runs without a person in which one is seen; ``seconds``
    of the training are the clock's.
    """
    started = time.perf_counter()
    model, steps = _train(configuration, _pairs(configuration, train_runs, training_data=True), 60 * minutes)
    seconds = time.perf_counter() - started
    table = evaluation.evaluate(model, _pairs(configuration, check_runs), stacks.person_mask)
    table["density"] = [check_runs.parameters(i).density for i in range(len(check_runs))]
    empty = table["iou"].isna()
    scores = {"psnr": table["psnr"].mean(), "region_psnr": table["region_psnr"].mean()}
    scores |= {f"psnr_{density}": mean for density, mean in table.groupby("density")["psnr"].mean().items()}
    scores |= {"found": table["found"].mean(), "false_objects": table["false_objects"].mean()}
    scores |= {"empty_false": (table.loc[empty, "false_objects"] > 0).mean(), "seconds": seconds}
    return {
        "factor": configuration.factor,
        "setting": configuration.setting,
        "seed": configuration.options.seed,
        "minutes": minutes,
        "validation_runs": len(check_runs),
        "steps": steps,
        "parameters": networks.parameter_count(model),
    } | {name: round(float(score), 4) for name, score in scores.items()}


def _pairs(configuration: Configuration, runs: Store, training_data: bool = False) -> datasets.PairDataset:
    options = configuration.options
    if options.network == "multiview":
        store = views.ViewPairs(runs, options.channels)
    else:
        heights = [channel for channel in options.channels if channel not in configuration.statistics]
        store = views.FocalPairs(runs, heights, JITTER if training_data else 0.0, options.seed)
    if not training_data:
        return datasets.PairDataset(store, statistics=configuration.statistics)
    return datasets.PairDataset(
        store,
        range(min(configuration.runs, len(runs))),
        statistics=configuration.statistics,
        crop=configuration.crop,
        region=stacks.person_mask,
        region_probability=PERSON_CROPS,
        flips=True,
        seed=options.seed,
    )


def _train(configuration: Configuration, data: datasets.PairDataset, budget: float) -> tuple[nn.Module, int]:
    """The averaged network after ``budget`` seconds of processor time, and the number of its steps."""
    options = configuration.options
    torch.manual_seed(options.seed)
    module = training.Restoration(options)
    # The step is Lightning's, the loop is not: there is nobody to log to.
    module.log = lambda *_, **__: None
    averaged = AveragedModel(module.network, avg_fn=training.moving_average(options.average))
    optimizer = torch.optim.AdamW(module.parameters(), options.learning_rate, weight_decay=options.weight_decay)

    def gradients(batch: list[torch.Tensor]) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16-mixed"):
            loss = module.training_step(batch, 0)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), options.gradient_clip)

    batches = _endless(data, options)
    # Compiling and choosing kernels belongs to the first configuration's bill as little as to any other's.
    gradients(next(batches))
    started = time.process_time()
    steps = 0
    while (spent := (time.process_time() - started) / budget) < 1:
        gradients(next(batches))
        falling = options.final_rate + (1 - options.final_rate) * 0.5 * (1 + math.cos(math.pi * spent))
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * falling * min(1.0, spent / WARMUP)
        optimizer.step()
        averaged.update_parameters(module.network)
        steps += 1
    return averaged.module.eval(), steps


def _endless(data: datasets.PairDataset, options: Options) -> Iterator[list[torch.Tensor]]:
    """Shuffled batches, epoch after epoch."""
    loader = datasets.loader(data, options.batch, shuffle=True, seed=options.seed, drop_last=len(data) >= options.batch)
    for epoch in itertools.count():
        loader.sampler.set_epoch(epoch)
        yield from loader


def _rows(path: Path, minutes: float, validation_runs: int) -> list[dict[str, Any]]:
    """Rows of an earlier call with the same budget."""
    if not path.exists():
        return []
    try:
        table = pd.read_csv(path, dtype={"setting": str})
        same = (table["minutes"] == minutes) & (table["validation_runs"] == validation_runs)
        table[["factor", "setting", "seed"]]
    except (ValueError, KeyError) as error:
        raise UnveilError(f"{path}: no table of a tuning study ({error}); move it away or name another file") from error
    if not same.all():
        raise UnveilError(f"{path}: holds results of another budget; name another file or give the same --minutes")
    return table.to_dict("records")
