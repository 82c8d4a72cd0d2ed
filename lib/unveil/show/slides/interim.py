"""Deck 3: the state half-way. Every number comes from data/results, every picture from figures."""

from collections.abc import Mapping

from .layout import BODY, Deck, Page
from .results import POSES, Results, duration, mean, number, percent

LEFT = (0.6, 1.4, 6.6, 5.4)
RIGHT = (7.45, 1.4, 5.28, 5.4)
LEVELS = {"mean": "mean", "p05": "5 %", "median": "median", "p95": "95 %"}
STATES = (
    ("archives", "archives scanned"),
    ("complete", "complete runs"),
    ("incomplete", "incomplete runs, left out"),
    ("split", "runs split over archives"),
    ("duplicates", "members that stand twice"),
    ("foreign", "foreign files"),
    ("damaged", "damaged archives"),
)


def build(deck: Deck, results: Results) -> None:
    """All pages of the deck."""
    data = results.dataset or {}
    runs = data.get("runs", {})
    deck.cover(
        "Half-way: interim results",
        "Data, optics, first networks: what works, what we learned about the data, what comes next",
        """This is our interim report. All numbers on these pages are read from stored results, and all pictures are
        figures saved by the notebooks, so what you see can be made again with two commands. I will show the data
        after filtering, the integrator, what we learned about gray levels, occlusion and focal planes, and how far
        simple baselines and the first trained networks get. I end with open questions.""",
    )

    page = deck.page(
        "Where we stand",
        """The chain runs from the archives to a restored image. The table lists each step with the figure that says
        how far it went in the stored results. A dash means that the step has left no result yet. The following pages
        go through these steps one by one.""",
        "Source: data/results/*.json",
    )
    trainings = results.trainings
    tests = results.rows("test")
    page.table(
        (0.6, 1.5, 12.13, 4.9),
        ["Step", "What there is", "Figure"],
        [
            ["01 Filtering", "complete runs / runs found", f"{_count(runs, 'complete')} / {_total(runs)}"],
            [
                "02 Integration",
                "focal planes of every stack, m",
                ", ".join(f"{h:g}" for h in data.get("heights", [])) or "–",
            ],
            ["03 Exploration", "training / validation / test runs", _split(data)],
            ["04 Model", "networks trained", str(len(trainings)) if trainings else "–"],
            [
                "05 Training",
                "time of the longest training",
                duration(max((t.get("seconds") or 0 for t in trainings), default=None)),
            ],
            ["06 Results", "models and baselines tested", str(len(results.models("test"))) if tests else "–"],
        ],
        [2.6, 5.4, 4.1],
        size=20,
    )

    page = deck.page(
        "Data filtering",
        f"""Archives are scanned by their central directories and never unpacked. We found {_count(runs, "complete")}
        complete runs and {_count(runs, "incomplete")} incomplete ones. Incomplete means that at least one of the
        thirteen files is missing, unreadable or of the wrong size; such a run is named with its reason and never
        used. Runs that are split over two archives are complete when the parts are taken together. Pruning writes new
        archives without the incomplete runs, and a second scan confirms that nothing else changed.""",
        "Source: data/results/dataset.json, figures/01_filtering.png",
    )
    page.figures(LEFT, "01_filtering", "Runs found by the scan, and why some are incomplete")
    if runs:
        page.table(
            RIGHT,
            ["Found by the scan", "Count"],
            [[label, _count(runs, key)] for key, label in STATES if key in runs],
            [3.8, 1.4],
        )
    else:
        page.missing(RIGHT, "data/results/dataset.json: runs")

    page = deck.page(
        "Runs by pose and density",
        """This table counts the complete runs of every stratum, that is, every combination of the person's pose and
        the number of trees per hectare. The split into training, validation and test is made within each stratum, by
        run, with a fixed seed, so that no run stands in two sets and every set has the same mix. We report all later
        results by these strata, because a mean over everything hides the hard cases.""",
        "Source: data/results/dataset.json",
    )
    _strata(page, data)

    for title, name, caption, notes in (
        (
            "Integration: eleven views, one point",
            "02_geometry",
            "One ground point seen by the 11 cameras of the rig",
            """To integrate, we ask for each point of the focal plane where each camera saw it. For our rig, with
            cameras that look straight down from equal altitude, that is a sideways shift in proportion to the
            camera's place. The figure shows one ground point in all views. Where the views agree after shifting, the
            point lies on the plane. The tests of the project compare the integrator with the reference renderer,
            pixel by pixel.""",
        ),
        (
            "The focal stack",
            "02_focal_stack",
            "One run integrated on the planes of the stack, beside the truth",
            """Here is a focal stack of one run. The leaves are gone as shapes, but they left a veil: the mean of leaf
            and ground. The person is brighter than the surroundings on all planes, sharpest on the plane that cuts
            through the body. The planes differ little, yet they differ exactly where it matters: in what is sharp
            near the ground. That is what the network gets as its input channels.""",
        ),
    ):
        page = deck.page(title, notes, f"Source: figures/{name}.png")
        page.figures(BODY, name, caption)

    page = deck.page(
        "Aperture and plane",
        """Two experiments with the integrator. At the left the aperture grows: with few neighbouring views, leaves
        remain recognisable; with all eleven they are smeared out. At the right the focal plane is wrong: then the
        person is smeared just like the leaves, and the contrast falls. So the aperture decides how well the canopy
        goes away, and the plane decides how well the person stays.""",
        "Source: figures/02_aperture.png, figures/02_wrong_plane.png",
    )
    page.figures((0.6, 1.25, 12.13, 2.75), "02_aperture", "What the size of the synthetic aperture does")
    page.figures((0.6, 4.0, 12.13, 2.95), "02_wrong_plane", "What a wrong focal plane does")

    page = deck.page(
        "Gray levels of ground, leaves and person",
        """What can be told apart by gray level alone? The ground is one level per run, anywhere between black and
        bright. Leaves are warm and lie in the upper half. The person is brightest, but not always by much: with a hot
        ground the difference shrinks. So no fixed threshold can find the person; the network must use shape and the
        relation to the surroundings. The table gives the distribution over the runs.""",
        "Source: data/results/dataset.json, figures/03_gray_levels.png",
    )
    below = (2.6, 5.05, 8.13, 1.8)
    page.figures((0.6, 1.25, 12.13, 3.7), "03_gray_levels", "Gray levels over all runs")
    gray = data.get("gray", {})
    if gray:
        keys = [k for k in LEVELS if any(k in v for v in gray.values())]
        page.table(
            below,
            ["Gray level", *(LEVELS[k] for k in keys)],
            [[name, *(number(values.get(k), 0) for k in keys)] for name, values in gray.items()],
            [1.6] + [1.0] * len(keys),
        )
    else:
        page.missing(below, "data/results/dataset.json: gray")

    page = deck.page(
        "Which plane suits which pose?",
        """This was one of the open questions of the course. For each pose we measured the contrast of the person
        against the surroundings in the integral, plane by plane. A person who lies is flat on the ground, so low
        planes should win; one who stands reaches through all planes, so the curve should be flatter and its peak
        higher. Read the chart with that in mind; the marked heights are those of our stack. As no pose is known in
        advance, the stack carries all planes.""",
        "Source: data/results/dataset.json, figures/03_contrast_by_plane.png",
    )
    contrast = data.get("contrast")
    if contrast:
        heights = contrast["heights"]
        page.curves(
            (0.6, 1.3, 7.6, 5.5),
            {POSES[pose]: (heights, contrast[pose]) for pose in POSES if pose in contrast},
            "focal height, m",
            contrast.get("unit", "contrast of the person, gray levels"),
            "0.0",
        )
        page.table(
            (8.5, 1.6, 4.23, 3.0),
            ["Pose", "Best plane, m"],
            [[POSES[pose], f"{_best(heights, contrast[pose])}"] for pose in POSES if pose in contrast],
        )
    else:
        page.figures(BODY, "03_contrast_by_plane", "Contrast of the person by focal plane and pose")

    page = deck.page(
        "Occlusion",
        """How much of the person is hidden in one view, and how much in all of them? The figure shows over how many
        of the eleven views the person's pixels are free. Where none is free, nobody can recover the pixel from the
        data: there the network has to guess from the neighbourhood. Where at least one view is free, the information
        exists, although the mean drowns it. This is why we also build a network that gets the views themselves.""",
        "Source: data/results/dataset.json, figures/03_occlusion.png",
    )
    page.figures(LEFT, "03_occlusion", "In how many of the views a pixel of the person is free")
    _occlusion(page, data)

    page = deck.page(
        "Baselines: what needs no learning",
        """Before any network, simple rules. A single view shows the canopy. The integral on one plane shows the
        person, dimmed, under a veil. Maximum, minimum and median over the stack shift the veil, but do not remove it.
        Look at the flat image: most of the picture is flat ground, so full-frame PSNR is kind to it; that is a
        warning about the measure, and the reason for the column of the person's region.""",
        "Source: data/results/test.json; mean of per-image PSNR, gray range 1",
    )
    model_table(page, (0.6, 1.4, 12.13, 5.4), results, results.models("test", "baseline"))

    page = deck.page(
        "First trainings",
        f"""These are the curves of {len(trainings) or "the"} trainings: the PSNR on validation runs after each epoch.
        Removing the veil and finding the ground level pay most in decibels; the person is small and shows little in
        this number. The steps between neighbouring epochs are noise: weights minutes apart can differ visibly, which
        is why we average them. The table gives the time.""",
        "Source: data/results/training.json",
    )
    training_curves(page, results)

    page = deck.page(
        "One validation run over the epochs",
        """The same validation run at several times of the training. An untrained network of ours gives back the mean
        of its planes; from there it has to remove the veil, even out the ground, and sharpen the person, which is
        small, so that the loss hardly feels it. Watch the edges of the body in the later pictures, and watch for
        bright spots that are not there in the truth: those would be invented people.""",
        "Source: figures/05_epochs.png",
    )
    page.figures(BODY, "05_epochs", "Prediction for one validation run over the epochs")

    page = deck.page(
        "Open questions and next steps",
        """What remains. First the networks at full length, on more data. Then the question of inputs: which planes,
        statistics of the views, or the views themselves, at equal training. Then the test on real pairs which were
        never used for training or tuning, and on a real flight. And always the practical question: is the person
        found, and is nobody invented? The final talk will answer with the same tables you saw today. Thank you.""",
    )
    page.card(
        (0.6, 1.45, 5.9, 5.2),
        "Open questions",
        [
            "Which planes, and how many of them?",
            "Do the views tell more than their mean?",
            "How to weight the person without inventing people?",
            "Does the simulation hold in a real forest?",
        ],
        "D55E00",
        22,
    )
    page.card(
        (6.83, 1.45, 5.9, 5.2),
        "Next steps",
        [
            "Longer training on more runs",
            "Statistics and registered views as input",
            "Tuning study, one factor at a time",
            "Real pairs and a real flight, kept apart until the end",
        ],
        "009E73",
        22,
    )


