"""What a network costs and what it sees: parameters, receptive field, layers."""

import copy
import math

import pandas as pd
import torch
from torch import Tensor, nn


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
            ends = []
            for position in range(size // 2, size // 2 + period):
                (gradient,) = torch.autograd.grad(lines[position], x, retain_graph=True, allow_unused=True)
                seen = gradient.abs().sum(dim=(0, 1, 5 - axis)).nonzero()
                ends.append((int(seen[0]), int(seen[-1])))
            if all(first > 0 and last < size - 1 for first, last in ends):
                return max(last - first + 1 for first, last in ends)
            size *= 2
        return math.inf

    return extent(2), extent(3)


def summary(model: nn.Module, size: int | tuple[int, int] = 512) -> pd.DataFrame:
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
            model(torch.zeros(1, model.in_channels, height, width, device=reference.device))
    finally:
        for handle in handles:
            handle.remove()
    return pd.DataFrame(rows.values(), columns=["layer", "kind", "output", "parameters", "bytes"])
