"""Draw single galaxies and their features."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from tidalkin.config import SimulatedSurvey
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.simulation.galaxy import draw_galaxy
from tidalkin.simulation.scene import draw_scene

SEED = 3


SURVEY = SimulatedSurvey(galaxies=40, tidal_fraction=0.5)


EMPTY_FIELD = SimulatedSurvey(neighbours_per_arcmin2=0, stars_per_arcmin2=0)


def lone_galaxy(object_id, **changes):
    """Draw the parameters of a galaxy with nothing around it."""
    galaxy = draw_galaxy(EMPTY_FIELD, SEED, object_id)
    nothing = {"companion_magnitude": math.nan, "label": "none"}
    return replace(galaxy, **(nothing | changes))


def scene(galaxy, bands=("i",), size=192):
    return draw_scene(galaxy, EMPTY_FIELD, SEED, bands, size)


def feature_alone(galaxy, bands=("i",), size=256):
    """Draw only the light that the feature adds to a scene."""
    return scene(galaxy, bands, size) - scene(replace(galaxy, label="none"), bands, size)


def radii_arcsec(size):
    along = (np.arange(size) - (size - 1) / 2) * PIXEL_SCALE_ARCSEC
    return np.hypot(along[None, :], along[:, None])
