"""Tidal features drawn from formulae: streams, shells, tails and fans.

The simulated survey integrates orbits of particles, and the encoder is trained on injected light. This generator is
independent of both. It tests whether the encoder also finds the features of another maker, and it measures
completeness by injection and recovery.

Each feature is centred on the middle of its image. Streams and tails are chains of round Gaussians along a curve, so
that seeing only widens them. Shells and fans are formulae of radius and angle, smoothed by a Gaussian.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from tidalkin.constants import FWHM_PER_SIGMA, ZERO_POINT_AB
from tidalkin.errors import TidalkinError

Kind = Literal["stream", "shell", "tail", "fan"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Features end inside this share of the half side, so that none lies outside the image.
LARGEST_REACH = 0.88
SMALLEST_REACH_ARCSEC = 1.6
STREAM_POINTS, TAIL_POINTS = 360, 90

# Mean wavelengths of HSC's filters, micrometres, to two digits: Kawanomoto et al. 2018, PASJ 70, 66.
WAVELENGTH_MICRONS = {"g": 0.48, "r": 0.62, "i": 0.77, "z": 0.89, "y": 0.98}
PLANCK_MICRON_KELVIN = 14387.77  # h c / k, CODATA 2018

Floats = npt.NDArray[np.floating]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Frame:
    """The image a feature is drawn on, and the galaxy it belongs to."""

    size: int
    """Pixels of a side."""
    pixel_arcsec: float
    psf_arcsec: float
    """Sigma of the seeing, arcsec."""
    radius_arcsec: float
    """Half-light radius of the galaxy."""

    @property
    def axis(self) -> Doubles:
        """Positions of the pixels along one side, arcsec from the middle."""
        return (np.arange(self.size, dtype=np.float64) - (self.size - 1) / 2) * self.pixel_arcsec

    def reach(self, rng: np.random.Generator, low: float, high: float) -> float:
        """Draw a radius between two multiples of the half-light radius.

        It is in arcsec, and fits into the image.
        """
        largest = LARGEST_REACH * self.size * self.pixel_arcsec / 2
        smallest = min(SMALLEST_REACH_ARCSEC, largest)
        return float(np.clip(self.radius_arcsec * rng.uniform(low, high), smallest, largest * rng.uniform(0.75, 1.0)))


def draw_feature(
    kind: str,
    rng: np.random.Generator,
    size: int,
    pixel_scale_arcsec: float,
    psf_fwhm_arcsec: float,
    half_light_radius_arcsec: float,
) -> npt.NDArray[np.float32]:
    """Draw one tidal feature.

    Parameters
    ----------
    kind : {"stream", "shell", "tail", "fan"}
        A stream is part of a loop about the galaxy. Shells are concentric arcs with a sharp outer edge on alternating
        sides. Tails are one or two plumes that leave the galaxy, widen and fade. A fan is a wide wedge.
    rng : numpy.random.Generator
        Source of every random choice.
    size : int
        Side of the image, pixels.
    pixel_scale_arcsec : float
        Side of a pixel, arcsec.
    psf_fwhm_arcsec : float
        Full width at half maximum of the seeing, arcsec. It is taken for a Gaussian, whose wings do not matter for
        light this smooth.
    half_light_radius_arcsec : float
        Half-light radius of the galaxy, arcsec. Radii and widths grow with it, as far as the image allows.

    Returns
    -------
    (y, x) float32 array
        Surface brightness. Its mean over the brightest area that holds half of the light is 1.

    Raises
    ------
    TidalkinError
        If the kind is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> shells = draw_feature("shell", np.random.default_rng(4), 96, 0.168, 0.6, 1.5)
    >>> shells.shape
    (96, 96)
    >>> round(half_light_brightness(shells), 3)
    1.0
    """
    if kind not in KINDS:
        raise TidalkinError(f"tidal feature {kind!r} is unknown: use one of {', '.join(KINDS)}")
    frame = _Frame(size, pixel_scale_arcsec, psf_fwhm_arcsec / FWHM_PER_SIGMA, half_light_radius_arcsec)
    draw = {"stream": _stream, "shell": _shells, "tail": _tails, "fan": _fan}[kind]
    image = draw(frame, rng)
    return (image / half_light_brightness(image)).astype(np.float32)


def draw_feature_in_bands(
    kind: str,
    new_random: Callable[[], np.random.Generator],
    bands: Sequence[str],
    psf_fwhm_arcsec: Floats,
    *,
    surface_brightness: float,
    colour: float,
    half_light_radius_arcsec: float,
    size: int,
    pixel_scale_arcsec: float,
) -> npt.NDArray[np.float32]:
    """Draw one tidal feature in several bands, each with its own seeing.

    Seeing spreads light and keeps its total, so that the total light of all bands has the colour of the feature.

    Parameters
    ----------
    kind : {"stream", "shell", "tail", "fan"}
        Kind of the feature.
    new_random : callable
        Return a new generator in the same state at each call, because the shape is drawn anew for each band.
    bands : sequence of str
        Any of g, r, i, z and y.
    psf_fwhm_arcsec : (band,) array
        Full width at half maximum of the seeing, arcsec.
    surface_brightness : float
        In i, mag/arcsec² (AB): mean over the brightest area that holds half of the light, seen through the seeing of i,
        or through the mean seeing where i is not among the bands.
    colour : float
        g - i, mag (AB), between -0.3 and 3.
    half_light_radius_arcsec : float
        Half-light radius of the galaxy, arcsec.
    size : int
        Side of the images, pixels.
    pixel_scale_arcsec : float
        Side of a pixel, arcsec.

    Returns
    -------
    (band, y, x) float32 array
        nJy per pixel.

    Raises
    ------
    TidalkinError
        If the kind is unknown.

    Examples
    --------
    >>> import functools
    >>> feature = {"surface_brightness": 25.0, "colour": 1.0, "half_light_radius_arcsec": 1.0}
    >>> new_random = functools.partial(np.random.default_rng, 1)
    >>> image = {"size": 96, "pixel_scale_arcsec": 0.168}
    >>> light = draw_feature_in_bands("shell", new_random, ["g", "i"], np.array([0.9, 0.6]), **feature, **image)
    >>> light.shape, round(float(light[0].sum() / light[1].sum()), 3)  # g - i = 1
    ((2, 96, 96), 0.398)
    """

    def shape(fwhm: float) -> npt.NDArray[np.float32]:
        return draw_feature(kind, new_random(), size, pixel_scale_arcsec, fwhm, half_light_radius_arcsec)

    seen_in_i = shape(float(psf_fwhm_arcsec[bands.index("i")] if "i" in bands else np.mean(psf_fwhm_arcsec)))
    shapes = np.stack([shape(float(fwhm)) for fwhm in psf_fwhm_arcsec])
    shapes *= seen_in_i.sum() / shapes.sum(axis=(1, 2), keepdims=True)
    flux = feature_flux(surface_brightness, colour, bands, pixel_scale_arcsec)
    return (shapes * flux[:, None, None]).astype(np.float32)


def half_light_brightness(image: Floats) -> float:
    """Average the surface brightness over the brightest area that holds half of the light.

    Parameters
    ----------
    image : (y, x) array
        Surface brightness, nowhere negative.

    Returns
    -------
    float
        In the unit of the image.

    Examples
    --------
    >>> import numpy as np
    >>> half_light_brightness(np.array([[4.0, 2.0], [1.0, 1.0]]))
    4.0
    """
    brightest_first = np.sort(image, axis=None)[::-1].astype(np.float64)
    light = np.cumsum(brightest_first)
    pixels = int(np.searchsorted(light, light[-1] / 2 * (1 - 1e-9))) + 1
    return float(light[pixels - 1] / pixels)


def feature_flux(
    surface_brightness: float, colour: float, bands: Sequence[str], pixel_scale_arcsec: float
) -> npt.NDArray[np.float64]:
    """Compute the flux of one pixel of a feature in each band.

    Colours are those of a black body with the given g - i, at the mean wavelengths of HSC's filters. One temperature
    describes the broad optical colours of old and young stars well enough for faint light. In z and y it is somewhat
    fainter than old galaxies are.

    Parameters
    ----------
    surface_brightness : float
        In i, mag/arcsec² (AB).
    colour : float
        g - i, mag (AB), between -0.3 and 3.
    bands : sequence of str
        Any of g, r, i, z and y.
    pixel_scale_arcsec : float
        Side of a pixel, arcsec.

    Returns
    -------
    (band,) float64 array
        Nanojansky per pixel, where the feature that `draw_feature` draws is 1.

    Examples
    --------
    >>> g, i = feature_flux(26.0, 1.0, ("g", "i"), 1.0)
    >>> round(float(i), 2)
    144.54
    >>> round(float(i / g), 3)
    2.512
    """
    redness = np.array([band_colour(colour, band) for band in bands])
    magnitude = surface_brightness + redness - 2.5 * np.log10(pixel_scale_arcsec**2)
    return np.asarray(10 ** (0.4 * (ZERO_POINT_AB - magnitude)), np.float64)


def band_colour(colour: float, band: str) -> float:
    """Compute a black body's magnitude in a band less that in i.

    Parameters
    ----------
    colour : float
        g - i, mag (AB), between -0.3 and 3.
    band : str
        One of g, r, i, z and y.

    Returns
    -------
    float
        Magnitudes.

    Examples
    --------
    >>> [round(band_colour(1.0, band), 2) for band in "griz"]
    [1.0, 0.32, 0.0, -0.11]
    """
    g_minus_i, against_i = _black_body_colours(band)
    return float(np.interp(colour, g_minus_i, against_i))


@lru_cache
def _black_body_colours(band: str) -> tuple[Doubles, Doubles]:
    """Tabulate g - i and the band's colour against i; g - i ascends."""
    temperature = np.geomspace(60_000, 2_000, 400)

    def magnitude(name: str) -> Doubles:
        # Planck's law per frequency, without the constants that colours do not have.
        wavelength = WAVELENGTH_MICRONS[name]
        photons = np.expm1(PLANCK_MICRON_KELVIN / (wavelength * temperature))
        return np.asarray(2.5 * np.log10(wavelength**3 * photons), np.float64)

    return magnitude("g") - magnitude("i"), magnitude(band) - magnitude("i")


