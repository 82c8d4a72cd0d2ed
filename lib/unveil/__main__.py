"""The notebooks' steps as commands: ``python -m unveil COMMAND --help``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from unveil import project
from unveil.errors import UnveilError


def simulate(args: argparse.Namespace) -> None:
    """Write simulated runs into ZIP archives in the course's layout."""
    from unveil.aos import simulator

    made = simulator.simulate(
        args.out,
        args.runs,
        seed=args.seed,
        workers=args.workers,
        incomplete=args.incomplete,
        balanced=args.balanced,
        progress=_progress("run"),
    )
    print(f"{args.runs} runs in {len(made)} archives in {args.out}")


def scan(args: argparse.Namespace) -> int:
    """List complete and incomplete runs of archives without unpacking them."""
    from unveil import recipes
    from unveil.aos import archives

    catalogue = archives.scan(args.paths, verify=args.verify, workers=args.workers)
    print(catalogue.report())
    if args.csv:
        recipes.save_table(catalogue.table(), args.csv)
    return _complain(catalogue.troubles())


def prune(args: argparse.Namespace) -> int:
    """Take the files of unusable runs out of archives; says what it would do unless --yes is given."""
    from unveil.aos import archives
    from unveil.aos import prune as pruning

    catalogue = archives.scan(args.paths, verify=args.verify, workers=args.workers)
    report = pruning.prune(
        catalogue,
        yes=args.yes,
        discard=args.discard,
        all_named=args.all_named,
        drop_foreign=args.drop_foreign,
        despite_damaged=args.despite_damaged,
    )
    print(report)
    return _complain(f"{found.archive}: {found.reason}" for found in catalogue.damaged)


def unprune(args: argparse.Namespace) -> None:
    """Put back what prune moved into <archive>.dropped.zip; says what it would do unless --yes is given."""
    from unveil.aos import prune as pruning

    print(pruning.restore_dropped(args.paths, yes=args.yes))


def integrate(args: argparse.Namespace) -> int:
    """Turn every complete run into a focal stack; goes on where an earlier call stopped."""
    from unveil.aos import archives, build
    from unveil.aos import prune as pruning

    catalogue = archives.scan(args.paths)
    damaged = catalogue.troubles()
    if damaged and not catalogue.complete:
        raise UnveilError(damaged[0])
    store = build.build_stacks(
        catalogue, args.out, heights=args.heights, workers=args.workers, png=args.png, progress=_progress("run")
    )
    print(f"{len(store)} focal stacks of {len(store.heights)} planes in {args.out}")
    if catalogue.incomplete:
        print(f"{len(catalogue.incomplete)} incomplete runs left out; python -m unveil scan names them")
    if args.delete_archives:
        print(pruning.delete_verified(catalogue, store, args.workers).report())
    return _complain([*damaged, *(f"{run_id}: {reason}" for run_id, reason in store.skipped.items())])


def train(args: argparse.Namespace) -> None:
    """Train a network on a stack store, or remake shipped weights with --preset."""
    from unveil import recipes

    if args.preset:
        recipes.make(args.preset, args.out, minutes=args.minutes, devices=args.devices, workers=args.workers)
        return
    changes = {
        name: getattr(args, name)
        for name in (
            "network",
            "epochs",
            "batch",
            "learning_rate",
            "minutes",
            "seed",
            "devices",
            "num_nodes",
            "strategy",
        )
        if getattr(args, name) is not None
    }
    fit = recipes.train_on_stacks(args.stacks, args.out, crop=args.crop, resume=not args.fresh, **changes)
    best = fit.history["val_psnr"].max()
    print(f"{len(fit.history)} epochs, best validation PSNR {best:.2f} dB, weights in {fit.weights}")


def tune(args: argparse.Namespace) -> int:
    """Train the focal-stack network with one factor changed at a time; goes on where an earlier call stopped."""
    from unveil import tuning

    return _complain(tuning.study(args.runs, args.out, minutes=args.minutes, only=args.only))


def evaluate(args: argparse.Namespace) -> None:
    """Score weights beside the baselines on a stack store, or on every run of archives."""
    from unveil import recipes

    if args.archives:
        table = recipes.evaluate_on_archives(args.weights, args.archives)
    else:
        table = recipes.evaluate_on_stacks(args.weights, args.stacks, subset=args.subset)
    print(recipes.readable(table))
    if args.out:
        recipes.save_table(table, args.out)
        print(f"table of every run in {args.out}")


