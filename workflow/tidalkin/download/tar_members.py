"""Headers of tar members, read and written at the speed of a download.

`tarfile` takes ten times longer for the same bytes. Its loop over a stream also takes a damaged header for the end of
the archive, in silence, and holds in memory whatever an extended header claims to be. Format: POSIX.1-2017, pax, "ustar
Interchange Format".
"""

from __future__ import annotations

import tarfile
import zlib
from functools import lru_cache
from typing import NamedTuple

BLOCK = tarfile.BLOCKSIZE
TAR_END = bytes(2 * BLOCK)
_NAME = slice(0, 100)
_SIZE = slice(124, 136)
_CHECKSUM = slice(148, 156)
_KIND = slice(156, 157)
_PREFIX = slice(345, 500)


class MemberHeader(NamedTuple):
    """The content of a header."""

    name: str
    kind: bytes
    """`tarfile.REGTYPE` and its like."""
    size: int
    """Bytes of the content that follows, without its padding."""


def padding(size: int) -> int:
    """Return the bytes between a content and the next header.

    Examples
    --------
    >>> padding(1), padding(512), padding(1000)
    (511, 0, 24)
    """
    return -size % BLOCK


@lru_cache(64)
def _nameless(size: int) -> tuple[bytes, bytes, int]:
    """Return a header without name and checksum in two parts, and its sum."""
    member = tarfile.TarInfo()
    member.size = size
    header = member.tobuf(tarfile.USTAR_FORMAT)
    before, after = header[_NAME.stop : _CHECKSUM.start], header[_CHECKSUM.stop :]
    return before, after, sum(before) + sum(after) + sum(b" " * 8)


def write_header(name: str, size: int) -> bytes:
    """Return the header of a regular file without times and owners.

    Parameters
    ----------
    name : str
        At most 100 bytes.
    size : int
        Bytes of the content.

    Examples
    --------
    >>> header = write_header("7/i.fits", 23_040)
    >>> len(header), read_header(header)
    (512, MemberHeader(name='7/i.fits', kind=b'0', size=23040))
    """
    encoded = name.encode()
    before, after, total = _nameless(size)
    return b"%b%b%06o\0 %b" % (encoded.ljust(_NAME.stop, b"\0"), before, total + sum(encoded), after)


def read_header(header: bytes) -> MemberHeader:
    """Read a header of `BLOCK` bytes.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> read_header(write_header("7/i.fits", 23_040)).size
    23040
    >>> read_header(bytes(512))
    Traceback (most recent call last):
        ...
    ValueError: it has b'' for a number
    """
    checksum = header[_CHECKSUM]
    # The sum of all bytes, with spaces for those of the checksum itself. Adler-32's lower half is one more than the sum
    # of the bytes, modulo 65521 (RFC 1950, section 8.2), ten times faster than `sum`.
    total = _number(checksum) - sum(b" " * 8) + sum(checksum)
    if (total + 1) % 65521 != zlib.adler32(header) & 0xFFFF:
        raise ValueError("its checksum is wrong")
    name, prefix = header[_NAME].partition(b"\0")[0], header[_PREFIX].partition(b"\0")[0]
    if prefix:
        name = prefix + b"/" + name
    return MemberHeader(name.decode(errors="replace"), header[_KIND], _number(header[_SIZE]))


def _number(field: bytes) -> int:
    """Read a number of a header, in octal digits or GNU tar's binary form."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not digits.isdigit():
        raise ValueError(f"it has {digits!r} for a number")
    return int(digits, 8)
