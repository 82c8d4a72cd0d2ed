"""Deck 2: what we plan. Pipeline, data, focal planes, architecture, evaluation, timetable; diagrams as shapes."""

import math

from .layout import BLUE, GREEN, GREY, INK, ORANGE, PALE, PURPLE, RED, SKY, TEXT, WHITE, Deck, Page
from .literature import red_net

ALTITUDE = 35.0
FOCAL_PIXELS = 256 / math.tan(math.radians(25))
APERTURE = 10.0


def smear(height: float, focus: float) -> float:
    """Width in pixels over which a point at ``height`` metres is smeared with the focus at ``focus`` metres."""
    return APERTURE * FOCAL_PIXELS * (1 / (ALTITUDE - height) - 1 / (ALTITUDE - focus))


def build(deck: Deck, _results) -> None:
    """All pages of the deck; its numbers are those of the rig and of the plan."""
    deck.cover(
        "Unveil: our idea",
        "From archives of thermal pictures to the unoccluded image of the person under the trees",
        """In this talk I present what we are going to build. A drone takes eleven thermal pictures on a line above a
        forest. We integrate them into a stack of images focused on several planes near the ground, and a residual
        encoder-decoder turns that stack into the picture one would see if there were no trees. I will go from the
        data through the optics to the networks, and close with how we judge the result, the plan, and the risks.""",
    )

    page = deck.page(
        "What goes in, what comes out",
        """The task in one picture. Eleven single views go in, each covered by leaves. The ground truth is the centre
        view rendered without any tree. Between them stand two steps. The integrator is exact geometry, nothing is
        learned there. The network learns what the integral leaves over. We keep the two apart on purpose: the optics
        can be checked against a reference renderer to a fraction of a gray level, and the network can be swapped
        without touching it.""",
    )
    flow(
        page,
        (0.6, 1.6, 12.13, 1.9),
        [
            ("11 views\n512 × 512", INK),
            ("Integrator\nexact geometry", BLUE),
            ("Focal stack\n5 planes", GREEN),
            ("Network\nlearned", ORANGE),
            ("Image\nwithout forest", INK),
        ],
    )
    page.bullets(
        (0.6, 3.9, 12.13, 2.8),
        [
            "In: 11 thermal views of one flight line, 8-bit gray, camera poses known",
            "Out: the centre view as it would be without trees, person included",
            "**Question 1**: how much does a focal stack tell that one integral image does not?",
            "**Question 2**: which planes suit which pose of the person?",
            "**Question 3**: how does a residual network take 5 channels in and 1 out?",
        ],
        22,
    )

    page = deck.page(
        "The pipeline",
        """Data move one way only. Archives stay zipped and are scanned by their directories; incomplete runs are
        named and left out. Each complete run becomes a focal stack on disk, read back memory-mapped. The data set
        makes tensors of it, the network is trained and tested, and everything you will see as a table, figure or
        slide is made from the stored results. Each box is a notebook of the course and a command, so that every step
        can be repeated alone.""",
    )
    flow(
        page,
        (0.6, 1.45, 12.13, 1.75),
        [
            ("Archives\nZIP", INK),
            ("Runs\ncomplete only", BLUE),
            ("Focal stacks\non disk", GREEN),
            ("Tensors\nsplit by run", PURPLE),
            ("Network\ntrained", ORANGE),
            ("Results\nJSON", RED),
        ],
    )
    page.table(
        (0.6, 3.55, 12.13, 3.3),
        ["Notebook", "Takes", "Makes"],
        [
            ["01 Data filtering", "ZIP archives", "catalogue of complete and incomplete runs"],
            ["02 AOS integration", "complete runs", "focal stacks"],
            ["03 Dataset exploration", "focal stacks", "tables of gray levels, occlusion, contrast; the split"],
            ["04 Model, 05 Training", "tensors", "networks, curves, weights"],
            ["06 Results", "weights, test set", "tables, figures, failures"],
        ],
        [3.2, 2.8, 6.1],
    )

    page = deck.page(
        "The data: one run, thirteen files",
        """A run is one simulated flight: eleven views named pose 0 to pose 10, the ground truth seen from the centre,
        and a parameter file with the density of the forest, the pose of the person, temperatures and sun. The full
        course set has three batches of eleven thousand runs, with no trees beside either 100 or 200 trees per
        hectare. About three percent are incomplete, and because the sharing site splits a folder over several
        archives, the files of one run can lie in two of them. So filtering comes first.""",
        "Course dataset: three batches of 11,000 runs",
    )
    page.table(
        (0.6, 1.45, 6.9, 3.4),
        ["File of a run", "What it is"],
        [
            ["…_pose_0 … 10_thermal.png", "11 views, pose_5 is the centre"],
            ["…_GT_pose_0_thermal.png", "centre view without forest"],
            ["…_Parameters.txt", "density, pose, sun, temperatures"],
        ],
        [3.6, 3.4],
    )
    page.card(
        (7.9, 1.45, 4.83, 3.4),
        "Strata",
        [
            "Poses: laying, sitting, standing, no person",
            "0, 100 or 200 trees per hectare",
            "Ground 260–312 K, tree tops 295–312 K",
        ],
        GREEN,
        20,
    )
    page.bullets(
        (0.6, 5.1, 12.13, 1.6),
        [
            "About 2.8 % of the runs are incomplete: named, never used",
            "One run may lie in two archives; nothing is unpacked, nothing deleted unasked",
        ],
        22,
    )

    page = deck.page(
        "Our own forest",
        """The course data cannot be fetched everywhere, so we grow our own forest, in the course's file format. Trees
        branch recursively: trunk, five whorls, five levels of forks, and leaf quads on the last branches. Gray levels
        follow from temperature, albedo and the sun's direction. The person is built of capsules. Each run draws all
        its randomness from the seed and its own number, so results do not depend on order or number of workers. It
        also means that we can make as much training data as we want, and vary it more widely than the real data.""",
    )
    flow(
        page,
        (0.6, 1.45, 12.13, 1.55),
        [
            ("Trees\nrecursive", GREEN),
            ("Person\ncapsules", RED),
            ("Heat and sun\ngray levels", ORANGE),
            ("Drawn exactly\n11 views", BLUE),
            ("ZIP archive\ncourse format", INK),
        ],
    )
    page.card(
        (0.6, 3.35, 5.9, 3.35),
        "Varied per run",
        [
            "Shape of trees and leaves, density",
            "Ground level, leaf and trunk temperature",
            "Pose, place, heading and warmth of the person",
        ],
        GREEN,
        20,
    )
    page.card(
        (6.83, 3.35, 5.9, 3.35),
        "Checked against real runs",
        [
            "Occluded fraction of a view",
            "Texture statistics of the canopy",
            "Ground hidden in all views",
            "What a trained network confuses",
        ],
        BLUE,
        20,
    )

    page = deck.page(
        "The rig: 11 cameras, 10 metres of aperture",
        """Here are the numbers of the rig. Eleven cameras look straight down from 35 metres, one metre apart, so the
        synthetic aperture is ten metres wide. With 50 degrees field of view and 512 pixels the focal length is 549
        pixels. Because all cameras look straight down from one altitude, focusing on a plane means nothing more than
        shifting each view sideways. The table gives the shift per metre of baseline for our five planes: the
        differences are small, four fifths of a pixel per metre between the lowest and highest, but the aperture
        multiplies them by ten.""",
        "Geometry of the course rig: x = 5 … −5 m, altitude 35 m, vertical field of view 50°, 512 × 512 pixels",
    )
    rig(page, (0.6, 1.45, 5.9, 5.3))
    page.table(
        (6.9, 1.45, 5.83, 3.5),
        ["Focal height h, m", "Shift per metre, px", "Over 10 m, px"],
        [
            [f"{h:.1f}", f"{FOCAL_PIXELS / (ALTITUDE - h):.2f}", f"{APERTURE * FOCAL_PIXELS / (ALTITUDE - h):.1f}"]
            for h in (0.2, 0.6, 1.0, 1.4, 1.8)
        ],
    )
    page.equation((6.9, 5.35, 5.83, 1.1), "shift = f · (x_{v} − x_{5}) / (35 − h),   f = 549 px", 22)

    page = deck.page(
        "The integrator, exactly",
        """The integrator is defined to the pixel. For each output pixel we shoot a ray, cut it with the plane at
        height h, and project that point into every view. A view counts if the point falls inside its picture. Samples
        are bilinear. The integral is the sum over the views that count, divided by their number, which we call
        coverage and keep. The same formula serves any camera pose, so real flights work too, and it is
        differentiable. We will compare it with the integrals of the reference renderer.""",
        "Definition: docs/design.md",
    )
    page.equation(
        (0.6, 1.45, 12.13, 0.8), "d = ((2(c + ½)/W − 1) · t · W/H,  (2(r + ½)/H − 1) · t,  1),     t = tan(fov / 2)", 22
    )
    page.equation((0.6, 2.4, 12.13, 0.8), "X = C + λ R^{T} d   on the plane z = −h,     p_{v} = R_{v} X + t_{v}", 22)
    page.equation(
        (0.6, 3.35, 12.13, 0.8),
        "I_{h}(r, c) = Σ_{v} inside_{v} · J_{v}(u_{v} W − ½, w_{v} H − ½)  /  Σ_{v} inside_{v}",
        22,
    )
    page.bullets(
        (0.6, 4.45, 12.13, 2.3),
        [
            "Pixel centres at (c + ½, r + ½); samples bilinear, edge pixels clamped",
            "Coverage = number of views that see the point; kept beside the image",
            "Any pose, any size, CPU or GPU; differentiable; straight-down rigs take a fast path",
            "Goal: mean difference to the reference renderer at most 0.015 gray levels",
        ],
        22,
    )

    page = deck.page(
        "Focal planes: how sharply do we cut?",
        """This chart is pure geometry. It shows over how many pixels a point at a given height is smeared, for three
        focal planes. On its own plane a point is sharp. One metre off, it is smeared over five pixels: a person of
        forty pixels stays recognisable on any of our planes, so neighbouring planes are similar but not equal. A
        branch at ten metres is smeared over more than fifty pixels. The five planes from 0.2 to 1.8 metres cover a
        person from laying to standing; which one is best for which pose we will measure.""",
        "Computed from the rig: smear = 10 · f · |1/(35 − z) − 1/(35 − h)|",
    )
    heights = [0.25 * i for i in range(17)]
    page.curves(
        (0.5, 1.3, 7.6, 5.5),
        {f"focused at {h:.1f} m": (heights, [abs(smear(z, h)) for z in heights]) for h in (0.2, 1.0, 1.8)},
        "height of a point above ground, m",
        "smear over the aperture, px",
        "0",
    )
    page.table(
        (8.4, 1.5, 4.33, 2.4),
        ["Point at", "Smear, focus 0.2 m"],
        [[f"{z} m", f"{smear(z, 0.2):.0f} px"] for z in (2, 5, 10, 20)],
        [1.6, 2.7],
    )
    page.bullets(
        (8.4, 4.2, 4.33, 2.6),
        [
            "Near planes: person sharp, low twigs too",
            "Low twigs look like limbs: the hard case",
            "Open: which planes, and how many",
        ],
        20,
    )

    page = deck.page(
        "Architecture: RED-Net on a focal stack",
        """Our reference network follows RED-Net. Eleven convolutions, the first with stride two, and eleven
        transposed convolutions, the last with stride two, 64 features each, additive skips every second layer. The
        outermost shortcut cannot be the identity, because five channels go in and one comes out. We take a one by one
        convolution: a learned weighted mean of the planes. It starts as the plain mean and the correction starts near
        zero, so an untrained network answers with the mean of the planes and training can only improve on that.""",
        "RED-Net: Mao, Shen, Yang, NIPS 2016, arXiv:1606.08921",
    )
    red_net(page, (0.6, 1.45, 12.13, 2.75), "5 planes", "1 image", "1 × 1 convolution, 5 → 1 channels")
    page.equation(
        (0.6, 4.4, 12.13, 0.75),
        "ŷ = P x + F(x),     P: 1 × 1 projection that starts as the mean of the planes,  F starts near 0",
        20,
    )
    page.bullets(
        (0.6, 5.3, 12.13, 1.55),
        [
            "11 + 11 layers of 3 × 3, 64 features: 742,087 parameters at 5 planes",
            "Beside it: U-Net, NAFNet-like network, denoising autoencoder on one integral",
        ],
        22,
    )

    page = deck.page(
        "Beyond the mean: use the views themselves",
        """The mean throws signal away. A pixel that is free in one view out of eleven is drowned by ten leaves; but
        if we knew which view, we could simply take it. So the second network gets the registered views: the same
        small encoder looks at every view, an order-free pooling joins them, and a decoder makes the image. Any number
        of views works. Between the two stand cheap statistics of the views, maximum, minimum, median and standard
        deviation, as extra channels for the focal-stack networks. All are compared at equal training.""",
        "Order-free fusion: Aittala and Durand, ECCV 2018; views as input: Wang et al., WACV 2020",
    )
    multi_view(page, (0.6, 1.45, 12.13, 3.2))
    page.bullets(
        (0.6, 4.95, 12.13, 1.85),
        [
            "Three inputs, equal training: focal stack, + statistics of the views, registered views",
            "Weights shared by all views: any number, any order, real flights included",
        ],
        22,
    )

    page = deck.page(
        "Training and loss",
        """We train with Adam and a learning rate that decays, first on the squared error, which is smooth, then on
        the absolute error, which leaves less blur. The background fills nearly all of the picture, so a loss over the
        full frame hardly sees the person: we weight the person's pixels. The danger is known: weight them too much
        and low twigs become people. Weights are averaged over training, because checkpoints minutes apart can differ
        by decibels. Options are one record, stored with the weights, and training can be resumed at any time.""",
    )
    page.equation(
        (0.6, 1.45, 12.13, 0.9), "L = mean( (1 + a · [person]) · |ŷ − y|^{q} ),    q = 2 first, then q = 1", 24
    )
    page.card(
        (0.6, 2.65, 3.85, 4.0),
        "Data",
        ["Crops and flips", "As many runs as wanted", "Split by run, by pose × density"],
        GREEN,
        20,
    )
    page.card(
        (4.74, 2.65, 3.85, 4.0),
        "Optimiser",
        ["Adam, 10^{−3}, decaying", "Mean of weights (EMA)", "bf16 on GPU, resumable"],
        BLUE,
        20,
    )
    page.card(
        (8.88, 2.65, 3.85, 4.0),
        "Watch out for",
        ["Person too dim: raise a", "Twigs become people: lower a", "Judge by more than one seed"],
        RED,
        20,
    )

    page = deck.page(
        "How we judge",
        """Peak signal to noise ratio is per image, then averaged. But most of the picture is flat ground, and a flat
        image already scores well, so we also measure in the person's region, and ask the practical questions: is the
        person found, that is, does the bright blob overlap the true one by half, and are people invented where there
        are none? Baselines that learn nothing stand beside every number: single view, each plane, maximum, minimum
        and median over the stack, and a flat image.""",
    )
    page.equation(
        (0.6, 1.4, 12.13, 0.8), "PSNR = 10 · log_{10}(1 / MSE)   per image, gray range 1, then the mean over images", 22
    )
    page.table(
        (0.6, 2.5, 12.13, 3.2),
        ["Measure", "Answers"],
        [
            ["PSNR, SSIM of the full image", "Is the ground clean?"],
            ["PSNR of the person’s region", "Is the person as bright and as sharp as in truth?"],
            ["Found: IoU ≥ 0.5", "Would a searcher see the person?"],
            ["False persons, empty runs above all", "Would a searcher be sent for nothing?"],
            ["Milliseconds per run", "Fast enough in flight?"],
        ],
        [5.0, 7.1],
        size=20,
    )
    page.text(
        (0.6, 6.0, 12.13, 0.8),
        "Always beside it: single view, each plane, maximum, minimum, median, flat image.",
        20,
        align="center",
    )

    page = deck.page(
        "Plan",
        """The plan has four blocks that overlap. First the data: simulator, filtering, stacks. Then the optics with
        its check against the reference renderer, which everything later stands on. Networks and training start as
        soon as stacks exist, on small samples, and grow. Results, real pairs and a real flight come last, together
        with the notebooks, which are written along the way, not at the end. The dashed lines are the talks: idea,
        interim, final.""",
    )
    gantt(page, (0.6, 1.5, 12.13, 5.1))

    page = deck.page(
        "Risks, and what we do about them",
        """Four things can go wrong. Simulation may not match reality: we measure statistics against real runs and
        test on real pairs that the network has never seen. The person may be dimmed or invented: the loss is
        weighted, and false persons in empty runs are counted. Data may be broken: every run is checked, incomplete
        ones are named. Computing time may be short: everything runs small on two cores, and longer training is one
        command. Thank you; questions please.""",
    )
    page.table(
        (0.6, 1.5, 12.13, 4.6),
        ["Risk", "How we would notice", "What we do"],
        [
            [
                "Simulated ≠ real forest",
                "Statistics differ; real pairs score lower",
                "Fit the simulator; vary widely; keep real pairs apart",
            ],
            [
                "Person dimmed or invented",
                "Region PSNR, false persons in empty runs",
                "Weighted loss, averaged weights, several seeds",
            ],
            ["Broken or split archives", "Catalogue names every problem", "Never unpack, never delete unasked, verify"],
            ["Too little computing time", "Curves still falling", "Small networks first; resumable training"],
        ],
        [3.3, 4.2, 4.6],
        size=20,
    )


