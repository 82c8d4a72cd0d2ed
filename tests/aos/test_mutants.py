"""Mutated archives, made by seed, and five laws that each must obey.

1. No traceback: nothing but an UnveilError of one line comes out.
2. No wrong pixel: what is read of a run is what was put in.
3. No good run is lost or destroyed: a run whose thirteen files are whole is read, and pruning leaves or gives it back.
4. Every loss is named, with its run or its archive.
5. Memory stays below 500 MB.

``python tests/aos/test_mutants.py 2000 [first seed]`` makes 2,000 of them and lists those that break a law.
"""

import collections
import os
import random
import struct
import subprocess
import sys
import tempfile
import traceback
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2] / "lib"))

from making import png, run_names, write_zip
from test_parameters import SAMPLE

from unveil.aos import archives, build, parameters, prune
from unveil.errors import UnveilError

RUNS = ("0_1", "0_2", "0_3", "1_7")
EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
MEMORY = 500e6


def picture(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    image = np.full((512, 512), 20 + seed % 180, np.uint8)
    image[100:160, 200:260] = rng.integers(0, 256, (60, 60), np.uint8)
    return png(image)


FILES = {
    name: dict(zip(run_names(name), [*(picture(100 * i + k) for k in range(12)), SAMPLE.encode()], strict=True))
    for i, name in enumerate(RUNS)
}


def original() -> dict[str, archives.Run]:
    """What is read of the archives before anything happens to them."""
    with tempfile.TemporaryDirectory() as folder:
        write_zip(Path(folder) / "a.zip", *FILES.values())
        return {entry.id: archives.read_run(entry) for entry in archives.scan(folder).complete}


class Mutant:
    """Two archives of four runs, the third of them split, and what a seed does to them.

    ``hurt`` holds the runs of which a file was changed, so that they may be lost; ``unclear`` those that
    may be used or not.
    """

    def __init__(self, seed: int, folder: Path):
        self.rng = random.Random(seed)
        self.folder = folder
        self.hurt: set[str] = set()
        self.named = 0
        self.unclear: set[str] = set()
        self.files = {name: dict(files) for name, files in FILES.items()}
        self.extra: list[tuple[str, str, bytes]] = []
        self.method, self.streamed = zipfile.ZIP_DEFLATED, False
        kinds = [getattr(self, name) for name in dir(Mutant) if name.startswith("do_")]
        chosen = [kinds[seed % len(kinds)]] + ([self.rng.choice(kinds)] if self.rng.random() < 0.2 else [])
        self.kind = " and ".join(kind.__name__[3:] for kind in chosen)
        early = [kind for kind in chosen if kind.__doc__.startswith("Before")]
        for kind in early:
            kind()
        self.write()
        for kind in chosen:
            if kind not in early:
                kind()

    def write(self) -> None:
        groups = {"a.zip": [self.files["0_1"], self.files["0_2"]], "b.zip": [self.files["1_7"]]}
        split = list(self.files["0_3"].items())
        groups["a.zip"].append(dict(split[:5]))
        groups["b.zip"].append(dict(split[5:]))
        for name, files in groups.items():
            extra = [{path: data} for archive, path, data in self.extra if archive == name]
            write_zip(self.folder / name, *files, *extra, method=self.method, streamed=self.streamed)

    def some_file(self) -> tuple[str, str]:
        run = self.rng.choice(RUNS)
        return run, self.rng.choice(run_names(run))

    def change(self, path: Path, edit) -> None:
        """Edit an archive's bytes; runs of which the bytes of a file changed count as hurt."""
        before = path.read_bytes()
        try:
            with zipfile.ZipFile(path) as archive:
                infos, start = archive.infolist(), archive.start_dir
        except Exception:  # the change before this one has done enough
            return
        after = bytearray(before)
        edit(after, infos, start)
        path.write_bytes(after)
        ends = [*sorted(info.header_offset for info in infos), start]
        for info in infos:
            stop = ends[ends.index(info.header_offset) + 1]
            record = before[info.header_offset : stop]
            if bytes(after[info.header_offset : stop]) != record and record not in after:
                identity = archives.identify(info.filename)
                if identity:
                    self.hurt.add(identity.id)

    def some_archive(self) -> Path:
        return self.folder / self.rng.choice(["a.zip", "b.zip"])

    def do_truncate(self) -> None:
        """Cut off the end, the beginning, or a piece of the middle."""

        def edit(data, infos, start):
            at, length = self.rng.randrange(len(data)), self.rng.randrange(1, len(data))
            where = self.rng.choice(["end", "front", "middle", "directory"])
            if where == "end":
                del data[at:]
            elif where == "front":
                del data[: at // 2 + 1]
            elif where == "middle":
                del data[at : at + length // 4]
            else:
                del data[self.rng.randrange(start, len(data)) :]

        self.change(self.some_archive(), edit)

    def do_flip(self) -> None:
        """Flip bits anywhere."""

        def edit(data, infos, start):
            for _ in range(self.rng.choice([1, 1, 2, 10])):
                data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)

        self.change(self.some_archive(), edit)

    def do_flip_directory(self) -> None:
        """Flip bits in the directory or its end."""

        def edit(data, infos, start):
            for _ in range(self.rng.choice([1, 1, 2, 5])):
                data[self.rng.randrange(start, len(data))] ^= 1 << self.rng.randrange(8)

        self.change(self.some_archive(), edit)

    def do_directory_field(self) -> None:
        """Set a field of a directory record to something absurd."""

        def edit(data, infos, start):
            position = start
            for _ in range(self.rng.randrange(len(infos))):
                position += 46 + sum(struct.unpack_from("<3H", data, position + 28))
            offset, size = self.rng.choice(
                [(4, 2), (6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (42, 4)]
            )
            value = self.rng.choice([*EXTREMES, self.rng.randrange(1 << 32)]) & ((1 << 8 * size) - 1)
            data[position + offset : position + offset + size] = value.to_bytes(size, "little")

        self.change(self.some_archive(), edit)

    def do_end_field(self) -> None:
        """Set a field of the directory's end, plain or Zip64, to something absurd."""

        def edit(data, infos, start):
            if self.rng.random() < 0.5:
                end = len(data) - 22
                offset, size = self.rng.choice([(4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)])
                value = self.rng.choice([*EXTREMES, self.rng.randrange(1 << 32)]) & ((1 << 8 * size) - 1)
                data[end + offset : end + offset + size] = value.to_bytes(size, "little")
            else:
                del data[-22:]
                absurd = [len(infos), len(data) - start, start, 1 << 62, (1 << 63) - 1, (1 << 64) - 1]
                count, size, at = (self.rng.choice(absurd) for _ in range(3))
                place = len(data)
                data += struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, at)
                data += struct.pack("<4sLQL", b"PK\6\7", 0, place, 1)
                data += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)

        self.change(self.some_archive(), edit)

    def do_local_field(self) -> None:
        """Set a field of a file's own header to something absurd."""

        def edit(data, infos, start):
            info = self.rng.choice(infos)
            offset, size = self.rng.choice([(0, 4), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)])
            value = self.rng.choice([*EXTREMES, self.rng.randrange(1 << 32)]) & ((1 << 8 * size) - 1)
            at = info.header_offset + offset
            data[at : at + size] = value.to_bytes(size, "little")

        self.change(self.some_archive(), edit)

    def do_directory_name(self) -> None:
        """Change a name in the directory alone."""

        def edit(data, infos, start):
            info = self.rng.choice(infos)
            name = info.filename.encode()
            at = data.index(name, start)
            k = self.rng.randrange(len(name))
            data[at + k] = self.rng.choice([name[k] ^ 1 << self.rng.randrange(7), 0, 0xFF, ord("/"), ord("\n"), 0x39])

        self.change(self.some_archive(), edit)

    def do_duplicate(self) -> None:
        """Before writing: let a file stand twice, the same, empty, garbled or as another good picture."""
        run, name = self.some_file()
        good = self.files[run][name]
        what = self.rng.choice(["same", "empty", "garbled", "cut", "other"])
        other = picture(9_999) if name.endswith("png") else SAMPLE.replace("286", "287").encode()
        copy = {
            "same": good,
            "empty": b"",
            "garbled": bytes(self.rng.randbytes(2000)),
            "cut": good[:-20],
            "other": other,
        }
        if what == "other" or (what == "cut" and name.endswith("txt")):
            self.unclear.add(run)
        data = copy[what]
        if self.rng.random() < 0.5 and what != "other":
            data, self.files[run][name] = self.files[run][name], data
        self.extra.append((self.rng.choice(["a.zip", "b.zip"]), f"again/{name}", data))

    def do_packing(self) -> None:
        """Before writing: pack by another method, or as a server does that sends while it packs."""
        self.method = self.rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
        self.streamed = self.rng.random() < 0.5

    def do_names(self) -> None:
        """Before writing: give a file a foreign name, or put odd files and folders beside."""
        run, name = self.some_file()
        odd = ["../../x/", "C:\\views\\", "__MACOSX/", "é/", "a\nb/", "x/" * 60, "."]
        what = self.rng.choice(["rename", "beside", "folder"])
        if what == "rename":
            data = self.files[run].pop(name)
            new = self.rng.choice([name.upper(), name + " ", name.replace("_", "-"), "__MACOSX/" + name, "x" + name])
            self.files[run][new] = data
            if archives.identify(new) is None:
                self.hurt.add(run)
        elif what == "beside":
            self.extra.append(("a.zip", self.rng.choice(odd) + "readme.txt", b"PK\3\4" * 50))
        else:
            self.files[run] = {self.rng.choice([*odd[:2], "é/", "a\nb/"]) + n: d for n, d in self.files[run].items()}

    def do_parameters(self) -> None:
        """Before writing: parameters that cannot be, in any encoding."""
        run = self.rng.choice(RUNS)
        line = self.rng.choice([line for line in SAMPLE.splitlines() if line])
        values = ["1e308", "-5", "1_0", "nan", "1,5", "", "9" * 400, "١", "1e15", "100000000000000", "none"]
        key = line.split("=")[0] if "=" in line else line.split("(")[0]
        changed = f"{key}={self.rng.choice(values)}" if "=" in line else line.replace("35", self.rng.choice(values), 1)
        edited = SAMPLE.replace(line, self.rng.choice([changed, changed, "", line + "\n" + changed, "€§ " + line]))
        code = self.rng.choice(["utf-8", "latin-1", "utf-16", "utf-16-le", "utf-8-sig"])
        data = edited.encode(code, "replace")
        self.files[run][f"{run}_Parameters.txt"] = data
        self.unclear.add(run)

    def do_picture(self) -> None:
        """Before writing: a picture that is cut, a bomb, of another size or kind, or endless."""
        run = self.rng.choice(RUNS)
        name = self.rng.choice(run_names(run)[:12])
        good = FILES[run][name]

        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        bomb = good[:33] + chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(5_000_000))) + good[33:]
        endless = good[:33] + chunk(b"IDAT", zlib.compress(bytes(20_000_000))) + good[-12:]
        made = {
            "cut": good[: self.rng.randrange(len(good))],
            "bomb": bomb,
            "endless": endless,
            "zeros": bytes(30_000_000),
            "size": png(np.zeros((512, 511), np.uint8)),
            "colour": png(np.zeros((512, 512, 3), np.uint8)),
            "flip": bytes(b ^ (i == len(good) // 2) for i, b in enumerate(good)),
        }
        what = self.rng.choice(list(made))
        self.files[run][name] = made[what]
        if what != "bomb":
            self.hurt.add(run)

    def do_surroundings(self) -> None:
        """Put something in front, behind, or a whole archive inside."""
        path = self.some_archive()
        data = path.read_bytes()
        what = self.rng.choice(["stub", "tail", "nested", "comment"])
        if what == "stub":
            path.write_bytes(self.rng.randbytes(self.rng.randrange(1, 3000)) + data)
        elif what == "tail":
            path.write_bytes(data + self.rng.randbytes(self.rng.randrange(1, 3000)))
        elif what == "nested":
            other = {f"0_1_pose_{k}_thermal.png": picture(5_000 + k) for k in range(11)}
            inner = write_zip(self.folder / "inner.bin", other, method=zipfile.ZIP_STORED).read_bytes()
            with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
                archive.writestr("inner.zip", inner)
        else:
            with zipfile.ZipFile(path, "a") as archive:
                archive.comment = self.rng.choice([b"PK\5\6" * 9, b"PK\3\4" * 9, b"x" * 65535])


def same(run: archives.Run, expected: archives.Run) -> bool:
    return np.array_equal(run.views, expected.views) and np.array_equal(run.truth, expected.truth)


def broken_laws(seed: int, folder: Path, expected: dict[str, archives.Run]) -> tuple[Mutant, list[str]]:
    """A mutant, and the laws that it breaks."""
    mutant = Mutant(seed, folder)
    found: list[str] = []
    try:
        quick = archives.scan(folder)
        careful = archives.scan(folder, verify=True)
        for catalogue in (quick, careful):
            catalogue.report().encode("cp1252", "backslashreplace")
        whole = set(RUNS) - mutant.hurt - mutant.unclear
        told = "\n".join([*careful.troubles(), careful.report()])
        read = set()
        for entry in careful.complete:
            if entry.id not in expected:
                found.append(f"law 2: run {entry.id} came from nowhere")
                continue
            if not same(archives.read_run(entry), expected[entry.id]):
                found.append(f"law 2: wrong pixels in {entry.id}")
            read.add(entry.id)
        damaged = any(d.archive.name in told for d in careful.damaged)
        for name in whole - read:
            mutant.named += 1
            if not damaged:
                found.append(f"law 3: {name} is whole and was not read")
        for name in set(RUNS) - read:
            if f"{name}:" not in told and not damaged:
                found.append(f"law 4: {name} is lost and not named")
        for entry in quick.complete:
            if entry.id not in read:
                try:
                    if not same(archives.read_run(entry), expected.get(entry.id)):
                        found.append(f"law 2: wrong pixels in {entry.id} without verifying")
                except UnveilError as error:
                    if "\n" in str(error) or ".zip" not in str(error):
                        found.append(f"law 4: {error}")
        if seed % 8 == 0 and quick.complete:
            try:
                store = build.build_stacks(quick, folder / "store", (0.6,))
                lost = {entry.id for entry in quick.complete} - set(store.ids) - set(store.skipped)
                found += [f"law 4: {name} is neither in the store nor skipped" for name in lost]
            except UnveilError as error:
                if "\n" in str(error):
                    found.append(f"law 1: {error}")
        try:
            prune.prune(careful, yes=True, all_named=True)
        except UnveilError as error:
            if "\n" in str(error) or ".zip" not in str(error):
                found.append(f"law 4: {error}")
        after = {entry.id: entry for entry in archives.scan(folder).complete}
        for name in read:
            if name not in after or not same(archives.read_run(after[name]), expected[name]):
                found.append(f"law 3: {name} was good before pruning")
        prune.restore_dropped(folder, yes=True)
        back = archives.scan(folder)
        if {entry.id for entry in back.complete} != {entry.id for entry in quick.complete}:
            found.append("law 3: not all is back after restoring what was dropped")
    except UnveilError as error:
        found.append(f"law 1: an error where a report belongs: {error}")
    except Exception:
        found.append(f"law 1: {traceback.format_exc()}")
    return mutant, found


def main(count: int, first: int = 0) -> int:
    expected, kinds, bad, named = original(), collections.Counter(), 0, collections.Counter()
    for seed in range(first, first + count):
        with tempfile.TemporaryDirectory() as folder:
            mutant, found = broken_laws(seed, Path(folder), expected)
        kinds[mutant.kind.split(" and ")[0]] += 1
        named[mutant.kind] += mutant.named
        bad += bool(found)
        for line in found:
            print(f"seed {seed} ({mutant.kind}): {line}")
    print(f"{count} mutants of {len(kinds)} kinds, {bad} break a law")
    lost = {kind: number for kind, number in named.items() if number}
    print(f"{sum(lost.values())} whole runs could not be read, of archives that are named as damaged: {lost}")
    return 1 if bad else 0


@pytest.mark.slow
def test_two_hundred_mutants_obey_the_laws():
    program = [sys.executable, "-W", "ignore", __file__, "200"]
    environment = os.environ | {"PYTHONPATH": str(Path(parameters.__file__).parents[2])}
    done = subprocess.run(program, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert "200 mutants of 13 kinds" in done.stdout


def peak() -> int:
    """The most memory this process has had, in bytes, where the system tells."""
    try:
        import resource
    except ImportError:
        return 0
    status = Path("/proc/self/status")
    if status.exists():
        # Linux's getrusage also counts what the parent had before the exec.
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    status = main(*map(int, sys.argv[1:] or ["200"]))
    print(f"peak memory {peak() / 1e6:.0f} MB")
    if peak() > MEMORY:
        print(f"law 5: more than {MEMORY / 1e6:.0f} MB")
        status = 1
    sys.exit(status)
