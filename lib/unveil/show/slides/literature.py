"""Deck 1: what was known. Synthetic apertures, AOS, restoration networks, learned de-occlusion."""

from .layout import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED, SKY, WHITE, Deck, Page

REFERENCES = (
    "Isaksen, McMillan, Gortler: Dynamically reparameterized light fields. SIGGRAPH 2000, 297–306. "
    "doi:10.1145/344779.344929",
    "Vaish, Wilburn, Joshi, Levoy: Using plane + parallax for calibrating dense camera arrays. CVPR 2004, vol. 1, 2–9",
    "Vaish, Levoy, Szeliski, Zitnick, Kang: Reconstructing occluded surfaces using synthetic apertures: stereo, "
    "focus and "
    "robust measures. CVPR 2006, vol. 2, 2331–2338",
    "Kurmi, Schedl, Bimber: Airborne optical sectioning. Journal of Imaging 4(8):102, 2018. "
    "doi:10.3390/jimaging4080102",
    "Kurmi, Schedl, Bimber: A statistical view on synthetic aperture imaging for occlusion removal. IEEE Sensors "
    "Journal 19, "
    "9374–9383, 2019. arXiv:1906.06600",
    "Kurmi, Schedl, Bimber: Thermal airborne optical sectioning. Remote Sensing 11(14):1668, 2019. "
    "doi:10.3390/rs11141668",
    "Schedl, Kurmi, Bimber: Search and rescue with airborne optical sectioning. Nature Machine Intelligence 2, "
    "783–790, 2020. "
    "doi:10.1038/s42256-020-00261-3",
    "Schedl, Kurmi, Bimber: Autonomous drones for search and rescue in forests. Science Robotics 6(55), "
    "eabg1188, 2021. "
    "doi:10.1126/scirobotics.abg1188",
    "Kurmi, Schedl, Bimber: Combined person classification with airborne optical sectioning. Scientific Reports "
    "12:3804, 2022. "
    "doi:10.1038/s41598-022-07733-z",
    "Amala Arokia Nathan, Kurmi, Schedl, Bimber: Through-foliage tracking with airborne optical sectioning. "
    "Journal of Remote "
    "Sensing 2022:9812765. arXiv:2111.06959",
    "Youssef, Bimber: Fusion of single and integral multispectral aerial images. Remote Sensing 16(4):673, 2024. "
    "doi:10.3390/rs16040673",
    "Youssef, Peng, Bimber: DeepForest: sensing into self-occluding volumes of vegetation with aerial imaging. "
    "Journal of "
    "Remote Sensing 5:0907, 2025. arXiv:2502.02171",
    "Youssef, Brunner, Rundhammer, Czech, Bimber: Through-foliage surface-temperature reconstruction for early "
    "wildfire "
    "detection. 2025. arXiv:2511.12572",
    "Mao, Shen, Yang: Image restoration using very deep convolutional encoder-decoder networks with symmetric skip "
    "connections. NIPS 2016, 2802–2810. See also arXiv:1606.08921",
    "Ronneberger, Fischer, Brox: U-Net: convolutional networks for biomedical image segmentation. MICCAI 2015, "
    "234–241. "
    "arXiv:1505.04597",
    "Zhang, Zuo, Chen, Meng, Zhang: Beyond a Gaussian denoiser: residual learning of deep CNN for image "
    "denoising. IEEE "
    "Trans. Image Processing 26(7), 3142–3155, 2017. arXiv:1608.03981",
    "Liang, Cao, Sun, Zhang, Van Gool, Timofte: SwinIR: image restoration using Swin transformer. ICCV Workshops 2021, "
    "1833–1844. arXiv:2108.10257",
    "Zamir, Arora, Khan, Hayat, Khan, Yang: Restormer: efficient transformer for high-resolution image "
    "restoration. CVPR "
    "2022. arXiv:2111.09881",
    "Chen, Chu, Zhang, Sun: Simple baselines for image restoration (NAFNet). ECCV 2022. arXiv:2204.04676",
    "Wang, Wu, Yang, Wang, An, Guo: DeOccNet: learning to see through foreground occlusions in light fields. "
    "WACV 2020. "
    "arXiv:1912.04459",
    "Zhang, Shen, Lin: Removing foreground occlusions in light field using micro-lens dynamic filter. IJCAI 2021",
    "Hur et al.: I see-through you: a framework for removing foreground occlusion in both sparse and dense light field "
    "images. WACV 2023. arXiv:2301.06392",
    "Zhang, Liao, Yu, Yang, Xia: Event-based synthetic aperture imaging with a hybrid network. CVPR 2021. "
    "arXiv:2103.02376",
    "Yu, Zhang, Liao, Yang, Xia: Learning to see through with events. IEEE TPAMI, 2022. doi:10.1109/TPAMI.2022.3227448",
    "Aittala, Durand: Burst image deblurring using permutation invariant convolutional neural networks. ECCV 2018. "
    "doi:10.1007/978-3-030-01237-3_45",
    "Wang, Bovik, Sheikh, Simoncelli: Image quality assessment: from error visibility to structural similarity. "
    "IEEE Trans. "
    "Image Processing 13(4), 600–612, 2004",
)


