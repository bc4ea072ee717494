"""Classical morphology of one image, by statmorph (Rodriguez-Gomez et al. 2019, MNRAS 483, 4140).

This module does not import torch, so that many small processes can run it.
"""

from __future__ import annotations

import warnings

import numpy as np
import statmorph
from astropy.convolution import Gaussian2DKernel, convolve_fft
from astropy.utils import lazyproperty
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from photutils.segmentation import deblend_sources, detect_sources  # type: ignore[import-untyped]
from scipy.optimize import minimize

from tidalkin.constants import FWHM_PER_SIGMA

MEASUREMENTS = (
    "concentration",
    "asymmetry",
    "smoothness",
    "gini",
    "m20",
    "multimode",
    "intensity",
    "deviation",
    "outer_asymmetry",
    "shape_asymmetry",
    "rms_asymmetry2",
    "ellipticity_asymmetry",
    "rhalf_ellip",
    "rpetro_ellip",
    "sersic_n",
    "sersic_ellip",
)
SMOOTHING_PIXELS = 1.5
DETECTION_SIGMA = 2.0
MINIMUM_PIXELS = 10
CONTRAST = 0.01
"""A part with a smaller share of the flux is not a source of its own, so that a stream stays with its galaxy."""
CENTRE_PIXELS = 0.01
SMALLEST_SKYBOX = 2
SENTINEL = -99.0
"""Value that statmorph writes where it could not measure."""


