"""Public data from a local HTTP server: whole, broken off, resumed, wrong; and from a folder."""

import hashlib
import http.server
import json
import threading
from functools import partial

import pytest

from unveil import fetch, project
from unveil.__main__ import main
from unveil.errors import UnveilError

CONTENT = {"a.png": bytes(range(256)) * 800, "images/b c.png": b"picture"}


class Server(http.server.SimpleHTTPRequestHandler):
    """Sends files, or parts of them; breaks off after ``limit`` bytes."""

    limit, asked = None, []

    def do_GET(self):
        path = self.translate_path(self.path)
        try:
            content = open(path, "rb").read()
        except OSError:
            return self.send_error(404)
        given = self.headers.get("Range")
        self.asked.append(given)
        first = int(given.removeprefix("bytes=").rstrip("-")) if given else 0
        if first >= len(content):
            return self.send_error(416)
        self.send_response(206 if given else 200)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        self.wfile.write(content[first:][: self.limit])

    def log_message(self, *_):
        pass


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder that a server publishes; its table of one set; the reference folder is ``tmp_path / reference``."""
    for name, content in CONTENT.items():
        path = tmp_path / "public" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, directory=str(tmp_path / "public")))
    monkeypatch.setattr(Server, "limit", None)
    monkeypatch.setattr(Server, "asked", [])
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    known = {name: [len(content), hashlib.sha256(content).hexdigest()] for name, content in CONTENT.items()}
    source = {"what": "a flight", "page": "https://example.org", "licence": "For everybody.", "files": known}
    publish(tmp_path, monkeypatch, source | {"url": f"http://127.0.0.1:{server.server_port}/"})
    monkeypatch.setenv("UNVEIL_REFERENCE", str(tmp_path / "reference"))
    yield tmp_path
    server.shutdown()
    server.server_close()


def publish(folder, monkeypatch, source):
    (folder / "sources.json").write_text(json.dumps({"flight": source}))
    monkeypatch.setattr(fetch, "TABLE", folder / "sources.json")


def source(place):
    return json.loads((place / "sources.json").read_text())["flight"]


def got(place):
    folder = place / "reference" / "flight"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_download_is_whole_and_has_its_licence(place, capsys):
    seen = []
    fetch.fetch("flight", progress=lambda done, total: seen.append((done, total)))
    assert capsys.readouterr().out.endswith("For everybody.\n"), "the licence is shown"
    found = got(place)
    assert b"For everybody." in found.pop("LICENCE.txt") and found == CONTENT
    total = sum(map(len, CONTENT.values()))
    assert seen == sorted(seen) and seen[-1] == (total, total) and len(seen) > 3
    fetch.fetch("flight")
    assert len(Server.asked) == 2, "what is there is not asked for again"


def test_a_broken_download_goes_on_where_it_broke(place, monkeypatch, capsys):
    monkeypatch.setattr(Server, "limit", 70_000)
    assert main(["fetch", "flight"]) == 2
    said = capsys.readouterr().err
    assert "a.png: the connection broke after 70000 bytes; call it again" in said and said.count("\n") == 1
    assert "a.png" not in got(place), "nothing half stands under a final name"
    monkeypatch.setattr(Server, "limit", None)
    assert main(["fetch", "flight"]) == 0
    assert Server.asked == [None, "bytes=70000-", None]
    assert {name: content for name, content in got(place).items() if name != fetch.LICENCE} == CONTENT


def test_a_wrong_checksum_leaves_nothing_behind(place, capsys):
    (place / "public" / "a.png").write_bytes(CONTENT["a.png"][::-1])
    for _ in range(2):
        assert main(["fetch", "flight"]) == 2
        assert "a.png: its SHA-256 is not" in capsys.readouterr().err
        assert set(got(place)) == {fetch.LICENCE}, "the next call starts anew"


def test_all_bytes_were_there_when_it_broke(place):
    part = place / "reference" / "flight" / "a.png.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT["a.png"])
    fetch.fetch("flight")
    assert got(place)["a.png"] == CONTENT["a.png"] and not part.exists()


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:9/", "http://unveil.invalid/"])
def test_without_address_or_network_one_line_says_what_to_do(place, monkeypatch, capsys, url):
    publish(place, monkeypatch, source(place) | {"url": url})
    assert main(["fetch", "flight"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "get a flight from https://example.org, then: python -m unveil fetch" in said


def test_a_missing_file_is_named(place, capsys):
    (place / "public" / "a.png").unlink()
    assert main(["fetch", "flight"]) == 2
    assert "a.png: the server says 404" in capsys.readouterr().err


def test_a_local_copy(place, monkeypatch, capsys):
    publish(place, monkeypatch, source(place) | {"url": None})
    flat = place / "flat"
    flat.mkdir()
    for name, content in CONTENT.items():
        (flat / name.split("/")[-1]).write_bytes(content)
    assert main(["fetch", "flight", "--from", str(flat)]) == 0
    assert set(got(place)) == {*CONTENT, fetch.LICENCE}
    assert main(["fetch", "flight"]) == 0, "all is there"
    (place / "reference" / "flight" / "a.png").unlink()
    (flat / "a.png").write_bytes(b"another")
    with pytest.raises(UnveilError, match="a.png: its SHA-256 is not"):
        fetch.fetch("flight", flat)
    (flat / "a.png").unlink()
    with pytest.raises(UnveilError, match="a.png: is not there"):
        fetch.fetch("flight", flat)


def test_a_set_without_a_list_is_copied_as_it_is(place, monkeypatch):
    publish(place, monkeypatch, source(place) | {"files": None})
    with pytest.raises(UnveilError, match="--from"):
        fetch.fetch("flight")
    fetch.fetch("flight", place / "public")
    assert set(got(place)) == {"a.png", fetch.LICENCE}


def test_the_table(capsys):
    table = json.loads(fetch.TABLE.read_text("utf-8"))
    main(["fetch", "--help"])
    assert f"[choices: {', '.join(table)}]" in " ".join(capsys.readouterr().out.split())
    for name, entry in table.items():
        assert set(entry) == {"what", "page", "url", "licence", "files"} and entry["licence"]
        folder = project.reference(name)
        for file, (size, sha256) in (entry["files"] or {}).items():
            if (folder / file).is_file() and sha256:
                assert (folder / file).stat().st_size == size and fetch._digest(folder / file) == sha256
