"""Draw a simulated galaxy, its surroundings and its tidal feature, before noise.

Every profile is drawn by GalSim (Rowe et al. 2015, Astronomy & Computing 10, 121) once, in Fourier space and without a
PSF; the sum for each band, with that band's fluxes, is multiplied by that band's PSF and transformed once. One by one,
each component would cost a convolution and a transform per band. What consists of particles (arms, knots, debris) is
binned to pixels and joins in Fourier space.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import galsim
import numpy as np
import numpy.typing as npt
from scipy import fft

from tidalkin.config import BANDS, Band, SimulatedSurvey
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.seeds import generator
from tidalkin.simulation.galaxy import Galaxy, band_fluxes
from tidalkin.simulation.tides import Feature, simulate

MARGIN_PIXELS = 24  # Drawn around the cutout, so that light that leaves at one side does not come back at the other.
DISC_THICKNESS = 0.2  # Axis ratio of a disc seen edge-on.
GRAIN_ARCSEC = 0.2  # Particles are smoothed by this sigma, well under the seeing.
FEATURE_REACH_ARCSEC = 8.0  # 70 % of a feature's particles lie within, so that it is on the cutout.
HOST_RADII = 1.5  # A feature's surface brightness is measured outside this many half-light radii.
ARM_PARTICLES = 3000
CLEAR_ARCSEC = 1.5  # Smallest distance of stars and field galaxies from the galaxy.
FIELD_MAGNITUDE = (19.0, 25.0)
STAR_MAGNITUDE = (17.0, 24.0)

Image = npt.NDArray[np.float32]
Spectrum = npt.NDArray[np.complex64]
Floats = npt.NDArray[np.floating[Any]]
Place = tuple[float, float]


# --- the grid ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """The pixels that are drawn, and the half plane of their Fourier transform."""

    size: int
    """Side of the cutout."""
    side: int
    """Side with margins; even."""

    @property
    def crop(self) -> slice:
        """The pixels of the cutout, along each axis."""
        start = (self.side - self.size + 1) // 2
        return slice(start, start + self.size)

    @property
    def middle(self) -> float:
        """The middle of the cutout, along each axis; between two pixels for an even size."""
        return self.crop.start + (self.size - 1) / 2

    @property
    def field_arcsec(self) -> float:
        """The side of the field whose galaxies and stars are drawn.

        Those outside it hardly reach the cutout.
        """
        return (self.size + MARGIN_PIXELS) * PIXEL_SCALE_ARCSEC

    def kernel(self, profile: galsim.GSObject) -> Spectrum:
        """Return the spectrum (ky, kx) of a GalSim profile about the first pixel."""
        half = self.side // 2
        frame = galsim.ImageCF(
            galsim.BoundsI(0, half, -half, half - 1), scale=2 * np.pi / (self.side * PIXEL_SCALE_ARCSEC)
        )
        profile.drawKImage(image=frame, recenter=False)
        return np.asarray(frame.array)

    def draw(self, profile: galsim.GSObject, place: Place) -> Spectrum:
        """Return the spectrum (ky, kx) of a GalSim profile at a place.

        The place is in arcsec along x and y from the cutout's middle.
        """
        shift = (self.middle - self.side // 2) * PIXEL_SCALE_ARCSEC
        return self.kernel(profile.shift(place[0] + shift, place[1] + shift))

    def bin(self, places: Floats, weights: Floats) -> Spectrum:
        """Return the spectrum (ky, kx) of particles of total weight 1.

        Their places are (2, particle) arcsec from the cutout's middle.
        """
        column, row = np.rint(places / PIXEL_SCALE_ARCSEC + self.middle).astype(np.int64)
        inside = (column >= 0) & (column < self.side) & (row >= 0) & (row < self.side)
        image = np.bincount(
            row[inside] * self.side + column[inside], weights[inside] / weights.sum(), minlength=self.side**2
        )
        plane = fft.ifftshift(image.reshape(self.side, self.side).astype(np.float32))
        return np.asarray(fft.fftshift(fft.rfft2(plane), axes=0) * _grain(self))

    def image(self, spectra: Spectrum) -> Image:
        """Turn spectra (..., ky, kx) into images (..., y, x), margins included."""
        planes = fft.irfft2(fft.ifftshift(spectra, axes=-2), s=(self.side, self.side))
        return np.asarray(fft.fftshift(planes, axes=(-2, -1)))


@lru_cache
def grid(size_pixels: int) -> Grid:
    """Return the grid for cutouts of a size.

    Examples
    --------
    >>> on = grid(96)
    >>> on.size, on.side
    (96, 144)
    """
    side = size_pixels + 2 * MARGIN_PIXELS
    while side % 2 or fft.next_fast_len(side, real=True) != side:
        side += 1
    return Grid(size_pixels, side)


@lru_cache
def _grain(on: Grid) -> Spectrum:
    """Return the kernel that turns particles into light."""
    return on.kernel(galsim.Gaussian(sigma=GRAIN_ARCSEC))


# --- the PSF -----------------------------------------------------------------------------------------------------


@lru_cache
def _seeing_table() -> tuple[Floats, Floats]:
    """Tabulate the widths of the Kolmogorov PSF with and without the pixel, arcsec."""
    pixel = galsim.Pixel(PIXEL_SCALE_ARCSEC)
    atmosphere = np.linspace(0.3, 1.6, 14)
    seen = [galsim.Convolve(galsim.Kolmogorov(fwhm=fwhm), pixel).calculateFWHM() for fwhm in atmosphere]
    return np.array(seen), atmosphere


def psf(fwhm_arcsec: float, shear: Place = (0.0, 0.0)) -> galsim.GSObject:
    """Return a PSF whose width, pixel included, is ``fwhm_arcsec``.

    Examples
    --------
    >>> round(float(psf(0.6).calculateFWHM()), 2)
    0.6
    """
    atmosphere = galsim.Kolmogorov(fwhm=float(np.interp(fwhm_arcsec, *_seeing_table())))
    return galsim.Convolve(atmosphere.shear(g1=shear[0], g2=shear[1]), galsim.Pixel(PIXEL_SCALE_ARCSEC))


def _psf_spectra(galaxy: Galaxy, bands: Sequence[Band], seed: int, on: Grid) -> Spectrum:
    """Return the slightly elongated PSFs of a galaxy's bands, (band, ky, kx)."""
    shears = generator(seed, "simulated", galaxy.object_id, "psf").normal(0.0, 0.02, (len(BANDS), 2))
    return np.stack([on.kernel(psf(galaxy.psf_fwhm[band], tuple(shears[BANDS.index(band)]))) for band in bands])


