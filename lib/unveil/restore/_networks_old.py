"""Networks that turn a stack of degraded images into one clean image, and the baselines they have to beat.

Every model here, learned or not, maps (B, C, H, W) float32 in [0, 1] to (B, out, H, W) and takes any H and W: what a
model cannot divide is padded by reflection before and cropped after.

The learned ones predict a *correction*. A restoration network whose input is nearly its output learns faster when it
adds its result to the input (He et al., arXiv 1512.03385; Mao et al., arXiv 1606.08921). Here the shapes differ, C
channels in and one out, so the outermost shortcut is a 1×1 convolution (a learned weighted mean of the channels, C + 1
parameters): the "projection shortcut" of He et al., equation 2. It starts as the plain mean and the correction starts
near zero, so an untrained network answers with the mean of its channels and training improves on that.
"""

import copy
import inspect
import math
from collections.abc import Sequence

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unveil.errors import UnveilError


class Restorer(nn.Module):
    """What all models share: checked input, any image size. Subclasses implement `restore`.

    `multiple` is the number that height and width must be divisible by inside; `forward` sees to it.
    """

    def __init__(self, in_channels: int, out_channels: int = 1, multiple: int = 1):
        super().__init__()
        if in_channels < 1 or out_channels < 1:
            raise UnveilError(f"a network needs at least one channel in and out, not {in_channels} and {out_channels}")
        self.in_channels, self.out_channels, self.multiple = in_channels, out_channels, multiple

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, out, H, W), float32 in [0, 1]; outputs may leave that range a little."""
        if x.ndim != 4 or not self.fits(x.shape[1]):
            raise UnveilError(
                f"{type(self).__name__} was built for inputs (B, {self.in_channels}, H, W) but got {tuple(x.shape)}: "
                "give it the channels it was trained on"
            )
        height, width = x.shape[-2:]
        down, right = -height % self.multiple, -width % self.multiple
        if down or right:
            mode = "reflect" if down < height and right < width else "replicate"
            x = F.pad(x, (0, right, 0, down), mode=mode)
        return self.restore(x)[..., :height, :width]

    def fits(self, channels: int) -> bool:
        """Whether an input of so many channels can be restored."""
        return channels == self.in_channels

    def restore(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class _Projection(nn.Conv2d):
    """The shape-changing outermost shortcut: a 1×1 convolution that starts as the mean of the channels."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 1)
        nn.init.constant_(self.weight, 1 / in_channels)
        nn.init.zeros_(self.bias)


