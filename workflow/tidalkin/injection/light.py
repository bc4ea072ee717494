"""Draw faint, diffuse light of generic shapes (synthetic source injection).

Clouds, filaments and edges are smoothed random fields. Arcs bend around the galaxy. None of them follows an orbit or a
simulation, so that a network trained on them learns faint structure around a galaxy in general. Stamps of the user's
own can join them. Each step is a pure function of its random parameters; `draw_light` draws the parameters.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tidalkin.config.injection import Injection
from tidalkin.constants import FWHM_PER_SIGMA, PIXEL_SCALE_ARCSEC, ZERO_POINT_AB
from tidalkin.draws import Draws, constant
from tidalkin.injection.chosen import add_to_chosen
from tidalkin.injection.size import half_light_radius, pixel_axis
from tidalkin.injection.stamps import Stamps

REFERENCE_COLOR = 1.0
MAGNITUDE_RELATIVE_TO_I = {"g": 1.0, "r": 0.305, "i": 0.0, "z": -0.194, "y": -0.290}
"""Magnitude of each HSC band relative to i, of a galaxy of g - i = 1: between an early and a late type at z = 0.1."""
CHANGE_WITH_COLOR = {"g": 1.0, "r": 0.277, "i": 0.0, "z": -0.169, "y": -0.289}
"""Change of that magnitude with g - i."""

BRIGHTEST_BELOW_SIGMA, FAINTEST_BELOW_SIGMA = -2.3, 1.2
"""Default range of surface brightness, in magnitudes fainter than one sky sigma of a pixel."""
BRIGHT_END = 23.5
"""Surface brightness in i, mag/arcsec², that the default range always reaches. Deep surveys have bright debris, too."""

SKY_SCALE_ARCSEC = (1.5, 5.0)  # Gaussian sigma of the smoothing of a sky that is fitted on small scales
DETECTED_SIGMA = (1.0, 3.0)  # per pixel; fainter light is taken for sky

SEEING_ARCSEC = 0.65  # where an image's own is unknown
SHARP_SIDE_ARCSEC = 0.2  # Gaussian sigma of an edge's sharp side
FADE_ARCSEC = 0.25  # width of the inner fade
SMALLEST_SCALE, LARGEST_SCALE = 0.5, 2.0  # of `injection.scale_with_size`
CLOUD, FILAMENT, EDGE, ARC, STAMP = range(5)
LEAST_SLOPE = 0.02  # of a random field, per pixel: a flatter one has no sharp level set
PITCH_SCATTER = 0.25  # of arcs: change of the radius' logarithm per radian
LEAST_ARC_RATIO = 0.4  # axis ratio of the ellipse that an arc follows
ARC_RADIANS = (0.3, 2.5)  # bounds of an arc's extent (Gaussian sigma)


@dataclass(frozen=True)
class Light:
    """Light for a batch of galaxies."""

    shape: Tensor
    """(object, 1, y, x): 1 in the mean over the brightest area with half of the light; 0 throughout without light."""
    band_flux: Tensor
    """(object, band): flux of a pixel where ``shape`` is 1, nJy."""
    sky: Tensor | None = None
    """(object, 1, y, x): the part of ``shape`` that a sky fitted on small scales contains; None if nothing is lost."""
    lost: Tensor | None = None
    """(object, band): the share of ``sky`` that is subtracted from each band; None if nothing is lost."""

    def taken_for_sky(self) -> Tensor:
        """Compute the part of ``shape`` that is subtracted with the sky, (object, band, y, x)."""
        if self.sky is None or self.lost is None:
            return torch.zeros_like(self.shape)
        return self.lost[:, :, None, None] * self.sky

    def flux(self) -> Tensor:
        """Compute the light (object, band, y, x), nJy per pixel, after the sky was subtracted."""
        return (self.shape - self.taken_for_sky()) * self.band_flux[:, :, None, None]

    def of(self, rows: slice) -> Light:
        """Return the light of some galaxies of the batch."""
        sky, lost = (None if part is None else part[rows] for part in (self.sky, self.lost))
        return Light(self.shape[rows], self.band_flux[rows], sky, lost)

    @property
    def injected(self) -> Tensor:
        """Whether each galaxy has light, (object,) bool."""
        return self.shape.flatten(1).amax(dim=1) > 0


def surface_brightness_range(
    settings: Injection, bands: Sequence[str], sigma: npt.NDArray[np.float32]
) -> tuple[float, float]:
    """Return the range of the light's surface brightness in i, mag/arcsec².

    Without a configured range it follows the survey's depth. It then lies a fixed number of magnitudes around the
    surface brightness at which a pixel holds one sky sigma, and reaches at least `BRIGHT_END`.

    Parameters
    ----------
    settings : Injection
        The configured range, if any.
    bands : sequence of str
        Names of the bands.
    sigma : (band,) float32
        Typical sky noise of a pixel in each band, nJy.

    Examples
    --------
    >>> surface_brightness_range(Injection(surface_brightness=(24.0, 28.0)), ["i"], np.ones(1, np.float32))
    (24.0, 28.0)
    """
    if settings.surface_brightness is not None:
        return settings.surface_brightness
    limit = surface_brightness_of_sigma(bands, sigma)
    return min(limit + BRIGHTEST_BELOW_SIGMA, BRIGHT_END), limit + FAINTEST_BELOW_SIGMA


def surface_brightness_of_sigma(bands: Sequence[str], sigma: npt.NDArray[np.float32]) -> float:
    """Return the surface brightness in i that equals one sky sigma per pixel, mag/arcsec².

    Without a band i it is the median over the bands, brought to i with the light's mean colours.

    Parameters
    ----------
    bands : sequence of str
        Names of the bands.
    sigma : (band,) float32
        Typical sky noise of a pixel in each band, nJy.

    Examples
    --------
    >>> round(surface_brightness_of_sigma(["i"], np.array([5.0], np.float32)), 2)
    25.78
    """
    of_sigma = ZERO_POINT_AB - 2.5 * np.log10(sigma.astype(np.float64) / PIXEL_SCALE_ARCSEC**2)
    if "i" in bands:
        return float(of_sigma[list(bands).index("i")])
    return float(np.median(of_sigma - [MAGNITUDE_RELATIVE_TO_I[band] for band in bands]))


def band_flux(surface_brightness: Tensor, color: Tensor, bands: Sequence[str]) -> Tensor:
    """Compute the flux of a pixel in each band.

    Parameters
    ----------
    surface_brightness : (object,) tensor
        In i, mag/arcsec².
    color : (object,) tensor
        g - i, mag.
    bands : sequence of str
        Names of HSC's bands.

    Returns
    -------
    (object, band) tensor
        nJy per pixel.

    Examples
    --------
    >>> band_flux(torch.tensor([25.0, 27.5]), torch.tensor([1.0, 1.0]), ["g", "i"])
    tensor([[ 4.0796, 10.2475],
            [ 0.4080,  1.0248]])
    """
    reference, change = color_terms(bands, color)
    magnitude = surface_brightness[:, None] + reference + (color - REFERENCE_COLOR)[:, None] * change
    return 10.0 ** (0.4 * (ZERO_POINT_AB - magnitude)) * PIXEL_SCALE_ARCSEC**2


def color_terms(bands: Sequence[str], like: Tensor) -> tuple[Tensor, Tensor]:
    """Return magnitudes relative to i at `REFERENCE_COLOR`, and their change with g - i.

    Both are (band,).

    Examples
    --------
    >>> color_terms(["g", "i"], torch.zeros(1))
    (tensor([1., 0.]), tensor([1., 0.]))
    """
    reference, change = (
        constant(tuple(table[band] for band in bands), like.device, like.dtype)
        for table in (MAGNITUDE_RELATIVE_TO_I, CHANGE_WITH_COLOR)
    )
    return reference, change


def random_field(noise: Tensor, scale: Tensor, elongation: Tensor, angle: Tensor) -> Tensor:
    """Smooth white noise to random fields of unit variance.

    Parameters
    ----------
    noise : (object, y, x) tensor
        White noise.
    scale : (object,) tensor
        Gaussian sigma of the smoothing along its short axis, pixels.
    elongation : (object,) tensor
        Ratio of the long axis to the short one.
    angle : (object,) tensor
        Position angle of the long axis, radians.

    Returns
    -------
    (object, y, x) tensor
        Periodic at the edges.

    Examples
    --------
    >>> noise = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(1))
    >>> field = random_field(noise, torch.tensor([3.0]), torch.tensor([1.0]), torch.tensor([0.0]))
    >>> field.std(correction=0).round(decimals=3)
    tensor(1.)
    >>> (field[0, :, 1:] * field[0, :, :-1]).mean() > 0.9
    tensor(True)
    """
    size = noise.shape[-1]
    ky = torch.fft.fftfreq(size, device=noise.device)[:, None] * (2 * math.pi)
    kx = torch.fft.rfftfreq(size, device=noise.device)[None, :] * (2 * math.pi)
    cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    along, across = kx * cos + ky * sin, ky * cos - kx * sin
    squared = (scale[:, None, None] ** 2) * (across**2 + (elongation[:, None, None] * along) ** 2)
    field = torch.fft.irfft2(torch.fft.rfft2(noise) * torch.exp(-0.5 * squared), s=(size, size))
    field = field - field.mean(dim=(1, 2), keepdim=True)
    return field / field.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp(min=1e-12)


def blurred(light: Tensor, sigma: Tensor) -> Tensor:
    """Convolve light (object, y, x) with a Gaussian of ``sigma`` (object,) pixels.

    Examples
    --------
    >>> point = torch.zeros(1, 9, 9)
    >>> point[0, 4, 4] = 1.0
    >>> blurred(point, torch.tensor([1.0]))[0, 4, 3:6]
    tensor([0.0966, 0.1587, 0.0966])
    """
    size = light.shape[-1]
    ky = torch.fft.fftfreq(size, device=light.device) * (2 * math.pi)
    kx = torch.fft.rfftfreq(size, device=light.device) * (2 * math.pi)
    down, across = (torch.exp(-0.5 * (sigma[:, None] * wave) ** 2) for wave in (ky, kx))
    response = down[:, :, None] * across[:, None, :]
    return torch.fft.irfft2(torch.fft.rfft2(light) * response, s=(size, size)).clamp(min=0.0)


def normalised(light: Tensor) -> Tensor:
    """Scale light (object, y, x) to a mean of 1 over its brightest half.

    The brightest half is the smallest area that holds half of the light. Light without any flux stays 0.

    Examples
    --------
    >>> normalised(torch.tensor([[[4.0, 4.0], [1.0, 0.0]]]))
    tensor([[[1.0000, 1.0000],
             [0.2500, 0.0000]]])
    """
    brightest = _ascending(light.flatten(1)).flip(1)
    total = brightest.cumsum(dim=1)
    pixels = (total < total[:, -1:] / 2).sum(dim=1, keepdim=True) + 1
    mean = total.gather(1, pixels.clamp(max=total.shape[1]) - 1) / pixels
    return torch.where(mean > 1e-12, 1.0 / mean.clamp(min=1e-12), 0.0)[:, :, None] * light


def _ascending(values: Tensor) -> Tensor:
    """Sort each row of values (object, value)."""
    if values.device.type == "cpu":  # numpy is ten times faster there than torch
        return torch.from_numpy(np.sort(values.numpy(), axis=1))
    return values.sort(dim=1).values


class Shapes(NamedTuple):
    """The shapes of the light of a batch."""

    shape: Tensor
    """(object, 1, y, x), normalised as in `Light`."""
    stamp: Tensor | None
    """(object,) int64: the stamp of each galaxy, -1 without; None where there are no stamps."""


def draw_shapes(
    draws: Draws,
    settings: Injection,
    psf_fwhm: Tensor,
    size: int,
    *,
    scale: Tensor | None = None,
    stamps: Stamps | None = None,
    wanted: Tensor | None = None,
) -> Shapes:
    """Draw one shape for each galaxy, of a random kind.

    Parameters
    ----------
    draws : Draws
        The source of randomness.
    settings : Injection
        Kinds of shapes and their ranges.
    psf_fwhm : (object,) tensor
        Seeing of each image, arcsec; NaN where unknown.
    size : int
        Side of the images, pixels.
    scale : (object,) tensor, optional
        Factor of inner radius, distance and extent.
    stamps : Stamps, optional
        The user's stamps, on the device.
    wanted : (object,) tensor of bool, optional
        The galaxies whose shape is needed, by default all. Those of others are 0.

    Examples
    --------
    >>> shapes = draw_shapes(Draws(torch.Generator().manual_seed(1)), Injection(), torch.tensor([0.6, 0.8]), 96)
    >>> shapes.shape.shape
    torch.Size([2, 1, 96, 96])
    >>> bool(shapes.shape[..., 47:49, 47:49].max() < 0.05 * shapes.shape.max())  # the middle stays dark
    True
    """
    n, device = len(psf_fwhm), draws.device
    scale = torch.ones(n, device=device) if scale is None else scale
    wanted = torch.ones(n, dtype=torch.bool, device=device) if wanted is None else wanted
    kind = _choose_kinds(draws.uniform((0.0, 1.0), n), settings, stamps)
    is_cloud, is_arc = kind == CLOUD, kind == ARC

    def arcsec(low: float, high: float) -> Tensor:
        return draws.uniform((low, high), n)

    smoothing = torch.where(is_cloud, arcsec(0.7, 1.7), arcsec(1.2, 2.7)) / PIXEL_SCALE_ARCSEC
    elongation = torch.where(is_cloud, draws.uniform((1.0, 2.5), n), draws.uniform((1.0, 2.0), n))
    noise = draws.noise(n, size, size)
    position_angle, threshold, level = arcsec(0.0, math.pi), draws.uniform((0.6, 1.3), n), 0.5 * draws.normal(n)
    width, soft_side, angle = arcsec(0.2, 0.6), arcsec(0.5, 1.7), arcsec(0.0, 2 * math.pi)
    away = scale * draws.uniform(settings.distance_arcsec, n)
    extent = scale * draws.uniform(settings.extent_arcsec, n)
    inner = scale * draws.uniform(settings.inner_radius_arcsec, n)
    pitch, axis_ratio = PITCH_SCATTER * draws.normal(n), draws.uniform((LEAST_ARC_RATIO, 1.0), n)
    radius = torch.maximum(away, inner + 2 * FADE_ARCSEC)  # an arc inside the dark centre would not be seen
    is_thin = (kind == FILAMENT) | (is_arc & (draws.uniform((0.0, 1.0), n) < 0.5))
    seeing = psf_fwhm.nan_to_num(SEEING_ARCSEC) / (FWHM_PER_SIGMA * PIXEL_SCALE_ARCSEC)
    if stamps is not None:
        stamp = draws.integers(0, len(stamps.images) - 1, n)
        stamp_angle, mirrored = arcsec(0.0, 2 * math.pi), draws.uniform((0.0, 1.0), n) < 0.5
    which = None if stamps is None else torch.where(kind == STAMP, stamp, -1)

    def from_field(rows: Tensor | slice) -> Tensor:
        field = random_field(noise[rows], smoothing[rows], elongation[rows], position_angle[rows])
        distance = _distance_to_level(field, level[rows])
        window = _gaussian_window(size, away[rows], angle[rows], extent[rows])
        lines = _profile(distance, is_thin[rows], width[rows], soft_side[rows]) * window
        cloud = (field - threshold[rows, None, None]).clamp(min=0.0)
        return torch.where(is_cloud[rows, None, None], cloud, lines)

    def from_arc(rows: Tensor | slice) -> Tensor:
        arc = _Arc(radius[rows], extent[rows], angle[rows], pitch[rows], axis_ratio[rows], position_angle[rows])
        distance, along = arc.drawn(size)
        return _profile(distance, is_thin[rows], width[rows], soft_side[rows]) * along

    def seen(rows: Tensor | slice) -> Tensor:
        return normalised(blurred(light[rows] * _ring(size, inner[rows], settings), seeing[rows]))

    light = torch.zeros(n, size, size, device=device)
    add_to_chosen(light, wanted & (kind < ARC), from_field)
    add_to_chosen(light, wanted & is_arc, from_arc)
    if stamps is not None:
        turned = stamps.drawn
        add_to_chosen(
            light, wanted & (kind == STAMP), lambda rows: turned(stamp[rows], stamp_angle[rows], mirrored[rows], size)
        )
    shape = torch.zeros_like(light)
    add_to_chosen(shape, wanted, seen)
    return Shapes(shape[:, None], which)


def _distance_to_level(field: Tensor, level: Tensor) -> Tensor:
    """Compute the distance from a level set of each random field, (object, y, x), arcsec.

    The level is in units of the field's standard deviation. Where the field is lower, the distance is negative.
    """
    down, across = torch.gradient(field, dim=(1, 2))
    slope = torch.hypot(across, down).clamp(min=LEAST_SLOPE)
    return (field - level[:, None, None]) / slope * PIXEL_SCALE_ARCSEC


def _profile(distance: Tensor, is_thin: Tensor, width: Tensor, soft_side: Tensor) -> Tensor:
    """Compute the brightness across a line, (object, y, x), which is 1 at distance 0.

    A thin line has a Gaussian profile. The others have a soft side where the distance is positive, and a sharp one
    where it is negative. All distances and widths are in arcsec.
    """
    thin = -0.5 * (distance / width[:, None, None]) ** 2
    sharp_side = -0.5 * (distance / SHARP_SIDE_ARCSEC) ** 2
    edge = torch.where(distance > 0, -distance / soft_side[:, None, None], sharp_side)
    return torch.exp(torch.where(is_thin[:, None, None], thin, edge))


class _Arc(NamedTuple):
    """Arcs about the centre: parts of ellipses that may open to spirals.

    Every field is (object,).
    """

    radius: Tensor
    """Semi-major axis in the middle of the arc, arcsec."""
    extent: Tensor
    """Gaussian sigma along the arc, arcsec."""
    angle: Tensor
    """Of the middle of the arc, from the ellipse's major axis, radians."""
    pitch: Tensor
    """Change of the radius' logarithm per radian; 0 is an ellipse."""
    axis_ratio: Tensor
    position_angle: Tensor
    """Of the major axis, radians."""

    def drawn(self, size: int) -> tuple[Tensor, Tensor]:
        """Compute the distance inwards from each arc, arcsec, and the brightness along it.

        Both are (object, y, x).
        """
        radius, extent, angle, pitch, axis_ratio, turned = (value[:, None, None] for value in self)
        axis = pixel_axis(size, self.radius.device)
        x, y = axis[None, None, :], axis[None, :, None]
        along = x * torch.cos(turned) + y * torch.sin(turned)
        across = (y * torch.cos(turned) - x * torch.sin(turned)) / axis_ratio
        from_middle = torch.remainder(torch.atan2(across, along) - angle + math.pi, 2 * math.pi) - math.pi
        distance = radius * torch.exp(pitch * from_middle) - torch.hypot(along, across)
        return distance, torch.exp(-0.5 * (from_middle / (extent / radius).clamp(*ARC_RADIANS)) ** 2)


