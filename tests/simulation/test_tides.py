"""Tests of tidal features."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from surveys.drawn import feature_alone, lone_galaxy, radii_arcsec, scene
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.simulation.tides import DISC_EDGE, FEATURES, simulate
from tidalkin.sources.simulated import (
    FLUXMAG0,
    sky_sigma,
)


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("object_id", [1, 2])
def test_a_feature_has_the_surface_brightness_drawn(feature, object_id):
    galaxy = lone_galaxy(object_id, label=feature, tidal_surface_brightness=25.0, tidal_colour_offset=0.3)
    alone = feature_alone(galaxy)[0]
    outside = np.sort(alone[radii_arcsec(256) > 1.5 * galaxy.half_light_radius_arcsec])[::-1]
    light = np.cumsum(outside, dtype=float)
    pixels = np.searchsorted(light, light[-1] / 2) + 1
    brightness = -2.5 * math.log10(light[pixels - 1] / pixels / PIXEL_SCALE_ARCSEC**2)
    assert brightness == pytest.approx(25.0, abs=0.1)


@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_is_an_excess_away_from_the_centre(feature):
    galaxy = lone_galaxy(4, label=feature, tidal_surface_brightness=24.0, tidal_colour_offset=0.3)
    alone = feature_alone(galaxy, size=128)[0] * FLUXMAG0
    outside = radii_arcsec(128) > 1.5 * galaxy.half_light_radius_arcsec
    noise = sky_sigma("i") * math.sqrt((alone[outside] > sky_sigma("i")).sum())
    assert alone[outside].sum() > 20 * noise
    assert alone.min() > -0.05 * sky_sigma("i")


@pytest.mark.parametrize("offset", [-0.4, 0.4])
def test_a_feature_is_bluer_or_redder_than_its_host(offset):
    galaxy = lone_galaxy(3, label="stream", tidal_surface_brightness=24.0, tidal_colour_offset=offset)
    bands = ("g", "i")
    host, alone = scene(replace(galaxy, label="none"), bands, 256), feature_alone(galaxy, bands)
    host_colour, colour = (-2.5 * np.log10(image[0].sum() / image[1].sum()) for image in (host, alone))
    assert colour - host_colour == pytest.approx(offset, abs=0.03)


def test_shells_are_centred_on_the_host_and_streams_avoid_its_centre():
    def central_share(feature):
        debris = [simulate(feature, np.random.default_rng(number)).positions for number in range(12)]
        return np.mean([np.mean(np.linalg.norm(positions, axis=0) < 1) for positions in debris])

    assert central_share("shell") > 0.05
    assert central_share("stream") < 0.05


def test_a_fly_by_draws_stars_out_of_the_disc():
    for number in range(4):
        debris = simulate("tail", np.random.default_rng(number))
        distance = np.linalg.norm(debris.positions, axis=0)
        assert np.average(distance > DISC_EDGE + 0.5, weights=debris.weights) > 0.1
        assert np.all(debris.weights[distance < DISC_EDGE / 2] == 0)
