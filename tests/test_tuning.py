"""The tuning study: one factor at a time, resumable, every row complete."""

import dataclasses
import math

import pandas as pd
import pytest
import torch

from unveil import tuning
from unveil.errors import UnveilError

# What each factor may change; a network other than the base's comes with its own options and RED-Net with its crop.
MAY_CHANGE = {
    "base": {"seed"},
    "planes": {"channels", "in_channels"},
    "channels": {"channels", "in_channels", "statistics"},
    "network": {"network", "network_options", "crop"},
    "features": {"features"},
    "depth": {"blocks"},
    "loss": {"l1_from", "object_weight", "presence_weight", "gate"},
    "crop": {"crop"},
    "learning rate": {"learning_rate"},
    "data": {"runs"},
}
TINY = dataclasses.replace(
    tuning.BASE, network_options={"features": [4, 8], "blocks": [1, 1]}, channels=(0.2, 1.8), in_channels=2, batch=2
)
# The tenth is the first without a person.
VALIDATION_RUNS = 10


def described(configuration):
    """All that defines a configuration as one flat dictionary; those of another network stay in one piece."""
    values = dataclasses.asdict(configuration) | dataclasses.asdict(configuration.options)
    if configuration.options.network == tuning.BASE.network:
        values |= values.pop("network_options")
    return {name: value for name, value in values.items() if name not in ("options", "factor", "setting")}


def tiny(setting, **changes):
    return tuning.Configuration("crop", setting, dataclasses.replace(TINY, **changes), crop=64, runs=4)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of the simulated runs, made by the first test that needs them."""
    return tmp_path_factory.mktemp("runs")


def test_one_factor_at_a_time():
    every = tuning.configurations()
    base = described(every[0])
    assert len(every) >= 12 and len({configuration.key for configuration in every}) == len(every)
    assert [c.options.seed for c in every if c.factor == "base"] == [0, 1, 2]
    for configuration in every:
        mine = described(configuration)
        changed = {name for name in base.keys() | mine.keys() if base.get(name) != mine.get(name)}
        changed -= {"features", "blocks"} if configuration.options.network != tuning.BASE.network else set()
        if configuration.factor != "views":
            assert changed <= MAY_CHANGE[configuration.factor], configuration.setting
        assert changed or configuration == every[0]
        configuration.options.build()


def test_rows_are_complete_and_a_second_call_goes_on(runs, tmp_path):
    out, threads, said = tmp_path / "results" / "tuning.csv", torch.get_num_threads(), []
    first, second = (
        tiny("first"),
        tiny("second", presence_weight=0.5, network_options={"features": [4, 8], "blocks": [1, 1], "gate": [0.3, 0.6]}),
    )
    common = {"minutes": 0.01, "validation_runs": VALIDATION_RUNS}

    assert tuning.study(runs, out, chosen=[first], report=said.append, **common) == []
    before = pd.read_csv(out)
    assert tuning.study(runs, out, chosen=[first, second], report=said.append, **common) == []
    table = pd.read_csv(out)

    assert before.equals(table.iloc[:1]) and list(table["setting"]) == ["first", "second"]
    assert list(table.columns) == list(before.columns)
    numbers = table.drop(columns=["factor", "setting"])
    assert {"psnr", "region_psnr", "psnr_0", "psnr_100", "psnr_200", "found", "empty_false"} <= set(numbers)
    assert all(math.isfinite(value) for value in numbers.to_numpy().ravel())
    assert (table["steps"] > 1).all() and (table["parameters"] > 1000).all() and (table["seconds"] >= 0.5).all()
    assert torch.get_num_threads() == threads

    assert tuning.study(runs, out, chosen=[first, second], report=said.append, **common) == []
    assert said[-1].startswith("0 configurations")
    with pytest.raises(UnveilError, match="another budget"):
        tuning.study(runs, out, chosen=[first], minutes=3.0, report=said.append)


def test_a_failure_harms_no_other(runs, tmp_path):
    out = tmp_path / "tuning.csv"
    broken = tiny("broken", learning_rate=1e30)
    troubles = tuning.study(
        runs, out, minutes=0.01, validation_runs=1, chosen=[broken, tiny("sound")], report=lambda _: None
    )
    assert len(troubles) == 1 and "broken" in troubles[0]
    assert list(pd.read_csv(out)["setting"]) == ["sound"]


def test_wrong_calls_are_named(tmp_path):
    with pytest.raises(UnveilError, match="learning rate"):
        tuning.study(tmp_path, tmp_path / "tuning.csv", only="colour")
    foreign = tmp_path / "foreign.csv"
    foreign.write_text("a,b\n1,2\n")
    with pytest.raises(UnveilError, match="no table of a tuning study"):
        tuning.study(tmp_path, foreign)
