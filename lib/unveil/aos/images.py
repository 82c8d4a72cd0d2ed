"""Gray levels of runs: rounding to 8 bits, and the person's pixels in a truth."""

import numpy as np
from scipy import ndimage

from unveil.errors import UnveilError

PERSON_DARKEST = 190
"""Darkest gray level of a person in the course's truths."""

GROUND_SPREAD = 8
"""How far the texture of the ground strays from its level; a handful of pixels go further."""

_PERSON_PIXELS = 16


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Gray levels rounded half up to uint8, as the renderer's 8-bit targets are, cut off at 0 and 255.

    Raises UnveilError where a gray level is NaN.
    """
    # The smallest value is NaN as soon as any is: cheaper than a mask.
    if np.isnan(image.min(initial=0)):
        raise UnveilError("an integral holds NaN where gray levels belong: check the views and their poses")
    return np.clip(image + np.float32(0.5), 0, 255).astype(np.uint8)


def person_mask(truth: np.ndarray) -> np.ndarray:
    """Pixels of the person in a truth (H, W) uint8, as bool (H, W); none where nobody is.

    The ground is one level, the image's median, with a faint texture. Where it is as bright as a person, pixels of the
    figure lie within the texture's spread: these are won back by closing and filling the outline.
    """
    ground = int(np.median(truth))
    mask = np.abs(truth.astype(np.int16) - ground) > GROUND_SPREAD
    square = np.ones((3, 3), bool)
    if ground + GROUND_SPREAD >= PERSON_DARKEST:
        mask = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(mask, 2), square))[2:-2, 2:-2]
    parts, count = ndimage.label(mask, square)
    if count == 0:
        return mask
    large = np.bincount(parts.ravel()) >= _PERSON_PIXELS
    large[0] = False
    return large[parts]
