"""Tests of the light of drawn galaxies."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from surveys.drawn import EMPTY_FIELD, SEED, lone_galaxy, radii_arcsec, scene
from tidalkin.config import BANDS
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.simulation.scene import draw_scene, psf


@pytest.mark.parametrize("object_id", [1, 2, 3, 4, 5, 6])
def test_the_flux_of_a_galaxy_is_that_of_its_magnitude(object_id):
    galaxy = lone_galaxy(object_id)
    # The wings of a bulge reach beyond any cutout.
    assert -2.5 * math.log10(scene(galaxy).sum()) == pytest.approx(galaxy.magnitude_i, abs=0.03)


def test_half_of_the_light_is_within_the_half_light_radius():
    galaxy = lone_galaxy(2, inclination=0.0, bulge_axis_ratio=1.0, offset=0.0, arms=0, arm_fraction=0.0)
    galaxy = replace(galaxy, knots=0, knot_fraction=0.0, psf_fwhm=dict.fromkeys(BANDS, 0.4))
    assert galaxy.bulge_fraction < 0.5
    image = scene(galaxy)[0]
    inside = image[radii_arcsec(192) < galaxy.half_light_radius_arcsec].sum()
    assert inside / image.sum() == pytest.approx(0.5, abs=0.03)


def test_bulges_are_redder_than_discs():
    images = scene(lone_galaxy(2, bulge_colour=1.5, disc_colour=0.6), BANDS)
    g_less_i = -2.5 * np.log10(images[0].sum() / images[2].sum())
    assert 0.6 < g_less_i < 1.5


def test_arms_break_the_symmetry_of_a_disc():
    plain = lone_galaxy(2, arms=0, arm_fraction=0.0, knots=0, knot_fraction=0.0, offset=0.0)
    lopsided = replace(plain, arms=1, arm_fraction=0.5, pitch_angle=20.0)

    def asymmetry(galaxy):
        image = scene(galaxy, size=129)[0]
        return np.abs(image - image[::-1, ::-1]).sum() / image.sum()

    assert asymmetry(plain) < 0.01
    assert asymmetry(lopsided) > 0.1


@pytest.mark.parametrize("size", [96, 97])
def test_a_galaxy_is_where_it_is_asked_to_be(size):
    galaxy = lone_galaxy(2, arms=0, knots=0, arm_fraction=0.0, knot_fraction=0.0, offset=0.0)
    image = draw_scene(galaxy, EMPTY_FIELD, SEED, ("i",), size, (0.3, -0.5))[0]
    y, x = (float((grid * image).sum() / image.sum()) - (size - 1) / 2 for grid in np.indices(image.shape))
    assert (x * PIXEL_SCALE_ARCSEC, y * PIXEL_SCALE_ARCSEC) == pytest.approx((0.3, -0.5), abs=0.03)


def test_the_width_of_the_psf_is_that_of_the_catalog():
    for fwhm in (0.45, 0.61, 0.9):
        star = psf(fwhm).drawImage(nx=129, ny=129, scale=0.02, method="no_pixel")
        assert star.calculateFWHM() == pytest.approx(fwhm, rel=0.01)
