"""Predictions for images of any size: mirrored inputs averaged, large images cut into overlapping tiles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from unveil.errors import UnveilError

Array = np.ndarray | Tensor
Model = nn.Module | Callable[[np.ndarray], Array]


def predict(
    model: Model,
    inputs: Array,
    flips: bool = False,
    tile: int | None = None,
    overlap: int = 32,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Restore (C, H, W) or (B, C, H, W) in [0, 1] (uint8 is divided by 255) of any size.

    Parameters
    ----------
    model
        a network, which runs where it is or moves to ``device``, or a function of (C, H, W) float32 arrays
    flips
        answer with the mean over the input, mirrored left-right, upside down and both
    tile
        side in input pixels of the square tiles that a network sees at a time; None: the whole image. Tiles overlap by
        ``overlap`` pixels on each side, which must cover the network's receptive field for seamless results
    progress
        called with (done, total) after every tile of every image

    Returns
    -------
    numpy.ndarray
        (K, s·H, s·W) or (B, K, s·H, s·W) float32 clipped to [0, 1]; a single output channel loses its axis

    Raises
    ------
    UnveilError
        if the input or the answer holds NaN or infinity, or has another shape
    """
    mirrored = [_predict(model, inputs, axes, tile, overlap, device, progress) for axes in _mirrors(flips)]
    return mirrored[0] if len(mirrored) == 1 else np.mean(mirrored, axis=0)


def predict_spread(
    model: Model, inputs: Array, device: str | torch.device | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """`predict` with flips, and the standard deviation over the four flips: where the model disagrees with itself."""
    several = [_predict(model, inputs, axes, None, 0, device, None) for axes in _mirrors(True)]
    return np.mean(several, axis=0), np.std(several, axis=0)


def _mirrors(flips: bool) -> list[tuple[int, ...]]:
    return [(), (-1,), (-2,), (-2, -1)] if flips else [()]


def _predict(
    model: Model,
    inputs: Array,
    axes: tuple[int, ...],
    tile: int | None,
    overlap: int,
    device: str | torch.device | None,
    progress: Callable[[int, int], None] | None,
) -> np.ndarray:
    """The prediction of the mirrored input, mirrored back."""
    x = torch.as_tensor(inputs).detach().cpu()
    if x.ndim not in (3, 4):
        raise UnveilError(f"a model restores (C, H, W) or (B, C, H, W), not an array of shape {tuple(x.shape)}")
    if x.is_floating_point() and not torch.isfinite(x).all():
        raise UnveilError("the input holds NaN or infinity: look at the pixels without any coverage before restoring")
    single = x.ndim == 3
    batch = (x[None] if single else x).flip(axes)
    results = []
    for number, one in enumerate(batch.split(1)):
        report = (lambda done, all, n=number: progress(n * all + done, len(batch) * all)) if progress else None
        results.append(_tiled(model, one, tile, overlap, device, report) if tile else _run(model, one, device))
    y = torch.cat(results).flip(axes)
    if not torch.isfinite(y).all():
        raise UnveilError("the model answers with NaN or infinity: its weights are damaged or its training diverged")
    y = y[:, 0] if y.shape[1] == 1 else y
    return (y[0] if single else y).numpy()


def _tiled(
    model: Model,
    x: Tensor,
    tile: int,
    overlap: int,
    device: str | torch.device | None,
    progress: Callable[[int, int], None] | None,
) -> Tensor:
    """(1, C, H, W) → (1, K, s·H, s·W), tile by tile."""
    height, width = x.shape[-2:]
    corners = [(r, c) for r in range(0, height, tile) for c in range(0, width, tile)]
    whole = None
    for done, (top, left) in enumerate(corners, 1):
        rows, columns = (
            slice(max(0, start - overlap), min(size, start + tile + overlap))
            for start, size in ((top, height), (left, width))
        )
        part = _run(model, x[..., rows, columns], device)
        scale = part.shape[-1] // (columns.stop - columns.start)
        if whole is None:
            whole = torch.empty(1, part.shape[1], scale * height, scale * width)
        bottom, right = min(top + tile, height), min(left + tile, width)
        inner = part[
            ..., scale * (top - rows.start) : scale * (bottom - rows.start),
            scale * (left - columns.start) : scale * (right - columns.start),
        ]  # fmt: skip
        whole[..., scale * top : scale * bottom, scale * left : scale * right] = inner
        if progress:
            progress(done, len(corners))
    return whole


def _run(model: Model, x: Tensor, device: str | torch.device | None) -> Tensor:
    """(1, C, H, W) → (1, K, s·H, s·W) on the CPU, clipped to [0, 1]."""
    x = x.float() / (1 if x.is_floating_point() else 255)
    if not isinstance(model, nn.Module):
        y = torch.as_tensor(np.asarray(model(x[0].numpy()), dtype=np.float32))
        return (y[None] if y.ndim == 2 else y)[None].clamp(0, 1)
    if device is not None:
        model.to(device)
    reference = next(model.parameters(), torch.empty(0, device=device))
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            return model(x.to(reference.device, reference.dtype)).float().clamp(0, 1).cpu()
    finally:
        model.train(was_training)
