"""A convolutional autoencoder."""

from collections.abc import Sequence

from torch import Tensor, nn

from unveil.errors import UnveilError
from unveil.restore.networks.base import Restorer, checked, initialise


class DenoisingAutoencoder(Restorer):
    """A convolutional denoising autoencoder (Vincent et al., ICML 2008) of all channels, or of one.

    Every scale halves the map with a strided convolution and the decoder mirrors it; without skips and without
    shortcut everything passes the bottleneck. What it lacks against the others is what the stack is worth.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 1,
        channel: int | None = None,
        features: Sequence[int] = (32, 64, 128),
    ):
        features = tuple(features)
        if not features or min(features) < 1:
            raise UnveilError(f"DenoisingAutoencoder needs positive features, not {features}")
        super().__init__(in_channels, out_channels, multiple=2 ** len(features))
        self.channel = None if channel is None else checked(channel, in_channels)
        first = in_channels if channel is None else 1
        encoder, decoder = [], []
        for before, after in zip((first, *features[:-1]), features, strict=True):
            encoder += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
            encoder += [nn.Conv2d(after, after, 3, padding=1), nn.ReLU(inplace=True)]
        for before, after in zip(features[::-1], (*features[-2::-1], features[0]), strict=True):
            decoder += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.ReLU(inplace=True)]
        exit = nn.Conv2d(features[0], out_channels, 3, padding=1)
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*decoder, exit)
        initialise(self, last=exit)

    def restore(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x if self.channel is None else x[:, self.channel : self.channel + 1]))
