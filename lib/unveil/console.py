"""What all commands share: kinds of options, progress, troubles and errors in one line."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number

from unveil.errors import UnveilError


def about(text: str, **more: Any) -> Parameter:
    """The help of an option."""
    return Parameter(help=text, **more)


def _there(_: type, given: Path | Sequence[Path] | None) -> None:
    for path in [given] if isinstance(given, Path) else given or ():
        if not (path.is_file() or path.is_dir()):  # a pipe or /dev/zero would never end
            what = "neither a file nor a folder" if path.exists() else "not there"
            raise ValueError(f"{path} is {what}; name an existing file or folder.")


def _holds_files(_: type, path: Path | None) -> None:
    if path is None:
        return
    place = next((p for p in (path, *path.parents) if os.path.lexists(p)), path)
    if not (place.is_dir() or (place == path and path.suffix)):
        raise ValueError(f"{place} is no folder; choose another place.")
    if not os.access(place, os.W_OK):
        raise ValueError(f"{place} cannot be written; choose another place.")


Given = Annotated[Path, Parameter(validator=_there)]
Out = Annotated[Path, Parameter(validator=_holds_files)]
Count = Annotated[int, Parameter(validator=Number(gte=1))]
Seed = Annotated[int, Parameter(validator=Number(gte=0, lt=2**32), help="where all chance comes from")]
Share = Annotated[float, Parameter(validator=Number(gte=0, lte=1))]
Workers = Annotated[int, Parameter(validator=Number(gte=1), help="processes or threads that share the work")]
Positive = Annotated[float, Parameter(validator=Number(gt=0, lt=1e9))]
Named = Annotated[list[str] | None, Parameter(consume_multiple=True)]
Paths = Annotated[list[Path], Parameter(validator=_there, help="ZIP archives or folders of them", negative=())]


def keys(file: str, name: str) -> str:
    """The keys of a dictionary in a module or JSON file, for help texts: read from the source, without torch."""
    text = Path(__file__).parent.joinpath(file).read_text("utf-8")
    if file.endswith(".json"):
        return ", ".join(json.loads(text)[name])
    body = re.search(rf"^{name}\b[^\n]*{{\n(.*?)^}}", text, re.MULTILINE | re.DOTALL)[1]
    return ", ".join(re.findall(r'^    "(\w+)": ', body, re.MULTILINE))


def named(given: Sequence[str] | None) -> dict[str, Any] | None:
    """Options given as JSON objects or as name=value, where a value is JSON if it can be read so, else text."""
    if given is None:
        return None
    found: dict[str, Any] = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            found |= json.loads(text) if text.startswith("{") else {name: json.loads(value)}
        except ValueError:
            if text.startswith("{") or not value:
                raise UnveilError(f"{text!r}: neither a JSON object nor name=value") from None
            found[name] = value
    return found


def complain(troubles: Iterable[str]) -> int:
    """Name on stderr, where a pipe does not hide it, what was left out; the exit status is 1 if anything was."""
    troubles = list(troubles)
    for trouble in troubles:
        print(f"skipped {trouble}", file=sys.stderr)
    return 1 if troubles else 0


def progress(unit: str) -> Callable[[int, int], None] | None:
    """A progress bar as a callback of (done, total); None where nobody watches."""
    if not sys.stderr.isatty():
        return None
    from tqdm import tqdm

    bar = tqdm(unit=unit, unit_scale=unit == "B", leave=False)

    def update(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)
        if done >= total:
            bar.close()

    return update


def call(app: App, argv: Sequence[str] | None = None) -> int:
    """Run one command; an error that the user can mend ends in one line on stderr and status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A console that lacks a character shows "?" instead of ending the work.
            stream.reconfigure(errors="replace")
    given = sys.argv[1:] if argv is None else list(argv)
    name = f"unveil {given[0]}" if given else "unveil"
    try:
        status = app(given, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
        return status or 0
    except CycloptsError as error:
        said = f"{' '.join(str(error).split())} See --help."
    except UnveilError as error:
        said = str(error)
    except BrokenPipeError:
        # Whoever read the output has seen enough; the interpreter must not complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        said = f"{where}{error.strerror or error}; check the path, free space or choose another"
    except KeyboardInterrupt:
        print(f"{name}: interrupted; call it again to go on", file=sys.stderr)
        return 130
    print(f"{name}: {said}", file=sys.stderr)
    return 2
