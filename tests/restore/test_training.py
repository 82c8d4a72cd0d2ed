"""Training: learning, logging, resuming, weights and what happens when they do not fit."""

import dataclasses
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from unveil import project
from unveil.errors import UnveilError
from unveil.restore import callbacks, networks, training, weights
from unveil.restore.metrics import PSNR_CAP
from unveil.restore.pairs import PairDataset, window
from unveil.restore.training import Options

SMALL = Options(
    network="unet",
    network_options={"features": [4, 8]},
    in_channels=3,
    loss="mse",
    epochs=4,
    batch=2,
    pictures_every=2,
    accelerator="cpu",
)


class Squares:
    """Pairs of flat images with a bright square; the channels are noisy copies of the target."""

    def __init__(self, count=6, size=32):
        random = np.random.default_rng(0)
        self.ids = [str(i) for i in range(count)]
        self.items = []
        for _ in range(count):
            target = np.full((1, size, size), random.uniform(0.1, 0.5), np.float32)
            row, column = random.integers(4, size - 12, 2)
            target[:, row : row + 8, column : column + 8] = 0.9
            self.items.append((np.clip(target + random.normal(0, 0.12, (3, size, size)), 0, 1), target))

    def __len__(self):
        return len(self.items)

    def item(self, i, rng, crop):
        given, target = self.items[i]
        rows, columns = window(rng, target.shape[1:], crop or target.shape[1:])
        return given[:, rows, columns], target[:, rows, columns]


@pytest.fixture
def data():
    store = Squares()
    train_set = PairDataset(store, [0, 1, 2, 3], crop=16, crops_per_item=2, flips="hv")
    return train_set, PairDataset(store, [4, 5])


def curve(fit):
    return fit.history.drop(columns="seconds").to_numpy()


def test_training_learns_and_keeps_everything(data, tmp_path):
    heard = []
    options = dataclasses.replace(SMALL, epochs=12, learning_rate=3e-3)
    fit = training.train(options, *data, tmp_path, listener=lambda rows: heard.append(len(rows)))
    assert heard == list(range(1, 13))
    assert list(fit.history["epoch"]) == list(range(12))
    assert fit.history["train_loss"].iloc[-1] < 0.9 * fit.history["train_loss"].iloc[0]
    assert Options.load(tmp_path / "options.json") == options
    names = {path.name for path in (tmp_path / "pictures" / "item_0").iterdir()}
    assert names == {"input.png", "target.png", "latest.png", *(f"epoch_{n:04d}.png" for n in range(0, 13, 2))}
    assert {"best.ckpt", "last.ckpt", "log.csv", "weights.safetensors"} <= {p.name for p in tmp_path.iterdir()}
    logged = pd.read_csv(tmp_path / "log.csv")
    x, y = data[1][0]
    again, options_again = weights.load(fit.weights)
    assert options_again == options
    assert torch.equal(again(x[None]), fit.model(x[None]))
    with torch.no_grad():
        error = np.mean([float((again(x[None])[0].clamp(0, 1) - y).square().mean()) for x, y in data[1]])
    assert error == pytest.approx(logged["val_mse"][logged["val_psnr"].idxmax()], rel=1e-3)


def test_an_exact_answer_is_logged_as_the_tables_cap(monkeypatch):
    module, logged = training.Restoration(SMALL).eval(), {}
    monkeypatch.setattr(module, "log_dict", lambda values, **_: logged.update(values))
    given = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        module.validation_step((given, module.network(given).clamp(0, 1)), 0)
    assert logged["val_mse"] == 0 and logged["val_psnr"] == PSNR_CAP


