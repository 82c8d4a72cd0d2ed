"""Networks for depth: they choose among values that were measured near by, and correct the choice a little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unveil.errors import UnveilError
from unveil.restore.networks.autoencoder import DenoisingAutoencoder
from unveil.restore.networks.base import Restorer
from unveil.restore.networks.gated import filled
from unveil.restore.networks.unet import UNet

if TYPE_CHECKING:
    from unveil.restore.training import Options

WINDOWS = (3, 7, 15, 31)
"""Sides of the windows over which measured values are averaged, in pixels."""
CANDIDATES = 1 + len(WINDOWS) + 2 + 4


class DepthRestorer(Restorer):
    """Nearness (inverse depth), validity mask and perhaps infrared (B, 2 or 3, H, W) → nearness (B, 1, H, W).

    Every pixel gets candidates: the measurement, means of the valid pixels in windows (planes are linear in inverse
    depth, so a mean keeps them), the least and greatest near by, and the next valid value to the left, right, above and
    below, times exp(correction). The body, a U-Net or an autoencoder without skips, weighs them and a value of its own,
    which it gives as a factor on the smoothly filled frame.
    So good measurements pass unchanged, and holes are filled by what lies on the right side of an edge.
    """

    def __init__(self, in_channels: int, body: str = "unet", features: Sequence[int] = (32, 48, 64, 64, 72)):
        if in_channels not in (2, 3):
            raise UnveilError(f"depth networks take nearness, mask and perhaps infrared, not {in_channels} channels")
        seen, answers = CANDIDATES + 4 + in_channels - 1, CANDIDATES + 3
        if body == "unet":
            network = UNet(seen, answers, features, unshuffle=2)
            nn.init.zeros_(network.shortcut.weight)
            last = network.exit
        elif body == "autoencoder":
            network = DenoisingAutoencoder(seen, answers, features=features)
            last = network.decoder[-1]
        else:
            raise UnveilError(f"there is no body {body!r} of a depth network: choose unet or autoencoder")
        super().__init__(in_channels, 1, multiple=network.multiple)
        self.body = network
        nn.init.normal_(last.weight, std=0.01)

    def restore(self, x: Tensor) -> Tensor:
        x = x.float()
        values, gaps, typical = candidates(x[:, :1], x[:, 1:2] > 0.5)
        seen = torch.cat([(values.log() + 1.5), gaps, x[:, 1:]], dim=1)
        answer = self.body.restore(seen).float()
        weights = torch.softmax(answer[:, 2:] + prior(values, gaps, x[:, 1:2] > 0.5), dim=1)
        own = typical * torch.exp(answer[:, :1].clamp(-3, 3))
        correction = torch.exp(0.1 * answer[:, 1:2])
        return (weights * torch.cat([values * correction, own], dim=1)).sum(dim=1, keepdim=True)

    def loss(self, inputs: Tensor, target: Tensor, options: Options, part: int = 0) -> Tensor:
        return self.distance(self(inputs), target[:, :1], **options.loss_options)

    @staticmethod
    def distance(
        prediction: Tensor, target: Tensor, epsilon: float = 0.003, edges: float = 2.0, squared: float = 1.0
    ) -> Tensor:
        """Charbonnier loss of log depth where the truth is known (> 0), edges counting 1 + ``edges`` times.

        Errors count about as much in metres as in per cent of depth, and less beyond 4 m. ``squared`` weighs the
        squared error in metres (of depth up to 8 m, truth up to 4 m): a hole that may be near or far gets the mean.
        """
        known = target > 0
        truth = target.clamp_min(0.02)
        error = torch.log(prediction.float().clamp_min(0.01)) - torch.log(truth)
        error = torch.sqrt(error.square() + epsilon**2) - epsilon
        nearest, farthest = _greatest(target, 5), -_greatest(-torch.where(known, target, 1.0), 5)
        depth = 0.33 / truth
        weight = known * (1 + edges * (nearest > 1.05 * farthest)) * torch.where(depth < 4, 0.5 + 0.5 * depth, 0.8)
        far = (0.33 / prediction.float().clamp_min(0.04) - depth).square() * (depth < 4)
        return (weight * error + squared * known * far).sum() / weight.sum().clamp_min(1)


def candidates(near: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values that a pixel may take (B, CANDIDATES, H, W), distances to the next valid ones (B, 4, H, W), and the frame
    with its holes `filled` (B, 1, H, W).

    Distances are in units of 64 pixels, at most 2. The filling is smooth: where a hole is wide, values that lie next to
    it in row or column would make a plaid of noise.
    """
    seen = valid.float()
    known = near * seen
    some = valid.flatten(1).any(1).view(-1, 1, 1, 1)
    wide = typical = torch.where(some, filled(near, 1 - seen), 0.25)
    means, table = [], _table(torch.cat([known, seen], 1))
    for side in reversed(WINDOWS):
        wide = _mean(table, side, wide)
        means.insert(0, wide)
    measured = torch.where(valid, near, means[0])
    low, high = (-_greatest(torch.where(valid, -means[0], -2.0)), _greatest(torch.where(valid, means[0], -2.0)))
    low, high = torch.where(low > 1.5, measured, low), torch.where(high < 0, measured, high)
    sides, gaps = [], []
    for axis in (3, 2):
        for backwards in (False, True):
            value, gap = _next(means[0], valid, axis, backwards, means[-1])
            sides.append(value)
            gaps.append(gap)
    return torch.cat([measured, *means, low, high, *sides], 1).clamp(0.01, 1.5), torch.cat(gaps, 1), typical


