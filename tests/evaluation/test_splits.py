"""Splits into pool and test, the same for all methods."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from surveys.labelled import catalog_of
from tidalkin.evaluation.labels import labelled_galaxies
from tidalkin.evaluation.probes import label_counts
from tidalkin.evaluation.splits import split


@given(st.integers(10, 60), st.integers(10, 90), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_pool_and_test_share_no_galaxy_and_miss_none(n_positive, n_negative, repeat):
    labels = labelled_galaxies(catalog_of(n_positive, n_negative), "none")
    parts = split(labels, repeat)
    assert np.array_equal(np.sort(np.concatenate([parts.pool, parts.test])), np.arange(n_positive + n_negative))
    assert labels.positive[parts.pool_positive].all()
    assert not labels.positive[parts.pool_negative].any()
    for kind in ("stream", "shell", "tail", "none"):
        in_pool, in_test = (np.sum(labels.kind[rows] == kind) for rows in (parts.pool, parts.test))
        assert in_test - in_pool in (0, 1)


@given(st.integers(10, 60), st.integers(10, 90))
@settings(max_examples=30, deadline=None)
def test_training_labels_are_as_many_as_asked_for_nested_and_of_both_classes(n_positive, n_negative):
    labels = labelled_galaxies(catalog_of(n_positive, n_negative), "none")
    parts = split(labels, 0)
    smaller: set[int] = set()
    for n_labels in label_counts((2, 5, 7, 10), parts.pool.size):
        training = parts.training(n_labels)
        assert len(set(training)) == n_labels
        assert set(training) <= set(parts.pool)
        assert 0 < labels.positive[training].sum() < n_labels
        # Rounding may exchange one galaxy without for one with a feature.
        assert len(smaller - set(training)) <= 1
        smaller = set(training)