def _gaussian_window(size: int, away: Tensor, angle: Tensor, extent: Tensor) -> Tensor:
    """Draw Gaussians, (object, y, x), about points away from the centre.

    Distance and width are in arcsec.
    """
    axis = pixel_axis(size, away.device)
    along_x, along_y = (
        torch.exp(-0.5 * ((axis - (away * turn(angle))[:, None]) / extent[:, None]) ** 2)
        for turn in (torch.cos, torch.sin)
    )
    return along_y[:, :, None] * along_x[:, None, :]


def _ring(size: int, inner: Tensor, settings: Injection) -> Tensor:
    """Draw the area that light may fill, (object, y, x).

    It begins at the inner radius, arcsec, and ends at the outer one.
    """
    axis = pixel_axis(size, inner.device)
    radius = torch.hypot(axis[None, :], axis[:, None])
    return torch.sigmoid((radius - inner[:, None, None]) / FADE_ARCSEC) * (radius < settings.outer_radius_arcsec)


def _choose_kinds(uniform: Tensor, settings: Injection, stamps: Stamps | None) -> Tensor:
    """Choose kinds, in the order of their numbers, by how many there are of each."""
    relative = [settings.clouds, settings.filaments, settings.edges, settings.arcs]
    if stamps is not None:
        relative.append(settings.stamps.number)
    bounds = np.cumsum(relative)[:-1] / np.sum(relative)
    return torch.stack([uniform >= bound for bound in bounds.astype(np.float32).tolist()]).sum(dim=0)