# --- the scene ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Component:
    """One light component: its shape, the same in all bands, and its flux in each."""

    spectrum: Spectrum
    """(ky, kx), of unit flux."""
    fluxes: Floats
    """(band,), in units of the flux of magnitude 0."""


def draw_scene(
    galaxy: Galaxy,
    survey: SimulatedSurvey,
    seed: int,
    bands: Sequence[Band],
    size_pixels: int,
    offset_arcsec: Place = (0.0, 0.0),
) -> Image:
    """Draw everything on a galaxy's cutout, without noise.

    Parameters
    ----------
    galaxy : Galaxy
        What to draw.
    survey : SimulatedSurvey
        How crowded the field is.
    seed : int
        The run's seed.
    bands : sequence of str
        Which bands.
    size_pixels : int
        Side of the cutout.
    offset_arcsec : (float, float)
        Where the galaxy is, in x and y from the middle of the cutout.

    Returns
    -------
    (band, y, x) float32 array
        In units of the flux of magnitude 0.

    Examples
    --------
    >>> from tidalkin.simulation.galaxy import draw_galaxy
    >>> survey = SimulatedSurvey()
    >>> image = draw_scene(draw_galaxy(survey, seed=1, object_id=42), survey, seed=1, bands=("g", "i"), size_pixels=64)
    >>> image.shape, bool(image.sum() > 0)
    ((2, 64, 64), True)
    """
    on = grid(size_pixels)
    psfs = _psf_spectra(galaxy, bands, seed, on)
    host = list(_host(galaxy, generator(seed, "simulated", galaxy.object_id, "host"), bands, on, offset_arcsec))
    components = host + list(_field(galaxy, survey, seed, bands, on, offset_arcsec))
    if galaxy.label != "none":
        components.append(_feature(galaxy, galaxy.label, seed, bands, on, offset_arcsec))
    total, share = np.zeros_like(psfs), np.empty_like(psfs)
    for component in components:
        total += np.multiply(component.fluxes.astype(np.float32)[:, None, None], component.spectrum, out=share)
    total *= psfs
    return np.ascontiguousarray(on.image(total)[:, on.crop, on.crop])


