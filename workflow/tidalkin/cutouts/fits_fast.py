"""Read the planes of a FITS file.

Millions of small files pass through here. Plain FITS is parsed directly, several times faster than astropy does it.
Compressed files and unusual headers go to astropy.
"""

from __future__ import annotations

import gzip
import io
import math
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from tidalkin.errors import TidalkinError

BLOCK = 2880  # FITS standard 4.0, section 3.1
CARD = 80
DTYPE_OF_BITPIX = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
# What astropy raises on broken FITS files.
ASTROPY_FAULTS = (OSError, ValueError, TypeError, KeyError, IndexError, MemoryError, fits.VerifyError, zlib.error)
LARGEST_FILE = 1 << 29
"""Most bytes of an unpacked file: 300 arcsec in five bands, with masks and variances in double precision, are less."""
Header = Mapping[str, Any]  # `_Cards` below, or astropy's own


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
        """Return the value of a key, without an exception for a missing one."""
        return self[key] if key in self._texts else default

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


# The bands of one object have the same headers but for HDU 0, and that is the same for all objects of a band.
_cards = lru_cache(maxsize=64)(_Cards)


def _value(text: str) -> str | bool | int | float | None:
    """Return the value of a card, without its comment (FITS standard 4.0, section 4.2)."""
    text = text.strip()
    if text.startswith("'"):
        string = re.match(r"'((?:[^']|'')*)'", text)
        return string[1].replace("''", "'").rstrip() if string else None
    text = text.partition("/")[0].strip()
    if text in ("T", "F"):
        return text == "T"
    if "_" in text:  # Python takes 1_000 for a number
        return None
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
    """Return the cards of the header at ``start``, and the start of its data."""
    end = start
    for end in range(start, len(content) - BLOCK + 1, BLOCK):
        found = content.find(b"END" + b" " * (CARD - 3), end, end + BLOCK)
        if found >= 0 and (found - start) % CARD == 0:
            return content[start:found], end + BLOCK
    raise TidalkinError(f"{name}: is cut short in the header at byte {start}: fetch or copy the file again")


def _is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a header's value is a number, which T and F are not."""
    return type(value) in (int, float)


def _integer(header: Header, key: str, name: str, default: int | None = None) -> int:
    value = header.get(key, default)
    if not (_is_number(value) and isinstance(value, int)):
        raise TidalkinError(f"{name}: has {key} = {value!r} in a FITS header where a whole number is due")
    return value


def _number(header: Header, key: str, name: str, default: float) -> float:
    value = header.get(key, default)
    if not _is_number(value):
        raise TidalkinError(f"{name}: has {key} = {value!r} in a FITS header where a number is due")
    return value


def _plain_planes(content: bytes, name: str) -> tuple[Header, list[_Plane]]:
    """Return the header of HDU 0 and all image HDUs up to the variance.

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
    """Compute physical values from stored ones (FITS standard 4.0, section 4.4.2.5)."""
    scale, zero = _number(cards, "BSCALE", name, 1), _number(cards, "BZERO", name, 0)
    is_integer = pixels.dtype.kind in "iu"
    blank = cards.get("BLANK") if is_integer else None
    if scale == 1 and zero == 0:
        physical = pixels
    elif is_integer and scale == 1 and zero % 1 == 0:
        physical = _shifted(pixels, int(zero))
    else:
        physical = _scaled_as_doubles(pixels, scale, zero)
    if _is_number(blank):
        physical = physical.astype(np.float64)
        physical[pixels == blank] = np.nan
    return physical


def _shifted(pixels: npt.NDArray[Any], zero: int) -> npt.NDArray[Any]:
    """Add a whole number to whole numbers, exactly where the sums have 64 bits.

    Unsigned integers are stored as signed ones with a BZERO of half their range. In double precision, 2**63 would
    swallow every pixel.
    """
    lowest, highest = int(pixels.min(initial=0)) + zero, int(pixels.max(initial=0)) + zero
    if lowest >= -(2**63) and highest < 2**63:
        kind: type[np.int64 | np.uint64] = np.int64
    elif lowest >= 0 and highest < 2**64:
        kind = np.uint64
    else:
        return _scaled_as_doubles(pixels, 1, zero)
    # Modulo 2**64, the sum is right in either type.
    return (pixels.astype(np.int64).view(np.uint64) + np.uint64(zero % 2**64)).view(kind)


def _scaled_as_doubles(pixels: npt.NDArray[Any], scale: float, zero: float) -> npt.NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):  # pixels that overflow are impossible ones
        return pixels.astype(np.float64) * scale + float(zero)


def _line(error: BaseException) -> str:
    """Return an error's message in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _astropy_planes(content: bytes, name: str) -> tuple[Header, list[_Plane]]:
    """Return the same as `_plain_planes` for any FITS file that astropy reads."""
    try:
        with warnings.catch_warnings(), fits.open(io.BytesIO(content), memmap=False) as hdus:
            warnings.simplefilter("ignore", fits.verify.VerifyWarning)
            images = [hdu for hdu in hdus if isinstance(hdu, fits.ImageHDU | fits.CompImageHDU | fits.PrimaryHDU)]
            # Before any pixel is unpacked: a few bytes can stand for gigabytes.
            _check_size(sum(8 * math.prod(hdu.shape) for hdu in images if hdu.shape), name)
            planes = [_Plane(_plane_name(hdu.header), hdu.header, hdu.data) for hdu in images if hdu.data is not None]
            return hdus[0].header, planes
    except ASTROPY_FAULTS as error:
        raise TidalkinError(f"{name}: cannot be read as FITS ({_line(error)}): fetch or copy the file again") from None


def unzipped(content: bytes, name: str) -> bytes:
    """Return the content of a file, decompressed if it is a gzip file.

    Raises
    ------
    TidalkinError
        If it is damaged, or unpacks to more than `LARGEST_FILE` bytes.

    Examples
    --------
    >>> unzipped(gzip.compress(b"SIMPLE  ="), "42.fits.gz")
    b'SIMPLE  ='
    """
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            plain = file.read(LARGEST_FILE + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise TidalkinError(f"{name}: cannot be unzipped ({error}): fetch or copy the file again") from None
    _check_size(len(plain), name)
    return plain


def _check_size(size: float, name: str) -> None:
    if size > LARGEST_FILE:
        raise TidalkinError(
            f"{name}: unpacks to more than {LARGEST_FILE >> 20} MiB, more than any cutout: fetch or copy the file again"
        )


def _planes(content: bytes, name: str) -> tuple[Header, list[_Plane]]:
    if not content:
        raise TidalkinError(f"{name}: is empty: fetch or copy the file again")
    content = unzipped(content, name)
    if not content.startswith(b"SIMPLE  ="):
        raise TidalkinError(f"{name}: is not a FITS file (it begins with {content[:16]!r})")
    try:
        return _plain_planes(content, name)
    except _Unusual:
        return _astropy_planes(content, name)
