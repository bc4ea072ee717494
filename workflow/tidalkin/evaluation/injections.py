"""Draw tidal features of known surface brightness for the user's own galaxies.

The features come from `tidalkin.simulation.analytic`, which training never sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from tidalkin import config
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.evaluation.morphology import central_source
from tidalkin.injection.light import SEEING_ARCSEC, surface_brightness_of_sigma, surface_brightness_range
from tidalkin.simulation.analytic import draw_feature_in_bands

Floats = npt.NDArray[np.float32]

FAINTEST_BELOW_SIGMA = 2.2
"""Faint end of the default range of surface brightness, in magnitudes fainter than one sky sigma per pixel."""
SMALLEST_COLOR, LARGEST_COLOR = -0.3, 3.0  # of the black bodies of `feature_flux`, g - i
FAINT_HOST_RADIUS_ARCSEC = 0.8  # of a galaxy that is not detected in its image


@dataclass(frozen=True)
class Feature:
    """A tidal feature to be injected into one galaxy."""

    kind: str
    """One of `config.Completeness.kinds`."""
    surface_brightness: float
    """In i, mag/arcsec²: mean over the brightest area that holds half of the light."""
    color: float
    """g - i, mag."""
    seed: int
    """Decides its shape."""


def feature_range(
    settings: config.Completeness, bands: Sequence[str], sky_sigma: npt.NDArray[np.float32]
) -> tuple[float, float]:
    """Return the range of the features' surface brightness in i, mag/arcsec².

    Without a configured range, it starts where that of injected light does, and its faint end follows the survey's
    depth.

    Parameters
    ----------
    settings : config.Completeness
        The configured range, if any.
    bands : sequence of str
        Names of the bands.
    sky_sigma : (band,) float32
        Typical sky noise of a pixel in each band, nJy.

    Examples
    --------
    >>> sky_sigma = np.array([1.0], np.float32)
    >>> [round(float(limit), 2) for limit in feature_range(config.Completeness(), ["i"], sky_sigma)]
    [23.5, 29.73]
    >>> feature_range(config.Completeness(surface_brightness=(24.0, 27.0)), ["i"], sky_sigma)
    (24.0, 27.0)
    """
    if settings.surface_brightness is not None:
        return settings.surface_brightness
    bright_end, _ = surface_brightness_range(config.Injection(), bands, sky_sigma)
    return bright_end, surface_brightness_of_sigma(bands, sky_sigma) + FAINTEST_BELOW_SIGMA


def plan_features(
    count: int, settings: config.Completeness, brightness: tuple[float, float], random: np.random.Generator
) -> list[Feature]:
    """Draw features that cover surface brightness and kinds evenly, in random order.

    Parameters
    ----------
    count : int
        Number of features.
    settings : config.Completeness
        Kinds and colours.
    brightness : (float, float)
        Range of surface brightness, mag/arcsec².
    random : numpy.random.Generator
        Source of every random choice.

    Examples
    --------
    >>> settings = config.Completeness(kinds=("shell", "tail"))
    >>> drawn = plan_features(4, settings, (24.0, 28.0), np.random.default_rng(1))
    >>> sorted(int(feature.surface_brightness) for feature in drawn)
    [24, 25, 26, 27]
    """
    low, high = brightness
    steps = low + (high - low) * (np.arange(count) + random.random(count)) / count
    kinds = [settings.kinds[kind] for _ in range(count) for kind in random.permutation(len(settings.kinds))]
    colors = random.normal(settings.color, settings.color_scatter, count).clip(SMALLEST_COLOR, LARGEST_COLOR)
    seeds = random.integers(2**63, size=count)
    return [Feature(kinds[n], float(steps[n]), float(colors[n]), int(seeds[n])) for n in random.permutation(count)]


def host_radius_arcsec(image: Floats, sky_sigma: float) -> float:
    """Measure the half-light radius of the galaxy in the middle of an image, arcsec.

    It is that of the galaxy's detected pixels, seeing included.

    Parameters
    ----------
    image : (y, x) float32
        One band, NaN where missing.
    sky_sigma : float
        Noise of a pixel, in the image's unit.

    Examples
    --------
    >>> y, x = np.mgrid[:64, :64] - 32
    >>> galaxy = 100 * np.exp(-(x**2 + y**2) / (2 * 4.0**2))  # a Gaussian of sigma 4 pixels: half of it is within 4.7
    >>> round(host_radius_arcsec(galaxy.astype(np.float32), sky_sigma=0.1) / PIXEL_SCALE_ARCSEC, 1)
    4.7
    """
    filled = np.nan_to_num(image)
    galaxy, _ = central_source(filled, sky_sigma)
    light = np.where(galaxy, filled, 0.0).clip(min=0.0)
    if not light.any():
        return FAINT_HOST_RADIUS_ARCSEC
    radius = _radius_arcsec(image.shape[-1])
    order = np.argsort(radius, axis=None)
    growth = light.ravel()[order].cumsum()
    return float(radius.ravel()[order][np.searchsorted(growth, growth[-1] / 2)])


def feature_light(
    feature: Feature, bands: Sequence[str], psf_fwhm: Floats, host_radius: float, size: int
) -> npt.NDArray[np.float32]:
    """Draw the light of a feature in every band.

    Parameters
    ----------
    feature : Feature
        Kind, brightness, colour and shape.
    bands : sequence of str
        Names of the bands.
    psf_fwhm : (band,) float32
        Seeing, arcsec; NaN where unknown.
    host_radius : float
        Half-light radius of the galaxy, arcsec, which the size of the feature follows.
    size : int
        Side of the image, pixels.

    Returns
    -------
    (band, y, x) float32 array
        nJy per pixel.

    Examples
    --------
    >>> feature = Feature("shell", surface_brightness=25.0, color=1.0, seed=1)
    >>> light = feature_light(feature, ["g", "i"], np.array([0.6, 0.6]), host_radius=1.0, size=96)
    >>> light.shape, round(float(light[0].sum() / light[1].sum()), 2)  # g - i = 1
    ((2, 96, 96), 0.4)
    """
    return draw_feature_in_bands(
        feature.kind,
        partial(np.random.default_rng, feature.seed),
        bands,
        np.nan_to_num(psf_fwhm, nan=SEEING_ARCSEC),
        surface_brightness=feature.surface_brightness,
        colour=feature.color,
        half_light_radius_arcsec=host_radius,
        size=size,
        pixel_scale_arcsec=PIXEL_SCALE_ARCSEC,
    )


def mean_radius_arcsec(light: Floats) -> float:
    """Compute the mean distance of light (y, x) from the middle of its image, arcsec.

    Examples
    --------
    >>> round(mean_radius_arcsec(np.ones((2, 2), np.float32)), 3)
    0.119
    """
    return float((light * _radius_arcsec(light.shape[-1])).sum() / light.sum())


def half_light_area_arcsec2(light: Floats) -> float:
    """Compute the brightest area that holds half of light (y, x), arcsec².

    Examples
    --------
    >>> round(half_light_area_arcsec2(np.ones((4, 4), np.float32)) / PIXEL_SCALE_ARCSEC**2)
    8
    """
    growth = np.sort(light, axis=None)[::-1].astype(np.float64).cumsum()
    return float((np.searchsorted(growth, growth[-1] / 2 * (1 - 1e-9)) + 1) * PIXEL_SCALE_ARCSEC**2)


def _radius_arcsec(size: int) -> npt.NDArray[np.float64]:
    """Compute the distance of each pixel from the middle of a square image, arcsec."""
    axis = (np.arange(size) - (size - 1) / 2) * PIXEL_SCALE_ARCSEC
    return np.hypot(axis[None, :], axis[:, None])
