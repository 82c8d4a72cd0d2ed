"""The commands as a user calls them: the whole chain on a small sample, and every kind of bad input in one line."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from unveil import console, project
from unveil.__main__ import app, main
from unveil.aos import archives, simulator, store
from unveil.errors import UnveilError
from unveil.restore import losses, networks
from unveil.tasks import denoising, old_photos_pairs, super_resolution
from unveil.tasks.forest import presets


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Archives of 24 runs and their stacks, made by the commands."""
    folder = tmp_path_factory.mktemp("work")
    made = [
        "simulate",
        "--runs",
        "24",
        "--balanced",
        "--seed",
        "7",
        "--workers",
        "1",
        "--out",
        str(folder / "archives"),
    ]
    assert main(made) == 0
    assert main(["integrate", str(folder / "archives"), "--out", str(folder / "stacks"), "--workers", "1"]) == 0
    return folder


def fails(capsys, *command, status=2):
    """The one line on stderr of a command that must fail."""
    capsys.readouterr()
    assert main([str(part) for part in command]) == status
    said = capsys.readouterr().err.strip()
    assert said and "\n" not in said and "Traceback" not in said
    return said


def shell(*command, **environment):
    return subprocess.run(
        [sys.executable, "-m", "unveil", *map(str, command)],
        env=os.environ | {"PYTHONPATH": str(project.ROOT / "lib"), "COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
        errors="replace",
    )


def test_the_chain(work, capsys):
    assert main(["scan", str(work / "archives"), "--verify", "--csv", str(work / "runs.csv")]) == 0
    assert "complete" in capsys.readouterr().out
    table = pd.read_csv(work / "runs.csv")
    stacks = store.Store(work / "stacks")
    assert len(table) == 24 and table["complete"].sum() == len(stacks) < 24
    small = ["--network", "unet", "--network-options", "features=[4,8]", "unshuffle=2", "--loss", "l1"]
    small += ["--epochs", "1", "--crop", "64", "--crops", "16", "--options", '{"average": 0.5}']
    out = work / "small"
    assert main(["train", "--stacks", str(stacks.path), "--out", str(out), *small]) == 0
    assert "best validation PSNR" in capsys.readouterr().out
    options = json.loads((out / "options.json").read_text())
    assert (options["network_options"], options["average"]) == ({"features": [4, 8], "unshuffle": 2}, 0.5)
    scores = ["--weights", str(out / "weights.safetensors"), "--out", str(work / "scores.csv")]
    assert main(["evaluate", "--stacks", str(stacks.path), *scores]) == 0
    assert "region_median" in capsys.readouterr().out
    scored, parts = pd.read_csv(work / "scores.csv"), json.loads((work / "stacks" / "split.json").read_text())
    assert set(scored["id"]) == set(parts["test"]) and not set(scored["id"]) & set(parts["train"])
    assert {"weights", "flat median", "flat steady (planes)", "plane 1 m"} <= set(scored["model"])


def test_prune_is_dry_unless_told(work, tmp_path):
    copy = tmp_path / "archives"
    copy.mkdir()
    for path in (work / "archives").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    assert main(["prune", str(copy), "--all-named"]) == 0
    assert before == {path.name: path.read_bytes() for path in copy.iterdir()}
    assert main(["prune", str(copy), "--all-named", "--yes"]) == 0
    assert not archives.scan([copy]).incomplete
    assert main(["unprune", str(copy), "--yes"]) == 0
    assert len(archives.scan([copy]).incomplete) == len(archives.scan([work / "archives"]).incomplete) > 0


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices are files on POSIX systems")
def test_pipes_and_devices_are_refused_before_they_are_read(tmp_path, capsys):
    folder, out = tmp_path / "f", tmp_path / "out"
    folder.mkdir()
    os.mkfifo(tmp_path / "x.png")
    for odd in ("/dev/zero", "/dev/full", tmp_path / "x.png"):
        assert f"{odd} is neither a file nor a folder" in fails(capsys, "restore", odd, "--out", out)
        assert f"{odd} is neither" in fails(capsys, "restore", folder, "--out", out, "--weights", odd)
        (folder / "000.png").symlink_to(odd)
        assert "000.png: neither a file nor" in fails(capsys, "restore", folder, "--out", out)
        (folder / "000.png").unlink()


def test_bad_input_is_named_with_its_remedy(work, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("in the way")
    stacks = work / "stacks"
    assert "empty" in fails(capsys, "scan", tmp_path / "empty")
    assert "absent is not there" in fails(capsys, "scan", tmp_path / "absent")
    assert "absent is not there" in fails(capsys, "restore", tmp_path / "absent", "--out", tmp_path / "o")
    assert "no folder" in fails(capsys, "restore", tmp_path / "file", "--out", tmp_path / "o")
    assert "file is no folder" in fails(capsys, "scan", work / "archives", "--csv", tmp_path / "file" / "runs.csv")
    assert "empty" in fails(capsys, "evaluate", "--archives", tmp_path / "empty")
    assert "metres" in fails(capsys, "integrate", work / "archives", "--heights", "low,high")
    assert "0.2" in fails(capsys, "integrate", work / "archives", "--out", stacks, "--heights", "0.2,0.6")
    assert "no-stacks" in fails(capsys, "train", "--stacks", tmp_path / "no-stacks", "--out", tmp_path / "y")
    assert ">= 1" in fails(capsys, "simulate", "--runs", "0")
    assert "Choose from" in fails(capsys, "evaluate", "--subset", "half")
    assert "Unknown" in fails(capsys, "scann")


def test_options_of_networks_and_losses_are_checked(work, tmp_path, capsys):
    train = ["train", "--stacks", work / "stacks", "--out", tmp_path / "t"]
    assert "rednet" in fails(capsys, *train, "--network", "magic")
    assert "colour" in fails(capsys, *train, "--network-options", "colour=1")
    assert "charbonnier" in fails(capsys, *train, "--loss", "magic")
    assert "weight" in fails(capsys, *train, "--loss", "l1", "--loss-options", "weight=1")
    assert "patients" in fails(capsys, *train, "--options", "patients=3")
    assert "name=value" in fails(capsys, *train, "--network-options", "features")
    assert "there is no preset" in fails(capsys, "train", "--preset", "better", "--out", tmp_path / "p")
    assert "--archives" in fails(capsys, *train, "--network", "multiview")


def test_values_of_options():
    given = ["a=1", "b=[1, 2]", "c=text", '{"d": null}', "e=0.5"]
    assert console.named(given) == {"a": 1, "b": [1, 2], "c": "text", "d": None, "e": 0.5}
    assert console.named(None) is None
    with pytest.raises(UnveilError, match="JSON"):
        console.named(['{"a": }'])


def test_a_damaged_archive_is_named_and_the_status_says_so(tmp_path, capsys):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 cut off")
    assert main(["scan", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "a.zip" in said.out and "a.zip" in said.err
    assert "a.zip" in fails(capsys, "integrate", tmp_path, "--out", tmp_path / "stacks")
    assert not list(tmp_path.glob("stacks/*.npy"))


def test_errors_come_before_torch():
    for command in (["train", "--stacks", "x"], ["restore", "x", "--out", "y"], ["evaluate", "--archives", "x"]):
        code = f"import sys; from unveil.__main__ import main; print(main({command}), 'torch' in sys.modules)"
        place = os.environ | {"PYTHONPATH": str(project.ROOT / "lib")}
        done = subprocess.run([sys.executable, "-c", code], env=place, capture_output=True, text=True)
        assert done.stdout.strip() == "2 False" and done.stderr.count("\n") == 1


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.slow
def test_other_consoles(tmp_path, encoding):
    """Neither an arrow nor a folder's name ends the work of a console that lacks a character."""
    folder = tmp_path / "Läufe→中"
    folder.mkdir()
    run = simulator.simulate_run(3, 0, density=0, pose="none")
    (folder / "one").mkdir()
    for i, view in enumerate(run.views):
        Image.fromarray(np.ascontiguousarray(view[:64, :64])).save(folder / "one" / f"0_1_pose_{i}_thermal.png")
    done = shell("restore", folder, "--out", tmp_path / "ö→", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ö→" / "one" / "prediction.png").exists()
    simulator.simulate(folder, 2, seed=1, workers=1, incomplete=0.5)
    for command in (("scan", folder), ("prune", folder, "--all-named", "--yes")):
        assert shell(*command, PYTHONIOENCODING=encoding).returncode == 0


def test_help_says_what_every_option_is(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    for command in app:
        if command.startswith("-"):
            continue
        assert main([command, "--help"]) == 0
        said = capsys.readouterr().out
        assert f"unveil {command}" in said
        options = [line for line in said.splitlines() if line.startswith("  --") or " --" in line[:30]]
        assert not [line for line in options if re.match(r"[^:]*:\s*(\[|$)", line)], "an option without a word on it"
    main(["evaluate", "--help"])
    said = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "[choices: test, validation, train, all]" in said and "[default: test]" in said


def test_help_lists_the_names_that_can_be_given(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    main(["train", "--help"])
    said = capsys.readouterr().out
    for table in (networks.NETWORKS, losses.LOSSES, presets.PRESETS):
        assert ", ".join(table) in said
    main(["learn", "--help"])
    said = capsys.readouterr().out
    for task in (denoising, super_resolution, old_photos_pairs):
        assert ", ".join(task.PRESETS) in said
