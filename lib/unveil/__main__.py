"""The notebooks' steps as commands: ``python -m unveil COMMAND --help``.

A command is one thin function: its signature makes the options, its first line the help. What is slow to import (torch)
is imported inside, after the paths were looked at.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Group, Parameter

from unveil import console, project
from unveil.console import Count, Given, Named, Out, Paths, Positive, Seed, Share, about, complain, named, progress
from unveil.errors import UnveilError

WORK = project.work()
DATA = WORK / "data"
CORES = os.cpu_count() or 1
NETWORKS = console.keys("restore/networks/__init__.py", "NETWORKS")
LOSSES = console.keys("restore/losses.py", "LOSSES")
SHIPPED = console.keys("tasks/forest/presets.json", "presets")
_WHERE = ("denoising", "super_resolution", "old_photos_pairs", "depth", "wild")
LEARNT = "; ".join(console.keys(f"tasks/{name}.py", "PRESETS") for name in _WHERE)
FOREST, PHOTOS = Group("Forest", sort_key=0), Group("Photographs", sort_key=1)
DEPTH, HOUSE = Group("Depth", sort_key=2), Group("Project", sort_key=9)

app = App(
    name="python -m unveil",
    help="The steps of the notebooks as commands. Errors end with status 2; 1 means that the items named were skipped.",
    help_formatter="plain",
    version_flags=[],
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
)


@app.command(group=FOREST)
def simulate(
    *,
    runs: Annotated[Count, about("number of runs")] = 120,
    out: Annotated[Out, about("folder for the ZIPs")] = DATA / "archives",
    seed: Seed = 2021,
    workers: Annotated[Count, about("processes; the bytes do not depend on it")] = CORES,
    incomplete: Annotated[Share, about("share of runs with missing files")] = 0.028,
    balanced: Annotated[bool, about("the same number of runs for every pose × density")] = False,
) -> None:
    """Write simulated runs into ZIP archives in the course's layout."""
    from unveil.aos import simulator

    made = simulator.simulate(
        out, runs, seed=seed, workers=workers, incomplete=incomplete, balanced=balanced, progress=progress("run")
    )
    print(f"{runs} runs in {len(made)} archives in {out}")


@app.command(group=FOREST)
def wild(
    *,
    out: Annotated[Out, about("folder of the flights, one folder each")],
    runs: Annotated[Count, about("number of flights")] = 3,
    seed: Seed = 0,
    density: Annotated[int | None, about("trees per hectare; drawn for every flight unless given")] = None,
) -> None:
    """Write simulated flights over wild forests, as folders that the command flight reads."""
    from unveil.aos import wild as forests

    for index in range(runs):
        print(forests.write(forests.simulate(seed, index, density), out / f"wild_{seed}_{index}"))


@app.command(group=FOREST)
def scan(
    paths: Paths,
    *,
    verify: Annotated[bool, about("also read and decode every member")] = False,
    csv: Annotated[Out | None, about("write a table with one row per run")] = None,
    workers: console.Workers = CORES,
) -> int:
    """List complete and incomplete runs of archives, not unpacked."""
    from unveil import files
    from unveil.aos import archives

    catalogue = archives.scan(paths, verify=verify, workers=workers)
    print(catalogue.report())
    if csv:
        files.write(csv, catalogue.table().to_csv(index=False))
    return complain(catalogue.troubles())


@app.command(group=FOREST)
def prune(
    paths: Paths,
    *,
    verify: Annotated[bool, about("also read and decode every member")] = False,
    yes: Annotated[bool, about("really rewrite the archives; without it only say what would happen")] = False,
    discard: Annotated[bool, about("delete what is dropped instead of moving it into ARCHIVE.dropped.zip")] = False,
    all_named: Annotated[bool, about("every archive of the set is named, so runs that lack files may go")] = False,
    drop_foreign: Annotated[bool, about("also drop files that belong to no run")] = False,
    despite_damaged: Annotated[bool, about("go on although a damaged archive may hold the missing files")] = False,
    workers: console.Workers = CORES,
) -> int:
    """Take the files of unusable runs out of archives."""
    from unveil.aos import archives
    from unveil.aos import prune as pruning

    catalogue = archives.scan(paths, verify=verify, workers=workers)
    print(pruning.prune(catalogue, yes, discard, all_named, drop_foreign, despite_damaged))
    return complain(f"{found.archive}: {found.reason}" for found in catalogue.damaged)