def rig(page: Page, box) -> None:
    """The course rig from the side: cameras, altitude, aperture, field of view, focal planes (heights not to scale)."""
    x, y, width, height = box
    sky, ground = y + 0.95, y + height - 0.55
    left, right = x + 1.3, x + width - 1.3
    middle = (left + right) / 2
    reach = (ground - sky) * math.tan(math.radians(25))
    page.line((left, y + 0.45), (right, y + 0.45), INK, 2, head=True)
    page.line((right, y + 0.45), (left, y + 0.45), INK, 2, head=True)
    page.text(
        (x, y, width, 0.42), f"aperture {APERTURE:.0f} m, one view per metre", 16, 14, align="center", anchor="middle"
    )
    for end in (middle - reach, middle + reach):
        page.line((middle, sky), (end, ground), BLUE, 1.5, dash=True)
    page.text((middle - 0.6, sky + 0.75, 1.2, 0.4), "50°", 18, 16, BLUE, bold=True, align="center")
    for index in range(11):
        page.shape((left + (right - left) * index / 10 - 0.1, sky - 0.12, 0.2, 0.2), fill=INK, kind="rectangle")
    page.line((x + 0.55, sky), (x + 0.55, ground), INK, 2, head=True)
    page.text((x + 0.6, (sky + ground) / 2 - 0.2, 0.9, 0.4), f"{ALTITUDE:.0f} m", 18, 16, bold=True)
    page.line((x, ground), (x + width, ground), GREY, 3)
    for index in range(5):
        level = ground - 0.16 * (index + 1)
        edge = reach * (level - sky) / (ground - sky)
        page.line((middle - edge, level), (middle + edge, level), ORANGE, 1.5)
    page.text((middle + reach + 0.05, ground - 0.8, 1.12, 0.7), ["5 planes,", "0.2–1.8 m"], 16, 14, TEXT, gap=0)
    page.text(
        (x, ground + 0.1, width, 0.42), "ground (heights of the planes not to scale)", 16, 14, GREY, align="center"
    )


