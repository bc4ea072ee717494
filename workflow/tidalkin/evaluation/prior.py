"""A debris score for the baselines, from what injected light changes in their features.

The encoder's debris score comes from a head that learned from injected light. A baseline learns nothing. It gets the
linear score that tells galaxies with injected light from those without: the discriminant of the mean shift.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tidalkin import config
from tidalkin.embedding.whitening import join_debris_score, robust_scale
from tidalkin.evaluation.labels import Floats
from tidalkin.images.store import Shard
from tidalkin.injection.injector import Injector
from tidalkin.injection.stamps import Stamps
from tidalkin.seeds import derived_seed

GALAXIES_WITH_LIGHT = 128
"""Galaxies whose shift by injected light is measured."""
COVARIANCE_FLOOR = 0.05
"""Added to the covariance in every direction alike, as a share of its mean over the directions."""


def with_injected_light(
    images: Shard,
    settings: config.Injection,
    bands: Sequence[str],
    sigma: Floats,
    seed: int,
    stamps: Stamps | None = None,
) -> Floats:
    """Return the images (object, band, y, x) with light injected into all of them, nJy.

    Parameters
    ----------
    images : Shard
        The images.
    settings : config.Injection
        Shapes, colours and brightness of the light, as in training.
    bands : sequence of str
        Names of the bands.
    sigma : (band,) float32
        Typical sky noise of a pixel in each band, nJy.
    seed : int
        Decides the light.
    stamps : Stamps, optional
        The user's stamps.

    Examples
    --------
    >>> flux, known = np.zeros((2, 1, 64, 64), np.float32), np.full((2, 1), 0.6, np.float32)
    >>> images = Shard(flux, known, known, known, np.array([7, 8]))
    >>> lit = with_injected_light(images, config.Injection(), ["i"], np.array([1.0], np.float32), seed=1)
    >>> (lit - flux).max(axis=(1, 2, 3)) > 0
    array([ True,  True])
    """
    generator = torch.Generator().manual_seed(derived_seed(seed, "light"))
    inject = Injector(settings, bands, np.asarray(sigma, np.float32), generator, stamps=stamps)
    flux, psf_fwhm = torch.from_numpy(images.flux), torch.from_numpy(images.psf_fwhm)
    return (flux + inject(flux, psf_fwhm, fraction=1.0).flux()).numpy()


def with_debris_score(vectors: Floats, features: Floats, before: Floats, after: Floats) -> Floats:
    """Join a debris score to the vectors of a baseline.

    Parameters
    ----------
    vectors : (object, dimension)
        The vectors. One of zeros stays so: nothing is known of that galaxy.
    features : (object, feature)
        What the score is computed from.
    before, after : (galaxy, feature)
        Features of some galaxies without and with injected light.

    Returns
    -------
    (object, dimension + 1)
        Of length one; the last dimension is the debris score.

    Examples
    --------
    >>> features = np.random.default_rng(1).normal(size=(100, 2)).astype(np.float32)
    >>> after = features + np.array([2.0, 0.0], np.float32)  # injected light raises the first feature
    >>> joined = with_debris_score(np.ones((100, 3), np.float32), features, features, after)
    >>> joined.shape, bool(joined[:, -1].argmax() == features[:, 0].argmax())
    ((100, 4), True)
    """
    towards = debris_direction(features, after - before)
    # About the mean, so that the rounding errors of float32 are small against the differences.
    score = ((features - features.mean(axis=0, dtype=np.float64)) @ towards).astype(np.float32)
    length = np.linalg.norm(vectors, axis=1)
    is_known = length > 0
    median, scatter = robust_scale(score[is_known])
    unit = (vectors / np.where(is_known, length, 1.0)[:, None]).astype(np.float32)
    return join_debris_score(unit, np.where(is_known, (score - median) / scatter, 0).astype(np.float32))


def debris_direction(features: Floats, shifts: Floats) -> Floats:
    """Return the direction (feature,) that best tells galaxies with injected light from those without.

    It is Fisher's discriminant, ``(Cov + floor)^-1 mean(shift)``, of standardised features.

    Parameters
    ----------
    features : (object, feature)
        Features of galaxies.
    shifts : (galaxy, feature)
        What injected light changed in the features of some galaxies.

    Examples
    --------
    >>> features = np.random.default_rng(1).normal(size=(10_000, 2))
    >>> shifts = np.tile([2.0, 0.0], (10, 1))  # injected light raises the first feature
    >>> debris_direction(features, shifts).round(1)
    array([1.9, 0. ])
    """
    deviation = features.std(axis=0, dtype=np.float64)
    weight = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    covariance = np.atleast_2d(np.cov(features * weight, rowvar=False))
    floor = COVARIANCE_FLOOR * np.trace(covariance) / len(covariance)
    towards: Floats = np.linalg.solve(covariance + floor * np.eye(len(covariance)), (shifts * weight).mean(axis=0))
    return towards * weight
