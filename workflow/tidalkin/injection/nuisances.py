"""Paint what must not count as debris: companions, stars, uneven sky, correlated noise.

Nuisances are painted onto galaxies with and without injected light alike, and no head is told of them. The network
learns that they say nothing about debris.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tidalkin.config.injection import Nuisances
from tidalkin.constants import FWHM_PER_SIGMA, PIXEL_SCALE_ARCSEC
from tidalkin.draws import Draws
from tidalkin.injection.chosen import add_to_chosen
from tidalkin.injection.light import REFERENCE_COLOR, SEEING_ARCSEC, color_terms
from tidalkin.injection.size import pixel_axis

MOST_COMPANIONS = 3
"""A galaxy that gets companions gets one to this many."""
COMPANION_FLUX_SIGMA = (30.0, 3000.0)
STAR_FLUX_SIGMA = (100.0, 30_000.0)
"""Total flux in units of one pixel's sky noise, drawn uniformly in its logarithm; in HSC Wide, i = 25.9 to 20.9 of a
companion and 24.6 to 18.5 of a star."""
SCALE_LENGTH_ARCSEC = (0.15, 0.7)  # of a companion's exponential profile
LEAST_AXIS_RATIO = 0.4
NEAREST_ARCSEC = 1.5
COMPANION_COLOR, COMPANION_COLOR_SCATTER = 1.0, 0.5  # g - i, mag
MOFFAT_BETA = 3.0
GRADIENT_SIGMA = 0.5  # largest difference from the middle to the edge, in units of the sky noise
HOLLOW_SIGMA = (0.05, 0.4)  # depth of an over-subtraction
HOLLOW_ARCSEC = (3.0, 7.0)  # its Gaussian sigma
CORRELATED_NOISE_SIGMA = (0.2, 0.6)
DEVIATION_BETWEEN_PIXELS = 0.625  # of unit noise after bilinear interpolation to pixels of half the size


def paint_nuisances(
    draws: Draws, settings: Nuisances, bands: Sequence[str], flux: Tensor, sky_sigma: Tensor, psf_fwhm: Tensor
) -> Tensor:
    """Add nuisances to a batch of galaxies.

    Parameters
    ----------
    draws : Draws
        The source of randomness.
    settings : Nuisances
        Share of the galaxies that get each nuisance. One of share 0 is not drawn.
    bands : sequence of str
        Names of the bands.
    flux : (object, band, y, x) tensor
        The images, nJy, NaN where missing.
    sky_sigma : (object, band) tensor
        Sky noise of one pixel, nJy.
    psf_fwhm : (object, band) tensor
        Seeing, arcsec; NaN where unknown.

    Returns
    -------
    (object, band, y, x) tensor
        New images; missing pixels stay missing.

    Examples
    --------
    >>> draws = Draws(torch.Generator().manual_seed(1))
    >>> flux, sky_sigma, psf_fwhm = torch.zeros(2, 1, 64, 64), torch.ones(2, 1), torch.full((2, 1), 0.6)
    >>> settings = Nuisances(companions=0.0, over_subtraction=1.0)
    >>> paint_nuisances(draws, settings, ["i"], flux, sky_sigma, psf_fwhm).amax(dim=(1, 2, 3)) <= 0
    tensor([True, True])
    """
    if not settings.enabled:
        return flux
    flux = flux.clone()
    if settings.companions > 0:
        _add_companions(flux, draws, settings, bands, sky_sigma, psf_fwhm)
    if settings.gradients > 0:
        _add_gradients(flux, draws, settings.gradients, sky_sigma)
    if settings.over_subtraction > 0:
        _dig_hollows(flux, draws, settings.over_subtraction, sky_sigma)
    if settings.correlated_noise > 0:
        _add_correlated_noise(flux, draws, settings.correlated_noise, sky_sigma)
    return flux


def _chosen(draws: Draws, share: float, n_objects: int) -> Tensor:
    """Choose a share of the galaxies, (object,) bool."""
    return draws.uniform((0.0, 1.0), n_objects) < share


def _pixels(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return y (y, 1) and x (1, x) of the pixels, arcsec from the centre."""
    y = pixel_axis(size, device)[:, None]
    return y, y.T


class _Companions(NamedTuple):
    """Companions and stars of a batch. Every field is (object, number), or (object,) after `of`."""

    is_star: Tensor
    y: Tensor
    """Position from the galaxy's centre, arcsec."""
    x: Tensor
    angle: Tensor
    """Position angle, radians."""
    axis_ratio: Tensor
    scale_length: Tensor
    """Of a companion's exponential profile, arcsec."""
    band_flux: Tensor
    """Total flux in each band, nJy; the bands are one more axis, the last."""

    def of(self, rows: Tensor | slice, number: int) -> _Companions:
        """Return one companion of each of some galaxies."""
        return _Companions(*(field[rows, number] for field in self))

    def light(self, seeing: Tensor, size: int) -> Tensor:
        """Compute images (object, band, y, x) of companions and stars, nJy.

        ``seeing`` (object,) is in arcsec.
        """
        y, x = _pixels(size, self.x.device)
        down, right = y - self.y[:, None, None], x - self.x[:, None, None]

        def galaxy(rows: Tensor | slice) -> Tensor:
            angle, ratio, scale_length, wide = (
                values[rows, None, None] for values in (self.angle, self.axis_ratio, self.scale_length, seeing)
            )
            cos, sin = torch.cos(angle), torch.sin(angle)
            along, across = right[rows] * cos + down[rows] * sin, (down[rows] * cos - right[rows] * sin) / ratio
            # The seeing rounds off the cusp of the profile: a convolution costs more than it shows here.
            radius = torch.sqrt(along**2 + across**2 + (wide / FWHM_PER_SIGMA) ** 2)
            return torch.exp(-radius / scale_length)

        def star(rows: Tensor | slice) -> Tensor:
            width = seeing[rows, None, None] / (2 * math.sqrt(2 ** (1 / MOFFAT_BETA) - 1))
            return (1 + (right[rows] ** 2 + down[rows] ** 2) / width**2) ** -MOFFAT_BETA

        shape = torch.zeros(len(seeing), size, size, device=seeing.device)
        add_to_chosen(shape, ~self.is_star, galaxy)
        add_to_chosen(shape, self.is_star, star)
        shape = shape / shape.sum(dim=(1, 2), keepdim=True).clamp(min=1e-12)
        return shape[:, None] * self.band_flux[:, :, None, None]


