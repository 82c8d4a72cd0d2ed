"""Public data by address and checksum: whole and as they were published, or not at all.

``data/sources.json`` names each set's page, licence, files (bytes and SHA-256) and, where one is known to work, the
address of the folder that holds them.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from unveil import files, project
from unveil.errors import UnveilError

TABLE = project.ROOT / "data" / "sources.json"
LICENCE = "LICENCE.txt"

Progress = Callable[[int, int], None]


def fetch(name: str, local: Path | None = None, progress: Progress | None = None) -> Path:
    """Bring the set ``name`` into ``data/reference/<name>`` (or ``UNVEIL_REFERENCE``); returns that folder.

    Files that are there already are kept if their checksums are right, so that a broken download goes on there.
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
        if local is None:
            origin = urllib.parse.urljoin(source["url"], urllib.parse.quote(file))
            content = _download(origin, where)
        else:
            origin = next((p for p in (local / file, local / Path(file).name) if p.is_file()), None)
            if origin is None:
                raise UnveilError(f"{local / file}: is not there; name the folder that holds it with --from")
            content = origin.read_bytes()
        if sha256 not in (None, hashlib.sha256(content).hexdigest()):
            what = f"its SHA-256 is not {sha256[:12]}…, so it is damaged or another version"
            raise UnveilError(f"{origin}: {what}; get it anew")
        files.write(folder / file, content)
        done += size
        tell(done, total)
    return folder


def _right(path: Path, sha256: str | None) -> bool:
    return path.is_file() and sha256 in (None, hashlib.sha256(path.read_bytes()).hexdigest())


def _download(address: str, where: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        raise UnveilError(f"{address}: the server says {error.code} {error.reason}; {where}") from None
    except http.client.IncompleteRead as error:
        broke = f"the connection broke after {len(error.partial)} bytes"
        raise UnveilError(f"{address}: {broke}; call it again to go on") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UnveilError(f"{address}: no connection ({reason}); call it again to go on, or {where}") from None