def _disc_axis_ratio(inclination: float) -> float:
    cosine = math.cos(math.radians(inclination))
    return math.sqrt(cosine**2 * (1 - DISC_THICKNESS**2) + DISC_THICKNESS**2)


def _on_sky(positions: Floats, galaxy: Galaxy) -> Floats:
    """Project positions (3, particle) in the disc's frame to the sky, (2, particle)."""
    inclination, angle = math.radians(galaxy.inclination), math.radians(galaxy.position_angle)
    x = positions[0]
    y = positions[1] * math.cos(inclination) - positions[2] * math.sin(inclination)
    return np.stack([x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)])


def _host(
    galaxy: Galaxy, rng: np.random.Generator, bands: Sequence[Band], on: Grid, centre: Place
) -> Iterator[_Component]:
    """Draw bulge, disc, arms and knots."""
    angle = galsim.Angle(galaxy.position_angle, galsim.degrees)
    bulge = galsim.Sersic(galaxy.bulge_index, half_light_radius=galaxy.bulge_radius_arcsec)
    light = galaxy_fluxes(galaxy, bands)
    yield _Component(on.draw(bulge.shear(q=galaxy.bulge_axis_ratio, beta=angle), centre), light.bulge)

    shift = galaxy.offset * galaxy.half_light_radius_arcsec
    middle = (
        centre[0] + shift * math.cos(math.radians(galaxy.position_angle)),
        centre[1] + shift * math.sin(math.radians(galaxy.position_angle)),
    )
    axis_ratio = _disc_axis_ratio(galaxy.inclination)
    disc = galsim.Exponential(half_light_radius=galaxy.disc_radius_arcsec * math.sqrt(axis_ratio))
    yield _Component(on.draw(disc.shear(q=axis_ratio, beta=angle), middle), light.disc)
    for particles, fluxes in ((_arms(galaxy, rng), light.arms), (_knots(galaxy, rng), light.knots)):
        if particles.size:
            places = _on_sky(particles, galaxy) + np.array(middle)[:, None]
            yield _Component(on.bin(places, np.ones(places.shape[1])), fluxes)


@dataclass(frozen=True)
class _Light:
    """The flux of a galaxy's parts in each band, in units of magnitude 0."""

    bulge: Floats
    disc: Floats
    arms: Floats
    knots: Floats

    @property
    def total(self) -> Floats:
        return self.bulge + self.disc + self.arms + self.knots


