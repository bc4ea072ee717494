"""Tests of the fast FITS reader against astropy."""

from __future__ import annotations

import gzip
import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from fits_files import NANOJANSKY_PER_COUNT, cutout, fits_bytes, image_hdu, wcs_header
from tidalkin.cutouts import fits_fast
from tidalkin.cutouts.read import read_cutout
from tidalkin.errors import TidalkinError

HSC = Path(__file__).resolve().parents[3] / "shared" / "data" / "hsc" / "cutouts"


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64]
)
def test_images_of_every_type_are_read_as_astropy_reads_them(dtype):
    found = read_cutout(fits_bytes(image_hdu(200, dtype=dtype)), "x")
    np.testing.assert_allclose(found.flux, 200 * NANOJANSKY_PER_COUNT, rtol=1e-6)


def test_scaled_and_blank_pixels_follow_the_standard():
    hdu = fits.ImageHDU(np.array([[1, 2], [3, -99]], dtype=np.int16), name="IMAGE")
    content = bytearray(fits_bytes(hdu, FLUXMAG0=10 ** (31.4 / 2.5)))
    for key, value in (("BSCALE", 0.5), ("BZERO", 10.0), ("BLANK", -99)):
        end = content.index(b"END" + b" " * 77, 2880)
        content[end : end + 160] = f"{f'{key:<8}= {value:>20}':<80}{'END':<80}".encode()
    np.testing.assert_allclose(read_cutout(bytes(content), "x").flux, [[10.5, 11.0], [11.5, np.nan]], rtol=1e-6)


def stored(pixels, **keys):
    """Return a file whose image has these stored numbers and keys."""
    header = fits.Header()
    header.update({"XTENSION": "IMAGE", "BITPIX": 8 * pixels.itemsize, "NAXIS": 2})
    header.update({"NAXIS1": pixels.shape[1], "NAXIS2": pixels.shape[0], "PCOUNT": 0, "GCOUNT": 1, **keys})
    data = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    return fits_bytes(FLUXMAG0=1.0) + header.tostring().encode() + data + bytes(-len(data) % 2880)


ZEROS = (0, 1, -128, 2**7, 2**15, 2**31, 2**62, 2**63, -(2**63), 10**30, 0.5)


@settings(deadline=None, max_examples=300)
@given(
    data=st.data(),
    dtype=st.sampled_from([np.uint8, np.int16, np.int32, np.int64]),
    zero=st.sampled_from(ZEROS),
    scale=st.sampled_from([1, 1, 2, 0.25]),
    has_blank=st.booleans(),
)
def test_stored_integers_become_the_values_of_the_standard_and_of_astropy(data, dtype, zero, scale, has_blank):
    info = np.iinfo(dtype)
    edge = st.sampled_from([info.min, info.min + 1, info.min + 1000 % info.max, 0, 1, 99, info.max - 1, info.max])
    numbers = data.draw(st.lists(edge | st.integers(info.min, info.max), min_size=6, max_size=6))
    blank = {"BLANK": numbers[0]} if has_blank else {}
    content = stored(np.array(numbers, dtype).reshape(2, 3), BSCALE=scale, BZERO=zero, **blank)
    found = fits_fast._planes(content, "x")[1][0].pixels.astype(float).ravel()
    exact = [float(n * Fraction(scale) + Fraction(zero)) for n in numbers]  # in rational numbers
    largest = abs(zero) + max(map(abs, numbers)) * scale
    is_exact = scale == 1 and zero % 1 == 0 and all(-(2**63) <= n + zero < 2**64 for n in numbers)
    known = [not has_blank or n != numbers[0] for n in numbers]
    np.testing.assert_allclose(
        found, np.where(known, exact, np.nan), rtol=1e-15, atol=0 if is_exact else 2.0**-52 * largest
    )
    if not has_blank:  # astropy has no missing pixels among unsigned integers
        with fits.open(io.BytesIO(content)) as hdus:
            theirs = hdus[1].data.astype(float).ravel()
        # It scales integers of 16 bits in single precision.
        atol = largest * (2.0**-23 if np.dtype(dtype).itemsize <= 2 else 2.0**-52)
        np.testing.assert_allclose(found, theirs, rtol=2.0**-22, atol=atol)


def test_unsigned_integers_of_64_bits_keep_their_last_digit():
    values = np.array([[0, 1, 99], [2**53 + 1, 2**63, 2**64 - 1]], np.uint64)
    found = fits_fast._planes(fits_bytes(fits.ImageHDU(values)), "x")[1][0].pixels
    assert found.tolist() == values.tolist()


@pytest.mark.parametrize("compression", ["RICE_1", "GZIP_1", "GZIP_2"])
def test_tile_compressed_cutouts_are_read(compression):
    image = np.random.default_rng(1).normal(size=(40, 50)).astype(np.float32)
    mask = np.zeros((40, 50), dtype=np.int32)
    mask[3, 4] = 1
    planes = [
        fits.CompImageHDU(image, name="IMAGE", compression_type=compression, header=wcs_header(), quantize_level=1e4),
        fits.CompImageHDU(mask, name="MASK", compression_type="RICE_1", header=fits.Header({"MP_BAD": 0})),
    ]
    found = read_cutout(fits_bytes(*planes), "x", ("BAD",))
    expected = np.where(mask, np.nan, image * NANOJANSKY_PER_COUNT)
    np.testing.assert_allclose(found.flux, expected, atol=0.1)
    assert found.wcs.pixel(150.0, 2.0) == pytest.approx((29.5, 19.0))


