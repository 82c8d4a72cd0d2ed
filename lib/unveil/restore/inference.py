"""Predictions for images of any size: mirrored inputs averaged, large images cut into overlapping tiles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from unveil.errors import UnveilError

Array = np.ndarray | Tensor
Model = nn.Module | Callable[[np.ndarray], Array]
Progress = Callable[[int, int], None]
MIRRORS: list[tuple[int, ...]] = [(), (-1,), (-2,), (-2, -1)]


def predict(
    model: Model,
    inputs: Array,
    flips: bool = False,
    tile: int | None = None,
    overlap: int = 32,
    progress: Progress | None = None,
) -> np.ndarray:
    """Restore (C, H, W) or (B, C, H, W) in [0, 1] (uint8 is divided by 255) of any size.

    model: a network, which runs where it is, or a function of (C, H, W) float32 arrays · flips: answer with the mean
    over the input, mirrored left-right, upside down and both · tile: side in input pixels of the square tiles that a
    network sees at a time; None: the whole image. Tiles overlap by ``overlap`` pixels on each side, which must cover
    the network's receptive field for seamless results · progress: called with (done, total) after every tile of every
    image in every orientation.

    Returns (K, s·H, s·W) or (B, K, s·H, s·W) float32 clipped to [0, 1]; a single output channel loses its axis. Raises
    UnveilError where the input or the answer holds NaN or infinity, or has another shape.
    """
    mean, axes = None, MIRRORS if flips else MIRRORS[:1]
    for turn, flipped in enumerate(axes):
        report = (lambda now, all, turn=turn: progress(turn * all + now, len(axes) * all)) if progress else None
        answer = _predict(model, inputs, flipped, tile, overlap, report)
        # Added up as they come: four answers of a large picture would take more memory than all else.
        mean = answer if mean is None else np.add(mean, answer, out=mean)
    return mean if len(axes) == 1 else np.divide(mean, np.float32(len(axes)), out=mean)


def predict_spread(model: Model, inputs: Array) -> tuple[np.ndarray, np.ndarray]:
    """`predict` with flips, and the standard deviation over the four flips: where the model disagrees with itself."""
    several = [_predict(model, inputs, axes, None, 0) for axes in MIRRORS]
    return np.mean(several, axis=0), np.std(several, axis=0)


def _predict(
    model: Model, inputs: Array, axes: tuple[int, ...], tile: int | None, overlap: int, progress: Progress | None = None
) -> np.ndarray:
    """The prediction of the mirrored input, mirrored back."""
    x = torch.as_tensor(inputs).detach().cpu()
    if x.ndim not in (3, 4):
        raise UnveilError(f"a model restores (C, H, W) or (B, C, H, W), not an array of shape {tuple(x.shape)}")
    if x.is_floating_point() and not torch.isfinite(x).all():
        raise UnveilError("the input holds NaN or infinity: look at the pixels without any coverage before restoring")
    batch = (x if x.ndim == 4 else x[None]).flip(axes)
    height, width = x.shape[-2:]
    side = tile or max(height, width)
    corners = [(n, r, c) for n in range(len(batch)) for r in range(0, height, side) for c in range(0, width, side)]
    y = None
    for done, (number, top, left) in enumerate(corners, 1):
        places = (top, height), (left, width)
        rows, columns = (slice(max(0, at - overlap), min(size, at + side + overlap)) for at, size in places)
        part = _run(model, batch[number : number + 1, :, rows, columns])
        scale = part.shape[-1] // (columns.stop - columns.start)
        if y is None:
            y = torch.empty(len(batch), part.shape[1], scale * height, scale * width)
        target = y[number, :, scale * top : scale * (top + side), scale * left : scale * (left + side)]
        r, c = scale * (top - rows.start), scale * (left - columns.start)
        target[:] = part[0, :, r : r + target.shape[1], c : c + target.shape[2]]
        if progress:
            progress(done, len(corners))
    if not torch.isfinite(y).all():
        raise UnveilError("the model answers with NaN or infinity: its weights are damaged or its training diverged")
    y = y.flip(axes) if axes else y
    y = y[:, 0] if y.shape[1] == 1 else y
    return (y if x.ndim == 4 else y[0]).numpy()


def _run(model: Model, x: Tensor) -> Tensor:
    """(1, C, H, W) → (1, K, s·H, s·W) on the CPU, clipped to [0, 1]."""
    x = x.float() / (1 if x.is_floating_point() else 255)
    if not isinstance(model, nn.Module):
        y = torch.as_tensor(np.asarray(model(x[0].numpy()), dtype=np.float32))
        return (y[None] if y.ndim == 2 else y)[None].clamp(0, 1)
    reference = next(model.parameters(), torch.empty(0))
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            return model(x.to(reference.device, reference.dtype)).float().clamp(0, 1).cpu()
    finally:
        model.train(was_training)
