"""Cutouts in the layout of HSC's are read as astropy reads them, calibrated, and refused by name where broken."""

from __future__ import annotations

import gzip
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from tidalkin.cutouts.grid import GeneralProjection, TangentPlane, place_on_grid
from tidalkin.cutouts.read import read_cutout
from tidalkin.cutouts.write import write_cutout
from tidalkin.errors import TidalkinError

HSC = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "hsc" / "cutouts"
PLANES = {"BAD": 0, "SAT": 1, "INTRP": 2, "CR": 3, "EDGE": 4, "DETECTED": 5, "DETECTED_NEGATIVE": 6, "NO_DATA": 8}
FLUXMAG0 = 10 ** (27.0 / 2.5)
NANOJANSKY_PER_COUNT = 10 ** ((31.4 - 27.0) / 2.5)


def cutout(image, mask=None, variance=None, *, ra=150.1, dec=2.2, **more):
    return write_cutout(
        np.asarray(image, dtype=np.float32),
        None if mask is None else np.asarray(mask, dtype=np.int32),
        None if variance is None else np.asarray(variance, dtype=np.float32),
        **{"band": "g", "ra": ra, "dec": dec, "fluxmag0": FLUXMAG0, "mask_planes": PLANES, **more},
    )


def fits_bytes(*hdus, **primary):
    first = fits.PrimaryHDU()
    first.header.update({"FLUXMAG0": FLUXMAG0, **primary})
    buffer = io.BytesIO()
    fits.HDUList([first, *hdus]).writeto(buffer)
    return buffer.getvalue()


def image_hdu(value=1.0, name="IMAGE", dtype=np.float32, **header):
    hdu = fits.ImageHDU(np.full((3, 4), value, dtype=dtype), name=name)
    hdu.header.update(header)
    return hdu


def wcs_header(projection="TAN", **more):
    header = fits.Header()
    header.update({"CTYPE1": f"RA---{projection}", "CTYPE2": f"DEC--{projection}", "CRVAL1": 150.0, "CRVAL2": 2.0})
    header.update({"CRPIX1": 30.5, "CRPIX2": 20.0, "CDELT1": -4.7e-5, "CDELT2": 4.7e-5, **more})
    return header


# --- layout ------------------------------------------------------------------------------------------------------


def test_what_is_written_is_valid_fits_that_astropy_reads():
    image, mask, variance = np.arange(12.0).reshape(3, 4), np.eye(3, 4), np.full((3, 4), 0.25)
    with fits.open(io.BytesIO(cutout(image, mask, variance, psf_fwhm=0.7))) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "IMAGE", "MASK", "VARIANCE"]
        assert hdus[0].header["FLUXMAG0"] == FLUXMAG0
        assert hdus[0].header["FILTER"] == "HSC-G"
        assert {plane: hdus["MASK"].header[f"MP_{plane}"] for plane in PLANES} == PLANES
        for hdu, pixels in zip(hdus[1:], (image, mask, variance), strict=True):
            np.testing.assert_array_equal(hdu.data, pixels)
            sky = WCS(hdu.header).pixel_to_world(1.5, 1.0)
            assert (sky.ra.deg, sky.dec.deg) == pytest.approx((150.1, 2.2), abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    value=st.floats(-1e6, 1e6, width=32),
    band=st.sampled_from("grizy"),
    ra=st.floats(0, 359.9),
    dec=st.floats(-89, 89),
)
def test_what_is_written_is_read(shape, value, band, ra, dec):
    image = np.full(shape, value)
    found = read_cutout(cutout(image, np.zeros(shape), abs(image) + 1, band=band, ra=ra, dec=dec), "x", ("BAD",))
    np.testing.assert_allclose(found.flux, image * NANOJANSKY_PER_COUNT, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(found.variance, (abs(image) + 1) * NANOJANSKY_PER_COUNT**2, rtol=1e-5)
    assert found.flux.dtype == found.variance.dtype == np.float32
    assert found.flux.dtype.isnative
    assert found.band == band
    assert math.isnan(found.psf_fwhm)
    assert found.wcs.pixel(ra, dec) == pytest.approx(((shape[1] - 1) / 2, (shape[0] - 1) / 2), abs=1e-6)


def test_equal_cutouts_are_equal_bytes():
    assert cutout(np.ones((3, 4))) == cutout(np.ones((3, 4)))


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64]
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


