"""A tar stream from the cutout service is checked member by member."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidalkin.cutouts.write import write_cutout
from tidalkin.download.faults import Fault
from tidalkin.download.request import CutoutRequest, VerifiedCutout
from tidalkin.sources.hsc.protocol import fits_fault, read_answer


def small_fits(number: int) -> bytes:
    image = np.full((8, 8), number, np.float32)
    return write_cutout(image, None, None, band="g", ra=150.0, dec=2.0, fluxmag0=1e9, mask_planes={})


SIZE = len(small_fits(0))


def stream_of(n_members: int, tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    """Write a tar as Python's `tarfile` does, with extended headers for fractions of seconds."""
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        folder = tarfile.TarInfo("arch-1-2")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for number in range(n_members):
            info = tarfile.TarInfo(f"arch-1-2/{number + 2}-cutout-HSC-G-9000-pdr3_wide.fits")
            info.size, info.mtime = SIZE, 1700000000.25
            tar.addfile(info, BytesIO(small_fits(number)))
    return buffer.getvalue()


REQUESTS = [CutoutRequest(number, "g", "HSC-G", 150.0, 2.0, 8, f"line {number}") for number in range(4)]


def read(stream: bytes, piece: int = 65536) -> list[VerifiedCutout]:
    pieces = (stream[start : start + piece] for start in range(0, len(stream), piece))
    return list(read_answer(pieces, REQUESTS, image_type="coadd", rerun="pdr3_wide", largest=20_000))


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_every_common_kind_of_tar_is_read(tar_format: int) -> None:
    assert read(stream_of(4, tar_format)) == [
        VerifiedCutout(line, 9000, small_fits(line.object_id)) for line in REQUESTS
    ]


@given(piece=st.integers(1, 30_000), cut=st.integers(0, len(stream_of(4)) - 1))
def test_a_stream_cut_anywhere_gives_whole_members_and_then_a_fault(piece: int, cut: int) -> None:
    stream = stream_of(4)
    end_of_archive = stream.rindex(small_fits(3)) + -(-SIZE // 512) * 512 + 512
    if cut >= end_of_archive:
        assert len(read(stream[:cut], piece)) == 4
        return
    taken = []
    pieces = (stream[:cut][start : start + piece] for start in range(0, cut, piece))
    with pytest.raises(Fault):
        taken.extend(read_answer(pieces, REQUESTS, image_type="coadd", rerun="pdr3_wide", largest=20_000))
    assert taken == [VerifiedCutout(line, 9000, small_fits(line.object_id)) for line in REQUESTS[: len(taken)]]


@given(cut=st.integers(0, SIZE - 1))
def test_fits_cut_short_anywhere_is_noticed(cut: int) -> None:
    assert fits_fault(small_fits(1), "HSC-G") == ""
    assert fits_fault(small_fits(1)[:cut], "HSC-G")


@given(st.binary(max_size=6000))
def test_no_bytes_at_all_make_the_check_fail(content: bytes) -> None:
    assert fits_fault(content, "HSC-G")
    assert isinstance(fits_fault(small_fits(1)[:2880] + content, "HSC-G"), str)


def test_a_file_of_another_filter_is_noticed() -> None:
    assert fits_fault(small_fits(1), "HSC-R") == "the file is of filter HSC-G"


def test_real_hsc_cutouts_pass_the_check(real_hsc_cutouts: Path) -> None:
    paths = sorted((real_hsc_cutouts / "cutouts").glob("*.fits"))
    assert len(paths) > 100
    for path in paths:
        assert fits_fault(path.read_bytes(), path.stem[-5:]) == ""
