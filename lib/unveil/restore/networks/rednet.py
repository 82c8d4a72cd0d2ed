"""The course's network."""

import torch.nn.functional as F
from torch import Tensor, nn

from unveil.errors import UnveilError
from unveil.restore.networks.base import Projection, Restorer, initialise


class REDNet(Restorer):
    """Residual encoder-decoder with symmetric skips (Mao, Shen, Yang: arXiv 1606.08921, section 3).

    `layers` 3×3 convolutions of `features` channels, the first with stride 2, keep the structure and drop the clutter;
    `layers` transposed convolutions, the last with stride 2, rebuild the details. The output of every second
    convolution (2, 4, …) is added to that of the mirrored transposed convolution, then rectified, which carries
    details across and gradients back. Around all of it runs the 1×1 projection. All convolutions have biases:
    742,664 parameters at 6 channels in, 742,087 at 5 (layers=11, features=64).

    The paper rectifies the final sum too; here it stays linear, because a pixel whose sum is negative would get no
    gradient and dark backgrounds lie exactly there. Clip to [0, 1] afterwards (`inference.predict` does).
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
        self.shortcut = Projection(in_channels, out_channels)
        initialise(self, last=self.decoder[-1])

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
