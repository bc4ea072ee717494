"""Flux to network input: one arcsinh stretch for training, embedding and pictures of what the network sees.

Random views are made in `tidalkin.model.augment`, colour pictures for people in `tidalkin.figures.mosaic`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from tidalkin.config import Stretch
from tidalkin.errors import TidalkinError
from tidalkin.images.store import ImageStore

LIGHT_SHARE = 0.1
"""Asymmetry that counts as much as the noise, as a share of the light."""


def band_sigma(store: ImageStore, minimum_good_fraction: float = 0.5) -> npt.NDArray[np.float32]:
    """Typical sky noise of each band: the unit of the stretch.

    One number per band for the whole survey, not one per image, so that equal flux gives equal network input.

    Parameters
    ----------
    store : ImageStore
        The image store.
    minimum_good_fraction : float
        Images with a smaller share of good pixels do not count.

    Returns
    -------
    (band,) float32
        Median of the images' ``sky_sigma``, nJy.

    Raises
    ------
    TidalkinError
        If a band has not one image that counts.
    """
    sky_sigma = np.asarray(store.sky_sigma)
    good_fraction = np.asarray(store.good_fraction)
    counts = (good_fraction >= minimum_good_fraction) & np.isfinite(sky_sigma) & (sky_sigma > 0)
    for band, any_counts in zip(store.bands, counts.any(axis=0), strict=True):
        if not any_counts:
            raise TidalkinError(
                f"{store.path}: band {band} has no image with {minimum_good_fraction:.0%} good pixels and a "
                f"measured sky, so its noise is unknown: remove `{band}` from cutouts.bands or bring images of it"
            )
    return np.nanmedian(np.where(counts, sky_sigma, np.nan), axis=0).astype(np.float32)


def channel_count(n_bands: int, settings: Stretch) -> int:
    """Channels of the network input."""
    return n_bands + settings.asymmetry


def stretch(flux: torch.Tensor, sigma: torch.Tensor, settings: Stretch) -> torch.Tensor:
    """Compress flux with arcsinh, so that faint debris and bright cores fit into one range (Lupton et al. 1999).

    Parameters
    ----------
    flux : (..., band, y, x) tensor
        Flux, nJy; NaN where missing.
    sigma : (band,) tensor
        Sky noise of each band, nJy, on the device of ``flux``: `band_sigma`.
    settings : Stretch
        Softening, cap, and whether the asymmetry is a channel.

    Returns
    -------
    (..., channel, y / bin, x / bin) tensor
        ``arcsinh(flux / (softening_sigma * sigma))`` of each band, at most ``maximum``; 0, the sky's level, where flux
        is missing; with ``asymmetry``, that of all bands as the last channel (`asymmetry`).
        With a ``bin`` above 1, of the mean flux of blocks of ``bin`` by ``bin`` pixels, missing ones counted as sky.
    """
    if settings.bin > 1:
        flux = torch.nn.functional.avg_pool2d(flux.nan_to_num(nan=0.0), settings.bin)
    scaled = flux * (1.0 / (settings.softening_sigma * sigma))[:, None, None]
    return network_input(scaled.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0), settings)


def network_input(scaled: torch.Tensor, settings: Stretch) -> torch.Tensor:
    """The last step of `stretch`, and of a random view.

    Parameters
    ----------
    scaled : (..., band, y, x) tensor
        Flux without NaN in units of ``softening_sigma * sigma``, averaged over blocks of ``bin`` by ``bin`` pixels.
    settings : Stretch
        Cap, and whether the asymmetry is a channel.

    Returns
    -------
    (..., channel, y, x) tensor
    """
    stretched = compress(scaled, settings.maximum)
    if not settings.asymmetry:
        return stretched
    noise = 1.0 / (settings.softening_sigma * settings.bin)  # of a block's mean, in the unit of ``scaled``
    residual = compress(asymmetry(scaled / noise), settings.maximum)
    return torch.cat([stretched, residual], dim=-3)


def asymmetry(flux: torch.Tensor) -> torch.Tensor:
    """What half a turn about the centre does not repeat, against noise and light: debris stays, the host goes.

    A galaxy's smooth light, whatever its inclination, looks the same after half a turn, as do two equal arms; streams,
    most shells and tails do not (Conselice et al. 2000, ApJ 529, 886, measure the same difference as one number).

    Parameters
    ----------
    flux : (..., band, y, x) tensor
        Flux without NaN in units of each band's noise.

    Returns
    -------
    (..., 1, y, x) tensor
        The sum of all bands minus itself after half a turn, over the noise of that difference where there is little
        light. Where there is much, over `LIGHT_SHARE` of it: a core half a pixel off the centre would outshine all.
    """
    light = flux.sum(dim=-3, keepdim=True) / math.sqrt(flux.shape[-3])
    turned = light.flip(-2, -1)
    mean = ((light + turned) / 2).clamp(min=0.0)
    return (light - turned) / (math.sqrt(2.0) * (1.0 + LIGHT_SHARE * mean))


def compress(scaled: torch.Tensor, maximum: float | None) -> torch.Tensor:
    """``arcsinh(scaled)``, at most ``maximum``."""
    # As log(|x| + sqrt(x^2 + 1)): torch.asinh takes ten times as long on a CPU, longer than all else in a view.
    stretched = (scaled * scaled).add_(1.0).sqrt_().add_(scaled.abs()).log_().copysign_(scaled)
    return stretched if maximum is None else stretched.clamp_(max=maximum)
