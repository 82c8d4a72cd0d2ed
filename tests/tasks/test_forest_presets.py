"""Presets and the shipped weights, trainings on one's own runs, the gate, the tuning study."""

import dataclasses
import json

import pandas as pd
import pytest
import torch

from unveil.aos import archives, build, integrator, simulator
from unveil.aos.camera import course_rig
from unveil.errors import UnveilError
from unveil.restore import metrics, weights
from unveil.restore.options import Options
from unveil.restore.pairs import PairDataset
from unveil.tasks.forest import pairs, persons, presets, restoring
from unveil.tasks.forest.presets import PRESETS

FIELDS = {field.name for field in dataclasses.fields(Options)}
SMALL = {"view_features": 4, "features": [4, 8], "blocks": [1, 1]}
QUICK = {"epochs": 1, "precision": "32-true", "accelerator": "cpu", "devices": 1}


@pytest.fixture(autouse=True)
def few_gates(monkeypatch):
    monkeypatch.setattr(presets, "GATES", presets.GATES[::10])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Twenty runs straight from archives, two of them without a person."""
    folder = tmp_path_factory.mktemp("archives")
    simulator.simulate(folder, 20, seed=11, incomplete=0, workers=1)
    return archives.ArchiveRuns(archives.scan(folder).complete)


def test_shipped_weights_are_those_of_their_presets():
    assert set(restoring.shipped()) == set(PRESETS)
    for name, path in restoring.shipped().items():
        model, options = weights.load(path)
        assert path.stat().st_size <= 12_000_000
        assert options == Options.load(path.with_suffix(".json"))
        assert options.recipe == repr(presets.WIDE)
        wanted = PRESETS[name].options
        gate = {"gate": options.network_options["gate"]} if "gate" in wanted.network_options else {}
        wanted = dataclasses.replace(wanted, network_options=wanted.network_options | gate)
        assert dataclasses.replace(options, recipe="", note="") == wanted
        assert len(pd.read_csv(path.with_suffix(".log.csv"))) == options.epochs
        assert model.wants == ("views" if name == "multi_view" else model.wants)


def test_presets_fit_the_rig_and_the_store():
    assert PRESETS["focal_stack"].options.channels == PRESETS["rednet"].options.channels == integrator.HEIGHTS
    assert PRESETS["multi_view"].options.in_channels == 2 * len(course_rig()) + 1


@pytest.mark.slow
def test_views_of_ones_own_train_the_multi_view_network_with_a_gate(runs, tmp_path):
    options = {"network_options": SMALL} | QUICK
    fit = presets.train(runs, tmp_path, crop=64, crops=8, **options)
    kept = json.loads((tmp_path / "options.json").read_text())
    assert (kept["network"], kept["loss"]) == ("multiview", "objects")
    assert fit.options.network_options["gate"] in [list(gate) for gate in presets.GATES]
    assert weights.load(fit.weights)[1] == fit.options
    again = presets.train(runs, tmp_path, crop=64, crops=8, **options)
    assert again.history.equals(fit.history), "a second call finds the training finished"


def test_any_network_trains_on_what_it_wants(runs, tmp_path):
    options = {"network": "unet", "network_options": {"features": [4, 8]}, "loss": "l1"} | QUICK
    fit = presets.train(runs, tmp_path, crop=64, crops=4, **options)
    assert (fit.options.in_channels, fit.options.loss_options) == (5, {})
    with pytest.raises(UnveilError, match="magic"):
        presets.train(runs, tmp_path, network="magic")
    with pytest.raises(UnveilError, match="patients"):
        presets.train(runs, tmp_path, patients=3)


def test_the_gate_is_chosen_on_validation_runs(tmp_path):
    torch.manual_seed(0)
    small = {"planes": 1, "gate": [0.3, 0.6]} | SMALL
    options = Options(network="multiview", network_options=small, channels=(0.2,), in_channels=12)
    model = options.build()
    with torch.no_grad():
        model.presence.bias.fill_(5.0)
        model.objects.bias.normal_(std=0.5)
    people = build.build_views(tmp_path / "people", 2, 3)
    deserted = build.build_views(tmp_path / "deserted", 2, 4, variation=simulator.Variation(persons=(0, 0)))
    checks = [PairDataset(pairs.feed(options, some)) for some in (people, deserted)]
    gate = presets.calibrate(model, *checks)
    assert gate in presets.GATES and model.gate == gate

    def worth(gate):
        model.gate = gate
        seen, empty = (metrics.evaluate(model, data, persons.metrics()) for data in checks)
        return seen["found"].mean() - (empty["false_objects"] > 0).mean(), seen["region_psnr"].mean()

    assert worth(gate) == pytest.approx(max(map(worth, presets.GATES)))


def test_choices_change_one_factor_at_a_time():
    every = presets.choices()
    base = every[0]
    assert [c.options.seed for c in every if c.factor == "base"] == [0, 1, 2]
    assert len({(c.factor, c.setting, c.options.seed) for c in every}) == len(every) == 28
    may_change = {
        "base": {"seed"},
        "planes": {"channels", "in_channels"},
        "channels": {"channels", "in_channels"},
        "network": {"network", "network_options", "crop"},
        "views": {"network", "network_options", "channels", "in_channels", "loss_options", "jitter"},
        "features": {"network_options"},
        "depth": {"network_options"},
        "loss": {"loss_options", "network_options"},
        "crop": {"crop"},
        "learning rate": {"learning_rate"},
        "data": {"runs"},
    }
    for choice in every:
        changed = {name for name in FIELDS if getattr(choice.options, name) != getattr(base.options, name)}
        changed |= {name for name in ("crop", "runs", "jitter") if getattr(choice, name) != getattr(base, name)}
        assert changed <= may_change[choice.factor] and (changed or choice == base), choice.setting
        choice.options.build()


@pytest.mark.slow
def test_the_study_goes_on_where_it_stopped(tmp_path):
    small = {"network_options": {"features": [4, 8], "blocks": [1, 1]}, "channels": (0.2,), "in_channels": 1}
    tiny = dataclasses.replace(presets.choices()[0].options, **small)
    first, second = (presets.Preset(tiny, crop=64, runs=4, factor="crop", setting=name) for name in ("64", "again"))
    out, common = tmp_path / "tuning.csv", {"minutes": 0.02, "checked": 10}
    before = presets.study(tmp_path, out, chosen=[first], **common)
    table = presets.study(tmp_path, out, chosen=[first, second], **common)
    assert list(table["setting"]) == ["64", "again"]
    pd.testing.assert_frame_equal(table.iloc[:1], before)
    assert {"psnr", "region_psnr", "psnr_0", "psnr_200", "found", "empty_false", "parameters"} <= set(table)
    with pytest.raises(UnveilError, match="budget"):
        presets.study(tmp_path, out, chosen=[first], minutes=3.0)
    with pytest.raises(UnveilError, match="colour"):
        presets.study(tmp_path, tmp_path / "other.csv", only="colour")