@app.command(group=FOREST)
def unprune(paths: Paths, *, yes: Annotated[bool, about("really put the files back")] = False) -> None:
    """Put back what prune moved into ARCHIVE.dropped.zip."""
    from unveil.aos import prune as pruning

    print(pruning.restore_dropped(paths, yes=yes))


@app.command(group=FOREST)
def integrate(
    paths: Paths,
    *,
    out: Annotated[Out, about("folder of the stack store")] = DATA / "stacks",
    heights: Annotated[str, about("focal heights in metres, comma separated")] = "0.2,0.6,1.0,1.4,1.8",
    png: Annotated[Out | None, about("also write every plane as PNG into this folder")] = None,
    delete_archives: Annotated[bool, about("delete each archive after its stacks were compared with it")] = False,
    workers: console.Workers = CORES,
) -> int:
    """Turn complete runs into focal stacks; goes on where an earlier call stopped."""
    try:
        metres = [float(height) for height in heights.split(",")]
    except ValueError:
        raise UnveilError(f"--heights {heights!r}: no list of heights in metres such as 0.2,0.6,1.0") from None
    from unveil.aos import archives, build
    from unveil.aos import prune as pruning

    catalogue = archives.scan(paths)
    troubles = catalogue.troubles()
    if troubles and not catalogue.complete:
        raise UnveilError(troubles[0])
    store = build.build_stacks(catalogue, out, heights=metres, workers=workers, png=png, progress=progress("run"))
    print(f"{len(store)} focal stacks of {len(store.heights)} planes in {out}")
    if catalogue.incomplete:
        print(f"{len(catalogue.incomplete)} incomplete runs left out; python -m unveil scan names them")
    if delete_archives:
        print(pruning.delete_verified(catalogue, store, workers).report())
    return complain([*troubles, *(f"{run}: {reason}" for run, reason in store.skipped.items())])


@app.command(group=FOREST)
def train(
    *,
    stacks: Annotated[Path, about("stack store to learn from: the focal-stack network")] = DATA / "stacks",
    archives: Annotated[Given | None, about("learn from these archives' views instead: the multi-view network")] = None,
    preset: Annotated[str | None, about(f"remake shipped weights: full (all of them), {SHIPPED}")] = None,
    out: Annotated[Out, about("folder of the training; a repeated call goes on there")] = DATA / "checkpoints/command",
    fresh: Annotated[bool, about("do not go on from the last checkpoint")] = False,
    network: Annotated[str | None, about(f"another network: {NETWORKS}")] = None,
    network_options: Annotated[Named, about("options of the network: JSON or pairs such as features=[32,64]")] = None,
    loss: Annotated[str | None, about(f"another loss: {LOSSES}")] = None,
    loss_options: Annotated[Named, about("options of the loss: JSON or pairs such as object_weight=5")] = None,
    options: Annotated[Named, about("further options of the training: JSON or pairs such as average=0.999")] = None,
    crop: Annotated[int, about("side of the training crops in pixels; 0: the preset's")] = 0,
    crops: Annotated[Count, about("crops in an epoch, about")] = 2400,
    epochs: Annotated[Count | None, about("passes over the crops")] = None,
    batch: Annotated[Count | None, about("crops in a step")] = None,
    learning_rate: Annotated[Positive | None, about("its peak, after the warm-up")] = None,
    minutes: Annotated[Positive | None, about("stop after the epoch in which this time is over")] = None,
    seed: Seed | None = None,
    devices: Annotated[str | None, about("number of processes or GPUs, passed to Lightning")] = None,
    num_nodes: Annotated[Count | None, about("passed to Lightning")] = None,
    strategy: Annotated[str | None, about("passed to Lightning, for example ddp")] = None,
    workers: Annotated[Count, about("processes that simulate runs for --preset")] = CORES,
) -> None:
    """Train on your own runs, or remake shipped weights with --preset; what is not given is the preset's."""
    known = {"network": network, "loss": loss, "epochs": epochs, "batch": batch, "learning_rate": learning_rate}
    known |= {"minutes": minutes, "seed": seed, "num_nodes": num_nodes, "strategy": strategy}
    known |= {"devices": int(devices) if devices and devices.isdigit() else devices}
    known |= {"network_options": named(network_options), "loss_options": named(loss_options)}
    changes = {name: value for name, value in known.items() if value is not None} | (named(options) or {})
    runs = None if preset else _runs(archives, stacks)
    from unveil.tasks.forest import presets

    if preset:
        for name in presets.PRESETS if preset == "full" else [preset]:
            print(presets.make(name, out, workers, **changes))
        return
    fit = presets.train(runs, out, crop=crop, crops=crops, resume=not fresh, **changes)
    best = fit.history["val_psnr"].max()
    print(f"{len(fit.history)} epochs ({fit.ended}), best validation PSNR {best:.2f} dB, weights in {fit.weights}")


