"""What every degradation is: an operator ``y = operator(x, rng)`` whose ``repr`` is its recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from unveil.errors import UnveilError


class Operator:
    """A forward model. Subclasses are frozen dataclasses and implement :meth:`apply`.

    ``x`` is float32 (C, H, W), black 0, white 1; ``y`` is float32 and may leave [0, 1] unless the physics clips.
    Chance comes from ``rng`` alone; ``random`` says whether one is needed.
    """

    random: ClassVar[bool] = False

    def __call__(self, x: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        name, shape, kind = type(self).__name__, getattr(x, "shape", None), getattr(x, "dtype", type(x).__name__)
        if shape is None or len(shape) != 3 or 0 in shape:
            raise UnveilError(f"{name}: the picture must be an array (C, H, W), not {shape or kind}; gray is x[None]")
        if kind != np.float32:
            raise UnveilError(f"{name}: the picture must be float32 in [0, 1], not {kind}; divide bytes by 255")
        if self.random and rng is None:
            raise UnveilError(f"{name} is random: pass rng=numpy.random.default_rng(seed)")
        return np.ascontiguousarray(self.apply(x, rng), dtype=np.float32)

    def apply(self, x: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        raise NotImplementedError

    def inverse(self) -> Operator:
        """The operator that undoes this one; an error where information is lost."""
        raise UnveilError(f"{self!r} loses information and has no inverse")

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        """``Aᵀy`` of a linear operator: ⟨Ax, y⟩ = ⟨x, Aᵀy⟩."""
        raise UnveilError(f"{self!r} has no adjoint here")

    def __or__(self, other: Operator) -> Chain:
        return Chain(tuple(part for side in (self, other) for part in getattr(side, "operators", (side,))))


@dataclass(frozen=True, repr=False)
class Chain(Operator):
    """Operators one after the other, the first one first; written ``blur | noise``."""

    operators: tuple[Operator, ...]

    random = property(lambda self: any(operator.random for operator in self.operators))

    def apply(self, x: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        for operator in self.operators:
            x = operator(x, rng)
        return x

    def inverse(self) -> Chain:
        return Chain(tuple(operator.inverse() for operator in reversed(self.operators)))

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        for operator in reversed(self.operators):
            y = operator.adjoint(y)
        return y

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.operators))
