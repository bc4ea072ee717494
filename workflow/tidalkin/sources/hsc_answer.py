"""The answer of HSC's cutout service: a tar stream, checked member by member as it comes.

What the service sends is not trusted. Nothing is written by a name the server chose, nothing is skipped or read beyond
a bound, and a stream counts as whole only when its end-of-archive block came. Names and order are those of
downloadCutout.py in HSC's data-access-tools (pdr3), of which the newest public copy is in lincc-frameworks/hyrax: there
members of type `coadd` are called ``<line>-cutout-…``, those of type `coadd/bg` ``<line>-coadd+bg-…``; line numbers
count from 2, since line 1 of the list is its header.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Self, cast

FITS_BLOCK = 2880
_CARD = 80
_END = b"END".ljust(_CARD)
_SLACK = 1 << 20
"""Bytes of the stream that headers, padding and read-ahead may take between two members."""

MEMBER_KINDS = {"coadd": "cutout", "coadd/bg": "coadd+bg"}
"""The service's word for an image type in a member's name."""

_MEMBER = re.compile(r"arch-\d+-\d+/(\d{1,6})-([a-z+]+)-([A-Za-z0-9-]+)-(\d{1,7})-(\w+)\.fits", re.ASCII)


class Fault(Exception):
    """Something went wrong with one request, which is worth another try.

    Attributes
    ----------
    server_away : bool
        The server did not answer at all or asked to come later, whatever was in the request.
    retry_after : float
        How long the server asked to wait, seconds; 0 if it did not.
    """

    def __init__(self, message: str, *, server_away: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.server_away = server_away
        self.retry_after = retry_after


@dataclass(frozen=True)
class Line:
    """One line of a request: one object in one band."""

    object_id: int
    band: str
    filter: str
    text: str
    """The line as it is sent, without its end."""

    @property
    def key(self) -> tuple[int, str]:
        """What names this line within a chunk."""
        return self.object_id, self.band


@dataclass(frozen=True)
class Member:
    """A cutout that passed every check."""

    line: Line
    tract: int
    content: bytes


@dataclass(frozen=True)
class Rejected:
    """A member that was not taken."""

    line: Line | None
    """The line it claims to answer, if that could be told."""
    why: str


class _Header(tarfile.TarInfo):
    """A member's header that never lets a broken stream pass for a finished one.

    `tarfile` ends its loop in silence on an empty, short or damaged header, as long as it is not the first.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        if len(buf) != tarfile.BLOCKSIZE:
            raise Fault("the tar stream ended before its end-of-archive block")
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not any(buf):  # the end-of-archive block, which tarfile handles
                raise
            raise Fault(f"not a tar header: {error}") from None


