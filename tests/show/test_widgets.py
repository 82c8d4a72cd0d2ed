"""Widgets without a browser: geometry, payload, choices, logs. tests/browser/ looks at them in JupyterLab."""

import io
import json
import threading
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from unveil.aos import integrator
from unveil.aos.camera import Cameras, course_rig
from unveil.errors import UnveilError
from unveil.show import widgets

VIEWS = np.random.default_rng(0).integers(0, 256, (11, 24, 24), dtype=np.uint8)


def tilted() -> Cameras:
    rng = np.random.default_rng(1)
    rotations = []
    for a, b, c in rng.uniform(-0.1, 0.1, (11, 3)):
        x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        rotations.append(x @ y @ z)
    centers = course_rig().centers + rng.uniform(-1, 1, (11, 3))
    shift = -np.einsum("vij,vj->vi", rotations, centers)
    return Cameras(np.concatenate([rotations, shift[..., None]], 2), np.linspace(45, 55, 11))


@pytest.mark.parametrize("cameras", [course_rig(), tilted()], ids=["nadir", "tilted"])
def test_geometry_is_the_integrators(cameras):
    """Each pixel's sampling position from the geometry sent to the browser, against register() of a coordinate ramp."""
    rows, columns = 24, 32
    ramps = (
        np.broadcast_to(np.arange(columns, dtype=np.float32), (11, rows, columns)),
        np.broadcast_to(np.arange(rows, dtype=np.float32)[:, None], (11, rows, columns)),
    )
    g = widgets._Scene(np.zeros((11, rows, columns), np.uint8), cameras, None, None).geometry()
    y, x = np.mgrid[:rows, :columns] + 0.5
    pixels = np.stack([x, y, np.ones_like(x)])
    for height in (-2.0, 0.0, 2.5):
        slope, distance = np.array(g["slope"]), -height - g["z"]
        for v in range(11):
            map_ = np.outer(g["origins"][v], slope) + distance * np.reshape(g["directions"][v], (3, 3))
            q = np.einsum("ij,jrc->irc", map_, pixels)
            for axis, ramp in enumerate(ramps):
                registered, inside = integrator.register(np.ascontiguousarray(ramp), cameras, height)
                size = (columns, rows)[axis]
                wanted = np.clip(q[axis] / q[2], 0, size - 1)
                assert np.abs(registered[0, v] - wanted)[inside[0, v]].max(initial=0) < 1e-3


def test_apertures_grow_about_the_target():
    scene = widgets._Scene(VIEWS, None, None, None)
    apertures = scene.apertures()
    assert [len(a["views"]) for a in apertures] == [1, 3, 5, 7, 9, 11]
    assert sorted(apertures[1]["views"]) == [4, 5, 6] and apertures[0]["views"] == [5]
    assert [a["metres"] for a in apertures] == pytest.approx([0, 2, 4, 6, 8, 10])


def test_views_go_by_message_and_stay_out_of_the_saved_state():
    scrubber = widgets.focal_scrubber(VIEWS, truth=VIEWS[0] / 255)
    sent = []
    scrubber.send = lambda content, buffers: sent.append((content, buffers))
    scrubber._answer(scrubber, {"type": "views"}, [])
    assert sent[0][1] == [VIEWS.tobytes(), VIEWS[0].tobytes()]
    state = scrubber.get_state()
    assert all(not isinstance(value, (bytes, memoryview)) for value in state.values())
    own = {name: state[name] for name in ("geometry", "height", "aperture", "view", "picture", "pin")}
    assert len(json.dumps(own)) < 20_000
    bundle = scrubber._repr_mimebundle_()[0]
    assert bundle["text/plain"] == "FocalScrubber(11 views of 24 × 24 pixels, 0 to 3 m)"
    assert scrubber.geometry["truth"] and scrubber.aperture == 5 and scrubber.view == 5
    scrubber.height = 99
    assert scrubber.height == 3


