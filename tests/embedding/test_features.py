"""Features of images, and shards of vectors."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

import published
from servers.loaded_modules import loaded_modules
from surveys.encoded import CPU, SETTINGS, SIGMA, an_encoder, embedded, fit, galaxies, write_encoder
from tidalkin.embedding.features import encode, features, view_covariance
from tidalkin.embedding.whitening import load_whitening
from tidalkin.errors import TidalkinError
from tidalkin.images.store import Shard
from tidalkin.model.checkpoint import load_encoder
from tidalkin.model.heads import DebrisMap


def test_features_are_the_readout_of_the_stretched_image():
    loaded, flux = an_encoder(), galaxies(3)
    scaled = np.arcsinh(flux / SIGMA[:, None, None]).clip(max=3)
    with torch.inference_mode():
        expected = loaded.encoder.readout(torch.from_numpy(scaled)).numpy()
    for precision, tolerance in (("float32", 1e-5), ("bfloat16", 0.02)):
        compute = CPU.model_copy(update={"precision": precision})
        found = features(loaded, flux, published.embedding(symmetries=1), compute)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * expected.max())


@pytest.mark.parametrize(
    ("symmetries", "unseen"),
    [(2, [np.fliplr]), (4, [np.rot90]), (8, [np.fliplr, np.flipud, np.rot90, np.transpose])],
)
def test_features_do_not_see_the_symmetries_averaged_over(symmetries, unseen):
    loaded, flux = an_encoder(), galaxies(2)
    settings = published.embedding(symmetries=symmetries)
    as_is = features(loaded, flux, settings, CPU)
    assert not np.allclose(as_is, features(loaded, flux, published.embedding(symmetries=1), CPU), rtol=1e-4, atol=1e-5)
    for transform in unseen:
        turned = np.ascontiguousarray([[transform(band) for band in image] for image in flux])
        np.testing.assert_allclose(features(loaded, turned, settings, CPU), as_is, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("symmetries", [4, 8])
def test_the_debris_map_turns_with_the_image_and_joins_the_features(symmetries):
    torch.manual_seed(1)
    plain, flux = an_encoder(), galaxies(2)
    loaded = replace(plain, debris_map=DebrisMap(plain.encoder.stage_channels).eval())
    settings = published.embedding(symmetries=symmetries)
    as_is = encode(loaded, flux, settings, CPU)
    turned = encode(loaded, np.rot90(flux, axes=(2, 3)).copy(), settings, CPU)
    assert as_is.features.shape[1] == plain.encoder.readout_dim + 3
    assert np.array_equal(as_is.features[:, :-3], features(plain, flux, settings, CPU))
    np.testing.assert_allclose(turned.debris_map, np.rot90(as_is.debris_map, axes=(1, 2)), atol=1e-4)
    np.testing.assert_allclose(as_is.features[:, -3], as_is.debris_map.mean(axis=(1, 2)), atol=1e-4)
    assert encode(plain, flux, settings, CPU).debris_map is None


def test_features_do_not_depend_on_the_batch():
    loaded, flux = an_encoder(), galaxies(7)
    whole, single = (
        features(loaded, flux, SETTINGS, CPU.model_copy(update={"embed_batch_size": size})) for size in (7, 1)
    )
    np.testing.assert_allclose(single, whole, rtol=1e-4, atol=1e-5)


def test_only_the_centre_is_seen_where_a_crop_is_given():
    loaded, flux = an_encoder(), galaxies(2)
    noisy_edge = flux.copy()
    noisy_edge[..., :4], noisy_edge[..., -4:, :] = 1e3, np.nan
    settings = published.embedding(crop=16)
    assert np.array_equal(features(loaded, flux, settings, CPU), features(loaded, noisy_edge, settings, CPU))


def test_missing_pixels_give_finite_features():
    flux = galaxies(2)
    flux[0, :, :12], flux[1] = np.nan, np.nan
    assert np.isfinite(features(an_encoder(), flux, SETTINGS, CPU)).all()


def test_no_images_give_no_features():
    assert features(an_encoder(), galaxies(2)[:0], SETTINGS, CPU).shape == (0, an_encoder().encoder.readout_dim)


def test_images_in_other_bands_and_too_large_crops_are_refused():
    with pytest.raises(TidalkinError, match="the images have 1 bands, but the encoder was trained on g, r"):
        features(an_encoder(), galaxies(2)[:, :1], SETTINGS, CPU)
    with pytest.raises(TidalkinError, match=r"embedding.crop 32 must not exceed the 24 pixels"):
        features(an_encoder(), galaxies(2), published.embedding(crop=32), CPU)


def test_views_differ_in_what_the_augmentation_changes_and_in_nothing_else():
    loaded, flux = an_encoder(), galaxies(6)
    ones = np.ones(flux.shape[:2], np.float32)
    images = Shard(flux, ones, ones, ones, np.arange(6))
    still = published.augment(crop=24, jitter_pixels=0, noise_sigma=(0, 0))
    covariances = [
        view_covariance(loaded, images, still.model_copy(update=changes), 3, seed, CPU)
        for seed, changes in ((1, {"brightness": 1.0}), (1, {"brightness": 1.0}), (2, {"brightness": 1.0}))
    ]
    assert np.array_equal(covariances[0], covariances[1])
    assert not np.allclose(covariances[0], covariances[2])
    assert np.linalg.eigvalsh(covariances[0]).min() > -1e-6 * np.trace(covariances[0])
    one_way_up = np.ones_like(flux) * flux.mean(axis=(2, 3), keepdims=True)  # the same in all flips and turns
    unchanged = view_covariance(loaded, images.__class__(one_way_up, *[ones] * 3, images.object_id), still, 3, 1, CPU)
    assert np.abs(unchanged).max() < 1e-6 * np.abs(covariances[0]).max()


def test_a_shard_becomes_vectors_with_their_ids_and_the_left_out_are_listed(run, caplog):
    fit(run)
    with caplog.at_level(logging.INFO):
        vectors, ids = embedded(run, 0)
    assert ids.tolist() == [100, 101, 102, 103, 104, 106, 107]
    assert ids.dtype == np.int64
    assert vectors.shape == (7, 4)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert "shard 0: 1 of 8 galaxies are left out, because some band has under 50 % good pixels: 105" in caplog.text


def test_the_vectors_of_a_shard_are_those_of_its_images(run):
    fit(run)
    vectors, _ = embedded(run, 2)
    loaded, whitening = load_encoder(run / "encoder.pt"), load_whitening(run / "whitening.npz")
    expected = whitening.apply(features(loaded, galaxies(20)[16:19], SETTINGS, CPU))
    np.testing.assert_allclose(vectors, expected, atol=1e-4)


def test_vectors_can_be_half_precision(run):
    fit(run)
    half, _ = embedded(run, 1, SETTINGS.model_copy(update={"dtype": "float16"}))
    full, _ = embedded(run, 1)
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, full, atol=1e-3)


def test_embedding_again_gives_the_same_bytes(run):
    fit(run)
    embedded(run, 1)
    first = (run / "out.npy").read_bytes()
    embedded(run, 1)
    assert (run / "out.npy").read_bytes() == first


def test_a_whitening_of_another_encoder_is_refused(run):
    fit(run)
    write_encoder(run / "other.pt", seed=2)
    with pytest.raises(TidalkinError, match=r"whitening.npz: was fitted on features of another encoder"):
        embedded(run, 0, encoder="other.pt")


def test_embedding_does_not_import_astropy(root):
    loaded = loaded_modules(root, "tidalkin.embedding.features")
    assert "tidalkin.injection.stamps" in loaded
    assert "astropy" not in loaded


def test_images_in_another_order_of_bands_than_the_encoders_are_refused(run):
    fit(run)
    write_encoder(run / "swapped.pt", bands=("r", "g"))
    with pytest.raises(TidalkinError, match="has the bands g, r, but the encoder was trained on r, g"):
        embedded(run, 0, encoder="swapped.pt")


def test_something_else_named_whitening_is_refused(run):
    for content in (b"", b"PK no", b"text"):
        (run / "whitening.npz").write_bytes(content)
        with pytest.raises(TidalkinError, match=r"whitening.npz: is missing or not a whitening"):
            embedded(run, 0)
