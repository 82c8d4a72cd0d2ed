"""Training pairs made from stores of raw views while a network trains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unveil.aos import integrator
from unveil.aos.archives import ArchiveRuns
from unveil.aos.camera import CENTER_VIEW, course_rig
from unveil.aos.images import to_uint8
from unveil.aos.store import Store


class FocalPairs:
    """Focal stacks and truths of a view store, integrated on the fly: a store for ``restore.datasets.PairDataset``.

    Args:
        store: the raw views.
        heights: nominal focal heights, metres.
        jitter: every plane of every item is moved by U(−jitter, jitter) metres, anew each epoch; planes nearest to a
            wanted height then look familiar to the network.
        seed: of the jitter.
    """

    def __init__(
        self,
        store: Store | ArchiveRuns,
        heights: Sequence[float] = integrator.HEIGHTS,
        jitter: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.store, self.heights, self.jitter, self.seed = store, tuple(heights), jitter, seed
        self.ids = store.ids
        self.epoch = 0
        self._rig = course_rig()

    def __len__(self) -> int:
        return len(self.store)

    def set_epoch(self, epoch: int) -> None:
        """Draw other planes from now on: those of this epoch."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Stack (P, H, W) and truth (H, W) of run ``index``, uint8."""
        views, truth = self.store[index]
        heights = np.array(self.heights)
        if self.jitter:
            random = np.random.default_rng([self.seed, self.epoch, index])
            heights = np.maximum(heights + random.uniform(-self.jitter, self.jitter, len(heights)), 0)
        image = integrator.integrate(views, self._rig, heights, CENTER_VIEW, threads=1).image
        return to_uint8(image), truth


class ViewPairs:
    """Registered views and truths, made on the fly: a store for networks that pool the views themselves.

    Args:
        store: the raw views.
        heights: focal heights on which the views are registered, metres.
    """

    def __init__(self, store: Store | ArchiveRuns, heights: Sequence[float]) -> None:
        self.store, self.heights, self.ids = store, tuple(heights), store.ids
        self._rig = course_rig()

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """`integrator.candidates` (P·V + 1, H, W) and truth (H, W) of run ``index``, uint8."""
        views, truth = self.store[index]
        return integrator.candidates(views, self._rig, self.heights, CENTER_VIEW, threads=1), truth