# --- which plane is what -----------------------------------------------------------------------------------------


def test_planes_are_told_by_name_in_any_order():
    shuffled = fits_bytes(image_hdu(4, "VARIANCE"), image_hdu(0, "MASK", np.int32), image_hdu(1, "IMAGE"))
    found = read_cutout(shuffled, "x")
    np.testing.assert_allclose(found.flux, NANOJANSKY_PER_COUNT, rtol=1e-6)
    np.testing.assert_allclose(found.variance, 4 * NANOJANSKY_PER_COUNT**2, rtol=1e-6)


def test_planes_without_names_are_told_by_order():
    unnamed = fits_bytes(image_hdu(1, ""), image_hdu(1, "", np.int32), image_hdu(4, ""))
    found = read_cutout(unnamed, "x", bad_mask_bits=(0,))
    assert np.isnan(found.flux).all()
    np.testing.assert_allclose(found.variance, 4 * NANOJANSKY_PER_COUNT**2, rtol=1e-6)


def test_an_image_in_hdu_0_is_an_image():
    hdu = fits.PrimaryHDU(np.ones((3, 4), dtype=np.float32))
    hdu.header["BUNIT"] = "nJy"
    buffer = io.BytesIO()
    hdu.writeto(buffer)
    found = read_cutout(buffer.getvalue(), "x")
    assert (found.flux == 1).all()
    assert found.variance is None
    assert found.wcs is None
    assert found.band is None


@pytest.mark.parametrize(
    ("hdus", "sentence"),
    [
        ([], r"has no plane that is the image \(planes: none\)"),
        ([image_hdu(0, "MASK", np.int32), image_hdu(1, "VARIANCE")], r"no plane .* \(planes: MASK, VARIANCE\)"),
        ([image_hdu(0, "", np.int32), image_hdu(1, "")], "planes of whole numbers, real numbers where image, mask"),
        ([image_hdu(1, "G"), image_hdu(1, "R"), image_hdu(1, "I")], "planes of real numbers, real numbers"),
        ([image_hdu(), image_hdu(0, "MASK")], "mask of float32 instead of whole numbers"),
        ([image_hdu(), fits.ImageHDU(np.zeros((2, 2), dtype=np.int32), name="MASK")], r"mask of shape \(2, 2\) beside"),
        ([fits.ImageHDU(np.zeros((2, 3, 4), dtype=np.float32), name="IMAGE")], "3 axes in its image"),
        ([fits.ImageHDU(name="IMAGE")], "image plane of zero size"),
        ([fits.ImageHDU(np.zeros((0, 4), dtype=np.float32), name="IMAGE")], "image plane of zero size"),
    ],
)
def test_planes_that_cannot_be_told_are_refused(hdus, sentence):
    with pytest.raises(TidalkinError, match=f"^42-g.fits: .*{sentence}"):
        read_cutout(fits_bytes(*hdus), "42-g.fits")


# --- what is missing ---------------------------------------------------------------------------------------------


def test_only_the_named_mask_planes_count_as_missing():
    mask = [[0, 1, 2], [4, 256, 1 << 6]]
    content = cutout(np.ones((2, 3)), mask)
    named = read_cutout(content, "x", ("BAD", "NO_DATA", "DETECTED_NEGATIVE", "NOT_IN_THIS_FILE"), (0, 1, 2))
    assert np.isnan(named.flux).tolist() == [[False, True, False], [False, True, True]]


def test_bit_numbers_count_where_the_mask_names_no_planes():
    content = cutout(np.ones((1, 4)), [[1, 2, 256, -(2**31)]], mask_planes={})
    found = read_cutout(content, "x", ("BAD",), (1, 8, 31, 40))
    assert np.isnan(found.flux).tolist() == [[False, True, True, True]]


