"""Features to vectors: directions, length, and the debris score."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import published
from tidalkin.embedding.reuse import reuse_whitening
from tidalkin.embedding.whitening import debris_scores, fit_whitening, likeness, load_whitening
from tidalkin.errors import TidalkinError


def correlated(n_objects=200, n_features=6, seed=3):
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(n_objects, n_features)) @ random.normal(size=(n_features, n_features))
    return (mixed + 10).astype(np.float32)


def fit(features, dimensions, between_views=None, *, debris=False):
    settings = published.embedding(dimensions=dimensions)
    return fit_whitening(features.astype(np.float32), settings, "digest", between_views, has_debris_score=debris)


def test_whitened_features_are_uncorrelated_and_the_vectors_have_length_one():
    sample = correlated()
    whitening = fit(sample, 4)
    white = (sample - whitening.mean) @ whitening.components.T * whitening.scale
    np.testing.assert_allclose(np.cov(white.T), np.eye(4), atol=1e-3)
    vectors = whitening.apply(sample)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert vectors.dtype == np.float32


def test_the_views_direct_the_whitening_to_what_they_agree_in():
    # Two features have a large variance, and one of them changes from view to view; a third, of small variance, stays.
    random = np.random.default_rng(5)
    features = random.normal(size=(400, 3)).astype(np.float32) * [5, 5, 1]
    between_views = np.diag([25.0, 0.5, 0.01])
    by_themselves, white = fit(features, 2), fit(features, 2, between_views)
    first, second = np.abs(white.components) * features.std(axis=0)
    assert first.argmax() == 2
    assert second.argmax() == 1
    assert abs(white.components[:, 0] * 5).max() < 0.2 < abs(by_themselves.components[:, 0] * 5).max()
    vectors = (features - white.mean) @ white.components.T * white.scale
    np.testing.assert_allclose(np.cov(vectors, rowvar=False), np.eye(2), atol=1e-4)


def test_the_last_dimension_is_the_debris_score():
    features = correlated()
    white, plain = fit(features, 5, debris=True), fit(features, 4)
    vectors = white.apply(features)
    assert vectors.shape == (200, 5)
    length = np.linalg.norm(vectors[:, :-1], axis=1, keepdims=True)
    np.testing.assert_allclose(vectors[:, :-1] / length, plain.apply(features), atol=1e-4)
    score = features[:, -1]
    scatter = 1.4826 * np.median(np.abs(score - np.median(score)))
    expected = 0.2 * ((score - np.median(score)) / scatter).clip(-3, 6)
    np.testing.assert_allclose(vectors[:, -1] / length[:, 0], expected, atol=1e-3)


def test_an_artefact_has_a_high_debris_score_but_not_without_bounds():
    features = correlated()
    white = fit(features, 5, debris=True)
    absurd = features[:1].copy()
    absurd[0, -1] = 1e9
    vector = white.apply(absurd)
    assert vector[0, -1] / np.linalg.norm(vector[0, :-1]) == pytest.approx(0.2 * 6, rel=1e-4)
    assert np.isfinite(vector).all()


def test_absurd_scores_of_some_galaxies_leave_those_of_the_others():
    features = correlated()
    absurd = features.copy()
    absurd[::50, -1] = 1e6
    scale, expected = fit(absurd, 4, debris=True).debris, fit(features, 4, debris=True).debris
    np.testing.assert_allclose(scale, expected, rtol=0.1)


def test_a_vector_keeps_its_debris_score_and_its_likeness():
    white = fit(correlated(), 5, debris=True)
    vectors = white.apply(correlated())
    expected = white.debris_score(correlated()[:, -1]).clip(-3, 6)
    np.testing.assert_allclose(debris_scores(vectors), expected, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(likeness(vectors), axis=1), 1, atol=1e-5)


@settings(deadline=None)  # the first example imports scikit-learn
@given(st.integers(0, 100), st.integers(6, 40), st.booleans())
def test_vectors_are_finite_and_of_length_one_however_few_the_galaxies(seed, n_objects, debris):
    features = correlated(n_objects, seed=seed)
    white = fit(features, 4, debris=debris)
    vectors = white.apply(features)
    assert vectors.shape == (n_objects, white.dimensions) == (n_objects, 4)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-4)
    assert white.apply(features[:0]).shape == (0, 4)


def test_a_constant_feature_does_no_harm():
    sample = np.column_stack([correlated(), np.full(200, 7, np.float32)])
    assert np.isfinite(fit(sample, 7).apply(sample)).all()


def test_more_dimensions_than_galaxies_allow_are_refused():
    with pytest.raises(TidalkinError, match=r"dimensions is 6, but 6 galaxies with 6 features allow at most 5"):
        fit(correlated(6), 6)


def test_a_whitening_reads_back_as_it_was_written(tmp_path):
    white = fit(correlated(), 5, debris=True)
    white.save(tmp_path / "whitening.npz")
    again = load_whitening(tmp_path / "whitening.npz")
    np.testing.assert_array_equal(again.apply(correlated()), white.apply(correlated()))
    assert vars(again).keys() == vars(white).keys()
    assert (again.has_debris_score, again.encoder) == (True, "digest")


def test_a_whitening_that_lacks_something_is_refused(tmp_path):
    np.savez(tmp_path / "whitening.npz", mean=np.zeros(3))
    with pytest.raises(TidalkinError, match=r"whitening.npz: is missing or not a whitening .*--forcerun whiten"):
        load_whitening(tmp_path / "whitening.npz")


def test_a_whitening_is_taken_for_the_same_encoder_and_vectors_of_the_same_kind_only(tmp_path):
    theirs, ours = tmp_path / "theirs.npz", tmp_path / "whitening.npz"
    embedding = published.embedding(dimensions=5)
    fit_whitening(correlated(), embedding, "digest").save(theirs)
    reuse_whitening(theirs, ours, encoder="digest", settings=embedding)
    assert ours.read_bytes() == theirs.read_bytes()
    with pytest.raises(TidalkinError, match="was fitted on features of another encoder"):
        reuse_whitening(theirs, ours, encoder="other", settings=embedding)
    for key, value, sentence in (("dimensions", 4, "dimensions 5, but the configuration says 4"),):
        with pytest.raises(TidalkinError, match=rf"theirs.npz: was fitted with embedding\.{sentence}"):
            reuse_whitening(theirs, ours, encoder="digest", settings=embedding.model_copy(update={key: value}))
