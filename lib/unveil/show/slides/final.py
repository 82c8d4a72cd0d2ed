"""Deck 4: the final results. Every number comes from data/results, every picture from figures."""

from .interim import model_table, training_curves
from .layout import BLUE, BODY, GREEN, ORANGE, RED, Deck
from .results import POSES, Results, duration, mean, number, percent


def build(deck: Deck, results: Results) -> None:
    """All pages of the deck."""
    best = results.best()
    networks, baselines = results.models("test", "network"), results.models("test", "baseline")
    densities = results.densities()
    deck.cover(
        "Seeing the person under the trees",
        "Final results: restoration of focal stacks and views behind Airborne Optical Sectioning",
        """These are our final results. As in the interim talk, every number is read from the stored results and every
        picture is a saved figure; two commands make all of them again. I start with the summary, then training, the
        test table by density and pose, what is found and what is invented, real data, failures, and what we learned
        about the choices we made.""",
    )

    page = deck.page(
        "In one minute",
        f"""If you remember one page, take this one. Our best network, {best or "to be trained"}, is compared with the
        best rule that needs no learning at each density. The second card is about people: found means that the
        restored person overlaps the true one by at least half. False persons are counted in runs without anybody. The
        third card is the test on real course pairs the network had never seen. The last says how long it takes.""",
        "Source: data/results/test.json, data/results/real.json; mean of per-image PSNR",
    )
    _summary(page, results, best, baselines, densities)

    page = deck.page(
        "What was trained, and on what",
        """Here is what was trained, with the size of each network, the number of epochs, the time and the device. All
        of them saw simulated runs only. Options are stored beside the weights, and one command repeats each training
        from its seed. Please compare networks only where training was equal; where it was not, the table says so by
        its epochs and time.""",
        "Source: data/results/training.json, data/results/dataset.json",
    )
    _setup(page, results)

    page = deck.page(
        "Training curves",
        """The validation PSNR over the epochs. Removing the veil and finding the ground level come first and pay most
        in decibels; the person is small and comes later. Where a curve still rises at its end, more training would
        have helped, and the number in the test table is a lower bound for that network. Weights are averaged over
        training, so the curve of the weights we use is smoother than the loss itself.""",
        "Source: data/results/training.json",
    )
    training_curves(page, results)

    page = deck.page(
        "The test set: networks and baselines",
        """The main table. Rows are networks first, then baselines. The first columns are the PSNR by density, then
        SSIM, then the PSNR in the region of the person, the share of people found, the false persons per empty run,
        and the time per run. The marked row is the network with the highest mean PSNR. Compare the flat image with
        the others, first in the full frame and then in the region of the person: the two columns tell different
        stories, so we look at both.""",
        "Source: data/results/test.json; simulated test runs never used in training",
    )
    model_table(page, (0.6, 1.3, 12.13, 5.55), results, networks + baselines, best, practical=True)

    page = deck.page(
        "By pose and density",
        f"""The same test for {best or "the best network"}, split by pose and density. Without trees the task is
        nearly an identity, so look first at how much is lost from one density to the next, and then at the
        differences between poses. A person who stands is narrow from above and reaches through several planes; one
        who lies is large and flat. Runs without a person show how clean the ground gets. The table at the right holds
        the same split for the region of the person.""",
        "Source: data/results/test.json",
    )
    if best and densities:
        poses = [p for p in POSES if results.rows("test", model=best, pose=p)]
        page.bars(
            (0.5, 1.3, 7.9, 5.5),
            [POSES[p] for p in poses],
            {
                f"{d} trees/ha": [mean(results.rows("test", model=best, pose=p, density=d), "psnr") for p in poses]
                for d in densities
            },
            f"PSNR of {best}, dB",
        )
        with_person = [p for p in poses if p != "none"]
        height = page.table(
            (8.65, 1.5, 4.1, 4.2),
            ["Person’s region, dB", *(str(d) for d in densities)],
            [
                [
                    POSES[p],
                    *(
                        number(mean(results.rows("test", model=best, pose=p, density=d), "region_psnr"))
                        for d in densities
                    ),
                ]
                for p in with_person
            ],
            [1.7] + [1.0] * len(densities),
        )
        page.text((8.65, 1.65 + height, 4.1, 0.9), "PSNR of the person’s region by trees per hectare", 16)
    else:
        page.missing((0.6, 1.5, 12.13, 3.5), "data/results/test.json")

    page = deck.page(
        "People found, people invented",
        """The practical question. At the left, the share of people found, by density, for every network and the
        strongest baseline. At the right, false persons per run in runs without any person: bright blobs where there
        is nothing. Both must be read together, because a network that sees people everywhere finds them all. Low
        twigs at two or three metres are what networks confuse with limbs; they are as sharp in the stack as a person
        is.""",
        "Source: data/results/test.json; found: IoU ≥ 0.5; false persons counted in empty runs",
    )
    shown = (networks + _strongest(results, baselines))[:6]
    if shown and densities:
        page.bars(
            (0.5, 1.3, 7.2, 5.5),
            [f"{d} trees/ha" for d in densities],
            {m: [_hundred(mean(results.rows("test", model=m, density=d), "found")) for d in densities] for m in shown},
            "people found, %",
            "0",
        )
        page.table(
            (7.95, 1.5, 4.78, 5.2),
            ["False persons per empty run", *(str(d) for d in densities)],
            [
                [
                    m,
                    *(
                        number(mean(results.rows("test", model=m, pose="none", density=d), "false_objects"), 2)
                        for d in densities
                    ),
                ]
                for m in shown
            ],
            [2.2] + [0.9] * len(densities),
        )
    else:
        page.missing((0.6, 1.5, 12.13, 3.5), "data/results/test.json")

    page = deck.page(
        "Best, median, worst",
        """Three runs of the test set, ranked by PSNR: the best, the one in the middle and the worst. From left to
        right you see what goes in, what comes out, and the truth, all with the same gray range. The median is what to
        expect; the worst shows the limit. Look at the outline of the person and at the evenness of the ground.""",
        "Source: figures/06_best_median_worst.png",
    )
    page.figures(BODY, "06_best_median_worst", "Best, median and worst test run, same gray range throughout")

    page = deck.page(
        "Real course pairs",
        """Now data that nobody here made. These course pairs were rendered by the original simulator; no network was
        trained or tuned on them, and the planes nearest to ours are taken. Each row is one pair, each column a model,
        the best baselines at the right: full-frame PSNR and in brackets the PSNR in the region of the person. Where
        the gain is smaller than on our test set, the two simulators differ in something the network noticed.""",
        "Source: data/results/real.json; PSNR in dB, in brackets the person’s region",
    )
    _real(page, results)

    if deck.figure("06_real_pairs"):
        page = deck.page(
            "Real course pairs, seen",
            """The same pairs as pictures: integral, restored image, truth. Check three things: is the canopy gone, is the
            person's shape right, and is the person bright enough? A person who is too dim is the typical effect of a loss
            that hardly feels small objects. Nothing should be bright in the middle column that is dark at the right.""",
            "Source: figures/06_real_pairs.png",
        )
        page.figures(BODY, "06_real_pairs", "Real pairs: integral, restored, truth; same gray range")

    flight = (results.real or {}).get("flight", {})
    if flight.get("rows") or deck.figure("06_flight"):
        page = deck.page(
            "A real flight",
            """A real flight over a conifer forest, thirty pictures from a thermal camera with its own gain, drift and
            noise. Three people lie on the ground. There is no ground truth, so we compare how much each of them
            stands out from the surroundings, before and after: contrast to noise. A network that answers with a plain
            ground gets large ratios by itself, hence the last row: what the same rule cuts out elsewhere, where nobody
            is. Real and simulated thermal pictures differ, so this is the hardest test.""",
            "Source: data/results/real.json",
        )
        _flight(page, flight, deck.figure("06_flight") is not None)

    page = deck.page(
        "Where it fails",
        """Failures, on purpose on a page of their own. The typical ones: the ground level is misjudged under a closed
        canopy; low twigs become limbs; a person hidden in all views is lost or only hinted at; a person on hot ground
        has hardly any contrast. The first two can be trained away with more varied data; the third cannot, because
        the information is not in the pictures.""",
        "Source: figures/06_failures.png",
    )
    page.figures(BODY, "06_failures", "Where the network fails")

    tuning = results.rows("tuning")
    if tuning:
        page = deck.page(
            "What the choices were worth",
            """A study at equal, small budget: one factor changed at a time against the same starting point. Marked
            rows are the choices we kept. Differences of a few tenths of a decibel are within the spread between seeds
            and mean nothing. Read PSNR and the person's region together: some settings clean the ground at the cost
            of the person.""",
            "Source: data/results/tuning.json",
        )
        _tuning(page, tuning, (results.tuning or {}).get("budget", ""))

    page = deck.page(
        "What we conclude",
        """To conclude. The statements at the left are computed from the test table. Those at the right are what
        limits them. For us the main lesson is that optics and learning complement each other: the integrator brings
        the person above the noise, the network gives back contrast and cleans the ground. What comes next is training
        data from real forests, and a detector behind the restoration. Thank you for listening; I am glad to take
        questions.""",
        "Source: data/results/test.json",
    )
    page.card((0.6, 1.45, 6.6, 5.2), "What the test says", _conclusions(results, best, baselines, densities), GREEN, 20)
    page.card(
        (7.45, 1.45, 5.28, 5.2),
        "What limits it",
        [
            "Training saw simulated forests only",
            "What no view shows can only be guessed",
            "Full-frame PSNR hardly sees the person",
            "Real cameras add gain steps, drift and noise",
        ],
        RED,
        20,
    )