def build(deck: Deck, _results) -> None:
    """All pages of the deck; nothing in it depends on results."""
    deck.cover(
        "Seeing through the forest",
        "Literature review: synthetic apertures, Airborne Optical Sectioning and learned restoration",
        """Welcome. This talk sets the stage for our project: finding people under trees with a thermal camera on a
        drone. I will go through two lines of research. The first is optical: images from many places are added up so
        that what hides the ground blurs away. The second is learned: networks that take a damaged image and give back
        the clean one. Our project puts the second behind the first. The picture at the right is the whole idea: each
        orange line is a view that reaches the person, each dashed one ends in a crown.""",
    )

    page = deck.page(
        "The problem: one view is not enough",
        """A person who is lost in a forest is warm, so a thermal camera should find them. But leaves are opaque in
        the thermal infrared as well, and in one picture the crowns cover much of the ground. Two things help. From
        another place, other parts of the ground are visible. And the ground is, roughly, one plane, so we know where
        to look for it in each picture. Please keep in mind what a network has to do in the end: keep the warm blob,
        remove the leaves, and not invent people.""",
        "References: [3], [5], [7]",
    )
    page.scene((0.6, 1.55, 6.0, 5.1))
    page.card(
        (7.0, 1.45, 5.75, 2.45),
        "What makes it hard",
        [
            "Leaves and branches are opaque in thermal infrared",
            "They are as warm as the ground, or warmer",
            "Only patches of a person show in any one view",
        ],
        RED,
    )
    page.card(
        (7.0, 4.15, 5.75, 2.45),
        "What helps",
        [
            "Other places see other patches (parallax)",
            "The ground lies on a known plane",
            "Restoration networks fill in what is left",
        ],
        GREEN,
    )

    page = deck.page(
        "Synthetic apertures: a camera as wide as its path",
        """Long before drones, camera arrays were used as one very wide lens. Isaksen and colleagues showed in 2000
        that a light field can be refocused on any surface by reprojecting and averaging. Vaish and colleagues gave
        the plane plus parallax calibration in 2004: to focus on a parallel plane one only shifts the images. In 2006
        they asked which statistic to use behind occluders, and found that robust measures such as the median beat the
        mean when few views are hidden. That question returns in our work: the mean throws information away.""",
        "References: [1], [2], [3]",
    )
    page.table(
        (0.6, 1.45, 12.13, 3.5),
        ["Work", "What it showed", "What we use of it"],
        [
            [
                "Isaksen et al. 2000 [1]",
                "Light fields refocused on any focal surface, aperture chosen afterwards",
                "Focal planes, synthetic aperture",
            ],
            [
                "Vaish et al. 2004 [2]",
                "Plane + parallax: parallel planes need shifts only",
                "Fast path for straight-down rigs",
            ],
            [
                "Vaish et al. 2006 [3]",
                "Behind occluders, cost measures other than the mean: median, entropy, stereo",
                "Statistics beyond the mean",
            ],
        ],
        [2.6, 5.3, 3.6],
    )
    page.equation(
        (0.6, 5.3, 12.13, 1.2), "blur on the focal plane of an occluder  ∝  aperture × its height above the plane"
    )

    page = deck.page(
        "Airborne Optical Sectioning: the principle",
        """Airborne Optical Sectioning carries the wide aperture into the air. A drone takes pictures along its path.
        For one point of the focal plane we look up where each camera saw it and average. Points on the plane agree in
        all views and stay sharp; leaves above it are seen at different places and smear out. The formula is simply
        this average over the views that see the point. With 30 to 100 metres of aperture, as in the first paper, the
        depth of field is so shallow that even branches a few metres above the ground vanish.""",
        "References: [4], [5]",
    )
    focusing(page, (0.6, 1.5, 6.1, 5.2))
    page.equation((7.0, 1.5, 5.75, 1.1), "I_{h}(x) = Σ_{v} S_{v}(x, h) · J_{v}(π_{v}(x, h)) / Σ_{v} S_{v}(x, h)", 22)
    page.bullets(
        (7.0, 2.85, 5.75, 3.8),
        [
            "**J_{v}**: view v;  **π_{v}**: where camera v sees the point x of the plane at height h",
            "**S_{v}**: 1 where view v covers the point, else 0",
            "In focus: all views agree. Above the plane: smeared over the aperture",
            "No matching, no 3-D model: fast enough for flight",
        ],
        20,
    )

    page = deck.page(
        "AOS, 2018 to 2025",
        """This is the line of work of Kurmi, Schedl, Bimber and colleagues in Linz. It began with archaeology in
        visible light. Thermal cameras followed in 2019. In 2020 a person classifier ran on the integral images, with
        96 percent precision and 93 percent recall reported. In 2021 the drone flew and decided by itself and found 38
        of 42 hidden people in 17 field tests. Then tracking with a camera array, combined classification, and lately
        networks that restore what the integral leaves blurred. The last two rows are nearest to our project.""",
        "Figures as reported by the authors in [4]–[13]",
    )
    page.table(
        (0.6, 1.35, 12.13, 5.4),
        ["Year", "Work", "What it added"],
        [
            ["2018", "Airborne optical sectioning [4]", "Apertures of 30–100 m from a camera drone"],
            ["2019", "Statistical view [5], thermal AOS [6]", "How many views, how wide; thermal cameras"],
            ["2020", "Search and rescue [7]", "Persons classified: precision 96 %, recall 93 %"],
            ["2021", "Autonomous drones [8]", "Finds 38 of 42 hidden people in 17 field experiments"],
            [
                "2022",
                "Combined classification [9], tracking [10]",
                "Several integrals vote; moving people under leaves",
            ],
            ["2024", "Fusion of single and integral images [11]", "Model- and learning-based fusion of channels"],
            ["2025", "DeepForest [12], surface temperature [13]", "Networks remove what focus leaves behind"],
        ],
        [0.9, 5.2, 6.0],
    )

    page = deck.page(
        "How many views does it take?",
        """A small model shows what more views can do. If each view is blocked at a point with probability D,
        independently, then all N views are blocked with probability D to the N. At half occlusion, eleven views leave
        almost nothing hidden; at three quarters a few percent remain. Real crowns are not independent: neighbouring
        views look through the same leaves, so reality is worse than this curve, and it pays to widen the aperture
        rather than to take more pictures. Kurmi and colleagues give the full statistics and practical limits for
        both.""",
        "Chart: our own simple model of independent occlusion. Limits of aperture and number of views: [5]",
    )
    views = [1, 2, 3, 5, 7, 9, 11, 15, 20]
    page.curves(
        (0.5, 1.3, 7.4, 5.5),
        {f"occlusion D = {d}": (views, [100 * d**n for n in views]) for d in (0.25, 0.5, 0.75, 0.9)},
        "number of views N",
        "points hidden in every view, %",
        "0",
    )
    page.equation((8.2, 1.5, 4.55, 0.9), "P(hidden in all N views) = D^{N}", 22)
    page.bullets(
        (8.2, 2.7, 4.55, 4.0),
        [
            "The mean keeps (1 − D) of the signal, however many views",
            "So contrast is lost even where the point was seen",
            "Neighbouring views share leaves: width counts more than number",
            "Statistics give practical limits for both [5]",
        ],
        20,
    )

    page = deck.page(
        "RED-Net: our starting point",
        """RED-Net is the network the course is built on. Convolutions encode, the same number of transposed
        convolutions decode, and additive skips join mirrored layers, every second one. The skips carry detail across
        and let gradients flow, so that depth helps instead of hurting. It was made for denoising and
        super-resolution, where input and output have the same shape and the outermost shortcut is the image itself.
        Our input is a focal stack and our output one image, so the outermost shortcut needs a projection; that was
        one of the open questions.""",
        "Reference: [14]",
    )
    red_net(page, (0.6, 1.5, 12.13, 2.7))
    page.bullets(
        (0.6, 4.5, 12.13, 2.3),
        [
            "Symmetric: n convolutions, n transposed convolutions, 64 features of 3 × 3",
            "Additive skips every second layer: detail and gradients pass; deeper becomes better",
            "The network learns a residual on top of its input: y = x + F(x)",
        ],
        22,
    )

    page = deck.page(
        "U-Net and DnCNN",
        """Two more classics. U-Net halves the resolution several times and so sees far; its skips concatenate instead
        of adding. For us that matters, because a leaf smeared over the aperture is dozens of pixels wide, and the
        network must see the whole smear to remove it. DnCNN stays at full resolution, uses batch normalisation, and
        predicts the noise rather than the image. Predicting the damage is easy when the damage is small; under a
        closed canopy it is larger than the image, so pure residual prediction is no free gift here.""",
        "References: [15], [16]",
    )
    page.card(
        (0.6, 1.45, 5.9, 5.2),
        "U-Net (2015)",
        [
            "Contracting path for context, expanding path for place",
            "Skips **concatenate** features of equal resolution",
            "Sees far at little cost: each level doubles the reach",
            "Made for segmentation with few samples; now the frame of most restoration networks",
        ],
        size=20,
    )
    page.card(
        (6.83, 1.45, 5.9, 5.2),
        "DnCNN (2017)",
        [
            "Plain stack of 3 × 3 convolutions with batch normalisation",
            "Predicts the **residual** (the noise), not the clean image",
            "One model for several noise levels, super-resolution, JPEG",
            "Reach grows only with depth: small next to a leaf smeared over the aperture",
        ],
        ORANGE,
        size=20,
    )

    page = deck.page(
        "Transformers, and what remained of them",
        """From 2021 on, attention came to restoration. SwinIR attends within shifted windows. Restormer attends
        across channels instead of pixels, so its cost grows only linearly with the picture, inside a U-shape. NAFNet
        then asked what of this is needed, removed the nonlinear activations, kept a simple gate and channel
        attention, and matched or beat the rest at less cost. For our budget of a few million parameters the lesson
        is: take the U-shape and the simple blocks, and spend effort on data and on the loss.""",
        "References: [14]–[19]",
    )
    page.table(
        (0.6, 1.4, 12.13, 4.4),
        ["Network", "Year", "Block", "How far it sees", "For us"],
        [
            ["RED-Net [14]", "2016", "3 × 3 convolutions, additive skips", "grows with depth", "the reference"],
            ["U-Net [15]", "2015", "convolutions, concatenating skips", "doubles per level", "strong and cheap"],
            ["DnCNN [16]", "2017", "convolutions, batch norm, residual", "grows with depth", "too short a reach"],
            ["SwinIR [17]", "2021", "shifted-window attention", "window by window", "heavy at 512²"],
            ["Restormer [18]", "2022", "attention across channels, U-shape", "whole image", "heavy, scales well"],
            ["NAFNet [19]", "2022", "simple gate, channel attention, U-shape", "whole image", "best trade-off"],
        ],
        [1.9, 0.8, 4.6, 2.4, 2.4],
    )
    page.text(
        (0.6, 6.05, 12.13, 0.7),
        "The last column is our judgement for 512 × 512 thermal images and a few million parameters.",
        18,
        16,
        align="center",
    )

    page = deck.page(
        "Learned de-occlusion",
        """Here networks remove occluders directly. DeOccNet was the first to do it for light fields: all sub-aperture
        views go in, the unoccluded centre view comes out; lack of data was met by pasting occluder masks into light
        fields. Zhang and colleagues first seek the background in shifted views, then generate the rest. Hur and
        colleagues add an explicit mask. Event cameras give almost continuous views: refocus first, reconstruct
        afterwards, as we do. Two lessons: give the network the views, not only their mean; and synthetic data are
        good enough if varied.""",
        "References: [20]–[25]",
    )
    page.table(
        (0.6, 1.4, 12.13, 4.2),
        ["Work", "Input", "Idea"],
        [
            [
                "DeOccNet, 2020 [20]",
                "views of a light field",
                "encoder-decoder on all views; masks pasted in as training data",
            ],
            [
                "Micro-lens filter, 2021 [21]",
                "shifted views",
                "seek the background in other views, then generate the rest",
            ],
            [
                "I See-Through You, 2023 [22]",
                "sparse and dense light fields",
                "occlusion mask as an explicit intermediate",
            ],
            [
                "Event-based, 2021 [23], 2022 [24]",
                "events along a path",
                "refocus first, then a hybrid spiking and convolutional network",
            ],
            [
                "Burst deblurring, 2018 [25]",
                "any number of frames",
                "order-free: shared encoder, maximum over the frames",
            ],
        ],
        [3.6, 3.2, 5.9],
    )
    page.shape(
        (0.6, 5.85, 12.13, 0.9),
        "Lesson: give the network the **views**, not only their mean; vary synthetic data widely.",
        "FFE9BF",
        size=22,
    )

    page = deck.page(
        "Learning on top of AOS",
        """These are the works nearest to ours. Classification votes over several integrals. Fusion brings single and
        integral images together. DeepForest scans a focal stack and lets a 3-D convolutional network take out the
        out-of-focus signal, trained on simulated forests. The surface temperature paper restores temperatures below
        the canopy with a state-space network, trained on simulations too, and shows it for people as well. Both
        confirm our plan: simulate the forest, integrate, and restore; none of them compares focal stacks with the
        registered views themselves.""",
        "References: [9], [11], [12], [13]; figures as reported by the authors",
    )
    page.card(
        (0.6, 1.45, 5.9, 2.5),
        "Classify, fuse",
        ["Combined classification over several integrals [9]", "Fusion of single and integral images [11]"],
        SKY,
        20,
    )
    page.card(
        (6.83, 1.45, 5.9, 2.5),
        "DeepForest [12]",
        ["Focal stacks through the whole canopy", "3-D convolutions, simulated forests, loss: MSE"],
        GREEN,
        20,
    )
    page.card(
        (0.6, 4.2, 5.9, 2.5),
        "Surface temperature [13]",
        [
            "State-space network on thermal integrals",
            "RMSE 2–2.5 × lower than thermal and plain integral images in simulation",
        ],
        ORANGE,
        20,
    )
    page.card(
        (6.83, 4.2, 5.9, 2.5),
        "Common ground",
        ["Simulation replaces missing ground truth", "Integrate first, restore afterwards"],
        PURPLE,
        20,
    )

    page = deck.page(
        "The gap, and what we take along",
        """To sum up. Optics gives us the integral image, but a mean dims the person and keeps a veil of leaves.
        Restoration networks are strong, but they were made for noise and blur on a single image. Light-field
        de-occlusion uses the views, but with small baselines and textured scenes. What is missing is a fair
        comparison for thermal search: single integral, focal stack, statistics of the views, and the views
        themselves, at equal training. We judge by PSNR, by SSIM, and above all by whether the person is found and
        nobody is invented.""",
        "SSIM: [26]",
    )
    page.table(
        (0.6, 1.45, 12.13, 3.2),
        ["Known", "Missing", "What we do"],
        [
            ["The integral reveals, but dims", "How much restoration brings back", "Networks behind the integrator"],
            ["Focal stacks hold more than one plane", "Which planes, and how many", "Planes as one factor of a study"],
            [
                "Views hold more than their mean",
                "Comparison at equal training",
                "Stack, statistics and views side by side",
            ],
        ],
        size=20,
    )
    page.bullets(
        (0.6, 5.0, 12.13, 1.8),
        [
            "Judge by PSNR, SSIM [26], the person’s region, people found and people invented",
            "Open: does what is learned in simulation hold in a real forest?",
        ],
        22,
    )
    half = (len(REFERENCES) + 1) // 2
    for start, part in ((0, REFERENCES[:half]), (half, REFERENCES[half:])):
        page = deck.page(
            f"References {start + 1}–{start + len(part)}",
            """This page is for reading later, not for the talk; leave it up during questions. The numbers are those
            in square brackets at the foot of the pages. Titles, authors, venues and identifiers were checked against
            publishers’ pages, arXiv or the authors’ own lists; where a page range or identifier could not be checked,
            it was left out.""",
        )
        entries = [f"**[{start + i + 1}]**  {entry}" for i, entry in enumerate(part)]
        page.text((0.6, 1.2, 12.13, 5.75), entries, 16, 13, gap=0.28)


