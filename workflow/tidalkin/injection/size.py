"""Measure the size of galaxies on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.draws import constant

APERTURES_ARCSEC = (0.25, 0.5, 0.75, 1.0, 1.3, 1.6, 2.0, 2.5, 3.0, 3.75, 4.5, 5.5)
SMALLEST_ARCSEC, LARGEST_ARCSEC = 0.3, 4.0


def pixel_axis(size: int, device: torch.device) -> Tensor:
    """Return the positions of pixels along one axis, arcsec from the image's centre, (pixel,).

    Examples
    --------
    >>> pixel_axis(3, torch.device("cpu"))
    tensor([-0.1680,  0.0000,  0.1680])
    """
    return (torch.arange(size, device=device) - (size - 1) / 2) * PIXEL_SCALE_ARCSEC


def half_light_radius(flux: Tensor) -> Tensor:
    """Measure the radius that holds half of a galaxy's light, from its curve of growth.

    The light of all bands is summed in circles about the centre of the image. Where the largest circle holds no
    positive light, the radius is the smallest one.

    Parameters
    ----------
    flux : (object, band, y, x) tensor
        The images, NaN where missing.

    Returns
    -------
    (object,) tensor
        Arcsec, between 0.3 and 4; not corrected for the seeing.

    Examples
    --------
    >>> pixel = pixel_axis(64, torch.device("cpu"))
    >>> gaussian = torch.exp(-0.5 * (pixel**2 + pixel[:, None] ** 2))  # of 1 arcsec
    >>> half_light_radius(gaussian[None, None]).round(decimals=1)
    tensor([1.2000])
    """
    pixel = pixel_axis(flux.shape[-1], flux.device)
    radius = torch.hypot(pixel, pixel[:, None]).flatten()
    edges = constant((0.0, *APERTURES_ARCSEC), flux.device)
    inside = (radius[:, None] < edges[None, :]).to(flux.dtype)
    growth = flux.nansum(dim=1).flatten(1) @ inside
    # Noise makes the curve fall here and there; the largest value so far never falls.
    growth = growth.clamp(min=0.0).cummax(dim=1).values
    half = growth[:, -1:] / 2
    outer = (growth < half).sum(dim=1, keepdim=True).clamp(1, len(edges) - 1)
    below, above = growth.gather(1, outer - 1), growth.gather(1, outer)
    share = ((half - below) / (above - below).clamp(min=1e-12)).clamp(0.0, 1.0)
    found = edges[outer - 1] + share * (edges[outer] - edges[outer - 1])
    return found[:, 0].clamp(SMALLEST_ARCSEC, LARGEST_ARCSEC)
