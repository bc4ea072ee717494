"""Fit the whitening on a sample of the images."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from tidalkin import config
from tidalkin.embedding.features import Floats, check_bands, features, has_enough_good_pixels, view_covariance
from tidalkin.embedding.whitening import Whitening, fit_whitening
from tidalkin.images.store import ImageStore, Shard
from tidalkin.model.checkpoint import LoadedEncoder, load_encoder
from tidalkin.seeds import derived_seed, generator

logger = logging.getLogger(__name__)


class WhiteningSample:
    """Features and view covariances that a whitening is fitted on, added part by part.

    Parameters
    ----------
    loaded : LoadedEncoder
        The encoder; it is moved to the device.
    settings : config.Embedding
        Directions to keep, views of each galaxy.
    augment : config.Augment
        Ranges of the random views.
    compute : config.Compute
        Device and precision.
    """

    def __init__(
        self, loaded: LoadedEncoder, settings: config.Embedding, augment: config.Augment, compute: config.Compute
    ) -> None:
        self._loaded, self._settings, self._augment, self._compute = loaded, settings, augment, compute
        self._features: list[Floats] = []
        self._between_views = np.zeros((loaded.n_features, loaded.n_features))

    def add(self, features: Floats, images: Shard, seed: int) -> None:
        """Add the features (object, feature) and images of galaxies; the seed is for the views."""
        self._features.append(features)
        n_views = self._settings.whitening_views
        if n_views:
            self._between_views += view_covariance(self._loaded, images, self._augment, n_views, seed, self._compute)

    def fit(self) -> Whitening:
        """Fit the whitening on everything that was added."""
        table = np.concatenate(self._features)
        between_views = self._between_views / len(table) if self._settings.whitening_views else None
        has_debris_score = self._loaded.debris_map is not None
        return fit_whitening(
            table, self._settings, self._loaded.digest, between_views, has_debris_score=has_debris_score
        )


def whiten(
    store: str | Path,
    encoder: str | Path,
    output: str | Path,
    *,
    settings: config.Embedding,
    augment: config.Augment,
    seed: int,
    compute: config.Compute,
) -> None:
    """Fit the whitening on a random sample of the images.

    Whole shards are drawn until there are enough galaxies.

    Parameters
    ----------
    store, encoder : path
        The images and the trained encoder.
    output : path
        The ``.npz`` to write.
    settings : config.Embedding
        Size of the sample, views, dimensions, crop and symmetries.
    augment : config.Augment
        Ranges of the random views.
    seed : int
        The seed of the run.
    compute : config.Compute
        Device, precision, batch size.

    Examples
    --------
    >>> from tidalkin import open_run
    >>> from tidalkin.embedding.whitening import load_whitening
    >>> settings = open_run("results/demo").settings
    >>> sections = {"settings": settings.embedding, "augment": settings.augment, "compute": settings.compute}
    >>> whiten(
    ...     "results/demo/images.zarr", "results/demo/encoder/encoder.pt", "whitening.npz", seed=1, **sections
    ... )
    >>> load_whitening("whitening.npz").dimensions
    8
    """
    opened, loaded = ImageStore.open(store), load_encoder(encoder)
    check_bands(opened, loaded)
    sample = WhiteningSample(loaded, settings, augment, compute)
    missing = settings.whitening_sample
    for shard in generator(seed, "whitening").permutation(opened.n_shards):
        content = opened.read(int(shard))
        chosen = content.rows(np.flatnonzero(has_enough_good_pixels(content, settings))[:missing])
        shard_seed = derived_seed(seed, "whitening", int(shard))
        sample.add(features(loaded, chosen.flux, settings, compute), chosen, shard_seed)
        missing -= len(chosen.flux)
        logger.info("whitening: features of %d galaxies", settings.whitening_sample - missing)
        if missing == 0:
            break
    sample.fit().save(output)
