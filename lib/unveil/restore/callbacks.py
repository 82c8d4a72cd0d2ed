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
from lightning.pytorch.callbacks import Callback, Timer
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
    there = [place for place in (path, before(path)) if place.exists()]
    found = next(filter(intact, there), None)
    if there and found is None:
        raise UnveilError(f"{path}: damaged, and so is the one before; train anew (--fresh) or choose another folder")
    if found not in (path, None):
        print(f"{path}: missing or damaged; going on from the checkpoint before it")
    return found


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
    """Predictions for a few fixed items as PNG: ``latest.png`` after every epoch, and one to keep every ``every``."""

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
        if not trainer.sanity_checking and trainer.is_global_zero:
            self._predict(module, epoch, epoch % self.every == 0 or epoch == trainer.max_epochs)

    def _predict(self, module: lightning.LightningModule, epoch: int, kept: bool = True) -> None:
        training = module.network.training
        module.network.eval()
        with torch.no_grad():
            for i, (inputs, _) in enumerate(self.items):
                prediction = module.network(inputs[None].to(module.device))[0].float()
                for name in ("latest", *[f"epoch_{epoch:04d}"] * kept):
                    save_picture(self.folder / f"item_{i}" / f"{name}.png", prediction)
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


class Progress(Callback):
    """Writes ``progress.json``, from the first batch on and at most once a second, and at the end why it is the end.

    A file ``stop`` beside it ends the training after the batch, as the monitor's button asks.
    """

    def __init__(self, folder: Path, budget: Budget | None, timer: Timer | None) -> None:
        self.path, self.asked, self.budget, self.timer = folder / "progress.json", folder / "stop", budget, timer
        self.state: dict[str, Any] = {}

    def _share(self, trainer: lightning.Trainer, batch: int) -> float:
        """How much is done by epochs, by processor time or by the clock, whichever is nearest to its end."""
        epochs = (trainer.current_epoch + batch / trainer.num_training_batches) / trainer.max_epochs
        spent = self.budget.share if self.budget else 0.0
        clock = self.timer.time_elapsed() if self.timer else 0.0
        return max(epochs, spent, clock / (clock + self.timer.time_remaining()) if clock else 0.0)

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.asked.unlink(missing_ok=True)
        self.start, self.first, self.written, self.stopped = time.perf_counter(), self._share(trainer, 0), 0.0, False

    def on_train_batch_end(self, trainer: lightning.Trainer, *rest: Any) -> None:
        batch, now = rest[-1] + 1, time.perf_counter()
        if self.asked.exists():
            trainer.should_stop = self.stopped = True
        if trainer.is_global_zero and now - self.written >= 1:
            share = self._share(trainer, batch)
            left = (now - self.start) * (1 - share) / max(share - self.first, 1e-9)
            where = {"epoch": trainer.current_epoch, "batch": batch, "batches": trainer.num_training_batches}
            self.state = where | {"share": min(share, 1.0), "seconds_left": max(left, 0.0)}
            files.write_json(self.path, self.state)
            self.written = now

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.asked.unlink(missing_ok=True)
        reason = "it no longer got better"
        if not trainer.should_stop:
            reason = "all epochs are done"
        elif self.stopped:
            reason = "stopped by hand"
        elif self.budget and self.budget.share >= 1:
            reason = f"its {self.budget.seconds / 60:g} minutes of processor time are spent"
        elif self.timer and self.timer.time_remaining() <= 0:
            reason = f"its {(self.timer.time_elapsed() + self.timer.time_remaining()) / 60:g} minutes are over"
        self._end(trainer, reason)

    def on_exception(self, trainer: lightning.Trainer, module: Any, exception: BaseException) -> None:
        self._end(trainer, f"an error: {exception or type(exception).__name__}")

    def _end(self, trainer: lightning.Trainer, reason: str) -> None:
        if trainer.is_global_zero:
            files.write_json(self.path, self.state | {"epoch": trainer.current_epoch, "ended": reason})