def test_scrubber_takes_floats_and_refuses_what_does_not_fit():
    assert (widgets.focal_scrubber(VIEWS / 255)._scene.views == VIEWS).all()
    assert (widgets.focal_scrubber(VIEWS.astype(np.float32))._scene.views == VIEWS).all()
    with pytest.raises(UnveilError, match="5 views need as many cameras"):
        widgets.focal_scrubber(VIEWS[:5])
    with pytest.raises(UnveilError, match="shape"):
        widgets.focal_scrubber(VIEWS[0])
    with pytest.raises(UnveilError, match="truth"):
        widgets.focal_scrubber(VIEWS, truth=np.zeros((3, 3)))
    with pytest.raises(UnveilError, match="lowest, highest"):
        widgets.focal_scrubber(VIEWS, heights=(3, 0))


def test_the_static_twin_shows_the_integrals():
    fig = widgets.focal_scrubber(VIEWS).filmstrip((0, 1.5))
    assert [axis.get_title() for axis in fig.axes] == ["0.00 m", "1.50 m"]
    wanted = integrator.integrate(VIEWS, course_rig(), (0, 1.5)).image
    for axis, image in zip(fig.axes, wanted, strict=True):
        assert (np.asarray(axis.images[0].get_array()) == image).all() and axis.images[0].get_clim() == (0, 255)
    assert len(widgets.focal_scrubber(VIEWS).filmstrip().axes) == 6


def table() -> pd.DataFrame:
    poses = ["laying", "idle"] * 4
    return pd.DataFrame(
        {"id": [f"0_{i}" for i in range(8)], "pose": poses, "density": [0] * 4 + [100] * 4, "psnr": np.arange(8.0) + 20}
    ).assign(mse=np.arange(8.0))


def browser_of(lookup, **options):
    """A results browser, and what it has sent."""
    browser, sent = widgets.ResultsBrowser(table(), lookup, **options), []
    browser.send = lambda content, buffers=(): sent.append((content, buffers))
    return browser, sent


def settled(browser):
    """Wait until all pictures that were asked for are made."""
    browser._worker.submit(int).result(10)


def test_results_browser_shows_first_what_takes_no_time():
    seen, told = {"view": VIEWS[0], "truth": VIEWS[0]}, threading.Event()

    def lookup(_run):
        told.wait(10)
        return seen | {"prediction": VIEWS[1]}

    browser, sent = browser_of(lookup, early=lambda _run: seen)
    browser.run_id = "0_4"
    browser._early_worker.submit(told.set)
    settled(browser)
    kinds = [(content["id"], content.get("early", False), content["names"]) for content, _ in sent]
    assert kinds == [("0_4", True, ["view", "truth"]), ("0_4", False, ["view", "truth", "prediction", "error"])]


def test_results_browser_picks_by_pose_density_and_rank():
    asked = []

    def lookup(run):
        asked.append(run)
        return {"view": VIEWS[0], "prediction": VIEWS[1] / 255, "truth": VIEWS[0]}

    browser, sent = browser_of(lookup)
    assert browser.run["id"] == "0_7" and asked == [], "nothing is made before somebody looks"
    assert browser.pick("worst", pose="idle")["id"] == "0_1"
    assert browser.pick("best", pose="laying", density=0)["id"] == "0_2"
    assert browser.pick("median", pose="none") is None
    browser.chosen = {"pose": "laying", "density": "all"}
    assert browser.shown == ["0_6", "0_4", "0_2", "0_0"]
    browser.run_id = "0_4"
    settled(browser)
    assert asked == ["0_4", "0_6", "0_2"], "first the run, then its neighbours"
    browser.run_id = "0_2"
    settled(browser)
    assert len(asked) == len(set(asked)), "no run is looked up twice"
    content, pictures = sent[-1]
    assert content["id"] == "0_2" and content["names"] == ["view", "prediction", "truth", "error"]
    assert "psnr 22" in content["text"] and content["compared"] == ["prediction", "truth"]
    assert (np.asarray(Image.open(io.BytesIO(pictures[2]))) == VIEWS[0]).all()
    assert Image.open(io.BytesIO(pictures[3])).mode == "RGB", "the error is signed"
    browser.chosen, browser.metric = {}, "mse"
    assert browser.shown[0] == "0_0", "best first"
    titles = [axis.get_title() for axis in browser.filmstrip(["best"]).axes]
    assert titles == ["view", "prediction", "truth", "error"]
    with pytest.raises(UnveilError, match="columns"):
        widgets.ResultsBrowser(table().drop(columns="psnr"), lookup)


