"""Write an HSC cutout: the FITS layout that `tidalkin.cutouts.read` reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.cutouts.fits_fast import BLOCK, CARD


def write_cutout(
    image: npt.NDArray[np.float32],
    mask: npt.NDArray[np.int32] | None,
    variance: npt.NDArray[np.float32] | None,
    *,
    band: str,
    ra: float,
    dec: float,
    fluxmag0: float,
    mask_planes: Mapping[str, int],
    psf_fwhm: float = math.nan,
) -> bytes:
    """Write one cutout in the layout of HSC's.

    Parameters
    ----------
    image : (y, x) float32 array
        Counts.
    mask : (y, x) int32 array or None
        Bits.
    variance : (y, x) float32 array or None
        Counts².
    band : str
        g, r, i, z or y.
    ra, dec : float
        Position of the image's centre, degrees (ICRS): between two pixels where a side is even. North is up, a pixel
        is 0.168 arcsec.
    fluxmag0 : float
        Counts of magnitude zero: ``10**(0.4 * zero_point)``.
    mask_planes : mapping of str to int
        Bit number of each mask plane.
    psf_fwhm : float
        Arcsec; not written where it is NaN.

    Returns
    -------
    bytes
        The FITS file: equal input gives equal bytes.

    Examples
    --------
    >>> from astropy.io import fits
    >>> image = np.zeros((64, 64), np.float32)
    >>> file = write_cutout(image, None, None, band="r", ra=150.0, dec=2.0, fluxmag0=10**10.8, mask_planes={})
    >>> header = fits.HDUList.fromstring(file)["IMAGE"].header
    >>> header["NAXIS1"], header["CRPIX1"], header["CRVAL1"]
    (64, 32.5, 150.0)
    """
    height, width = image.shape
    position = _position_cards(height, width, ra, dec)
    primary = _primary_cards(band, fluxmag0) + ([] if math.isnan(psf_fwhm) else [_card("PSF_FWHM", psf_fwhm)])
    parts = [_header(primary), *_hdu("IMAGE", image.astype(">f4"), position)]
    if mask is not None:
        named = [_card(f"MP_{plane}", bit) for plane, bit in mask_planes.items()]
        parts += _hdu("MASK", mask.astype(">i4"), position + named)
    if variance is not None:
        parts += _hdu("VARIANCE", variance.astype(">f4"), position)
    return b"".join(parts)


def _hdu(name: str, pixels: npt.NDArray[Any], cards: list[str]) -> list[bytes]:
    height, width = pixels.shape
    bitpix = -32 if pixels.dtype.kind == "f" else 32
    data = pixels.tobytes()
    return [_header(_image_cards(name, bitpix, height, width) + cards), data, bytes(-len(data) % BLOCK)]


def _header(cards: Sequence[str]) -> bytes:
    text = "".join(cards) + f"{'END':<{CARD}}"
    return (text + " " * (-len(text) % BLOCK)).encode("ascii")


def _card(key: str, value: str | bool | int | float) -> str:
    if isinstance(value, str):
        text = f"'{value:<8}'"
    elif isinstance(value, bool):
        text = f"{'T' if value else 'F':>20}"
    else:
        text = f"{value!r:>20}".upper()
    # A longer key goes by ESO's convention, as in HSC's own files: FITS registry, HIERARCH.
    return f"{f'{key:<8}= {text}' if len(key) <= 8 else f'HIERARCH {key} = {text.strip()}':<{CARD}}"


@lru_cache
def _primary_cards(band: str, fluxmag0: float) -> list[str]:
    start = [_card("SIMPLE", True), _card("BITPIX", 8), _card("NAXIS", 0), _card("EXTEND", True)]
    return [*start, _card("FLUXMAG0", float(fluxmag0)), _card("FILTER", f"HSC-{band.upper()}")]


@lru_cache
def _image_cards(name: str, bitpix: int, height: int, width: int) -> list[str]:
    sizes = {"BITPIX": bitpix, "NAXIS": 2, "NAXIS1": width, "NAXIS2": height, "PCOUNT": 0, "GCOUNT": 1}
    cards = [_card("XTENSION", "IMAGE")] + [_card(key, value) for key, value in sizes.items()]
    return [*cards, _card("EXTNAME", name)]


@lru_cache
def _fixed_position_cards(height: int, width: int) -> list[str]:
    step = PIXEL_SCALE_ARCSEC / 3600
    values: dict[str, str | float] = {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "CRPIX1": (width + 1) / 2,
        "CRPIX2": (height + 1) / 2,
        "CD1_1": -step,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": step,
        "RADESYS": "ICRS",
    }
    return [_card(key, value) for key, value in values.items()]


def _position_cards(height: int, width: int, ra: float, dec: float) -> list[str]:
    return [*_fixed_position_cards(height, width), _card("CRVAL1", float(ra)), _card("CRVAL2", float(dec))]
