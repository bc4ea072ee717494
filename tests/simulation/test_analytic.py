"""Analytic tidal features have the normalisation, the place and the shape that their kind promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.errors import TidalkinError
from tidalkin.simulation.analytic import KINDS, band_colour, draw_feature, feature_flux, half_light_brightness

SIZE = 96
RADIUS_ARCSEC = 1.4


def feature(kind, seed, psf_fwhm_arcsec=0.65, size=SIZE, radius_arcsec=RADIUS_ARCSEC):
    return draw_feature(
        kind, np.random.default_rng(seed), size, PIXEL_SCALE_ARCSEC, psf_fwhm_arcsec, radius_arcsec
    ).astype(np.float64)


def from_middle_arcsec(size=SIZE):
    along = (np.arange(size) - (size - 1) / 2) * PIXEL_SCALE_ARCSEC
    return np.hypot(along[None, :], along[:, None])


@pytest.mark.parametrize("kind", KINDS)
def test_the_brightest_half_of_the_light_has_a_mean_of_one(kind):
    for seed in range(20):
        image = feature(kind, seed)
        brightest = np.sort(image.ravel())[::-1]
        half = brightest[: np.searchsorted(np.cumsum(brightest), image.sum() / 2) + 1]
        assert half.mean() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_draws_the_same_feature_and_another_seed_another(kind):
    np.testing.assert_array_equal(feature(kind, 1), feature(kind, 1))
    assert np.corrcoef(feature(kind, 1).ravel(), feature(kind, 2).ravel())[0, 1] < 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_features_shine_outside_the_galaxy_s_core_and_inside_the_image(kind):
    radius = from_middle_arcsec()
    images = [feature(kind, seed) for seed in range(30)]
    assert np.mean([image[radius < RADIUS_ARCSEC / 2].sum() / image.sum() for image in images]) < 0.05
    assert np.mean([image[radius > SIZE / 2 * PIXEL_SCALE_ARCSEC].sum() / image.sum() for image in images]) < 0.05


def test_features_grow_with_the_galaxy_as_far_as_the_image_allows():
    radius = from_middle_arcsec()

    def extent(kind, radius_arcsec):
        images = [feature(kind, seed, radius_arcsec=radius_arcsec) for seed in range(12)]
        return np.mean([np.average(radius, weights=image) for image in images])

    for kind in KINDS:
        assert extent(kind, 1.8) > 1.2 * extent(kind, 0.8)
        assert extent(kind, 100.0) < SIZE / 2 * PIXEL_SCALE_ARCSEC


def test_shells_end_sharply_outwards_and_softly_inwards():
    """Compare the steepest fall with the steepest rise along rays."""
    steeper = []
    for seed in range(20):
        image = feature("shell", seed, psf_fwhm_arcsec=0.3, size=193)
        steps = np.arange(90)
        for angle in np.linspace(0, 2 * np.pi, 36, endpoint=False):
            ray = image[
                np.rint(96 + steps * np.sin(angle)).astype(int), np.rint(96 + steps * np.cos(angle)).astype(int)
            ]
            if ray.max() > 1:
                steeper.append(-np.diff(ray).min() > np.diff(ray).max())
    assert np.mean(steeper) > 0.75


def test_two_tails_are_on_opposite_sides_and_a_fan_is_on_one():
    def lopsidedness(kind):
        images = [feature(kind, seed) for seed in range(30)]
        along = np.arange(SIZE) - (SIZE - 1) / 2
        centres = [np.hypot((image.sum(0) @ along), (image.sum(1) @ along)) / image.sum() for image in images]
        return np.array(centres) * PIXEL_SCALE_ARCSEC / [np.average(from_middle_arcsec(), weights=i) for i in images]

    assert lopsidedness("fan").min() > 0.5
    assert 0.3 < np.mean(lopsidedness("tail") < 0.5) < 0.9


def test_streams_are_thinner_than_fans():
    def width(kind):
        """Compare the area of the brightest half with the square of its extent."""
        shares = []
        for seed in range(20):
            image = feature(kind, seed)
            bright = image > 0.7
            y, x = np.nonzero(bright)
            shares.append(bright.sum() / ((np.ptp(x) + 1) ** 2 + (np.ptp(y) + 1) ** 2))
        return np.mean(shares)

    assert width("stream") < 0.75 * width("fan")


@pytest.mark.parametrize("kind", KINDS)
def test_worse_seeing_smooths_the_same_feature(kind):
    for seed in range(5):
        sharp, blurred = feature(kind, seed, 0.4), feature(kind, seed, 1.2)
        assert np.corrcoef(sharp.ravel(), blurred.ravel())[0, 1] > 0.7
        sharp, blurred = sharp / sharp.sum(), blurred / blurred.sum()
        assert np.abs(np.gradient(blurred)).max() < np.abs(np.gradient(sharp)).max()
        assert half_light_brightness(blurred) < half_light_brightness(sharp)


def test_the_flux_of_a_pixel_follows_from_surface_brightness_colour_and_pixel_scale():
    g, i = feature_flux(25.0, 0.8, ("g", "i"), PIXEL_SCALE_ARCSEC)
    assert i == pytest.approx(10 ** (0.4 * (31.4 - 25.0)) * PIXEL_SCALE_ARCSEC**2)
    assert -2.5 * np.log10(g / i) == pytest.approx(0.8, abs=0.01)


def test_a_redder_feature_is_fainter_blueward_and_brighter_redward_of_i():
    for band, is_blueward in {"g": True, "r": True, "z": False, "y": False}.items():
        colours = [band_colour(colour, band) for colour in (0.2, 0.6, 1.0, 1.4, 2.0)]
        assert np.all(np.diff(colours) > 0) == is_blueward
        assert np.all(np.diff(colours) < 0) != is_blueward


def test_an_unknown_kind_is_refused_with_those_that_are_known():
    with pytest.raises(TidalkinError, match="'ring' is unknown: use one of stream, shell, tail, fan"):
        draw_feature("ring", np.random.default_rng(1), 32, 0.168, 0.6, 1.0)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**31),
    size=st.sampled_from([16, 31, 64, 101]),
    psf=st.sampled_from([0.0, 0.5, 1.5]),
    radius=st.floats(0.2, 10),
)
def test_any_feature_can_be_drawn_at_any_size(kind, seed, size, psf, radius):
    image = feature(kind, seed, psf, size, radius)
    assert image.shape == (size, size)
    assert np.isfinite(image).all()
    assert image.min() >= 0
    assert half_light_brightness(image) == pytest.approx(1, abs=1e-4)
