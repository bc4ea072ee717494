import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import published
from tidalkin.config import Images
from tidalkin.errors import TidalkinError
from tidalkin.images.store import ImageStore, Shard
from tidalkin.model.stretch import asymmetry, band_sigma, channel_count, stretch

SIGMA = torch.tensor([2.0, 5.0])


def store_with_sky(path, sky_sigma, good_fraction):
    sky_sigma = np.asarray(sky_sigma, np.float32)
    objects = len(sky_sigma)
    store = ImageStore.create(path, objects=objects, bands=["g", "r"], images=Images(size=8, shard_size=32))
    flux = np.zeros((objects, 2, 8, 8), np.float32)
    good = np.asarray(good_fraction, np.float32)
    store.write(0, Shard(flux, sky_sigma, np.full_like(sky_sigma, 0.7), good, np.arange(objects)))
    return store


@given(st.floats(-1e6, 1e6), st.floats(0.1, 10.0))
def test_the_stretch_is_arcsinh_of_flux_in_units_of_the_softened_sky_noise(flux, softening_sigma):
    stretched = stretch(torch.full((2, 1, 1), flux), SIGMA, published.stretch(softening_sigma=softening_sigma))
    for band, sigma in enumerate(SIGMA.tolist()):
        assert stretched[band].item() == pytest.approx(math.asinh(flux / (softening_sigma * sigma)), rel=1e-5, abs=1e-6)


def test_the_cap_holds_bright_cores_and_leaves_faint_light_alone():
    flux = torch.tensor([1.0, 1e5]).expand(2, 1, 2)
    free, capped = (stretch(flux, SIGMA, published.stretch(maximum=maximum)) for maximum in (None, 2.5))
    assert torch.equal(capped[..., 0], free[..., 0])
    assert capped[..., 1].tolist() == [[2.5], [2.5]]


def test_missing_flux_becomes_the_level_of_the_sky():
    flux = torch.tensor([math.nan, math.inf, -math.inf]).expand(4, 2, 1, 3)
    assert torch.equal(stretch(flux, SIGMA, published.stretch()), torch.zeros(4, 2, 1, 3))


def test_a_bin_averages_blocks_of_pixels_and_counts_missing_ones_as_sky():
    flux = torch.tensor([[4.0, 0.0, math.nan, 8.0], [0.0, 4.0, math.nan, 0.0]]).expand(2, 2, 4)
    settings = published.stretch(bin=2, softening_sigma=1.0)
    expected = stretch(torch.tensor([[2.0, 2.0]]).expand(2, 1, 2), SIGMA, published.stretch(softening_sigma=1.0))
    assert torch.allclose(stretch(flux, SIGMA, settings), expected)


def half_turned(image):
    return image.flip(-2, -1)


@given(st.integers(0, 100), st.floats(0.1, 1000.0))
def test_light_that_half_a_turn_repeats_has_no_asymmetry(seed, brightness):
    image = brightness * torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(asymmetry(image + half_turned(image)), torch.zeros(1, 8, 8), atol=1e-4)


@given(st.integers(0, 100))
def test_half_a_turn_changes_the_sign_of_the_asymmetry(seed):
    image = 10 * torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(asymmetry(half_turned(image)), -asymmetry(image), atol=1e-5)


def test_the_asymmetry_of_pure_noise_has_unit_variance():
    noise = torch.randn(50, 5, 32, 32, generator=torch.Generator().manual_seed(1))
    # What positive noise counts as light takes a few per cent off.
    assert asymmetry(noise).std().item() == pytest.approx(1, abs=0.06)


def test_a_core_off_the_centre_does_not_outshine_a_faint_stream():
    image = torch.zeros(1, 33, 33)
    image[0, 16, 15:18] = torch.tensor([9000.0, 10000.0, 11000.0])
    image[0, 4, :] = 5.0
    found = asymmetry(image)
    assert found[0, 16].abs().max() < found[0, 4].min()


def test_the_asymmetry_is_one_more_channel_in_units_of_the_noise_of_a_block():
    settings = published.stretch(bin=2, softening_sigma=0.5, asymmetry=True)
    noise = SIGMA[:, None, None] * torch.randn(40, 2, 64, 64, generator=torch.Generator().manual_seed(1))
    channels = stretch(noise, SIGMA, settings)
    assert channels.shape == (40, channel_count(2, settings), 32, 32)
    assert torch.equal(channels[:, :2], stretch(noise, SIGMA, settings.model_copy(update={"asymmetry": False})))
    assert torch.sinh(channels[:, 2]).std().item() == pytest.approx(1, abs=0.06)


def test_the_stretch_leaves_its_input_unchanged():
    flux = torch.tensor([math.nan, 3.0]).expand(2, 1, 2).clone()
    stretch(flux, SIGMA, published.stretch(maximum=0.1))
    assert flux[0, 0, 1] == 3.0
    assert flux[0, 0, 0].isnan()


def test_the_noise_of_a_band_is_the_median_over_its_good_images(tmp_path):
    sky_sigma = [[1, 10], [2, 20], [3, 30], [900, np.nan], [900, 0]]
    good_fraction = [[1, 1], [1, 1], [0.9, 0.9], [0.1, 1], [0, 1]]
    sigma = band_sigma(store_with_sky(tmp_path / "images.zarr", sky_sigma, good_fraction))
    assert sigma.tolist() == [2.0, 20.0]
    assert sigma.dtype == np.float32


def test_a_band_without_a_good_image_is_refused_by_name(tmp_path):
    store = store_with_sky(tmp_path / "images.zarr", [[1, np.nan], [1, 2]], [[1, 1], [1, 0.2]])
    with pytest.raises(TidalkinError, match=r"images\.zarr: band r has no image"):
        band_sigma(store)
