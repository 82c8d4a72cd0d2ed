"""Networks that answer with one background level and the objects that stand out of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unveil.errors import UnveilError
from unveil.restore import losses
from unveil.restore.networks.base import Restorer

if TYPE_CHECKING:
    from unveil.restore.training import Options


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
    global average and maximum at the coarsest scale (Hu et al.: arXiv 1709.01507) give every pixel a summary of the
    whole image.

    `features` and `blocks` (residual blocks) are per scale from fine to coarse; the finest works on 2×2 pixels folded
    into channels (`unshuffle`). Use it only where the target really is a flat background with objects.

    With `gate` = (low, high) it also learns how likely each pixel belongs to an object: `presence` in `answer`, trained
    by `presence_weight` times the cross-entropy with what stands out of the target, while what stands out of the
    answer is trained as if the gate were open. Its answer then keeps only what stands out where that probability
    exceeds `low` in a connected region that exceeds `high` somewhere: a threshold with hysteresis (Canny,
    doi 10.1109/TPAMI.1986.4767851). A regression alone answers doubt with a faint object; the gate decides.
    """

    wants = "stack"

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 1,
        features: Sequence[int] = (32, 64, 96, 128),
        blocks: Sequence[int] = (1, 1, 1, 2),
        unshuffle: int = 2,
        gate: Sequence[float] | None = None,
        presence_weight: float = 0.5,
    ):
        features, blocks = tuple(features), tuple(blocks)
        if not features or len(features) != len(blocks) or min(features) < 1 or unshuffle < 1:
            raise UnveilError(f"LevelUNet needs positive features and as many blocks, not {features} and {blocks}")
        if gate is not None and (len(gate) != 2 or not 0 <= gate[0] <= gate[1] <= 1):
            raise UnveilError(f"a gate is two probabilities (low, high), 0 ≤ low ≤ high ≤ 1, not {gate}")
        super().__init__(in_channels, out_channels, multiple=unshuffle * 2 ** (len(features) - 1))
        self.gate = None if gate is None else tuple(gate)
        self.presence_weight = presence_weight
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
        level, objects, presence = self.answer(x)
        return level + objects if presence is None else self.gated(level, objects, presence)

    def loss(self, inputs: Tensor, target: Tensor, options: Options, part: int = 0) -> Tensor:
        level, objects, presence = self.answer(inputs)
        pixels = losses.pixel_loss(level + objects, target, options)
        if presence is None:
            return pixels
        known = F.binary_cross_entropy_with_logits(presence, losses.standing_out(target))
        return pixels + self.presence_weight * known

    def gated(self, level: Tensor, objects: Tensor, presence: Tensor) -> Tensor:
        """The image that the gate makes of what `answer` returns."""
        inside = hysteresis(torch.sigmoid(presence), *self.gate)
        outside = 1 - inside
        # What is cut off is background too: on average it says by how much the level is wrong.
        offset = (objects * outside).sum(dim=(2, 3), keepdim=True) / outside.sum(dim=(2, 3), keepdim=True).clamp(1)
        return level + offset + (objects - offset) * inside

    def answer(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Background level (B, out, 1, 1), what stands out of it and the logit of presence, each (B, out, H, W).

        The input must be of fitting size; without `gate` the presence is None.
        """
        self.check(x)
        entering, seen = self.enter(x)
        y = self.decoded(entering)
        objects = self.unfold(self.objects(y)).float()
        presence = None if self.gate is None else self.unfold(self.presence(y)).float()
        return self.level(seen, y), objects, presence

    def check(self, x: Tensor) -> None:
        """:class:`UnveilError` where height or width do not fit."""
        if any(side % self.multiple for side in x.shape[-2:]):
            raise UnveilError(
                f"height and width must be divisible by {self.multiple}, not {x.shape[-2]} × {x.shape[-1]}: "
                "choose another crop"
            )

    def decoded(self, x: Tensor) -> Tensor:
        """The decoder's features (B, features[0], H / unshuffle, W / unshuffle) of what `enter` feeds."""
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
        return y


class MultiViewUNet(LevelUNet):
    """A `LevelUNet` on registered views instead of their means, which it weighs itself.

    The mean of many views throws away that a place was seen clearly in one of them. Here one small encoder looks at
    every candidate (each view on each plane) by itself, and the mean and maximum of its features over the views,
    in which their order and number play no role (Zaheer et al., "Deep Sets": arXiv 1703.06114), go to the U-Net.

    Input: (B, P·V + 1, H, W), channel p·V + v view v registered on plane p, for `planes` P and any number of views V;
    the last channel is a first guess of the background level. The encoder sees each candidate as it is and, magnified
    `zoom` times, relative to that guess, which sets apart what is barely brighter than the background.
    """

    wants = "views"

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 1,
        planes: int = 3,
        view_features: int = 16,
        features: Sequence[int] = (32, 64, 96, 128),
        blocks: Sequence[int] = (1, 1, 1, 2),
        gate: Sequence[float] | None = None,
        presence_weight: float = 0.5,
        zoom: float = 8.0,
    ):
        if planes < 1 or view_features < 1 or in_channels < planes + 1 or (in_channels - 1) % planes:
            raise UnveilError(
                f"MultiViewUNet needs planes × views + 1 channels and positive view_features, not {in_channels} "
                f"channels for {planes} planes and {view_features} view_features"
            )
        self.planes, self.view_features, self.zoom = planes, view_features, zoom
        super().__init__(in_channels, out_channels, features, blocks, 2, gate, presence_weight)
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
        return self.pooled(self.looked(x)), self.levels(x)

    def looked(self, x: Tensor) -> Tensor:
        """What the encoder sees in every candidate, (B, planes, V, H / 2, W / 2, view_features)."""
        said, guess = x[:, :-1].contiguous(), x[:, -1:]
        relative = (self.zoom * (said - guess)).clamp(-1, 1)
        candidates = torch.stack([relative, said], dim=2).flatten(0, 1)
        features = self.look(candidates.contiguous(memory_format=torch.channels_last))
        return features.permute(0, 2, 3, 1).unflatten(0, (len(x), self.planes, -1))

    def pooled(self, features: Tensor) -> Tensor:
        """Mean and maximum of the features over the views, channels first."""
        batch, planes, _, height, width, count = features.shape
        # Pooled in the order in which channels-last tensors lie in memory, or copies take longer than the convolutions.
        features = features.flatten(3)
        pooled = torch.stack([features.mean(dim=2), features.max(dim=2).values], dim=2)
        pooled = pooled.view(batch, 2 * planes, height, width, count)
        return pooled.permute(0, 1, 4, 2, 3).flatten(1, 2).contiguous(memory_format=torch.channels_last)

    def levels(self, x: Tensor) -> Tensor:
        """Mean of the views on the first plane and the guess, (B, 2, H / 2, W / 2)."""
        mean = x[:, : (x.shape[1] - 1) // self.planes].mean(dim=1, keepdim=True)
        return F.avg_pool2d(torch.cat([mean, x[:, -1:]], dim=1), 2)

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
