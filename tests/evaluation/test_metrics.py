"""Metrics of rankings that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from tidalkin.evaluation.evaluate import found_at
from tidalkin.evaluation.metrics import ranking


def test_a_ranking_by_hand_has_the_figures_computed_by_hand():
    positive = np.array([True, False, True, False, False])
    found = ranking(positive, np.array([5.0, 4.0, 3.0, 2.0, 1.0]))
    assert found.average_precision() == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert found.roc_auc() == pytest.approx(5 / 6)  # of 6 pairs, one is in the wrong order
    assert found.precision_at(1) == 1
    assert found.precision_at(4) == pytest.approx(2 / 4)
    assert found.precision_at(50) == pytest.approx(2 / 5)
    assert found.true_positive_rate_at(0.2) == pytest.approx(1 / 2)
    assert found.true_positive_rate_at(1 / 3) == 1
    assert found.contamination_at(0.5) == 0
    assert found.contamination_at(0.96) == pytest.approx(1 / 3)


def test_equal_scores_give_what_a_random_order_of_them_gives_on_average():
    positive = np.array([True, False, False, True, False, False, False, False])
    found = ranking(positive, np.array([2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0]))
    assert found.precision_at(1) == pytest.approx(2 / 4)
    assert found.precision_at(2) == pytest.approx(2 / 4)
    assert found.roc_auc() == pytest.approx((2 * 4 + 2 * 2 / 2) / 12)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40).filter(
        lambda rows: len({positive for positive, _ in rows}) == 2
    )
)
def test_figures_agree_with_scikit_learn_also_with_ties(rows):
    positive = np.array([row[0] for row in rows])
    score = np.array([row[1] for row in rows], float)
    found = ranking(positive, score)
    assert found.roc_auc() == pytest.approx(roc_auc_score(positive, score))
    assert found.average_precision() == pytest.approx(average_precision_score(positive, score))
    assert found.precision_at(len(rows)) == pytest.approx(positive.mean())
    rates = [found.true_positive_rate_at(rate) for rate in (0.0, 0.2, 0.5, 1.0)]
    assert rates == sorted(rates)
    assert rates[-1] == 1
    # Who is found and how many are found are two ways to say the same.
    assert found_at(positive, score, 0.2)[positive].mean() == pytest.approx(found.true_positive_rate_at(0.2))


def test_a_ranking_of_another_prevalence_is_that_of_a_survey_with_so_few_features():
    random = np.random.default_rng(1)
    positive = np.arange(40_000) < 10_000
    score = random.normal(size=positive.size) + 1.0 * positive
    fewer = np.r_[:1_000, 10_000:40_000]
    expected = ranking(positive[fewer], score[fewer])
    found = ranking(positive, score).at_prevalence(1_000 / 31_000)
    assert found.average_precision() == pytest.approx(expected.average_precision(), rel=0.1)
    assert found.roc_auc() == pytest.approx(expected.roc_auc(), abs=0.02)
