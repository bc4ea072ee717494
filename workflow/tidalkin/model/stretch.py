"""Stretch flux to network input, alike for training, embedding and pictures of the input.

Random views are in `tidalkin.model.augment`, and colour pictures for people in `tidalkin.figures.mosaic`.
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
"""Asymmetry, as a share of the light, that weighs as much as the noise."""


def band_sigma(store: ImageStore, minimum_good_fraction: float = 0.5) -> npt.NDArray[np.float32]:
    """Compute the typical sky noise of each band, which is the unit of the stretch.

    There is one number per band for the whole survey, so that equal flux gives equal network input in every image.

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
        If a band has no image that counts.

    Examples
    --------
    >>> band_sigma(ImageStore.open("results/demo/images.zarr"))
    array([1., 1., 1., 1., 1.], dtype=float32)
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
    """Count the channels of the network input.

    Examples
    --------
    >>> channel_count(5, Stretch(asymmetry=True))
    6
    """
    return n_bands + settings.asymmetry


def stretch(flux: torch.Tensor, sigma: torch.Tensor, settings: Stretch) -> torch.Tensor:
    """Compress flux with arcsinh (Lupton et al. 1999).

    Faint debris and bright cores then fit into one range.

    Parameters
    ----------
    flux : (..., band, y, x) tensor
        Flux, nJy; NaN where missing.
    sigma : (band,) tensor
        Sky noise of each band from `band_sigma`, nJy, on the device of ``flux``.
    settings : Stretch
        Softening, cap, and whether the asymmetry is a channel.

    Returns
    -------
    (..., channel, y / bin, x / bin) tensor
        ``arcsinh(flux / (softening_sigma * sigma))`` of each band, at most ``maximum``. Missing flux gives 0, the level
        of the sky. With a ``bin`` above 1, the mean flux of blocks of ``bin`` by ``bin`` pixels is stretched, and
        missing pixels count as sky. With ``asymmetry``, the last channel is the `asymmetry` of all bands.

    Examples
    --------
    >>> flux = torch.tensor([[[0.0, 1.0], [10.0, float("nan")]]])
    >>> stretch(flux, torch.tensor([0.5]), Stretch(softening_sigma=2.0, maximum=5.0, bin=1, asymmetry=False))
    tensor([[[0.0000, 0.8814],
             [2.9982, 0.0000]]])
    """
    if settings.bin > 1:
        flux = torch.nn.functional.avg_pool2d(flux.nan_to_num(nan=0.0), settings.bin)
    scaled = flux * (1.0 / (settings.softening_sigma * sigma))[:, None, None]
    return network_input(scaled.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0), settings)


def network_input(scaled: torch.Tensor, settings: Stretch) -> torch.Tensor:
    """Compress scaled flux and append the asymmetry, as the last step of `stretch`.

    Parameters
    ----------
    scaled : (..., band, y, x) tensor
        Flux without NaN in units of ``softening_sigma * sigma``, averaged over blocks of ``bin`` by ``bin`` pixels.
    settings : Stretch
        Cap, and whether the asymmetry is a channel.

    Returns
    -------
    (..., channel, y, x) tensor

    Examples
    --------
    >>> network_input(torch.zeros(2, 8, 8), Stretch(asymmetry=True)).shape
    torch.Size([3, 8, 8])
    """
    stretched = compress(scaled, settings.maximum)
    if not settings.asymmetry:
        return stretched
    noise = 1.0 / (settings.softening_sigma * settings.bin)  # of a block's mean, in the unit of ``scaled``
    residual = compress(asymmetry(scaled / noise), settings.maximum)
    return torch.cat([stretched, residual], dim=-3)


def asymmetry(flux: torch.Tensor) -> torch.Tensor:
    """Subtract the image turned by half a turn, relative to noise and light.

    The smooth light of a galaxy looks the same after half a turn, whatever its inclination. So do two equal arms.
    Streams, tails and most shells do not, so that they remain while the host disappears. Conselice et al. 2000 (ApJ
    529, 886) measure the same difference as one number.

    Parameters
    ----------
    flux : (..., band, y, x) tensor
        Flux without NaN in units of each band's noise.

    Returns
    -------
    (..., 1, y, x) tensor
        The sum of all bands minus the same after half a turn. Where there is little light, it is divided by the noise
        of that difference. Where there is much, it is divided by `LIGHT_SHARE` of the light, or else a core half a
        pixel off the centre would outshine everything.

    Examples
    --------
    >>> image = torch.zeros(1, 3, 3)
    >>> image[0, 0, 0] = 1.0
    >>> asymmetry(image)[0]
    tensor([[ 0.6734,  0.0000,  0.0000],
            [ 0.0000,  0.0000,  0.0000],
            [ 0.0000,  0.0000, -0.6734]])
    """
    light = flux.sum(dim=-3, keepdim=True) / math.sqrt(flux.shape[-3])
    turned = light.flip(-2, -1)
    mean = ((light + turned) / 2).clamp(min=0.0)
    return (light - turned) / (math.sqrt(2.0) * (1.0 + LIGHT_SHARE * mean))


def compress(scaled: torch.Tensor, maximum: float | None) -> torch.Tensor:
    """Compute ``arcsinh(scaled)``, at most ``maximum``.

    Examples
    --------
    >>> compress(torch.tensor([-1.0, 0.0, 1.0, 1000.0]), 5.0)
    tensor([-0.8814,  0.0000,  0.8814,  5.0000])
    """
    # log(|x| + sqrt(x^2 + 1)), because torch.asinh takes ten times as long on a CPU, longer than the rest of a view.
    stretched = (scaled * scaled).add_(1.0).sqrt_().add_(scaled.abs()).log_().copysign_(scaled)
    return stretched if maximum is None else stretched.clamp_(max=maximum)
