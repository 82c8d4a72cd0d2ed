"""The deeper denoiser: a U-Net of residual blocks, blind to the strength of the noise."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from unveil.restore.networks.base import Restorer


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), without normalisation (Lim et al., arXiv 1707.02921)."""

    def __init__(self, features: int):
        super().__init__()
        self.first = nn.Conv2d(features, features, 3, padding=1)
        self.second = nn.Conv2d(features, features, 3, padding=1)
        nn.init.normal_(self.second.weight, std=0.2 * (9 * features) ** -0.5)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


class ResidualUNet(Restorer):
    """Residual blocks at falling sizes, joined by sums (after Zhang et al., arXiv 2008.13751: DRUNet).

    ``features`` and ``blocks`` hold one number per size. 2 × 2 pixels are folded into channels first (Zhang et al.,
    arXiv 1710.04026: FFDNet): a quarter of the positions, twice the field. The result is added to the input.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 3,
        features: Sequence[int] = (64, 96),
        blocks: Sequence[int] = (2, 2),
    ):
        super().__init__(in_channels, out_channels, multiple=2 ** len(features))
        steps = list(pairwise(features))
        self.entry = nn.Conv2d(4 * in_channels, features[0], 3, padding=1)
        self.encoder = nn.ModuleList(_blocks(f, n) for f, n in zip(features, blocks, strict=True))
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in steps)
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in steps)
        self.decoder = nn.ModuleList(_blocks(f, n) for f, n in zip(features[:-1], blocks[:-1], strict=True))
        self.exit = nn.Conv2d(features[0], 4 * out_channels, 3, padding=1)
        nn.init.normal_(self.exit.weight, std=1e-3)
        nn.init.zeros_(self.exit.bias)

    def restore(self, x: Tensor) -> Tensor:
        y, skips = self.entry(F.pixel_unshuffle(x, 2)), []
        for encoder, down in zip(self.encoder, self.down, strict=False):
            skips.append(encoder(y))
            y = down(skips[-1])
        y = self.encoder[-1](y)
        for up, decoder in zip(reversed(self.up), reversed(self.decoder), strict=True):
            y = decoder(up(y) + skips.pop())
        return x + F.pixel_shuffle(self.exit(y), 2)


def _blocks(features: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(features) for _ in range(count)))
