"""The FITS layout of an HSC cutout: its image, mask and variance planes to arrays in nanojansky, and back.

One file holds one object in one band, as HSC's cutout service sends it: HDU 0 with the photometric calibration, then
the image, its mask and its variance. This module knows what is in such a file; where files come from is
`tidalkin.sources`, what becomes of them is `tidalkin.images`.

Millions of small files pass through here, so that plain FITS is read and written by a few lines of our own, several
times faster than astropy. Whatever is not plain (compressed, an unusual projection) goes to astropy.
"""

from __future__ import annotations

import gzip
import io
import math
import re
import warnings
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS, NoConvergence

from tidalkin.config import PIXEL_SCALE_ARCSEC
from tidalkin.errors import TidalkinError

NANOJANSKY_OF_MAGNITUDE_ZERO = 10 ** (31.4 / 2.5)  # AB: Oke & Gunn 1983, ApJ 266, 713
BLOCK = 2880  # FITS standard 4.0, section 3.1
CARD = 80
DTYPE_OF_BITPIX = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
# What astropy raises on broken FITS files.
ASTROPY_FAULTS = (OSError, ValueError, TypeError, KeyError, IndexError, MemoryError, fits.VerifyError, zlib.error)
# Ties between two nearest pixels go one way, also where two bands' WCS differ in the last digits.
PIXEL_TOLERANCE = 1e-3

Floats = npt.NDArray[np.floating[Any]]
Header = Mapping[str, Any]  # `_Cards` below, or astropy's own


# --- where a sky position is in an image -------------------------------------------------------------------------


class PixelFinder(Protocol):
    """Anything that finds a sky position in an image."""

    def pixel(self, ra: float, dec: float) -> tuple[float, float]:
        """Pixel position (x, y) of a position in degrees (ICRS), counted from zero; NaN where it has none."""
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
        """Pixel position (x, y) of a position in degrees (ICRS), counted from zero; NaN where it has none."""
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
        """Pixel position (x, y) of a position in degrees (ICRS), counted from zero; NaN where it has none."""
        try:
            x, y = self.wcs.world_to_pixel(SkyCoord(ra, dec, unit="deg", frame="icrs"))
        except NoConvergence:
            return math.nan, math.nan
        return float(x), float(y)


@dataclass(frozen=True)
class BandCutout:
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
    """Arcsec, from the key PSF_FWHM; NaN where the file does not have it."""


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


# --- FITS as it is -----------------------------------------------------------------------------------------------


class _Unusual(Exception):
    """The file is FITS, but of a kind that only astropy reads."""


class _Cards(Mapping[str, Any]):
    """The keyed cards of one header, their values read when first asked for."""

    def __init__(self, block: bytes) -> None:
        self.block = block
        self._texts: dict[str, str] = {}
        self._values: dict[str, Any] = {}
        text = block.decode("ascii", "replace")
        for start in range(0, len(text), CARD):
            if text[start + 8 : start + 10] == "= ":
                self._texts[text[start : start + 8].rstrip()] = text[start + 10 : start + CARD]
            elif text.startswith("HIERARCH ", start):
                key, _, value = text[start + 9 : start + CARD].partition("=")
                self._texts[key.strip().upper()] = value

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            self._values[key] = _value(self._texts[key])
        return self._values[key]

    def __contains__(self, key: object) -> bool:
        return key in self._texts

    def get(self, key: str, default: Any = None) -> Any:
        """As any mapping's, which would raise and catch an error for each key that is not there."""
        return self[key] if key in self._texts else default

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


# The bands of one object have the same headers but for HDU 0, and that is the same for all objects of a band.
_cards = lru_cache(maxsize=64)(_Cards)


def _value(text: str) -> str | bool | int | float | None:
    """The value of a card, without its comment (FITS standard 4.0, section 4.2)."""
    text = text.strip()
    if text.startswith("'"):
        string = re.match(r"'((?:[^']|'')*)'", text)
        return string[1].replace("''", "'").rstrip() if string else None
    text = text.partition("/")[0].strip()
    if text in ("T", "F"):
        return text == "T"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text.replace("D", "E").replace("d", "e"))
    except ValueError:
        return None


@dataclass(frozen=True)
class _Plane:
    """One image HDU."""

    name: str
    header: Header
    pixels: npt.NDArray[Any]


def _card_block(content: bytes, start: int, name: str) -> tuple[bytes, int]:
    """The cards of the header that starts at ``start``, and where its data start."""
    end = start
    for end in range(start, len(content) - BLOCK + 1, BLOCK):
        found = content.find(b"END" + b" " * (CARD - 3), end, end + BLOCK)
        if found >= 0 and (found - start) % CARD == 0:
            return content[start:found], end + BLOCK
    raise TidalkinError(f"{name}: is cut short in the header at byte {start}: fetch or copy the file again")