def test_pixels_that_are_not_finite_are_missing():
    found = read_cutout(cutout([[1.0, np.nan], [np.inf, -np.inf]]), "x")
    assert np.isnan(found.flux).tolist() == [[False, True], [True, True]]


def test_a_band_of_nothing_but_nan_is_valid():
    assert np.isnan(read_cutout(cutout(np.full((3, 3), np.nan)), "x").flux).all()


# --- calibration -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("primary", "image", "nanojansky"),
    [
        ({"FLUXMAG0": 10 ** (27.0 / 2.5)}, {}, 57.5440),
        ({"FLUXMAG0": 1e9}, {"FLUXMAG0": 10 ** (31.4 / 2.5)}, 1.0),
        ({"FLUXMAG0": None}, {"BUNIT": "nJy"}, 1.0),
        ({"FLUXMAG0": None, "BUNIT": "uJy"}, {}, 1000.0),
        ({"FLUXMAG0": 10 ** (31.4 / 2.5)}, {"BUNIT": "nJy"}, 1.0),
        ({"FLUXMAG0": 10 ** (27.0 / 2.5)}, {"BUNIT": "counts"}, 57.5440),
    ],
)
def test_flux_is_in_nanojansky_whatever_the_calibration(primary, image, nanojansky):
    found = read_cutout(fits_bytes(image_hdu(1.0, **image), **primary), "x")
    np.testing.assert_allclose(found.flux, nanojansky, rtol=1e-5)


@pytest.mark.parametrize(
    ("primary", "sentence"),
    [
        ({"FLUXMAG0": None}, r"no photometric calibration \(no FLUXMAG0, and BUNIT is None\): add FLUXMAG0"),
        ({"FLUXMAG0": None, "BUNIT": "adu"}, "BUNIT is 'adu'"),
        ({"FLUXMAG0": 0.0}, "FLUXMAG0 = 0.0, but it must be a positive number"),
        ({"FLUXMAG0": "27"}, "FLUXMAG0 = '27'"),
    ],
)
def test_a_cutout_without_calibration_is_refused(primary, sentence):
    with pytest.raises(TidalkinError, match=f"^42-g.fits: .*{sentence}"):
        read_cutout(fits_bytes(image_hdu(), **primary), "42-g.fits")


@pytest.mark.parametrize(
    ("name", "band"), [("HSC-G", "g"), ("HSC-R2", "r"), ("HSC-I2", "i"), ("y", "y"), ("NB921", None)]
)
def test_the_band_is_that_of_the_filter(name, band):
    assert read_cutout(fits_bytes(image_hdu(), FILTER=name), "x").band == band


# --- broken files ------------------------------------------------------------------------------------------------


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


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(TidalkinError, match=r"nowhere\.fits: cannot be read"):
        read_cutout(tmp_path / "nowhere.fits", "x")