@app.command(group=FOREST)
def tune(
    *,
    runs: Annotated[Out, about("folder of the simulated runs, made when absent")] = DATA / "checkpoints/command",
    out: Annotated[Out, about("the table; a repeated call adds what it lacks")] = DATA / "results/tuning.csv",
    minutes: Annotated[Positive, about("processor time of each training")] = 2.0,
    only: Annotated[str | None, about("only the choices of this factor")] = None,
) -> None:
    """Train the focal-stack network with one factor changed at a time."""
    from unveil.tasks.forest import presets

    print(f"{len(presets.study(runs, out, minutes=minutes, only=only))} rows in {out}")


@app.command(group=FOREST)
def evaluate(
    *,
    weights: Annotated[Given | None, about("safetensors file; without it the shipped ones")] = None,
    stacks: Annotated[Path, about("stack store to score on")] = DATA / "stacks",
    archives: Annotated[Given | None, about("score on every run of these archives instead")] = None,
    subset: Annotated[Literal["test", "validation", "train", "all"], about("which runs of the stacks")] = "test",
    out: Annotated[Out | None, about("write one row per run and model as CSV")] = None,
) -> None:
    """Score weights beside all baselines."""
    runs = _runs(archives, stacks)
    from unveil import files
    from unveil.tasks.forest import persons, restoring
    from unveil.tasks.forest.pairs import split

    ids = runs.ids if archives or subset == "all" else split(runs)[subset]
    if not ids:
        raise UnveilError(f"{stacks}: its {len(runs)} runs are too few for a {subset} subset; use --subset all")
    table = restoring.evaluate(weights, runs, ids)
    print(persons.summary(table, ["model", "density"]).drop(columns="mse").round(3).to_string())
    if out:
        print(f"table of every run in {files.write(out, table.to_csv(index=False))}")


@app.command(group=FOREST)
def restore(
    given: Annotated[Given, about("folder of integral images or views, of many runs, or of such folders; or a ZIP")],
    *,
    out: Annotated[Out, about("folder for prediction.png and comparison.png")],
    weights: Annotated[Given | None, about("safetensors file; without it the shipped ones")] = None,
    ground: Annotated[float, about("height of the ground in metres, of views with poses.json")] = 0.0,
) -> int:
    """Restore integral images or views of runs (mean of four mirrored inputs)."""
    if not given.is_dir() and given.suffix.lower() != ".zip":
        raise UnveilError(f"{given}: no folder and no ZIP; give PNGs named by height in cm, or a run's views")
    for odd in (item for item in given.glob("*") if not (item.is_file() or item.is_dir())):
        raise UnveilError(f"{odd}: neither a file nor a folder; remove it")
    from unveil.tasks.forest import restoring

    results = restoring.restore_folders(given, out, weights, ground, progress("tile"))
    return 1 if any(done.error for done in results) else 0


