"""Public data by address and checksum: whole and as they were published, or not at all.

``data/sources.json`` names each set's page, licence, files (bytes and SHA-256) and, where one is known to work, the
address of the folder that holds them.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unveil import files, project
from unveil.errors import UnveilError

TABLE = project.ROOT / "data" / "sources.json"
LICENCE = "LICENCE.txt"

Progress = Callable[[int, int], None]


def fetch(name: str, local: Path | None = None, progress: Progress | None = None) -> Path:
    """Bring the set ``name`` into ``data/reference/<name>`` (or ``UNVEIL_REFERENCE``); returns that folder.

    Files that are there already are kept if their checksums are right; a broken download goes on where it broke.
    ``local`` is a folder to copy from instead. ``progress`` counts bytes. UnveilError for a set without an address, no
    network, a connection that breaks, a file that is missing or has another checksum.
    """
    source = json.loads(TABLE.read_text("utf-8"))[name]
    folder, wanted = project.reference(name), source["files"]
    if wanted is None and local is not None:
        wanted = {path.name: [path.stat().st_size, None] for path in sorted(local.iterdir()) if path.is_file()}
    where = f"get {source['what']} from {source['page']}, then: python -m unveil fetch {name} --from FOLDER"
    lacking = [file for file, (_, sha256) in (wanted or {}).items() if not _right(folder / file, sha256)]
    if local is None and (wanted is None or (lacking and not source["url"])):
        raise UnveilError(f"{name}: no address is known to work; {where}")
    print(f"{source['what']}, {source['page']}\n{source['licence']}")
    files.write(folder / LICENCE, f"{source['what']}\n{source['page']}\n\n{source['licence']}\n")
    total, done, tell = sum(wanted[file][0] for file in lacking), 0, progress or (lambda *_: None)
    for file in lacking:
        size, sha256 = wanted[file]
        if local is not None:
            _copy(local, file, folder / file, sha256)
        else:
            address = urllib.parse.urljoin(source["url"], urllib.parse.quote(file))
            _download(address, folder / file, sha256, where, lambda now, at=done: tell(at + now, total))
        done += size
        tell(done, total)
    return folder


def _right(path: Path, sha256: str | None) -> bool:
    return path.is_file() and sha256 in (None, _digest(path))


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _copy(local: Path, name: str, path: Path, sha256: str | None) -> None:
    places = [local / name, local / Path(name).name]
    source = next((place for place in places if place.is_file()), None)
    if source is None:
        raise UnveilError(f"{places[0]}: is not there; name the folder that holds it with --from")
    _check(source, str(source), sha256)
    files.write(path, source.read_bytes())


def _check(path: Path, name: str, sha256: str | None) -> None:
    if not _right(path, sha256):
        raise UnveilError(
            f"{name}: its SHA-256 is not {sha256[:12]}…, so it is damaged or another version; get it anew"
        )


def _download(address: str, path: Path, sha256: str, where: str, progress: Callable[[int], Any]) -> None:
    """Into ``<path>.part``, which a later call continues; it gets its name when its checksum is right."""
    part = path.with_name(f"{path.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            # A server without ranges sends the whole file with status 200.
            have = have if answer.status == 206 else 0
            left = int(answer.headers.get("Content-Length", -1))
            with part.open("ab" if have else "wb") as out:
                while block := answer.read(1 << 16):
                    out.write(block)
                    have, left = have + len(block), left - len(block)
                    progress(have)
        if left > 0:
            raise UnveilError(f"{address}: the connection broke after {have} bytes; call it again to go on")
    except urllib.error.HTTPError as error:
        if error.code != 416:  # all bytes are here, or too many: the checksum tells
            raise UnveilError(f"{address}: the server says {error.code} {error.reason}; {where}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UnveilError(f"{address}: no connection ({reason}); call it again to go on, or {where}") from None
    try:
        _check(part, address, sha256)
    except UnveilError:
        part.unlink()
        raise
    os.replace(part, path)
