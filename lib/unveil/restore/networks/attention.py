"""A network on registered views that keeps what it sees: per pixel a choice among the views, filled in elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unveil.restore import losses
from unveil.restore.networks.gated import filled
from unveil.restore.networks.level import MultiViewUNet, hysteresis

if TYPE_CHECKING:
    from unveil.restore.training import Options


class ViewAttention(MultiViewUNet):
    """A `MultiViewUNet` whose picture is no single level with objects: it keeps what a view shows.

    Each pixel is a mean of the candidates (each view on each plane) with weights from a softmax (attention, Bahdanau et
    al.: arXiv 1409.0473): a small network votes for each candidate by what it looks like and by the U-Net's features.
    The votes are corrected ``rounds`` times by how far a candidate lies from the answer so far, as in iteratively
    reweighted least squares with Cauchy weights (Holland and Welsch 1977, 10.1080/03610927708827533). Three answers
    compete with the candidates: the mean of what is seen around (`filled`), the level of the whole picture, and, where
    the gate is open, the brightness of an object as the U-Net predicts it. Order and number of the views play no role.

    Input and options are those of `MultiViewUNet`, whose weights can begin a training. A second channel of the target
    marks people; without one, whatever stands out of the target counts.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 1,
        planes: int = 3,
        view_features: int = 16,
        features: Sequence[int] = (32, 64, 96, 128),
        blocks: Sequence[int] = (1, 1, 1, 2),
        gate: Sequence[float] = (0.3, 0.6),
        presence_weight: float = 0.5,
        zoom: float = 8.0,
        rounds: int = 2,
    ):
        super().__init__(
            in_channels, out_channels, planes, view_features, features, blocks, gate, presence_weight, zoom
        )
        self.view_key = nn.Linear(view_features, 12, bias=False)
        self.pixel_key = nn.Linear(features[0], planes * 12)
        self.vote = nn.Linear(12, 4)
        self.instead = nn.Conv2d(features[0], 12, 1)
        self.sharpness = nn.Parameter(torch.ones(rounds))
        nn.init.normal_(self.vote.weight, std=0.1)
        nn.init.zeros_(self.instead.weight)
        nn.init.zeros_(self.instead.bias)

    def answer(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The picture with a closed gate, what an open one adds to it and the logit of presence, each (B, 1, H, W)."""
        self.check(x)
        features = self.looked(x)
        y = self.decoded(self.pooled(features))
        level, presence = self.level(self.levels(x), y), self.unfold(self.presence(y)).float()
        seen, certainty = self.chosen(x[:, :-1].float(), features, y)
        around, everywhere, body = F.pixel_shuffle(self.instead(y), 2).float().split(1, dim=1)
        shares = torch.softmax(torch.cat([certainty, around, everywhere], 1), 1)
        views, around, everywhere = shares.split(1, dim=1)
        nearby = filled(seen, around / (views + around).clamp_min(1e-6))
        closed = (1 - everywhere) * nearby + everywhere * level
        objects = level + self.unfold(self.objects(y)).float() - closed
        return closed, torch.sigmoid(body - certainty) * objects, presence

    def chosen(self, said: Tensor, features: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The candidates' weighted mean and how certain their votes are, each (B, 1, H, W).

        The candidates are ``said`` (B, P·V, H, W), their features (B, P, V, h, w, F), the decoder's y (B, C, h, w).
        """
        wanted = self.pixel_key(y.permute(0, 2, 3, 1)).unflatten(3, (self.planes, 1, -1)).permute(0, 3, 4, 1, 2, 5)
        keys = self.view_key(features) + wanted
        # Four votes, one for each of the 2 × 2 pixels that a feature stands for.
        votes = self.vote(F.leaky_relu(keys, 0.1)).float().flatten(1, 2).unflatten(-1, (2, 2))
        votes = votes.permute(0, 1, 2, 4, 3, 5).reshape(said.shape)
        corrected = votes
        for sharpness in self.sharpness:
            found = (torch.softmax(corrected, 1) * said).sum(1, keepdim=True)
            corrected = votes - F.softplus(sharpness) * torch.log1p((50 * (said - found)).square())
        found = (torch.softmax(corrected, 1) * said).sum(1, keepdim=True)
        return found, torch.logsumexp(corrected, 1, keepdim=True) - math.log(said.shape[1])

    def gated(self, background: Tensor, objects: Tensor, presence: Tensor) -> Tensor:
        return background + objects * hysteresis(torch.sigmoid(presence), *self.gate)

    def loss(self, inputs: Tensor, target: Tensor, options: Options, part: int = 0) -> Tensor:
        truth, people = target[:, :1], target[:, 1:2] if target.shape[1] > 1 else losses.standing_out(target)
        closed, objects, presence = self.answer(inputs)
        strength = options.loss_options
        weight = 1 + strength.get("object_weight", 5.0) * people
        pixels = 0.0
        for answer, counts in ((closed, 1.0), (closed + objects, weight)):
            error = (answer - truth).abs()
            pixels = pixels + (counts * (error + strength.get("squared_weight", 10.0) * error.square())).mean()
        return pixels + self.presence_weight * F.binary_cross_entropy_with_logits(presence, people)
