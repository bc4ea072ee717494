"""Read an HSC cutout: image, mask and variance planes, calibrated to nanojansky.

One file holds one object in one band, as HSC's cutout service sends it: HDU 0 with the photometric calibration, then
the image, its mask and its variance.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.units.function import FunctionUnitBase
from astropy.wcs import WCS

from tidalkin.constants import LARGEST_PSF_FWHM_ARCSEC, ZERO_POINT_AB
from tidalkin.cutouts.fits_fast import (
    ASTROPY_FAULTS,
    Header,
    _card_block,
    _Cards,
    _cards,
    _integer,
    _is_number,
    _line,
    _number,
    _Plane,
    _plane_name,
    _planes,
)
from tidalkin.cutouts.grid import CutoutImage, GeneralProjection, PixelFinder, TangentPlane
from tidalkin.errors import TidalkinError

LARGEST_FLUX = 1e12
"""Flux beyond which a pixel counts as missing, nanojansky: magnitude 1.4 in one pixel, far above saturation."""
DISTORTIONS = ("PV1_", "PV2_", "A_ORDER", "B_ORDER", "CPDIS", "CQDIS", "D2IM")
"""Beginnings of the keys of distorted coordinates: TPV, SIP and tables. astropy applies SIP under any CTYPE."""
DEGREES = ("deg", "degree", "degrees", "degs", "deg.")
"""Words for degrees in CUNIT. Only the first is FITS; the others are in use."""
NANOJANSKY_OF_MAGNITUDE_ZERO = 10 ** (ZERO_POINT_AB / 2.5)


def read_cutout(
    content: bytes | Path,
    name: str,
    bad_mask_planes: Collection[str] = (),
    bad_mask_bits: Collection[int] = (),
) -> CutoutImage:
    """Read one cutout.

    Parameters
    ----------
    content : bytes or Path
        The FITS file. Its planes are told by EXTNAME (`IMAGE`, `MASK`, `VARIANCE`) or, where no plane has one of these
        names, by their order: image, mask (of whole numbers), variance. Mask and variance may be absent.
    name : str
        What to call the file in an error.
    bad_mask_planes : collection of str
        Mask planes whose pixels are missing, found by the header's ``MP_<plane>``. A plane that the header does not
        name is simply not in this image.
    bad_mask_bits : collection of int
        Bit numbers whose pixels are missing, used instead where the header names no planes at all.

    Returns
    -------
    CutoutImage
        In nanojansky, by FLUXMAG0 or else by BUNIT. Pixels that are bad, not finite or beyond `LARGEST_FLUX` on either
        side are NaN. An image without any good pixel is valid.

    Raises
    ------
    TidalkinError
        If the file is empty, cut short, not FITS, without an image or with one of no pixels, or has no calibration.

    Examples
    --------
    >>> from tidalkin.cutouts.write import write_cutout
    >>> image, mask = np.array([[1, 5, 2]], np.float32), np.array([[0, 1, 0]], np.int32)
    >>> options = {"band": "i", "ra": 150.0, "dec": 2.0, "fluxmag0": 10**10.8, "mask_planes": {"BAD": 0}}
    >>> cutout = read_cutout(write_cutout(image, mask, None, **options), "42.fits", bad_mask_planes=["BAD"])
    >>> cutout.band, cutout.flux  # counts of zero point 27 became nanojansky
    ('i', array([[ 57.543995,        nan, 115.08799 ]], dtype=float32))
    """
    if isinstance(content, Path):
        content = read_file(content)
    primary, planes = _planes(content, name)
    image, mask, variance = _by_role(planes, name)
    to_nanojansky = _nanojansky_per_count(image.header, primary, name)
    with np.errstate(over="ignore"):  # pixels that overflow are impossible ones
        flux = image.pixels.astype(np.float32)
        flux *= np.float32(to_nanojansky)
    impossible = np.abs(flux) > LARGEST_FLUX
    missing = impossible | np.isnan(flux)
    if mask is not None:
        bad = _is_bad(mask, bad_mask_planes, bad_mask_bits, name)
        impossible &= ~bad
        missing |= bad
    flux[missing] = np.nan
    return CutoutImage(
        flux=flux,
        variance=None if variance is None else _variance(variance, to_nanojansky),
        wcs=_wcs(_with_coordinates(image.header, primary), name),
        band=_band(_first("FILTER", image.header, primary)),
        psf_fwhm=_psf_fwhm(_first("PSF_FWHM", image.header, primary)),
        impossible_pixels=int(impossible.sum()),
    )


def _variance(plane: _Plane, to_nanojansky: float) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # an infinite variance does no harm, because the noise is a median
        return plane.pixels.astype(np.float32) * np.float32(to_nanojansky**2)


@dataclass(frozen=True)
class Geometry:
    """Size and coordinates of an image."""

    width: int
    height: int
    wcs: PixelFinder | None
    """None if the file has no coordinates."""


def read_geometry(content: bytes, name: str) -> Geometry:
    """Read size and coordinates of a cutout's image from its headers.

    Parameters
    ----------
    content : bytes
        The FITS file.
    name : str
        Name of the file in an error.

    Raises
    ------
    TidalkinError
        If the headers cannot be read, or no plane is the image.

    Examples
    --------
    >>> from tidalkin.cutouts.write import write_cutout
    >>> image = np.zeros((2, 3), np.float32)
    >>> file = write_cutout(image, None, None, band="i", ra=150.0, dec=2.0, fluxmag0=10**10.8, mask_planes={})
    >>> geometry = read_geometry(file, "42.fits")
    >>> geometry.width, geometry.height, geometry.wcs.pixel(150.0, 2.0)
    (3, 2, (1.0, 0.5))
    """
    block, start = _card_block(content, 0, name)
    primary: Header = _cards(block)
    if primary.get("NAXIS") == 0:
        # The usual layout: the image is HDU 1. Every cutout of a download passes here.
        header = _Cards(_card_block(content, start, name)[0])
        if _plane_name(header) == "IMAGE" and header.get("NAXIS") == 2 and not header.get("ZIMAGE"):
            width, height = (_integer(header, key, name) for key in ("NAXIS1", "NAXIS2"))
            return Geometry(width, height, _wcs(_with_coordinates(header, primary), name))
    primary, planes = _planes(content, name)
    image = _by_role(planes, name)[0]
    height, width = image.pixels.shape
    return Geometry(width, height, _wcs(_with_coordinates(image.header, primary), name))


def read_file(path: Path) -> bytes:
    """Read the bytes of a file.

    Raises
    ------
    TidalkinError
        If it cannot be read.

    Examples
    --------
    >>> read_file(Path("no_such_folder/42.fits"))
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: no_such_folder/42.fits: cannot be read: No such file or directory
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise TidalkinError(f"{path}: cannot be read: {error.strerror}") from None


