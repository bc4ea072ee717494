"""Paint what must not count as debris: companions, stars, uneven sky, correlated noise.

Nuisances are painted onto galaxies with and without injected light alike, and no head is told of them. The network
learns that they say nothing about debris.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tidalkin.config.injection import Nuisances
from tidalkin.constants import FWHM_PER_SIGMA, PIXEL_SCALE_ARCSEC
from tidalkin.draws import Draws
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
    >>> settings = Nuisances(over_subtraction=1.0)
    >>> paint_nuisances(draws, settings, ["i"], flux, sky_sigma, psf_fwhm).amax(dim=(1, 2, 3)) <= 0
    tensor([True, True])
    """
    size = flux.shape[-1]
    if settings.companions > 0:
        shape, band_flux = _companions(draws, settings, bands, sky_sigma, psf_fwhm, size)
        flux = flux + torch.einsum("nmyx,nmb->nbyx", shape, band_flux)
    if settings.gradients > 0:
        flux = flux + _gradients(draws, settings.gradients, sky_sigma, size)
    if settings.over_subtraction > 0:
        flux = flux - _hollows(draws, settings.over_subtraction, sky_sigma, size)
    if settings.correlated_noise > 0:
        flux = flux + _correlated_noise(draws, settings.correlated_noise, sky_sigma, size)
    return flux


def _chosen(draws: Draws, share: float, n_objects: int) -> Tensor:
    """Choose a share of the galaxies, (object,) 0 or 1."""
    return (draws.uniform((0.0, 1.0), n_objects) < share).float()


def _pixels(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return y (y, 1) and x (1, x) of the pixels, arcsec from the centre."""
    y = pixel_axis(size, device)[:, None]
    return y, y.T


def _companions(
    draws: Draws, settings: Nuisances, bands: Sequence[str], sky_sigma: Tensor, psf_fwhm: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """Draw compact companions and stars.

    Returns
    -------
    shape : (object, companion, y, x) tensor
        Of total 1.
    band_flux : (object, companion, band) tensor
        Total flux, nJy; 0 where there is none.
    """
    n, m = len(sky_sigma), MOST_COMPANIONS
    seeing = psf_fwhm.nanmean(dim=1).nan_to_num(SEEING_ARCSEC)[:, None, None, None]
    number = draws.integers(1, m, n) * _chosen(draws, settings.companions, n)
    exists = torch.arange(m, device=draws.device) < number[:, None]
    is_star = draws.uniform((0.0, 1.0), n, m) < settings.stars
    farthest = size / 2 * PIXEL_SCALE_ARCSEC
    distance, towards = draws.uniform((NEAREST_ARCSEC, farthest), n, m), draws.uniform((0.0, 2 * math.pi), n, m)
    y, x = _pixels(size, draws.device)
    down = y - (distance * torch.sin(towards))[:, :, None, None]
    right = x - (distance * torch.cos(towards))[:, :, None, None]

    angle = draws.uniform((0.0, math.pi), n, m)[:, :, None, None]
    ratio = draws.uniform((LEAST_AXIS_RATIO, 1.0), n, m)[:, :, None, None]
    along = right * torch.cos(angle) + down * torch.sin(angle)
    across = (down * torch.cos(angle) - right * torch.sin(angle)) / ratio
    # The seeing rounds off the cusp of the profile: a convolution costs more than it shows here.
    rounded = torch.sqrt(along**2 + across**2 + (seeing / FWHM_PER_SIGMA) ** 2)
    galaxy = torch.exp(-rounded / draws.uniform(SCALE_LENGTH_ARCSEC, n, m)[:, :, None, None])
    width = seeing / (2 * math.sqrt(2 ** (1 / MOFFAT_BETA) - 1))
    star = (1 + (right**2 + down**2) / width**2) ** -MOFFAT_BETA
    shape = torch.where(is_star[:, :, None, None], star, galaxy)
    shape = shape / shape.sum(dim=(2, 3), keepdim=True).clamp(min=1e-12)

    exponent = draws.uniform((0.0, 1.0), n, m)
    total = torch.where(is_star, _between(STAR_FLUX_SIGMA, exponent), _between(COMPANION_FLUX_SIGMA, exponent))
    color = COMPANION_COLOR + COMPANION_COLOR_SCATTER * draws.normal(n, m)
    reference, change = color_terms(bands, color)
    relative = 10.0 ** (-0.4 * (reference + (color - REFERENCE_COLOR)[:, :, None] * change))
    reference_sigma = sky_sigma[:, list(bands).index("i") if "i" in bands else 0]
    return shape, (total * exists * reference_sigma[:, None])[:, :, None] * relative


def _between(bounds: tuple[float, float], exponent: Tensor) -> Tensor:
    """Return numbers between two bounds, uniform in their logarithm for a uniform ``exponent`` in 0..1."""
    low, high = bounds
    return low * (high / low) ** exponent


def _gradients(draws: Draws, share: float, sky_sigma: Tensor, size: int) -> Tensor:
    """Draw a linear gradient of the sky, (object, band, y, x), nJy."""
    n = len(sky_sigma)
    y, x = _pixels(size, draws.device)
    angle = draws.uniform((0.0, 2 * math.pi), n)[:, None, None]
    slope = draws.uniform((0.0, GRADIENT_SIGMA), n) * _chosen(draws, share, n)
    plane = (x * torch.cos(angle) + y * torch.sin(angle)) / (size / 2 * PIXEL_SCALE_ARCSEC)
    return (slope[:, None] * sky_sigma)[:, :, None, None] * plane[:, None]


def _hollows(draws: Draws, share: float, sky_sigma: Tensor, size: int) -> Tensor:
    """Draw too much subtracted sky around a galaxy, (object, band, y, x), nJy."""
    n = len(sky_sigma)
    y, x = _pixels(size, draws.device)
    depth = draws.uniform(HOLLOW_SIGMA, n) * _chosen(draws, share, n)
    width = draws.uniform(HOLLOW_ARCSEC, n)[:, None, None]
    hollow = torch.exp(-0.5 * (x**2 + y**2) / width**2)
    return (depth[:, None] * sky_sigma)[:, :, None, None] * hollow[:, None]


def _correlated_noise(draws: Draws, share: float, sky_sigma: Tensor, size: int) -> Tensor:
    """Draw noise that neighbouring pixels share, (object, band, y, x), nJy.

    Resampled coadds have such noise.
    """
    n, n_bands = sky_sigma.shape
    strength = draws.uniform(CORRELATED_NOISE_SIGMA, n) * _chosen(draws, share, n)
    coarse = draws.noise(n, n_bands, (size + 1) // 2, (size + 1) // 2)
    noise = F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    return (strength[:, None] * sky_sigma)[:, :, None, None] * noise / DEVIATION_BETWEEN_PIXELS