def galaxy_fluxes(galaxy: Galaxy, bands: Sequence[Band]) -> _Light:
    """Share a galaxy's light among its parts.

    Arms and knots are taken from the disc, and are younger.

    Examples
    --------
    >>> from tidalkin.simulation.galaxy import draw_galaxy
    >>> galaxy = draw_galaxy(SimulatedSurvey(), seed=1, object_id=42)
    >>> light = galaxy_fluxes(galaxy, ["i"])
    >>> total = float((light.bulge + light.disc + light.arms + light.knots)[0])
    >>> abs(galaxy.magnitude_i + 2.5 * math.log10(total)) < 1e-9  # no light is lost
    True
    """
    chosen = tuple(bands)
    disc = 1 - galaxy.bulge_fraction
    smooth = 1 - galaxy.arm_fraction - galaxy.knot_fraction
    young = galaxy.disc_colour - 0.3
    return _Light(
        bulge=galaxy.bulge_fraction * band_fluxes(galaxy.magnitude_i, galaxy.bulge_colour, chosen),
        disc=disc * smooth * band_fluxes(galaxy.magnitude_i, galaxy.disc_colour, chosen),
        arms=disc * galaxy.arm_fraction * band_fluxes(galaxy.magnitude_i, young, chosen),
        knots=disc * galaxy.knot_fraction * band_fluxes(galaxy.magnitude_i, young, chosen),
    )


def _arms(galaxy: Galaxy, rng: np.random.Generator) -> Floats:
    """Draw logarithmic spiral arms in the disc, (3, particle), arcsec."""
    if not galaxy.arms:
        return np.empty((3, 0))
    scale = galaxy.disc_radius_arcsec / 1.678
    radius = scale * rng.gamma(2.5, 1.0, ARM_PARTICLES)
    winding = np.log(radius / scale) / math.tan(math.radians(galaxy.pitch_angle))
    arm = rng.integers(galaxy.arms, size=ARM_PARTICLES) * 2 * np.pi / galaxy.arms
    azimuth = winding + arm + rng.normal(0.0, 0.65 / galaxy.arms, ARM_PARTICLES) + rng.uniform(0, 2 * np.pi)
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), np.zeros(ARM_PARTICLES)])


def _knots(galaxy: Galaxy, rng: np.random.Generator) -> Floats:
    """Draw unresolved knots in the disc, (3, knot) in arcsec."""
    radius = galaxy.disc_radius_arcsec / 1.678 * rng.gamma(2.0, 1.0, galaxy.knots)
    azimuth = rng.uniform(0, 2 * np.pi, galaxy.knots)
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), np.zeros(galaxy.knots)])


# --- the field ---------------------------------------------------------------------------------------------------


def _field(
    galaxy: Galaxy,
    survey: SimulatedSurvey,
    seed: int,
    bands: Sequence[Band],
    on: Grid,
    centre: Place,
) -> Iterator[_Component]:
    """Draw companion, field galaxies and stars."""
    rng = generator(seed, "simulated", galaxy.object_id, "field")
    chosen = tuple(bands)
    distance = galaxy.half_light_radius_arcsec * rng.uniform(2.0, 6.0)
    direction = rng.uniform(0, 2 * np.pi)
    if not math.isnan(galaxy.companion_magnitude):
        place = (centre[0] + distance * math.cos(direction), centre[1] + distance * math.sin(direction))
        fluxes = band_fluxes(galaxy.companion_magnitude, rng.normal(1.1, 0.35), chosen)
        shape = _field_galaxy(rng, galaxy.companion_magnitude)
        yield _Component(on.draw(shape, place), fluxes)
    area = (on.field_arcsec / 60) ** 2
    for place in _places(rng, rng.poisson(survey.neighbours_per_arcmin2 * area), on, centre):
        magnitude = _rising(rng, FIELD_MAGNITUDE, 0.35)
        shape = _field_galaxy(rng, magnitude)
        yield _Component(on.draw(shape, place), band_fluxes(magnitude, rng.normal(1.2, 0.5), chosen))
    for place in _places(rng, rng.poisson(survey.stars_per_arcmin2 * area), on, centre):
        fluxes = band_fluxes(_rising(rng, STAR_MAGNITUDE, 0.15), rng.uniform(0.4, 2.6), chosen)
        yield _Component(on.draw(galsim.DeltaFunction(), place), fluxes)


def _rising(rng: np.random.Generator, bounds: Place, slope: float) -> float:
    """Draw a magnitude; numbers rise by ``slope`` in log10 per magnitude."""
    return float(np.log10(rng.uniform(10 ** (slope * bounds[0]), 10 ** (slope * bounds[1]))) / slope)