def _count(runs: Mapping, key: str) -> str:
    value = runs.get(key)
    return "–" if value is None else f"{value:,}"


def _total(runs: Mapping) -> str:
    return f"{runs['complete'] + runs['incomplete']:,}" if "complete" in runs and "incomplete" in runs else "–"


def _split(data: Mapping) -> str:
    split = data.get("split")
    return " / ".join(f"{split.get(k, 0):,}" for k in ("train", "validation", "test")) if split else "–"


def _best(heights, values) -> str:
    known = [(v, h) for h, v in zip(heights, values, strict=True) if v is not None]
    return f"{max(known)[1]:g}" if known else "–"


def _strata(page: Page, data: Mapping) -> None:
    strata = data.get("strata", [])
    if not strata:
        page.missing((0.6, 1.5, 12.13, 3.5), "data/results/dataset.json: strata")
        return
    densities = sorted({s["density"] for s in strata})
    counts = {(s["pose"], s["density"]): s["runs"] for s in strata}
    poses = [p for p in POSES if any(s["pose"] == p for s in strata)]
    rows = [
        [
            POSES[p],
            *(f"{counts.get((p, d), 0):,}" for d in densities),
            f"{sum(counts.get((p, d), 0) for d in densities):,}",
        ]
        for p in poses
    ]
    rows.append(
        ["all", *(f"{sum(counts.get((p, d), 0) for p in poses):,}" for d in densities), f"{sum(counts.values()):,}"]
    )
    page.table(
        (0.6, 1.5, 7.3, 4.2),
        ["Pose", *(f"{d} trees/ha" for d in densities), "all"],
        rows,
        highlight=[len(rows) - 1],
        size=20,
    )
    split = data.get("split")
    if split:
        page.bars((8.2, 1.4, 4.5, 5.2), list(split), {"runs": list(split.values())}, "runs", "0")
    page.text((0.6, 6.0, 7.3, 0.75), "Split by run, within each stratum, seeded: no run in two sets.", 18)


