"""Datasets: lazy pairs, the same crops whatever the workers, splits that never share an item."""

import ast
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from unveil.errors import UnveilError
from unveil.restore import datasets
from unveil.restore.datasets import PairDataset


class Pairs:
    """Items of random channels; the target has a bright block (none in every fifth item)."""

    def __init__(self, count: int = 10, channels: int = 3, size: tuple[int, int] = (48, 64)):
        random = np.random.default_rng(0)
        self.ids = [f"item_{index}" for index in range(count)]
        self.given = random.integers(0, 256, (count, channels, *size), dtype=np.uint8)
        self.target = np.zeros((count, *size), np.uint8)
        for index in range(count):
            if index % 5:
                row, column = random.integers(0, size[0] - 10), random.integers(0, size[1] - 6)
                self.target[index, row : row + 10, column : column + 6] = 255

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.given[index], self.target[index]


def bright(target: np.ndarray) -> np.ndarray:
    return target > 128


def test_whole_pairs_are_scaled_floats():
    store = Pairs()
    pairs = PairDataset(store)
    given, target = pairs[4]
    assert len(pairs) == 10 and pairs.in_channels == 3
    assert given.shape == (3, 48, 64) and target.shape == (1, 48, 64)
    assert given.dtype == target.dtype == torch.float32
    np.testing.assert_array_equal(given.numpy(), store.given[4].astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(target[0].numpy(), store.target[4] / np.float32(255))
    with pytest.raises(IndexError):
        pairs[10]


def test_items_are_chosen_by_index_or_id():
    store = Pairs()
    assert PairDataset(store, ["item_7", "item_2"]).ids == ["item_7", "item_2"]
    assert torch.equal(PairDataset(store, ["item_7"])[0][0], PairDataset(store, [7])[0][0])
    assert PairDataset(store, []).ids == []
    for wrong in (["item_99"], [10], [-1]):
        with pytest.raises(UnveilError, match="not among the 10 items"):
            PairDataset(store, wrong)


def test_channels_and_statistics():
    store = Pairs()
    pairs = PairDataset(store, channels=[2, 0], statistics=("max", "min", "mean", "median", "std"))
    given, _ = pairs[3]
    chosen = store.given[3][[2, 0]].astype(np.float64) / 255
    expected = [*chosen, chosen.max(0), chosen.min(0), chosen.mean(0), np.median(chosen, axis=0), chosen.std(0)]
    assert pairs.in_channels == 7 and given.dtype == torch.float32
    np.testing.assert_allclose(given.numpy(), np.stack(expected), atol=1e-6)
    with pytest.raises(UnveilError, match="'mode'.*median"):
        PairDataset(store, statistics=("mode",))
    with pytest.raises(UnveilError, match="has only 3"):
        PairDataset(store, channels=[3])


def test_crops_are_windows_of_their_item():
    store = Pairs()
    pairs = PairDataset(store, crop=(16, 24), crops_per_item=3, seed=1)
    assert len(pairs) == 30
    seen = set()
    for item in range(30):
        given = (pairs[item][0].numpy() * 255).round().astype(np.uint8)
        assert given.shape == (3, 16, 24) and pairs[item][1].shape == (1, 16, 24)
        windows = np.lib.stride_tricks.sliding_window_view(store.given[item // 3], (3, 16, 24))[0]
        seen.add(tuple(np.argwhere((windows == given).all(axis=(2, 3, 4)))[0]))
    assert len(seen) > 25
    with pytest.raises(UnveilError, match="crops of 49 × 49 do not fit images of 48 × 64"):
        PairDataset(store, crop=49)


def test_a_crop_of_the_full_size_is_the_whole_image():
    store = Pairs()
    assert torch.equal(PairDataset(store, crop=(48, 64), region=bright)[1][0], PairDataset(store)[1][0])


@pytest.mark.parametrize("crop", [12, 20, 48])
def test_crops_hold_the_region_as_often_as_asked(crop: int):
    store = Pairs(40)
    with_region = [index for index in range(40) if index % 5]
    always = PairDataset(store, with_region, crop=crop, crops_per_item=4, region=bright, region_probability=1)
    assert all(target.sum() == 60 for _, target in (always[item] for item in range(len(always))))
    offsets = {int(target[0].any(dim=1).nonzero()[0]) for _, target in (always[item] for item in range(len(always)))}
    assert len(offsets) > 1
    never = PairDataset(store, with_region, crop=crop, crops_per_item=4, region=bright, region_probability=0)
    plain = PairDataset(store, with_region, crop=crop, crops_per_item=4)
    held = np.mean([never[item][1].sum().item() == 60 for item in range(len(never))])
    assert abs(held - np.mean([plain[item][1].sum().item() == 60 for item in range(len(plain))])) < 0.15
    assert PairDataset(store, [0], crop=crop, region=bright, region_probability=1)[0][1].sum() == 0


def test_a_region_larger_than_the_crop_fills_it():
    store = Pairs()
    store.target[1] = 0
    store.target[1, 10:40, 5:60] = 255
    pairs = PairDataset(store, [1], crop=8, crops_per_item=20, region=bright, region_probability=1)
    assert all(pairs[item][1].min() == 1 for item in range(20))


def test_flips_mirror_input_and_target_alike():
    store = Pairs(1)
    store.given[0, :] = store.target[0] = np.arange(48 * 64).reshape(48, 64) % 251
    pairs = PairDataset(store, flips=True, crops_per_item=60)
    whole = store.target[0]
    forms = [whole, whole[::-1], whole[:, ::-1], whole[::-1, ::-1]]
    found = []
    for item in range(60):
        given, target = ((tensor.numpy() * 255).round().astype(np.uint8) for tensor in pairs[item])
        np.testing.assert_array_equal(given[0], target[0])
        found.append(next(number for number, form in enumerate(forms) if np.array_equal(form, target[0])))
    assert set(found) == {0, 1, 2, 3}


def _first(pairs: PairDataset) -> torch.Tensor:
    return torch.cat([pairs[item][0] for item in range(len(pairs))])


def test_randomness_follows_seed_and_epoch():
    store = Pairs()
    options = {"crop": 16, "flips": True}
    pairs = PairDataset(store, seed=3, **options)
    epoch_0 = _first(pairs)
    assert torch.equal(epoch_0, _first(pairs))
    pairs.set_epoch(1)
    assert pairs.epoch == 1 and not torch.equal(epoch_0, _first(pairs))
    pairs.set_epoch(0)
    assert torch.equal(epoch_0, _first(pairs))
    assert torch.equal(epoch_0, _first(PairDataset(store, seed=3, **options)))
    assert not torch.equal(epoch_0, _first(PairDataset(store, seed=4, **options)))


def _epochs(workers: int, start: int = 0) -> list[torch.Tensor]:
    options = {"crop": 16, "crops_per_item": 2, "flips": True, "region": bright}
    batches = datasets.loader(PairDataset(Pairs(), seed=5, **options), 4, shuffle=True, workers=workers, seed=5)
    epochs = []
    for epoch in range(start, 3):
        batches.sampler.set_epoch(epoch)
        epochs.append(torch.cat([given for given, _ in batches]))
    return epochs


def test_loaders_are_the_same_for_any_workers_and_after_resuming():
    alone, helped, resumed = _epochs(0), _epochs(2), _epochs(2, start=2)
    assert all(torch.equal(a, b) for a, b in zip(alone, helped, strict=True))
    assert torch.equal(alone[2], resumed[0])
    assert not torch.equal(alone[0], alone[1])


class Drifting(Pairs):
    """A store whose items change with the epoch, as one that makes them on the fly."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full_like(self.given[index], self.epoch), self.target[index]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_store_learns_of_the_epoch_in_lasting_workers(workers: int):
    batches = datasets.loader(PairDataset(Drifting()), 10, workers=workers)
    for epoch in (0, 3, 5):
        batches.sampler.set_epoch(epoch)
        assert [int((given * 255).round().max()) for given, _ in batches] == [epoch]


def test_processes_share_an_epoch():
    pairs = PairDataset(Pairs())
    shares = [list(datasets.EpochSampler(pairs, seed=2, num_replicas=2, rank=rank)) for rank in (0, 1)]
    assert sorted(shares[0] + shares[1]) == list(range(10)) and shares[0] != sorted(shares[0])


def test_loaders_per_part():
    store = Pairs(20)
    parts = {"train": store.ids[:12], "validation": store.ids[12:16], "test": store.ids[16:]}
    made = datasets.loaders(
        store, parts, batch_size=5, common={"statistics": ("max",)}, training={"crop": 16, "flips": True}
    )
    assert {name: len(made[name]) for name in made} == {"train": 3, "validation": 4, "test": 4}
    assert next(iter(made["train"]))[0].shape == (5, 4, 16, 16)
    given, target = next(iter(made["test"]))
    assert given.shape == (1, 4, 48, 64) and target.shape == (1, 1, 48, 64)
    assert torch.equal(target[0, 0], PairDataset(store, [16])[0][1][0])


def test_lightning_advances_the_epoch():
    from lightning.fabric.utilities.data import _set_sampler_epoch

    batches = datasets.loader(PairDataset(Pairs(), crop=16), 4, shuffle=True)
    _set_sampler_epoch(batches, 7)
    assert batches.dataset.epoch == 7


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
    parts = datasets.split(strata, 3, fractions)
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
    parts = datasets.split(strata, 0)
    turned = dict(reversed(strata.items()))
    assert datasets.split(turned, 0) == parts == datasets.split(pd.Series(strata), 0)
    assert datasets.split(strata, 1) != parts


def test_many_tiny_strata_still_meet_the_fractions():
    parts = datasets.split({str(index): index for index in range(100)}, 0, (0.7, 0.15, 0.15))
    assert [len(part) for part in parts.values()] == [70, 15, 15]
    assert datasets.split({"only": "one"}) == {"train": ["only"], "validation": [], "test": []}


def test_split_refuses_what_it_cannot_divide():
    for fractions in ((0.5, 0.5), (0.7, 0.2, 0.2), (1.2, -0.1, -0.1)):
        with pytest.raises(UnveilError, match="three shares"):
            datasets.split({"a": 1}, 0, fractions)
    with pytest.raises(UnveilError, match="stands twice"):
        datasets.split(pd.Series([1, 1], index=["a", "a"]))


def test_splits_are_saved_whole_and_checked_when_read(tmp_path: Path):
    store = Pairs()
    parts = datasets.split({name: "same" for name in store.ids})
    path = datasets.save_split(tmp_path / "new" / "split.json", parts)
    assert datasets.load_split(path, store) == parts
    assert [item.name for item in path.parent.iterdir()] == ["split.json"]

    def refused(content: str, match: str) -> None:
        path.write_text(content)
        with pytest.raises(UnveilError, match=match):
            datasets.load_split(path, store)

    refused("{", "no split into train, validation, test")
    refused("[1]", "no split into")
    refused('{"train": []}', "no split into")
    refused(json.dumps({**parts, "test": parts["train"][:1]}), f"has {parts['train'][0]} in two parts")
    refused(json.dumps({**parts, "test": ["item_11"]}), "store lacks, e.g. item_11")
    with pytest.raises(UnveilError, match="cannot read the split"):
        datasets.load_split(tmp_path / "none.json")
    with pytest.raises(UnveilError, match="cannot write the split"):
        datasets.save_split(path / "below" / "split.json", parts)


def test_nothing_of_the_other_wings_is_imported():
    tree = ast.parse(Path(datasets.__file__).read_text("utf-8"))
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in imported if name.startswith("unveil.") and name != "unveil.errors"]