def restore(args: argparse.Namespace) -> int:
    """Restore a folder of integral images (or of 11 views), or a folder of such folders."""
    from unveil import recipes

    done = recipes.restore_folders(args.folder, args.out, weights=args.weights)
    return 1 if any(result.error for result in done) else 0


def slides(args: argparse.Namespace) -> None:
    """Build the four slide decks from stored results and figures."""
    from unveil.show import slides as decks

    made = decks.build(args.out, results=args.results, figures=args.figures)
    for path in [*made, *(decks.to_pdf(made) if args.pdf else [])]:
        print(path)


def run(args: argparse.Namespace) -> None:
    """Execute the six notebooks in order and say what was made."""
    from unveil import recipes

    recipes.run_course()


def notebooks(args: argparse.Namespace) -> None:
    """Execute the committed notebooks in place and clean them."""
    from unveil import notebooks as books

    for path in args.paths or [*books.course(), *books.solutions()]:
        books.execute(Path(path), Path(path))


def figures(args: argparse.Namespace) -> None:
    """Rebuild the figures and their index; stored archives, stacks and trainings are used again."""
    from unveil import recipes

    recipes.run_course()


def badges(args: argparse.Namespace) -> None:
    """Point Colab badges and clone URLs at the repository's origin."""
    from unveil import notebooks as books

    home = args.url or books.repository()
    paths = [*books.course(), *books.solutions(), project.ROOT / "README.md"]
    changed = books.write_badges(home, paths)
    print(f"{home}: {len(changed)} files changed")