def _first(key: str, *headers: Header) -> Any:
    """Return the value of ``key`` in the first header that has it, or None."""
    return next((header.get(key) for header in headers if header.get(key) is not None), None)


def _by_role(planes: Sequence[_Plane], name: str) -> tuple[_Plane, _Plane | None, _Plane | None]:
    """Find the image, the mask and the variance among the planes."""
    by_name = {plane.name: plane for plane in reversed(planes)}  # the first of a name counts
    if by_name.keys() & {"IMAGE", "MASK", "VARIANCE"}:
        unnamed = [plane for plane in planes if not plane.name]
        image = by_name.get("IMAGE") or (unnamed[0] if len(unnamed) == 1 else None)
        mask, variance = by_name.get("MASK"), by_name.get("VARIANCE")
    else:
        image, mask, variance = _by_order(planes, name)
    if image is None:
        found = ", ".join(plane.name or "one without a name" for plane in planes) or "none"
        raise TidalkinError(f"{name}: has no plane that is the image (planes: {found}): name it by EXTNAME = 'IMAGE'")
    for plane, role in ((image, "image"), (mask, "mask"), (variance, "variance")):
        if plane is not None:
            _check_shape(plane, role, image, name)
    if mask is not None and mask.pixels.dtype.kind not in "iu":
        raise TidalkinError(f"{name}: has a mask of {mask.pixels.dtype.name} instead of whole numbers")
    return image, mask, variance


