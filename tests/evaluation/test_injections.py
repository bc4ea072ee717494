"""Tidal features of known surface brightness for the galaxies of a survey."""

import numpy as np
import pandas as pd
import pytest

from tidalkin.config import BANDS, Completeness
from tidalkin.constants import PIXEL_SCALE_ARCSEC, ZERO_POINT_AB
from tidalkin.evaluation.injections import (
    Feature,
    feature_light,
    feature_range,
    host_radius_arcsec,
    plan_features,
)
from tidalkin.simulation.analytic import KINDS, half_light_brightness

SIZE = 64
SEEING = np.array([0.79, 0.75, 0.61, np.nan, 0.68], np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_a_feature_has_the_surface_brightness_and_colour_that_are_asked_for(kind):
    light = feature_light(Feature(kind, 25.5, 1.2, seed=3), BANDS, SEEING, host_radius=1.0, size=SIZE)
    in_i, in_g = light[BANDS.index("i")], light[BANDS.index("g")]
    brightness = ZERO_POINT_AB - 2.5 * np.log10(half_light_brightness(in_i) / PIXEL_SCALE_ARCSEC**2)
    assert brightness == pytest.approx(25.5, abs=1e-3)
    assert -2.5 * np.log10(in_g.sum() / in_i.sum()) == pytest.approx(1.2, abs=1e-3)  # though g has the worse seeing


def test_a_feature_has_one_shape_in_all_bands():
    light = feature_light(Feature("shell", 25.0, 1.0, seed=8), BANDS, np.full(5, 0.7), host_radius=1.0, size=SIZE)
    profile = light / light.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(profile, np.broadcast_to(profile[2], profile.shape), atol=1e-5)


def test_features_cover_brightness_and_kinds_evenly():
    settings = Completeness()
    features = pd.DataFrame(plan_features(400, settings, (24.0, 28.0), np.random.default_rng(1)))
    quarter = features["surface_brightness"].astype(int)
    assert quarter.value_counts().tolist() == [100] * 4
    assert (features.groupby([quarter, "kind"]).size() == 25).all()
    assert features["color"].mean() == pytest.approx(settings.color, abs=0.03)
    assert features["seed"].is_unique
    assert abs(features["surface_brightness"].autocorr()) < 0.2


def test_the_default_range_follows_the_depth_of_the_survey():
    wide, deep = (feature_range(Completeness(), ["i"], np.array([sigma], np.float32)) for sigma in (5.0, 1.0))
    assert wide == pytest.approx((23.48, 27.98), abs=0.01)
    assert deep == (23.5, pytest.approx(27.98 + 2.5 * np.log10(5), abs=0.01))
    given = Completeness(surface_brightness=(25.0, 26.0))
    assert feature_range(given, ["i"], np.array([5.0], np.float32)) == (25.0, 26.0)


@pytest.mark.parametrize("radius_pixels", [4.0, 8.0])
def test_the_size_of_a_galaxy_is_measured_beside_a_brighter_neighbour(radius_pixels):
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    galaxy = 50 * np.exp(-(np.hypot(x, y) ** 2) / radius_pixels**2 * np.log(2))  # a Gaussian's half-light radius
    star = 500 * np.exp(-(np.hypot(x - 24, y - 24) ** 2) / 4)
    image = (galaxy + star + np.random.default_rng(1).normal(size=galaxy.shape)).astype(np.float32)
    assert host_radius_arcsec(image, 1.0) == pytest.approx(radius_pixels * PIXEL_SCALE_ARCSEC, rel=0.15)


def test_an_empty_image_has_a_size_to_draw_with():
    noise = np.random.default_rng(1).normal(size=(SIZE, SIZE)).astype(np.float32)
    noise[:5] = np.nan
    assert 0.1 < host_radius_arcsec(noise, 1.0) < 2
