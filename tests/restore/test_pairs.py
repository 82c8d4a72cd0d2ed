"""Pairs: lazy, the same crops whatever the workers, splits that never share an item."""

import ast
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from unveil.errors import UnveilError
from unveil.restore import pairs
from unveil.restore.pairs import EpochSampler, PairDataset, window


class Numbered:
    """Items whose values tell pixel and item; the target has another number of channels and twice the size."""

    def __init__(self, count: int = 10):
        self.ids = [f"item_{index}" for index in range(count)]
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.ids)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def item(self, i, rng, crop):
        rows, columns = window(rng, (24, 32), crop or (24, 32))
        given = np.stack([np.arange(24 * 32).reshape(24, 32)[rows, columns], np.full((24, 32), i)[rows, columns]])
        return given, np.repeat(np.repeat(given[:1], 2, axis=1), 2, axis=2)


def test_items_are_float_tensors_of_any_channels_and_scale():
    given, target = PairDataset(Numbered())[4]
    assert given.shape == (2, 24, 32) and target.shape == (1, 48, 64)
    assert given.dtype == target.dtype == torch.float32
    with pytest.raises(IndexError):
        PairDataset(Numbered())[10]


def test_items_are_chosen_by_index_or_id():
    assert PairDataset(Numbered(), ["item_7", "item_2"]).ids == ["item_7", "item_2"]
    assert PairDataset(Numbered(), ["item_7"])[0][0][1, 0, 0] == PairDataset(Numbered(), [7])[0][0][1, 0, 0] == 7
    assert PairDataset(Numbered(), []).ids == []
    for wrong in (["item_99"], [10], [-1]):
        with pytest.raises(UnveilError, match="not among the 10 items"):
            PairDataset(Numbered(), wrong)


def test_flips_mirror_input_and_target_alike():
    data = PairDataset(Numbered(1), flips="hv", crops_per_item=60)
    whole = np.arange(24 * 32).reshape(24, 32)
    forms = [whole, whole[::-1], whole[:, ::-1], whole[::-1, ::-1]]
    found = []
    for given, target in (data[item] for item in range(60)):
        np.testing.assert_array_equal(given[0], target[0, ::2, ::2])
        found.append(next(n for n, form in enumerate(forms) if np.array_equal(form, given[0])))
    assert set(found) == {0, 1, 2, 3}
    upright = PairDataset(Numbered(1), flips="h", crops_per_item=60)
    assert all(upright[item][0][0, 0].max() < 32 for item in range(60))


def _first(data: PairDataset) -> torch.Tensor:
    return torch.cat([data[item][0] for item in range(len(data))])


def test_randomness_follows_seed_and_epoch():
    options = {"crop": 16, "flips": "hv"}
    data = PairDataset(Numbered(), seed=3, **options)
    epoch_0 = _first(data)
    assert torch.equal(epoch_0, _first(data))
    data.set_epoch(1)
    assert not torch.equal(epoch_0, _first(data)) and data.pairs.epoch == 1
    data.set_epoch(0)
    assert torch.equal(epoch_0, _first(data))
    assert torch.equal(epoch_0, _first(PairDataset(Numbered(), seed=3, **options)))
    assert not torch.equal(epoch_0, _first(PairDataset(Numbered(), seed=4, **options)))


def test_windows_lie_inside_and_hold_the_box():
    rng = np.random.default_rng(0)
    starts = set()
    for _ in range(200):
        rows, columns = window(rng, (48, 64), (16, 24), (20, 29, 40, 45))
        assert rows.start <= 20 and rows.stop >= 30 and columns.start <= 40 and columns.stop >= 46
        assert 0 <= rows.start and rows.stop <= 48 and columns.stop <= 64 and rows.stop - rows.start == 16
        starts.add((rows.start, columns.start))
    assert len(starts) > 40
    for _ in range(20):
        rows, columns = window(rng, (48, 64), (8, 8), (10, 39, 5, 59))
        assert 10 <= rows.start and rows.stop <= 40 and 5 <= columns.start and columns.stop <= 60
    with pytest.raises(UnveilError, match="crops of 49 × 49 do not fit images of 48 × 64"):
        window(rng, (48, 64), (49, 49))


