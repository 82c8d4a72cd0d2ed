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
    """A `MultiViewUNet` whose background is no single level: it keeps the ground's texture where a view shows it.

    Each pixel of the background is a mean of the views, registered on the first plane, with weights from a softmax
    (attention, Bahdanau et al.: arXiv 1409.0473): a small network votes for each view by what it looks like and by the
    U-Net's features. The votes are corrected ``rounds`` times by how far a view lies from the answer so far, as in
    iteratively reweighted least squares with Cauchy weights (Holland and Welsch 1977, 10.1080/03610927708827533). Two
    answers compete with the views: the mean of what is seen around (`filled`), and the level of the whole picture.
    Order and number of the views play no role.

    Input and options are those of `MultiViewUNet`, whose weights can begin a training; the first plane lies on the
    ground. A second channel of the target marks people; without one, whatever stands out of the target counts.
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
        self.view_key = nn.Linear(view_features, 24)
        self.pixel_key = nn.Linear(features[0], 24)
        self.vote = nn.Linear(24, 4)
        self.instead = nn.Conv2d(features[0], 8, 1)
        self.sharpness = nn.Parameter(torch.ones(rounds))
        nn.init.normal_(self.vote.weight, std=0.1)
        nn.init.zeros_(self.instead.weight)
        nn.init.zeros_(self.instead.bias)

    def answer(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Background, what stands out of it and the logit of presence, each (B, 1, H, W)."""
        self.check(x)
        features = self.looked(x)
        y = self.decoded(self.pooled(features))
        objects, presence = self.unfold(self.objects(y)).float(), self.unfold(self.presence(y)).float()
        return self.background_of(x, features[:, 0], y, self.level(self.levels(x), y)), objects, presence

    def background_of(self, x: Tensor, features: Tensor, y: Tensor, level: Tensor) -> Tensor:
        """The background (B, 1, H, W), from features (B, V, h, w, F) of each view and the decoder's y (B, C, h, w)."""
        said = x[:, : features.shape[1]].float()
        keys = self.view_key(features) + self.pixel_key(y.permute(0, 2, 3, 1))[:, None]
        # Four votes, one for each of the 2 × 2 pixels that a feature stands for.
        votes = self.vote(F.leaky_relu(keys, 0.1)).float().unflatten(-1, (2, 2))
        votes = votes.permute(0, 1, 2, 4, 3, 5).reshape(said.shape)
        corrected = votes
        for sharpness in self.sharpness:
            found = (torch.softmax(corrected, 1) * said).sum(1, keepdim=True)
            corrected = votes - F.softplus(sharpness) * torch.log1p((50 * (said - found)).square())
        found = (torch.softmax(corrected, 1) * said).sum(1, keepdim=True)
        instead = F.pixel_shuffle(self.instead(y), 2).float()
        together = torch.logsumexp(corrected, 1, keepdim=True) - math.log(said.shape[1])
        views, around, everywhere = torch.softmax(torch.cat([together, instead], 1), 1).split(1, dim=1)
        nearby = filled(found, around / (views + around).clamp_min(1e-6))
        return (1 - everywhere) * nearby + everywhere * level

    def gated(self, background: Tensor, objects: Tensor, presence: Tensor) -> Tensor:
        return background + objects * hysteresis(torch.sigmoid(presence), *self.gate)

    def loss(self, inputs: Tensor, target: Tensor, options: Options, part: int = 0) -> Tensor:
        truth, people = target[:, :1], target[:, 1:2] if target.shape[1] > 1 else losses.standing_out(target)
        background, objects, presence = self.answer(inputs)
        strength = options.loss_options
        weight = 1 + strength.get("object_weight", 5.0) * people
        bare = 1 - F.max_pool2d(people, 9, 1, 4)
        pixels = 0.0
        for answer, where in ((background, bare), (background + objects, weight)):
            error = (answer - truth).abs()
            pixels = pixels + (where * (error + strength.get("squared_weight", 10.0) * error.square())).mean()
        return pixels + self.presence_weight * F.binary_cross_entropy_with_logits(presence, people)
