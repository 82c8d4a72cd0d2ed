"""Pixel losses, chosen by name and set by ``Options.loss_options``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from unveil.errors import UnveilError

if TYPE_CHECKING:
    from unveil.restore.training import Options


def charbonnier(prediction: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """√(difference² + ε²) − ε, quadratic below ε, absolute above (Charbonnier 1994, 10.1109/ICIP.1994.413553)."""
    return (torch.sqrt((prediction - target).square() + epsilon**2) - epsilon).mean()


def root(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean over the images of √mean d²: images of weak and of strong noise count alike, as in a mean of PSNRs."""
    return torch.sqrt((prediction - target).square().flatten(1).mean(1) + 1e-6).mean()


def objects(
    prediction: Tensor,
    target: Tensor,
    squared_weight: float = 0.0,
    object_weight: float = 3.0,
    contrast: float = 0.05,
    absolute_weight: float = 1.0,
) -> Tensor:
    """``absolute_weight`` · |d| + ``squared_weight`` · d²; what stands out counts 1 + ``object_weight`` times."""
    error = (prediction - target).abs()
    error = absolute_weight * error + squared_weight * error.square()
    return ((1 + object_weight * standing_out(target, contrast)) * error).mean()


def standing_out(target: Tensor, contrast: float = 0.05) -> Tensor:
    """1 where a (B, C, H, W) target differs from its image's median by more than ``contrast``, else 0."""
    background = target.flatten(1).median(1).values.view(-1, 1, 1, 1)
    return ((target - background).abs() > contrast).to(target.dtype)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "charbonnier": charbonnier,
    "root": root,
    "objects": objects,
}


def pixel_loss(prediction: Tensor, target: Tensor, options: Options) -> Tensor:
    """The loss that ``options.loss`` names, of (B, C, H, W) tensors; a scalar."""
    return LOSSES[options.loss](prediction, target, **options.loss_options)


def check(options: Options) -> None:
    """:class:`UnveilError` where the loss or one of its options is unknown."""
    if options.loss not in LOSSES:
        raise UnveilError(f"there is no loss {options.loss!r}: choose one of {', '.join(LOSSES)}")
    known = [] if options.loss in ("mse", "l1") else list(inspect.signature(LOSSES[options.loss]).parameters)[2:]
    if unknown := sorted(set(options.loss_options) - set(known)):
        raise UnveilError(f"loss {options.loss!r} has no option {', '.join(unknown)}: it knows {', '.join(known)}")
