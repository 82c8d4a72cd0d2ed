"""A U-Net around a shortcut."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unveil.errors import UnveilError
from unveil.restore.networks.base import Projection, Restorer, initialise


class UShape(Restorer):
    """Strided convolutions shrink and transposed ones grow the maps; ``block(in, out)`` works on each scale."""

    def scales(self, features: Sequence[int], block: Callable[[int, int], nn.Module]) -> None:
        """Make the layers, for ``features`` channels from the finest scale to the coarsest."""
        steps = list(pairwise(features))
        self.shrink = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in steps)
        self.down = nn.ModuleList(block(coarse, coarse) for _, coarse in steps)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in reversed(steps))
        self.up = nn.ModuleList(block(2 * fine, fine) for fine, _ in reversed(steps))

    def through(self, y: Tensor) -> Tensor:
        """Maps (B, features[0], H, W) down to the coarsest scale and back, joined with those of each scale."""
        skips = []
        for shrink, down in zip(self.shrink, self.down, strict=True):
            skips.append(y)
            y = down(F.relu(shrink(y)))
        for grow, up in zip(self.grow, self.up, strict=True):
            y = up(torch.cat([skips.pop(), grow(y)], dim=1))
        return y


def _twice(in_channels: int, out_channels: int) -> nn.Sequential:
    first, second = (nn.Conv2d(n, out_channels, 3, padding=1) for n in (in_channels, out_channels))
    return nn.Sequential(first, nn.ReLU(inplace=True), second, nn.ReLU(inplace=True))


class UNet(UShape):
    """A compact U-Net (Ronneberger et al.: arXiv 1505.04597) that predicts a correction of the projection shortcut.

    `features` are the channels per scale, each half as large as the one before. With `unshuffle` r > 1 the network
    works on r×r pixels folded into channels (Shi et al.: arXiv 1609.05158, backwards): r² fewer positions to compute
    and an r times larger receptive field. There is no batch normalisation, which would wash out absolute gray levels
    (Lim et al.: arXiv 1707.02921).
    """

    def __init__(
        self, in_channels: int, out_channels: int = 1, features: Sequence[int] = (32, 64, 128, 256), unshuffle: int = 1
    ):
        features = tuple(features)
        if not features or min(features) < 1 or unshuffle < 1:
            raise UnveilError(f"UNet needs positive features and unshuffle ≥ 1, not {features} and {unshuffle}")
        super().__init__(in_channels, out_channels, multiple=unshuffle * 2 ** (len(features) - 1))
        self.fold = nn.PixelUnshuffle(unshuffle)
        self.entry = _twice(in_channels * unshuffle**2, features[0])
        self.scales(features, _twice)
        self.exit = nn.Conv2d(features[0], out_channels * unshuffle**2, 3, padding=1)
        self.unfold = nn.PixelShuffle(unshuffle)
        self.shortcut = Projection(in_channels, out_channels)
        initialise(self, last=self.exit)

    def restore(self, x: Tensor) -> Tensor:
        return self.unfold(self.exit(self.through(self.entry(self.fold(x))))) + self.shortcut(x)
