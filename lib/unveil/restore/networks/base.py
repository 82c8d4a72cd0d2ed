"""What all networks share: a checked input, any image size, a scale, a loss and the parameters to train.

The learned networks predict a *correction*. A restoration network whose input is nearly its output learns faster when
it adds its result to the input (He et al., arXiv 1512.03385; Mao et al., arXiv 1606.08921). Where the numbers of
channels differ, the outermost shortcut is a 1×1 convolution, the "projection shortcut" of He et al., equation 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from unveil.errors import UnveilError
from unveil.restore import losses

if TYPE_CHECKING:
    from unveil.restore.training import Options


class Restorer(nn.Module):
    """A model from (B, C, H, W) to (B, out, scale·H, scale·W), float32 in [0, 1]; subclasses implement `restore`.

    Height and width are padded by reflection to a `multiple` inside and cropped afterwards. `wants` names what a task
    feeds: one picture, a stack of planes, or registered views.
    """

    wants: ClassVar[Literal["image", "stack", "views"]] = "image"

    def __init__(self, in_channels: int, out_channels: int = 1, multiple: int = 1, scale: int = 1):
        super().__init__()
        if min(in_channels, out_channels, multiple, scale) < 1:
            raise UnveilError(
                f"a network needs at least one channel in and out and a positive scale, "
                f"not {in_channels}, {out_channels} and {scale}"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.multiple, self.scale = multiple, scale

    def forward(self, x: Tensor) -> Tensor:
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
        return self.restore(x)[..., : self.scale * height, : self.scale * width]

    def fits(self, channels: int) -> bool:
        """Whether an input of so many channels can be restored."""
        return channels == self.in_channels

    def restore(self, x: Tensor) -> Tensor:
        """The model itself, on an input whose height and width are divisible by `multiple`."""
        raise NotImplementedError

    def loss(self, inputs: Tensor, target: Tensor, options: Options, part: int = 0) -> Tensor:
        """What training makes small, a scalar; by default the pixel loss that the options name.

        `part` counts through `parts`. Further channels of the target (a mask, say) are for networks with a loss of
        their own.
        """
        return losses.pixel_loss(self(inputs).float(), target, options)

    def parts(self) -> list[Iterable[nn.Parameter]]:
        """Parameters per optimiser; an adversarial network has two (generator, critic), trained in turn."""
        return [self.parameters()]


class Projection(nn.Conv2d):
    """The outermost shortcut: a 1×1 convolution that starts as the identity, or as the mean of the channels."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 1)
        if in_channels == out_channels:
            nn.init.dirac_(self.weight)
        else:
            nn.init.constant_(self.weight, 1 / in_channels)
        nn.init.zeros_(self.bias)


def initialise(model: nn.Module, last: nn.Module) -> None:
    """He initialisation (arXiv 1502.01852) for rectified layers; the last layer of the correction starts near zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and not isinstance(module, Projection):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    nn.init.normal_(last.weight, std=1e-3)


def checked(channel: int, in_channels: int) -> int:
    """The channel, if it is one of ``in_channels``; else :class:`UnveilError`."""
    if not 0 <= channel < in_channels:
        raise UnveilError(f"there is no channel {channel} among {in_channels}: choose 0 to {in_channels - 1}")
    return channel
