"""Training of a restoration network with Lightning: checkpoints, log, pictures, resuming, weights.

A training lives in one folder::

    options.json            the options it was started with
    log.csv                 one row per epoch
    progress.json           how far it is, seconds left, and why it ended; a file ``stop`` ends it
    best.ckpt, last.ckpt    Lightning checkpoints (best by ``Options.monitor``); ``.before``: the ones they replaced
    pictures/item_0/        input.png, target.png, latest.png and one prediction per ``pictures_every`` epochs
    weights.safetensors     the best averaged weights, with the options in the file's metadata and beside it as JSON
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import pickle
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, Timer, WeightAveraging
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from unveil import files, project
from unveil.errors import UnveilError
from unveil.restore import weights
from unveil.restore.callbacks import Budget, EpochLog, Listener, Pictures, Progress, SafeCheckpoints, newest
from unveil.restore.metrics import PSNR_CAP
from unveil.restore.networks import Restorer
from unveil.restore.options import Options
from unveil.restore.pairs import EpochSampler

__all__ = ["Fit", "Options", "train"]


@dataclasses.dataclass(frozen=True)
class Fit:
    """A finished (or stopped) training; ``ended`` says why it is so."""

    folder: Path
    options: Options
    history: pd.DataFrame
    model: Restorer
    ended: str = ""

    @property
    def weights(self) -> Path:
        """The safetensors file of the best weights."""
        return self.folder / "weights.safetensors"


class Restoration(lightning.LightningModule):
    """The network under training; items are (input (C, H, W), target (K, s·H, s·W)) float32."""

    def __init__(self, options: Options, budget: Budget | None = None) -> None:
        super().__init__()
        # An adversarial network trains its parts in turn, which Lightning leaves to the module.
        self.automatic_optimization = False
        self.options, self.budget = options, budget
        # Channels last is a third faster on CPUs and on tensor cores; the numbers do not change.
        self.network = _begun(options).to(memory_format=torch.channels_last)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        inputs, target = batch
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        optimizers, schedules = self.optimizers(), self.lr_schedulers()
        several = isinstance(optimizers, list)
        steps = zip(optimizers, schedules, strict=True) if several else [(optimizers, schedules)]
        for part, (optimizer, schedule) in enumerate(steps):
            loss = self.network.loss(inputs, target, self.options, part)
            if not torch.isfinite(loss):
                raise UnveilError(
                    f"epoch {self.current_epoch}: the loss is {loss.item()}; lower the learning rate "
                    f"(now {self.options.learning_rate:g}) or look for NaN in the data"
                )
            optimizer.zero_grad()
            self.manual_backward(loss)
            if self.options.gradient_clip:
                self.clip_gradients(optimizer, self.options.gradient_clip, "norm")
            optimizer.step()
            schedule.step()
            name = f"train_loss_{part}" if part else "train_loss"
            self.log(name, loss, on_step=False, on_epoch=True, batch_size=len(inputs), sync_dist=True)

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        inputs, target = batch
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        prediction = self.network(inputs).float().clamp(0, 1)
        # Channels of the target beyond the answer's are masks and the like.
        difference = prediction - target[:, : prediction.shape[1]]
        mse = difference.square().flatten(1).mean(1)
        values = {
            "val_loss": self.network.loss(inputs, target, self.options),
            "val_mse": mse.mean(),
            "val_l1": difference.abs().mean(),
            "val_psnr": (-10 * mse.log10()).clamp_max(PSNR_CAP).mean(),
        }
        self.log_dict(values, batch_size=len(inputs), sync_dist=True)

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[dict[str, Any]]]:
        kind = torch.optim.AdamW if self.options.weight_decay else torch.optim.Adam
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        final, warmup = self.options.final_rate, max(1, min(self.options.warmup, steps // 10))

        def rate(step: int) -> float:
            done = min(1.0, self.budget.share if self.budget else step / steps)
            falling = final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))
            return falling * min(1.0, (step + 1) / warmup)

        rates = {"lr": self.options.learning_rate, "weight_decay": self.options.weight_decay}
        optimizers = [kind(parameters, **rates) for parameters in self.network.parts()]
        return optimizers, [{"scheduler": torch.optim.lr_scheduler.LambdaLR(o, rate)} for o in optimizers]


class Loaders(lightning.LightningDataModule):
    """Training and validation loaders, made once the number of processes is known."""

    def __init__(self, train_set: Dataset, validation_set: Dataset, options: Options) -> None:
        super().__init__()
        self.train_set, self.validation_set, self.options = train_set, validation_set, options

    def _loader(self, dataset: Dataset, shuffle: bool, **more: Any) -> DataLoader:
        world, rank = self.trainer.world_size, self.trainer.global_rank
        sampler = EpochSampler(dataset, shuffle, self.options.seed, world, rank)
        return DataLoader(
            dataset, sampler=sampler, num_workers=self.options.workers, worker_init_fn=_one_thread, **more
        )

    def train_dataloader(self) -> DataLoader:
        batch = self.options.batch
        enough = len(self.train_set) >= batch * self.trainer.world_size
        pinned = torch.cuda.is_available()
        return self._loader(self.train_set, shuffle=True, batch_size=batch, drop_last=enough, pin_memory=pinned)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.validation_set, shuffle=False, batch_size=1)


def train(
    options: Options,
    train_set: Dataset,
    validation_set: Dataset,
    out: str | os.PathLike[str],
    pictures: Sequence[int] = (0,),
    resume: bool = True,
    listener: Listener | None = None,
    progress: bool = False,
) -> Fit:
    """Train a network and keep everything about it in the folder ``out``.

    Parameters
    ----------
    train_set, validation_set
        items (input (C, H, W), target (K, s·H, s·W)) float32; ``train_set.set_epoch`` is called if there
    pictures
        indices of the validation items whose predictions are kept as pictures
    resume
        go on from ``out/last.ckpt`` where there is one; the curve is the one of an uninterrupted training
    listener
        called after every epoch with the rows of the log so far

    Raises
    ------
    UnveilError
        if ``out`` holds a training with other options or damaged checkpoints, if a set is empty, if a channel count
        differs, if Lightning refuses the options, or if the loss is no longer finite
    """
    folder = Path(out)
    for place in (folder, *folder.glob("pictures/*")):
        files.sweep(place)
    start = None
    if resume and (start := newest(folder / "last.ckpt")):
        Options.load(folder / "options.json").refuse_other(options, folder)
    for kind, data in (("train", train_set), ("validate", validation_set)):
        if not len(data):
            raise UnveilError(f"{out}: there is no item to {kind} with; use more data")
    channels = len(train_set[0][0])
    if channels != options.in_channels:
        raise UnveilError(f"{out}: the data have {channels} channels, the options say {options.in_channels}")

    lightning.seed_everything(options.seed, verbose=False)
    budget = Budget(options.cpu_minutes) if options.cpu_minutes else None
    module = Restoration(options, budget)
    mode = "max" if options.monitor == "val_psnr" else "min"
    best = ModelCheckpoint(folder, "best", monitor=options.monitor, mode=mode, enable_version_counter=False)
    # A checkpoint of its own: save_last writes last.ckpt only where best.ckpt was written too.
    latest = ModelCheckpoint(folder, "last", enable_version_counter=False)
    examples = [validation_set[i] for i in pictures]
    callbacks: list[Callback] = [best, latest, EpochLog(folder / "log.csv", listener)]
    callbacks.append(Pictures(folder / "pictures", examples, options.pictures_every))
    if options.average:
        callbacks.insert(0, WeightAveraging(avg_fn=moving_average(options.average)))
    if options.patience:
        callbacks.append(EarlyStopping(options.monitor, mode=mode, patience=options.patience))
    timer = Timer(duration={"minutes": options.minutes}, verbose=False, interval="epoch") if options.minutes else None
    callbacks += [guard for guard in (timer, budget) if guard]
    callbacks.append(Progress(folder, budget, timer))
    with _quiet():
        trainer = _trainer(options, callbacks, folder, progress)
        if options.start and start is None:
            print(f"starting from the weights {options.start}")
        options.save(folder / "options.json")
        try:
            trainer.fit(
                module,
                Loaders(train_set, validation_set, options),
                ckpt_path=start and str(start),
                weights_only=True,
            )
        except (pickle.UnpicklingError, KeyError, RuntimeError) as error:
            if start is None or module.trainer.global_step:
                raise
            reason = textwrap.shorten(str(error), 120, placeholder=" …")
            raise UnveilError(f"{start}: no checkpoint of this training ({reason}); train anew (--fresh)") from error
    if trainer.is_global_zero:
        weights.save(folder / "weights.safetensors", _network_of(folder / "best.ckpt", options), options)
    trainer.strategy.barrier()
    model = weights.load(folder / "weights.safetensors")[0]
    path = folder / "progress.json"
    ended = json.loads(path.read_text("utf-8")).get("ended", "") if path.exists() else ""
    return Fit(folder, options, pd.read_csv(folder / "log.csv"), model, ended)


def moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Averaging function of :class:`torch.optim.swa_utils.AveragedModel` for an exponential moving average."""

    # A decay that rises with the number of averaged steps, or short trainings would keep their random start.
    def average(averaged: Tensor, current: Tensor, count: Tensor) -> Tensor:
        if not current.is_floating_point():
            return current
        return torch.lerp(current, averaged, min(decay, (1 + float(count)) / (10 + float(count))))

    return average


