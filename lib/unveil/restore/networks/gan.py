"""A depth network trained against a critic that looks at patches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unveil.restore.networks.depth import DepthRestorer

if TYPE_CHECKING:
    from unveil.restore.training import Options


class DepthGAN(DepthRestorer):
    """The U-Net of :class:`DepthRestorer` as generator, and a patch critic (Isola et al., arXiv 1611.07004).

    The critic sees the input and an answer, and says for every patch of 22 pixels whether the answer is the truth. Both
    are trained by least squares (Mao et al., arXiv 1611.04076), in turn; the generator's loss is the distance of
    :class:`DepthRestorer` plus ``adversarial`` times the squared distance of the critic's answer from *true*.
    """

    def __init__(
        self,
        in_channels: int,
        features: Sequence[int] = (32, 48, 64, 64, 64),
        critic: int = 16,
        adversarial: float = 0.01,
    ):
        super().__init__(in_channels, "unet", features)
        self.adversarial = adversarial
        self.critic = nn.Sequential(
            nn.Conv2d(in_channels + 1, critic, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(critic, 2 * critic, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * critic, 1, 4, padding=1),
        )

    def parts(self) -> list[Iterable[nn.Parameter]]:
        return [self.body.parameters(), self.critic.parameters()]

    def loss(self, inputs: Tensor, target: Tensor, options: Options, part: int = 0) -> Tensor:
        target = target[:, :1]
        if part == 0:
            answer = self(inputs)
            convinced = self._judge(inputs, torch.where(target > 0, answer, answer.detach()))
            doubt = (convinced - 1).square().mean()
            return self.distance(answer, target, **options.loss_options) + self.adversarial * doubt
        with torch.no_grad():
            answer = self(inputs)
        truth = torch.where(target > 0, target, answer)
        return 0.5 * ((self._judge(inputs, truth) - 1).square().mean() + self._judge(inputs, answer).square().mean())

    def _judge(self, inputs: Tensor, answer: Tensor) -> Tensor:
        """How true each patch of an answer looks; log nearness, so that steps count by their share of depth."""
        return self.critic(torch.cat([inputs, answer.clamp(0.02, 1.5).log() + 1.5], dim=1)).float()