def _occlusion(page: Page, data: Mapping) -> None:
    rows = [s for s in data.get("strata", []) if s.get("occlusion") is not None]
    if rows:
        page.table(
            RIGHT,
            ["Pose", "Trees/ha", "Hidden in one view", "Hidden in all"],
            [
                [POSES.get(s["pose"], s["pose"]), str(s["density"]), percent(s["occlusion"]), percent(s.get("hidden"))]
                for s in rows
            ],
            [1.5, 1.1, 1.4, 1.2],
            size=16,
        )
    else:
        page.missing(RIGHT, "data/results/dataset.json: strata with occlusion")


def model_table(
    page: Page, box, results: Results, models: list[str], highlight: str | None = None, practical: bool = False
) -> None:
    """Models against densities: PSNR per density, SSIM, the person's region, and optionally the practical measures."""
    if not models:
        page.missing((box[0], box[1], box[2], 3.5), "data/results/test.json")
        return
    densities = results.densities()
    header = ["Model", *(f"PSNR\n{d}/ha" for d in densities), "SSIM", "PSNR\nperson"]
    header += ["Found", "False in\nempty runs", "ms"] if practical else []
    rows = []
    for model in models:
        of_model = results.rows("test", model=model)
        row = [model, *(number(mean(results.rows("test", model=model, density=d), "psnr")) for d in densities)]
        row += [number(mean(of_model, "ssim"), 3), number(mean(of_model, "region_psnr"))]
        if practical:
            empty = results.rows("test", model=model, pose="none")
            row += [
                percent(mean(of_model, "found")),
                number(mean(empty, "false_objects"), 2),
                number(mean(of_model, "milliseconds"), 0),
            ]
        rows.append(row)
    marked = [models.index(highlight)] if highlight in models else []
    page.table(box, header, rows, [3.0] + [1.15] * (len(header) - 1), marked, 18)


