"""A U-Net of gated convolutions that is told where its input is lost."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unveil.errors import UnveilError
from unveil.restore.networks.base import initialise
from unveil.restore.networks.unet import UShape


class Gated(nn.Module):
    """relu(W₃ₓ₃ x) · sigmoid(W₁ₓ₁ x): a layer that can suppress what comes from lost pixels.

    Gated convolution (Yu et al. 2019, arXiv 1806.03589) in its light pointwise form (Yi et al. 2020, arXiv 2005.09704).
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.feature = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.gate = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.feature(x)) * torch.sigmoid(self.gate(x))


def _twice(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(Gated(in_channels, out_channels), Gated(out_channels, out_channels))


def filled(image: Tensor, mask: Tensor) -> Tensor:
    """The (B, 1, H, W) image, its lost pixels (mask 1) replaced by means of known ones, the nearer the finer.

    Pull-push (Gortler et al. 1996, 10.1145/237170.237200): a pyramid of weighted means, read back where it is lost.
    """
    known = 1 - mask
    if max(image.shape[-2:]) == 1:
        return image
    weight = F.avg_pool2d(known, 2, ceil_mode=True)
    mean = F.avg_pool2d(image * known, 2, ceil_mode=True) / weight.clamp_min(1e-3)
    coarse = filled(mean, 1 - (4 * weight).clamp(0, 1))
    return image * known + mask * F.interpolate(coarse, image.shape[-2:], mode="bilinear", align_corners=False)


class GatedUNet(UShape):
    """Gray and mask of damage (1 lost, soft values allowed) in, repaired gray or colour out.

    The network corrects the picture whose lost pixels are `filled`, and sees picture, mask and filling, folded 2 × 2
    into channels. Its loss weighs lost pixels `lost_weight` times and counts the error as it is and, mostly, after the
    best affine gray curve of each picture: fading makes brightness ambiguous, and nobody can learn to guess it.
    """

    def __init__(
        self,
        in_channels: int = 2,
        out_channels: int = 1,
        features: Sequence[int] = (48, 96, 160),
        lost_weight: float = 3.0,
    ):
        if in_channels != 2:
            raise UnveilError(f"GatedUNet takes two channels, gray and mask, not {in_channels}")
        super().__init__(in_channels, out_channels, multiple=2 ** len(features))
        self.lost_weight = lost_weight
        self.entry = _twice(12, features[0])
        self.scales(features, _twice)
        self.exit = nn.Conv2d(features[0], 4 * out_channels, 3, padding=1)
        initialise(self, last=self.exit)
        for module in self.modules():
            if isinstance(module, Gated):
                # Open gates at the start, or every layer would halve its signal.
                nn.init.normal_(module.gate.weight, std=1e-2)
                nn.init.constant_(module.gate.bias, 2.0)

    def restore(self, x: Tensor) -> Tensor:
        base = filled(x[:, :1], x[:, 1:])
        y = self.through(self.entry(F.pixel_unshuffle(torch.cat([x, base], 1), 2)))
        return F.pixel_shuffle(self.exit(y), 2) + base

    def loss(self, inputs: Tensor, target: Tensor, options: Any, part: int = 0) -> Tensor:
        prediction = self(inputs).float()
        # Without a gradient through the curve, which belongs to the measure, contrast earns no reward.
        slope, offset = _curve(prediction.detach(), target)
        plain, curved = (((p - target).square() + 1e-4).sqrt() for p in (prediction, slope * prediction + offset))
        return ((1 + (self.lost_weight - 1) * inputs[:, 1:]) * (curved + 0.3 * plain)).mean()


def _curve(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Slope, within ½ … 2, and offset of least squares from prediction to target, per picture."""
    variance, mean = torch.var_mean(prediction, (1, 2, 3), correction=0, keepdim=True)
    centre = target.mean((1, 2, 3), keepdim=True)
    covariance = ((prediction - mean) * (target - centre)).mean((1, 2, 3), keepdim=True)
    slope = (covariance / variance.clamp_min(1e-4)).clamp(0.5, 2.0)
    return slope, centre - slope * mean
