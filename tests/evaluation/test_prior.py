"""The debris score of the baselines."""

from __future__ import annotations

import numpy as np

from tidalkin.embedding.whitening import debris_scores, likeness
from tidalkin.evaluation.prior import debris_direction, with_debris_score


def galaxies(n=500, n_features=6):
    random = np.random.default_rng(1)
    mixing = random.normal(size=(n_features, n_features))
    return random.normal(size=(n, n_features)) @ mixing


def test_the_direction_tells_galaxies_with_light_from_those_without():
    features = galaxies()
    shift = np.array([0.0, 0.0, 0.5, 0.0, 0.0, 0.0])
    shifts = shift + np.random.default_rng(2).normal(0, 0.2, (128, 6))
    towards = debris_direction(features, shifts)

    def separation(direction):
        return shift @ direction / (features @ direction).std()

    assert separation(towards) > separation(shift)


def test_features_that_never_change_do_not_count():
    features = np.column_stack([galaxies(), np.full(500, 3.0)])
    shifts = np.column_stack([np.ones((128, 6)), np.full(128, 1e6)])
    assert debris_direction(features, shifts)[-1] == 0


def test_a_vector_keeps_its_direction_beside_the_score():
    features = galaxies()
    vectors = features.copy()
    vectors[0] = 0
    joined = with_debris_score(vectors, features, features[:128], features[:128] + 1)
    assert joined.shape == (500, 7)
    np.testing.assert_allclose(np.linalg.norm(joined[1:], axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(
        likeness(joined)[1:], vectors[1:] / np.linalg.norm(vectors[1:], axis=1, keepdims=True), atol=1e-5
    )
    assert not joined[0].any(), "nothing is known of this galaxy"
    assert abs(np.median(debris_scores(joined)[1:])) < 1e-5
