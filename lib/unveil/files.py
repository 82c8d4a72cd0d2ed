"""The one way in which the project writes files: whole under their final names, or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from unveil.errors import UnveilError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path``, which takes its place when the block ends without an exception.

    Missing folders are made. An :class:`OSError` (no space, no permission) becomes an :class:`UnveilError` of one line;
    whatever goes wrong, the temporary file is removed and ``path`` keeps what it was before.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The suffix stays last, because writers such as numpy and Pillow go by it.
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.part-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        with open(temporary, "rb") as whole:
            os.fsync(whole.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise UnveilError(f"{path}: cannot be written ({reason}); free space or choose another place") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


def sweep(folder: Path, stem: str = "*") -> None:
    """Remove the temporary files that killed writers left in a folder, or those of the files with this stem."""
    for leftover in folder.glob(f".{stem}.part-*"):
        leftover.unlink(missing_ok=True)


def write(path: str | os.PathLike[str], content: bytes | bytearray | memoryview | str) -> Path:
    """Write bytes, or text as UTF-8; see :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    return Path(path)


def read_json(path: str | os.PathLike[str], remedy: str) -> Any:
    """The content of a JSON file; :class:`UnveilError` where it cannot be read or, with the ``remedy``, is damaged."""
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise UnveilError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    except ValueError as error:
        raise UnveilError(f"{path}: not JSON ({error}); {remedy}") from error


def write_json(path: str | os.PathLike[str], content: Any) -> Path:
    """Write JSON with an indentation of 1; numpy scalars become numbers and paths become text."""

    def plain(value: Any) -> Any:
        return value.item() if hasattr(value, "item") else str(value)

    return write(path, json.dumps(content, indent=1, default=plain) + "\n")