def _integer(header: Header, key: str, name: str, default: int | None = None) -> int:
    value = header.get(key, default)
    if type(value) is not int:  # T is no number
        raise TidalkinError(f"{name}: has {key} = {value!r} in a FITS header where a whole number is due")
    return value


def _number(header: Header, key: str, name: str, default: float) -> float:
    value = header.get(key, default)
    if type(value) not in (int, float):
        raise TidalkinError(f"{name}: has {key} = {value!r} in a FITS header where a number is due")
    return value


def _plain_planes(content: bytes, name: str) -> tuple[Header, list[_Plane]]:
    """The header of HDU 0 and all image HDUs, up to and with the variance.

    Raises
    ------
    _Unusual
        If a plane is compressed.
    TidalkinError
        If the file is cut short or has impossible sizes.
    """
    primary: _Cards | None = None
    planes: list[_Plane] = []
    start = 0
    while start < len(content):
        if start and not content.startswith(b"XTENSION", start):
            break  # special records after the last HDU: FITS standard 4.0, section 3.5
        block, start = _card_block(content, start, name)
        cards = _cards(block)
        axes = [_integer(cards, f"NAXIS{i + 1}", name) for i in range(_integer(cards, "NAXIS", name))]
        bitpix = _integer(cards, "BITPIX", name)
        if cards.get("ZIMAGE"):
            raise _Unusual("compressed")
        if bitpix not in DTYPE_OF_BITPIX or min(axes, default=0) < 0:
            raise TidalkinError(f"{name}: has BITPIX {bitpix} and axes {axes} in a header, which is not FITS")
        values = math.prod(axes) if axes else 0
        size = (_integer(cards, "PCOUNT", name, 0) + values) * abs(bitpix) // 8 * _integer(cards, "GCOUNT", name, 1)
        end = start + -(-size // BLOCK) * BLOCK
        if not start <= end <= len(content):
            raise TidalkinError(
                f"{name}: is cut short at {len(content)} bytes of at least {end}: fetch or copy the file again"
            )
        is_image = str(cards.get("XTENSION", "IMAGE")).strip() == "IMAGE"
        if is_image and (axes or primary is not None):
            pixels = np.frombuffer(content, DTYPE_OF_BITPIX[bitpix], values, start).reshape(axes[::-1] or 0)
            planes.append(_Plane(_plane_name(cards), cards, _scaled(pixels, cards, name)))
        primary = primary if primary is not None else cards
        start = end
        if {"IMAGE", "MASK", "VARIANCE"} <= {plane.name for plane in planes}:
            break
    assert primary is not None
    return primary, planes


def _plane_name(header: Header) -> str:
    # EXTTYPE is what hscPipe wrote before EXTNAME.
    return str(header.get("EXTNAME") or header.get("EXTTYPE") or "").strip().upper()


def _scaled(pixels: npt.NDArray[Any], cards: _Cards, name: str) -> npt.NDArray[Any]:
    """Physical values from stored ones (FITS standard 4.0, section 4.4.2.5)."""
    scale, zero = _number(cards, "BSCALE", name, 1), _number(cards, "BZERO", name, 0)
    blank = cards.get("BLANK") if pixels.dtype.kind in "iu" else None
    if scale == 1 and zero == 0 and blank is None:
        return pixels
    if pixels.dtype.kind in "iu" and pixels.dtype.itemsize < 8 and scale == 1 and zero % 1 == 0 and blank is None:
        return pixels.astype(np.int64) + int(zero)  # unsigned integers are stored so
    physical = pixels.astype(np.float64) * scale + zero
    if blank is not None:
        physical[pixels == blank] = np.nan
    return physical


def _line(error: BaseException) -> str:
    """An error's message in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _astropy_planes(content: bytes, name: str) -> tuple[Header, list[_Plane]]:
    """The same as `_plain_planes`, of any FITS file that astropy reads."""
    try:
        with warnings.catch_warnings(), fits.open(io.BytesIO(content), memmap=False) as hdus:
            warnings.simplefilter("ignore", fits.verify.VerifyWarning)
            planes = [
                _Plane(_plane_name(hdu.header), hdu.header, hdu.data)
                for hdu in hdus
                if isinstance(hdu, fits.ImageHDU | fits.CompImageHDU | fits.PrimaryHDU) and hdu.data is not None
            ]
            return hdus[0].header, planes
    except ASTROPY_FAULTS as error:
        raise TidalkinError(f"{name}: cannot be read as FITS ({_line(error)}): fetch or copy the file again") from None


def _unzipped(content: bytes, name: str) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise TidalkinError(f"{name}: cannot be unzipped ({error}): fetch or copy the file again") from None


def _planes(content: bytes, name: str) -> tuple[Header, list[_Plane]]:
    if not content:
        raise TidalkinError(f"{name}: is empty: fetch or copy the file again")
    if content.startswith(b"\x1f\x8b"):
        content = _unzipped(content, name)
    if not content.startswith(b"SIMPLE  ="):
        raise TidalkinError(f"{name}: is not a FITS file (it begins with {content[:16]!r})")
    try:
        return _plain_planes(content, name)
    except _Unusual:
        return _astropy_planes(content, name)


# --- reading -----------------------------------------------------------------------------------------------------


def read_cutout(
    content: bytes | Path,
    name: str,
    bad_mask_planes: Collection[str] = (),
    bad_mask_bits: Collection[int] = (),
) -> BandCutout:
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
    BandCutout
        In nanojansky, by FLUXMAG0 or else by BUNIT. Pixels that are bad or not finite are NaN; an image without any
        good pixel is a valid one.

    Raises
    ------
    TidalkinError
        If the file is empty, cut short, not FITS, without an image or with one of no pixels, or has no calibration.
    """
    if isinstance(content, Path):
        content = read_file(content)
    primary, planes = _planes(content, name)
    image, mask, variance = _by_role(planes, name)
    to_nanojansky = _nanojansky_per_count(image.header, primary, name)
    flux = image.pixels.astype(np.float32)
    flux *= np.float32(to_nanojansky)
    missing = ~np.isfinite(flux)
    if mask is not None:
        missing |= _is_bad(mask, bad_mask_planes, bad_mask_bits, name)
    flux[missing] = np.nan
    return BandCutout(
        flux=flux,
        variance=None if variance is None else variance.pixels.astype(np.float32) * np.float32(to_nanojansky**2),
        wcs=_wcs(image.header, name),
        band=_band(_first("FILTER", image.header, primary)),
        psf_fwhm=_psf_fwhm(_first("PSF_FWHM", image.header, primary)),
    )


def read_file(path: Path) -> bytes:
    """The bytes of a file.

    Raises
    ------
    TidalkinError
        If it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise TidalkinError(f"{path}: cannot be read: {error.strerror}") from None


def _first(key: str, *headers: Header) -> Any:
    """The first header's value of ``key``; none where none has one."""
    return next((header.get(key) for header in headers if header.get(key) is not None), None)


def _by_role(planes: Sequence[_Plane], name: str) -> tuple[_Plane, _Plane | None, _Plane | None]:
    """Which plane is the image, which the mask, which the variance."""
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
    """The calibration: FLUXMAG0 (counts of magnitude zero) or the unit of the pixels.

    LSST pipelines after hscPipe 8 write BUNIT = 'nJy', with or without a FLUXMAG0 of 10**(31.4 / 2.5): the same.
    """
    counts_of_magnitude_zero = _first("FLUXMAG0", image, primary)
    if counts_of_magnitude_zero is not None:
        if not isinstance(counts_of_magnitude_zero, int | float) or not 0 < counts_of_magnitude_zero < math.inf:
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
    """Nanojansky in a unit of flux density; none where it is no such unit."""
    try:
        return float(units.Unit(unit).to(units.nJy))
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
    """`HSC-G` is g; `HSC-R2` and `HSC-I2`, the filters that replaced the first ones, are r and i."""
    match = re.fullmatch(r"(?:HSC-)?([GRIZY])2?", str(filter_name).strip().upper())
    return match[1].lower() if match else None


def _psf_fwhm(value: object) -> float:
    return float(value) if isinstance(value, int | float) and value > 0 else math.nan


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
        and str(header.get("CUNIT1", "deg")).strip() == str(header.get("CUNIT2", "deg")).strip() == "deg"
        # FK5 of J2000 is ICRS within 0.02 arcsec, a tenth of a pixel
        and str(header.get("RADESYS", "ICRS")).strip() in ("ICRS", "FK5")
        and header.get("EQUINOX", 2000.0) == 2000.0
        # the default of LONPOLE is another at the pole itself: section 2.4 of the paper
        and header.get("LONPOLE", 180.0) == 180.0
        and header.get("CRVAL2") != 90.0
        and header.get("CROTA2", 0.0) == 0.0
        and not any(key.startswith(("PV1_", "PV2_")) for key in header)
    )


def _general_wcs(header: Header, name: str) -> GeneralProjection:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of keys that astropy mends by itself
            plain = fits.Header.fromstring(header.block) if isinstance(header, _Cards) else header
            wcs = WCS(plain, naxis=2)
            on_sky = isinstance(wcs.pixel_to_world(0.0, 0.0), SkyCoord)
    except ASTROPY_FAULTS as error:
        raise TidalkinError(f"{name}: has coordinates that astropy cannot read ({_line(error)})") from None
    if not on_sky:
        raise TidalkinError(f"{name}: has coordinates {list(wcs.wcs.ctype)} that are not on the sky")
    return GeneralProjection(wcs)


# --- writing -----------------------------------------------------------------------------------------------------


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
