"""The curtain between two versions of a picture."""

import numpy as np
import pytest

from unveil.errors import UnveilError
from unveil.show import figures
from unveil.show.curtain import Curtain


@pytest.mark.parametrize("shape", [(8, 20), (8, 20, 3)])
def test_left_is_one_version_and_right_the_other(shape):
    curtain = Curtain({"a": {"black": np.zeros(shape), "gray": np.full(shape, 0.5)}})
    frame = curtain.frame(50)
    assert frame[:, :9].max() == 0 and frame[:, 11:].min() == 0.5 and frame.shape == shape
    before = curtain._image.value
    curtain.position.value = 20
    assert curtain._image.value != before
    curtain.left.value = "gray"
    assert curtain.frame(90).min() == 0.5


def test_static_twin_and_bad_input():
    curtain = Curtain({"a": {"black": np.zeros((8, 20)), "gray": np.full((8, 20), 0.5)}})
    fig = curtain.filmstrip((0, 100))
    figures.withdraw(fig)
    assert [axis.get_title() for axis in fig.axes] == ["black | gray, 0 %", "black | gray, 100 %"]
    with pytest.raises(UnveilError, match="two versions"):
        Curtain({"a": {"only": np.zeros((8, 8))}})