def focusing(page: Page, box) -> None:
    """Why a point on the focal plane stays sharp and a leaf above it is smeared."""
    x, y, width, height = box
    sky, plane = y + 0.6, y + height - 1.05
    point, leaf = (x + 0.36 * width, plane), (x + 0.62 * width, y + 0.58 * height)
    places = [x + width * (0.16 + 0.68 * i / 4) for i in range(5)]
    page.text((x, y, width, 0.4), "views along the aperture", 16, 14, align="center", anchor="middle")
    page.line((x, plane), (x + width, plane), GREY, 2.5)
    hits = [place + (leaf[0] - place) * (plane - sky) / (leaf[1] - sky) for place in places]
    for place, hit in zip(places, hits, strict=True):
        page.line((place, sky + 0.1), point, BLUE, 2)
        page.line((place, sky + 0.1), (hit, plane), GREEN, 1.25, dash=True)
        page.shape((hit - 0.08, plane - 0.05, 0.16, 0.1), fill=GREEN, kind="rectangle")
    for place in places:
        page.shape((place - 0.14, sky - 0.05, 0.28, 0.24), fill=INK, kind="rectangle")
    page.shape((leaf[0] - 0.2, leaf[1] - 0.11, 0.4, 0.22), fill=GREEN, kind="oval")
    page.text((leaf[0] + 0.25, leaf[1] - 0.2, 1.2, 0.4), "leaf", 16, 14, anchor="middle")
    page.shape((point[0] - 0.14, point[1] - 0.14, 0.28, 0.28), fill=BLUE, kind="oval")
    page.text(
        (point[0] - 1.6, plane + 0.15, 2.1, 0.7),
        "on the plane:\nall views agree".split("\n"),
        16,
        14,
        BLUE,
        align="center",
        gap=0,
    )
    middle = (min(hits) + max(hits)) / 2
    page.text(
        (middle - 1.3, plane + 0.15, 2.6, 0.7),
        "leaf: smeared over\nfive places".split("\n"),
        16,
        14,
        GREEN,
        align="center",
        gap=0,
    )
    page.text((x, plane - 0.42, 1.5, 0.4), "focal plane", 16, 14, GREY)