@app.command(group=FOREST)
def flight(
    folder: Annotated[Given, about("folder with pictures and their poses (poses.json, poses.csv), or the pose file")],
    *,
    out: Annotated[Out, about("folder for report.html, people.csv, pictures and the refined poses")],
    images: Annotated[Given | None, about("where the pictures lie, if neither beside the poses nor in images")] = None,
    fov: Annotated[Positive | None, about("vertical field of view in degrees, if the poses name none")] = None,
) -> None:
    """Find people in a search flight: ground, poses, restored picture, ranked list."""
    from unveil.aos import flights

    given = flights.read(folder, level=True, images=images, fov=fov)
    from unveil.tasks.forest import flight as flying

    found = flying.survey(given, progress("step"), flying.network, flying.attention)
    print("\n".join(flying.write(found, out)))
    print(f"look at {out / 'report.html'}")


@app.command(group=PHOTOS)
def denoise(
    images: Annotated[Paths, about("pictures of any kind, or folders of them")],
    *,
    out: Annotated[Out, about("folder for Model1.png to Model3.png, Deep.png and the comparison")],
    overwrite: Annotated[bool, about("replace what is in the folder")] = False,
) -> int:
    """Take the noise out of pictures, by the exercise's three networks and by a deeper one."""
    from unveil.tasks import denoising

    return complain(denoising.run(images, out, overwrite, progress("tile")))


@app.command(group=PHOTOS)
def upscale(
    images: Annotated[Paths, about("pictures of any kind, or folders of them")],
    *,
    out: Annotated[Out, about("folder for the pictures and comparisons")],
    scale: Annotated[Literal[2, 4], about("4 applies the factor 2 twice")] = 2,
    network: Annotated[Literal["deep", "subpixel", "srcnn"], about("deep takes three times as long")] = "subpixel",
    overwrite: Annotated[bool, about("replace what is in the folder")] = False,
) -> int:
    """Give pictures two or four times as many pixels a side."""
    from unveil.tasks import super_resolution

    return complain(super_resolution.run(images, out, scale, network, overwrite, progress("row")))


@app.command(group=PHOTOS)
def photo(
    images: Annotated[Paths, about("scans, or folders of them")],
    *,
    out: Annotated[Out, about("folder for mask, repaired and coloured picture, and comparison")],
    colour: Annotated[bool, about("guess colours, too")] = False,
    mask: Annotated[Given | None, about("damage painted white or opaque, instead of what is found")] = None,
    hints: Annotated[Given | None, about("strokes of colour on the photograph, or on a transparent picture")] = None,
    overwrite: Annotated[bool, about("replace what is in the folder")] = False,
) -> int:
    """Repair old photographs, and colour them."""
    from unveil.tasks import old_photos

    return complain(old_photos.run(images, out, colour, mask, hints, overwrite))


@app.command(group=PHOTOS)
def learn(
    task: Annotated[Literal["denoising", "super_resolution", "old_photos", "depth", "wild"], about("what to restore")],
    preset: Annotated[str, about(f"one of the task's: {LEARNT}")],
    *,
    out: Annotated[Out | None, about("folder of the training, which goes on where it stopped")] = None,
    changes: Annotated[Named, about("options to change, as name=value: cpu_minutes=2")] = None,
) -> None:
    """Train a task's shipped weights again."""
    from importlib import import_module

    from unveil.tasks import common

    folder = out or DATA / "checkpoints" / task / preset
    presets = import_module(f"unveil.tasks.{task}").PRESETS
    print(common.make(task, presets, preset, folder, **(named(changes) or {})))


@app.command(group=PHOTOS)
def results(
    task: Annotated[Literal["denoising", "super_resolution", "old_photos", "wild"], about("what to restore")],
    *,
    outside: Annotated[Given | None, about("folder of further test pictures; without it $UNVEIL_SIBLINGS")] = None,
) -> None:
    """Score a task's weights beside the classical ways back, and keep the table beside them."""
    from importlib import import_module

    given = outside or os.environ.get("UNVEIL_SIBLINGS")
    table = import_module(f"unveil.tasks.{task}").results(given)
    print(table.groupby(["set", "model"], sort=False, observed=True).mean(numeric_only=True).round(3).to_string())