def draw_light(
    draws: Draws,
    settings: Injection,
    surface_brightness: tuple[float, float],
    bands: Sequence[str],
    flux: Tensor,
    psf_fwhm: Tensor,
    fraction: float | None = None,
    *,
    sigma: Tensor | None = None,
    stamps: Stamps | None = None,
) -> Light:
    """Draw light for a batch of galaxies.

    Parameters
    ----------
    draws : Draws
        The source of randomness.
    settings : Injection
        Shapes and colours.
    surface_brightness : (float, float)
        Range in i, mag/arcsec²: `surface_brightness_range`.
    bands : sequence of str
        Names of the bands.
    flux : (object, band, y, x) tensor
        The images, NaN where missing. No light falls where every band is missing.
    psf_fwhm : (object, band) tensor
        Seeing, arcsec; NaN where unknown.
    fraction : float, optional
        Share of the galaxies that get light; ``settings.fraction`` by default.
    sigma : (band,) tensor, optional
        Typical sky noise of a pixel in each band, nJy. With it, a part of the light is lost with the sky.
    stamps : Stamps, optional
        The user's stamps, on the device.

    Examples
    --------
    >>> draws = Draws(torch.Generator().manual_seed(1))
    >>> images, psf_fwhm = torch.zeros(4, 2, 96, 96), torch.full((4, 2), 0.6)
    >>> light = draw_light(draws, Injection(), (24.0, 26.0), ["g", "i"], images, psf_fwhm)
    >>> light.injected, light.flux().shape
    (tensor([False,  True,  True, False]), torch.Size([4, 2, 96, 96]))
    """
    n = len(flux)
    has_light = draws.uniform((0.0, 1.0), n) < (settings.fraction if fraction is None else fraction)
    seeing = psf_fwhm.nanmean(dim=1)
    scale = half_light_radius(flux).clamp(SMALLEST_SCALE, LARGEST_SCALE) if settings.scale_with_size else None
    drawn = draw_shapes(draws, settings, seeing, flux.shape[-1], scale=scale, stamps=stamps, wanted=has_light)
    brightness = draws.uniform(surface_brightness, n)
    color = settings.color + settings.color_scatter * draws.normal(n)
    flux_of_bands = band_flux(brightness, color, bands)
    if stamps is not None and drawn.stamp is not None:
        flux_of_bands = _with_colors_of_stamps(flux_of_bands, drawn.stamp, stamps, bands)
    shape = drawn.shape * _covered(flux)
    if sigma is None or settings.over_subtraction == 0:
        return Light(shape, flux_of_bands)
    sky, lost = _taken_for_sky(draws, settings.over_subtraction, shape, has_light, flux_of_bands / sigma)
    return Light(shape, flux_of_bands, sky, lost)