# --- where things are --------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(
    ra_0=st.floats(0, 360),
    dec_0=st.floats(-90, 90),
    ra=st.floats(-0.02, 0.02),
    dec=st.floats(-0.02, 0.02),
    angle=st.floats(0, 6.3),
    linear=st.sampled_from(["CD", "PC", "CDELT"]),
)
def test_the_tangent_plane_agrees_with_astropy(ra_0, dec_0, ra, dec, angle, linear):
    header = wcs_header(CRVAL1=ra_0, CRVAL2=dec_0)
    if linear != "CDELT":
        step = (1.0, 1.0) if linear == "PC" else (-4.7e-5, 4.7e-5)
        turn = [math.cos(angle), math.sin(angle), -math.sin(angle), math.cos(angle)]
        for i, key in enumerate(("1_1", "1_2", "2_1", "2_2")):
            header[f"{linear}{key}"] = turn[i] * step[i // 2]
        if linear == "CD":
            del header["CDELT*"]
    found = read_cutout(fits_bytes(fits.ImageHDU(np.ones((3, 3)), header, name="IMAGE")), "x").wcs
    assert isinstance(found, TangentPlane) == (dec_0 != 90)
    there = dec_0 + dec if abs(dec_0 + dec) <= 90 else dec_0 - dec
    expected = WCS(header).wcs_world2pix(ra_0 + ra, there, 0)
    assert found.pixel(ra_0 + ra, there) == pytest.approx([float(value) for value in expected], abs=1e-4)


def test_the_other_side_of_the_sky_has_no_pixel():
    found = read_cutout(cutout(np.ones((3, 3))), "x").wcs
    assert all(math.isnan(value) for value in found.pixel(330.1, -2.2))
    assert np.isnan(place_on_grid(np.ones((3, 3)), found, 330.1, -2.2, 3)).all()


@pytest.mark.parametrize(
    "header",
    [
        wcs_header("SIN"),
        wcs_header(LONPOLE=150.0),
        wcs_header(CROTA2=30.0),
        wcs_header(RADESYS="FK4", EQUINOX=1950.0),
        wcs_header("TAN", CTYPE1="GLON-TAN", CTYPE2="GLAT-TAN"),
    ],
)
def test_other_projections_and_frames_go_to_astropy(header):
    found = read_cutout(fits_bytes(fits.ImageHDU(np.ones((3, 3)), header, name="IMAGE")), "x").wcs
    assert isinstance(found, GeneralProjection)
    sky = WCS(header).pixel_to_world(12.0, 7.0).icrs
    assert found.pixel(sky.ra.deg, sky.dec.deg) == pytest.approx((12.0, 7.0), abs=1e-5)


def test_coordinates_that_are_not_on_the_sky_are_refused():
    with pytest.raises(TidalkinError, match=r"^42-g\.fits: .*not on the sky"):
        read_cutout(fits_bytes(image_hdu(CTYPE1="WAVE", CTYPE2="X")), "42-g.fits")


# --- the common grid ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class At:
    """An object at a known pixel."""

    x: float
    y: float

    def pixel(self, ra, dec):
        return self.x, self.y


@settings(deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    size=st.integers(1, 40),
    x=st.floats(-60, 100),
    y=st.floats(-60, 100),
)
def test_every_pixel_keeps_its_place_about_the_object(height, width, size, x, y):
    flux = np.arange(height * width, dtype=np.float32).reshape(height, width)
    grid = place_on_grid(flux, At(x, y), 0.0, 0.0, size)
    assert grid.shape == (size, size)
    rows, columns = np.nonzero(np.isfinite(grid))
    source_rows, source_columns = np.divmod(grid[rows, columns].astype(int), width)
    for places, sources, position, length in ((rows, source_rows, y, height), (columns, source_columns, x, width)):
        shifts = set((places - sources).tolist())
        assert len(shifts) <= 1
        for shift in shifts:
            assert abs(position + shift - (size - 1) / 2) <= 0.5 + 2e-3
            if len(rows):
                assert set(places.tolist()) == set(range(max(shift, 0), min(length + shift, size)))


@pytest.mark.parametrize("size", [5, 6])
def test_an_image_of_the_grids_own_size_stays_whole(size):
    flux = np.random.default_rng(1).normal(size=(size, size)).astype(np.float32)
    found = read_cutout(cutout(flux), "x").wcs
    np.testing.assert_array_equal(place_on_grid(flux, found, 150.1, 2.2, size), flux)
    np.testing.assert_array_equal(place_on_grid(flux, None, 150.1, 2.2, size), flux)


@pytest.mark.parametrize("error", [-1e-9, 0.0, 1e-9])
def test_rounding_of_the_coordinates_does_not_move_a_pixel_between_bands(error):
    flux = np.zeros((9, 9), dtype=np.float32)
    flux[4, 4] = 1
    grid = place_on_grid(flux, At(4 + error, 4 + error), 0.0, 0.0, 6)
    assert np.argwhere(grid == 1).tolist() == [[3, 3]]


def test_an_object_outside_its_image_has_no_pixels():
    assert np.isnan(place_on_grid(np.ones((9, 9)), At(100.0, 4.0), 0.0, 0.0, 6)).all()
