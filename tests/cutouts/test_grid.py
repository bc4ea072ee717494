"""Tests of sky positions and the common pixel grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from fits_files import cutout, fits_bytes, wcs_header
from tidalkin.cutouts.grid import GeneralProjection, TangentPlane, pixel_axes, place_on_grid
from tidalkin.cutouts.read import read_cutout


@dataclass(frozen=True)
class At:
    """An object at a known pixel."""

    x: float
    y: float

    def pixel(self, ra, dec):
        return self.x, self.y


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


def test_the_axes_of_pixels_agree_with_astropy_for_any_orientation():
    header = wcs_header(CROTA2=30.0)
    plane = WCS(header)
    found = pixel_axes(GeneralProjection(plane), 150.01, 2.01)
    assert np.abs(np.linalg.det(found)) ** -0.5 == pytest.approx(4.7e-5 * 3600, rel=1e-4)
    assert np.linalg.det(found) < 0  # east is left
    turned = math.degrees(math.atan2(found[0, 1], found[1, 1]))
    assert abs(turned) == pytest.approx(30.0, abs=0.1)


def test_the_axes_of_a_tangent_plane_are_its_matrix():
    step = 0.168 / 3600
    plane = TangentPlane((8.5, 8.5), (150.0, 60.0), (-step, 0.0, 0.0, step))
    np.testing.assert_allclose(pixel_axes(plane, 150.0, 60.0), np.diag([-1, 1]) / 0.168, atol=1e-3)
