"""Lopsided galaxies, a small random encoder, and their embedding."""

import numpy as np

import published
from tidalkin import config
from tidalkin.embedding.features import embed_shard
from tidalkin.embedding.sample import whiten
from tidalkin.model.checkpoint import random_encoder, save_encoder

BANDS = ("g", "r")
SIZE = 24
NETWORK = published.network(width=8, projector_size=16, predictor_size=8)
STRETCH = published.stretch(softening_sigma=1.0, maximum=3.0)
SETTINGS = published.embedding(dimensions=4, whitening_sample=16)
AUGMENT = published.augment(crop=16, jitter_pixels=2, noise_sigma=(0, 1), brightness=0.5)
CPU = config.Compute(device="cpu", embed_batch_size=5)
SIGMA = np.array([1.0, 2.0], np.float32)


def an_encoder(seed=1, bands=BANDS):
    return random_encoder(bands, SIGMA[: len(bands)], stretch=STRETCH, settings=NETWORK, image_size=SIZE, seed=seed)


def galaxies(n_objects):
    """Draw lopsided blobs on noise, none of which is its own mirror image."""
    random = np.random.default_rng(n_objects)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    width = random.uniform(2, 5, (n_objects, 1, 1, 1))
    blobs = 20 * np.exp(-((x - 3) ** 2 + (y - 1) ** 2) / width**2)
    return (blobs + random.normal(size=(n_objects, len(BANDS), SIZE, SIZE))).astype(np.float32)


def write_encoder(path, seed=1, bands=BANDS):
    made = an_encoder(seed, bands)
    save_encoder(
        path,
        made.encoder,
        bands=made.bands,
        sigma=made.sigma,
        stretch=STRETCH,
        settings=NETWORK,
        image_size=SIZE,
        config_digest="test",
    )
    return path


def embedded(run, shard, settings=SETTINGS, encoder="encoder.pt"):
    embed_shard(
        *(run / "images.zarr", shard, run / encoder, run / "whitening.npz", run / "out.npy", run / "out.ids.npy"),
        settings=settings,
        compute=CPU,
    )
    return np.load(run / "out.npy"), np.load(run / "out.ids.npy")


def fit(run, settings=SETTINGS, **compute):
    whiten(
        *(run / "images.zarr", run / "encoder.pt", run / "whitening.npz"),
        settings=settings,
        augment=AUGMENT,
        seed=1,
        compute=CPU.model_copy(update=compute),
    )