def _hundred(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _strongest(results: Results, baselines: list[str]) -> list[str]:
    """The baseline that finds most people, by itself in a list; none where none was measured."""
    scores = {b: mean(results.rows("test", model=b), "found") for b in baselines}
    measured = [b for b in baselines if scores[b] is not None]
    return [max(measured, key=lambda b: scores[b])] if measured else []


def _top(results: Results, baselines: list[str], density: int) -> float | None:
    return max(
        (v for b in baselines if (v := mean(results.rows("test", model=b, density=density), "psnr")) is not None),
        default=None,
    )


def _summary(page, results: Results, best: str | None, baselines: list[str], densities: list[int]) -> None:
    if not best:
        page.missing((0.6, 1.5, 12.13, 3.5), "data/results/test.json")
        return
    of_best = results.rows("test", model=best)
    page.card(
        (0.6, 1.4, 5.95, 2.6),
        f"{best} on the test set",
        [
            f"{d} trees/ha: **{number(mean(results.rows('test', model=best, density=d), 'psnr'))} dB**, best "
            f"baseline {number(_top(results, baselines, d))} dB"
            for d in densities
        ],
        BLUE,
        20,
    )
    empty = results.rows("test", model=best, pose="none")
    page.card(
        (6.78, 1.4, 5.95, 2.6),
        "People",
        [
            f"**{percent(mean(of_best, 'found'))}** of the people found (IoU ≥ 0.5)",
            f"**{number(mean(empty, 'false_objects'), 2)}** false persons per empty run",
            f"**{number(mean(of_best, 'region_psnr'))} dB** in the person’s region",
        ],
        GREEN,
        20,
    )
    real = results.best("real")
    if real:
        rows = results.rows("real", model=real)
        items = [
            f"{real}, mean of {len(rows)} pairs: **{number(mean(rows, 'psnr'))} dB**",
            f"Person’s region: **{number(mean(rows, 'region_psnr'))} dB**",
        ]
    else:
        items = ["Not available when this deck was built: data/results/real.json"]
        page.deck.absent.append("data/results/real.json")
    page.card((0.6, 4.2, 5.95, 2.6), "Real course pairs, never trained on", items, ORANGE, 20)
    training = next((t for t in results.trainings if t.get("model") == best), {})
    page.card(
        (6.78, 4.2, 5.95, 2.6),
        "Cost",
        [
            f"**{number(mean(of_best, 'milliseconds'), 0)} ms** per run",
            f"{training['parameters']:,} parameters" if training.get("parameters") else "Parameters: –",
            f"Trained for {duration(training.get('seconds'))} on {training.get('device') or '–'}",
        ],
        RED,
        20,
    )


def _setup(page, results: Results) -> None:
    trainings = results.trainings
    if trainings:
        keys = [
            k for k in ("batch", "learning_rate", "object_weight") if any(k in t.get("options", {}) for t in trainings)
        ]
        page.table(
            (0.6, 1.45, 12.13, 3.9),
            ["Network", "Parameters", "Epochs", "Time", "Device", *(k.replace("_", " ") for k in keys)],
            [
                [
                    t["model"],
                    f"{t['parameters']:,}" if t.get("parameters") else "–",
                    str(t.get("epochs", "–")),
                    duration(t.get("seconds")),
                    str(t.get("device") or "–"),
                    *(f"{t.get('options', {}).get(k, '–')}" for k in keys),
                ]
                for t in trainings
            ],
            [2.6, 1.7, 1.2, 1.2, 1.6] + [1.5] * len(keys),
        )
    else:
        page.missing((0.6, 1.45, 12.13, 3.2), "data/results/training.json")
    data = results.dataset or {}
    split, test = data.get("split", {}), results.test or {}
    items = [
        f"Sample data of the notebooks: {split.get('train', '–')} training, {split.get('validation', '–')} "
        f"validation, {split.get('test', '–')} test runs"
    ]
    if test.get("runs"):
        items.append(
            f"Test set of this deck: {test['runs']:,} runs"
            + (f", seed {test['seed']}" if test.get("seed") is not None else "")
        )
    page.bullets((0.6, 5.55, 12.13, 1.25), items, 20)


def _real(page, results: Results) -> None:
    rows = results.rows("real")
    if not rows:
        page.missing((0.6, 1.5, 12.13, 3.5), "data/results/real.json")
        return
    baselines = results.models("real", "baseline")
    baselines.sort(key=lambda name: -(mean(results.rows("real", model=name), "psnr") or 0.0))
    models = (results.models("real", "network") + baselines)[:7]
    samples = list(dict.fromkeys(r["sample"] for r in rows))

    def cell(of: list) -> str:
        return f"{number(mean(of, 'psnr'))} ({number(mean(of, 'region_psnr'))})" if of else "–"

    table = [[s, *(cell(results.rows("real", model=m, sample=s)) for m in models)] for s in samples]
    # A mean over some of the pairs would stand beside means over all of them.
    whole = [m for m in models if len(results.rows("real", model=m)) == len(samples)]
    table.append(["mean", *(cell(results.rows("real", model=m)) if m in whole else "–" for m in models)])
    page.table((0.6, 1.4, 12.13, 5.4), ["Pair", *models], table, [1.7] + [1.7] * len(models), [len(samples)])


def _flight(page, flight: dict, pictured: bool) -> None:
    """Contrast-to-noise per person and network, with the number of objects elsewhere; beside the figure, if any."""
    if pictured:
        page.figures((0.6, 1.4, 6.0, 5.4), "06_flight", "Flight: integral and restored image")
    rows = flight.get("rows", [])
    left, width = (6.8, 5.93) if pictured else (0.6, 12.13)
    if not rows:
        page.missing((left, 1.6, width, 3.4), "data/results/real.json: flight")
        return
    models = list(dict.fromkeys(r.get("model", "restored") for r in rows))
    table = {r["person"]: [str(r["person"]), number(r.get("before"))] for r in rows}
    for row in rows:
        table[row["person"]].append(number(row.get("after")))
    lines = list(table.values())
    if elsewhere := flight.get("elsewhere"):
        lines.append(["elsewhere", *(number(elsewhere.get(name), 0) for name in ("integral", *models))])
    height = page.table((left, 1.6, width, 4.0), ["Person", "integral", *models], lines)
    page.text(
        (left, 1.75 + height, width, 1.2),
        "Contrast-to-noise ratio of each person; last row: other objects in the picture",
        18,
    )


def _tuning(page, rows: list, budget: str) -> None:
    half = (len(rows) + 1) // 2
    parts = [rows] if len(rows) <= 12 else [rows[:half], rows[half:]]
    width = (12.13 - 0.3 * (len(parts) - 1)) / len(parts)
    for index, part in enumerate(parts):
        page.table(
            (0.6 + index * (width + 0.3), 1.35, width, 5.0),
            ["Factor", "Setting", "PSNR", "Person"],
            [[str(r["factor"]), str(r["setting"]), number(r.get("psnr")), number(r.get("region_psnr"))] for r in part],
            [1.8, 2.6, 1.0, 1.0],
            [i for i, r in enumerate(part) if r.get("chosen")],
            16,
        )
    if budget:
        page.text((0.6, 6.42, 12.13, 0.45), f"Equal budget: {budget}", 16, 14)


def _conclusions(results: Results, best: str | None, baselines: list[str], densities: list[int]) -> list[str]:
    """Statements computed from the test table."""
    if not best:
        return ["Not available when this deck was built: data/results/test.json"]
    strata = [(r["pose"], r["density"]) for r in results.rows("test", model=best)]
    wins = 0
    for pose, density in strata:
        others = [mean(results.rows("test", model=b, pose=pose, density=density), "psnr") for b in baselines]
        mine = mean(results.rows("test", model=best, pose=pose, density=density), "psnr")
        wins += mine is not None and all(o is None or mine > o for o in others)
    items = [f"{best} beats every baseline in **{wins} of {len(strata)}** strata (PSNR)"]
    for density in densities[1:]:
        mine, top = mean(results.rows("test", model=best, density=density), "psnr"), _top(results, baselines, density)
        if mine is not None and top is not None:
            items.append(
                f"At {density} trees/ha: **{number(mine)} dB**, {number(mine - top)} dB above the best baseline"
            )
    items.append(f"**{percent(mean(results.rows('test', model=best), 'found'))}** of the people are found")
    scored = [(r["psnr"], r) for r in results.rows("test", model=best) if r.get("psnr") is not None]
    if scored:
        worst = min(scored, key=lambda pair: pair[0])[1]
        items.append(
            f"Hardest stratum: {POSES.get(worst['pose'], worst['pose'])}, {worst['density']} trees/ha "
            f"({number(worst['psnr'])} dB)"
        )
    return items
