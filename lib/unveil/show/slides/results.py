"""Reading ``data/results/*.json``, the decks' only source of numbers; the schema is in the package's docstring."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import UnveilError

NAMES = ("dataset", "training", "test", "real", "tuning")
REQUIRED = {
    ("dataset", "strata"): ("pose", "density", "runs"),
    ("training", "trainings"): ("model",),
    ("test", "rows"): ("model", "pose", "density"),
    ("real", "rows"): ("sample", "model"),
    ("tuning", "rows"): ("factor", "setting"),
}
POSES = {"laying": "laying", "sitting": "sitting", "idle": "standing", "none": "no person"}


def number(value: float | None, places: int = 1) -> str:
    """A number as the decks write it; a dash where there is none."""
    return "–" if value is None else f"{value:.{places}f}".replace("-", "−")


def percent(value: float | None) -> str:
    """A share between 0 and 1 as the decks write it."""
    return "–" if value is None else f"{100 * value:.0f} %"


def duration(seconds: float | None) -> str:
    """Seconds as the decks write them: 95 s, 14 min, 3.2 h."""
    if seconds is None:
        return "–"
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def mean(rows: Iterable[Mapping], metric: str) -> float | None:
    """Mean of a metric over result rows, weighted by the images (for the object's metrics: the objects) behind each.

    Rows without the metric do not count; None when no row has it.
    """
    count = "objects" if metric in ("region_psnr", "iou", "found") else "images"
    pairs = [(row[metric], row.get(count, 1)) for row in rows if row.get(metric) is not None]
    total = sum(weight for _, weight in pairs)
    return sum(value * weight for value, weight in pairs) / total if total else None


@dataclass(frozen=True)
class Results:
    """The five result files, each a dict or None where it was absent."""

    dataset: Mapping | None = None
    training: Mapping | None = None
    test: Mapping | None = None
    real: Mapping | None = None
    tuning: Mapping | None = None

    @property
    def trainings(self) -> list[Mapping]:
        """The trainings, one dict per network."""
        if self.training is None:
            return []
        return list(self.training.get("trainings", []))

    def rows(self, file: str, **which) -> list[Mapping]:
        """Rows of ``test``, ``real`` or ``tuning`` in which the given keys have the given values."""
        table = getattr(self, file) or {}
        return [
            row
            for row in table.get("rows", [])
            if row.get("pose") != "all"
            and row.get("density") != "all"
            and all(row.get(k) == v for k, v in which.items())
        ]

    def models(self, file: str, kind: str | None = None) -> list[str]:
        """Names of the models in the order of the file: networks and baselines, or one kind of them."""
        return list(
            dict.fromkeys(r["model"] for r in self.rows(file) if kind is None or r.get("kind", "network") == kind)
        )

    def densities(self) -> list[int]:
        """Densities of the test set, ascending."""
        return sorted({row["density"] for row in self.rows("test") if row.get("density") is not None})

    def best(self, file: str = "test") -> str | None:
        """The network with the highest mean PSNR, of those that were tried on the most rows."""
        names = self.models(file, "network")
        rows = {name: self.rows(file, model=name) for name in names}
        most = max(map(len, rows.values()), default=0)
        scores = {name: mean(rows[name], "psnr") if len(rows[name]) == most else None for name in names}
        scored = [name for name in names if scores[name] is not None]
        return max(scored, key=lambda name: scores[name]) if scored else None

    def snapshot(self, names: Iterable[str]) -> dict[str, Mapping]:
        """The files of these names that were there, as they were read."""
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def load(folder: Path) -> Results:
    """Read the result files of a folder; absent ones are None. UnveilError for one that is not as the schema says."""
    found = {}
    for name in NAMES:
        path = Path(folder) / f"{name}.json"
        if path.is_file():
            found[name] = _read(path)
    return parse(found, str(folder))


def parse(found: Mapping[str, Mapping], where: str = "results") -> Results:
    """Results from already read files, checked against the schema."""
    for (name, table), needed in REQUIRED.items():
        for row in (found.get(name) or {}).get(table, []):
            lacking = [key for key in needed if key not in row]
            if lacking:
                raise UnveilError(
                    f"{where}: an entry of {name}.json, {table}, has no '{lacking[0]}'; make run writes it again"
                )
    for training in (found.get("training") or {}).get("trainings", []):
        if len({len(values) for values in training.get("curves", {}).values() if values}) > 1:
            raise UnveilError(
                f"{where}: the curves of {training['model']} in training.json differ in length; make run writes "
                f"them again"
            )
    return Results(**{name: _finite(content) for name, content in found.items()})


def _read(path: Path) -> Mapping:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnveilError(f"{path}: cannot be read as JSON ({error}); write it again with make run") from error
    if not isinstance(content, dict):
        raise UnveilError(f"{path}: holds a {type(content).__name__}, not an object; write it again with make run")
    return content


def _finite(value):
    """NaN and infinity mean 'there is none' and become None, at any depth."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
