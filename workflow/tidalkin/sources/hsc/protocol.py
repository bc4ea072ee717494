"""The protocol of HSC's cutout service: a tar stream, checked member by member.

The server is not trusted. No file is written under a name that the server chose. No read is unbounded. A stream is
complete only when its end-of-archive block has arrived. Names and order are those of downloadCutout.py in HSC's
data-access-tools (pdr3); the newest public copy is in lincc-frameworks/hyrax. There, members of type `coadd` are called
``<line>-cutout-…``, and those of type `coadd/bg` ``<line>-coadd+bg-…``. Lines count from 2, since line 1 of the list is
its header.
"""

from __future__ import annotations

import math
import re
import tarfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from tidalkin.download.faults import Fault
from tidalkin.download.footprint import footprint_fault
from tidalkin.download.http import quoted
from tidalkin.download.request import CutoutRequest, VerifiedCutout
from tidalkin.download.tar_members import BLOCK, MemberHeader, padding, read_header

FITS_BLOCK = 2880
_CARD = 80
_END = b"END".ljust(_CARD)
_FILTER = b"FILTER  = 'HSC-"
_END_OF_ARCHIVE = bytes(BLOCK)
_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_LARGEST_EXTENDED = 1 << 16
MEMBER_KINDS = {"coadd": "cutout", "coadd/bg": "coadd+bg"}
"""The service's word for an image type in a member's name."""
_MEMBER = re.compile(r"arch-\d+-\d+/(\d{1,6})-([a-z+]+)-([A-Za-z0-9-]+)-(\d{1,7})-(\w+)\.fits", re.ASCII)


class Rejected(NamedTuple):
    """A member that failed a check."""

    request: CutoutRequest | None
    """The request that it claims to answer, if the name tells."""
    why: str