def training_curves(page: Page, results: Results) -> None:
    """Validation PSNR over the epochs of every training, and a table of time and device."""
    trainings = results.trainings
    if not trainings:
        page.missing((0.6, 1.5, 12.13, 3.5), "data/results/training.json")
        return
    series = {}
    for training in trainings:
        curves = training.get("curves", {})
        values = curves.get("val_psnr") or []
        if any(v is not None for v in values):
            series[training["model"]] = (curves.get("epoch") or list(range(1, len(values) + 1)), values)
    if series:
        # LibreOffice drops the curves that stand before a longer one.
        ordered = sorted(series.items(), key=lambda item: -len(item[1][0]))
        page.curves(
            (0.5, 1.3, 6.9, 5.5),
            dict(ordered),
            "epoch",
            "PSNR on validation runs, dB",
            "0",
            markers=max(len(v[0]) for v in series.values()) <= 40,
        )
    else:
        page.missing((0.6, 1.5, 6.6, 3.5), "data/results/training.json: curves")
    rows = []
    for training in trainings:
        last = [v for v in training.get("curves", {}).get("val_psnr") or [] if v is not None]
        rows.append(
            [
                training["model"],
                str(training.get("epochs", "–")),
                duration(training.get("seconds")),
                number(last[-1] if last else None),
            ]
        )
    page.table(
        (7.6, 1.5, 5.13, 5.2),
        ["Network", "Epochs", "Time", "Last dB"],
        rows,
        [2.0, 1.0, 1.1, 1.0],
        size=16,
    )