def central_source(image: NDArray[np.floating], sky_sigma: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Segment an image into the galaxy in the middle and other sources.

    Parameters
    ----------
    image : (y, x) ndarray
        Sky-subtracted, without missing pixels.
    sky_sigma : float
        Noise of a pixel, in the image's unit.

    Returns
    -------
    galaxy, others : (y, x) ndarray of bool
        ``galaxy`` is all False where nothing is detected in the middle.

    Examples
    --------
    >>> y, x = np.mgrid[:64, :64]
    >>> image = sum(100 * np.exp(-((x - at) ** 2 + (y - at) ** 2) / 18) for at in (32, 52))  # two galaxies
    >>> galaxy, others = central_source(image, sky_sigma=0.1)
    >>> bool(galaxy[32, 32]), bool(galaxy[52, 52]), bool(others[52, 52])
    (True, False, True)
    """
    smooth = convolve_fft(image, Gaussian2DKernel(SMOOTHING_PIXELS), boundary="wrap")
    smooth_sigma = sky_sigma / (2 * np.sqrt(np.pi) * SMOOTHING_PIXELS)  # white noise under a Gaussian
    sources = detect_sources(smooth, DETECTION_SIGMA * smooth_sigma, MINIMUM_PIXELS)
    nothing = np.zeros(image.shape, dtype=bool)
    if sources is None:
        return nothing, nothing
    sources = deblend_sources(smooth, sources, MINIMUM_PIXELS, contrast=CONTRAST, progress_bar=False)
    middle = tuple(side // 2 for side in image.shape)
    label = sources.data[middle]
    detected = sources.data > 0
    if label == 0:
        return nothing, detected
    galaxy = sources.data == label
    return galaxy, detected & ~galaxy


def first_empty_square(empty: NDArray[np.bool_], size: int) -> tuple[int, int] | None:
    """Find the corner (y, x) of the first empty square with sides of ``size`` pixels.

    The search goes row by row from the bottom. Like statmorph's, it leaves out the last row and column of squares. The
    result is None if no square is empty.

    Examples
    --------
    >>> empty = np.ones((8, 8), bool)
    >>> empty[0, :] = False
    >>> first_empty_square(empty, 3), first_empty_square(empty, 8)
    ((1, 0), None)
    """
    if min(empty.shape) <= size:
        return None
    columns = np.all(sliding_window_view(empty, size, axis=0), axis=-1)
    squares = np.all(sliding_window_view(columns, size, axis=1), axis=-1)
    corners = np.argwhere(squares[:-1, :-1])
    return (int(corners[0, 0]), int(corners[0, 1])) if len(corners) else None


class QuickMorphology(statmorph.SourceMorphology):
    """Faster statmorph, which measures only what is needed, and no finer than the noise.

    Two searches took three quarters of statmorph's time: the thresholds of `multimode` and the centre of least
    asymmetry.
    """

    def _calculate_morphology(self) -> None:
        """Measure nothing yet, because each quantity is measured when it is read."""

    @lazyproperty
    def _slice_skybox(self) -> tuple[slice, slice]:
        """First square of empty sky, as in statmorph, halved in size until there is one."""
        empty = self._segmap.data[self._slice_stamp] == 0
        if self._mask is not None:
            empty &= ~self._mask[self._slice_stamp]
        size = self._skybox_size
        while size >= SMALLEST_SKYBOX:
            if (corner := first_empty_square(empty, size)) is not None:
                return slice(corner[0], corner[0] + size), slice(corner[1], corner[1] + size)
            size //= 2
        self.flag = 2  # the value by which statmorph's sky statistics know that there is no sky
        return slice(0, 0), slice(0, 0)

    @lazyproperty
    def multimode(self) -> float:
        """Ratio of the areas of the second and the first clump, at the best threshold.

        The best threshold maximises A2 * A2 / A1, where A1 and A2 are the areas of the first and the second clump. It
        is one of the 50 thresholds of the statistic's original program (see statmorph's `multimode`). statmorph refines
        them up to 3,150 where there is only one clump.
        """
        threshold = min(np.arange(0.0, 1.0, 0.02), key=self._multimode_ratio)
        areas = self._multimode_function(threshold)
        return float(areas[1] / areas[0]) if areas.size > 1 else 0.0

    @lazyproperty
    def _asymmetry_center(self) -> NDArray[np.float64]:
        """Centre of least asymmetry to 0.01 pixels (statmorph: a millionth), else the centroid."""
        centroid = np.array([self._xc_stamp, self._yc_stamp])
        found = minimize(
            self._asymmetry_function,
            centroid,
            args=(self._cutout_stamp_maskzeroed, "cas"),
            method="Nelder-Mead",
            options={"xatol": CENTRE_PIXELS, "fatol": 1e-3, "initial_simplex": centroid + np.eye(3, 2)},
        ).x
        # As in statmorph: a centre that drifted off belongs to something else.
        drift = np.linalg.norm(found - centroid)
        return centroid if drift > self._petro_fraction_cas * self._rpetro_circ_centroid else found


def measure(flux: NDArray[np.floating], sky_sigma: float, psf_fwhm_pixels: float) -> NDArray[np.float64]:
    """Measure the galaxy in the middle of an image.

    Parameters
    ----------
    flux : (y, x) ndarray
        nJy, NaN where missing.
    sky_sigma : float
        Noise of a pixel, nJy.
    psf_fwhm_pixels : float
        FWHM of the PSF that the Sérsic profile is convolved with, taken as Gaussian; NaN to fit it without a PSF.

    Returns
    -------
    (measurement,) float64
        Values of `MEASUREMENTS`, with radii in pixels; NaN where a measurement failed.

    Examples
    --------
    >>> y, x = np.mgrid[:64, :64] - 32
    >>> disc = 100 * np.exp(-np.hypot(x, y) / 4) + np.random.default_rng(1).normal(size=(64, 64))
    >>> measured = dict(zip(MEASUREMENTS, measure(disc, sky_sigma=1.0, psf_fwhm_pixels=np.nan), strict=True))
    >>> round(float(measured["sersic_n"]), 1)
    1.0
    """
    psf = Gaussian2DKernel(psf_fwhm_pixels / FWHM_PER_SIGMA).array if psf_fwhm_pixels > 0 else None
    failed = np.full(len(MEASUREMENTS), np.nan)
    missing = ~np.isfinite(flux)
    if missing.all() or not sky_sigma > 0:
        return failed
    image = np.where(missing, 0.0, flux).astype(np.float64)
    with warnings.catch_warnings():
        # statmorph and photutils warn of every doubtful fit. Failed measurements are NaN, which the caller counts.
        warnings.simplefilter("ignore")
        galaxy, others = central_source(image, sky_sigma)
        if not galaxy.any():
            return failed
        morphology = QuickMorphology(
            image, galaxy.astype(np.int64), 1, mask=others | missing, weightmap=np.full(image.shape, sky_sigma), psf=psf
        )
        measured = np.array([getattr(morphology, name) for name in MEASUREMENTS], dtype=np.float64)
    return np.where(np.isfinite(measured) & (measured != SENTINEL), measured, np.nan)
