"""The width of the PSF from the moments in HSC's database."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from tidalkin.config import BANDS
from tidalkin.constants import FWHM_PER_SIGMA


def psf_fwhm(shape11: npt.ArrayLike, shape22: npt.ArrayLike, shape12: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Compute the full width at half maximum of a PSF from its second moments.

    The formula is 2.355 · (Mxx·Myy − Mxy²)^¼.

    Parameters
    ----------
    shape11, shape22, shape12 : array
        Mxx, Myy and Mxy, arcsec². HSC's database names them ``<band>_sdssshape_psf_shape11/22/12``.

    Returns
    -------
    array
        Arcsec. NaN where the moments are missing or are not those of an ellipse.

    Examples
    --------
    >>> float(psf_fwhm(0.0625, 0.0625, 0.0).round(3))
    0.589
    """
    xx, yy, xy = (np.asarray(moment, dtype=np.float64) for moment in (shape11, shape22, shape12))
    determinant = xx * yy - xy**2
    good = np.isfinite(determinant) & (determinant > 0) & (xx > 0)
    return FWHM_PER_SIGMA * np.where(good, determinant, np.nan) ** 0.25


def with_psf_fwhm(catalog: pd.DataFrame) -> pd.DataFrame:
    """Add a column ``psf_fwhm_<band>`` (arcsec) for each band whose PSF moments the catalog has.

    An existing column of that name is kept.

    Examples
    --------
    >>> shape = {f"i_sdssshape_psf_shape{axes}": [moment] for axes, moment in (("11", 0.09), ("22", 0.09), ("12", 0.0))}
    >>> with_psf_fwhm(pd.DataFrame(shape))["psf_fwhm_i"].round(3).tolist()
    [0.706]
    """
    added = {}
    for band in BANDS:
        moments = [f"{band}_sdssshape_psf_shape{axes}" for axes in ("11", "22", "12")]
        if f"psf_fwhm_{band}" not in catalog and set(moments) <= set(catalog.columns):
            added[f"psf_fwhm_{band}"] = psf_fwhm(*(catalog[moment] for moment in moments))
    return catalog.assign(**added)