# --- streams and tails: chains of Gaussians ------------------------------------------------------------------------


def _chain(frame: _Frame, x: Doubles, y: Doubles, width: Doubles, light: Doubles) -> Doubles:
    """Add round Gaussians along a curve.

    They are at (x, y), arcsec, of sigma ``width``, arcsec, and total ``light``.
    """
    variance = width**2 + frame.psf_arcsec**2
    across = np.exp(-0.5 * (frame.axis[None, :] - x[:, None]) ** 2 / variance[:, None])
    along = np.exp(-0.5 * (frame.axis[None, :] - y[:, None]) ** 2 / variance[:, None])
    # A round Gaussian is a product of one of x and one of y, so that the sum over points is a matrix product.
    image: Doubles = (along * (light / variance)[:, None]).T @ across
    return image


def _projected(radius: Doubles, angle: Doubles, axis_ratio: float, position_angle: float) -> tuple[Doubles, Doubles]:
    """Project points of a plane, arcsec and radians, onto the sky."""
    along, across = radius * np.cos(angle), axis_ratio * radius * np.sin(angle)
    cosine, sine = np.cos(position_angle), np.sin(position_angle)
    return along * cosine - across * sine, along * sine + across * cosine


def _smooth_walk(rng: np.random.Generator, points: int, waves: int) -> Doubles:
    """Draw a smooth random function of order 1 along a curve."""
    along = np.linspace(0, 2 * np.pi, points)
    walk = np.zeros(points)
    for wave in range(1, waves + 1):
        walk += rng.normal(0, 1 / wave) * np.cos(wave * along / 2 + rng.uniform(0, 2 * np.pi))
    return walk