def _by_order(planes: Sequence[_Plane], name: str) -> tuple[_Plane | None, _Plane | None, _Plane | None]:
    kinds = "".join("n" if plane.pixels.dtype.kind in "iu" else "x" for plane in planes[:3])
    # A lone image may be of whole numbers; beside others only the mask is.
    if kinds in ("", "n", "x", "xn", "xnx"):
        image, mask, variance = [*planes[:3], None, None, None][:3]
        return image, mask, variance
    order = ", ".join("whole numbers" if kind == "n" else "real numbers" for kind in kinds)
    raise TidalkinError(
        f"{name}: has planes of {order} where image, mask and variance are due in this order: "
        "name them by EXTNAME = 'IMAGE', 'MASK' and 'VARIANCE'"
    )


def _check_shape(plane: _Plane, role: str, image: _Plane, name: str) -> None:
    shape = plane.pixels.shape
    if 0 in shape or not shape:
        raise TidalkinError(
            f"{name}: has an {role} plane of zero size" if role == "image" else f"{name}: {role} is empty"
        )
    if len(shape) != 2:
        raise TidalkinError(f"{name}: has {len(shape)} axes in its {role}, but one band's {role} has two")
    if shape != image.pixels.shape:
        raise TidalkinError(f"{name}: has a {role} of shape {shape} beside an image of shape {image.pixels.shape}")


def _nanojansky_per_count(image: Header, primary: Header, name: str) -> float:
    """Return the calibration, from FLUXMAG0 (counts of magnitude zero) or BUNIT.

    LSST pipelines after hscPipe 8 write BUNIT = 'nJy', with or without a FLUXMAG0 of 10**(31.4 / 2.5): the same.
    """
    counts_of_magnitude_zero = _first("FLUXMAG0", image, primary)
    if counts_of_magnitude_zero is not None:
        if not (_is_number(counts_of_magnitude_zero) and 0 < counts_of_magnitude_zero < math.inf):
            raise TidalkinError(
                f"{name}: has FLUXMAG0 = {counts_of_magnitude_zero!r}, but it must be a positive number"
            )
        return NANOJANSKY_OF_MAGNITUDE_ZERO / counts_of_magnitude_zero
    unit = _first("BUNIT", image, primary)
    factor = None if unit is None else _nanojansky_per(str(unit).strip())
    if factor is None:
        raise TidalkinError(
            f"{name}: has no photometric calibration (no FLUXMAG0, and BUNIT is {unit!r}): "
            "add FLUXMAG0 = 10**(0.4 * zero point), or BUNIT = 'nJy'"
        )
    return factor


@lru_cache
def _nanojansky_per(unit: str) -> float | None:
    """Convert a unit of flux density to nanojansky; None for any other, also a magnitude."""
    try:
        found = units.Unit(unit)
        return None if isinstance(found, FunctionUnitBase) else float(found.to(units.nJy))
    except (ValueError, units.UnitConversionError):
        return None


def _is_bad(mask: _Plane, bad_planes: Collection[str], bad_bits: Collection[int], name: str) -> npt.NDArray[np.bool_]:
    named = {key[3:]: _integer(mask.header, key, name) for key in mask.header if key.startswith("MP_")}
    bits = [named[plane.upper()] for plane in bad_planes if plane.upper() in named] if named else list(bad_bits)
    # Unsigned, since the highest bit is one like the others; a bit beyond the mask's type is nowhere set.
    unsigned = np.dtype(mask.pixels.dtype.str.replace("i", "u"))
    wanted = np.array(sum(1 << bit for bit in set(bits) if 0 <= bit < 8 * unsigned.itemsize), unsigned)
    # The order of bytes does not matter where it is the same on both sides, and the machine's own is faster.
    native = unsigned.newbyteorder("=")
    return (mask.pixels.view(native) & wanted.view(native)) != 0


def _band(filter_name: object) -> str | None:
    """Return the band of a filter.

    `HSC-R2` and `HSC-I2` replaced the first filters of r and i.
    """
    match = re.fullmatch(r"(?:HSC-)?([GRIZY])2?", str(filter_name).strip().upper())
    return match[1].lower() if match else None


def _psf_fwhm(value: object) -> float:
    return float(value) if _is_number(value) and 0 < value <= LARGEST_PSF_FWHM_ARCSEC else math.nan


def _with_coordinates(image: Header, primary: Header) -> Header:
    """Return the header that has the image's coordinates."""
    return primary if lacks_coordinates(image, primary) else image