app.command(
    "unveil.tasks.depth_commands:app",
    name="depth",
    group=DEPTH,
    help="Depth frames of a 3-D camera: crop, train, test, statistics, table.",
)


@app.command(group=HOUSE)
def slides(
    *,
    out: Annotated[Out, about("folder of the talks")] = WORK / "slides",
    results: Annotated[Path, about("stored results")] = DATA / "results",
    figures: Annotated[Path, about("stored figures")] = WORK / "figures",
    no_pdf: Annotated[bool, about("PowerPoint only")] = False,
) -> None:
    """Build the four slide decks from stored results and figures."""
    from unveil.show import slides as decks

    made = decks.build(out, results=results, figures=figures)
    for path in [*made, *([] if no_pdf else decks.to_pdf(made))]:
        print(path)


@app.command(group=HOUSE)
def fetch(
    name: Annotated[Literal["flight", "focal_stack", "course_pairs", "course_run"], about("data set")],
    *,
    local: Annotated[Given | None, Parameter("--from", help="folder to copy from instead of downloading")] = None,
) -> None:
    """Bring public data into data/reference, with their licence, checked by SHA-256; a repeated call goes on."""
    from unveil import fetch as fetching

    print(f"{name} is in {fetching.fetch(name, local, progress('B'))}")


@app.command(group=HOUSE)
def site(*, out: Annotated[Out, about("folder of the pages")] = WORK / "site") -> None:
    """Render the executed notebooks as a static site, with the focal scrubber at work in it."""
    from unveil import notebooks as books
    from unveil.show import site as pages
    from unveil.show.widgets import focal_scrubber
    from unveil.tasks.forest import results

    # The run of the hero picture; the pin is on the person's shoulder.
    scrubber = focal_scrubber(results.run("0_44"), heights=(0, 7), step=0.1, height=7, pin=(312, 128))
    scrubber.zoom = 3
    print(pages.build(out, [*books.course(), *books.solutions()], scrubber, progress("notebook")))


@app.command(group=HOUSE)
def page() -> None:
    """Write docs/results.md anew from the tables stored beside the weights."""
    from unveil import files
    from unveil.tasks import report

    print(files.write(report.PAGE, report.page(report.PAGE.read_text(encoding="utf-8"))))


@app.command(group=HOUSE)
def run() -> None:
    """Execute the notebooks in order and say what was made."""
    from unveil import notebooks as books

    books.run()


@app.command(group=HOUSE)
def notebooks(paths: Annotated[list[Path] | None, about("notebooks; without it all", negative=())] = None, /) -> None:
    """Execute the committed notebooks in place and clean them."""
    from unveil import notebooks as books

    for path in paths or [*books.course(), *books.solutions()]:
        books.execute(path, path)


@app.command(group=HOUSE)
def badges(
    *, url: Annotated[str | None, about("https://github.com/OWNER/NAME; without it git's origin")] = None
) -> None:
    """Point Colab badges and clone URLs at the repository's origin."""
    from unveil import notebooks as books

    home = url or books.repository()
    changed = books.write_badges(home, [*books.course(), *books.solutions(), project.ROOT / "README.md"])
    print(f"{home}: {len(changed)} files changed")


def _runs(archives: Path | None, stacks: Path) -> Any:
    """The run store that a command works on, opened before torch is imported."""
    if archives is None:
        from unveil.aos.store import Store

        return Store(stacks)
    from unveil.aos.archives import ArchiveRuns, scan

    complete = scan([archives]).complete
    if not complete:
        raise UnveilError(f"{archives}: holds no complete run; python -m unveil scan says what it lacks")
    return ArchiveRuns(complete)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    return console.call(app, argv)


if __name__ == "__main__":
    sys.exit(main())
