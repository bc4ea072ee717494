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


def _rows_to_paint(chosen: Tensor) -> Tensor | slice:
    """Return the rows of the chosen galaxies.

    On a GPU it is all rows, because a CUDA graph has fixed shapes.
    """
    return chosen.nonzero()[:, 0] if chosen.device.type == "cpu" else slice(None)


def _pixels(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return y (y, 1) and x (1, x) of the pixels, arcsec from the centre."""
    y = pixel_axis(size, device)[:, None]
    return y, y.T


def _add_companions(
    flux: Tensor, draws: Draws, settings: Nuisances, bands: Sequence[str], sky_sigma: Tensor, psf_fwhm: Tensor
) -> None:
    """Add compact companions and stars to the images."""
    (n, _, size, _), m = flux.shape, MOST_COMPANIONS
    seeing = psf_fwhm.nanmean(dim=1).nan_to_num(SEEING_ARCSEC)
    number = draws.integers(1, m, n) * _chosen(draws, settings.companions, n)
    exists = torch.arange(m, device=draws.device) < number[:, None]
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
    band_flux = (total * exists * reference_sigma[:, None])[:, :, None] * relative

    y, x = _pixels(size, draws.device)
    for which in range(m):
        rows = _rows_to_paint(exists[:, which])

        def of_rows(values: Tensor, which: int = which, rows: Tensor | slice = rows) -> Tensor:
            return values[:, which][rows, None, None]

        down = y - of_rows(distance * torch.sin(towards))
        right = x - of_rows(distance * torch.cos(towards))
        cos, sin = of_rows(torch.cos(angle)), of_rows(torch.sin(angle))
        along, across = right * cos + down * sin, (down * cos - right * sin) / of_rows(ratio)
        wide = seeing[rows, None, None]
        # The seeing rounds off the cusp of the profile: a convolution costs more than it shows here.
        galaxy = torch.exp(-torch.sqrt(along**2 + across**2 + (wide / FWHM_PER_SIGMA) ** 2) / of_rows(scale_length))
        width = wide / (2 * math.sqrt(2 ** (1 / MOFFAT_BETA) - 1))
        star = (1 + (right**2 + down**2) / width**2) ** -MOFFAT_BETA
        shape = torch.where(of_rows(is_star), star, galaxy)
        shape = shape / shape.sum(dim=(1, 2), keepdim=True).clamp(min=1e-12)
        flux[rows] += shape[:, None] * band_flux[rows, which, :, None, None]


def _between(bounds: tuple[float, float], exponent: Tensor) -> Tensor:
    """Return numbers between two bounds, uniform in their logarithm for a uniform ``exponent`` in 0..1."""
    low, high = bounds
    return low * (high / low) ** exponent


def _add_gradients(flux: Tensor, draws: Draws, share: float, sky_sigma: Tensor) -> None:
    """Add linear gradients of the sky to the images."""
    n, size = len(flux), flux.shape[-1]
    y, x = _pixels(size, draws.device)
    angle, slope = draws.uniform((0.0, 2 * math.pi), n), draws.uniform((0.0, GRADIENT_SIGMA), n)
    chosen = _chosen(draws, share, n)
    rows = _rows_to_paint(chosen)
    plane = x * torch.cos(angle)[rows, None, None] + y * torch.sin(angle)[rows, None, None]
    height = (slope * chosen)[:, None] * sky_sigma / (size / 2 * PIXEL_SCALE_ARCSEC)
    flux[rows] += height[rows, :, None, None] * plane[:, None]


def _dig_hollows(flux: Tensor, draws: Draws, share: float, sky_sigma: Tensor) -> None:
    """Subtract too much sky around the galaxies."""
    n = len(flux)
    depth, width = draws.uniform(HOLLOW_SIGMA, n), draws.uniform(HOLLOW_ARCSEC, n)
    chosen = _chosen(draws, share, n)
    rows = _rows_to_paint(chosen)
    along = torch.exp(-0.5 * (pixel_axis(flux.shape[-1], draws.device) / width[rows, None]) ** 2)
    hollow = along[:, :, None] * along[:, None, :]
    flux[rows] -= ((depth * chosen)[:, None] * sky_sigma)[rows, :, None, None] * hollow[:, None]


def _add_correlated_noise(flux: Tensor, draws: Draws, share: float, sky_sigma: Tensor) -> None:
    """Add noise that neighbouring pixels share to the images.

    Resampled coadds have such noise.
    """
    n, n_bands, size, _ = flux.shape
    strength, chosen = draws.uniform(CORRELATED_NOISE_SIGMA, n), _chosen(draws, share, n)
    coarse = draws.noise(n, n_bands, (size + 1) // 2, (size + 1) // 2)
    rows = _rows_to_paint(chosen)
    noise = F.interpolate(coarse[rows], size=size, mode="bilinear", align_corners=False)
    flux[rows] += ((strength * chosen)[:, None] * sky_sigma / DEVIATION_BETWEEN_PIXELS)[rows, :, None, None] * noise
