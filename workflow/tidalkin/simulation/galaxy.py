"""The parameters of a simulated galaxy, drawn from the seed and its object_id.

This is the ground truth of the simulated survey: one row of its catalog. `tidalkin.simulation.scene` draws it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import gammainc, gammaincinv

from tidalkin.config import BANDS, Range, SimulatedSurvey
from tidalkin.seeds import generator
from tidalkin.simulation.tides import FEATURES, Feature

# Median seeing of the Wide layer: Aihara et al. 2022, PASJ 74, 247.
SEEING_ARCSEC = {"g": 0.79, "r": 0.75, "i": 0.61, "z": 0.68, "y": 0.68}
SEEING_SCATTER = 0.1  # natural logarithm, object to object
SEEING_BOUNDS_ARCSEC = (0.4, 1.5)

# Colours against i of a star-forming disc and of an old bulge at redshift 0.1 to 0.2, after Fukugita, Shimasaku &
# Ichikawa 1995, PASP 107, 945: magnitude in each band less that in i.
BLUE = {"g": 0.62, "r": 0.20, "i": 0.0, "z": -0.13, "y": -0.18}
RED = {"g": 1.45, "r": 0.43, "i": 0.0, "z": -0.27, "y": -0.42}

# The field the survey lies in: like HSC's spring field. Degrees.
FIELD_RA = (130.0, 224.0)
FIELD_DEC = (-2.0, 5.0)
# Fractional parts of n/p and n/p², p³ = p + 1, fill the plane evenly however far one counts (Roberts' R2 sequence).
PLASTIC = 1.324717957244746

EARLY_TYPES = 0.35

Label = Literal["none"] | Feature


@dataclass(frozen=True)
class Galaxy:
    """One galaxy with its feature and its seeing."""

    object_id: int
    ra: float
    dec: float
    label: Label
    tidal_surface_brightness: float
    """mag/arcsec² in i: mean over the brightest area, outside 1.5 half-light radii, that holds half of the feature's
    light there; NaN without a feature."""
    tidal_colour_offset: float
    """g - i of the feature less that of its host, mag; NaN without a feature."""
    magnitude_i: float
    """Of the galaxy without its feature."""
    half_light_radius_arcsec: float
    """Of bulge and disc together, face on."""
    bulge_fraction: float
    """Of the light in i."""
    bulge_radius_arcsec: float
    disc_radius_arcsec: float
    """Half-light radii."""
    bulge_index: float
    """Sérsic's n."""
    bulge_axis_ratio: float
    inclination: float
    """Of the disc, degrees; 0 is face on."""
    position_angle: float
    """Degrees, from the image's x axis towards its y axis."""
    bulge_colour: float
    disc_colour: float
    """g - i, mag."""
    arms: int
    """Number of spiral arms; one makes a lopsided disc."""
    arm_fraction: float
    """Of the disc's light, in arms."""
    pitch_angle: float
    """Of the arms, degrees."""
    knots: int
    """Star-forming knots in the disc."""
    knot_fraction: float
    """Of the disc's light, in knots."""
    offset: float
    """Of the bulge from the disc's centre, in half-light radii."""
    companion_magnitude: float
    """i; NaN without a companion."""
    psf_fwhm: dict[str, float]
    """Arcsec, by band, the pixel's own width included."""

    def row(self) -> dict[str, Any]:
        """Return the galaxy as a row of the catalog."""
        columns = {key: value for key, value in vars(self).items() if key != "psf_fwhm"}
        return columns | {f"psf_fwhm_{band}": fwhm for band, fwhm in self.psf_fwhm.items()}


def draw_galaxy(survey: SimulatedSurvey, seed: int, object_id: int) -> Galaxy:
    """Draw one galaxy.

    Parameters
    ----------
    survey : SimulatedSurvey
        Ranges and fractions.
    seed : int
        The run's seed.
    object_id : int
        Its number, from 1.

    Returns
    -------
    Galaxy
        The same for the same arguments, whatever else the survey holds.

    Examples
    --------
    >>> survey = SimulatedSurvey()
    >>> galaxies = [draw_galaxy(survey, seed=1, object_id=number) for number in range(1, 7)]
    >>> [galaxy.label for galaxy in galaxies]
    ['none', 'none', 'tail', 'none', 'shell', 'none']
    >>> [round(galaxy.magnitude_i, 1) for galaxy in galaxies]
    [19.3, 20.0, 20.4, 19.3, 19.8, 17.7]
    """
    rng = generator(seed, "simulated", object_id)
    ra, dec = position(seed, object_id)
    has_feature = rng.random() < survey.tidal_fraction
    feature = FEATURES[rng.integers(len(FEATURES))]
    brightness = rng.uniform(*survey.tidal_surface_brightness)
    colour_offset = rng.choice((-1, 1)) * rng.uniform(0.1, 0.5)

    magnitude = _magnitude(rng, survey.magnitude, slope=0.3)
    radius = _radius(rng, magnitude, survey)
    early = rng.random() < EARLY_TYPES
    bulge_fraction = rng.uniform(0.6, 1.0) if early else 0.5 * rng.beta(1.2, 2.5)
    bulge_index = float(rng.choice((2.5, 4.0)))
    bulge_radius = radius * (1.0 if early else rng.uniform(0.25, 0.5))
    inclination = math.degrees(math.acos(rng.uniform(0.15, 1.0)))
    bulge_colour = rng.normal(1.4, 0.12)
    disc_colour = bulge_colour - (rng.uniform(0.0, 0.2) if early else rng.uniform(0.2, 0.9))

    # Drawn whether used or not, so that every draw below comes from the same place of the sequence.
    is_spiral = rng.random() < 0.6 and not early
    arms, arm_fraction, pitch = int(rng.choice((1, 2, 2, 3))), rng.uniform(0.2, 0.6), rng.uniform(12.0, 30.0)
    is_knotty = rng.random() < 0.5 and not early
    knots, knot_fraction = int(rng.integers(3, 20)), rng.uniform(0.03, 0.15)
    is_lopsided = rng.random() < 0.3
    offset = rng.uniform(0.05, 0.3)
    has_companion = rng.random() < 0.2
    companion = magnitude + rng.uniform(0.5, 3.5)
    return Galaxy(
        object_id=object_id,
        ra=ra,
        dec=dec,
        label=feature if has_feature else "none",
        tidal_surface_brightness=brightness if has_feature else math.nan,
        tidal_colour_offset=float(colour_offset) if has_feature else math.nan,
        magnitude_i=magnitude,
        half_light_radius_arcsec=radius,
        bulge_fraction=bulge_fraction,
        bulge_radius_arcsec=bulge_radius,
        disc_radius_arcsec=_disc_radius(radius, bulge_radius, bulge_fraction, bulge_index),
        bulge_index=bulge_index,
        bulge_axis_ratio=rng.uniform(0.6, 1.0),
        inclination=inclination,
        position_angle=rng.uniform(0.0, 180.0),
        bulge_colour=bulge_colour,
        disc_colour=disc_colour,
        arms=arms if is_spiral else 0,
        arm_fraction=arm_fraction if is_spiral else 0.0,
        pitch_angle=pitch if is_spiral else math.nan,
        knots=knots if is_knotty else 0,
        knot_fraction=knot_fraction if is_knotty else 0.0,
        offset=offset if is_lopsided else 0.0,
        companion_magnitude=companion if has_companion else math.nan,
        psf_fwhm=_seeing(rng),
    )