def test_validation_stays_the_same_and_workers_see_the_epoch():
    data = PairDataset(Numbered(), crop=16, seed=5)
    still = _first(data)
    EpochSampler(data, shuffle=False).set_epoch(3)
    assert torch.equal(_first(data), still)
    sampler = EpochSampler(data, shuffle=True)
    alone, helped = (torch.utils.data.DataLoader(data, 4, sampler=sampler, num_workers=n) for n in (0, 1))
    for epoch in (0, 2):
        sampler.set_epoch(epoch)
        several = [torch.cat([given for given, _ in loader]) for loader in (alone, helped)]
        assert torch.equal(*several)


def test_processes_share_an_epoch():
    data = PairDataset(Numbered())
    shares = [list(EpochSampler(data, shuffle=True, seed=2, num_replicas=2, rank=rank)) for rank in (0, 1)]
    assert sorted(shares[0] + shares[1]) == list(range(10)) and shares[0] != sorted(shares[0])


STRATA = {
    f"{density}_{pose}": size
    for (density, pose), size in zip(
        [(d, p) for d in (0, 100, 200) for p in ("laying", "sitting", "idle", "none")],
        (12, 11, 13, 4, 100, 97, 103, 33, 90, 101, 95, 1),
        strict=True,
    )
}


def _strata() -> dict[str, str]:
    return {f"{label}_{index}": label for label, size in STRATA.items() for index in range(size)}


@pytest.mark.parametrize("fractions", [(0.7, 0.15, 0.15), (0.8, 0.2, 0.0), (1.0, 0.0, 0.0), (0.5, 0.25, 0.25)])
def test_split_keeps_every_stratum_in_proportion(fractions: tuple[float, float, float]):
    strata = _strata()
    parts = pairs.split(strata, 3, fractions)
    names = [name for part in parts.values() for name in part]
    assert list(parts) == ["train", "validation", "test"]
    assert sorted(names) == sorted(strata) and len(set(names)) == len(names)
    for label, size in STRATA.items():
        for part, share in zip(parts.values(), fractions, strict=True):
            assert abs(sum(strata[name] == label for name in part) - share * size) < 1 + 1e-9
    for part, share in zip(parts.values(), fractions, strict=True):
        assert abs(len(part) - share * len(strata)) <= 2


def test_split_depends_on_seed_and_not_on_order():
    strata = _strata()
    parts = pairs.split(strata, 0)
    turned = dict(reversed(strata.items()))
    assert pairs.split(turned, 0) == parts == pairs.split(pd.Series(strata), 0)
    assert pairs.split(strata, 1) != parts


def test_many_tiny_strata_still_meet_the_fractions():
    parts = pairs.split({str(index): index for index in range(100)}, 0, (0.7, 0.15, 0.15))
    assert [len(part) for part in parts.values()] == [70, 15, 15]
    assert pairs.split({"only": "one"}) == {"train": ["only"], "validation": [], "test": []}


def test_split_refuses_what_it_cannot_divide():
    for fractions in ((0.5, 0.5), (0.7, 0.2, 0.2), (1.2, -0.1, -0.1)):
        with pytest.raises(UnveilError, match="three shares"):
            pairs.split({"a": 1}, 0, fractions)
    with pytest.raises(UnveilError, match="is there twice"):
        pairs.split(pd.Series([1, 1], index=["a", "a"]))


def test_splits_are_saved_whole_and_checked_when_read(tmp_path: Path):
    parts = pairs.split({name: "same" for name in Numbered().ids})
    path = tmp_path / "new" / "split.json"
    pairs.save_split(path, parts)
    assert pairs.load_split(path) == parts
    assert [item.name for item in path.parent.iterdir()] == ["split.json"]
    for content, match in (
        ("{", "cannot be read as a split"),
        ("[1]", "cannot be read as a split"),
        ('{"train": []}', "cannot be read as a split"),
        (json.dumps({**parts, "test": parts["train"][:1]}), "an id stands in two parts"),
    ):
        path.write_text(content)
        with pytest.raises(UnveilError, match=match):
            pairs.load_split(path)
    with pytest.raises(UnveilError, match="cannot be written"):
        pairs.save_split(path / "below" / "split.json", parts)


def test_nothing_of_the_other_wings_is_imported():
    others = ("unveil.aos", "unveil.degrade", "unveil.show", "unveil.tasks")
    for module in sorted(Path(pairs.__file__).parent.rglob("*.py")):
        tree = ast.parse(module.read_text("utf-8"))
        imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert not [name for name in imported if name.startswith(others)], module
