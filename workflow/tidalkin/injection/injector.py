"""Inject light into the batches of a training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tidalkin.config.injection import Injection
from tidalkin.draws import Draws
from tidalkin.injection.light import Light, draw_light, surface_brightness_range
from tidalkin.injection.nuisances import paint_nuisances
from tidalkin.injection.stamps import Stamps


class Injector:
    """Draw light for batches of galaxies, on their device.

    Parameters
    ----------
    settings : Injection
        Shapes, colours, and the share of galaxies that get light.
    bands : sequence of str
        Names of the bands.
    sigma : (band,) float32
        Typical sky noise of a pixel in each band, nJy: the depth that the light's brightness follows.
    generator : torch.Generator
        The only source of randomness, on the device of the images; in the same state in all processes.
    stamps : Stamps, optional
        The user's stamps: `tidalkin.injection.stamps.read_stamps`.
    rank, processes : int
        The part of a batch, as in `tidalkin.draws.Draws`.
    """

    def __init__(
        self,
        settings: Injection,
        bands: Sequence[str],
        sigma: npt.NDArray[np.float32],
        generator: torch.Generator,
        *,
        stamps: Stamps | None = None,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.settings = settings
        self.bands = tuple(bands)
        self.surface_brightness = surface_brightness_range(settings, bands, sigma)
        self.sigma = torch.as_tensor(sigma, dtype=torch.float32, device=generator.device)
        self.stamps = None if stamps is None else stamps.to(generator.device)
        self.draws = Draws(generator, rank=rank, processes=processes)

    @torch.no_grad()
    def __call__(self, flux: Tensor, psf_fwhm: Tensor, fraction: float | None = None) -> Light:
        """Draw light for images (object, band, y, x) with the seeing ``psf_fwhm`` (object, band), arcsec."""
        return draw_light(
            *(self.draws, self.settings, self.surface_brightness, self.bands, flux, psf_fwhm, fraction),
            sigma=self.sigma,
            stamps=self.stamps,
        )

    @torch.no_grad()
    def nuisances(self, flux: Tensor, sky_sigma: Tensor, psf_fwhm: Tensor) -> Tensor:
        """Paint nuisances onto images (object, band, y, x); ``sky_sigma`` (object, band) is in nJy."""
        return paint_nuisances(self.draws, self.settings.nuisances, self.bands, flux, sky_sigma, psf_fwhm)
