"""The classical ways back, the baselines that a network has to beat.

All take and give float32 (C, H, W); strengths are arguments in the picture's own units, nothing is clipped. A kernel is
a point spread function (k, k), k odd, sum 1; a hole is a bool mask (H, W), true where values are missing.
"""

from collections.abc import Callable

import numpy as np
from scipy import fft, ndimage
from skimage import restoration

from unveil.errors import UnveilError


def gaussian(y: np.ndarray, sigma: float) -> np.ndarray:
    """Average with Gaussian weights; ``sigma`` in pixels."""
    return ndimage.gaussian_filter(y, (0, sigma, sigma))


def median(y: np.ndarray, size: int = 3) -> np.ndarray:
    """The middle value among ``size`` × ``size`` pixels, channel by channel."""
    return ndimage.median_filter(y, (1, size, size))


def switching_median(y: np.ndarray, size: int = 3) -> np.ndarray:
    """The median where y is 0 or 1 and may be an impulse; every other value stays."""
    return np.where((y <= 0) | (y >= 1), median(y, size), y)


def bilateral(y: np.ndarray, sigma_value: float, sigma: float = 1.5) -> np.ndarray:
    """Average over pixels that are near (``sigma`` pixels) and alike (``sigma_value``; Tomasi & Manduchi 1998).

    Written out because scikit-image 0.26 reads its table of distances with the wrong row length.
    """
    reach, total, weights = int(np.ceil(2 * sigma)), np.zeros_like(y), np.zeros_like(y[:1])
    wide = np.pad(y, [(0, 0), (reach, reach), (reach, reach)], "symmetric")
    for down, right in np.ndindex(2 * reach + 1, 2 * reach + 1):
        other = wide[:, down : down + y.shape[1], right : right + y.shape[2]]
        near = ((down - reach) ** 2 + (right - reach) ** 2) / np.float32(sigma) ** 2
        weight = np.exp(-0.5 * (near + np.mean((other - y) ** 2, axis=0) / np.float32(sigma_value) ** 2))
        total, weights = total + weight * other, weights + weight
    return total / weights


def tv(y: np.ndarray, weight: float) -> np.ndarray:
    """Least ``‖x − y‖² / 2 + weight · total variation`` (Rudin, Osher & Fatemi 1992; Chambolle 2004)."""
    return _float(restoration.denoise_tv_chambolle(y, weight=weight, channel_axis=0))


def wavelet(y: np.ndarray, sigma: float) -> np.ndarray:
    """Soft thresholds on wavelet coefficients, one per scale from the noise ``sigma`` (BayesShrink, Chang 2000)."""
    options = {"sigma": sigma, "wavelet": "db2", "channel_axis": -1, "convert2ycbcr": len(y) == 3}
    return _float(np.moveaxis(restoration.denoise_wavelet(np.moveaxis(y, 0, -1), **options), -1, 0))


def nonlocal_means(y: np.ndarray, sigma: float, strength: float = 0.8, patch: int = 5, reach: int = 6) -> np.ndarray:
    """Average over pixels whose patches are alike, h = strength · sigma (Buades, Coll & Morel 2005)."""
    options = {"h": strength * sigma, "sigma": sigma, "patch_size": patch, "patch_distance": reach}
    # One channel comes back without its axis, and turned over where that was the first.
    result = restoration.denoise_nl_means(np.moveaxis(y, 0, -1), **options, fast_mode=True, channel_axis=-1)
    return _float(np.moveaxis(result.reshape(*y.shape[1:], len(y)), -1, 0))


def anscombe(y: np.ndarray, photons: float, denoiser: Callable[[np.ndarray, float], np.ndarray]) -> np.ndarray:
    """Against shot noise: the root makes its deviation constant, ``denoiser(picture, sigma)`` takes it out, and back.

    White is ``photons`` photons. The way back is the unbiased one of Mäkitalo & Foi (2011), not the square.
    """
    white = 2 * np.sqrt(photons + 3 / 8)
    root = 2 * np.sqrt(np.maximum(y * photons, 0) + 3 / 8)
    z = np.maximum(denoiser(_float(root / white), float(1 / white)) * white, 2 * np.sqrt(3 / 8))
    back = z * z / 4 - 1 / 8 + np.sqrt(1.5) * (1 / (4 * z) + 5 / (8 * z**3)) - 11 / (8 * z * z)
    return _float(np.maximum(back, 0) / photons)