def position(seed: int, object_id: int) -> tuple[float, float]:
    """Compute right ascension and declination of a galaxy, degrees, spread evenly.

    Examples
    --------
    >>> ra, dec = position(seed=1, object_id=42)
    >>> f"{ra:.3f} {dec:.3f}"
    '130.922 -0.028'
    """
    start = generator(seed, "simulated", "field").random(2)
    across = (start[0] + object_id / PLASTIC) % 1
    along = (start[1] + object_id / PLASTIC**2) % 1
    return (
        FIELD_RA[0] + across * (FIELD_RA[1] - FIELD_RA[0]),
        FIELD_DEC[0] + along * (FIELD_DEC[1] - FIELD_DEC[0]),
    )


def band_fluxes(magnitude_i: float, colour: float, bands: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Return the flux in each band, in units of the flux of magnitude 0.

    The colour is on the line from `BLUE` to `RED`.

    Parameters
    ----------
    magnitude_i : float
        Total magnitude in i.
    colour : float
        g - i, mag.
    bands : tuple of str
        Which bands.

    Examples
    --------
    >>> -2.5 * np.log10(band_fluxes(20.0, 1.0, ("g", "r", "i")))
    array([21.       , 20.3053012, 20.       ])
    """
    redness = (colour - BLUE["g"]) / (RED["g"] - BLUE["g"])
    against_i = [BLUE[band] + redness * (RED[band] - BLUE[band]) for band in bands]
    return np.asarray(10 ** (-0.4 * (magnitude_i + np.array(against_i))))


def _magnitude(rng: np.random.Generator, bounds: Range, slope: float) -> float:
    """Draw a magnitude between bounds; numbers rise by ``slope`` in log10 per magnitude."""
    low, high = (10 ** (slope * bound) for bound in bounds)
    return float(np.log10(rng.uniform(low, high)) / slope)


def _radius(rng: np.random.Generator, magnitude: float, survey: SimulatedSurvey) -> float:
    """Draw a half-light radius inside the range; brighter galaxies are larger, with scatter."""
    smallest, largest = survey.half_light_radius_arcsec
    brightest, faintest = survey.magnitude
    faintness = (magnitude - brightest) / (faintest - brightest) if faintest > brightest else 0.5
    radius = largest * (smallest / largest) ** faintness * rng.lognormal(0.0, 0.2)
    return float(np.clip(radius, smallest, largest))


@lru_cache
def _sersic_b(index: float) -> float:
    """Compute b_n of Sérsic's profile (Graham & Driver 2005, PASA 22, 118)."""
    return float(gammaincinv(2 * index, 0.5))


def _disc_radius(radius: float, bulge_radius: float, bulge_fraction: float, bulge_index: float) -> float:
    """Find the disc's half-light radius for which bulge and disc together have ``radius``."""
    bulge_inside = gammainc(2 * bulge_index, _sersic_b(bulge_index) * (radius / bulge_radius) ** (1 / bulge_index))
    if bulge_fraction == 1:
        return radius
    disc_inside = (0.5 - bulge_fraction * bulge_inside) / (1 - bulge_fraction)
    return float(radius * _sersic_b(1.0) / gammaincinv(2.0, disc_inside))


def _seeing(rng: np.random.Generator) -> dict[str, float]:
    """Draw the width of the PSF in each band, arcsec."""
    scatter = rng.lognormal(0.0, SEEING_SCATTER, len(BANDS))
    return {
        band: float(np.clip(SEEING_ARCSEC[band] * factor, *SEEING_BOUNDS_ARCSEC))
        for band, factor in zip(BANDS, scatter, strict=True)
    }
