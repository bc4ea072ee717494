"""Injected light: its shapes, brightness and colours, and its place in random views."""

import ast
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import published
import tidalkin.injection
from tidalkin.config import BANDS, Injection
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.draws import Draws
from tidalkin.injection import chosen
from tidalkin.injection.injector import Injector
from tidalkin.injection.light import (
    _Arc,
    _profile,
    band_flux,
    draw_light,
    draw_shapes,
    normalised,
    surface_brightness_range,
)
from tidalkin.injection.stamps import Stamps
from tidalkin.model.augment import Views

SIGMA = np.array([2.9, 4.1, 5.0, 10.3, 19.7], np.float32)
SIZE = 64
KINDS = {"clouds": 0.0, "filaments": 0.0, "edges": 0.0, "arcs": 0.0}


def draws(seed=1, **share):
    return Draws(torch.Generator().manual_seed(seed), **share)


def shapes(n=12, seed=1, size=SIZE, **changes):
    return draw_shapes(draws(seed), Injection(**changes), torch.full((n,), 0.65), size).shape[:, 0]


def radius(size=SIZE):
    pixel = (torch.arange(size) - (size - 1) / 2) * PIXEL_SCALE_ARCSEC
    return torch.hypot(pixel, pixel[:, None])


def test_injection_imports_nothing_of_the_simulation():
    folder = Path(tidalkin.injection.__file__).parent
    imported = {
        node.module or ""
        for file in folder.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom)
    }
    assert imported, "the check sees imports"
    assert not [name for name in imported if "simulat" in name or name.startswith("tidalkin.sources")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_shape_is_normalised_to_its_brightest_half_and_never_negative(kind):
    for light in shapes(**KINDS | {kind: 1.0}):
        assert (light >= 0).all()
        brightest = light.flatten().sort(descending=True).values
        total = brightest.cumsum(0)
        pixels = int((total < total[-1] / 2).sum()) + 1
        assert brightest[:pixels].mean().item() == pytest.approx(1.0, abs=1e-4)


def test_light_fades_out_inside_the_inner_radius_and_ends_at_the_outer():
    light = shapes(n=64, inner_radius_arcsec=(2.0, 2.0), outer_radius_arcsec=4.5)
    inside, outside = radius() < 0.7, radius() > 5.5
    assert light[:, inside].mean() < 0.05 * light.mean()
    assert light[:, outside].max() < 1e-3


def test_kinds_differ():
    covered = {kind: (shapes(n=40, **KINDS | {kind: 1.0}) > 0.5).float().mean().item() for kind in KINDS}
    assert covered["clouds"] > covered["filaments"]
    assert len({round(value, 4) for value in covered.values()}) == len(KINDS)


def test_an_arc_bends_around_the_centre():
    arc = _Arc(*(torch.tensor([value]) for value in (3.0, 8.0, 0.0, 0.0, 1.0, 0.0)))
    distance, along = arc.drawn(SIZE)
    assert torch.allclose(distance[0], 3.0 - radius(), atol=1e-5)
    assert along.min() > 0.4, "an arc longer than its circumference is nearly a ring"


def test_a_short_arc_lies_on_its_side_of_the_galaxy():
    arc = _Arc(*(torch.tensor([value]) for value in (3.0, 1.0, math.pi / 2, 0.0, 1.0, 0.0)))
    _, along = arc.drawn(SIZE)
    above, below = along[0, SIZE // 2 :].mean(), along[0, : SIZE // 2].mean()
    assert above > 20 * below


def test_an_edge_is_sharp_on_its_outer_side():
    distance = torch.tensor([[[-0.5, 0.5]]])
    outside, inside = _profile(distance, torch.tensor([False]), torch.tensor([0.4]), torch.tensor([1.0]))[0, 0]
    assert outside < 0.1 < 0.5 < inside


def test_equal_seeds_give_equal_light_and_other_seeds_other():
    assert torch.equal(shapes(seed=3), shapes(seed=3))
    assert not torch.allclose(shapes(seed=3), shapes(seed=4))


@pytest.mark.parametrize("processes", [2, 3])
def test_the_shares_of_processes_make_up_the_light_of_one(processes):
    flux = torch.zeros(12, 5, SIZE, SIZE)
    psf_fwhm = torch.full((12, 5), 0.7)

    def light(rank, processes):
        part = slice(rank * 12 // processes, (rank + 1) * 12 // processes)
        generator = torch.Generator().manual_seed(5)
        inject = Injector(Injection(), BANDS, SIGMA, generator, rank=rank, processes=processes)
        return inject(flux[part], psf_fwhm[part]).flux()

    parts = torch.cat([light(rank, processes) for rank in range(processes)])
    assert torch.allclose(parts, light(0, 1), atol=1e-5)


def test_the_default_brightness_follows_the_depth_of_the_survey():
    wide = surface_brightness_range(Injection(), BANDS, SIGMA)
    assert wide == pytest.approx((23.5, 27.0), abs=0.15)
    deep, shallow = (surface_brightness_range(Injection(), BANDS, factor * SIGMA) for factor in (1 / 3, 3))
    assert deep[1] - wide[1] == pytest.approx(2.5 * math.log10(3), abs=1e-5)
    assert deep[0] == 23.5, "deep surveys have bright debris, too"
    assert wide[0] - shallow[0] == pytest.approx(2.5 * math.log10(3), abs=0.1)
    without_i = surface_brightness_range(Injection(), ["g", "r"], SIGMA[:2])
    assert without_i == pytest.approx(wide, abs=1.0)


def test_band_fluxes_have_the_brightness_in_i_and_the_colour_asked_for():
    flux = band_flux(torch.tensor([25.0]), torch.tensor([0.7]), BANDS)[0].double()
    magnitude = 31.4 - 2.5 * torch.log10(flux / PIXEL_SCALE_ARCSEC**2)
    assert magnitude[2].item() == pytest.approx(25.0, abs=1e-4)
    assert (magnitude[0] - magnitude[2]).item() == pytest.approx(0.7, abs=1e-4)


def test_no_light_falls_where_every_band_is_missing():
    flux = torch.zeros(8, 2, SIZE, SIZE)
    flux[:, :, :, 40:] = math.nan
    flux[:, 0, :, :10] = math.nan
    light = draw_light(draws(), Injection(), (24.0, 25.0), "gi", flux, torch.full((8, 2), 0.7), fraction=1.0)
    assert light.shape[:, :, :, 40:].abs().max() == 0
    assert light.shape[:, :, :, :10].max() > 0
    assert light.injected.all()


@given(fraction=st.floats(0, 1), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_share_of_galaxies_with_light_is_the_fraction(fraction, seed):
    flux = torch.zeros(400, 1, 8, 8)
    light = draw_light(draws(seed), Injection(), (24.0, 25.0), "i", flux, torch.full((400, 1), 0.7), fraction)
    # At 8 pixels some shapes have no light at all, and none is injected beyond the share.
    assert light.injected.float().mean() <= fraction + 0.12


def test_light_without_flux_stays_zero():
    assert normalised(torch.zeros(2, 8, 8)).abs().max() == 0


def test_light_goes_through_the_same_view_as_its_galaxy():
    """Compare the light of the map with a view of light alone, without noise."""
    augment = published.augment(crop=48, jitter_pixels=0, noise_sigma=(0, 0), rotate=True, zoom=(1.0, 1.2), shear=0.2)
    stretch = published.stretch(bin=2)
    flux, sky, psf = torch.zeros(6, 5, SIZE, SIZE), torch.from_numpy(SIGMA).expand(6, -1), torch.full((6, 5), 0.7)
    whole = Injection(over_subtraction=0.0)
    light = Injector(whole, BANDS, SIGMA, torch.Generator().manual_seed(1))(flux, psf, fraction=1.0)
    views = Views(augment, stretch, torch.from_numpy(SIGMA), BANDS, torch.Generator().manual_seed(2))
    view, other = views.pair(flux, sky, psf, light)
    noise_of_a_mean = 1 / stretch.bin
    expected = (torch.sinh(view.image) * stretch.softening_sigma / noise_of_a_mean).sum(
        dim=1, keepdim=True
    ) / math.sqrt(5)
    assert view.light.max() > 0.5
    assert torch.allclose(view.light, expected.clamp(min=0), atol=0.02 * view.light.max())
    assert not torch.allclose(view.light, other.light)


def test_discs_hide_injected_light():
    augment = published.augment(crop=48, jitter_pixels=0, noise_sigma=(1, 1), discs=30, disc_distance_arcsec=0.5)
    flux, sky, psf = torch.zeros(6, 5, SIZE, SIZE), torch.from_numpy(SIGMA).expand(6, -1), torch.full((6, 5), 0.7)
    light = Injector(Injection(), BANDS, SIGMA, torch.Generator().manual_seed(1))(flux, psf, fraction=1.0)

    def total(discs):
        settings_ = augment.model_copy(update={"discs": discs})
        views = Views(settings_, published.stretch(), torch.from_numpy(SIGMA), BANDS, torch.Generator().manual_seed(2))
        return views.pair(flux, sky, psf, light)[0].light.sum()

    assert total(30) < 0.8 * total(1)


def light_with_sky(share, brightness):
    flux, psf = torch.zeros(64, 2, SIZE, SIZE), torch.full((64, 2), 0.7)
    sigma = torch.tensor([3.0, 5.0])
    settings_ = Injection(over_subtraction=share)
    return draw_light(draws(), settings_, (brightness, brightness), "gi", flux, psf, fraction=1.0, sigma=sigma)


def test_a_share_of_the_light_loses_a_part_with_the_sky_and_its_place_is_that_of_all_of_it():
    whole, half, every = (light_with_sky(share, 26.0) for share in (0.0, 0.5, 1.0))
    torch.testing.assert_close(half.shape, whole.shape, rtol=0, atol=0)
    lost = (whole.flux() - half.flux()).sum(dim=(2, 3)) / whole.flux().sum(dim=(2, 3))
    assert 0.2 < (lost > 0).all(dim=1).float().mean() < 0.8
    assert ((lost >= 0) & (lost < 1)).all()
    assert (every.flux() < whole.flux()).any(dim=3).any(dim=2).all()
    assert every.flux().min() < 0  # a dark moat around the light


def test_faint_light_loses_more_than_bright_light():
    faint, bright = (light_with_sky(1.0, brightness) for brightness in (27.0, 22.0))
    lost = [light.taken_for_sky().sum() / light.shape.sum() for light in (faint, bright)]
    assert lost[0] > 3 * lost[1]


def test_drawing_all_rows_as_on_a_gpu_gives_the_same_light(monkeypatch):
    stamps = Stamps(torch.rand(2, 1, 68, 68), torch.full((2, 2), torch.nan))

    def light():
        flux = torch.zeros(32, 2, 48, 48)
        flux[:, :, :5] = math.nan
        return draw_light(
            *(draws(), Injection(), (24.0, 25.0), "gi", flux, torch.full((32, 2), 0.7)),
            sigma=torch.tensor([3.0, 5.0]),
            stamps=stamps,
        )

    only_chosen = light()
    monkeypatch.setattr(chosen, "_has_fixed_shapes", lambda device: True)
    all_rows = light()
    torch.testing.assert_close(all_rows.flux(), only_chosen.flux())
    assert only_chosen.taken_for_sky().any()
    assert torch.equal(all_rows.injected, only_chosen.injected)


@pytest.mark.parametrize("wanted", [[True, False, True, False], [False] * 4, [True] * 4])
def test_shapes_that_nobody_wants_change_no_other_shape(wanted):
    seeing, stamps = torch.full((4,), 0.7), Stamps(torch.rand(2, 1, 68, 68), torch.full((2, 2), torch.nan))

    def shapes(**options):
        draws = Draws(torch.Generator().manual_seed(3))
        return draw_shapes(draws, Injection(), seeing, 48, stamps=stamps, **options).shape

    wanted = torch.tensor(wanted)
    torch.testing.assert_close(shapes(wanted=wanted), shapes() * wanted[:, None, None, None])