def _add_companions(
    flux: Tensor, draws: Draws, settings: Nuisances, bands: Sequence[str], sky_sigma: Tensor, psf_fwhm: Tensor
) -> None:
    """Add compact companions and stars to the images."""
    (n, _, size, _), m = flux.shape, MOST_COMPANIONS
    seeing = psf_fwhm.nanmean(dim=1).nan_to_num(SEEING_ARCSEC)
    number = draws.integers(1, m, n) * _chosen(draws, settings.companions, n)
    is_star = draws.uniform((0.0, 1.0), n, m) < settings.stars
    farthest = size / 2 * PIXEL_SCALE_ARCSEC
    distance, towards = draws.uniform((NEAREST_ARCSEC, farthest), n, m), draws.uniform((0.0, 2 * math.pi), n, m)
    angle, ratio = draws.uniform((0.0, math.pi), n, m), draws.uniform((LEAST_AXIS_RATIO, 1.0), n, m)
    scale_length = draws.uniform(SCALE_LENGTH_ARCSEC, n, m)

    exponent = draws.uniform((0.0, 1.0), n, m)
    total = torch.where(is_star, _between(STAR_FLUX_SIGMA, exponent), _between(COMPANION_FLUX_SIGMA, exponent))
    color = COMPANION_COLOR + COMPANION_COLOR_SCATTER * draws.normal(n, m)
    reference, change = color_terms(bands, color)
    relative = 10.0 ** (-0.4 * (reference + (color - REFERENCE_COLOR)[:, :, None] * change))
    reference_sigma = sky_sigma[:, list(bands).index("i") if "i" in bands else 0]
    band_flux = (total * reference_sigma[:, None])[:, :, None] * relative
    y, x = distance * torch.sin(towards), distance * torch.cos(towards)
    companions = _Companions(is_star, y, x, angle, ratio, scale_length, band_flux)

    def light(which: int, rows: Tensor | slice) -> Tensor:
        return companions.of(rows, which).light(seeing[rows], size)

    for which in range(m):
        add_to_chosen(flux, which < number, functools.partial(light, which))


def _between(bounds: tuple[float, float], exponent: Tensor) -> Tensor:
    """Return numbers between two bounds, uniform in their logarithm for a uniform ``exponent`` in 0..1."""
    low, high = bounds
    return low * (high / low) ** exponent


def _add_gradients(flux: Tensor, draws: Draws, share: float, sky_sigma: Tensor) -> None:
    """Add linear gradients of the sky to the images."""
    n, size = len(flux), flux.shape[-1]
    y, x = _pixels(size, draws.device)
    angle, slope = draws.uniform((0.0, 2 * math.pi), n), draws.uniform((0.0, GRADIENT_SIGMA), n)
    height = slope[:, None] * sky_sigma / (size / 2 * PIXEL_SCALE_ARCSEC)

    def gradient(rows: Tensor | slice) -> Tensor:
        plane = x * torch.cos(angle)[rows, None, None] + y * torch.sin(angle)[rows, None, None]
        return height[rows, :, None, None] * plane[:, None]

    add_to_chosen(flux, _chosen(draws, share, n), gradient)


def _dig_hollows(flux: Tensor, draws: Draws, share: float, sky_sigma: Tensor) -> None:
    """Subtract too much sky around the galaxies."""
    n = len(flux)
    depth, width = draws.uniform(HOLLOW_SIGMA, n), draws.uniform(HOLLOW_ARCSEC, n)
    middle = -depth[:, None] * sky_sigma

    def hollow(rows: Tensor | slice) -> Tensor:
        along = torch.exp(-0.5 * (pixel_axis(flux.shape[-1], draws.device) / width[rows, None]) ** 2)
        return middle[rows, :, None, None] * (along[:, :, None] * along[:, None, :])[:, None]

    add_to_chosen(flux, _chosen(draws, share, n), hollow)


def _add_correlated_noise(flux: Tensor, draws: Draws, share: float, sky_sigma: Tensor) -> None:
    """Add noise that neighbouring pixels share to the images.

    Resampled coadds have such noise.
    """
    n, n_bands, size, _ = flux.shape
    strength, chosen = draws.uniform(CORRELATED_NOISE_SIGMA, n), _chosen(draws, share, n)
    coarse = draws.noise(n, n_bands, (size + 1) // 2, (size + 1) // 2)
    deviation = strength[:, None] * sky_sigma / DEVIATION_BETWEEN_PIXELS

    def noise(rows: Tensor | slice) -> Tensor:
        smooth = F.interpolate(coarse[rows], size=size, mode="bilinear", align_corners=False)
        return deviation[rows, :, None, None] * smooth

    add_to_chosen(flux, chosen, noise)
