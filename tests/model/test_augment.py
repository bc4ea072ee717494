import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import published
from tidalkin.config import BANDS, Augment
from tidalkin.constants import FWHM_PER_SIGMA, PIXEL_SCALE_ARCSEC
from tidalkin.errors import TidalkinError
from tidalkin.model.augment import (
    EXTINCTION_COEFFICIENTS,
    Views,
    disc_mask,
    extinction_factor,
    resample,
    running_mean,
    turn,
    widen_psf,
)
from tidalkin.model.stretch import stretch

OFF = published.augment(crop=32, jitter_pixels=0, noise_sigma=(0, 0))
"""No augmentation, except flips and quarter turns."""

SIGMA = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
NO_SHEAR = torch.zeros(1, 2)


def augmented(flux, seed=1, sky_sigma=None, psf_fwhm=math.nan, **changes):
    """Draw views of ``flux`` (object, band, y, x), and undo the stretch."""
    generator = torch.Generator().manual_seed(seed)
    views = Views(Augment(**OFF.model_dump() | changes), published.stretch(), SIGMA, BANDS, generator)
    sky_sigma = SIGMA.expand(len(flux), -1) if sky_sigma is None else sky_sigma
    view = views(flux, sky_sigma, torch.full(sky_sigma.shape, psf_fwhm))
    return torch.sinh(view.double()) * (3 * SIGMA.double())[:, None, None]


def gaussian(size, sigma, x=0.0, y=0.0):
    """Draw a round source of total flux 1000 in a (1, 5, size, size) image.

    It is off the image's centre by x, y pixels.
    """
    pixel = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    profile = torch.exp(-((pixel - x) ** 2 + (pixel[:, None] - y) ** 2) / (2 * sigma**2))
    return (1000 * profile / profile.sum()).expand(1, 5, -1, -1).float()


def moments(image):
    """Measure total flux, centre (x, y) from the middle, and sigma along one axis."""
    pixel = torch.arange(image.shape[-1], dtype=torch.float64) - (image.shape[-1] - 1) / 2
    image = image.double()
    total = image.sum()
    x, y = (image.sum(0) @ pixel / total).item(), (image.sum(1) @ pixel / total).item()
    variance = ((image.sum(0) @ (pixel - x) ** 2 + image.sum(1) @ (pixel - y) ** 2) / (2 * total)).item()
    return total.item(), x, y, math.sqrt(variance)


def noise_image(seed, objects=1, size=48):
    return 10 * torch.randn(objects, 5, size, size, generator=torch.Generator().manual_seed(seed))


