"""The probe learns from judged galaxies, and starts from the debris score."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from surveys.small_run import unit
from tidalkin.embedding.whitening import DEBRIS_SHARE_OF_LENGTH, debris_scores, likeness
from tidalkin.errors import TidalkinError
from tidalkin.search.direction import direction
from tidalkin.search.probe import PENALTY, fit_probe

DIMENSIONS = 24


def galaxies(seed, n=2000):
    """Draw vectors whose debris score and first dimension both know the class a little."""
    random = np.random.default_rng(seed)
    positive = random.random(n) < 0.2
    look = random.standard_normal((n, DIMENSIONS - 1))
    look[:, 0] += 1.5 * positive
    score = random.standard_normal(n) + 1.2 * positive
    return unit(np.column_stack([unit(look), DEBRIS_SHARE_OF_LENGTH * score])), positive


def test_without_positive_galaxies_the_debris_score_ranks():
    vectors, _ = galaxies(1)
    for negative in (vectors[:0], vectors[:7]):
        score = fit_probe(vectors[:0], negative, has_debris_score=True).score(vectors)
        np.testing.assert_allclose(score, debris_scores(vectors), rtol=1e-4, atol=1e-5)


def test_without_positive_galaxies_and_debris_score_there_is_nothing_to_rank_by():
    vectors, _ = galaxies(1)
    with pytest.raises(TidalkinError, match="no galaxy is judged positive, and there is no debris score"):
        fit_probe(vectors[:0], vectors[:7], has_debris_score=False)


@given(n_positive=st.integers(1, 4), n_negative=st.integers(0, 9))
def test_few_positive_galaxies_rank_as_a_search_does(n_positive, n_negative):
    vectors, positive = galaxies(2, n=200)
    like, unlike = vectors[positive][:n_positive], vectors[~positive][:n_negative]
    score = fit_probe(like, unlike, has_debris_score=True).score(vectors)
    similarity = vectors @ direction(like, unlike, 1.0)
    # A search compares vectors of length one, which ranks nearly as the sum of likeness and debris score does.
    assert spearmanr(score, similarity).statistic > 0.98


def test_without_a_debris_score_the_probe_is_a_ridge_logistic_regression():
    vectors, positive = galaxies(3, n=300)
    probe = fit_probe(vectors[positive], vectors[~positive], has_debris_score=False)
    expected = LogisticRegression(C=1 / PENALTY, tol=1e-8).fit(vectors, positive)
    np.testing.assert_allclose(probe.weights, expected.coef_[0], atol=5e-3)
    np.testing.assert_allclose(probe.score(vectors), expected.decision_function(vectors), atol=1e-2)


@pytest.mark.parametrize("n_labels", [20, 100, 500])
def test_labels_find_no_less_than_the_debris_score_and_more_labels_find_more(n_labels):
    gains = []
    for seed in range(6):
        vectors, positive = galaxies(seed)
        labelled, rest = np.arange(n_labels), np.arange(n_labels, len(vectors))
        some = positive[labelled]
        probe = fit_probe(vectors[labelled][some], vectors[labelled][~some], has_debris_score=True)
        by_probe = average_precision_score(positive[rest], probe.score(vectors[rest]))
        gains.append(by_probe - average_precision_score(positive[rest], debris_scores(vectors[rest])))
    assert np.mean(gains) > {20: 0.0, 100: 0.03, 500: 0.08}[n_labels]


def test_the_score_of_many_labels_is_the_log_odds():
    vectors, positive = galaxies(4, n=20_000)
    probe = fit_probe(vectors[positive], vectors[~positive], has_debris_score=True)
    chance = 1 / (1 + np.exp(-probe.score(vectors)))
    likely = chance > 0.5
    assert likely.any()
    assert positive[likely].mean() == pytest.approx(chance[likely].mean(), abs=0.05)


def test_likeness_and_debris_score_make_up_a_vector():
    vectors, _ = galaxies(5, n=10)
    made = unit(np.column_stack([likeness(vectors), DEBRIS_SHARE_OF_LENGTH * debris_scores(vectors)]))
    np.testing.assert_allclose(made, vectors, atol=1e-6)