def lacks_coordinates(image: Header, primary: Header) -> bool:
    """Tell whether an image has its coordinates in HDU 0 only.

    Those of other pixels in HDU 0 do not count.

    Examples
    --------
    >>> lacks_coordinates({"NAXIS": 2}, {"NAXIS": 0, "CTYPE1": "RA---TAN"})
    True
    >>> lacks_coordinates({"NAXIS": 2, "CTYPE1": "RA---TAN"}, {"NAXIS": 0, "CTYPE1": "RA---TAN"})
    False
    """
    if "CTYPE1" in image or "CTYPE1" not in primary:
        return False
    sizes = ("NAXIS", "NAXIS1", "NAXIS2")
    return primary.get("NAXIS") == 0 or all(image.get(key) == primary.get(key) for key in sizes)


def _wcs(header: Header, name: str) -> PixelFinder | None:
    if "CTYPE1" not in header:
        return None
    if _is_plain_tangent(header):
        # PC is the unit matrix where it is not given, and CD is zero.
        has_cd = "CD1_1" in header or "CD2_2" in header
        stem, diagonal = ("CD", 0.0) if has_cd else ("PC", 1.0)
        scale = {axis: 1.0 if has_cd else _number(header, f"CDELT{axis}", name, 1.0) for axis in (1, 2)}
        matrix = [
            _number(header, f"{stem}{i}_{j}", name, diagonal if i == j else 0.0) * scale[i]
            for i in (1, 2)
            for j in (1, 2)
        ]
        if matrix[0] * matrix[3] != matrix[1] * matrix[2]:
            return TangentPlane(
                crpix=(_number(header, "CRPIX1", name, 0.0), _number(header, "CRPIX2", name, 0.0)),
                crval=(_number(header, "CRVAL1", name, 0.0), _number(header, "CRVAL2", name, 0.0)),
                cd=(matrix[0], matrix[1], matrix[2], matrix[3]),
            )
    return _general_wcs(header, name)


def _is_plain_tangent(header: Header) -> bool:
    return (
        header.get("CTYPE1") == "RA---TAN"
        and header.get("CTYPE2") == "DEC--TAN"
        and all(str(header.get(key, "deg")).strip().lower() in DEGREES for key in ("CUNIT1", "CUNIT2"))
        # FK5 of J2000 is ICRS within 0.02 arcsec, a tenth of a pixel. RADECSYS and EPOCH are the earlier names.
        and str(header.get("RADESYS", header.get("RADECSYS", "ICRS"))).strip() in ("ICRS", "FK5")
        and header.get("EQUINOX", header.get("EPOCH", 2000.0)) == 2000.0
        # the default of LONPOLE is another at the pole itself: section 2.4 of the paper
        and header.get("LONPOLE", 180.0) == 180.0
        and header.get("CRVAL2") != 90.0
        and header.get("CROTA2", 0.0) == 0.0
        and not any(key.startswith(DISTORTIONS) for key in header)
    )


def _general_wcs(header: Header, name: str) -> GeneralProjection:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of keys that astropy corrects by itself
            plain = (
                fits.Header.fromstring(header.block) if isinstance(header, _Cards) else fits.Header(header, copy=True)
            )
            for key in ("CUNIT1", "CUNIT2"):
                if str(header.get(key)).strip().lower() in DEGREES:
                    plain[key] = "deg"
            wcs = WCS(plain, naxis=2)
            on_sky = isinstance(wcs.pixel_to_world(0.0, 0.0), SkyCoord)
    except ASTROPY_FAULTS as error:
        unit = re.search(r"\bIn (CUNIT\d)", str(error))
        if unit:
            raise TidalkinError(
                f"{name}: has {unit[1]} = {header.get(unit[1])!r} in its WCS, which is not a unit of angle in FITS: "
                "write 'deg' if the numbers are degrees"
            ) from None
        raise TidalkinError(f"{name}: has coordinates that astropy cannot read ({_line(error)})") from None
    if not on_sky:
        frame = f" (RADESYS = {wcs.wcs.radesys!r})" if wcs.wcs.radesys else ""
        raise TidalkinError(f"{name}: has coordinates {list(wcs.wcs.ctype)}{frame} that are not on the sky")
    if np.linalg.matrix_rank(wcs.pixel_scale_matrix) < 2:
        raise TidalkinError(f"{name}: has a WCS whose matrix (CD, or PC with CDELT) has no inverse: correct its header")
    return GeneralProjection(wcs)
