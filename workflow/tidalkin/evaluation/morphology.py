"""Classical morphology of one image, by statmorph (Rodriguez-Gomez et al. 2019, MNRAS 483, 4140).

Needs no torch, so that it can be run by many light processes.
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
"""A part with less than this share of the flux is no source of its own: a stream stays with its galaxy."""
CENTRE_PIXELS = 0.01
SMALLEST_SKYBOX = 2
SENTINEL = -99.0
"""What statmorph writes for what it could not measure."""


def central_source(image: NDArray[np.floating], sky_sigma: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where the galaxy in the middle is, and where other sources are.

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
    """Corner (y, x) of the first square of ``size`` pixels that are all empty; None if there is none.

    Row by row from the bottom, without the last row and column of squares, which statmorph does not look at.
    """
    if min(empty.shape) <= size:
        return None
    columns = np.all(sliding_window_view(empty, size, axis=0), axis=-1)
    squares = np.all(sliding_window_view(columns, size, axis=1), axis=-1)
    corners = np.argwhere(squares[:-1, :-1])
    return (int(corners[0, 0]), int(corners[0, 1])) if len(corners) else None


class QuickMorphology(statmorph.SourceMorphology):
    """statmorph without what is not asked for, and without searches that are finer than the noise or slow.

    Two of them took three quarters of all time: the thresholds of `multimode` and the centre of least asymmetry.
    """

    def _calculate_morphology(self) -> None:
        """Nothing: each quantity is measured when it is asked for, not all of them at once."""

    @lazyproperty
    def _slice_skybox(self) -> tuple[slice, slice]:
        """The first square of empty sky, halved in size until there is one, as statmorph finds it pixel by pixel."""
        empty = self._segmap.data[self._slice_stamp] == 0
        if self._mask is not None:
            empty &= ~self._mask[self._slice_stamp]
        size = self._skybox_size
        while size >= SMALLEST_SKYBOX:
            if (corner := first_empty_square(empty, size)) is not None:
                return slice(corner[0], corner[0] + size), slice(corner[1], corner[1] + size)
            size //= 2
        self.flag = 2  # what statmorph's sky statistics expect where there is no sky
        return slice(0, 0), slice(0, 0)

    @lazyproperty
    def multimode(self) -> float:
        """Area of the second clump over that of the first, at the threshold where their product is greatest.

        On the grid of 50 thresholds of the statistic's original program (see statmorph's `multimode`), which statmorph
        refines up to 3,150 thresholds wherever there is but one clump.
        """
        threshold = min(np.arange(0.0, 1.0, 0.02), key=self._multimode_ratio)
        areas = self._multimode_function(threshold)
        return float(areas[1] / areas[0]) if areas.size > 1 else 0.0

    @lazyproperty
    def _asymmetry_center(self) -> NDArray[np.float64]:
        """The centre of least asymmetry, to a hundredth of a pixel (statmorph: a millionth); else the centroid."""
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
        Of the PSF that the Sérsic profile is fitted through, taken as Gaussian; NaN if unknown: fitted without.

    Returns
    -------
    (measurement,) float64
        `MEASUREMENTS`, radii in pixels; NaN for what could not be measured.
    """
    psf = Gaussian2DKernel(psf_fwhm_pixels / FWHM_PER_SIGMA).array if psf_fwhm_pixels > 0 else None
    failed = np.full(len(MEASUREMENTS), np.nan)
    missing = ~np.isfinite(flux)
    if missing.all() or not sky_sigma > 0:
        return failed
    image = np.where(missing, 0.0, flux).astype(np.float64)
    with warnings.catch_warnings():
        # statmorph and photutils warn of every doubtful fit; what failed is NaN here, and counted by the caller.
        warnings.simplefilter("ignore")
        galaxy, others = central_source(image, sky_sigma)
        if not galaxy.any():
            return failed
        morphology = QuickMorphology(
            image, galaxy.astype(np.int64), 1, mask=others | missing, weightmap=np.full(image.shape, sky_sigma), psf=psf
        )
    measured = np.array([getattr(morphology, name) for name in MEASUREMENTS], dtype=np.float64)
    return np.where(np.isfinite(measured) & (measured != SENTINEL), measured, np.nan)