def _trainer(options: Options, callbacks: list[Callback], folder: Path, progress: bool) -> lightning.Trainer:
    precision = options.precision
    if precision == "auto":
        precision = "bf16-mixed" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "32-true"
    try:
        return lightning.Trainer(
            max_epochs=options.epochs,
            callbacks=callbacks,
            plugins=[SafeCheckpoints()],
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.num_nodes,
            strategy=options.strategy,
            precision=precision,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            logger=False,
            default_root_dir=folder,
            enable_progress_bar=progress,
            enable_model_summary=False,
        )
    except (ValueError, TypeError, MisconfigurationException) as error:
        reason = textwrap.shorten(str(error), 200, placeholder=" …")
        raise UnveilError(
            f"Lightning refuses devices {options.devices}, strategy {options.strategy}, "
            f"accelerator {options.accelerator}, precision {options.precision}: {reason}"
        ) from error


def _begun(options: Options) -> Restorer:
    """The network as a training begins with it: at random, or with the weights of ``options.start``.

    A subclass begins with the weights of the network that it extends, and what it adds at random.
    """
    network = options.build()
    if options.start:
        path = Path(options.start)
        path = path if path.exists() else project.weights_dir() / path
        complaint = f"{options.start}: the training cannot start from the weights of another network"
        begun = weights.load(path)[0]
        own = network.state_dict() if isinstance(network, type(begun)) else {}
        weights.fill(network, own | begun.state_dict(), complaint)
    return network


def _network_of(checkpoint: Path, options: Options) -> Restorer:
    state = torch.load(newest(checkpoint), map_location="cpu", weights_only=True)["state_dict"]
    model = options.build()
    model.load_state_dict({k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")})
    return model


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning without its banners and hints, which would stand in every notebook."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