def flow(page: Page, box, steps: list[tuple[str, str]]) -> None:
    """A row of boxes joined by arrows."""
    x, y, width, height = box
    gap = 0.5
    each = (width - gap * (len(steps) - 1)) / len(steps)
    for index, (label, colour) in enumerate(steps):
        left = x + index * (each + gap)
        head, _, tail = label.partition("\n")
        light = colour in (ORANGE, SKY)
        page.shape((left, y, each, height), f"**{head}**\n{tail}", colour, TEXT if light else WHITE, 20)
        if index:
            page.shape((left - gap + 0.08, y + height / 2 - 0.17, gap - 0.16, 0.34), fill=GREY, kind="right")


def multi_view(page: Page, box) -> None:
    """The order-free network on registered views."""
    x, y, width, height = box
    rows, each = 3, (height - 0.5) / 3
    middle = y + height / 2
    labels = ("view 1", "view 2", "… view 11")
    for row in range(rows):
        top = y + row * (each + 0.25)
        page.shape((x, top, 1.7, each), labels[row], INK, WHITE, 18)
        page.shape((x + 1.8, top + each / 2 - 0.13, 0.45, 0.26), fill=GREY, kind="right")
        page.shape((x + 2.35, top, 2.0, each), "register\non 5 planes", "CFE3F1", size=18)
        page.shape((x + 4.45, top + each / 2 - 0.13, 0.45, 0.26), fill=GREY, kind="right")
        page.shape((x + 5.0, top, 1.9, each), "encoder\n(shared)", "CDE9DF", size=18)
        page.line((x + 6.9, top + each / 2), (x + 7.55, middle), INK, 2, head=True)
    page.shape((x + 7.6, middle - 1.0, 1.5, 2.0), "pool over\nviews,\norder-free", "F9E0B5", size=18)
    page.shape((x + 9.15, middle - 0.13, 0.35, 0.26), fill=GREY, kind="right")
    page.shape((x + 9.55, middle - 0.7, 1.2, 1.4), "decoder", "CDE9DF", size=18)
    page.shape((x + 10.8, middle - 0.13, 0.35, 0.26), fill=GREY, kind="right")
    page.shape((x + 11.2, middle - 0.5, width - 11.2, 1.0), "image", INK, WHITE, 18)


