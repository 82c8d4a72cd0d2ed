"""Everything that defines a training besides its data, in one place."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from unveil import files
from unveil.errors import UnveilError
from unveil.restore import losses, networks


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of a training; they are saved beside its checkpoints and inside its weights.

    ``channels`` names what the input channels are (for a focal stack: the focal heights in metres), so that whoever
    uses the weights can feed them; ``recipe`` is the ``repr`` of the degradation and of the clean data. The
    learning rate rises over the first ``warmup`` steps and falls along a cosine to ``final_rate`` times its start.
    ``average`` is the decay of the exponential moving average of the weights (0: none), which validation and the saved
    weights use. ``start`` names weights of the same network to begin with, a path or a file below ``data/weights``;
    without it a training begins at random. ``minutes`` of the clock stop a training after an epoch; ``cpu_minutes`` of
    processor time are a budget that the learning rate follows. ``monitor`` decides which epoch is best.
    """

    network: str = "rednet"
    network_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    channels: tuple[float | str, ...] = ()
    in_channels: int = 1
    start: str = ""
    loss: str = "l1"
    loss_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    epochs: int = 60
    batch: int = 8
    learning_rate: float = 1e-3
    final_rate: float = 0.02
    warmup: int = 50
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    average: float = 0.998
    monitor: str = "val_psnr"
    patience: int = 0
    minutes: float | None = None
    cpu_minutes: float | None = None
    seed: int = 0
    recipe: str = ""
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
        files.write_json(path, dataclasses.asdict(self))

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

    def build(self) -> networks.Restorer:
        """The untrained network; :class:`UnveilError` where an option of it or of the loss is unknown."""
        losses.check(self)
        return networks.build(self.network, in_channels=self.in_channels, **self.network_options)

    def refuse_other(self, now: Options, folder: Path) -> None:
        """:class:`UnveilError` where ``now`` would continue the training in ``folder`` as a different one."""
        # Compared as JSON, in which tuples and lists are one.
        kept, wanted = (json.loads(json.dumps(dataclasses.asdict(options))) for options in (self, now))
        for name in kept:
            if kept[name] != wanted[name] and name not in self.FREE:
                raise UnveilError(
                    f"{folder}: the training there has {name} = {kept[name]}, not {wanted[name]}; "
                    "choose another folder or delete it"
                )