def test_a_run_that_cannot_be_made_is_said():
    def lookup(run):
        raise UnveilError("no such run")

    browser, sent = browser_of(lookup)
    browser._open()
    settled(browser)
    assert sent[-1][0] == {"type": "failed", "id": "0_7", "text": "0_7: no such run"}


def test_the_zoom_goes_to_what_stands_out_of_the_truth():
    truth = np.full((40, 80), 20, np.uint8)
    truth[28:32, 58:62] = 250
    browser, sent = browser_of(lambda run: {"prediction": truth, "truth": truth, "presence": truth / 255})
    browser._open()
    settled(browser)
    assert sent[0][0]["center"] == pytest.approx([60 / 80, 30 / 40]) and sent[0][0]["aspect"] == 2


def test_training_monitor_follows_a_log(tmp_path):
    monitor = widgets.TrainingMonitor(tmp_path)
    assert not monitor.refresh()
    rows = [{"epoch": e, "train_loss": 1 / (e + 1), "val_mse": 2 / (e + 1), "val_psnr": 20 + e} for e in range(3)]
    pd.DataFrame(rows).to_csv(tmp_path / "log.csv", index=False)
    pictures = tmp_path / "pictures" / "item_0"
    pictures.mkdir(parents=True)
    for name in ("input", "epoch_0000", "epoch_0015", "latest", "target"):
        Image.fromarray(VIEWS[0]).save(pictures / f"{name}.png")
    assert monitor.refresh() and not monitor.refresh()
    assert "epoch 2" in monitor._text.value and "validation PSNR 22" in monitor._text.value
    assert list(monitor._strip) == ["input", "latest prediction", "target"]
    assert all(bytes(image.value).startswith(b"\x89PNG") for image in monitor._images)
    assert [axis.get_ylabel() for axis in monitor.filmstrip().axes] == ["loss", "PSNR (dB)"]


def test_training_monitor_is_a_listener_and_reads_lightnings_sparse_log():
    monitor = widgets.training_monitor()
    history = [
        {"epoch": 0, "step": 9, "train_loss": 0.5, "val_loss": float("nan")},
        {"epoch": 0, "step": 9, "train_loss": float("nan"), "val_loss": 0.7},
    ]
    monitor.update(history, VIEWS[0])
    assert monitor._history.loc[0, ["train_loss", "val_loss"]].tolist() == [0.5, 0.7]
    assert list(monitor._strip) == ["latest prediction"]
    monitor.close()


def test_training_monitor_tells_progress_and_end_and_asks_to_stop(tmp_path):
    monitor = widgets.TrainingMonitor(tmp_path)
    assert monitor.button.disabled and "first batch" in monitor._said.value
    state = {"epoch": 2, "batch": 3, "batches": 40, "share": 0.25, "seconds_left": 187.0}
    (tmp_path / "progress.json").write_text(json.dumps(state))
    assert monitor.refresh() and not monitor.refresh()
    assert monitor._said.value == "epoch 2, batch 3 of 40 · about 3 min left" and monitor._bar.value == 0.25
    monitor.button.click()
    assert (tmp_path / "stop").exists() and monitor.button.disabled
    (tmp_path / "progress.json").write_text(json.dumps(state | {"ended": "its 2 minutes are over"}))
    assert monitor.refresh() and monitor._said.value == "Ended after 2 epochs: its 2 minutes are over."


def test_training_monitor_follows_by_itself(tmp_path):
    monitor = widgets.TrainingMonitor(tmp_path).watch(0.01)
    (tmp_path / "progress.json").write_text(json.dumps({"epoch": 1, "ended": "stopped by hand"}))
    for _ in range(300):
        if "Ended" in monitor._said.value:
            break
        time.sleep(0.01)
    assert monitor._said.value == "Ended after 1 epoch: stopped by hand."
    monitor.close()
