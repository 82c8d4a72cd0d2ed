"""Commands ``python -m unveil depth crop | train | test | statistics | table``; nothing slow is imported above."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Literal

from cyclopts import App, Parameter

from unveil import project
from unveil.console import Count, Given, Out, Positive, about, complain, progress

DATA = project.work() / "data"
CROPS, MODELS, RESULTS = DATA / "depth/crops", DATA / "checkpoints/depth", DATA / "results/depth"
app = App(
    name="depth",
    help="Depth frames of a 3-D camera: crop, train, test, statistics.",
    default_parameter=Parameter(negative=()),
)
Infrared = Annotated[bool, about("with the left infrared picture as second channel")]


@app.command
def crop(
    *,
    train_path: Annotated[Given | None, about("folder of gt-*, res-*, left-* files; none: simulated frames")] = None,
    out: Annotated[Out, about("folder of the crops")] = CROPS,
    size: Annotated[Count, about("side of a crop in pixels")] = 128,
    frames: Annotated[Count, about("simulated frames, where no folder is given")] = 40,
) -> int:
    """Cut frames into crops to train on."""
    from unveil.tasks import depth_files

    count, troubles = depth_files.crop(train_path, out, size, frames, progress("frame"))
    print(f"{count} crops of {size} × {size} in {out}")
    return complain(troubles)


@app.command(name="train")
def train_depth(
    *,
    train_path: Annotated[Given | None, about("folder to crop anew first; without it the crops that are there")] = None,
    network: Annotated[Literal["autoencoder", "unet", "gan"], about("what to train")] = "unet",
    infrared: Infrared = False,
    epochs: Annotated[Count, about("passes over the crops")] = 100,
    out: Annotated[Out, about("folder of the models; a repeated call goes on there")] = MODELS,
    cpu_minutes: Annotated[Positive | None, about("end when so much processor time is spent")] = None,
) -> int:
    """Train a network on the crops that are there."""
    from unveil.tasks import depth_files

    troubles = depth_files.crop(train_path, CROPS)[1] if train_path else []
    fit = depth_files.train(CROPS, out, network, infrared, epochs, cpu_minutes=cpu_minutes)
    print(f"{len(fit.history)} epochs, best loss {fit.history['val_loss'].min():.4f}, weights in {fit.weights}")
    return complain(troubles)


@app.command(name="test")
def test_depth(
    *,
    test_path: Annotated[Given, about("folder of res-* files; gt-* beside them are measured against")],
    model: Annotated[Given | None, about("safetensors file; without it the newest")] = None,
    infrared: Infrared = False,
    out: Annotated[Out, about("folder of the restored frames and test.csv")] = RESULTS,
) -> int:
    """Restore the frames of a folder."""
    from unveil import files
    from unveil.restore import weights
    from unveil.tasks import depth_files

    path = model or depth_files.newest(MODELS, infrared)
    print(f"model {path}")
    table, troubles = depth_files.test(test_path, out, weights.load(path)[0], progress("frame"))
    files.write(out / "test.csv", table.round(3).to_csv(index=False))
    if table.empty:
        print(f"warning: {test_path} holds no depth frames; nothing restored", file=sys.stderr)
    else:
        print(table.round(1).to_string(index=False))
    return complain(troubles)


@app.command
def statistics(
    *,
    test_path: Annotated[Given, about("folder of gt-* and res-* files")],
    restored: Annotated[Given | None, about("folder of restored frames: judge them, not the measured ones")] = None,
    out: Annotated[Out, about("folder of the tables and the plot")] = RESULTS,
) -> int:
    """Error against distance, holes and edges per file: tables and a plot."""
    from unveil.tasks import depth_files

    table, troubles = depth_files.statistics(test_path, out, restored)
    print(table.round(1).to_string(index=False) if len(table) else f"warning: {test_path} holds no pairs to compare")
    return complain(troubles)


@app.command
def table(
    *, outside: Annotated[Given | None, about("folder of further real frames; without it $UNVEIL_SIBLINGS")] = None
) -> None:
    """Baselines and shipped networks on twelve simulated frames and real ones: data/weights/depth/results.csv."""
    from unveil.tasks import depth_results

    given = outside or os.environ.get("UNVEIL_SIBLINGS")
    print(depth_results.results(DATA / "depth/frames", outside=given).round(1).to_string())


@app.command
def study() -> None:
    """Error against the number of frames, with and without infrared, of three seeds: data/weights/depth/study.csv."""
    from unveil.tasks import depth, depth_results

    folder = DATA / "depth/frames"
    frames = [depth.simulate(folder, count, seed, progress=progress("frame")) for seed, count in ((0, 240), (1, 6))]
    print(depth_results.study(*frames, MODELS.with_name("depth_study")).round(1).to_string(index=False))
