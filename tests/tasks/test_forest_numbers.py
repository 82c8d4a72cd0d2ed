"""Numbers that are quoted: the shipped table, the course's runs, the people of a real flight."""

import numpy as np
import pandas as pd
import pytest

from unveil import project
from unveil.aos import archives, flights, integrator, simulator
from unveil.restore.inference import predict
from unveil.tasks.forest import persons, restoring


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
    ("folder", "psnr", "region", "found"), [("course_pairs", 39.1, 18.5, 3), ("course_run", 39.3, 19.8, 1)]
)
def test_runs_of_the_course(reference, tmp_path, folder, psnr, region, found):
    """Simulated by the course's own simulator; what README, notebook 06 and slides quote."""
    done = restoring.restore_folders(reference / folder, tmp_path)
    scores = pd.DataFrame([result.metrics.loc["restored"] for result in done])
    assert round(scores["psnr"].mean(), 1) == psnr
    assert round(scores["region_psnr"].mean(), 1) == region
    assert scores["found"].sum() == found
    if folder == "course_pairs":
        assert scores["psnr"].tolist() == pytest.approx([35.8, 41.4, 39.6, 43.2, 35.4], abs=0.06)


PEOPLE = {"A": (114, 212, 144, 238), "B": (199, 207, 226, 226), "C": (120, 119, 145, 146)}
"""Where the three people lie in the integral image of the real flight: top, left, bottom, right in pixels."""


def test_restoration_makes_the_people_of_the_real_flight_stand_out(reference):
    flight = flights.read(reference / "flight", level=True)
    weights = restoring.load(restoring.shipped()["focal_stack"])
    integral = integrator.integrate(flight.views, flight.cameras, -17, flight.target).image
    # Median and hottest thousandth of the simulated integral images with trees.
    views = flights.enlarged(flights.toned(flight.views, flights.tones(integral), np.array([118, 179])), 2)
    before = integrator.integrate(views, flight.cameras, -17, flight.target).image[0] / 255
    after = predict(weights.model, weights.inputs(views, flight.cameras, flight.target, ground=-18))
    people, gains = np.zeros(after.shape, bool), []
    for top, left, bottom, right in PEOPLE.values():
        person = np.zeros(after.shape, bool)
        person[2 * top : 2 * bottom, 2 * left : 2 * right] = True
        blurred = persons.contrast_to_noise(before, person)
        assert 1 < blurred < 3
        gains.append(persons.contrast_to_noise(after, person) / blurred)
        people |= person
    assert np.median(gains) > 2
    invented = [persons.detect(image, people).false_objects for image in (before, after)]
    assert invented[1] < invented[0] / 2
