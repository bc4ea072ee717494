"""The size of galaxies, and light that scales with it."""

import math

import pytest
import torch

from tidalkin.config import Injection
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.draws import Draws
from tidalkin.injection.light import draw_light
from tidalkin.injection.size import half_light_radius

PIXEL = (torch.arange(64) - 31.5) * PIXEL_SCALE_ARCSEC
RADIUS = torch.hypot(PIXEL, PIXEL[:, None])


def disc(scale_length_arcsec):
    return torch.exp(-RADIUS / scale_length_arcsec)[None].expand(3, -1, -1)


@pytest.mark.parametrize("half_light_arcsec", [0.6, 1.0, 1.7])
def test_the_half_light_radius_of_an_exponential_disc_is_measured(half_light_arcsec):
    images = disc(half_light_arcsec / 1.678)[None]
    noisy = images * 100 + torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    for flux in (images, noisy):
        assert half_light_radius(flux).item() == pytest.approx(half_light_arcsec, rel=0.15)


def test_empty_and_missing_images_have_a_size_too():
    flux = torch.stack([torch.zeros(3, 64, 64), torch.full((3, 64, 64), math.nan), torch.full((3, 64, 64), -1.0)])
    assert half_light_radius(flux).isfinite().all()


def test_light_lies_farther_out_around_larger_galaxies():
    settings = Injection(scale_with_size=True, clouds=0, inner_radius_arcsec=(1.5, 1.5))
    psf = torch.full((32, 3), 0.6)

    def mean_radius(half_light_arcsec):
        flux = disc(half_light_arcsec / 1.678).expand(32, -1, -1, -1)
        draws = Draws(torch.Generator().manual_seed(1))
        shape = draw_light(draws, settings, (25.0, 25.0), "gri", flux, psf, fraction=1.0).shape[:, 0]
        return ((shape * RADIUS).sum() / shape.sum()).item()

    assert mean_radius(1.4) > 1.2 * mean_radius(0.7)
