"""Nuisances: what is painted, where, and how strongly."""

import math

import pytest
import torch

from tidalkin.config import BANDS, Nuisances
from tidalkin.draws import Draws
from tidalkin.injection import chosen
from tidalkin.injection.nuisances import paint_nuisances

N, SIZE = 64, 48
SIGMA = torch.tensor([2.9, 4.1, 5.0, 10.3, 19.7]).expand(N, 5)
PSF = torch.full((N, 5), 0.65)


NONE = {"companions": 0.0, "gradients": 0.0, "over_subtraction": 0.0, "correlated_noise": 0.0}


def paint(flux=None, seed=1, **shares):
    flux = torch.zeros(N, 5, SIZE, SIZE) if flux is None else flux
    draws = Draws(torch.Generator().manual_seed(seed))
    return paint_nuisances(draws, Nuisances(**NONE | shares), BANDS, flux, SIGMA, PSF)


def test_without_shares_images_stay_as_they_are():
    flux = torch.randn(N, 5, SIZE, SIZE)
    assert paint(flux) is flux
    assert not Nuisances(**NONE).enabled


@pytest.mark.parametrize("name", ["companions", "gradients", "over_subtraction", "correlated_noise"])
def test_each_nuisance_is_painted_onto_its_share_of_the_galaxies(name):
    painted = paint(**{name: 0.5}).abs().flatten(1).amax(dim=1) > 0
    assert painted.float().mean() == pytest.approx(0.5, abs=0.2)
    assert Nuisances(**NONE | {name: 0.5}).enabled
    assert (paint(**{name: 1.0}).abs().flatten(1).amax(dim=1) > 0).all()


@pytest.mark.parametrize("stars", [0.0, 1.0])
def test_companions_are_compact_and_away_from_the_centre(stars):
    flux = paint(companions=1.0, stars=stars)[:, 2]
    assert (flux >= 0).all()
    ring = torch.hypot(*[torch.arange(SIZE) - (SIZE - 1) / 2] * 1, (torch.arange(SIZE) - (SIZE - 1) / 2)[:, None])
    peak = flux.flatten(1).argmax(dim=1)
    assert (ring.flatten()[peak] * 0.168 > 1.2).all()
    brightest = flux.flatten(1).sort(dim=1, descending=True).values
    half = (brightest.cumsum(dim=1) < brightest.sum(dim=1, keepdim=True) / 2).sum(dim=1)
    assert half.float().median() < 150  # pixels that hold half of the light


def test_too_much_subtracted_sky_is_a_hollow_around_the_galaxy():
    flux = paint(over_subtraction=1.0)
    centre, corner = flux[:, 2, SIZE // 2, SIZE // 2], flux[:, 2, 0, 0]
    assert (centre < corner).all()
    assert (flux <= 0).all()
    assert (flux[:, 2].amin(dim=(1, 2)) / SIGMA[:, 2]).min() > -0.41


def test_a_gradient_has_no_light_in_the_mean():
    flux = paint(gradients=1.0)
    assert flux.mean(dim=(2, 3)).abs().max() < 1e-3
    assert (flux.abs().amax(dim=(2, 3)) / SIGMA).max() < 0.75


def test_correlated_noise_is_shared_by_neighbouring_pixels():
    noise = paint(correlated_noise=1.0)[:, 2]
    neighbours = (noise[:, :, 1:] * noise[:, :, :-1]).mean() / noise.square().mean()
    assert neighbours > 0.5
    deviation = noise.flatten(1).std(dim=1) / SIGMA[:, 2]
    assert deviation.min() > 0.12
    assert deviation.max() < 0.75


def test_missing_pixels_stay_missing():
    flux = torch.zeros(N, 5, SIZE, SIZE)
    flux[:, :, :5] = math.nan
    painted = paint(flux, companions=1.0, gradients=1.0, over_subtraction=1.0, correlated_noise=1.0)
    assert torch.equal(painted.isnan(), flux.isnan())


def test_painting_all_rows_as_on_a_gpu_gives_the_same_images(monkeypatch):
    shares = dict.fromkeys(NONE, 0.5)
    only_chosen = paint(**shares)
    monkeypatch.setattr(chosen, "_has_fixed_shapes", lambda device: True)
    assert torch.allclose(paint(**shares), only_chosen, atol=1e-5)


@pytest.mark.parametrize("processes", [2, 4])
def test_the_shares_of_processes_make_up_the_batch_of_one(processes):
    shares = Nuisances(companions=0.7, gradients=0.5, over_subtraction=0.5, correlated_noise=0.5)

    def part(rank, processes):
        own = slice(rank * N // processes, (rank + 1) * N // processes)
        draws = Draws(torch.Generator().manual_seed(3), rank=rank, processes=processes)
        return paint_nuisances(draws, shares, BANDS, torch.zeros(N, 5, SIZE, SIZE)[own], SIGMA[own], PSF[own])

    parts = torch.cat([part(rank, processes) for rank in range(processes)])
    assert torch.allclose(parts, part(0, 1), atol=1e-4)
