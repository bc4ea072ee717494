"""A small image store to train on, and settings that train on it in seconds."""

from __future__ import annotations

import math

import numpy as np

import published
from tidalkin import config
from tidalkin.images.store import ImageStore, Shard

BANDS = ("g", "r", "i")
LOSSES = ["loss", "injection_loss", "map_loss"]
SECTIONS = {
    "stretch": published.stretch(softening_sigma=1.0, maximum=3.0),
    "augment": published.augment(crop=18, jitter_pixels=2, noise_sigma=(0.0, 1.0), brightness=0.5),
    "encoder": published.network(width=8, projector_size=16, predictor_size=8),
    "training": config.Training(
        epochs=4, batch_size=8, base_learning_rate=0.5, warmup_epochs=0, optimizer="sgd", weight_decay=1e-4
    ),
    "injection": config.Injection(),
    "seed": 1,
    "compute": config.Compute(device="cpu"),
}


def small_store(path, n_objects=40, size=20, bad=()):
    """Store blobs of random brightness on noise of 1 nJy.

    The images ``bad`` have no good pixel in the last band.
    """
    random = np.random.default_rng(5)
    store = ImageStore.create(
        path, objects=n_objects, bands=BANDS, images=config.Images(size=size, shard_size=8, chunk_size=4)
    )
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    for shard in range(math.ceil(n_objects / 8)):
        rows = np.arange(shard * 8, min(shard * 8 + 8, n_objects))
        width = random.uniform(1.5, 4, (len(rows), 1, 1, 1))
        peak = random.uniform(2, 50, (len(rows), len(BANDS), 1, 1))
        flux = peak * np.exp(-(x**2 + y**2) / width**2) + random.normal(size=(len(rows), len(BANDS), size, size))
        good_fraction = np.ones((len(rows), len(BANDS)), np.float32)
        flux[np.isin(rows, bad), -1] = np.nan
        good_fraction[np.isin(rows, bad), -1] = 0
        store.write(
            shard,
            Shard(
                flux=flux.astype(np.float32),
                sky_sigma=np.ones((len(rows), len(BANDS)), np.float32),
                psf_fwhm=np.full((len(rows), len(BANDS)), 0.7, np.float32),
                good_fraction=good_fraction,
                object_id=rows + 100,
            ),
        )
    return path