def test_a_resumed_training_draws_the_same_curve(data, tmp_path):
    whole = training.train(SMALL, *data, tmp_path / "whole")

    def interrupt(rows):
        if len(rows) == 3:
            raise RuntimeError("the power went out")

    with pytest.raises(RuntimeError, match="power"):
        training.train(SMALL, *data, tmp_path / "cut", listener=interrupt)
    resumed = training.train(SMALL, *data, tmp_path / "cut")
    np.testing.assert_allclose(curve(resumed), curve(whole), rtol=1e-6)
    state, expected = resumed.model.state_dict(), whole.model.state_dict()
    assert all(torch.allclose(state[name], expected[name], atol=1e-7) for name in expected)
    kept, expected = ({p.name: p.read_bytes() for p in (tmp_path / n).glob("pictures/*/*")} for n in ("cut", "whole"))
    assert kept == expected


def test_a_training_can_start_from_weights(data, tmp_path, capsys):
    first = training.train(dataclasses.replace(SMALL, epochs=2), *data, tmp_path / "first")
    options = dataclasses.replace(SMALL, epochs=1, learning_rate=0.0, average=0.0, start=str(first.weights))
    second = training.train(options, *data, tmp_path / "second")
    begun, ended = first.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(begun[name], ended[name]) for name in begun)
    assert "starting from the weights" in capsys.readouterr().out
    assert weights.load(second.weights)[1].start == str(first.weights)
    other = dataclasses.replace(options, network_options={"features": [8, 16]})
    with pytest.raises(UnveilError, match="cannot start from the weights of another network"):
        training.train(other, *data, tmp_path / "third")
    with pytest.raises(UnveilError, match="nowhere.safetensors: no such weights"):
        training.train(dataclasses.replace(SMALL, start="nowhere.safetensors"), *data, tmp_path / "fourth")


def test_the_last_checkpoint_is_that_of_the_last_epoch(data, tmp_path):
    options = dataclasses.replace(SMALL, epochs=3, learning_rate=0.0, average=0.0)
    training.train(options, *data, tmp_path)
    epochs = [torch.load(tmp_path / f"{name}.ckpt", weights_only=True)["epoch"] for name in ("best", "last")]
    assert epochs == [0, 2]
    assert len(training.train(options, *data, tmp_path, listener=pytest.fail).history) == 3


def test_resuming_refuses_other_options(data, tmp_path):
    training.train(dataclasses.replace(SMALL, epochs=1), *data, tmp_path)
    with pytest.raises(UnveilError, match="learning_rate"):
        training.train(dataclasses.replace(SMALL, learning_rate=0.5), *data, tmp_path)


def test_early_stopping(data, tmp_path):
    options = dataclasses.replace(SMALL, epochs=20, learning_rate=0.0, patience=2, average=0.0)
    fit = training.train(options, *data, tmp_path)
    assert len(fit.history) == 3 and fit.ended == "it no longer got better"


def progress(folder):
    return json.loads((folder / "progress.json").read_text())


