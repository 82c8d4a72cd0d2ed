"""Numbers that are quoted: the shipped table, the course's runs, the people of a real flight."""

import numpy as np
import pandas as pd
import pytest

from unveil import project
from unveil.aos import archives, flights, integrator, simulator
from unveil.tasks.forest import flight, persons, restoring


@pytest.mark.slow
def test_the_shipped_table_is_reproduced(tmp_path):
    """Rows of the first three runs of the fixed test set; threads and processors differ in the last digits only."""
    simulator.simulate(tmp_path, 3, seed=4, balanced=True, incomplete=0, workers=1)
    runs = archives.ArchiveRuns(archives.scan(tmp_path).complete)
    table = restoring.evaluate(None, runs).drop(columns="milliseconds").astype({"model": str})
    shipped = pd.read_csv(project.weights_dir() / "forest" / "test.csv").drop(columns="milliseconds")
    table = table[table["model"].isin(shipped["model"])].reset_index(drop=True)
    shipped = table[["model", "id"]].merge(shipped, on=["model", "id"], how="left")
    pd.testing.assert_frame_equal(table, shipped, atol=5e-5, rtol=0, check_dtype=False)


@pytest.mark.parametrize(
    ("folder", "psnr", "region", "found"), [("course_pairs", 39.6, 19.4, 4), ("course_run", 39.3, 19.8, 1)]
)
def test_runs_of_the_course(reference, tmp_path, folder, psnr, region, found):
    """Simulated by the course's own simulator; what README, notebook 06 and slides quote."""
    done = restoring.restore_folders(reference / folder, tmp_path)
    scores = pd.DataFrame([result.metrics.loc["restored"] for result in done])
    assert round(scores["psnr"].mean(), 1) == psnr
    assert round(scores["region_psnr"].mean(), 1) == region
    assert scores["found"].sum() == found
    if folder == "course_pairs":
        assert scores["psnr"].tolist() == pytest.approx([36.1, 41.4, 39.6, 43.2, 37.7], abs=0.06)


PEOPLE = {"A": (114, 212, 144, 238), "B": (199, 207, 226, 226), "C": (120, 119, 145, 146)}
"""Where the three people lie in the integral image of the real flight: top, left, bottom, right in pixels."""


@pytest.mark.slow
def test_the_three_people_of_the_real_flight_are_found_with_nothing_set_by_hand(reference):
    given = flights.read(reference / "flight", level=True)
    found = flight.survey(given, judge=flight.network, keep=flight.attention)
    assert abs(found.focus.ground.origin[2] - 17.5) < 0.5
    assert found.focus.agreement[1] > 3 * found.focus.agreement[0]
    first, picture = found.people[:3], np.clip(found.restored, 0, 255) / 255
    for top, left, bottom, right in PEOPLE.values():
        person = np.zeros(picture.shape, bool)
        person[top:bottom, left:right] = True
        assert person[first["row"], first["column"]].sum() == 1
        assert persons.contrast_to_noise(picture, person) > 8
    assert (found.people["presence"][3:] > first["presence"].min() / 2).sum() <= 2
    registered, inside = integrator.register(given.views, found.focus.cameras, 0.0, found.focus.target)
    median = integrator.statistics(registered, inside)["median"][0]
    agree = (inside & (np.abs(registered - median) <= 3)).sum(1)[0] >= 0.7 * inside.sum(1)[0]
    assert (np.abs(found.restored - median)[agree] <= 4).mean() > 0.9
    half = (inside & (np.abs(registered - median) <= 3)).sum(1)[0] >= 0.5 * inside.sum(1)[0]
    assert half.mean() > 0.05
    assert (np.abs(found.restored - median)[half] <= 4).mean() > 0.97
    assert found.repeatability > 30
