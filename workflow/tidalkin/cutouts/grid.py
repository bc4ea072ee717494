"""Place an image on the common pixel grid, centred on its galaxy by the WCS."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS, NoConvergence

# Ties between two nearest pixels go one way, even if the WCS of two bands differ in the last digits.
PIXEL_TOLERANCE = 1e-3
Floats = npt.NDArray[np.floating[Any]]


class PixelFinder(Protocol):
    """Anything that finds a sky position in an image."""

    def pixel(self, ra: float, dec: float) -> tuple[float, float]:
        """Return the pixel (x, y), counted from zero, of an ICRS position in degrees.

        NaN if the projection does not have the position.
        """
        ...


@dataclass(frozen=True)
class TangentPlane:
    """The gnomonic projection with north along the native pole: what HSC's coadds use.

    Calabretta & Greisen 2002, A&A 395, 1077, sections 2.1 and 5.1.3. The formula is some hundred times faster than
    `astropy.wcs` for one position.
    """

    crpix: tuple[float, float]
    crval: tuple[float, float]
    cd: tuple[float, float, float, float]
    """CD1_1, CD1_2, CD2_1, CD2_2 in degrees per pixel."""

    def pixel(self, ra: float, dec: float) -> tuple[float, float]:
        """Return the pixel (x, y), counted from zero, of an ICRS position in degrees.

        NaN if the projection does not have the position.
        """
        difference = math.radians(ra - self.crval[0])
        sin_0, cos_0 = math.sin(math.radians(self.crval[1])), math.cos(math.radians(self.crval[1]))
        sin_dec, cos_dec = math.sin(math.radians(dec)), math.cos(math.radians(dec))
        from_pole = sin_0 * sin_dec + cos_0 * cos_dec * math.cos(difference)
        if from_pole <= 0:
            return math.nan, math.nan
        xi = math.degrees(cos_dec * math.sin(difference) / from_pole)
        eta = math.degrees((cos_0 * sin_dec - sin_0 * cos_dec * math.cos(difference)) / from_pole)
        a, b, c, d = self.cd
        determinant = a * d - b * c
        x = (d * xi - b * eta) / determinant
        y = (a * eta - c * xi) / determinant
        return x + self.crpix[0] - 1, y + self.crpix[1] - 1


@dataclass(frozen=True)
class GeneralProjection:
    """Any other projection or coordinate frame, by astropy."""

    wcs: WCS

    def pixel(self, ra: float, dec: float) -> tuple[float, float]:
        """Return the pixel (x, y), counted from zero, of an ICRS position in degrees.

        NaN if the projection does not have the position.
        """
        try:
            x, y = self.wcs.world_to_pixel(SkyCoord(ra, dec, unit="deg", frame="icrs"))
        except NoConvergence:
            return math.nan, math.nan
        return float(x), float(y)


@dataclass(frozen=True)
class CutoutImage:
    """One object in one band."""

    flux: npt.NDArray[np.float32]
    """(y, x), nanojansky, NaN where missing."""
    variance: npt.NDArray[np.float32] | None
    """(y, x), nanojansky²; none where the file has none."""
    wcs: PixelFinder | None
    """None where the file has no coordinates: its centre is then taken for the object."""
    band: str | None
    """g, r, i, z or y, where the file says so."""
    psf_fwhm: float
    """Arcsec, from the key PSF_FWHM; NaN where the file does not have it, or not as a seeing."""
    impossible_pixels: int = 0
    """Pixels beyond any flux, which count as missing."""


def pixel_axes(wcs: PixelFinder, ra: float, dec: float) -> npt.NDArray[np.float64]:
    """Measure scale and orientation of the pixels at a sky position.

    Parameters
    ----------
    wcs : PixelFinder
        Coordinates of the image.
    ra, dec : float
        The position, degrees (ICRS).

    Returns
    -------
    (2, 2) array
        Pixels along x and y (first axis) per arcsec to the east and to the north (second axis). NaN if the position is
        not in the projection or within 0.1 degrees of a pole.

    Examples
    --------
    >>> plane = TangentPlane((1.0, 1.0), (150.0, 2.0), (-0.2 / 3600, 0.0, 0.0, 0.2 / 3600))
    >>> pixel_axes(plane, 150.0, 2.0).round(3) + 0.0
    array([[-5.,  0.],
           [ 0.,  5.]])
    """
    if abs(dec) > 89.9:
        return np.full((2, 2), np.nan)
    step = 1.0 / 3600.0
    here = np.array(wcs.pixel(ra, dec))
    east = np.array(wcs.pixel(ra + step / math.cos(math.radians(dec)), dec))
    north = np.array(wcs.pixel(ra, dec + step))
    return np.stack([east - here, north - here], axis=1)


def place_on_grid(flux: Floats, wcs: PixelFinder | None, ra: float, dec: float, size: int) -> npt.NDArray[np.float32]:
    """Cut or pad an image to the common grid, moved by whole pixels.

    Parameters
    ----------
    flux : (y, x) array
        The image.
    wcs : PixelFinder or None
        Its coordinates; without any, the image's centre is taken for the object.
    ra, dec : float
        Position of the object, degrees (ICRS).
    size : int
        Side of the grid, pixels.

    Returns
    -------
    (size, size) float32 array
        NaN outside ``flux``. The object is within half a pixel of the centre, ``(size - 1) / 2``; where two pixels are
        equally near, it falls on pixel ``size // 2``. All NaN where the object is not near ``flux`` at all.

    Examples
    --------
    >>> place_on_grid(np.arange(9.0).reshape(3, 3), None, ra=150.0, dec=2.0, size=5)
    array([[nan, nan, nan, nan, nan],
           [nan,  0.,  1.,  2., nan],
           [nan,  3.,  4.,  5., nan],
           [nan,  6.,  7.,  8., nan],
           [nan, nan, nan, nan, nan]], dtype=float32)
    """
    height, width = flux.shape
    x, y = wcs.pixel(ra, dec) if wcs is not None else ((width - 1) / 2, (height - 1) / 2)
    grid = np.full((size, size), np.nan, dtype=np.float32)
    if not (math.isfinite(x) and math.isfinite(y)):
        return grid
    left = math.ceil(x - size / 2 - PIXEL_TOLERANCE)
    low = math.ceil(y - size / 2 - PIXEL_TOLERANCE)
    rows = slice(max(low, 0), min(low + size, height))
    columns = slice(max(left, 0), min(left + size, width))
    if rows.start < rows.stop and columns.start < columns.stop:
        grid[rows.start - low : rows.stop - low, columns.start - left : columns.stop - left] = flux[rows, columns]
    return grid
