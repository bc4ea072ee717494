"""Tests of the sky noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from astropy.io import fits

from tidalkin.images.noise import sky_sigma


def noisy_galaxy(sigma, size=96, seed=1):
    """Draw a galaxy whose light covers a fifth of the image."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    light = 300 * sigma * np.exp(-np.hypot(x, y) / (size / 24))
    return (light + np.random.default_rng(seed).normal(0, sigma, (size, size))).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.02, 1.0, 57.54])
def test_sky_sigma_is_that_of_the_variance_plane(sigma):
    flux = noisy_galaxy(sigma)
    variance = np.float32(sigma**2) + np.clip(flux, 0, None) * np.float32(sigma / 100)
    assert sky_sigma(flux, variance) == pytest.approx(sigma, rel=0.03)


@pytest.mark.parametrize("sigma", [0.02, 1.0, 57.54])
def test_sky_sigma_without_a_variance_plane_is_the_scatter_of_the_sky(sigma):
    assert sky_sigma(noisy_galaxy(sigma), None) == pytest.approx(sigma, rel=0.15)


@pytest.mark.parametrize("nonsense", [0.0, -1.0, np.nan, np.inf, 1e6, 1e-6])
def test_a_variance_plane_that_is_none_is_not_believed(nonsense):
    flux = noisy_galaxy(1.0)
    assert sky_sigma(flux, np.full_like(flux, nonsense)) == pytest.approx(1.0, rel=0.15)


def test_missing_pixels_do_not_count():
    flux, variance = noisy_galaxy(1.0), np.ones((96, 96), np.float32)
    flux[:, :60], variance[:, :60] = np.nan, np.nan
    assert sky_sigma(flux, variance) == pytest.approx(1.0)
    assert sky_sigma(flux, None) == pytest.approx(1.0, rel=0.3)


def test_sky_sigma_of_nothing_is_unknown():
    assert math.isnan(sky_sigma(np.full((9, 9), np.nan, np.float32), np.ones((9, 9), np.float32)))
    assert math.isnan(sky_sigma(np.zeros((9, 9), np.float32), None))


def test_an_image_without_noise_has_the_sigma_of_its_variance_plane():
    assert sky_sigma(np.zeros((9, 9), np.float32), np.full((9, 9), 4, np.float32)) == 2.0


def test_in_real_images_the_variance_plane_and_the_scatter_agree(real_hsc_cutouts):
    ratios = []
    for file in sorted((real_hsc_cutouts / "cutouts").glob("*-HSC-I.fits")):
        with fits.open(file) as hdus:
            flux, variance = hdus[1].data, hdus[3].data
        ratios.append(sky_sigma(flux, None) / sky_sigma(flux, variance))
    assert 1.0 < np.median(ratios) < 1.2
    assert np.percentile(ratios, 95) < 1.5
