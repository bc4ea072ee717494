"""Tar headers are those of `tarfile`, and damage in one is noticed."""

from __future__ import annotations

import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidalkin.download.tar_members import BLOCK, MemberHeader, padding, read_header, write_header

NAMES = st.from_regex(r"[a-z0-9/._-]{1,100}", fullmatch=True)


@given(name=NAMES, size=st.integers(0, 8**11 - 1))
def test_a_header_is_the_one_tarfile_writes_and_reads_back(name: str, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    header = write_header(name, size)
    assert header == member.tobuf(tarfile.USTAR_FORMAT)
    assert read_header(header) == MemberHeader(name, tarfile.REGTYPE, size)


@given(name=NAMES, size=st.integers(8**11, 2**60))
def test_a_size_beyond_the_octal_digits_is_read_as_gnu_tar_writes_it(name: str, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    assert read_header(member.tobuf(tarfile.GNU_FORMAT)).size == size


def test_a_name_in_two_parts_is_read_whole() -> None:
    member = tarfile.TarInfo("folder/" * 20 + "7-g.fits")
    assert read_header(member.tobuf(tarfile.USTAR_FORMAT)).name == member.name


@given(position=st.integers(0, BLOCK - 1), flipped=st.integers(1, 255))
def test_a_damaged_byte_is_noticed(position: int, flipped: int) -> None:
    header = bytearray(write_header("7-g.fits", 1234))
    header[position] ^= flipped
    try:
        read = read_header(bytes(header))
    except ValueError:
        return
    # Of the checksum's own field, what ends its digits says nothing.
    assert 148 <= position < 156
    assert read == MemberHeader("7-g.fits", tarfile.REGTYPE, 1234)


@pytest.mark.parametrize("block", [bytes(BLOCK), b"\x07" * BLOCK, b"<html>" * 90])
def test_what_is_no_header_is_refused(block: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_header(block[:BLOCK])


def test_contents_are_padded_to_whole_blocks() -> None:
    assert [padding(size) for size in (0, 1, 511, 512, 513)] == [0, 511, 1, 0, 511]
