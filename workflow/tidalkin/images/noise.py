"""Measure the sky noise of an image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from tidalkin.constants import MAD_TO_SIGMA

# How far the variance plane may be from the scatter of the pixels before it is taken for something else.
LARGEST_SIGMA_RATIO = 10.0
SKY_SAMPLE = 4096  # pixels: the median of this many has an error of 2 % of sigma
Floats = npt.NDArray[np.float32]


def sky_sigma(flux: npt.NDArray[np.floating[Any]], variance: npt.NDArray[np.floating[Any]] | None) -> float:
    """Noise of one pixel of sky.

    The square root of the median of the variance plane, over the pixels that are not missing. Where there is no
    variance plane, or it is more than a factor of ten from the scatter of the pixels and so is no variance in
    these units, the scatter itself: 1.4826 times the median absolute deviation, after three rounds of clipping at
    3 sigma. The variance plane comes first because it does not grow with the galaxy: over 550 real HSC images the
    clipped scatter is 1.1 times the variance's sigma in the median and 2.3 times where galaxies fill the image.

    What it is good for: the level at which the stretch turns from linear to logarithmic, and the strength of added
    noise. Both go by single pixels. The noise of coadds is correlated between neighbours by the warping, so that
    averages over n pixels scatter by more than this sigma / sqrt(n): it is no error for photometry, and white noise
    of this sigma is a weaker disturbance of wide structure than HSC's own noise.

    Parameters
    ----------
    flux : (y, x) array
        NaN where missing.
    variance : (y, x) array or None
        In the square of the unit of ``flux``.

    Returns
    -------
    float
        In the unit of ``flux``; NaN where nothing tells.
    """
    step = max(1, math.isqrt(flux.size // SKY_SAMPLE))
    if variance is not None:
        # A variance plane is smooth, and the check is a rough one: fewer pixels do.
        sparse = flux[:: 2 * step, :: 2 * step]
        good = np.isfinite(sparse)
        if good.any():
            expected = math.sqrt(max(_median(variance[:: 2 * step, :: 2 * step][good]), 0.0))
            if _is_plausible(expected, _scatter(sparse[good][::4])):
                return expected
    sample = flux[::step, ::step]
    pixels = sample[np.isfinite(sample)]
    if not pixels.size:
        return math.nan
    for _ in range(3):
        pixels = pixels[np.abs(pixels - _median(pixels)) <= 3 * _scatter(pixels)]
    return _scatter(pixels) or math.nan


def _median(pixels: npt.NDArray[np.floating[Any]]) -> float:
    # Half as long as np.median, whose mean of the middle two does not matter here. NaN sorts last.
    middle = pixels.size // 2
    return float(np.partition(pixels, middle)[middle])


def _is_plausible(expected: float, scatter: float) -> bool:
    if not 0 < expected < math.inf:
        return False
    # Pixels without any scatter (a drawing without noise) contradict no variance.
    return scatter == 0 or 1 / LARGEST_SIGMA_RATIO <= expected / scatter <= LARGEST_SIGMA_RATIO


def _scatter(pixels: npt.NDArray[np.floating[Any]]) -> float:
    return MAD_TO_SIGMA * _median(np.abs(pixels - _median(pixels)))