def _initialise(model: nn.Module, last: nn.Module) -> None:
    """He initialisation (arXiv 1502.01852) for rectified layers; the last layer of the correction starts near zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and not isinstance(module, _Projection):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    nn.init.normal_(last.weight, std=1e-3)


class REDNet(Restorer):
    """Residual encoder-decoder with symmetric skips (Mao, Shen, Yang: arXiv 1606.08921, section 3).

    `layers` 3×3 convolutions of `features` channels, the first with stride 2, keep the structure and drop the clutter;
    `layers` transposed convolutions, the last with stride 2, rebuild the details. The output of every second
    convolution (2, 4, …) is added to that of the mirrored transposed convolution, then rectified, which carries
    details across and gradients back. Around all of it runs the 1×1 projection. All convolutions have biases:
    742,664 parameters at 6 channels in, 742,087 at 5 (layers=11, features=64).

    The paper rectifies the final sum too; here it stays linear, because a pixel whose sum is negative would get no
    gradient and dark backgrounds lie exactly there. Clip to [0, 1] afterwards (`evaluation.predict` does).
    """

    def __init__(self, in_channels: int, out_channels: int = 1, layers: int = 11, features: int = 64):
        super().__init__(in_channels, out_channels, multiple=2)
        if layers < 2 or features < 1:
            raise UnveilError(f"REDNet needs at least 2 layers and 1 feature, not {layers} and {features}")
        self.encoder = nn.ModuleList(
            nn.Conv2d(features if i else in_channels, features, 3, stride=1 if i else 2, padding=1)
            for i in range(layers)
        )
        self.decoder = nn.ModuleList(nn.ConvTranspose2d(features, features, 3, padding=1) for _ in range(layers - 1))
        self.decoder.append(nn.ConvTranspose2d(features, out_channels, 3, stride=2, padding=1, output_padding=1))
        self.shortcut = _Projection(in_channels, out_channels)
        _initialise(self, last=self.decoder[-1])

    def restore(self, x: Tensor) -> Tensor:
        skips = {}
        y = x
        for number, convolution in enumerate(self.encoder, start=1):
            y = F.relu(convolution(y))
            if number % 2 == 0:
                skips[len(self.encoder) - number] = y
        for number, convolution in enumerate(self.decoder[:-1], start=1):
            y = F.relu(convolution(y))
            if number in skips:
                y = F.relu(y + skips[number])
        return self.decoder[-1](y) + self.shortcut(x)


def _twice(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
        nn.ReLU(inplace=True),
    )


class UNet(Restorer):
    """A compact U-Net (Ronneberger et al.: arXiv 1505.04597) that predicts a correction of the projection shortcut.

    `features` are the channels per scale, each half as large as the one before. Strided convolutions shrink and
    transposed ones grow the maps. With `unshuffle` r > 1 the network works on r×r pixels folded into channels (Shi et
    al.: arXiv 1609.05158, backwards): r² fewer positions to compute and an r times larger receptive field. There is no
    batch normalisation, which would wash out absolute gray levels (Lim et al.: arXiv 1707.02921).
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
        pairs = list(zip(features[:-1], features[1:], strict=True))
        self.shrink = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.down = nn.ModuleList(_twice(coarse, coarse) for _, coarse in pairs)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in reversed(pairs))
        self.up = nn.ModuleList(_twice(2 * fine, fine) for fine, _ in reversed(pairs))
        self.exit = nn.Conv2d(features[0], out_channels * unshuffle**2, 3, padding=1)
        self.unfold = nn.PixelShuffle(unshuffle)
        self.shortcut = _Projection(in_channels, out_channels)
        _initialise(self, last=self.exit)

    def restore(self, x: Tensor) -> Tensor:
        y = self.entry(self.fold(x))
        skips = []
        for shrink, down in zip(self.shrink, self.down, strict=True):
            skips.append(y)
            y = down(F.relu(shrink(y)))
        for grow, up in zip(self.grow, self.up, strict=True):
            y = up(torch.cat([skips.pop(), grow(y)], dim=1))
        return self.unfold(self.exit(y)) + self.shortcut(x)


class DenoisingAutoencoder(Restorer):
    """A convolutional denoising autoencoder (Vincent et al., ICML 2008) that sees one channel of the stack only.

    Every scale halves the map with a strided convolution and the decoder mirrors it; without skips and without
    shortcut everything passes the bottleneck. What it lacks against the others is what the stack is worth.
    """

    def __init__(
        self, in_channels: int, out_channels: int = 1, channel: int = 0, features: Sequence[int] = (32, 64, 128)
    ):
        features = tuple(features)
        if not features or min(features) < 1:
            raise UnveilError(f"DenoisingAutoencoder needs positive features, not {features}")
        super().__init__(in_channels, out_channels, multiple=2 ** len(features))
        self.channel = _checked(channel, in_channels)
        encoder, decoder = [], []
        for before, after in zip((1, *features[:-1]), features, strict=True):
            encoder += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
            encoder += [nn.Conv2d(after, after, 3, padding=1), nn.ReLU(inplace=True)]
        for before, after in zip(features[::-1], (*features[-2::-1], features[0]), strict=True):
            decoder += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.ReLU(inplace=True)]
        exit = nn.Conv2d(features[0], out_channels, 3, padding=1)
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*decoder, exit)
        _initialise(self, last=exit)

    def restore(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x[:, self.channel : self.channel + 1]))


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
            raise UnveilError(
                f"NAFNet needs as many decoder as encoder scales, not {encoder} and {decoder}, and width, unshuffle ≥ 1"
            )
        super().__init__(in_channels, out_channels, multiple=unshuffle * 2 ** len(encoder))
        widths = [width * 2**i for i in range(len(encoder) + 1)]
        self.fold = nn.PixelUnshuffle(unshuffle)
        self.entry = nn.Conv2d(in_channels * unshuffle**2, width, 3, padding=1)
        self.down = nn.ModuleList(
            nn.Sequential(*(_NAFBlock(w) for _ in range(n))) for w, n in zip(widths, encoder, strict=False)
        )
        self.shrink = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, stride=2) for w in widths[:-1])
        self.middle = nn.Sequential(*(_NAFBlock(widths[-1]) for _ in range(middle)))
        self.grow = nn.ModuleList(
            nn.Sequential(nn.Conv2d(w, 2 * w, 1), nn.PixelShuffle(2)) for w in reversed(widths[1:])
        )
        self.up = nn.ModuleList(
            nn.Sequential(*(_NAFBlock(w) for _ in range(n))) for w, n in zip(widths[-2::-1], decoder, strict=True)
        )
        self.exit = nn.Conv2d(width, out_channels * unshuffle**2, 3, padding=1)
        self.unfold = nn.PixelShuffle(unshuffle)
        self.shortcut = _Projection(in_channels, out_channels)
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