def red_net(page: Page, box, in_text: str = "input", out_text: str = "output", shortcut: str = "identity") -> None:
    """RED-Net as native shapes: convolutions, transposed convolutions and the additive skips between them."""
    x, y, width, height = box
    layers = 4
    step = (width - 3.2) / (2 * layers)
    base, tall = y + height - 0.35, height - 1.15
    page.shape((x, base - tall / 2 - 0.35, 1.2, 0.7), in_text, INK, WHITE, 18)
    page.shape((x + width - 1.2, base - tall / 2 - 0.35, 1.2, 0.7), out_text, INK, WHITE, 18)
    centres = []
    for index in range(2 * layers):
        scale = 1 - 0.13 * min(index, 2 * layers - 1 - index)
        left = x + 1.6 + index * step
        page.shape(
            (left + 0.06, base - tall / 2 - tall * scale / 2, step - 0.18, tall * scale),
            "conv" if index < layers else "deconv",
            "CFE3F1" if index < layers else "F9E0B5",
            size=16,
        )
        centres.append((left + step / 2 - 0.03, base - tall / 2 - tall * scale / 2))
    middle = base - tall / 2
    page.line((x + 1.2, middle), (x + 1.7, middle), INK, 2, head=True)
    page.line((x + width - 1.6, middle), (x + width - 1.22, middle), INK, 2, head=True)
    for first, level in ((1, y + 0.62), (3, y + 0.92)):
        last = 2 * layers - 1 - first
        _skip(page, centres[first], centres[last], level, GREEN)
    start, end = (x + 0.6, middle - 0.35), (x + width - 0.6, middle - 0.35)
    _skip(page, start, end, y + 0.3, RED)
    page.text(
        (x + width / 2 - 2.5, y - 0.08, 5, 0.36),
        f"outermost shortcut: {shortcut}",
        16,
        14,
        RED,
        align="center",
        anchor="middle",
    )


def _skip(page: Page, start: tuple[float, float], end: tuple[float, float], level: float, colour: str) -> None:
    page.line(start, (start[0], level), colour, 2)
    page.line((start[0], level), (end[0], level), colour, 2)
    page.line((end[0], level), end, colour, 2, head=True)
