"""A network that colours a gray picture by choosing among classes of colour."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unveil.restore.networks.base import Restorer
from unveil.restore.networks.unet import UNet

RADII, HUES = (0.025, 0.06, 0.11, 0.18, 0.28, 0.4), 16
"""The classes: gray, and so many hues of each of these saturations in the (Cb, Cr) plane."""


def chroma(rgb: Tensor) -> Tensor:
    """(B, 3, H, W) sRGB → (B, 2, H, W): Cb and Cr of ITU-R BT.601, 0 for gray."""
    r, g, b = rgb.unbind(1)
    gray = 0.299 * r + 0.587 * g + 0.114 * b
    return torch.stack([(b - gray) / 1.772, (r - gray) / 1.402], 1)


class Colouriser(Restorer):
    """Gray and spread hints in, colour out.

    The colour of a gray pixel is under-determined, and the mean of what it could be is sepia. So the network does not
    regress: for every 2 × 2 pixels it predicts probabilities of classes of chroma, trained by cross-entropy in which
    rare colours weigh more (Zhang et al. 2016, arXiv 1603.08511, section 2.2), and answers with their annealed mean
    (section 2.3; `temperature` 1 is the mean, 0 the mode). Chroma is (Cb, Cr), not ab: it adds up, and the gray stays.

    Inputs are gray, and Cb, Cr and confidence of the user's hints spread over the picture (all 0 without hints; Zhang
    et al. 2017, arXiv 1705.02999); where hints are confident, the network may pass them on. `balance` is λ of section
    2.2: class weights ∝ 1 / ((1 − λ) p + λ / Q) for frequencies p of the Q classes.
    """

    def __init__(
        self,
        in_channels: int = 4,
        out_channels: int = 3,
        features: Sequence[int] = (32, 64, 112, 128),
        balance: float = 0.9,
        temperature: float = 0.5,
    ):
        super().__init__(in_channels, out_channels, multiple=2 ** len(features))
        self.balance, self.temperature = balance, temperature
        angle = torch.arange(HUES) * 2 * math.pi / HUES
        ring = torch.stack([angle.cos(), angle.sin()], 1)
        centres = torch.cat([torch.zeros(1, 2), *(radius * ring for radius in RADII)])
        self.body = UNet(4 * in_channels, len(centres) + 1, features)
        self.register_buffer("centres", centres)
        self.register_buffer("frequency", torch.full((len(centres),), 1 / len(centres)))

    def restore(self, x: Tensor) -> Tensor:
        cb, cr = self.decode(x)[1].split(1, 1)
        gray = x[:, :1]
        return torch.cat([gray + 1.402 * cr, gray - 0.344136 * cb - 0.714136 * cr, gray + 1.772 * cb], 1)

    def decode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the classes, (B, Q, H/2, W/2), and chroma, (B, 2, H, W): their annealed mean blended with hints."""
        y = self.body.restore(F.pixel_unshuffle(x, 2)).float()
        probable = torch.softmax(y[:, :-1] / self.temperature, 1)
        mean = torch.einsum("bqhw,qc->bchw", probable, self.centres)
        mean, trust = (F.interpolate(z, scale_factor=2.0, mode="bilinear") for z in (mean, y[:, -1:]))
        # Hints count fully at first, even from afar, until the network has learned where they do not.
        return y[:, :-1], mean + torch.sigmoid(trust + 2) * x[:, 3:] ** 0.25 * (x[:, 1:3] - mean)

    def loss(self, inputs: Tensor, target: Tensor, options: Any, part: int = 0) -> Tensor:
        truth = chroma(target)
        share = self._shares(F.avg_pool2d(truth, 2))
        if self.training:
            self.frequency.lerp_(share.mean((0, 2, 3)), 0.01)
        weight = 1 / ((1 - self.balance) * self.frequency + self.balance / len(self.centres))
        rarity = torch.einsum("bqhw,q->bhw", share, weight / (weight * self.frequency).sum())
        logits, answer = self.decode(inputs)
        surprise = -(share * F.log_softmax(logits, 1)).sum(1)
        return (rarity * surprise).mean() + 10 * (inputs[:, 3:] * (answer - truth).abs()).mean()

    def _shares(self, truth: Tensor) -> Tensor:
        """(B, 2, h, w) → (B, Q, h, w): which classes a chroma belongs to, by Gaussians as wide as their distances."""
        width = (0.3 * self.centres.norm(dim=1)).clamp_min(0.012).view(1, -1, 1, 1)
        squared = sum((truth[:, c : c + 1] - self.centres[:, c].view(1, -1, 1, 1)).square() for c in (0, 1))
        return torch.softmax(-squared / (2 * width.square()), 1)
