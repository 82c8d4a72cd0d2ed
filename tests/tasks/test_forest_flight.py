"""A small flight from pictures to a report, by what is known of it."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import PEOPLE
from PIL import Image

from unveil.__main__ import main
from unveil.aos import flights, folders, integrator
from unveil.aos.camera import Cameras
from unveil.tasks.forest import flight as flying


@pytest.fixture
def focused(monkeypatch, small_focus):
    monkeypatch.setattr(flying, "autofocus", lambda *_: small_focus)


@pytest.fixture
def found(focused, small_flight):
    return flying.survey(small_flight[0])


def test_both_people_come_first_where_they_lie(found, small_flight):
    _, ground, _ = small_flight
    first = found.people[:2]
    assert (first["presence"] > 0.5).all() and not (found.people["presence"][2:] > 0.5).any()
    truth = ground.world(np.pad(np.array(PEOPLE), ((0, 0), (0, 1))))
    away = np.linalg.norm(first[["x", "y", "z"]].to_numpy()[:, None] - truth, axis=2)
    assert sorted(away.argmin(1)) == [0, 1] and away.min(1).max() < 0.8
    assert first["length_m"].between(1.2, 3).all() and first["area_m2"].between(0.5, 3).all()
    assert (found.people["views_seen"] <= found.people["views_looking"]).all()
    assert found.people["presence"].is_monotonic_decreasing


def test_the_ground_that_is_seen_is_kept_and_people_are_drawn_on_it(found, small_flight):
    registered, inside = integrator.register(small_flight[0].views, found.focus.cameras, 0.0, found.focus.target)
    median = integrator.statistics(registered, inside)["median"][0]
    people = np.zeros(found.seen.shape, bool)
    for one in found.people[:2].itertuples():
        people[one.row - 8 : one.row + 9, one.column - 8 : one.column + 9] = True
        assert found.restored[one.row, one.column] > 150
    np.testing.assert_array_equal(found.restored[found.seen & ~people], median[found.seen & ~people])
    assert found.restored[~people].std() < median[~people].std()
    assert found.repeatability > 20


def test_what_is_written_can_be_read_again(found, tmp_path):
    facts = flying.write(found, tmp_path)
    assert any("likely people" in fact for fact in facts)
    table = pd.read_csv(tmp_path / "people.csv")
    assert table["place"].tolist() == list(range(1, len(found.people) + 1))
    np.testing.assert_allclose(table["x"], found.people["x"], atol=1e-3)
    assert Image.open(tmp_path / "restored.png").size == (128, 128)
    assert folders.read_folder(tmp_path / "stack").heights[:3] == (0.0, 0.2, 0.6)
    refined = Cameras(json.loads((tmp_path / "poses.json").read_text())["views"], 50)
    np.testing.assert_allclose(
        found.focus.ground.cameras(refined).extrinsics, found.focus.cameras.extrinsics, atol=1e-9
    )
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count('src="data:image/png;base64,') == page.count("<img") == 1 + 2 * len(table)


def test_a_flight_over_nobody(focused, small_flight, tmp_path, monkeypatch):
    monkeypatch.setattr(flying, "ROSE", 1e6)
    found = flying.survey(small_flight[0], judge=lambda *_: pytest.fail("there is nothing to judge"))
    assert not len(found.people)
    assert "0 likely people, 0 other places that stand out" in flying.write(found, tmp_path)
    assert "Nothing on the ground stands out" in (tmp_path / "report.html").read_text("utf-8")
    assert not len(pd.read_csv(tmp_path / "people.csv"))


def test_where_the_views_disagree_the_ground_is_what_the_network_says(focused, small_flight, found):
    again = flying.survey(small_flight[0], keep=lambda views, *_: np.full(views.shape[1:], 7.0))
    bare = (again.restored == found.restored) | (again.restored == 7)
    assert bare.all() and (again.restored == 7)[~found.seen].mean() > 0.5
    assert not (again.restored == 7)[found.seen].any()


def test_the_attention_network_answers_with_a_ground_where_it_is_certain(small_flight, small_focus, monkeypatch):
    given = small_flight[0].views, small_focus.cameras, small_focus.target
    monkeypatch.setattr(flying, "CERTAIN", np.inf)
    ground = flying.attention(*given)
    assert ground.shape == given[0].shape[1:] and 0 <= ground.min() < ground.max() <= 255
    monkeypatch.setattr(flying, "CERTAIN", 5)
    sure = flying.attention(*given)
    known = np.isfinite(sure)
    assert 0 < known.sum() < known.size
    np.testing.assert_array_equal(sure[known], ground[known])
    alone = flying.attention(given[0][4:5], given[1][4:5], given[2])
    assert np.isfinite(alone).all(), "half of a flight of three views"
    nobody = pd.DataFrame({"row": [], "column": [], "presence": [], "looks": []})
    assert np.isfinite(flying.restore(*given, nobody, lambda *_: sure)[0]).all()


def test_cameras_of_more_bits_are_brought_to_eight(focused, small_flight, found):
    deep = small_flight[0]
    deep = flights.Flight(20000 + 40 * deep.views, deep.cameras, deep.target, deep.names)
    again = flying.survey(deep)
    assert 0 < np.median(again.restored) < 255
    np.testing.assert_array_equal(again.people["row"][:2], found.people["row"][:2])


def test_the_network_knows_the_people_from_the_ground(small_flight, small_focus):
    points = np.array([[*place, 0] for place in (*PEOPLE, (0, 0))])
    points = (small_flight[1].world(points) - small_focus.ground.origin) @ small_focus.ground.rotation.T
    presence = flying.network(small_flight[0].views, small_focus.cameras, points)
    assert ((presence >= 0) & (presence <= 1)).all() and presence[:2].min() > presence[2]


def test_the_command_names_what_is_wrong_in_one_line(tmp_path, capsys):
    (tmp_path / "poses.csv").write_text("name,x,y,z,yaw,pitch,roll\n1.png,0,0,-30,0,0,0\n")
    assert main(["flight", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "the picture 1.png is not in" in lines[0]
    assert not (tmp_path / "out").exists()
    Image.new("L", (32, 32), 90).save(tmp_path / "1.png")
    assert main(["flight", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "1 views are too few" in capsys.readouterr().err
