"""Training: learning, logging, resuming, weights and what happens when they do not fit."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from unveil import project
from unveil.errors import UnveilError
from unveil.restore import datasets, networks, training
from unveil.restore.training import Options

SMALL = Options(
    network="unet",
    network_options={"features": [4, 8]},
    in_channels=3,
    epochs=4,
    batch=2,
    pictures_every=2,
    accelerator="cpu",
)


class Squares:
    """A store of flat images with a bright square; the channels are noisy copies of the target."""

    def __init__(self, count=6, size=32):
        random = np.random.default_rng(0)
        self.ids = [str(i) for i in range(count)]
        self.items = []
        for _ in range(count):
            target = np.full((size, size), random.integers(20, 120), np.uint8)
            row, column = random.integers(4, size - 12, 2)
            target[row : row + 8, column : column + 8] = 230
            noise = random.normal(0, 30, (3, size, size))
            self.items.append((np.clip(target + noise, 0, 255).astype(np.uint8), target))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


@pytest.fixture
def data():
    store = Squares()
    train_set = datasets.PairDataset(store, [0, 1, 2, 3], crop=16, crops_per_item=2, flips=True)
    return train_set, datasets.PairDataset(store, [4, 5])


def curve(fit):
    return fit.history.drop(columns="seconds").to_numpy()


def test_training_learns_and_keeps_everything(data, tmp_path):
    heard = []
    options = dataclasses.replace(SMALL, epochs=12, learning_rate=3e-3)
    fit = training.train(options, *data, tmp_path, listener=lambda rows: heard.append(len(rows)))
    assert heard == list(range(1, 13))
    assert list(fit.history["epoch"]) == list(range(12))
    assert fit.history["val_psnr"].iloc[-1] > fit.history["val_psnr"].iloc[0] + 1
    assert Options.load(tmp_path / "options.json") == options
    names = {path.name for path in (tmp_path / "pictures" / "item_0").iterdir()}
    assert names == {"input.png", "target.png", *(f"epoch_{n:04d}.png" for n in range(0, 13, 2))}
    assert {"best.ckpt", "last.ckpt", "log.csv", "weights.safetensors"} <= {p.name for p in tmp_path.iterdir()}
    logged = pd.read_csv(tmp_path / "log.csv")
    x, y = data[1][0]
    again, options_again = training.load_weights(fit.weights)
    assert options_again == options
    assert torch.equal(again(x[None]), fit.model(x[None]))
    with torch.no_grad():
        error = np.mean([float((again(x[None])[0].clamp(0, 1) - y).square().mean()) for x, y in data[1]])
    assert error == pytest.approx(logged["val_mse"][logged["val_psnr"].idxmax()], rel=1e-3)


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


def test_the_last_checkpoint_is_that_of_the_last_epoch(data, tmp_path):
    options = dataclasses.replace(SMALL, epochs=3, learning_rate=0.0, average=0.0)
    training.train(options, *data, tmp_path)
    epochs = [torch.load(tmp_path / f"{name}.ckpt", weights_only=False)["epoch"] for name in ("best", "last")]
    assert epochs == [0, 2]
    assert len(training.train(options, *data, tmp_path, listener=pytest.fail).history) == 3


def test_resuming_refuses_other_options(data, tmp_path):
    training.train(dataclasses.replace(SMALL, epochs=1), *data, tmp_path)
    with pytest.raises(UnveilError, match="learning_rate"):
        training.train(dataclasses.replace(SMALL, learning_rate=0.5), *data, tmp_path)


def test_early_stopping_and_the_l1_stage(data, tmp_path):
    options = dataclasses.replace(SMALL, epochs=20, learning_rate=0.0, patience=2, average=0.0)
    fit = training.train(options, *data, tmp_path)
    assert len(fit.history) == 3
    prediction, target = torch.full((1, 1, 4, 4), 0.5), torch.zeros(1, 1, 4, 4)
    assert training.pixel_loss(prediction, target, SMALL, absolute=True).item() == pytest.approx(0.5)
    assert training.pixel_loss(prediction, target, SMALL, absolute=False).item() == pytest.approx(0.25)
    target[..., 0, 0] = 1
    weighted = dataclasses.replace(SMALL, object_weight=3)
    assert training.pixel_loss(prediction, target, weighted, absolute=True).item() == pytest.approx(0.5 * 19 / 16)


def test_divergence_is_said_plainly(data, tmp_path):
    options = dataclasses.replace(SMALL, learning_rate=1e30, gradient_clip=0.0, warmup=1)
    with pytest.raises(UnveilError, match="learning rate"):
        training.train(options, *data, tmp_path)
    assert not (tmp_path / "weights.safetensors").exists()


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    other = networks.build("unet", 3, features=(8, 16))
    training.save_weights(path, other, SMALL)
    with pytest.raises(UnveilError, match=r"weights.safetensors: the weights do not fit the network 'unet'"):
        training.load_weights(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not a readable"), (b"no weights at all, but long enough", "not a readable"), (None, "no such weights")],
)
def test_damaged_weights_are_named(tmp_path, content, message):
    path = tmp_path / "broken.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnveilError, match=message) as error:
        training.load_weights(path)
    assert "broken.safetensors" in str(error.value) and "\n" not in str(error.value)


def test_weights_without_options_are_refused(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(UnveilError, match="say nothing of their network"):
        training.load_weights(path)


def test_options_survive_json_and_refuse_unknown_names(tmp_path):
    options = dataclasses.replace(SMALL, channels=(0.2, 0.6, 1.0))
    options.save(tmp_path / "options.json")
    assert Options.load(tmp_path / "options.json") == options
    (tmp_path / "options.json").write_text(json.dumps({"speed": 1}))
    with pytest.raises(UnveilError, match="unknown option speed"):
        Options.load(tmp_path / "options.json")


MULTIVIEW = dataclasses.replace(
    SMALL,
    network="multiview",
    network_options={"planes": 2, "view_features": 4, "features": [8, 16], "blocks": [1, 1], "gate": [0.3, 0.6]},
    channels=(0.2, 1.8),
    in_channels=7,
    learning_rate=1e-2,
    average=0.0,
    presence_weight=0.5,
    epochs=2,
)


class Candidates(Squares):
    """Three noisy views on two planes, and the level behind the square."""

    def __getitem__(self, index):
        channels, target = super().__getitem__(index)
        level = np.full_like(target, np.median(target))
        return np.concatenate([channels, channels[::-1], level[None]]), target


@pytest.fixture
def candidates():
    store = Candidates(8)
    train_set = datasets.PairDataset(store, range(6), crop=16, crops_per_item=16, flips=True)
    return train_set, datasets.PairDataset(store, [6, 7])


def test_a_gated_network_learns_presence(candidates, tmp_path):
    fit = training.train(MULTIVIEW, *candidates, tmp_path)
    first, last = fit.history["train_loss"]
    assert last < 0.85 * first
    x, y = candidates[1][0]
    with torch.no_grad():
        presence = torch.sigmoid(fit.model.parts(x[None])[2][0])
    square = y > 0.8
    assert presence[square].mean() > 0.6 > 0.2 > presence[~square].mean()


def test_multiview_weights_come_back_whole(candidates, tmp_path):
    fit = training.train(dataclasses.replace(MULTIVIEW, epochs=1), *candidates, tmp_path / "a")
    path = tmp_path / "b" / "copy.safetensors"
    training.save_weights(path, fit.model, fit.options)
    again, options = training.load_weights(path)
    assert options == fit.options == Options.load(path.with_suffix(".json"))
    assert (again.planes, again.gate, again.in_channels) == (2, (0.3, 0.6), 7)
    x, _ = candidates[1][0]
    with torch.no_grad():
        assert torch.equal(again(x[None]), fit.model(x[None]))
        assert again(torch.rand(1, 23, 20, 20)).shape == (1, 1, 20, 20)


def test_the_loss_of_presence_is_the_cross_entropy_with_what_stands_out():
    probability, share = 0.2, 64 / 1024
    module = training.Restoration(dataclasses.replace(MULTIVIEW, presence_weight=2.0))
    torch.nn.init.zeros_(module.network.presence.weight)
    torch.nn.init.constant_(module.network.presence.bias, np.log(probability / (1 - probability)))
    x, y = datasets.PairDataset(Candidates(1))[0]
    level, objects, _ = module.network.parts(x[None])
    with pytest.warns(UserWarning, match="trainer"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Restoration, "current_epoch", 0)
        loss = module.training_step((x[None], y[None]), 0)
    entropy = -share * np.log(probability) - (1 - share) * np.log(1 - probability)
    squared = (level + objects - y).square().mean()
    assert (loss - squared).item() == pytest.approx(2 * entropy, rel=1e-4)


@pytest.mark.parametrize(
    ("network", "options"), [("unet", {"features": [4, 8]}), ("level", {"features": [4, 8], "blocks": [1, 1]})]
)
def test_presence_wants_a_gate(data, tmp_path, network, options):
    options = dataclasses.replace(SMALL, network=network, network_options=options, presence_weight=0.5)
    with pytest.raises(UnveilError, match="needs a network with a gate") as error:
        training.train(options, *data, tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_presence_is_trained_on_crops_that_fit(tmp_path):
    """Sizes that only predictions are padded to are refused, not left to torch."""
    train_set = datasets.PairDataset(Candidates(2), crop=18)
    with pytest.raises(UnveilError, match="divisible by 4, not 18 × 18") as error:
        training.train(MULTIVIEW, train_set, datasets.PairDataset(Candidates(1)), tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_two_processes_train_together(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(
        "import dataclasses, sys\n"
        f"sys.path[:0] = [{str(project.ROOT / 'lib')!r}, {str(project.ROOT / 'tests')!r}]\n"
        "import torch\n"
        "torch.set_num_threads(1)\n"
        "from test_training import SMALL, Squares\n"
        "from unveil.restore import datasets, training\n"
        "if __name__ == '__main__':\n"
        "    store = Squares()\n"
        "    options = dataclasses.replace(SMALL, epochs=2, devices=2, strategy='ddp')\n"
        "    sets = datasets.PairDataset(store, [0, 1, 2, 3], crop=16), datasets.PairDataset(store, [4, 5])\n"
        f"    fit = training.train(options, *sets, {str(tmp_path / 'out')!r})\n"
        "    print(f'epochs {len(fit.history)}\\n', end='')\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("epochs 2") == 2, "both processes finish the training"
    assert (tmp_path / "out" / "weights.safetensors").exists()
