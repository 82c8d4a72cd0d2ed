"""Weights at rest: safetensors, with the options of their training in the metadata and as JSON beside them."""

from __future__ import annotations

import dataclasses
import json
import os
import textwrap
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from unveil import files
from unveil.errors import UnveilError
from unveil.restore.networks.base import Restorer
from unveil.restore.options import Options


def save(path: str | os.PathLike[str], model: Restorer, options: Options) -> None:
    """Write the weights of ``model``, and ``options`` into the metadata and as ``.json`` beside them."""
    path = Path(path)
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    # In memory first: a full disk is then an OSError, which the safetensors library does not raise.
    files.write(path, safetensors.torch.save(tensors, {"options": json.dumps(dataclasses.asdict(options))}))
    options.save(path.with_suffix(".json"))


def load(path: str | os.PathLike[str]) -> tuple[Restorer, Options]:
    """The network of a safetensors file, ready to predict, and the options it was trained with.

    Raises UnveilError where the file is missing or damaged, or its weights belong to another network.
    """
    path = Path(path)
    if not path.is_file():
        raise UnveilError(f"{path}: no such weights; train them (python -m unveil train) or name another file")
    try:
        with safe_open(path, framework="pt") as file:
            described = (file.metadata() or {}).get("options")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        remedy = "copy it anew, or name a training's weights.safetensors"
        raise UnveilError(f"{path}: not a readable safetensors file ({error}); {remedy}") from error
    if described is None:
        raise UnveilError(f"{path}: holds no description of its network; save it with restore.weights.save")
    try:
        options = Options.from_dict(json.loads(described))
        model = options.build()
    except (UnveilError, ValueError, TypeError, AttributeError) as error:
        raise UnveilError(f"{path}: its options describe no network ({error}); copy it anew or train again") from error
    fill(model, tensors, f"{path}: the weights do not fit the network {options.network!r}")
    if not all(torch.isfinite(value).all() for value in tensors.values() if value.is_floating_point()):
        raise UnveilError(f"{path}: the weights hold NaN or infinity; copy them anew or train again")
    return model.eval(), options


def fill(model: Restorer, tensors: dict[str, torch.Tensor], complaint: str) -> None:
    """Give ``model`` its weights; where they are another network's, :class:`UnveilError` begins with ``complaint``."""
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        lines = str(error).strip().splitlines()
        reason = textwrap.shorten(lines[min(1, len(lines) - 1)], 120, placeholder=" …")
        raise UnveilError(f"{complaint} ({reason}); name its own weights") from error