class _BoundedStream:
    """The pieces of an HTTP body as the file `tarfile` reads, with a bound on what is read before the next check."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._taken = 0
        self._limit = 0

    def allow(self, size: int) -> None:
        """Let ``size`` more bytes be read."""
        self._limit = self._taken + size

    def read(self, _size: int = -1) -> bytes:
        """The next piece, whatever its size: `tarfile` joins and cuts pieces itself."""
        if self._taken > self._limit:
            raise Fault("the stream holds more bytes than its members claim")
        piece = next(self._pieces, b"")
        self._taken += len(piece)
        return piece


def read_answer(
    pieces: Iterator[bytes], asked: Sequence[Line], *, image_type: str, rerun: str, largest: int
) -> Iterator[Member | Rejected]:
    """Read a tar stream, and hand on each member when it is complete and checked.

    Parameters
    ----------
    pieces : iterator of bytes
        The body of the response.
    asked : sequence of Line
        The lines of the request, in order.
    image_type, rerun : str
        What was asked for.
    largest : int
        Bytes a cutout of the size asked for can have at most.

    Raises
    ------
    Fault
        Where the stream breaks, is no tar, or claims a member that cannot be.
    """
    stream = _BoundedStream(pieces)
    stream.allow(_SLACK)
    try:
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", tarinfo=_Header) as tar:
            for info in tar:
                if info.size > largest:
                    raise Fault(f"member {info.name[:80]!r} claims {info.size} bytes, and {largest} are possible")
                stream.allow(info.size + largest + _SLACK)
                if not info.isdir():
                    yield _checked(tar, info, asked, MEMBER_KINDS[image_type], rerun)
        stream.allow(_SLACK)
        while stream.read():  # what follows the archive, so that the connection can be used again
            pass
    except tarfile.TarError as error:
        raise Fault(f"the tar stream is damaged: {error}") from None


def _checked(
    tar: tarfile.TarFile, info: tarfile.TarInfo, asked: Sequence[Line], kind: str, rerun: str
) -> Member | Rejected:
    """The member ``info``, if it is a regular file, answers a line that was asked, and is a whole FITS file."""
    name = _MEMBER.fullmatch(info.name)
    index = int(name[1]) - 2 if name else -1
    if name is None or not 0 <= index < len(asked):
        return Rejected(None, f"foreign member {info.name[:80]!r}")
    line = asked[index]
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        return Rejected(line, "the member is no regular file")
    if (name[2], name[3], name[5]) != (kind, line.filter, rerun):
        return Rejected(line, f"member {info.name[-60:]!r} answers another question")
    extracted = tar.extractfile(info)
    content = extracted.read() if extracted else b""
    fault = fits_fault(content, line.filter)
    return Rejected(line, fault) if fault else Member(line, int(name[4]), content)


def fits_fault(content: bytes, filter_name: str) -> str:
    """What is wrong with the structure of a FITS file; empty if nothing is.

    Walks from header to header by their claimed sizes, which costs microseconds; reading the pixels is
    `tidalkin.cutouts`' part. Keywords are where the FITS standard 4.0 (sections 4.4.1 and 7.1) fixes them.
    """
    if not content.startswith(b"SIMPLE  ="):
        return "the file is not FITS"
    position = n_hdus = 0
    while position < len(content):
        if n_hdus and not content.startswith(b"XTENSION=", position):
            return f"HDU {n_hdus} is damaged"
        end = content.find(_END, position)
        while end != -1 and (end - position) % _CARD:
            end = content.find(_END, end + 1)
        if end == -1:
            return f"the file is cut short in the header of HDU {n_hdus}"
        header = content[position:end]
        try:
            data_bytes = _data_bytes(header)
        except ValueError:
            return f"the header of HDU {n_hdus} is damaged"
        if not n_hdus and (found := _other_filter(header, filter_name)):
            return f"the file is of filter {found}"
        position += _padded(len(header) + _CARD) + _padded(data_bytes)
        n_hdus += 1
    if position != len(content):
        return f"the file is cut short: {len(content)} of {position} bytes"
    return "" if n_hdus > 1 else "the file holds no image"


def _padded(size: int) -> int:
    return -(-size // FITS_BLOCK) * FITS_BLOCK


def _card_value(header: bytes, number: int, keyword: bytes) -> int:
    card = header[number * _CARD : (number + 1) * _CARD]
    if not card.startswith(keyword):
        raise ValueError(keyword)
    return int(card[10:30])


def _data_bytes(header: bytes) -> int:
    """Bytes of an HDU's data, from its mandatory keywords."""
    bits = abs(_card_value(header, 1, b"BITPIX  ="))
    axes = _card_value(header, 2, b"NAXIS   =")
    if not axes:
        return 0
    elements = 1
    for axis in range(axes):
        elements *= _card_value(header, 3 + axis, b"NAXIS")
    if header.startswith(b"XTENSION"):
        extra = _card_value(header, 3 + axes, b"PCOUNT  =")
        elements = (elements + extra) * _card_value(header, 4 + axes, b"GCOUNT  =")
    return elements * bits // 8


def _other_filter(header: bytes, filter_name: str) -> str:
    """The filter the primary header names, if it is another than ``filter_name`` (HSC-R2 and HSC-I2 count as R, I)."""
    found = re.search(rb"FILTER  = '(HSC-[A-Z])", header)
    return found[1].decode() if found and found[1].decode() != filter_name else ""
