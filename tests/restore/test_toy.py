"""A toy task goes through the same functions as the real ones: three channels, twice the size, a GAN."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unveil.errors import UnveilError
from unveil.restore import metrics, networks, training, weights
from unveil.restore.callbacks import before, intact
from unveil.restore.inference import predict
from unveil.restore.networks import NETWORKS, Restorer
from unveil.restore.pairs import PairDataset, window
from unveil.restore.training import Options


class Discs:
    """Pairs: coloured discs on a ground, and the same at half the size."""

    def __init__(self, count: int):
        self.ids = [f"disc_{i}" for i in range(count)]

    def __len__(self):
        return len(self.ids)

    def item(self, i, rng, crop):
        fixed = np.random.default_rng(i)
        y, x = np.mgrid[:48, :48]
        disc = np.hypot(y - fixed.uniform(8, 40), x - fixed.uniform(8, 40)) < fixed.uniform(4, 12)
        target = np.where(disc, fixed.random((3, 1, 1)), fixed.random((3, 1, 1))).astype(np.float32)
        given = target.reshape(3, 24, 2, 24, 2).mean(axis=(2, 4))
        if crop is None:
            return given, target
        rows, columns = window(rng, given.shape[1:], crop)
        double = [slice(2 * s.start, 2 * s.stop) for s in (rows, columns)]
        return given[:, rows, columns], target[:, double[0], double[1]]


class Doubling(Restorer):
    """A convolution that answers with four pixels for each."""

    def __init__(self, in_channels, out_channels=3, width=8):
        super().__init__(in_channels, out_channels, scale=2)
        last = nn.Conv2d(width, 4 * out_channels, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU(), last, nn.PixelShuffle(2))

    def restore(self, x):
        return self.body(x) + F.interpolate(x, scale_factor=2)


class Adversarial(Doubling):
    """The same with a critic, trained in turn."""

    def __init__(self, in_channels, out_channels=3, width=8):
        super().__init__(in_channels, out_channels, width)
        self.critic = nn.Sequential(nn.Conv2d(out_channels, width, 4, 2), nn.ReLU(), nn.Conv2d(width, 1, 4, 2))

    def parts(self):
        return [self.body.parameters(), self.critic.parameters()]

    def loss(self, inputs, target, options, part=0):
        answer = self(inputs).float()
        if part == 0:
            return F.l1_loss(answer, target) + 0.001 * F.softplus(-self.critic(answer)).mean()
        return (F.softplus(self.critic(answer.detach())) + F.softplus(-self.critic(target))).mean()


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(NETWORKS, "doubling", Doubling)
    monkeypatch.setitem(NETWORKS, "adversarial", Adversarial)


@pytest.fixture
def sets():
    return PairDataset(Discs(16), crop=16, flips="hv"), PairDataset(Discs(24), list(range(16, 24)))


OPTIONS = Options(
    network="doubling", in_channels=3, loss="charbonnier", epochs=6, batch=4, learning_rate=3e-3, average=0.9,
    accelerator="cpu", pictures_every=3,
)  # fmt: skip


@pytest.mark.parametrize("network", ["doubling", "adversarial"])
def test_colour_at_twice_the_size_learns(network, sets, tmp_path):
    fit = training.train(replace(OPTIONS, network=network), *sets, tmp_path / "fit")
    assert fit.history["train_loss"].iloc[-1] < fit.history["train_loss"].iloc[0]
    assert ("train_loss_1" in fit.history) == (network == "adversarial")
    model, options = weights.load(fit.weights)
    assert options == fit.options
    table = metrics.compare({"fit": model}, sets[1], {"psnr": metrics.psnr, "ssim": metrics.ssim})
    assert table["psnr"].mean() == pytest.approx(fit.history["val_psnr"].max(), abs=0.05)
    given = sets[1][0][0]
    assert predict(model, given).shape == (3, 48, 48)
    np.testing.assert_allclose(predict(model, given, tile=10, overlap=4), predict(model, given), atol=1e-5)


@pytest.mark.slow
def test_a_resumed_training_is_the_uninterrupted_one(sets, tmp_path):
    whole = training.train(OPTIONS, *sets, tmp_path / "whole")

    def stop(rows):
        if len(rows) == 3:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        training.train(OPTIONS, *sets, tmp_path / "parts", listener=stop)
    epochs = []
    resumed = training.train(OPTIONS, *sets, tmp_path / "parts", listener=lambda rows: epochs.append(len(rows)))
    assert epochs == [3, 4, 5, 6], "what has a checkpoint is not done again"
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value)
    assert list(resumed.history["epoch"]) == list(range(6))


def test_a_damaged_checkpoint_falls_back_to_the_one_before(sets, tmp_path, capsys):
    training.train(replace(OPTIONS, epochs=3), *sets, tmp_path)
    last = tmp_path / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 0xFF
    last.write_bytes(content)
    assert not intact(last) and intact(before(last))
    fit = training.train(OPTIONS, *sets, tmp_path)
    assert len(fit.history) == 6 and "going on from the checkpoint before" in capsys.readouterr().out
    for place in (last, before(last)):
        place.write_bytes(b"nothing")
    with pytest.raises(UnveilError, match="damaged, and so is the one before"):
        training.train(OPTIONS, *sets, tmp_path)


def test_a_budget_of_processor_time_ends_a_training(sets, tmp_path):
    fit = training.train(replace(OPTIONS, epochs=100_000, cpu_minutes=0.02), *sets, tmp_path)
    assert len(fit.history) < 1000
    assert fit.history["learning_rate"].iloc[-1] < 0.2 * OPTIONS.learning_rate


def test_options_of_network_and_loss_are_checked():
    with pytest.raises(UnveilError, match="no option depth: it knows out_channels, width"):
        networks.build("doubling", 3, depth=2)
    with pytest.raises(UnveilError, match="loss 'charbonnier' has no option gamma: it knows epsilon"):
        replace(OPTIONS, loss_options={"gamma": 1}).build()
    with pytest.raises(UnveilError, match="no loss 'hinge'"):
        replace(OPTIONS, loss="hinge").build()