def test_progress_is_there_from_the_first_batch(data, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(callbacks.files, "write_json", lambda path, state: written.append((path.name, state)))
    callback = callbacks.Progress(tmp_path, None, None)
    trainer = SimpleNamespace(current_epoch=0, max_epochs=4, num_training_batches=5, is_global_zero=True)
    callback.on_train_start(trainer, None)
    for batch in range(3):
        callback.on_train_batch_end(trainer, None, None, None, batch)
    ((name, state),) = written
    assert name == "progress.json" and (state["epoch"], state["batch"], state["batches"]) == (0, 1, 5)
    assert state["share"] == pytest.approx(1 / 20) and state["seconds_left"] >= 0


def test_the_end_says_why(data, tmp_path):
    fit = training.train(SMALL, *data, tmp_path / "a")
    assert fit.ended == progress(tmp_path / "a")["ended"] == "all epochs are done"
    spent = dataclasses.replace(SMALL, epochs=500, cpu_minutes=0.01)
    assert training.train(spent, *data, tmp_path / "b").ended == "its 0.01 minutes of processor time are spent"
    over = dataclasses.replace(SMALL, epochs=500, minutes=0.01)
    assert training.train(over, *data, tmp_path / "c").ended == "its 0.01 minutes are over"

    def ask(rows):
        (tmp_path / "d" / "stop").touch()

    fit = training.train(dataclasses.replace(SMALL, epochs=500), *data, tmp_path / "d", listener=ask)
    assert fit.ended == "stopped by hand" and len(fit.history) == 2, "the epoch that was begun is closed"
    assert not (tmp_path / "d" / "stop").exists() and fit.weights.exists()
    with pytest.raises(UnveilError):
        diverging = dataclasses.replace(SMALL, learning_rate=1e30, gradient_clip=0.0, warmup=1)
        training.train(diverging, *data, tmp_path / "e")
    assert progress(tmp_path / "e")["ended"].startswith("an error: epoch")


def test_divergence_is_said_plainly(data, tmp_path):
    options = dataclasses.replace(SMALL, learning_rate=1e30, gradient_clip=0.0, warmup=1)
    with pytest.raises(UnveilError, match="learning rate"):
        training.train(options, *data, tmp_path)
    assert not (tmp_path / "weights.safetensors").exists()


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    other = networks.build("unet", 3, features=(8, 16))
    weights.save(path, other, SMALL)
    with pytest.raises(UnveilError, match=r"weights.safetensors: the weights do not fit the network 'unet'"):
        weights.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not a readable"), (b"no weights at all, but long enough", "not a readable"), (None, "no such weights")],
)
def test_damaged_weights_are_named(tmp_path, content, message):
    path = tmp_path / "broken.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnveilError, match=message) as error:
        weights.load(path)
    assert "broken.safetensors" in str(error.value) and "\n" not in str(error.value)


def test_weights_without_options_are_refused(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(UnveilError, match="holds no description"):
        weights.load(path)


def test_a_foreign_checkpoint_is_refused_in_one_line(data, tmp_path):
    SMALL.save(tmp_path / "options.json")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "last.ckpt")
    with pytest.raises(UnveilError, match="no checkpoint of this training") as error:
        training.train(SMALL, *data, tmp_path)
    assert "\n" not in str(error.value)


class Evil:
    """Pickled, it would create a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_checkpoint_cannot_run_code(data, tmp_path):
    SMALL.save(tmp_path / "options.json")
    torch.save({"state_dict": Evil(str(tmp_path / "harmed"))}, tmp_path / "last.ckpt")
    with pytest.raises(UnveilError, match="no checkpoint of this training"):
        training.train(SMALL, *data, tmp_path)
    assert not (tmp_path / "harmed").exists()


def test_options_survive_json_and_refuse_unknown_names(tmp_path):
    options = dataclasses.replace(SMALL, channels=(0.2, 0.6, 1.0))
    options.save(tmp_path / "options.json")
    assert Options.load(tmp_path / "options.json") == options
    (tmp_path / "options.json").write_text(json.dumps({"speed": 1}))
    with pytest.raises(UnveilError, match="unknown option speed"):
        Options.load(tmp_path / "options.json")


@pytest.mark.slow
def test_two_processes_train_together(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(
        "import dataclasses, sys\n"
        f"sys.path[:0] = [{str(project.ROOT / 'lib')!r}, {str(project.ROOT / 'tests' / 'restore')!r}]\n"
        "import torch\n"
        "torch.set_num_threads(1)\n"
        "from test_training import SMALL, Squares\n"
        "from unveil.restore import training\n"
        "from unveil.restore.pairs import PairDataset\n"
        "if __name__ == '__main__':\n"
        "    store = Squares()\n"
        "    options = dataclasses.replace(SMALL, epochs=2, devices=2, strategy='ddp')\n"
        "    sets = PairDataset(store, [0, 1, 2, 3], crop=16), PairDataset(store, [4, 5])\n"
        f"    fit = training.train(options, *sets, {str(tmp_path / 'out')!r})\n"
        "    print(f'epochs {len(fit.history)}\\n', end='')\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("epochs 2") == 2, "both processes finish the training"
    assert (tmp_path / "out" / "weights.safetensors").exists()
