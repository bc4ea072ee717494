"""Tests of reading cutouts: planes, calibration, missing pixels, broken files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from fits_files import NANOJANSKY_PER_COUNT, cutout, fits_bytes, image_hdu, wcs_header
from tidalkin.cutouts.grid import GeneralProjection
from tidalkin.cutouts.read import read_cutout, read_geometry
from tidalkin.errors import TidalkinError


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


@pytest.mark.parametrize("value", [1e30, -1e30, -9.2e18, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_pixel_beyond_any_flux_is_missing_and_counted(value, dtype):
    image, mask = image_hdu(1.0, dtype=dtype), image_hdu(0, "MASK", np.int32, MP_SAT=1)
    image.data[1, 1] = image.data[2, 2] = value
    mask.data[2, 2] = 2  # a saturated pixel is known to be missing
    found = read_cutout(fits_bytes(image, mask), "x", ("SAT",))
    assert np.argwhere(np.isnan(found.flux)).tolist() == [[1, 1], [2, 2]]
    assert found.impossible_pixels == 1


def test_a_band_of_nothing_but_nan_is_valid():
    assert np.isnan(read_cutout(cutout(np.full((3, 3), np.nan)), "x").flux).all()


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
        ({"FLUXMAG0": None, "BUNIT": "mag(AB)"}, r"BUNIT is 'mag\(AB\)'"),
        ({"FLUXMAG0": None, "BUNIT": "dex(nJy)"}, r"BUNIT is 'dex\(nJy\)'"),
        ({"FLUXMAG0": 0.0}, "FLUXMAG0 = 0.0, but it must be a positive number"),
        ({"FLUXMAG0": "27"}, "FLUXMAG0 = '27'"),
        ({"FLUXMAG0": True}, "FLUXMAG0 = True, but it must be a positive number"),
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


@pytest.mark.parametrize(
    ("value", "seeing"), [(0.7, 0.7), (30, 30.0), (0.0, np.nan), (-1, np.nan), (99.0, np.nan), (1e20, np.nan)]
)
def test_the_seeing_in_a_header_is_known_where_it_is_possible(value, seeing):
    np.testing.assert_equal(read_cutout(fits_bytes(image_hdu(PSF_FWHM=value)), "x").psf_fwhm, seeing)


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(TidalkinError, match=r"nowhere\.fits: cannot be read"):
        read_cutout(tmp_path / "nowhere.fits", "x")


@pytest.mark.filterwarnings("ignore:RADECSYS")
@pytest.mark.parametrize(
    "header",
    [
        wcs_header("SIN"),
        wcs_header(LONPOLE=150.0),
        wcs_header(CROTA2=30.0),
        wcs_header(RADESYS="FK4", EQUINOX=1950.0),
        wcs_header(RADECSYS="FK4"),
        wcs_header(EPOCH=1950.0),
        wcs_header(A_ORDER=2, B_ORDER=2, A_2_0=1e-3, B_0_2=1e-3),
        wcs_header("TAN", CTYPE1="GLON-TAN", CTYPE2="GLAT-TAN"),
    ],
)
def test_other_projections_and_frames_go_to_astropy(header):
    found = read_cutout(fits_bytes(fits.ImageHDU(np.ones((3, 3)), header, name="IMAGE")), "x").wcs
    assert isinstance(found, GeneralProjection)
    sky = WCS(header).pixel_to_world(12.0, 7.0).icrs
    assert found.pixel(sky.ra.deg, sky.dec.deg) == pytest.approx((12.0, 7.0), abs=1e-5)


@pytest.mark.parametrize("projection", ["TAN", "SIN"])
@pytest.mark.parametrize("name", ["IMAGE", ""])
def test_coordinates_in_hdu_0_are_those_of_an_image_without_its_own(projection, name):
    content = fits_bytes(image_hdu(name=name), **wcs_header(projection))
    wanted = read_cutout(fits_bytes(image_hdu(**wcs_header(projection))), "x").wcs.pixel(150.001, 2.001)
    assert read_cutout(content, "x").wcs.pixel(150.001, 2.001) == wanted
    assert read_geometry(content, "x").wcs.pixel(150.001, 2.001) == wanted
    own = fits_bytes(image_hdu(name=name, **{**wcs_header(), "CRPIX1": 7.0}), **wcs_header(projection))
    assert read_cutout(own, "x").wcs.pixel(150.0, 2.0) == pytest.approx((6.0, 19.0))


def test_coordinates_of_other_pixels_in_hdu_0_are_not_the_images():
    primary = fits.PrimaryHDU(np.ones((9, 9), np.float32), wcs_header())
    primary.header["EXTNAME"] = "THUMBNAIL"
    buffer = io.BytesIO()
    fits.HDUList([primary, image_hdu(BUNIT="nJy")]).writeto(buffer)
    assert read_cutout(buffer.getvalue(), "x").wcs is None
    assert read_geometry(buffer.getvalue(), "x").wcs is None


@pytest.mark.parametrize("projection", ["TAN", "SIN"])
@pytest.mark.parametrize("unit", ["degree", "degrees", "DEG", "Degree "])
def test_degrees_may_be_spelled_out(projection, unit):
    expected, found = (
        read_cutout(fits_bytes(image_hdu(**wcs_header(projection, CUNIT1=word, CUNIT2=word))), "x").wcs
        for word in ("deg", unit)
    )
    assert type(found) is type(expected)
    assert found.pixel(150.001, 2.001) == expected.pixel(150.001, 2.001)


def test_a_compressed_image_with_degrees_spelled_out_is_read():
    header = wcs_header("SIN", CUNIT1="degree", CUNIT2="degree")
    image = fits.CompImageHDU(np.ones((20, 20), np.float32), header, name="IMAGE", compression_type="GZIP_1")
    found = read_cutout(fits_bytes(image), "x").wcs
    assert found.pixel(150.0, 2.0) == pytest.approx((29.5, 19.0))


@pytest.mark.parametrize("unit", ["hour", "m", "xyz"])
def test_coordinates_in_another_unit_are_refused_with_the_fix(unit):
    with pytest.raises(TidalkinError, match=rf"^42-g.fits: has CUNIT1 = '{unit}' in its WCS, .*: write 'deg'"):
        read_cutout(fits_bytes(image_hdu(**wcs_header(CUNIT1=unit, CUNIT2=unit))), "42-g.fits")


def test_coordinates_that_are_not_on_the_sky_are_refused():
    with pytest.raises(TidalkinError, match=r"^42-g\.fits: .*not on the sky"):
        read_cutout(fits_bytes(image_hdu(CTYPE1="WAVE", CTYPE2="X")), "42-g.fits")


def test_a_distortion_in_a_table_beside_the_image_is_refused():
    with pytest.raises(TidalkinError, match=r"^42-g\.fits: has coordinates that astropy cannot read"):
        read_cutout(fits_bytes(fits.ImageHDU(np.ones((3, 3)), wcs_header(CPDIS1="LOOKUP"), name="IMAGE")), "42-g.fits")


def test_an_unknown_frame_is_refused_by_name():
    with pytest.raises(TidalkinError, match=r"^42-g\.fits: .*\(RADESYS = 'gappt'\) that are not on the sky"):
        read_cutout(fits_bytes(fits.ImageHDU(np.ones((3, 3)), wcs_header(RADESYS="gappt"), name="IMAGE")), "42-g.fits")


@pytest.mark.parametrize("matrix", [(1e-5, 1e-5, 1e-5, 1e-5), (0.0, 0.0, 0.0, 0.0), (1e-5, 0.0, 0.0, 0.0)])
def test_a_wcs_matrix_without_an_inverse_is_refused(matrix):
    keys = dict(zip(("CD1_1", "CD1_2", "CD2_1", "CD2_2"), matrix, strict=True))
    with pytest.raises(TidalkinError, match=r"^42-g\.fits: "):
        read_cutout(fits_bytes(fits.ImageHDU(np.ones((3, 3)), wcs_header(**keys), name="IMAGE")), "42-g.fits")
