"""Training of a restoration network with Lightning: options, checkpoints, log, pictures, resuming, weights.

A training lives in one folder::

    options.json            the options it was started with
    log.csv                 one row per epoch
    best.ckpt, last.ckpt    Lightning checkpoints (best by validation PSNR)
    pictures/item_0/        input.png, target.png and one prediction per ``pictures_every`` epochs
    weights.safetensors     the best averaged weights, with the options in the file's metadata and beside it as JSON
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import tempfile
import textwrap
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, Timer, WeightAveraging
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from unveil.errors import UnveilError
from unveil.restore import _networks_old as networks
from unveil.restore.datasets import EpochSampler


@dataclasses.dataclass(frozen=True)
class Options:
    """Everything that defines a training besides its data.

    ``channels`` names what the input channels are (for a focal stack: the focal heights in metres); it is kept with
    the weights so that whoever uses them knows what to feed. The loss is the mean squared error up to the share
    ``l1_from`` of the epochs and from there on the mean absolute error plus ``squared_weight`` times the squared one;
    pixels that differ from their target's median by more than ``object_contrast`` count ``1 + object_weight`` times.
    Of a network with a gate (:class:`networks.LevelUNet`) the probability of an object is trained by
    ``presence_weight`` times the cross-entropy with that mask; what stands out is trained as if the gate were open.
    The learning rate rises over the first ``warmup`` steps and falls along a cosine to ``final_rate`` times its start.
    ``average`` is the decay of the exponential moving average of the weights (0: none), which validation and the
    shipped weights use.
    """

    network: str = "rednet"
    network_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    channels: tuple[float | str, ...] = ()
    in_channels: int = 5
    epochs: int = 60
    batch: int = 8
    learning_rate: float = 1e-3
    final_rate: float = 0.02
    warmup: int = 50
    weight_decay: float = 0.0
    l1_from: float = 0.5
    squared_weight: float = 0.0
    object_weight: float = 0.0
    object_contrast: float = 0.05
    presence_weight: float = 0.0
    gradient_clip: float = 1.0
    average: float = 0.998
    patience: int = 0
    minutes: float | None = None
    seed: int = 0
    pictures_every: int = 15
    workers: int = 0
    precision: str = "auto"
    accelerator: str = "auto"
    devices: int | str = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    note: str = ""

    # Fields that say how long and where, not what: a resumed training may change them.
    FREE = ("epochs", "minutes", "workers", "accelerator", "devices", "num_nodes", "strategy", "patience", "note")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the options as JSON."""
        _write_atomically(Path(path), (json.dumps(dataclasses.asdict(self), indent=2) + "\n").encode())

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "options") -> Options:
        """Options from a dictionary; unknown names raise :class:`UnveilError` naming ``source``."""
        names = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - names)
        if unknown:
            raise UnveilError(f"{source}: unknown option {', '.join(unknown)}; known are {', '.join(sorted(names))}")
        return cls(**{**values, "channels": tuple(values.get("channels", ()))})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Options:
        """Options from a JSON file."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UnveilError(f"{path}: cannot read the options ({error}); start the training anew") from error
        return cls.from_dict(values, str(path))

    def build(self) -> nn.Module:
        """The untrained network."""
        return networks.build(self.network, in_channels=self.in_channels, **self.network_options)


@dataclasses.dataclass(frozen=True)
class Fit:
    """A finished (or stopped) training."""

    folder: Path
    options: Options
    history: pd.DataFrame
    model: nn.Module

    @property
    def weights(self) -> Path:
        """The safetensors file of the best weights."""
        return self.folder / "weights.safetensors"


def pixel_loss(prediction: Tensor, target: Tensor, options: Options, absolute: bool) -> Tensor:
    """Mean squared or absolute error of ``(B, 1, H, W)`` tensors, weighted up on what stands out of its target."""
    difference = prediction - target
    error = difference.square()
    if absolute:
        error = difference.abs() + options.squared_weight * error
    if not options.object_weight:
        return error.mean()
    return ((1 + options.object_weight * _objects(target, options)) * error).mean()


def _objects(target: Tensor, options: Options) -> Tensor:
    background = target.flatten(1).median(1).values.view(-1, 1, 1, 1)
    return ((target - background).abs() > options.object_contrast).to(target.dtype)


class Restoration(lightning.LightningModule):
    """The network under training; items are ``(input (C, H, W), target (1, H, W))`` float32 in [0, 1]."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        # Channels last is a third faster on CPUs and on tensor cores; the numbers do not change.
        self.network = options.build().to(memory_format=torch.channels_last)
        if options.presence_weight and getattr(self.network, "gate", None) is None:
            raise UnveilError("presence_weight needs a network with a gate: give one in network_options")

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network(inputs.contiguous(memory_format=torch.channels_last))

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        inputs, target = batch
        absolute = self.current_epoch >= self.options.l1_from * self.options.epochs
        if self.options.presence_weight:
            level, objects, presence = self.network.parts(inputs.contiguous(memory_format=torch.channels_last))
            known = F.binary_cross_entropy_with_logits(presence, _objects(target, self.options))
            loss = pixel_loss(level + objects, target, self.options, absolute) + self.options.presence_weight * known
        else:
            loss = pixel_loss(self(inputs).float(), target, self.options, absolute)
        if not torch.isfinite(loss):
            raise UnveilError(
                f"epoch {self.current_epoch}: the loss is {loss.item()}; lower the learning rate "
                f"(now {self.options.learning_rate:g}) or look for NaN in the data"
            )
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(inputs), sync_dist=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        inputs, target = batch
        difference = self(inputs).float().clamp(0, 1) - target
        mse = difference.square().flatten(1).mean(1)
        self.log("val_mse", mse.mean(), batch_size=len(inputs), sync_dist=True)
        self.log("val_l1", difference.abs().mean(), batch_size=len(inputs), sync_dist=True)
        self.log("val_psnr", (-10 * mse.clamp_min(1e-10).log10()).mean(), batch_size=len(inputs), sync_dist=True)

    def configure_optimizers(self) -> dict[str, Any]:
        kind = torch.optim.AdamW if self.options.weight_decay else torch.optim.Adam
        optimizer = kind(self.parameters(), lr=self.options.learning_rate, weight_decay=self.options.weight_decay)
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        final, warmup = self.options.final_rate, max(1, min(self.options.warmup, steps // 10))

        def rate(step: int) -> float:
            falling = final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
            return falling * min(1.0, (step + 1) / warmup)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Loaders(lightning.LightningDataModule):
    """Training and validation loaders, made once the number of processes is known."""

    def __init__(self, train_set: Dataset, validation_set: Dataset, options: Options) -> None:
        super().__init__()
        self.train_set, self.validation_set, self.options = train_set, validation_set, options

    def _sampler(self, dataset: Dataset, shuffle: bool) -> EpochSampler:
        return EpochSampler(dataset, shuffle, self.options.seed, self.trainer.world_size, self.trainer.global_rank)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(
            self.train_set,
            batch_size=self.options.batch,
            sampler=self._sampler(self.train_set, shuffle=True),
            num_workers=self.options.workers,
            drop_last=len(self.train_set) >= self.options.batch * self.trainer.world_size,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader:
        sampler = self._sampler(self.validation_set, shuffle=False)
        return DataLoader(self.validation_set, batch_size=1, sampler=sampler, num_workers=self.options.workers)


class EpochLog(Callback):
    """One CSV row per epoch, written at once; a resumed training continues the file."""

    def __init__(self, path: Path, listener: Callable[[list[dict[str, float]]], None] | None = None) -> None:
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
            _write_atomically(self.path, pd.DataFrame(self.rows).to_csv(index=False).encode())
            if self.listener:
                self.listener(self.rows)


class Pictures(Callback):
    """Predictions for a few fixed items as PNG, before the first epoch and after every ``every`` epochs."""

    def __init__(self, folder: Path, items: Sequence[tuple[Tensor, Tensor]], every: int) -> None:
        self.folder, self.items, self.every = folder, list(items), every

    def on_train_start(self, trainer: lightning.Trainer, module: Restoration) -> None:
        # Not on_fit_start: there a resumed training still counts from epoch 0.
        if trainer.is_global_zero:
            for i, (inputs, target) in enumerate(self.items):
                save_gray(self.folder / f"item_{i}" / "input.png", inputs[len(inputs) // 2])
                save_gray(self.folder / f"item_{i}" / "target.png", target[0])
            if trainer.current_epoch == 0:
                self._predict(module, 0)

    def on_validation_end(self, trainer: lightning.Trainer, module: Restoration) -> None:
        # Validation runs with the averaged weights, the ones that will be used.
        epoch = trainer.current_epoch + 1
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        if epoch % self.every == 0 or epoch == trainer.max_epochs:
            self._predict(module, epoch)

    def _predict(self, module: Restoration, epoch: int) -> None:
        training = module.network.training
        module.network.eval()
        with torch.no_grad():
            for i, (inputs, _) in enumerate(self.items):
                prediction = module.network(inputs[None].to(module.device))[0, 0].float()
                save_gray(self.folder / f"item_{i}" / f"epoch_{epoch:04d}.png", prediction)
        module.network.train(training)


def train(
    options: Options,
    train_set: Dataset,
    validation_set: Dataset,
    out: str | os.PathLike[str],
    pictures: Sequence[int] = (0,),
    resume: bool = True,
    listener: Callable[[list[dict[str, float]]], None] | None = None,
    progress: bool = False,
) -> Fit:
    """Train a network and keep everything about it in the folder ``out``.

    Parameters
    ----------
    train_set, validation_set
        items ``(input (C, H, W), target (1, H, W))`` float32 in [0, 1]; ``train_set.set_epoch`` is called if there
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
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / "last.ckpt"
    resuming = resume and last.exists()
    if resuming:
        _refuse_other_options(Options.load(folder / "options.json"), options, folder)
        for checkpoint in (last, folder / "best.ckpt"):
            if not zipfile.is_zipfile(checkpoint):
                raise UnveilError(f"{checkpoint}: missing or damaged; delete the folder or train anew (--fresh)")
    for kind, data in (("train", train_set), ("validate", validation_set)):
        if not len(data):
            raise UnveilError(f"{out}: there is no run to {kind} with; use more runs")
    channels = len(train_set[0][0])
    if channels != options.in_channels:
        raise UnveilError(f"{out}: the data have {channels} channels, the options say {options.in_channels}")

    lightning.seed_everything(options.seed, verbose=False)
    module = Restoration(options)
    log = EpochLog(folder / "log.csv", listener)
    best = ModelCheckpoint(folder, "best", monitor="val_psnr", mode="max", enable_version_counter=False)
    # A checkpoint of its own: save_last writes last.ckpt only where best.ckpt was written too.
    latest = ModelCheckpoint(folder, "last", enable_version_counter=False)
    examples = [validation_set[i] for i in pictures]
    callbacks: list[Callback] = [best, latest, log, Pictures(folder / "pictures", examples, options.pictures_every)]
    if options.average:
        callbacks.insert(0, WeightAveraging(avg_fn=moving_average(options.average)))
    if options.patience:
        callbacks.append(EarlyStopping("val_psnr", mode="max", patience=options.patience))
    if options.minutes:
        callbacks.append(Timer(duration={"minutes": options.minutes}, interval="epoch", verbose=False))
    with _quiet():
        try:
            trainer = lightning.Trainer(
                max_epochs=options.epochs,
                callbacks=callbacks,
                accelerator=options.accelerator,
                devices=options.devices,
                num_nodes=options.num_nodes,
                strategy=options.strategy,
                precision=_precision(options.precision),
                gradient_clip_val=options.gradient_clip or None,
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
        options.save(folder / "options.json")
        data = Loaders(train_set, validation_set, options)
        trainer.fit(module, data, ckpt_path=str(last) if resuming else None, weights_only=False)
    checkpoint = folder / "best.ckpt"
    if trainer.is_global_zero:
        save_weights(folder / "weights.safetensors", _network_of(checkpoint, options), options)
    trainer.strategy.barrier()
    model = load_weights(folder / "weights.safetensors")[0]
    return Fit(folder, options, pd.read_csv(folder / "log.csv"), model)


def save_weights(path: str | os.PathLike[str], model: nn.Module, options: Options) -> None:
    """Write weights as safetensors, the options in its metadata and as ``.json`` beside it; atomically."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(tensors, temporary, metadata={"options": json.dumps(dataclasses.asdict(options))})
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    options.save(path.with_suffix(".json"))


def load_weights(path: str | os.PathLike[str]) -> tuple[nn.Module, Options]:
    """The network of a safetensors file, ready to predict, and the options it was trained with.

    Raises :class:`UnveilError` where the file is missing or damaged, or its weights belong to another network.
    """
    path = Path(path)
    if not path.is_file():
        raise UnveilError(f"{path}: no such weights; train them (python -m unveil train) or name another file")
    try:
        with safe_open(path, framework="pt") as file:
            described = (file.metadata() or {}).get("options")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise UnveilError(
            f"{path}: not a readable safetensors file ({error}); copy it anew, or name a training's weights.safetensors"
        ) from error
    if described is None:
        raise UnveilError(f"{path}: the weights say nothing of their network; save them with unveil's save_weights")
    try:
        options = Options.from_dict(json.loads(described))
        model = options.build()
    except (UnveilError, ValueError, TypeError, AttributeError) as error:
        raise UnveilError(f"{path}: its options describe no network ({error}); copy it anew or train again") from error
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        lines = str(error).strip().splitlines()
        reason = textwrap.shorten(lines[min(1, len(lines) - 1)], 120, placeholder=" …")
        raise UnveilError(
            f"{path}: the weights do not fit the network {options.network!r} ({reason}); name its own weights"
        ) from error
    if not all(torch.isfinite(value).all() for value in tensors.values()):
        raise UnveilError(f"{path}: the weights hold NaN or infinity; copy them anew or train again")
    return model.eval(), options


def save_gray(path: Path, image: Tensor | np.ndarray) -> None:
    """Write an ``(H, W)`` image in [0, 1] as an 8-bit gray PNG, rounding to the nearest level."""
    values = np.asarray(image.detach().cpu() if isinstance(image, Tensor) else image, dtype=np.float64)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(values.clip(0, 1) * 255).astype(np.uint8)).save(path)


def _network_of(checkpoint: Path, options: Options) -> nn.Module:
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    model = options.build()
    model.load_state_dict({k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")})
    return model


def moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Averaging function of :class:`torch.optim.swa_utils.AveragedModel` for an exponential moving average."""

    # A decay that rises with the number of averaged steps, or short trainings would keep their random start.
    def average(averaged: Tensor, current: Tensor, count: Tensor) -> Tensor:
        return torch.lerp(current, averaged, min(decay, (1 + float(count)) / (10 + float(count))))

    return average


def _precision(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    return "bf16-mixed" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "32-true"


def _refuse_other_options(before: Options, now: Options, folder: Path) -> None:
    # Compared as JSON, in which tuples and lists are one.
    kept, wanted = (json.loads(json.dumps(dataclasses.asdict(options))) for options in (before, now))
    for name in kept:
        if kept[name] != wanted[name] and name not in Options.FREE:
            raise UnveilError(
                f"{folder}: the training there has {name} = {kept[name]}, not {wanted[name]}; "
                "choose another folder or delete it"
            )


def _write_atomically(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class _quiet:
    """Lightning without its banners and hints, which would stand in every notebook."""

    def __enter__(self) -> None:
        self.loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
        self.levels = [logger.level for logger in self.loggers]
        for logger in self.loggers:
            logger.setLevel(logging.ERROR)
        self.catch = warnings.catch_warnings()
        self.catch.__enter__()
        warnings.filterwarnings("ignore", module="lightning")

    def __exit__(self, *exception: object) -> None:
        self.catch.__exit__(*exception)
        for logger, level in zip(self.loggers, self.levels, strict=True):
            logger.setLevel(level)