def _covered(flux: Tensor) -> Tensor:
    """Mark the pixels (object, 1, y, x) that are present in some band."""
    return ~functools.reduce(torch.logical_and, (torch.isnan(band) for band in flux.split(1, dim=1)))


def _taken_for_sky(
    draws: Draws, share: float, shape: Tensor, has_light: Tensor, signal_to_noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Draw what each light loses with the sky: `Light.sky` and `Light.lost`.

    A sky fitted on small scales contains the light that is too faint to be detected. Subtracting it dims faint features
    and leaves dark moats around them (Aihara et al. 2019, PASJ 71, 114).

    Parameters
    ----------
    draws : Draws
        The source of randomness.
    share : float
        Share of the lights that lose something.
    shape : (object, 1, y, x) tensor
        As in `Light`.
    has_light : (object,) tensor of bool
        Whether each galaxy has light.
    signal_to_noise : (object, band) tensor
        Of a pixel where ``shape`` is 1.
    """
    n, n_bands = signal_to_noise.shape
    detected = draws.uniform(DETECTED_SIGMA, n) / signal_to_noise.median(dim=1).values
    scale = draws.uniform(SKY_SCALE_ARCSEC, n) / PIXEL_SCALE_ARCSEC
    lost, loses = draws.uniform((0.0, 1.0), n, n_bands), draws.uniform((0.0, 1.0), n) < share

    def smoothed(rows: Tensor | slice) -> Tensor:
        return blurred(torch.minimum(shape[rows, 0], detected[rows, None, None]), scale[rows])[:, None]

    sky = torch.zeros_like(shape)
    add_to_chosen(sky, has_light & loses, smoothed)
    return sky, lost


def _with_colors_of_stamps(flux: Tensor, which: Tensor, stamps: Stamps, bands: Sequence[str]) -> Tensor:
    """Give the light (object, band) of stamps in several bands their own colour."""
    reference = list(bands).index("i") if "i" in bands else 0
    ratio = stamps.band_ratio[which.clamp(min=0)]
    own = (which >= 0)[:, None] & ratio.isfinite()
    return torch.where(own, flux[:, reference, None] * ratio, flux)
