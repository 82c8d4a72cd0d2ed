"""A network without nonlinear activations."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unveil.errors import UnveilError
from unveil.restore.networks.base import Projection, Restorer


class _ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, keepdim=True, correction=0)
        return (x - mean) * torch.rsqrt(variance + 1e-6) * self.weight + self.bias


class _NAFBlock(nn.Module):
    """One block of NAFNet: gated depth-wise convolution with channel attention, then a gated pixel-wise mixing."""

    def __init__(self, width: int):
        super().__init__()
        self.spatial_norm, self.mixing_norm = _ChannelNorm(width), _ChannelNorm(width)
        self.spatial = nn.Sequential(
            nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        )
        self.attention = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1))
        self.project = nn.Conv2d(width, width, 1)
        self.expand, self.contract = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(width, width, 1)
        # Zero scales make every block start as the identity, which keeps deep stacks of them trainable.
        self.spatial_scale = nn.Parameter(torch.zeros(width, 1, 1))
        self.mixing_scale = nn.Parameter(torch.zeros(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.spatial(self.spatial_norm(x)).chunk(2, dim=1)
        y = first * second
        x = x + self.spatial_scale * self.project(y * self.attention(y))
        first, second = self.expand(self.mixing_norm(x)).chunk(2, dim=1)
        return x + self.mixing_scale * self.contract(first * second)


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_NAFBlock(width) for _ in range(count)))


class NAFNet(Restorer):
    """A small nonlinear-activation-free network (Chen et al., "Simple baselines": arXiv 2204.04676).

    A U-shaped network of gated blocks. Its channel attention averages over the whole image, so every output pixel
    sees all of the input: use crops in training that are not much smaller than the images used later.
    `encoder`, `middle` and `decoder` count blocks, per scale from fine to coarse for `encoder` and back for `decoder`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 1,
        width: int = 16,
        encoder: Sequence[int] = (1, 1, 2),
        middle: int = 2,
        decoder: Sequence[int] = (1, 1, 1),
        unshuffle: int = 1,
    ):
        encoder, decoder = tuple(encoder), tuple(decoder)
        if len(encoder) != len(decoder) or not encoder or width < 1 or unshuffle < 1:
            given = f"{encoder} and {decoder}"
            raise UnveilError(f"NAFNet needs as many decoder as encoder scales, not {given}, and width, unshuffle ≥ 1")
        super().__init__(in_channels, out_channels, multiple=unshuffle * 2 ** len(encoder))
        widths = [width * 2**i for i in range(len(encoder) + 1)]
        self.fold = nn.PixelUnshuffle(unshuffle)
        self.entry = nn.Conv2d(in_channels * unshuffle**2, width, 3, padding=1)
        self.down = nn.ModuleList(_blocks(w, n) for w, n in zip(widths, encoder, strict=False))
        self.shrink = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, stride=2) for w in widths[:-1])
        self.middle = _blocks(widths[-1], middle)
        self.grow = nn.ModuleList(nn.Sequential(nn.Conv2d(w, 2 * w, 1), nn.PixelShuffle(2)) for w in widths[:0:-1])
        self.up = nn.ModuleList(_blocks(w, n) for w, n in zip(widths[-2::-1], decoder, strict=True))
        self.exit = nn.Conv2d(width, out_channels * unshuffle**2, 3, padding=1)
        self.unfold = nn.PixelShuffle(unshuffle)
        self.shortcut = Projection(in_channels, out_channels)
        nn.init.normal_(self.exit.weight, std=1e-3)
        nn.init.zeros_(self.exit.bias)

    def restore(self, x: Tensor) -> Tensor:
        y = self.entry(self.fold(x))
        skips = []
        for down, shrink in zip(self.down, self.shrink, strict=True):
            y = down(y)
            skips.append(y)
            y = shrink(y)
        y = self.middle(y)
        for grow, up in zip(self.grow, self.up, strict=True):
            y = up(grow(y) + skips.pop())
        return self.unfold(self.exit(y)) + self.shortcut(x)
