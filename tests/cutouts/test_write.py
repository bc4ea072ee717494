"""Tests of writing cutouts."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from fits_files import FLUXMAG0, NANOJANSKY_PER_COUNT, PLANES, cutout
from tidalkin.cutouts.read import read_cutout


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
