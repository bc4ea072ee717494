"""Features to vectors: directions, length, the host, and how unusual a galaxy is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from tidalkin.config import Embedding, Weights
from tidalkin.embedding.reuse import reuse_whitening
from tidalkin.embedding.whitening import fit_whitening, load_whitening
from tidalkin.errors import TidalkinError


def correlated(n_objects=200, n_features=6, seed=3):
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(n_objects, n_features)) @ random.normal(size=(n_features, n_features))
    return (mixed + 10).astype(np.float32)


def fit(features, dimensions, between_views=None, **settings):
    return fit_whitening(
        features.astype(np.float32), Embedding(dimensions=dimensions, **settings), "digest", between_views
    )


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


def crowd_and_loners(seed=7):
    """Draw galaxies in two tight crowds and some that are isolated.

    The first feature, by far the one of largest variance, is the host's.
    """
    random = np.random.default_rng(seed)
    is_loner = np.arange(400) % 20 == 0
    crowds = np.where(np.arange(400) % 2, 4, -4)[:, None] * np.ones(4) + 0.3 * random.normal(size=(400, 4))
    around = np.where(is_loner[:, None], random.uniform(-5, 5, (400, 4)), crowds)
    return np.column_stack([1000 * random.normal(size=400), around]).astype(np.float32), is_loner


def test_the_last_dimension_is_high_where_few_galaxies_are_near():
    features, is_loner = crowd_and_loners()
    white = fit(features, 6 - 1, unusualness=0.5)
    unusual = white.apply(features)[:, -1]
    assert roc_auc_score(is_loner, unusual) > 0.95
    plain = fit(features, 4).apply(features)
    vectors = white.apply(features)[:, :4]
    np.testing.assert_allclose(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), plain, atol=1e-4)


def test_a_galaxy_is_no_neighbour_of_itself():
    features, _ = crowd_and_loners()
    sample, strangers = features[:300], features[300:]
    white = fit(sample, 4, unusualness=0.5)
    for galaxies, first in ((sample, 1), (strangers, 0)):
        at = (galaxies - white.mean) @ white.components.T * white.scale
        distances = np.sort(np.linalg.norm(at[:, None] - white.sample[None], axis=2), axis=1)
        mean, deviation = white.distance
        expected = (np.log(distances[:, first : first + 5].mean(axis=1)) - mean) / deviation
        vectors = white.apply(galaxies)
        seen = vectors[:, -1] / np.linalg.norm(vectors[:, :-1], axis=1) / 0.5
        np.testing.assert_allclose(seen, expected.clip(-3, 3), atol=0.01)


def test_an_artefact_is_unusual_but_not_without_bounds():
    features, _ = crowd_and_loners()
    white = fit(features, 4, unusualness=0.5)
    far = white.apply(features[:1] * np.float32(1e6))
    assert far[0, -1] / np.linalg.norm(far[0, :-1]) == pytest.approx(0.5 * 3, rel=1e-5)
    np.testing.assert_allclose(np.linalg.norm(far), 1, rtol=1e-5)
    assert np.isfinite(white.apply(features.mean(axis=0)[None])).all()


def test_an_unusual_host_does_not_make_a_galaxy_unusual():
    features, _ = crowd_and_loners()
    others = np.column_stack([features[:, 1:], np.ones(len(features))])
    features[:, 0] -= others @ np.linalg.lstsq(others, features[:, 0], rcond=None)[0]  # says nothing of the others
    other_host = features * np.array([-3, 1, 1, 1, 1], np.float32)
    between_views = np.eye(5)  # so that galaxies are told apart by their hosts best

    def unusual(white, some):
        vectors = white.apply(some)
        return vectors[:, -1] / np.linalg.norm(vectors[:, :-1], axis=1)

    white = fit(features, 5, between_views, unusualness=0.5, host_directions=1)
    np.testing.assert_allclose(unusual(white, features), unusual(white, other_host), atol=0.01)
    with_host = fit(features, 5, between_views, unusualness=0.5)
    assert np.abs(unusual(with_host, features) - unusual(with_host, other_host)).max() > 0.1


def test_host_and_unusualness_count_as_the_weights_say():
    white = fit(correlated(), 5, unusualness=0.5, host_directions=2)
    assert white.importance(Weights(host=0.25, unusual=3)).tolist() == [0.25, 0.25, 1, 1, 3]
    assert fit(correlated(), 3).importance(Weights()).tolist() == [1, 1, 1]


@settings(deadline=None)  # the first example imports scikit-learn
@given(st.integers(0, 100), st.integers(6, 40), st.sampled_from([0.0, 0.3]))
def test_vectors_are_finite_and_of_length_one_however_few_the_galaxies(seed, n_objects, unusualness):
    features = correlated(n_objects, seed=seed)
    white = fit(features, 4, unusualness=unusualness)
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
    white = fit(correlated(), 5, unusualness=0.5, host_directions=2)
    white.save(tmp_path / "whitening.npz")
    again = load_whitening(tmp_path / "whitening.npz")
    np.testing.assert_array_equal(again.apply(correlated()), white.apply(correlated()))
    assert vars(again).keys() == vars(white).keys()
    assert (again.host_directions, again.encoder) == (2, "digest")


def test_a_whitening_that_lacks_something_is_refused(tmp_path):
    np.savez(tmp_path / "whitening.npz", mean=np.zeros(3))
    with pytest.raises(TidalkinError, match=r"whitening.npz: is missing or no whitening .*--forcerun whiten"):
        load_whitening(tmp_path / "whitening.npz")


def test_a_whitening_is_taken_for_the_same_encoder_and_vectors_of_the_same_kind_only(tmp_path):
    theirs, ours = tmp_path / "theirs.npz", tmp_path / "whitening.npz"
    embedding = Embedding(dimensions=5, unusualness=0.2, host_directions=2)
    fit_whitening(correlated(), embedding, "digest").save(theirs)
    reuse_whitening(theirs, ours, encoder="digest", settings=embedding)
    assert ours.read_bytes() == theirs.read_bytes()
    with pytest.raises(TidalkinError, match="was fitted on features of another encoder"):
        reuse_whitening(theirs, ours, encoder="other", settings=embedding)
    for key, value, sentence in (
        ("dimensions", 4, "dimensions 5, but the configuration says 4"),
        ("host_directions", 1, "host_directions 2, but the configuration says 1"),
        ("unusualness", 0.5, "unusualness 0.2, but the configuration says 0.5"),
    ):
        with pytest.raises(TidalkinError, match=rf"theirs.npz: was fitted with embedding\.{sentence}"):
            reuse_whitening(theirs, ours, encoder="digest", settings=embedding.model_copy(update={key: value}))
