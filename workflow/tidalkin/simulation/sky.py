"""Sky of real coadds: correlated noise and over-subtraction.

Warping correlates the noise of neighbouring pixels. Near bright galaxies, faint light is taken for sky.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import convolve1d, gaussian_filter

LANCZOS_ORDER = 3  # HSC's pipeline warps with Lanczos-3 kernels: Bosch et al. 2018, PASJ 70, S5
# Below this many sigma of a pixel, light is not detected and so is taken for sky.
UNDETECTED_SIGMA = 1.5
SKY_SCALE_ARCSEC = 3.0

Floats = npt.NDArray[np.float32]


def warping_kernel(shift_pixels: float) -> npt.NDArray[np.float64]:
    """Compute the Lanczos kernel that shifts an image along one axis.

    Parameters
    ----------
    shift_pixels : float
        From 0 to 1; half a pixel correlates neighbours most.

    Returns
    -------
    (7,) float64 array
        Of sum 1.

    Examples
    --------
    >>> [round(abs(float(value)), 2) for value in warping_kernel(0.0)]
    [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    """
    distance = np.arange(-LANCZOS_ORDER, LANCZOS_ORDER + 1) - shift_pixels
    kernel = np.sinc(distance) * np.sinc(distance / LANCZOS_ORDER) * (np.abs(distance) < LANCZOS_ORDER)
    return np.asarray(kernel / kernel.sum(), np.float64)


def correlated_noise(
    sigma: float | Floats, size: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], float]:
    """Draw the noise of a coadd of warped exposures.

    White noise is shifted by a fraction of a pixel with HSC's warping kernel. Noise on large scales, and with it the
    depth for sources, stays that of the white noise; single pixels scatter less.

    Parameters
    ----------
    sigma : float or (y, x) array
        Of the white noise before the warping.
    size : int
        Side of the image, pixels.
    rng : numpy.random.Generator
        Source of noise and shift.

    Returns
    -------
    noise : (y, x) float32 array
        In the unit of ``sigma``.
    variance_ratio : float
        Variance of a pixel over that of the white noise; a pipeline's variance plane shrinks by it.

    Examples
    --------
    >>> import numpy as np
    >>> noise, variance_ratio = correlated_noise(2.0, 64, np.random.default_rng(1))
    >>> bool(abs(noise.std() / (2 * variance_ratio**0.5) - 1) < 0.05)
    True
    """
    shift_x, shift_y = rng.uniform(0.25, 0.75, 2)
    kernel_x, kernel_y = warping_kernel(float(shift_x)), warping_kernel(float(shift_y))
    white = rng.normal(0.0, 1.0, (size, size)) * sigma
    noise = convolve1d(convolve1d(white, kernel_x, axis=1, mode="wrap"), kernel_y, axis=0, mode="wrap")
    return noise.astype(np.float32), float(np.sum(kernel_x**2) * np.sum(kernel_y**2))


def over_subtracted(model: Floats, sigma: float, strength: float, pixel_scale_arcsec: float) -> Floats:
    """Compute the light that a pipeline takes for sky.

    A sky fitted on small scales contains the wings of galaxies that are too faint to be detected. Subtracting it leaves
    dark moats about bright galaxies, and dims tidal features (Aihara et al. 2019, PASJ 71, 114).

    Parameters
    ----------
    model : (y, x) float32 array
        Light without noise.
    sigma : float
        Noise of one pixel, in the unit of ``model``.
    strength : float
        Share of the undetected light that is lost, 0 to 1.
    pixel_scale_arcsec : float
        Side of a pixel, arcsec.

    Returns
    -------
    (y, x) float32 array
        To be subtracted, in the unit of ``model``.

    Examples
    --------
    >>> import numpy as np
    >>> sky = over_subtracted(np.full((8, 8), 90, np.float32), 2.0, 0.5, 0.168)
    >>> float(sky[4, 4])
    1.5
    """
    undetected = np.minimum(model, np.float32(UNDETECTED_SIGMA * sigma))
    smooth = gaussian_filter(undetected, SKY_SCALE_ARCSEC / pixel_scale_arcsec, mode="nearest")
    return np.asarray(np.float32(strength) * smooth, np.float32)