def _places(rng: np.random.Generator, number: int, on: Grid, centre: Place) -> Iterator[Place]:
    """Draw random places, arcsec from the image's middle, but none on the galaxy."""
    for x, y in rng.uniform(-on.field_arcsec / 2, on.field_arcsec / 2, (number, 2)):
        if math.hypot(x - centre[0], y - centre[1]) > CLEAR_ARCSEC:
            yield float(x), float(y)


def _field_galaxy(rng: np.random.Generator, magnitude: float) -> galsim.GSObject:
    radius = float(np.clip(0.5 * 10 ** (-0.13 * (magnitude - 22)) * rng.lognormal(0.0, 0.35), 0.12, 2.5))
    # The de Vaucouleurs profile costs some times as much to draw as the exponential one.
    profile = galsim.DeVaucouleurs if rng.random() < 0.2 else galsim.Exponential
    angle = galsim.Angle(rng.uniform(0, 180), galsim.degrees)
    return profile(half_light_radius=radius).shear(q=rng.uniform(0.3, 1.0), beta=angle)


# --- the feature -------------------------------------------------------------------------------------------------


def _feature(galaxy: Galaxy, kind: Feature, seed: int, bands: Sequence[Band], on: Grid, centre: Place) -> _Component:
    """Return the spectrum of the tidal feature, as bright as its galaxy says."""
    rng = generator(seed, "simulated", galaxy.object_id, "feature")
    debris = simulate(kind, rng)
    places = _on_sky(debris.positions, galaxy) if kind == "tail" else debris.positions[:2]
    lit = debris.weights > 0
    reach = np.percentile(np.hypot(*places[:, lit]), 70)
    places = places * min(galaxy.half_light_radius_arcsec, FEATURE_REACH_ARCSEC / reach)
    spectrum = on.bin(places + np.array(centre)[:, None], debris.weights)

    seen = on.image(spectrum * _psf_spectra(galaxy, ("i",), seed, on)[0])
    brightness = surface_brightness(seen, centre, HOST_RADII * galaxy.half_light_radius_arcsec, on)
    magnitude = galaxy.tidal_surface_brightness - brightness
    green, red = galaxy_fluxes(galaxy, ("g", "i")).total
    colour = -2.5 * math.log10(green / red) + galaxy.tidal_colour_offset
    return _Component(spectrum, band_fluxes(magnitude, colour, tuple(bands)))


def surface_brightness(image: Image, centre: Place, inside_arcsec: float, on: Grid) -> float:
    """Measure the surface brightness of a feature from an image of it alone.

    Parameters
    ----------
    image : (y, x) array
        With the margins of the grid, in units of the flux of magnitude 0.
    centre : (float, float)
        Of the galaxy, arcsec from the middle.
    inside_arcsec : float
        Radius within which the galaxy hides the feature, so that it does not count.
    on : Grid
        The grid of the image.

    Returns
    -------
    float
        Mean over the brightest area that holds half of the light outside, mag/arcsec².

    Examples
    --------
    >>> on = grid(64)
    >>> flat = np.full((on.side, on.side), 10 ** (-0.4 * 26) * PIXEL_SCALE_ARCSEC**2)  # 26 mag/arcsec²
    >>> round(surface_brightness(flat, (0.0, 0.0), 3.0, on), 3)
    26.0
    """
    along = (np.arange(on.side) - on.middle) * PIXEL_SCALE_ARCSEC
    outside = np.hypot(along[None, :] - centre[0], along[:, None] - centre[1]) > inside_arcsec
    light = np.sort(image[outside])[::-1].cumsum(dtype=np.float64)
    pixels = int(np.searchsorted(light, light[-1] / 2)) + 1
    return float(-2.5 * math.log10(light[pixels - 1] / pixels / PIXEL_SCALE_ARCSEC**2))
