"""What a training writes while it runs: checkpoints that survive a crash, the log, pictures; and its budget."""

from __future__ import annotations

import io
import os
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO
from PIL import Image
from torch import Tensor

from unveil import files
from unveil.errors import UnveilError

Listener = Callable[[list[dict[str, float]]], None]


class SafeCheckpoints(TorchCheckpointIO):
    """Checkpoints written whole or not at all; the one before is kept as ``<name>.before``."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str, storage_options: Any = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        path = Path(path)
        if intact(path):
            os.replace(path, before(path))
        files.write(path, content.getbuffer())


def before(path: Path) -> Path:
    """Where :class:`SafeCheckpoints` keeps the checkpoint that ``path`` replaced."""
    return path.with_name(f"{path.name}.before")


def intact(path: Path) -> bool:
    """Whether a checkpoint is there and all its bytes are those that were written (its ZIP's CRC-32)."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, EOFError):
        return False


def newest(path: Path) -> Path | None:
    """The checkpoint ``path``, or the one before it where that is damaged or missing; None where neither was made.

    Raises :class:`UnveilError` where both are damaged.
    """
    candidates = [place for place in (path, before(path)) if place.exists()]
    for place in candidates:
        if intact(place):
            if place != path:
                print(f"{path}: missing or damaged; going on from the checkpoint before it")
            return place
    if candidates:
        raise UnveilError(f"{path}: damaged, and so is the one before; train anew (--fresh) or choose another folder")
    return None


class EpochLog(Callback):
    """One CSV row per epoch, written at once; a resumed training continues the file."""

    def __init__(self, path: Path, listener: Listener | None = None) -> None:
        self.path, self.listener = path, listener
        self.rows: list[dict[str, float]] = []

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        # Only now is the epoch that a checkpoint resumes from known.
        if self.path.exists():
            rows = pd.read_csv(self.path).to_dict("records")
            self.rows = [row for row in rows if row["epoch"] < trainer.current_epoch]

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row = {"epoch": trainer.current_epoch, "seconds": time.perf_counter() - self.started}
        row |= {"learning_rate": trainer.optimizers[0].param_groups[0]["lr"]} | metrics
        self.rows.append(row)
        if trainer.is_global_zero:
            files.write(self.path, pd.DataFrame(self.rows).to_csv(index=False))
            if self.listener:
                self.listener(self.rows)


class Pictures(Callback):
    """Predictions for a few fixed items as PNG, before the first epoch and after every ``every`` epochs."""

    def __init__(self, folder: Path, items: Sequence[tuple[Tensor, Tensor]], every: int) -> None:
        self.folder, self.items, self.every = folder, list(items), every

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        # Not on_fit_start: there a resumed training still counts from epoch 0.
        if trainer.is_global_zero:
            for i, (inputs, target) in enumerate(self.items):
                save_picture(self.folder / f"item_{i}" / "input.png", inputs)
                save_picture(self.folder / f"item_{i}" / "target.png", target)
            if trainer.current_epoch == 0:
                self._predict(module, 0)

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        # Validation runs with the averaged weights, the ones that will be used.
        epoch = trainer.current_epoch + 1
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        if epoch % self.every == 0 or epoch == trainer.max_epochs:
            self._predict(module, epoch)

    def _predict(self, module: lightning.LightningModule, epoch: int) -> None:
        training = module.network.training
        module.network.eval()
        with torch.no_grad():
            for i, (inputs, _) in enumerate(self.items):
                prediction = module.network(inputs[None].to(module.device))[0].float()
                save_picture(self.folder / f"item_{i}" / f"epoch_{epoch:04d}.png", prediction)
        module.network.train(training)


def save_picture(path: Path, image: Tensor) -> None:
    """Write (C, H, W) in [0, 1] as an 8-bit PNG: three channels in colour, else the middle channel in gray."""
    values = np.rint(image.detach().cpu().double().numpy().clip(0, 1) * 255).astype(np.uint8)
    values = values.transpose(1, 2, 0) if len(values) == 3 else values[len(values) // 2]
    with files.replacing(path) as temporary:
        Image.fromarray(values).save(temporary)


class Budget(Callback):
    """Stops a training in the middle of an epoch once its processor time, over all calls, is spent."""

    def __init__(self, minutes: float) -> None:
        self.seconds, self.earlier, self.start = 60 * minutes, 0.0, time.process_time()

    @property
    def share(self) -> float:
        """The share of the budget that is spent, 1 at the end."""
        return min(1.0, (self.earlier + time.process_time() - self.start) / self.seconds)

    def state_dict(self) -> dict[str, float]:
        return {"spent": self.share * self.seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.earlier = state["spent"]

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.start = time.process_time()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if self.share >= 1:
            trainer.should_stop = True
