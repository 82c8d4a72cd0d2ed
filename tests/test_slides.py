"""The decks: numbers from the stored results and nowhere else, nothing off the page, nothing over its box."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from unveil.errors import UnveilError
from unveil.show import slides
from unveil.show.slides.layout import Deck
from unveil.show.slides.metrics import length
from unveil.show.slides.results import duration, mean, number, parse, percent

COMMITTED = Path(__file__).resolve().parents[1] / "slides"
POSES, DENSITIES = ("laying", "sitting", "idle", "none"), (0, 100, 200)
FIGURES = {
    "01_filtering": (1600, 900),
    "02_geometry": (2400, 900),
    "02_focal_stack": (3000, 800),
    "02_aperture": (900, 1200),
    "03_gray_levels": (1200, 1200),
    "06_flight": (1600, 900),
    "06_failures": (2000, 1500),
}


def example() -> dict[str, dict]:
    """Made-up results that follow the schema; the numbers mean nothing."""
    rng = np.random.default_rng(3)
    models = [
        ("rednet22, focal stack", "network", 30.0),
        ("unet, focal stack", "network", 31.5),
        ("multi-view", "network", 35.0),
    ]
    models += [
        (name, "baseline", base) for name, base in (("integral 0.2 m", 17.0), ("median", 18.0), ("flat median", 22.0))
    ]
    rows = []
    for model, kind, base in models:
        for pose in POSES:
            for density in DENSITIES:
                empty = pose == "none"
                row = {
                    "model": model,
                    "kind": kind,
                    "pose": pose,
                    "density": density,
                    "images": 20,
                    "objects": 0 if empty else 20,
                }
                row |= {
                    "psnr": base + float(rng.normal(0, 1)) + (9 if density == 0 else -density / 50),
                    "ssim": 0.9 + 0.01 * float(rng.random()),
                }
                row |= {"mse": 0.001, "milliseconds": 20 + 5 * float(rng.random())}
                row |= {"region_psnr": float("nan") if empty else base - 9 + float(rng.random())}
                row |= {
                    "found": float("nan") if empty else float(rng.uniform(0.6, 1)),
                    "false_objects": float(rng.uniform(0, 0.1)),
                }
                rows.append(row)
    epochs = list(range(1, 13))
    trainings = [
        {
            "model": model,
            "parameters": 742087 + 1000 * i,
            "epochs": 12,
            "seconds": 840.0 * (i + 1),
            "device": "CPU, 2 cores",
            "options": {"batch": 8, "learning_rate": 0.001, "object_weight": 4.0},
            "curves": {
                "epoch": epochs,
                "train_loss": [0.1 / e for e in epochs],
                "val_loss": [0.11 / e for e in epochs],
                "val_psnr": [20 + i + 3 * float(np.log(e)) for e in epochs],
            },
        }
        for i, (model, kind, _) in enumerate(models)
        if kind == "network"
    ]
    heights = [0.0, 0.2, 0.6, 1.0, 1.4, 1.8, 2.5]
    return {
        "dataset": {
            "runs": {
                "archives": 7,
                "complete": 1167,
                "incomplete": 33,
                "split": 21,
                "duplicates": 3,
                "foreign": 5,
                "damaged": 0,
            },
            "heights": [0.2, 0.6, 1.0, 1.4, 1.8],
            "strata": [
                {
                    "pose": p,
                    "density": d,
                    "runs": 90 + 3 * i + j,
                    "occlusion": None if p == "none" else 0.0037 * d,
                    "hidden": 0.001 * d,
                }
                for i, p in enumerate(POSES)
                for j, d in enumerate(DENSITIES)
            ],
            "split": {"train": 933, "validation": 117, "test": 118},
            "gray": {
                name: {"mean": m, "std": 20.4, "p05": m - 30, "median": m + 2, "p95": m + 33}
                for name, m in (("ground", 71.6), ("leaves", 148.2), ("person", 236.9))
            },
            "contrast": {
                "heights": heights,
                "laying": [41.5 - h for h in heights],
                "sitting": [38 + h for h in heights],
                "idle": [30 + 2 * h for h in heights],
            },
        },
        "training": {"trainings": trainings},
        "test": {"runs": 240, "seed": 7, "rows": rows},
        "real": {
            "rows": [
                {
                    "sample": f"sample_{s:02d}",
                    "model": m,
                    "kind": k,
                    "psnr": b + 0.37 * s,
                    "region_psnr": b - 8 + 0.21 * s,
                    "found": 1.0,
                }
                for m, k, b in models
                for s in range(5)
            ],
            "flight": {
                "rows": [
                    {"person": p, "model": m, "before": 2.31 + i, "after": 14.27 + 10 * j + i}
                    for i, p in enumerate("ABC")
                    for j, m in enumerate(("multi-view", "focal stack"))
                ],
                "elsewhere": {"integral": 61, "multi-view": 17, "focal stack": 19},
            },
        },
        "tuning": {
            "budget": "1,500 steps of batch 8, one seed",
            "rows": [
                {
                    "factor": f,
                    "setting": s,
                    "psnr": 25.13 + 0.2 * i,
                    "region_psnr": 14.07 + 0.1 * i,
                    "chosen": i % 4 == 1,
                }
                for i, (f, s) in enumerate(
                    (f, f"{f} {n}") for f in ("planes", "features", "loss", "crop") for n in range(4)
                )
            ],
        },
    }


def store(folder: Path, results: dict[str, dict]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in results.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """All four decks from the example results and some figures, with what was reported."""
    folder = tmp_path_factory.mktemp("slides")
    figures = folder / "figures"
    figures.mkdir()
    for index, (name, size) in enumerate(FIGURES.items()):
        Image.new("L", size, 40 * index).save(figures / f"{name}.png")
    said: list[str] = []
    paths = slides.build(
        folder / "out", results=store(folder / "results", example()), figures=figures, report=said.append
    )
    return folder, {p.stem: p for p in paths}, said


def assert_interim(text: str, found: dict[str, dict]) -> None:
    """Every number that the interim talk must show is in it."""
    results = parse(found)
    data = results.dataset or {}
    for key in ("archives", "complete", "incomplete", "split"):
        if key in data.get("runs", {}):
            assert f"{data['runs'][key]:,}" in text
    for stratum in data.get("strata", []):
        assert f"{stratum['runs']:,}" in text
    for values in data.get("gray", {}).values():
        assert number(values.get("mean"), 0) in text
    for training in results.trainings:
        assert duration(training.get("seconds")) in text
        assert repr(training["curves"]["val_psnr"][-1]) in text
    for model in results.models("test", "baseline"):
        rows = results.rows("test", model=model)
        for density in results.densities():
            assert number(mean([r for r in rows if r["density"] == density], "psnr")) in text
        assert number(mean(rows, "region_psnr")) in text


def assert_final(text: str, found: dict[str, dict]) -> None:
    """Every number that the final talk must show is in it."""
    results = parse(found)
    for training in results.trainings:
        assert training["model"] in text
        assert duration(training.get("seconds")) in text
        assert repr(training["curves"]["val_psnr"][-1]) in text
    for model in results.models("test"):
        rows = results.rows("test", model=model)
        for density in results.densities():
            assert number(mean([r for r in rows if r["density"] == density], "psnr")) in text
        assert number(mean(rows, "ssim"), 3) in text
        assert number(mean(rows, "region_psnr")) in text
        assert percent(mean(rows, "found")) in text
    scores = {
        model: mean(results.rows("real", model=model), "psnr") or 0 for model in results.models("real", "baseline")
    }
    for model in results.models("real", "network") + ([max(scores, key=scores.get)] if scores else []):
        assert number(mean(results.rows("real", model=model), "psnr")) in text
        for row in results.rows("real", model=model):
            assert f"{number(row.get('psnr'))} ({number(row.get('region_psnr'))})" in text
    flight = (results.real or {}).get("flight", {})
    for row in flight.get("rows", []):
        assert number(row.get("before")) in text and number(row.get("after")) in text
    for count in flight.get("elsewhere", {}).values():
        assert number(count, 0) in text
    for row in results.rows("tuning"):
        assert str(row["setting"]) in text and number(row.get("psnr")) in text


def test_decks_have_no_problems(built):
    _, decks, _ = built
    assert list(decks) == list(slides.DECKS)
    assert {name: slides.check(path) for name, path in decks.items()} == {name: [] for name in decks}


def test_numbers_of_the_results_are_in_the_decks(built):
    _, decks, _ = built
    text = {name: "\n".join(slides.text_of(path)) for name, path in decks.items()}
    assert_interim(text["3_interim_results"], example())
    assert_final(text["4_final_results"], example())


def test_summary_names_the_best_network_and_its_strata(built):
    _, decks, _ = built
    pages = slides.text_of(decks["4_final_results"])
    assert "multi-view on the test set" in pages[1]
    assert "multi-view beats every baseline in 12 of 12 strata" in pages[-1]


def test_a_network_tried_on_some_pairs_only_is_not_the_best_on_real_ones():
    found = example()
    found["real"]["rows"].append({"sample": "sample_00", "model": "lucky", "kind": "network", "psnr": 60.0})
    results = parse(found)
    assert "lucky" in results.models("real", "network")
    assert results.best("real") == parse(example()).best("real")


def test_what_is_absent_is_said_and_reported(built):
    folder, decks, said = built
    assert len(said) == 2 and "figures/05_epochs.png" in said[0] and "figures/06_best_median_worst.png" in said[1]
    text = "\n".join(slides.text_of(decks["3_interim_results"]))
    assert "Not available when this deck was built" in text
    numbers = json.loads((folder / "out" / "numbers.json").read_text())
    assert numbers["3_interim_results"]["absent"] == [
        "figures/02_wrong_plane.png",
        "figures/03_occlusion.png",
        "figures/05_epochs.png",
    ]
    assert set(numbers["4_final_results"]["figures"]) == {"06_flight", "06_failures"}
    assert numbers["4_final_results"]["results"]["dataset"] == example()["dataset"]


def test_decks_without_any_result_are_whole_and_plain(tmp_path):
    said: list[str] = []
    paths = slides.build(tmp_path / "out", results=tmp_path / "none", figures=tmp_path / "none", report=said.append)
    for path in paths:
        assert slides.check(path) == []
    text = "\n".join(slides.text_of(paths[3]))
    assert "data/results/test.json" in text and "dB" not in text.replace("PSNR in dB", "")
    assert len(said) == 2


def test_partial_results_are_taken_as_far_as_they_go(tmp_path):
    partial = {
        "test": {"rows": [{"model": "a", "pose": "idle", "density": 100, "psnr": 27.25}]},
        "dataset": {"runs": {"complete": 5}},
    }
    paths = slides.build(
        tmp_path / "out",
        store(tmp_path / "results", partial),
        tmp_path,
        ["3_interim_results", "4_final_results"],
        report=lambda _: None,
    )
    assert [slides.check(path) for path in paths] == [[], []]
    assert "27.2" in "\n".join(slides.text_of(paths[1]))


def test_building_twice_gives_the_same_bytes(built, tmp_path):
    folder, decks, _ = built
    again = slides.build(tmp_path, folder / "results", folder / "figures", ["4_final_results"], report=lambda _: None)
    assert again[0].read_bytes() == decks["4_final_results"].read_bytes()


def test_one_deck_leaves_the_record_of_the_others(built, tmp_path):
    folder, _, _ = built
    shutil.copytree(folder / "out", tmp_path / "out")
    slides.build(tmp_path / "out", tmp_path / "none", tmp_path, ["3_interim_results"], report=lambda _: None)
    numbers = json.loads((tmp_path / "out" / "numbers.json").read_text())
    assert numbers["3_interim_results"]["results"] == {} and numbers["4_final_results"]["results"]["test"]["seed"] == 7


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("test", "{", "cannot be read as JSON"),
        ("real", "[]", "holds a list"),
        ("test", '{"rows": [{"model": "a"}]}', "has no 'pose'"),
        (
            "training",
            '{"trainings": [{"model": "a", "curves": {"epoch": [1], "val_psnr": [1, 2]}}]}',
            "differ in length",
        ),
    ],
)
def test_broken_results_are_refused(tmp_path, name, content, message):
    (tmp_path / f"{name}.json").write_text(content)
    with pytest.raises(UnveilError, match=message):
        slides.build(tmp_path / "out", tmp_path, tmp_path)
    assert not (tmp_path / "out").exists()


def test_unknown_deck_is_refused(tmp_path):
    with pytest.raises(UnveilError, match="no deck '5_sequel'"):
        slides.build(tmp_path, tmp_path, tmp_path, ["5_sequel"])


def test_check_sees_what_is_wrong(tmp_path):
    deck = Deck("wrong")
    page = deck.page("A page", "too short")
    page.text((1, 2, 2, 0.5), "This is far too much text for a box as small as this one is", 20, 20)
    page.shape((12.5, 3, 2, 1), "off")
    page.text((1, 4, 1.0, 1), "Unbreakableword", 20, 20)
    page.table((1, 5, 3, 0.4), ["A heading that is long"], [["and a cell"]])
    table = page.slide.shapes[-1].table
    table.rows[0].height = 100000
    Image.new("L", (200, 100)).save(tmp_path / "a.png")
    page.picture((5, 2, 2, 2), tmp_path / "a.png")
    page.slide.shapes[-1].height *= 2
    problems = " | ".join(slides.check(deck.save(tmp_path / "wrong.pptx")))
    for expected in (
        "1 pages",
        "notes have 2 words",
        "needs",
        "reaches off the page",
        "wider than its box",
        "cell “A heading",
        "distorted",
    ):
        assert expected in problems


def test_means_are_weighted_by_what_was_counted():
    rows = [
        {"psnr": 20.0, "found": None, "images": 30, "objects": 0},
        {"psnr": 40.0, "found": 0.5, "images": 10, "objects": 10},
    ]
    assert mean(rows, "psnr") == 25.0
    assert mean(rows, "found") == 0.5
    assert mean(rows, "ssim") is None
    assert (number(None), number(-1.26), percent(0.955), duration(95), duration(840), duration(9000)) == (
        "–",
        "−1.3",
        "96 %",
        "95 s",
        "14 min",
        "2.5 h",
    )


def test_pdf_has_a_page_per_slide(built):
    _, decks, _ = built
    if not (shutil.which("soffice") or shutil.which("libreoffice")):
        said: list[str] = []
        assert slides.to_pdf([decks["2_idea"]], report=said.append) == [] and "not installed" in said[0]
        pytest.skip("LibreOffice is not installed; to_pdf said so")
    (pdf,) = slides.to_pdf([decks["2_idea"]])
    assert pdf == decks["2_idea"].with_suffix(".pdf")
    assert pdf.read_bytes().count(b"/Type/Page/") == len(slides.text_of(decks["2_idea"]))


@pytest.mark.parametrize("bold", [False, True])
def test_text_is_measured_as_arial_is_set(bold):
    name = "LiberationSans-Bold.ttf" if bold else "LiberationSans-Regular.ttf"
    try:
        font = ImageFont.truetype(name, 1000, layout_engine=ImageFont.Layout.BASIC)
    except OSError:
        pytest.skip("Liberation Sans is not installed")
    text = "Seeing the person under 200 trees: 36.2 dB − π·λ"
    assert font.getlength(text) / 1000 <= length(text, bold) <= 1.01 * font.getlength(text) / 1000


def test_committed_decks_show_what_they_were_built_from():
    if not (COMMITTED / "numbers.json").is_file():
        pytest.skip("no decks were committed yet: make slides")
    numbers = json.loads((COMMITTED / "numbers.json").read_text(encoding="utf-8"))
    assert {path.stem for path in COMMITTED.glob("*.pptx")} == set(numbers)
    for name, record in numbers.items():
        path = COMMITTED / f"{name}.pptx"
        assert slides.check(path) == []
        assert path.with_suffix(".pdf").is_file()
        pages = slides.text_of(path)
        assert len(pages) == record["slides"]
        if name == "3_interim_results":
            assert_interim("\n".join(pages), record["results"])
        if name == "4_final_results":
            assert_final("\n".join(pages), record["results"])
