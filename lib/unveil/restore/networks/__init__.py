"""Networks that restore images, and the registry through which options name them.

A new network is one file in this folder, a subclass of :class:`base.Restorer`, and one line in `NETWORKS`.
"""

import inspect
from typing import Any

from unveil.errors import UnveilError
from unveil.restore.networks.attention import ViewAttention
from unveil.restore.networks.autoencoder import DenoisingAutoencoder
from unveil.restore.networks.base import Restorer
from unveil.restore.networks.colouriser import Colouriser
from unveil.restore.networks.depth import DepthRestorer
from unveil.restore.networks.finder import DamageFinder
from unveil.restore.networks.five_layers import FiveLayers
from unveil.restore.networks.gan import DepthGAN
from unveil.restore.networks.gated import GatedUNet
from unveil.restore.networks.level import LevelUNet, MultiViewUNet
from unveil.restore.networks.nafnet import NAFNet
from unveil.restore.networks.rednet import REDNet
from unveil.restore.networks.residual_unet import ResidualUNet
from unveil.restore.networks.srcnn import SRCNN
from unveil.restore.networks.subpixel import SubPixel
from unveil.restore.networks.unet import UNet

NETWORKS: dict[str, type[Restorer]] = {
    "rednet": REDNet,
    "unet": UNet,
    "nafnet": NAFNet,
    "level": LevelUNet,
    "multiview": MultiViewUNet,
    "attention": ViewAttention,
    "autoencoder": DenoisingAutoencoder,
    "five_layers": FiveLayers,
    "residual_unet": ResidualUNet,
    "srcnn": SRCNN,
    "subpixel": SubPixel,
    "finder": DamageFinder,
    "gated": GatedUNet,
    "colouriser": Colouriser,
    "depth": DepthRestorer,
    "depth_gan": DepthGAN,
}


def build(name: str, in_channels: int, **options: Any) -> Restorer:
    """The network of that name (a key of `NETWORKS`) with its constructor's options.

    Raises
    ------
    UnveilError
        if the name or an option is unknown, or a value does not fit
    """
    if name not in NETWORKS:
        raise UnveilError(f"there is no network {name!r}: choose one of {', '.join(NETWORKS)}")
    known = [p for p in inspect.signature(NETWORKS[name]).parameters if p != "in_channels"]
    if unknown := sorted(set(options) - set(known)):
        raise UnveilError(f"network {name!r} has no option {', '.join(unknown)}: it knows {', '.join(known)}")
    try:
        return NETWORKS[name](in_channels, **options)
    except TypeError as error:
        raise UnveilError(f"network {name!r} cannot be built with {options}: {error}") from error