def _steps(x: Doubles, y: Doubles) -> Doubles:
    """Compute the length of curve that belongs to each point, arcsec."""
    return np.asarray(np.hypot(np.gradient(x), np.gradient(y)), np.float64)


def _stream(frame: _Frame, rng: np.random.Generator) -> Doubles:
    """Draw part of an elliptical loop, or of a rosette."""
    reach = frame.reach(rng, 2.5, 6.5)
    rosette = rng.random() < 0.4
    eccentricity = rng.uniform(0.25, 0.6) if rosette else rng.uniform(0.0, 0.45)
    turns = rng.uniform(0.6, 1.5) if rosette else rng.uniform(0.3, 0.95)
    start = rng.uniform(0, 2 * np.pi)
    angle = start + np.linspace(0, 2 * np.pi * turns, STREAM_POINTS)
    # Precession: the long axis of the orbit turns by this share of each turn of the star.
    precession = rng.uniform(-0.5, -0.15) if rosette else 0.0
    anomaly = angle * (1 - precession)
    radius = reach * (1 - eccentricity) / (1 + eccentricity * np.cos(anomaly))
    x, y = _projected(radius, angle, rng.uniform(0.25, 1.0), rng.uniform(0, 2 * np.pi))
    width = rng.uniform(0.035, 0.11) * reach * np.exp(0.25 * _smooth_walk(rng, STREAM_POINTS, 3))
    along = np.linspace(0, 1, STREAM_POINTS)
    brightness = np.exp(0.35 * _smooth_walk(rng, STREAM_POINTS, 6)) * _faded_ends(along, rng.uniform(0.08, 0.35))
    gap_at, gap_width, gap_depth = rng.uniform(0.15, 0.85), rng.uniform(0.02, 0.07), rng.uniform(0.6, 1.0)
    if rng.random() < 0.3:
        brightness *= 1 - gap_depth * np.exp(-0.5 * ((along - gap_at) / gap_width) ** 2)
    light = brightness * width * _steps(x, y)
    clump = int(rng.integers(STREAM_POINTS // 5, 4 * STREAM_POINTS // 5))
    clump_share = rng.uniform(0.05, 0.2)
    if rng.random() < 0.25:
        # What is left of the satellite: compact, on the stream.
        x, y = np.append(x, x[clump]), np.append(y, y[clump])
        width, light = np.append(width, 0.8 * width[clump]), np.append(light, clump_share * light.sum())
    return _chain(frame, x, y, width, light)


def _faded_ends(along: Doubles, length: float) -> Doubles:
    """Fade both ends of a curve that runs from 0 to 1 over ``length``."""
    return np.asarray(np.sin(np.pi / 2 * np.clip(np.minimum(along, 1 - along) / length, 0, 1)) ** 2, np.float64)


def _tails(frame: _Frame, rng: np.random.Generator) -> Doubles:
    """Draw one plume, or two that make an S.

    The second is the first after half a turn, with its own length and light.
    """
    axis_ratio, position_angle = rng.uniform(0.35, 1.0), rng.uniform(0, 2 * np.pi)
    sweep = rng.choice((-1, 1)) * rng.uniform(0.4, 2.2)
    opening = rng.uniform(0.07, 0.16)
    image = np.zeros((frame.size, frame.size))
    second = rng.random() < 0.6
    for side in range(2 if second else 1):
        reach = frame.reach(rng, 4.0, 9.0)
        inner = min(frame.radius_arcsec * rng.uniform(0.9, 1.3), 0.5 * reach)
        along = np.linspace(0, 1, TAIL_POINTS)
        radius = inner + (reach - inner) * along
        angle = np.pi * side + sweep * along ** rng.uniform(0.8, 1.5) + 0.08 * _smooth_walk(rng, TAIL_POINTS, 3)
        x, y = _projected(radius, angle, axis_ratio, position_angle)
        width = opening * inner + opening * rng.uniform(0.4, 1.1) * (reach - inner) * along
        brightness = np.exp(-rng.uniform(0.6, 1.8) * along) * np.minimum(1, along / 0.1 + 0.2)
        brightness *= np.sqrt(np.clip((1 - along) / 0.2, 0, 1))
        share = 1.0 if side == 0 else rng.uniform(0.3, 1.0)
        image += _chain(frame, x, y, width, share * brightness * width * _steps(x, y))
    return image


# --- shells and fans: formulae of radius and angle -----------------------------------------------------------------


def _polar(frame: _Frame, axis_ratio: float, position_angle: float) -> tuple[Doubles, Doubles]:
    """Compute radius, arcsec, and angle of each pixel in an ellipse's frame."""
    x, y = frame.axis[None, :], frame.axis[:, None]
    along = x * np.cos(position_angle) + y * np.sin(position_angle)
    across = (y * np.cos(position_angle) - x * np.sin(position_angle)) / axis_ratio
    return np.hypot(along, across), np.arctan2(across, along)


def _from_axis(angle: Doubles, axis: float) -> Doubles:
    """Compute the angle from a direction, 0 to pi."""
    return np.asarray(np.abs((angle - axis + np.pi) % (2 * np.pi) - np.pi), np.float64)


def _shells(frame: _Frame, rng: np.random.Generator) -> Doubles:
    """Draw two to five arcs on alternating sides of one axis.

    Each has a sharp outer edge. Stars near their outermost point pile up: inside the edge the light falls as the
    inverse root of the distance from it (Hernquist & Quinn 1988, ApJ 331, 682).
    """
    radius, angle = _polar(frame, rng.uniform(0.8, 1.0), rng.uniform(0, 2 * np.pi))
    image = np.zeros_like(radius)
    outer = frame.reach(rng, 2.8, 6.0)
    side, spacing = int(rng.integers(2)), rng.uniform(0.62, 0.82)
    for number in range(int(rng.integers(2, 6))):
        edge = outer * spacing**number * rng.uniform(0.95, 1.05)
        if number >= 2 and edge < 1.2 * frame.radius_arcsec:
            break
        half_opening = rng.uniform(0.35, 1.15)
        depth = rng.uniform(0.1, 0.3) * edge
        inside = (edge - radius) / depth
        profile = np.exp(-np.maximum(inside, 0)) / np.sqrt(np.maximum(inside, 0) + 0.05)
        # The pixels that the edge crosses hold part of the light.
        profile *= np.clip((edge - radius) / frame.pixel_arcsec + 0.5, 0, 1)
        off_axis = _from_axis(angle, np.pi * ((side + number) % 2) + rng.normal(0, 0.12)) / half_opening
        # Inner shells are older wraps, and brighter per area.
        image += profile * np.exp(-(off_axis**4)) * spacing ** (-0.6 * number) * rng.uniform(0.6, 1.2)
    return np.asarray(gaussian_filter(image, frame.psf_arcsec / frame.pixel_arcsec), np.float64)


def _fan(frame: _Frame, rng: np.random.Generator) -> Doubles:
    """Draw a wide wedge that leaves the galaxy and fades outwards."""
    radius, angle = _polar(frame, rng.uniform(0.7, 1.0), rng.uniform(0, 2 * np.pi))
    reach = frame.reach(rng, 3.0, 6.0)
    inner = min(frame.radius_arcsec, 0.4 * reach)
    off_axis = _from_axis(angle, 0.0) / rng.uniform(0.35, 0.8)
    outwards = np.clip((radius - inner) / (reach - inner), 0, None)
    image = np.exp(-(off_axis**4) - rng.uniform(1.0, 2.0) * outwards - outwards**6)
    image *= np.clip(radius / inner, 0, 1) ** 2
    return np.asarray(gaussian_filter(image, frame.psf_arcsec / frame.pixel_arcsec), np.float64)