def prior(values: Tensor, gaps: Tensor, valid: Tensor) -> Tensor:
    """What weighs without any learning (B, CANDIDATES + 1, H, W), as logarithms; a network adds to it.

    Where something was measured: the widest mean that differs from finer ones by no more than noise, 0.2 px of
    disparity (Lepski's rule). In holes: what is near, and farther away, as the shadows of a stereo camera are.
    """
    means = values[:, 1 : 1 + len(WINDOWS)]
    rank = torch.arange(len(WINDOWS), device=values.device).view(1, -1, 1, 1)
    apart = torch.maximum((means - means[:, :1]).abs(), 2 * (rank > 1) * (means - means[:, 1:2]).abs())
    wide = rank - (64 * apart / 0.2).square().clamp_max(40) / 2
    sides = values[:, -4:]
    hole = -6 * gaps - 3 * (sides / sides.amin(1, keepdim=True)).log()
    never = torch.full_like(values[:, :1], -20.0)
    measured = torch.cat([never + 17, wide, *[never] * 6], dim=1)
    lost = torch.cat([*[never] * (3 + len(WINDOWS)), hole], dim=1)
    return torch.cat([torch.where(valid, measured, lost), torch.where(valid, -4.0, -2.0)], dim=1)


def _table(both: Tensor) -> Tensor:
    """Summed-area table (Crow 1984) of valid values and their number, with which any window costs the same."""
    return F.pad(both.double().cumsum(2).cumsum(3), (1, 0, 1, 0))


def _mean(table: Tensor, side: int, otherwise: Tensor) -> Tensor:
    """Mean of the valid values in a window."""
    for axis in (2, 3):
        length = table.shape[axis] - 1
        place = torch.arange(length, device=table.device)
        ends = (place + side // 2 + 1).clamp_max(length), (place - side // 2).clamp_min(0)
        table = table.index_select(axis, ends[0]) - table.index_select(axis, ends[1])
    known, seen = table.float().chunk(2, dim=1)
    return torch.where(seen > 1e-3, known / seen.clamp_min(1e-3), otherwise)


def _greatest(values: Tensor, side: int = 15) -> Tensor:
    return F.max_pool2d(F.max_pool2d(values, (1, side), 1, (0, side // 2)), (side, 1), 1, (side // 2, 0))


def _next(values: Tensor, valid: Tensor, axis: int, backwards: bool, otherwise: Tensor) -> tuple[Tensor, Tensor]:
    """The last valid value along an axis, and how far away it was measured."""
    if backwards:
        values, valid, otherwise = (t.flip(axis) for t in (values, valid, otherwise))
    place = torch.arange(values.shape[axis], device=values.device)
    place = place.view([-1 if a == axis else 1 for a in range(4)]).expand_as(values)
    last = torch.where(valid, place, -1).cummax(axis).values
    found = torch.where(last >= 0, values.gather(axis, last.clamp_min(0)), otherwise)
    gap = torch.where(last >= 0, (place - last) / 64, 2.0).clamp_max(2.0)
    return (found.flip(axis), gap.flip(axis)) if backwards else (found, gap)