class _Stream:
    """The body of an answer, read in given sizes.

    No more than one such size and one piece is in memory.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece, self._at = b"", 0

    def take(self, size: int) -> bytes:
        """Read ``size`` bytes.

        Raises
        ------
        Fault
            If the stream ends before.
        """
        if self._at + size <= len(self._piece):
            self._at += size
            return self._piece[self._at - size : self._at]
        parts = [memoryview(self._piece)[self._at :]]
        missing = size - len(parts[0])
        while missing > 0:
            piece = next(self._pieces, None)
            if piece is None:
                raise Fault("the tar stream ended before its end-of-archive block")
            self._piece, self._at = piece, min(missing, len(piece))
            parts.append(memoryview(piece)[: self._at])
            missing -= self._at
        return b"".join(parts)

    def drain(self, at_most: int) -> None:
        """Read the rest after the archive, so that the connection can be used again."""
        for piece in self._pieces:
            at_most -= len(piece)
            if at_most < 0:
                raise Fault("the stream goes on after its end-of-archive block")


def read_answer(
    pieces: Iterator[bytes], requests: Sequence[CutoutRequest], *, image_type: str, rerun: str, largest: int
) -> Iterator[VerifiedCutout | Rejected]:
    """Read a tar stream, and yield each member when it is complete and checked.

    Parameters
    ----------
    pieces : iterator of bytes
        The body of the response.
    requests : sequence of CutoutRequest
        The requests of the list that was sent, in order.
    image_type, rerun : str
        Image type and rerun of the requests.
    largest : int
        Most bytes that a cutout of the requested size can have.

    Raises
    ------
    Fault
        If the stream breaks, is not a tar, or announces a member that is too large.

    Examples
    --------
    >>> import io
    >>> import numpy as np
    >>> from tidalkin.cutouts.write import write_cutout
    >>> image = np.zeros((8, 8), np.float32)
    >>> file = write_cutout(image, None, None, band="g", ra=150.0, dec=2.0, fluxmag0=10**10.8, mask_planes={})
    >>> request = CutoutRequest(42, "g", "HSC-G", 150.0, 2.0, 8, "HSC-G 150.0 2.0")
    >>> member = tarfile.TarInfo("arch-1-2/2-cutout-HSC-G-9813-pdr3_wide.fits")
    >>> member.size, body = len(file), io.BytesIO()
    >>> with tarfile.open(fileobj=body, mode="w") as tar:
    ...     tar.addfile(member, io.BytesIO(file))
    >>> options = {"image_type": "coadd", "rerun": "pdr3_wide", "largest": 20_000}
    >>> cutout = next(read_answer(iter([body.getvalue()]), [request], **options))
    >>> cutout.request.object_id, cutout.tract, cutout.content == file
    (42, 9813, True)
    """
    stream = _Stream(pieces)
    kind = MEMBER_KINDS[image_type]
    behind = 0
    while (block := stream.take(behind + BLOCK)[behind:]) != _END_OF_ARCHIVE:
        try:
            header = read_header(block)
        except ValueError as error:
            raise Fault(f"not a tar header: {error}") from None
        is_extended = header.kind in _EXTENDED
        if header.size > (_LARGEST_EXTENDED if is_extended else largest):
            raise Fault(f"member {quoted(header.name, 80)!r} claims {header.size} bytes, which cannot be")
        content = stream.take(header.size)
        behind = padding(header.size)
        # Extended headers hold times, and names and sizes larger than a cutout's can be.
        if not is_extended and header.kind != tarfile.DIRTYPE:
            yield _checked(header, content, requests, kind, rerun)
    stream.drain(_LARGEST_EXTENDED)


def _checked(
    header: MemberHeader, content: bytes, requests: Sequence[CutoutRequest], kind: str, rerun: str
) -> VerifiedCutout | Rejected:
    """Check name, kind, structure and footprint of a member."""
    name = _MEMBER.fullmatch(header.name)
    index = int(name[1]) - 2 if name else -1
    if name is None or not 0 <= index < len(requests):
        return Rejected(None, f"foreign member {quoted(header.name, 80)!r}")
    request = requests[index]
    if header.kind not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        return Rejected(request, "the member is not a regular file")
    if (name[2], name[3], name[5]) != (kind, request.filter, rerun):
        return Rejected(request, f"member {quoted(header.name, 80)!r} answers another request")
    fault = fits_fault(content, request.filter) or footprint_fault(content, request)
    return Rejected(request, fault) if fault else VerifiedCutout(request, int(name[4]), content)


def fits_fault(content: bytes, filter_name: str) -> str:
    """Return the fault in the structure of a FITS file; empty if there is none.

    The check walks from header to header by their sizes, which takes microseconds. It does not read the pixels. The
    FITS standard 4.0 (sections 4.4.1 and 7.1) fixes the places of the keywords.

    Examples
    --------
    >>> import numpy as np
    >>> from tidalkin.cutouts.write import write_cutout
    >>> image = np.zeros((64, 64), np.float32)
    >>> file = write_cutout(image, None, None, band="i", ra=150.0, dec=2.0, fluxmag0=10**10.8, mask_planes={})
    >>> fits_fault(file, "HSC-I"), fits_fault(file, "HSC-G"), fits_fault(file[:9000], "HSC-I")
    ('', 'the file is of filter HSC-I', 'the file is cut short: 9000 of 23040 bytes')
    """
    if not content.startswith(b"SIMPLE  ="):
        return "the file is not FITS"
    position = n_hdus = 0
    while position < len(content):
        if n_hdus and not content.startswith(b"XTENSION=", position):
            return f"HDU {n_hdus} is damaged"
        end = _header_end(content, position)
        if end == -1:
            return f"the file is cut short in the header of HDU {n_hdus}"
        if not n_hdus and (found := content.find(_FILTER, 0, end)) != -1:
            # A filter's first letter counts: HSC-R2 and HSC-I2 are HSC-R and HSC-I.
            letter = content[found + len(_FILTER) : found + len(_FILTER) + 1].decode(errors="replace")
            if filter_name != f"HSC-{letter}":
                return f"the file is of filter HSC-{quoted(letter, 1)}"
        try:
            position = end + _data_bytes(_mandatory_cards(content, position))
        except ValueError:
            return f"the header of HDU {n_hdus} is damaged"
        n_hdus += 1
    if position != len(content):
        return f"the file is cut short: {len(content)} of {position} bytes"
    return "" if n_hdus > 1 else "the file holds no image"


def _header_end(content: bytes, header: int) -> int:
    """Return the end of a header with its padding; -1 without one."""
    for start in range(header, len(content), FITS_BLOCK):
        # A search for the card itself is slow, since headers and card are full of spaces. First letters are few.
        letters = content[start : start + FITS_BLOCK : _CARD]
        card = letters.find(b"E")
        while card != -1:
            if content.startswith(_END, start + card * _CARD):
                return start + FITS_BLOCK
            card = letters.find(b"E", card + 1)
    return -1


def _mandatory_cards(content: bytes, header: int) -> bytes:
    """Return the cards that give the size of an HDU's data.

    Raises
    ------
    ValueError
        If the number of axes is not a number.
    """
    axes = int(content[header + 2 * _CARD + 10 : header + 2 * _CARD + 30])
    n_cards = 3 + axes + (2 if header else 0)  # an extension also has PCOUNT and GCOUNT
    return content[header : header + n_cards * _CARD]


@lru_cache(256)
def _data_bytes(cards: bytes) -> int:
    """Return the size in bytes of the data of an HDU, padded to whole blocks.

    Raises
    ------
    ValueError
        If one of the keywords is not a number.
    """
    values = [int(cards[start + 10 : start + 30]) for start in range(_CARD, len(cards), _CARD)]
    bits, axes, *others = values
    if not axes:
        return 0
    elements = math.prod(others[:axes])
    if others[axes:]:
        pcount, gcount = others[axes:]
        elements = (elements + pcount) * gcount
    size = elements * abs(bits) // 8
    if size < 0:
        raise ValueError(size)
    return size + -size % FITS_BLOCK
