"""The scores of a method: one example, a set, and probes."""

from __future__ import annotations

import numpy as np

from surveys.labelled import FEW, catalog_of, vectors_of
from tidalkin.evaluation.labels import labelled_galaxies
from tidalkin.evaluation.methods import MethodVectors
from tidalkin.evaluation.probes import score_tasks
from tidalkin.evaluation.splits import split


def test_a_query_is_not_among_its_own_results():
    # Every galaxy is like itself and like no other: were it among the answers, it would come first.
    catalog = catalog_of(20, 20)
    labels = labelled_galaxies(catalog, "none")
    parts = split(labels, 0)
    identity = MethodVectors(labels.object_id, np.eye(40))
    asked = dict(score_tasks("identity", identity, labels.positive, parts, FEW))
    assert any(task.name == "single" for task in asked)
    for task, score in asked.items():
        assert len(score) == len(parts.test)
        if task.name in ("single", "set"):
            assert not score.any()


def test_what_the_test_galaxies_are_labelled_does_not_change_their_scores():
    catalog = catalog_of(30, 60)
    labels = labelled_galaxies(catalog, "none")
    parts = split(labels, 0)
    vectors = vectors_of(catalog, 1.0)
    hidden = labels.positive.copy()
    hidden[parts.test] = ~hidden[parts.test]
    pairs = zip(
        score_tasks("encoder", vectors, labels.positive, parts, FEW),
        score_tasks("encoder", vectors, hidden, parts, FEW),
        strict=True,
    )
    for (task, score), (_, blind) in pairs:
        assert np.array_equal(score, blind), task