def wiener(y: np.ndarray, kernel: np.ndarray, sigma: float) -> np.ndarray:
    """The linear way back of least mean squared error, for noise ``sigma`` and a 1/f² spectrum (Wiener 1949).

    ``conj(K) / (|K|² + σ² / S)``: where K is near zero it passes nothing, instead of dividing noise by zero.
    """
    wide, transfer, crop = _periodic(y, kernel)
    frequency = np.hypot(fft.fftfreq(wide.shape[1])[:, None], fft.rfftfreq(wide.shape[2]))
    inverse_spectrum = frequency**2 * np.mean(1 / np.maximum(frequency, frequency[0, 1]) ** 2) / max(y.var(), 1e-9)
    back = transfer.conj() / np.maximum(np.abs(transfer) ** 2 + sigma**2 * inverse_spectrum, 1e-12)
    return _float(fft.irfft2(fft.rfft2(wide) * back, wide.shape[1:])[crop])


def richardson_lucy(y: np.ndarray, kernel: np.ndarray, iterations: int = 20) -> np.ndarray:
    """The likeliest non-negative picture under shot noise, by ``x ← x · Kᵀ(y / Kx)`` (Richardson 1972, Lucy 1974).

    Noise grows with the iterations: stopping early is the regularisation.
    """
    wide, transfer, crop = _periodic(np.maximum(y, 0), kernel)
    x = np.full_like(wide, wide.mean())
    for _ in range(iterations):
        seen = fft.irfft2(fft.rfft2(x) * transfer, wide.shape[1:])
        x = x * fft.irfft2(fft.rfft2(wide / np.maximum(seen, 1e-6)) * transfer.conj(), wide.shape[1:])
    return _float(x[crop])


def inpaint(y: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The smoothest continuation into the hole, Δ²x = 0 (biharmonic; Damelin & Hoang 2018)."""
    return _float(restoration.inpaint_biharmonic(y, _check(y, hole), split_into_regions=True, channel_axis=0))


def fill_nearest(y: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Every pixel of the hole gets the value of the nearest one outside."""
    place = ndimage.distance_transform_edt(_check(y, hole), return_distances=False, return_indices=True)
    return y[:, place[0], place[1]]


def _check(y: np.ndarray, hole: np.ndarray) -> np.ndarray:
    if hole.dtype != bool or hole.shape != y.shape[1:] or hole.all():
        raise UnveilError(f"the hole must be a bool mask of {y.shape[1:]} with something left, not {hole.shape}")
    return hole


def _periodic(y: np.ndarray, kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple]:
    """The picture in a wider frame that is periodic, the kernel's transfer function, and the way to crop.

    The frame shows the mirror image and fades towards its seam into a blurred copy, which a blur could have made.
    """
    pad = 2 * len(kernel)
    height, width = (fft.next_fast_len(n + 2 * pad, real=True) for n in y.shape[1:])
    sides = [(pad, total - n - pad) for total, n in zip((height, width), y.shape[1:], strict=True)]
    wide = np.pad(y, [(0, 0), *sides], "symmetric")
    centred = np.zeros((height, width), np.float32)
    centred[: len(kernel), : len(kernel)] = kernel
    transfer = fft.rfft2(np.roll(centred, (-(len(kernel) // 2),) * 2, (0, 1)))
    down, right = (np.pad(np.ones(n), side, "linear_ramp") for n, side in zip(y.shape[1:], sides, strict=True))
    share = np.outer(down, right).astype(np.float32)
    for _ in range(8):
        wide = share * wide + (1 - share) * fft.irfft2(fft.rfft2(wide) * transfer, (height, width))
    return wide, transfer, np.s_[:, pad : pad + y.shape[1], pad : pad + y.shape[2]]


def _float(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)