# --- position and orientation ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "crop"), [(48, 32), (47, 31), (48, 31), (47, 32), (32, 32)])
def test_all_augmentations_off_cuts_the_central_pixels_in_one_of_the_eight_symmetries(size, crop):
    flux = noise_image(1, objects=64, size=size)
    views = augmented(flux, crop=crop)
    found = set()
    for image, view in zip(flux.double(), views, strict=True):
        # An odd difference has no middle: the window may then be one pixel to either side.
        starts = sorted({(size - crop) // 2, (size - crop + 1) // 2})
        for row in starts:
            for column in starts:
                window = image[:, row : row + crop, column : column + crop]
                for number in range(8):
                    symmetry = torch.rot90(window.flip(2) if number > 3 else window, number % 4, (1, 2))
                    if torch.allclose(view, symmetry, rtol=1e-4, atol=1e-4):
                        found.add(number)
    assert found == set(range(8))


@given(mirror=st.tuples(st.sampled_from([1, -1]), st.sampled_from([1, -1])), x=st.integers(-8, 8), y=st.integers(-8, 8))
def test_flips_move_every_value_unchanged(mirror, x, y):
    flux = noise_image(2)
    view = turn(flux, torch.tensor([mirror]), torch.tensor([False]), torch.tensor([[x, y]]), 32)
    window = flux[:, :, 8 - mirror[1] * y :, 8 - mirror[0] * x :][:, :, :32, :32]
    assert torch.equal(view, window.flip([axis for axis, sign in ((3, mirror[0]), (2, mirror[1])) if sign < 0]))


@pytest.mark.parametrize("rotate", [False, True])
def test_the_published_views_stay_within_the_image_and_use_the_whole_jitter(rotate):
    flux = gaussian(128, 2.0).expand(400, -1, -1, -1)
    settings = published.augment(rotate=rotate)
    assert (settings.crop, settings.jitter_pixels) == (96, 13)
    views = augmented(flux, crop=96, jitter_pixels=13, rotate=rotate)
    centres = torch.tensor([moments(view[2])[1:3] for view in views])
    assert views.shape[-2:] == (96, 96)
    assert 12 < centres.abs().max() < 13.6
    assert centres.mean(0).abs().max() < 1.5


def test_jitter_beyond_the_image_shows_empty_sky():
    views = augmented(torch.full((200, 5, 32, 32), 7.0), jitter_pixels=5)
    assert torch.isclose(views, torch.tensor(7.0, dtype=torch.float64), rtol=1e-4).logical_or(views == 0).all()
    assert (views[:, 0] == 0).any()


@settings(deadline=None, max_examples=300)
@given(angle=st.floats(0, 2 * math.pi), mirror=st.sampled_from([1.0, -1.0]), x=st.floats(-6, 6), y=st.floats(-6, 6))
def test_flux_place_and_size_survive_rotation_flip_and_shift(angle, mirror, x, y):
    sigma = 2.0
    placement = torch.tensor([[angle], [mirror], [1.0]])
    view = resample(gaussian(64, sigma), *placement, NO_SHEAR, torch.tensor([[x, y]]), crop=48)
    total, found_x, found_y, found_sigma = moments(view[0, 2])
    assert total == pytest.approx(1000, rel=0.01)
    assert (found_x, found_y) == (pytest.approx(x, abs=0.06), pytest.approx(y, abs=0.06))
    assert found_sigma == pytest.approx(sigma, rel=0.02)


@settings(deadline=None, max_examples=300)
@given(zoom=st.floats(0.7, 1.5))
def test_zoom_magnifies_at_constant_surface_brightness(zoom):
    """Allow 4 %, because a small source may be sampled beside its peak."""
    sigma = 2.0
    view = resample(gaussian(64, sigma), *torch.tensor([[0.0], [1.0], [zoom]]), NO_SHEAR, torch.zeros(1, 2), crop=48)
    total, _, _, found_sigma = moments(view[0, 2])
    assert total == pytest.approx(1000 * zoom**2, rel=0.04)
    assert found_sigma == pytest.approx(sigma * zoom, rel=0.03)


@settings(deadline=None, max_examples=300)
@given(strength=st.floats(0, 0.5), axis=st.floats(0, math.pi))
def test_shear_stretches_one_axis_and_shortens_the_other_and_keeps_the_flux(strength, axis):
    """Expect a ratio of (1 + g) / (1 - g) between the axes."""
    sigma, shear = 3.0, strength * torch.tensor([[math.cos(2 * axis), math.sin(2 * axis)]])
    view = resample(gaussian(64, sigma), *torch.tensor([[0.0], [1.0], [1.0]]), shear, torch.zeros(1, 2), crop=64)[0, 2]
    pixel = torch.arange(64, dtype=torch.float64) - 31.5
    total = view.double().sum()
    xx, yy = (view.double().sum(0) @ pixel**2 / total).item(), (view.double().sum(1) @ pixel**2 / total).item()
    xy = (pixel @ view.double() @ pixel / total).item()
    long, short = np.sqrt(np.linalg.eigvalsh([[xx, xy], [xy, yy]])[::-1])
    ratio = math.sqrt((1 + strength) / (1 - strength))
    assert total.item() == pytest.approx(1000, rel=0.02)
    assert (long, short) == (pytest.approx(sigma * ratio, rel=0.03), pytest.approx(sigma / ratio, rel=0.03))


def test_views_of_a_round_galaxy_differ_in_shape_only_if_sheared():
    def widest(shear):
        views = augmented(gaussian(48, 3.0).expand(100, -1, -1, -1), rotate=True, crop=48, shear=shear)[:, 2]
        pixel = torch.arange(48, dtype=torch.float64) - 23.5
        variance = views.sum(1) @ pixel**2 / views.sum((1, 2))
        return (variance.amax() / variance.amin()).item()

    assert widest(0.0) == pytest.approx(1, abs=0.02)
    assert 1.5 < widest(0.3) < (1.3 / 0.7) ** 2


def test_a_view_ends_as_the_stretch_does_with_the_asymmetry_as_last_channel():
    flux, settings = noise_image(4, objects=6), published.stretch(asymmetry=True, maximum=2.0)
    generator = torch.Generator().manual_seed(1)
    draw = Views(Augment(**OFF.model_dump() | {"crop": 48}), settings, SIGMA, BANDS, generator)
    view = draw(flux, SIGMA.expand(6, -1), torch.full((6, 5), math.nan))
    assert view.shape == (6, 6, 48, 48)
    for image, drawn in zip(stretch(flux, SIGMA, settings), view, strict=True):
        turned = [torch.rot90(flipped, k, (1, 2)) for flipped in (image, image.flip(2)) for k in range(4)]
        assert any(torch.allclose(symmetry, drawn, atol=1e-5) for symmetry in turned)


def test_rotation_turns_the_sky_by_the_angle():
    source = gaussian(64, 2.0, x=10.0)
    view = resample(source, *torch.tensor([[math.pi / 3], [1.0], [1.0]]), NO_SHEAR, torch.zeros(1, 2), crop=48)
    _, x, y, _ = moments(view[0, 2])
    assert math.hypot(x, y) == pytest.approx(10, abs=0.05)
    assert abs(math.degrees(math.atan2(y, x))) == pytest.approx(60, abs=0.5)


def test_interpolation_without_rotation_returns_the_pixels():
    flux = noise_image(3)
    view = resample(flux, *torch.tensor([[0.0], [1.0], [1.0]]), NO_SHEAR, torch.zeros(1, 2), crop=32)
    assert torch.allclose(view, flux[:, :, 8:40, 8:40], atol=2e-3)


# --- averaged pixels ---------------------------------------------------------------------------------------------


@given(
    width=st.sampled_from([2, 3, 4]),
    mirror=st.tuples(st.sampled_from([1, -1]), st.sampled_from([1, -1])),
    transpose=st.booleans(),
    x=st.integers(-6, 6),
    y=st.integers(-6, 6),
)
def test_views_of_running_means_are_the_means_of_views(width, mirror, transpose, x, y):
    crop = 12 * (width // 2 + 1)
    flux = noise_image(9)
    placement = (torch.tensor([mirror]), torch.tensor([transpose]), torch.tensor([[x, y]]))
    expected = torch.nn.functional.avg_pool2d(turn(flux, *placement, crop), width)
    found = turn(running_mean(flux, width), *placement, crop // width, step=width)
    assert torch.allclose(found, expected, atol=1e-4)


def test_a_rotated_view_of_running_means_shows_the_same_galaxy():
    """Allow 2 % of the peak, because blocks lie along the axes of the image."""
    source, placement = gaussian(64, 2.5, x=6.0), torch.tensor([[math.pi / 3], [1.0], [1.1]])
    fine = resample(source, *placement, NO_SHEAR, torch.tensor([[2.0, -1.0]]), crop=48)
    placement[2] /= 2
    coarse = resample(running_mean(source, 2), *placement, NO_SHEAR, torch.tensor([[1.0, -0.5]]), crop=24)
    expected = torch.nn.functional.avg_pool2d(fine, 2)
    assert torch.allclose(coarse, expected, atol=0.02 * expected.max())


def test_noise_and_discs_of_averaged_views_are_those_of_the_average():
    """Expect half the noise and the same area of discs for a bin of 2."""
    bounds = {"noise_sigma": (1.0, 1.0), "discs": 3, "disc_radius_arcsec": (0.8, 0.8), "disc_distance_arcsec": 1.0}
    settings = Augment(**OFF.model_dump() | bounds | {"crop": 48})
    blank = {}
    for width in (1, 2):
        views = Views(settings, published.stretch(bin=width), SIGMA, BANDS, torch.Generator().manual_seed(1))
        view = torch.sinh(views(torch.full((200, 5, 48, 48), 1000.0), SIGMA.expand(200, -1), torch.zeros(200, 5)))
        gaps = view[:, :1] < 100
        blank[width] = gaps.float().mean().item()
        inside = torch.stack([(view[:, band] * 3 * SIGMA[band])[gaps[:, 0]].std() for band in range(5)])
        assert torch.allclose(inside, math.sqrt(2) * SIGMA / width, rtol=0.05)
    assert blank[2] == pytest.approx(blank[1], rel=0.05)


# --- missing pixels ----------------------------------------------------------------------------------------------

ALL_ON = {
    "jitter_pixels": 4,
    "rotate": True,
    "zoom": (0.9, 1.2),
    "blur_arcsec": (0.0, 0.5),
    "noise_sigma": (0.0, 2.0),
    "extinction_ebv": (-0.1, 0.1),
    "brightness": 1.0,
    "color": 0.3,
    "discs": 5,
}


@pytest.mark.parametrize("changes", [{}, ALL_ON], ids=["off", "all on"])
def test_missing_pixels_bands_and_sky_never_reach_the_network_as_nan(changes):
    flux = noise_image(4, objects=8)
    flux[:, :, 20:30, 20:30] = math.nan
    flux[:, 1] = math.nan
    flux[0] = math.nan
    sky_sigma = SIGMA.repeat(8, 1)
    sky_sigma[:, 1] = math.nan
    views = augmented(flux, sky_sigma=sky_sigma, **changes)
    assert views.isfinite().all()
    assert (views[:, 1] == 0).all()


def test_a_missing_pixel_does_not_spread():
    flux = torch.full((4, 5, 48, 48), 10.0)
    flux[:, :, 24, 24] = math.nan
    views = augmented(flux, rotate=True)
    far = views[:, 0].clone()
    far[:, 12:20, 12:20] = 10.0
    assert torch.allclose(far, torch.full_like(far, 10.0), rtol=1e-3)


# --- seeing ------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.floats(0.0, 5.0), st.floats(0.8, 3.0))
def test_blur_keeps_the_flux_and_adds_in_quadrature_at_any_width(added, sigma):
    blurred = widen_psf(gaussian(64, sigma), torch.full((1, 5), added**2))
    before, after = moments(gaussian(64, sigma)[0, 0]), moments(blurred[0, 0])
    assert after[0] == pytest.approx(1000, rel=1e-4)
    assert after[3] == pytest.approx(math.hypot(before[3], added), rel=0.01)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.floats(0.0, 4.0))
def test_blur_never_sharpens(seed, added):
    """Check that the range of pixels does not grow and that contrast shrinks."""
    flux = noise_image(seed)
    blurred = widen_psf(flux, torch.full((1, 5), added**2))
    assert blurred.max() <= flux.max() + 1e-3
    assert blurred.min() >= flux.min() - 1e-3
    assert (blurred.std() <= flux.std() + 1e-4).all()
    assert torch.allclose(blurred.sum((2, 3)), flux.sum((2, 3)), atol=0.05)


def test_each_band_draws_its_blur_within_the_range_asked_for():
    flux = gaussian(48, 2.0).expand(100, -1, -1, -1)
    views = augmented(flux, blur_arcsec=(0.4, 0.8))
    sigma = torch.tensor([[moments(band)[3] for band in view] for view in views])
    added = torch.sqrt(sigma**2 - 2.0**2) * FWHM_PER_SIGMA * PIXEL_SCALE_ARCSEC
    assert 0.38 < added.min() < 0.43
    assert 0.77 < added.max() < 0.82
    assert (added.std(dim=1) > 0.02).all()


def test_zooming_out_keeps_the_seeing_where_it_is_known():
    psf_sigma_pixels = 2.0
    fwhm = psf_sigma_pixels * FWHM_PER_SIGMA * PIXEL_SCALE_ARCSEC
    star = gaussian(48, psf_sigma_pixels)
    for psf_fwhm, expected in ((fwhm, psf_sigma_pixels), (math.nan, 0.8 * psf_sigma_pixels)):
        view = augmented(star, zoom=(0.8, 0.8), psf_fwhm=psf_fwhm)
        assert moments(view[0, 2])[3] == pytest.approx(expected, rel=0.01)
    blurred = augmented(star, zoom=(0.8, 0.8), psf_fwhm=fwhm, blur_arcsec=(fwhm, fwhm))
    assert moments(blurred[0, 2])[3] == pytest.approx(math.sqrt(2) * psf_sigma_pixels, rel=0.01)


# --- dust, brightness, colour --------------------------------------------------------------------------------------


@given(st.floats(-0.5, 0.5))
def test_extinction_dims_each_band_by_the_law(ebv):
    magnitudes = -2.5 * torch.log10(extinction_factor(torch.tensor([ebv], dtype=torch.float64), BANDS))
    expected = [EXTINCTION_COEFFICIENTS[band] * ebv for band in BANDS]
    assert magnitudes[0].tolist() == pytest.approx(expected, abs=1e-9)


def test_extinction_of_a_view_follows_the_law_in_all_bands_and_covers_its_range():
    views = augmented(torch.full((300, 5, 32, 32), 50.0), extinction_ebv=(-0.1, 0.3))
    magnitudes = -2.5 * torch.log10(views[:, :, 16, 16] / 50.0)
    ebv = magnitudes / torch.tensor([EXTINCTION_COEFFICIENTS[band] for band in BANDS])
    assert torch.allclose(ebv, ebv[:, :1].expand(-1, 5), atol=1e-4)
    assert -0.101 < ebv.min() < -0.09
    assert 0.29 < ebv.max() < 0.301


def test_extinction_in_an_unknown_band_is_refused():
    with pytest.raises(TidalkinError, match="band 'u'"):
        extinction_factor(torch.zeros(1), ["u", "g"])


def test_brightness_keeps_the_colours():
    views = augmented(20 * SIGMA[:, None, None].expand(300, 5, 32, 32), brightness=1.0)
    factor = views[:, :, 16, 16] / (20 * SIGMA)
    assert torch.allclose(factor, factor[:, :1].expand(-1, 5), rtol=1e-4)
    assert -1.001 < factor.log().min() < -0.97
    assert 0.97 < factor.log().max() < 1.001


def test_colour_changes_each_band_by_its_own_factor_of_the_width_asked_for():
    views = augmented(torch.full((1000, 5, 32, 32), 50.0), color=0.3)
    logarithm = torch.log(views[:, :, 16, 16] / 50.0)
    correlation = torch.corrcoef(logarithm.T) - torch.eye(5)
    assert logarithm.std(dim=0).tolist() == pytest.approx([0.3] * 5, rel=0.1)
    assert correlation.abs().max() < 0.15


# --- sky ---------------------------------------------------------------------------------------------------------


def test_noise_has_the_level_asked_for_in_each_band_of_each_object():
    sky_sigma = torch.stack([SIGMA, 3 * SIGMA])
    views = augmented(torch.zeros(2, 5, 32, 32), sky_sigma=sky_sigma, noise_sigma=(1.5, 1.5))
    assert torch.allclose(views.std(dim=(2, 3)).float(), 1.5 * sky_sigma, rtol=0.1)
    assert (views.mean(dim=(2, 3)).abs() < 0.25 * sky_sigma).all()


def test_noise_levels_cover_their_range_and_are_common_to_the_bands():
    views = augmented(torch.zeros(300, 5, 32, 32), noise_sigma=(1, 3))
    level = views.std(dim=(2, 3)) / SIGMA
    assert 0.9 < level.min() < 1.1
    assert 2.8 < level.max() < 3.3
    assert ((level.std(dim=1) / level.mean(dim=1)) < 0.08).all()


@settings(deadline=None)
@given(st.integers(0, 2**32), st.floats(0.5, 2.0), st.floats(0.2, 1.5))
def test_discs_leave_the_centre_of_the_galaxy_untouched(seed, distance, radius):
    """Fill the frame with a bright galaxy, and move it by jitter."""
    keep = distance / PIXEL_SCALE_ARCSEC
    flux = torch.full((8, 5, 48, 48), 100.0)
    pixel = torch.arange(48) - 23.5
    flux[:, :, torch.hypot(pixel, pixel[:, None]) < keep] = 200.0
    changes = {"discs": 6, "disc_distance_arcsec": distance, "disc_radius_arcsec": (radius, radius)}
    views = augmented(flux, seed, torch.zeros(8, 5), jitter_pixels=6, **changes)
    untouched = augmented(flux, seed, torch.zeros(8, 5), jitter_pixels=6)
    assert torch.equal(views[untouched > 150], untouched[untouched > 150])


def test_discs_all_fall_into_the_view_and_are_blanked_in_every_band():
    changes = {"discs": 1, "disc_radius_arcsec": (0.8, 0.8), "disc_distance_arcsec": 1.0}
    views = augmented(torch.full((200, 5, 32, 32), 100.0), sky_sigma=torch.zeros(200, 5), **changes)
    blank = views == 0
    area = math.pi * (0.8 / PIXEL_SCALE_ARCSEC) ** 2
    assert (blank == blank[:, :1]).all()
    assert (blank[:, 0].sum((1, 2)) > area / 6).all()
    assert blank[:, 0].any(dim=0).float().mean() > 0.8, "discs reach the corners"


def test_discs_are_filled_with_sky_like_that_around_them():
    flux = SIGMA[:, None, None] * torch.randn(200, 5, 32, 32, generator=torch.Generator().manual_seed(5))
    changes = {"blur_arcsec": (0.5, 0.5), "brightness": 1.0, "noise_sigma": (0.5, 0.5)}
    discs = {"discs": 4, "disc_distance_arcsec": 0.0, "disc_radius_arcsec": (1.0, 1.0)}
    bright = augmented(flux + 1e6, **changes, **discs)
    inside = bright < 1e5
    sky = augmented(flux, **changes)
    filled = [bright[:, band][inside[:, band]].std().item() for band in range(5)]
    assert filled == pytest.approx(sky.std(dim=(0, 2, 3)).tolist(), rel=0.1)


@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(0, 10))
def test_a_disc_is_round(x, y, radius):
    mask = disc_mask(torch.tensor([[[x, y]]], dtype=torch.float64), torch.tensor([[radius]], dtype=torch.float64), 32)
    pixel = np.arange(32) - 15.5
    distance = np.hypot(pixel - x, pixel[:, None] - y)
    clear = np.abs(distance - radius) > 1e-6
    assert np.array_equal(mask[0, 0].numpy()[clear], (distance <= radius)[clear])


# --- randomness --------------------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_views_and_other_seeds_others():
    flux = noise_image(6, objects=4)
    first, again, other = (augmented(flux, seed=seed, **ALL_ON) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_two_views_of_one_batch_differ_and_the_global_random_state_is_not_used():
    flux = noise_image(7, objects=4)
    views = Views(
        Augment(**OFF.model_dump() | ALL_ON), published.stretch(), SIGMA, BANDS, torch.Generator().manual_seed(1)
    )
    state = torch.random.get_rng_state()
    first, second = (views(flux, SIGMA.expand(4, -1), torch.full((4, 5), 0.7)) for _ in range(2))
    assert not torch.allclose(first, second)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_views_are_computed_in_full_precision_under_autocast():
    flux = noise_image(8, objects=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = augmented(flux, **ALL_ON)
    assert torch.equal(half, augmented(flux, **ALL_ON))


@pytest.mark.parametrize("processes", [2, 3, 6])
@pytest.mark.parametrize("changes", [{"noise_sigma": (1.0, 2.0)}, ALL_ON], ids=["published", "all on"])
def test_the_shares_of_processes_are_the_views_of_one(processes, changes):
    """Use 90 galaxies, so that neighbouring processes share blocks of noise."""
    flux, sky_sigma, psf_fwhm = noise_image(10, objects=90), SIGMA.expand(90, -1), torch.full((90, 5), 0.7)
    settings = Augment(**OFF.model_dump() | changes)

    def pair(rank, processes):
        generator = torch.Generator().manual_seed(1)
        views = Views(settings, published.stretch(), SIGMA, BANDS, generator, rank=rank, processes=processes)
        share = slice(rank * 90 // processes, (rank + 1) * 90 // processes)
        return views.pair(flux[share], sky_sigma[share], psf_fwhm[share])

    whole = pair(0, 1)
    shares = [pair(rank, processes) for rank in range(processes)]
    for number in range(2):
        assert torch.allclose(torch.cat([share[number].image for share in shares]), whole[number].image, atol=1e-5)


def test_a_pair_is_two_calls():
    flux, sky_sigma, psf_fwhm = noise_image(11, objects=4), SIGMA.expand(4, -1), torch.full((4, 5), 0.7)
    settings = Augment(**OFF.model_dump() | ALL_ON)
    one, other = (
        Views(settings, published.stretch(), SIGMA, BANDS, torch.Generator().manual_seed(1)) for _ in range(2)
    )
    for view, expected in zip(
        one.pair(flux, sky_sigma, psf_fwhm), [other(flux, sky_sigma, psf_fwhm) for _ in range(2)], strict=True
    ):
        assert torch.equal(view.image, expected)