def _complain(troubles: Iterable[str]) -> int:
    """Name on stderr, where a pipe does not hide it, what was left out; the exit status is 1 if anything was."""
    troubles = list(troubles)
    for trouble in troubles:
        print(f"skipped {trouble}", file=sys.stderr)
    return 1 if troubles else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m unveil", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    cores = os.cpu_count() or 1

    def command(function: Callable[[argparse.Namespace], int | None]) -> argparse.ArgumentParser:
        text = function.__doc__.split("\n")[0]
        added = commands.add_parser(function.__name__, help=text, description=text)
        added.set_defaults(run=function)
        return added

    sub = command(simulate)
    sub.add_argument("--runs", type=_count, default=120, help="number of runs (default 120)")
    sub.add_argument("--out", type=Path, default=project.work() / "data" / "archives", help="folder for the ZIPs")
    sub.add_argument("--seed", type=_seed, default=project.SAMPLE_SEED)
    sub.add_argument("--workers", type=_count, default=cores, help="processes; the bytes do not depend on it")
    sub.add_argument("--incomplete", type=_share, default=0.028, help="share of runs with missing files")
    sub.add_argument("--balanced", action="store_true", help="the same number of runs for every pose × density")

    for function in (scan, prune):
        sub = command(function)
        sub.add_argument("paths", nargs="+", type=Path, help="ZIP archives or folders of them")
        sub.add_argument("--verify", action="store_true", help="also read and decode every member")
        sub.add_argument("--workers", type=_count, default=cores)
        if function is scan:
            sub.add_argument("--csv", type=Path, help="write a table with one row per run")
        else:
            sub.add_argument("--yes", action="store_true", help="really rewrite the archives")
            sub.add_argument("--discard", action="store_true", help="delete what is dropped for good")
            sub.add_argument(
                "--all-named",
                action="store_true",
                help="every archive of the set is named, so a run that lacks files may be dropped",
            )
            sub.add_argument("--drop-foreign", action="store_true", help="also drop files that belong to no run")
            sub.add_argument(
                "--despite-damaged",
                action="store_true",
                help="prune although a damaged archive may hold what incomplete runs lack",
            )

    sub = command(unprune)
    sub.add_argument("paths", nargs="+", type=Path, help="pruned archives or folders of them")
    sub.add_argument("--yes", action="store_true", help="really put the files back")

    sub = command(integrate)
    sub.add_argument("paths", nargs="+", type=Path, help="ZIP archives or folders of them")
    sub.add_argument("--out", type=Path, default=project.work() / "data" / "stacks", help="folder of the stack store")
    sub.add_argument("--heights", type=_heights, default=(0.2, 0.6, 1.0, 1.4, 1.8), help="metres, comma separated")
    sub.add_argument("--workers", type=_count, default=cores)
    sub.add_argument("--png", type=Path, help="also write every plane as PNG into this folder")
    sub.add_argument(
        "--delete-archives",
        action="store_true",
        help="delete each archive after its stacks were read back and compared",
    )

    sub = command(train)
    sub.add_argument("--preset", help="remake shipped weights: full (all of them) or one of their names")
    sub.add_argument("--stacks", type=Path, default=project.work() / "data" / "stacks")
    sub.add_argument("--out", type=Path, default=project.work() / "data" / "checkpoints" / "command")
    sub.add_argument("--network")
    sub.add_argument("--epochs", type=_count)
    sub.add_argument("--batch", type=_count)
    sub.add_argument("--crop", type=_count, default=128, help="side of the training crops in pixels")
    sub.add_argument("--learning-rate", type=_positive)
    sub.add_argument("--minutes", type=_positive, help="stop after the epoch in which this time is over")
    sub.add_argument("--seed", type=_seed)
    sub.add_argument("--devices", type=_devices, help="number of processes or GPUs, passed to Lightning")
    sub.add_argument("--num-nodes", type=_count, help="passed to Lightning")
    sub.add_argument("--strategy", help="passed to Lightning, for example ddp")
    sub.add_argument("--workers", type=_count, default=cores)
    sub.add_argument("--fresh", action="store_true", help="do not resume from the last checkpoint")

    sub = command(tune)
    sub.add_argument("--out", type=Path, default=project.work() / "data" / "results" / "tuning.csv", help="the table")
    sub.add_argument(
        "--runs",
        type=Path,
        default=project.work() / "data" / "checkpoints" / "command",
        help="folder of the simulated runs, the --out of train --preset; made when absent",
    )
    sub.add_argument("--minutes", type=_positive, default=2.0, help="processor time of each training (default 2)")
    sub.add_argument("--only", metavar="FACTOR", help="only this factor's configurations")

    sub = command(evaluate)
    sub.add_argument("--weights", type=Path, help="safetensors file (default: the shipped ones)")
    sub.add_argument("--stacks", type=Path, default=project.work() / "data" / "stacks")
    sub.add_argument("--archives", type=Path, help="score on every run of these archives instead")
    sub.add_argument("--subset", choices=("test", "validation", "train", "all"), default="test")
    sub.add_argument("--out", type=Path, help="write one row per run and model as CSV")

    sub = command(restore)
    sub.add_argument("folder", type=Path, help="PNGs named by height in cm, or a run's 11 views, or folders of such")
    sub.add_argument("--out", type=Path, required=True)
    sub.add_argument("--weights", type=Path, help="safetensors file (default: the shipped ones)")

    sub = command(slides)
    sub.add_argument("--out", type=Path, default=project.work() / "slides")
    sub.add_argument("--results", type=Path, default=project.work() / "data" / "results")
    sub.add_argument("--figures", type=Path, default=project.work() / "figures")
    sub.add_argument("--no-pdf", dest="pdf", action="store_false", help="PowerPoint only")

    command(run)
    command(notebooks).add_argument("paths", nargs="*", help="notebooks (default: all)")
    command(figures)
    command(badges).add_argument("--url", help="https://github.com/OWNER/NAME (default: git's origin)")
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError("must lie between 0 and 4294967295")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("must lie between 0 and 1")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be a number above 0")
    return value


def _devices(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _heights(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of heights in metres such as 0.2,0.6,1.0") from None


def _progress(unit: str) -> Callable[[int, int], None] | None:
    """A progress bar as a callback of (done, total); silent where nobody watches."""
    if not sys.stderr.isatty():
        return None
    from tqdm import tqdm

    bar = tqdm(unit=unit, leave=False)

    def update(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)
        if done >= total:
            bar.close()

    return update


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; errors the user can mend end in one line on stderr and status 1."""
    args = _parser().parse_args(argv)
    try:
        status = args.run(args) or 0
        sys.stdout.flush()
        return status
    except UnveilError as error:
        print(f"unveil {args.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read the output has seen enough; the interpreter must not complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"unveil {args.command}: {where}{error.strerror or error}; check the path, free space or choose another",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(f"unveil {args.command}: interrupted; call it again to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
