"""A U-Net that finds damage."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unveil.restore.networks.unet import UNet


class DamageFinder(UNet):
    """Gray in, probability of each pixel to be lost out.

    Damage covers a few percent, so cross-entropy is joined by the soft Dice distance (Milletari et al. 2016, arXiv
    1606.04797), which does not count the undamaged rest.
    """

    def __init__(self, in_channels: int = 1, features: Sequence[int] = (24, 48, 96), unshuffle: int = 2):
        super().__init__(in_channels, 1, features, unshuffle)
        nn.init.constant_(self.shortcut.bias, -3.0)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(super().forward(x).float())

    def loss(self, inputs: Tensor, target: Tensor, options: Any, part: int = 0) -> Tensor:
        logits = super().forward(inputs).float()
        found = torch.sigmoid(logits)
        dice = 1 - (2 * (found * target).sum() + 1) / (found.sum() + target.sum() + 1)
        return F.binary_cross_entropy_with_logits(logits, target) + 0.2 * dice
