"""The protocol of operators: chaining, recipe, inverse, adjoint, and errors of one line."""

from dataclasses import dataclass

import numpy as np
import pytest

from unveil.degrade.base import Chain, Operator
from unveil.errors import UnveilError


@dataclass(frozen=True)
class Gain(Operator):
    factor: float

    def apply(self, x, rng):
        return x * self.factor

    def inverse(self):
        return Gain(1 / self.factor)

    def adjoint(self, y):
        return y * self.factor


@dataclass(frozen=True)
class Jitter(Operator):
    random = True

    def apply(self, x, rng):
        return x + rng.normal(size=x.shape)


PICTURE = np.linspace(0, 1, 24, dtype=np.float32).reshape(1, 4, 6)


def test_chains_are_flat_and_run_in_order():
    chain = Gain(2.0) | (Gain(3.0) | Jitter())
    assert isinstance(chain, Chain) and len(chain.operators) == 3
    assert chain.random and not (Gain(2.0) | Gain(1.0)).random
    assert repr(chain) == "Gain(factor=2.0) | Gain(factor=3.0) | Jitter()"
    first, again = (chain(PICTURE, np.random.default_rng(3)) for _ in range(2))
    assert first.dtype == np.float32 and np.array_equal(first, again)


def test_inverse_and_adjoint_run_backwards():
    chain = Gain(2.0) | Gain(4.0)
    assert repr(chain.inverse()) == "Gain(factor=0.25) | Gain(factor=0.5)"
    assert np.allclose(chain.inverse()(chain(PICTURE)), PICTURE)
    assert np.allclose(chain.adjoint(PICTURE), 8 * PICTURE)
    with pytest.raises(UnveilError, match=r"Jitter\(\) loses information"):
        (Gain(2.0) | Jitter()).inverse()


@pytest.mark.parametrize(
    ("picture", "rng", "message"),
    [
        (PICTURE[0], None, "gray is x"),
        ([[1.0]], None, "not list"),
        (PICTURE[:, :0], None, "array"),
        ((PICTURE * 255).astype(np.uint8), None, "divide bytes by 255"),
        (PICTURE, None, "pass rng"),
    ],
)
def test_wrong_input_gets_one_line(picture, rng, message):
    with pytest.raises(UnveilError, match=message) as caught:
        Jitter()(picture, rng)
    assert "\n" not in str(caught.value)