def test_gzipped_cutouts_are_read():
    plain = cutout(np.ones((3, 4)), np.eye(3, 4))
    np.testing.assert_array_equal(
        read_cutout(gzip.compress(plain), "x", ("BAD",)).flux, read_cutout(plain, "x", ("BAD",)).flux
    )


def test_tables_behind_the_planes_and_long_headers_are_passed_over():
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1, 2, 3])], name="ARCHIVE_INDEX")
    primary = {f"KEY{i}": "it's / not END" for i in range(200)}
    found = read_cutout(fits_bytes(image_hdu(), table, image_hdu(2, "MASK", np.int32), **primary), "x", ("BAD",), (1,))
    assert np.isnan(found.flux).all()


def test_real_hsc_cutouts_are_read_as_astropy_reads_them():
    if not HSC.is_dir():
        pytest.skip("the real HSC images are not on this machine")
    for path in sorted(HSC.iterdir())[:25]:
        found = read_cutout(path, path.name, bad_mask_bits=(0, 1, 8))
        with fits.open(path) as hdus:
            bad = (hdus[2].data & 0b100000011) != 0
            expected = hdus[1].data * 10 ** (31.4 / 2.5) / hdus[0].header["FLUXMAG0"]
            sky = WCS(hdus[1].header).pixel_to_world(3, 5)
        np.testing.assert_allclose(found.flux, np.where(bad, np.nan, expected), rtol=1e-6)
        assert found.wcs.pixel(sky.icrs.ra.deg, sky.icrs.dec.deg) == pytest.approx((3, 5), abs=1e-6)
        assert f"-{found.band.upper()}.fits" in path.name


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"object_id,ra,dec\n1,2,3\n", "is not a FITS file"),
        (b"<html>404</html>" * 1000, "is not a FITS file"),
        (b"SIMPLE  =" + b" " * 71, "cut short in the header"),
        (b"SIMPLE  =" + b" " * 2871 + b"x" * 9000, "cut short in the header"),
        (gzip.compress(cutout(np.ones((99, 99))), mtime=0)[:100], "cannot be unzipped"),
        (gzip.compress(b"hello", mtime=0), "is not a FITS file"),
    ],
)
def test_what_is_not_fits_is_refused_by_name(content, sentence):
    with pytest.raises(TidalkinError, match=f"^42-g.fits: .*{sentence}"):
        read_cutout(content, "42-g.fits")


def test_a_number_with_an_underscore_is_not_a_number():
    content = cutout(np.ones((4, 4))).replace(b"CRVAL1  =                150.1", b"CRVAL1  =                1_501")
    assert b"1_501" in content
    with pytest.raises(TidalkinError, match=r"has CRVAL1 = None in a FITS header where a number is due"):
        read_cutout(content, "42-g.fits")


@pytest.mark.parametrize("kept", [100, 2880, 3000, 5760, 5760 + 2000, 5760 + 4320, 5760 + 5760 + 100])
def test_a_file_cut_short_is_refused_by_name(kept):
    content = cutout(np.ones((30, 30)), np.zeros((30, 30)))
    with pytest.raises(TidalkinError, match=r"^42-g\.fits: (is cut short|has no plane that is the image)"):
        read_cutout(content[:kept], "42-g.fits")


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_but_never_crashes(data):
    content = bytearray(cutout(np.ones((4, 4)), np.zeros((4, 4)), np.ones((4, 4))))
    for _ in range(data.draw(st.integers(1, 3))):
        # in one of the first cards of a header: there is what decides
        position = 2880 * data.draw(st.sampled_from([0, 1, 3])) + data.draw(st.integers(0, 1700))
        content[position] = data.draw(st.integers(0, 255))
    try:
        read_cutout(bytes(content), "42-g.fits", ("BAD",))
    except TidalkinError as error:
        sentence = str(error)
    else:
        sentence = "42-g.fits: can still be read"
    assert sentence.startswith("42-g.fits: ")
    assert "\n" not in sentence


def test_a_small_file_that_unpacks_to_gigabytes_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(fits_fast, "LARGEST_FILE", 1 << 20)
    bomb = gzip.compress(fits_bytes(image_hdu(1))) + gzip.compress(bytes(1 << 22))
    with pytest.raises(TidalkinError, match=r"7-g.fits.gz: unpacks to more than 1 MiB"):
        read_cutout(bomb, "7-g.fits.gz")


def test_a_compressed_image_that_unpacks_to_gigabytes_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(fits_fast, "LARGEST_FILE", 1 << 20)
    image = fits.CompImageHDU(np.zeros((2000, 2000), np.float32), name="IMAGE", compression_type="GZIP_1")
    content = fits_bytes(image, FLUXMAG0=1.0)
    assert len(content) < 1 << 20
    with pytest.raises(TidalkinError, match=r"7-g.fits: unpacks to more than 1 MiB"):
        read_cutout(content, "7-g.fits")