class _ResidualBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(width, width, 3, padding=1)
        )
        self.scale = nn.Parameter(torch.full((width, 1, 1), 0.2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.body(x)


class LevelUNet(Restorer):
    """A U-Net that answers with one background level per image plus whatever stands out of it.

    The level is the channel mean plus a small learned correction, averaged over all pixels with learned attention:
    where the scene is one level behind clutter, a few clear pixels anywhere tell it exactly, which no convolution with
    a finite view can carry across the image. The U-Net then has to find the objects only, not to cancel the clutter. A
    global average and maximum at the coarsest scale (Hu et al.: arXiv 1709.01507) let every pixel know the whole image.

    `features` and `blocks` (residual blocks) are per scale from fine to coarse; the finest works on 2×2 pixels folded
    into channels (`unshuffle`). Use it only where the target really is a flat background with objects.

    With `gate` = (low, high) it also learns how likely each pixel belongs to an object (`presence` in `parts`, trained
    by `Options.presence_weight`). Its answer then keeps only what stands out where that probability exceeds `low` in a
    connected region that exceeds `high` somewhere: a threshold with hysteresis (Canny, doi 10.1109/TPAMI.1986.4767851).
    A regression alone answers doubt with a faint object; the gate decides.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 1,
        features: Sequence[int] = (32, 64, 96, 128),
        blocks: Sequence[int] = (1, 1, 1, 2),
        unshuffle: int = 2,
        gate: Sequence[float] | None = None,
    ):
        features, blocks = tuple(features), tuple(blocks)
        if not features or len(features) != len(blocks) or min(features) < 1 or unshuffle < 1:
            raise UnveilError(f"LevelUNet needs positive features and as many blocks, not {features} and {blocks}")
        if gate is not None and (len(gate) != 2 or not 0 <= gate[0] <= gate[1] <= 1):
            raise UnveilError(f"a gate is two probabilities (low, high), 0 ≤ low ≤ high ≤ 1, not {gate}")
        super().__init__(in_channels, out_channels, multiple=unshuffle * 2 ** (len(features) - 1))
        self.gate = None if gate is None else tuple(gate)
        self.fold = nn.PixelUnshuffle(unshuffle)
        self.entry = nn.Conv2d(self.entry_channels(), features[0], 3, padding=1)
        pairs = list(zip(features[:-1], features[1:], strict=True))
        self.down = nn.ModuleList(_residual_blocks(w, n) for w, n in zip(features, blocks, strict=True))
        self.shrink = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.context = nn.Sequential(
            nn.Linear(2 * features[-1], features[-1]), nn.LeakyReLU(0.1), nn.Linear(features[-1], features[-1])
        )
        self.grow = nn.ModuleList(
            nn.Sequential(nn.Conv2d(coarse, 4 * fine, 1), nn.PixelShuffle(2)) for fine, coarse in reversed(pairs)
        )
        self.up = nn.ModuleList(_residual_blocks(w, n) for w, n in zip(features[-2::-1], blocks[-2::-1], strict=True))
        self.objects = nn.Conv2d(features[0], out_channels * unshuffle**2, 3, padding=1)
        self.unfold = nn.PixelShuffle(unshuffle)
        self.background = nn.Conv2d(features[0], 2 * out_channels, 1)
        nn.init.zeros_(self.background.weight)
        nn.init.zeros_(self.background.bias)
        nn.init.normal_(self.objects.weight, std=1e-3)
        nn.init.zeros_(self.objects.bias)
        if gate is not None:
            self.presence = nn.Conv2d(features[0], out_channels * unshuffle**2, 3, padding=1)
            # Objects are rare; starting near their share spares the first steps.
            nn.init.normal_(self.presence.weight, std=1e-3)
            nn.init.constant_(self.presence.bias, -4.0)

    def entry_channels(self) -> int:
        """Channels that `enter` feeds to the first convolution."""
        return self.in_channels * self.fold.downscale_factor**2

    def enter(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Input of the first convolution, and what the background's level is made from."""
        return self.fold(x), F.avg_pool2d(x.mean(dim=1, keepdim=True), self.fold.downscale_factor)

    def level(self, seen: Tensor, y: Tensor) -> Tensor:
        """Background level (B, out, 1, 1) from what `enter` has seen and the decoder's features y."""
        # In float32 even under autocast: bfloat16 cannot tell neighbouring gray levels apart.
        attention, correction = self.background(y).float().chunk(2, dim=1)
        weights = torch.softmax(attention.flatten(2), dim=2)
        return (weights * (seen.float() + 0.2 * correction).flatten(2)).sum(dim=2)[:, :, None, None]

    def restore(self, x: Tensor) -> Tensor:
        level, objects, presence = self.parts(x)
        return level + objects if presence is None else self.gated(level, objects, presence)

    def gated(self, level: Tensor, objects: Tensor, presence: Tensor) -> Tensor:
        """The image that the gate makes of what `parts` returns."""
        inside = hysteresis(torch.sigmoid(presence), *self.gate)
        outside = 1 - inside
        # What is cut off is background too: on average it says by how much the level is wrong.
        offset = (objects * outside).sum(dim=(2, 3), keepdim=True) / outside.sum(dim=(2, 3), keepdim=True).clamp(1)
        return level + offset + (objects - offset) * inside

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Background level (B, out, 1, 1), what stands out of it and the logit of presence, each (B, out, H, W).

        The input must be of fitting size; without `gate` the presence is None.
        """
        if any(side % self.multiple for side in x.shape[-2:]):
            raise UnveilError(
                f"height and width must be divisible by {self.multiple}, not {x.shape[-2]} × {x.shape[-1]}: "
                "choose another crop"
            )
        x, seen = self.enter(x)
        y = self.entry(x)
        skips = []
        for down, shrink in zip(self.down, self.shrink, strict=False):
            y = down(y)
            skips.append(y)
            y = shrink(y)
        y = self.down[-1](y)
        whole = torch.cat([y.mean(dim=(2, 3)), y.amax(dim=(2, 3))], dim=1)
        y = y + self.context(whole)[:, :, None, None]
        for grow, up in zip(self.grow, self.up, strict=True):
            y = up(grow(y) + skips.pop())
        objects = self.unfold(self.objects(y)).float()
        presence = None if self.gate is None else self.unfold(self.presence(y)).float()
        return self.level(seen, y), objects, presence


class MultiViewUNet(LevelUNet):
    """A `LevelUNet` on registered views instead of their means: it decides itself which views to believe.

    The mean of many views throws away that a place was seen clearly in one of them. Here one small encoder looks at
    every candidate (each view on each plane) by itself, and the mean and maximum of its features over the views,
    in which their order and number play no role (Zaheer et al., "Deep Sets": arXiv 1703.06114), go to the U-Net.

    Input: (B, P·V + 1, H, W), channel p·V + v view v registered on plane p, for `planes` P and any number of views V;
    the last channel is a first guess of the background level. The encoder sees each candidate as it is and, magnified
    `zoom` times, relative to that guess, which sets apart what is barely brighter than the background.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 1,
        planes: int = 3,
        view_features: int = 16,
        features: Sequence[int] = (32, 64, 96, 128),
        blocks: Sequence[int] = (1, 1, 1, 2),
        gate: Sequence[float] | None = None,
        zoom: float = 8.0,
    ):
        if planes < 1 or view_features < 1 or in_channels < planes + 1 or (in_channels - 1) % planes:
            raise UnveilError(
                f"MultiViewUNet needs planes × views + 1 channels and positive view_features, not {in_channels} "
                f"channels for {planes} planes and {view_features} view_features"
            )
        self.planes, self.view_features, self.zoom = planes, view_features, zoom
        super().__init__(in_channels, out_channels, features, blocks, unshuffle=2, gate=gate)
        self.look = nn.Sequential(
            nn.Conv2d(2, view_features, 4, stride=2, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(view_features, view_features, 3, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
        )
        self.trust = nn.Conv2d(features[0], out_channels, 1)
        nn.init.zeros_(self.trust.weight)
        nn.init.constant_(self.trust.bias, -5.0)

    def fits(self, channels: int) -> bool:
        return channels > self.planes and (channels - 1) % self.planes == 0

    def entry_channels(self) -> int:
        return 2 * self.planes * self.view_features

    def enter(self, x: Tensor) -> tuple[Tensor, Tensor]:
        batch, channels, height, width = x.shape
        said, guess = x[:, :-1].contiguous(), x[:, -1:]
        relative = (self.zoom * (said - guess)).clamp(-1, 1)
        candidates = torch.stack([relative, said], dim=2).flatten(0, 1)
        features = self.look(candidates.contiguous(memory_format=torch.channels_last))
        # Pooled in the order in which channels-last tensors lie in memory, or copies take longer than the convolutions.
        views = (channels - 1) // self.planes
        features = features.permute(0, 2, 3, 1).reshape(batch, self.planes, views, -1)
        pooled = torch.stack([features.mean(dim=2), features.max(dim=2).values], dim=2)
        pooled = pooled.view(batch, 2 * self.planes, height // 2, width // 2, self.view_features)
        pooled = pooled.permute(0, 1, 4, 2, 3).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        mean = said[:, :views].mean(dim=1, keepdim=True)
        return pooled, torch.cat([F.avg_pool2d(mean, 2), F.avg_pool2d(guess, 2)], dim=1)

    def level(self, seen: Tensor, y: Tensor) -> Tensor:
        """The guess, corrected by what the pixels that the network trusts more look like."""
        attention, correction = self.background(y).float().chunk(2, dim=1)
        mean, guess = seen.float().split(1, dim=1)
        change = torch.sigmoid(self.trust(y).float()) * (mean - guess) + 0.2 * correction
        weights = torch.softmax(attention.flatten(2), dim=2)
        return guess[..., :1, :1] + (weights * change.flatten(2)).sum(dim=2)[:, :, None, None]


def hysteresis(probability: Tensor, low: float, high: float, reach: int = 64) -> Tensor:
    """Mask (B, C, H, W) of the pixels above `low` that are connected, within `reach` pixels, to one above `high`."""
    allowed = (probability > low).to(probability.dtype)
    grown = (probability > high).to(probability.dtype)
    if not grown.any():
        return grown
    for _ in range(reach):
        before, grown = grown, F.max_pool2d(grown, 3, stride=1, padding=1) * allowed
        if torch.equal(before, grown):
            break
    return grown


def _residual_blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_ResidualBlock(width) for _ in range(count)))


def _checked(channel: int, in_channels: int) -> int:
    if not 0 <= channel < in_channels:
        raise UnveilError(f"there is no channel {channel} among {in_channels}: choose 0 to {in_channels - 1}")
    return channel


class Channel(Restorer):
    """Baseline: one channel of the stack as it is."""

    def __init__(self, in_channels: int, channel: int = 0):
        super().__init__(in_channels)
        self.channel = _checked(channel, in_channels)

    def restore(self, x: Tensor) -> Tensor:
        return x[:, self.channel : self.channel + 1]


class Mean(Restorer):
    """Baseline: the mean of the channels, which is also where the learned networks start."""

    def restore(self, x: Tensor) -> Tensor:
        return x.mean(dim=1, keepdim=True)


class Maximum(Restorer):
    """Baseline: the brightest channel of each pixel."""

    def restore(self, x: Tensor) -> Tensor:
        return x.amax(dim=1, keepdim=True)


class Minimum(Restorer):
    """Baseline: the darkest channel of each pixel."""

    def restore(self, x: Tensor) -> Tensor:
        return x.amin(dim=1, keepdim=True)


class Median(Restorer):
    """Baseline: the median of the channels of each pixel (the mean of the middle two where their number is even)."""

    def restore(self, x: Tensor) -> Tensor:
        ordered, _ = x.sort(dim=1)
        lower, upper = (self.in_channels - 1) // 2, self.in_channels // 2
        return (ordered[:, lower : lower + 1] + ordered[:, upper : upper + 1]) / 2


class FlatMedian(Restorer):
    """Baseline: a flat image at the median of the whole stack. It shows no object, so metrics must not love it."""

    def restore(self, x: Tensor) -> Tensor:
        level, _ = x.flatten(1).median(dim=1)
        return level[:, None, None, None].expand(-1, 1, *x.shape[-2:])


NETWORKS: dict[str, type[Restorer]] = {
    "rednet": REDNet,
    "unet": UNet,
    "nafnet": NAFNet,
    "level": LevelUNet,
    "multiview": MultiViewUNet,
    "autoencoder": DenoisingAutoencoder,
}
BASELINES: dict[str, type[Restorer]] = {
    "channel": Channel,
    "mean": Mean,
    "median": Median,
    "maximum": Maximum,
    "minimum": Minimum,
    "flat": FlatMedian,
}


def build(name: str, in_channels: int, **options) -> Restorer:
    """The network or baseline of that name (a key of `NETWORKS` or `BASELINES`), with its constructor's options.

    Raises UnveilError where the name or an option is unknown or a value does not fit.
    """
    models = NETWORKS | BASELINES
    if name not in models:
        raise UnveilError(f"there is no network {name!r}: choose one of {', '.join(models)}")
    known = [p for p in inspect.signature(models[name]).parameters if p != "in_channels"]
    if unknown := sorted(set(options) - set(known)):
        raise UnveilError(f"network {name!r} has no option {', '.join(unknown)}: it knows {', '.join(known)}")
    return models[name](in_channels, **options)


def parameter_count(model: nn.Module) -> int:
    """The number of trainable values."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def receptive_field(model: nn.Module, in_channels: int | None = None, limit: int = 1024) -> tuple[float, float]:
    """Height and width in pixels of the input region that one output pixel can depend on; inf where it is everything.

    Found by differentiating an output pixel near the centre with respect to the input and measuring where the gradient
    is not zero, which holds for any architecture. A copy of the model in double precision gets positive random weights
    and biases first, so that no rectifier blocks a path and no two paths cancel. With strides the region depends on
    the output pixel's position: the largest over one period (`model.multiple`) counts. A field of more than `limit`
    pixels counts as infinite. (A median's gradient reaches only the value it picked, so `FlatMedian` shows no field.)
    """
    channels = in_channels or model.in_channels
    generator = torch.Generator().manual_seed(0)
    probe = copy.deepcopy(model).double().cpu().eval()
    for parameter in probe.parameters():
        positive = torch.rand(parameter.shape, generator=generator, dtype=torch.float64) + 0.5
        fan = parameter[0].numel() if parameter.ndim == 4 else 1
        parameter.data = positive / fan
    period = getattr(model, "multiple", 1)

    def extent(axis: int) -> float:
        size = 4 * period
        while size <= limit:
            # A strip, narrow across the axis, shows the extent along it at a fraction of a square's cost.
            shape = [1, channels, size, size]
            shape[5 - axis] = min(size, 2 * period)
            x = torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_()
            lines = probe(x).sum(dim=(0, 1, 5 - axis))
            widest, touches = 0, False
            for position in range(size // 2, size // 2 + period):
                (gradient,) = torch.autograd.grad(lines[position], x, retain_graph=True, allow_unused=True)
                seen = gradient.abs().sum(dim=(0, 1, 5 - axis)).nonzero().flatten()
                widest = max(widest, int(seen[-1] - seen[0]) + 1)
                touches |= int(seen[0]) == 0 or int(seen[-1]) == size - 1
            if not touches:
                return widest
            size *= 2
        return math.inf

    return extent(2), extent(3)


def summary(model: nn.Module, size: int | tuple[int, int] = 512, in_channels: int | None = None) -> pd.DataFrame:
    """One row per layer in the order of execution: layer, kind, output (shape of one image), parameters, bytes.

    `size` is the side or (H, W) of the input; `bytes` is what the layer's float32 output takes for one image. The
    parameters add up to the model's.
    """
    height, width = (size, size) if isinstance(size, int) else size
    rows = {}

    def note(name: str):
        def hook(module: nn.Module, inputs, output: Tensor) -> None:
            own = sum(p.numel() for p in module.parameters(recurse=False))
            rows[name] = (name, type(module).__name__, tuple(output.shape[1:]), own, 4 * output.numel())

        return hook

    handles = [
        module.register_forward_hook(note(name or type(module).__name__))
        for name, module in model.named_modules()
        if not any(module.children()) or any(True for _ in module.parameters(recurse=False))
    ]
    reference = next(model.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            model(torch.zeros(1, in_channels or model.in_channels, height, width, device=reference.device))
    finally:
        for handle in handles:
            handle.remove()
    return pd.DataFrame(rows.values(), columns=["layer", "kind", "output", "parameters", "bytes"])