def gantt(page: Page, box) -> None:
    """The timetable: bars over eight weeks, talks as marks."""
    x, y, width, height = box
    label, weeks = 3.3, 8
    unit = (width - label) / weeks
    tasks = (
        ("Simulator, filtering, stacks", 0, 2.5, GREEN),
        ("Integrator, reference check", 0.5, 2, BLUE),
        ("Exploration of the data", 2, 1.5, SKY),
        ("Networks and training", 2.5, 3.5, ORANGE),
        ("Tuning study", 4.5, 2, PURPLE),
        ("Results, real data, flight", 5, 3, RED),
    )
    step = (height - 1.0) / len(tasks)
    for week in range(weeks):
        page.shape(
            (x + label + week * unit, y, unit - 0.04, 0.42), f"week {week + 1}", PALE, GREY, 16, kind="rectangle"
        )
    for row, (name, start, length, colour) in enumerate(tasks):
        top = y + 0.55 + row * step
        page.text((x, top, label - 0.1, step - 0.12), name, 18, 16, anchor="middle")
        page.shape((x + label + start * unit, top + 0.08, length * unit, step - 0.28), fill=colour, kind="round")
    for name, week in (("idea", 1), ("interim", 4), ("final", 8)):
        place = x + label + week * unit
        page.line((place - 0.05, y + 0.5), (place - 0.05, y + height - 0.42), INK, 1.5, dash=True)
        page.text(
            (place - 0.65, y + height - 0.42, 1.2, 0.42), f"**{name}**", 16, 16, INK, align="center", anchor="middle"
        )
