"""Rank the test half by one example, by a set of examples, and by probes on labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold

from tidalkin import config
from tidalkin.evaluation.labels import MINIMUM_OF_EACH_CLASS, Booleans, Floats, Integers, MethodVectors
from tidalkin.evaluation.splits import Split
from tidalkin.search.direction import direction
from tidalkin.seeds import generator

SINGLE_QUERIES = 50  # examples asked with, one by one, per repeat
REGULARISATIONS = (1e-3, 1e-2, 1e-1, 1.0)
REGULARISATION_OF_FEW_LABELS = 1e-3
MOST_LABELS_TO_CHOOSE_ON = 2000


def _unit_rows(vectors: Floats) -> Floats:
    """Rows of length one (a row of zeros stays)."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1.0)


def _standardise(vectors: Floats, pool: Integers) -> Floats:
    """Each dimension with mean 0 and deviation 1 over the pool, whose vectors (not labels) are known beforehand."""
    deviation = vectors[pool].std(axis=0)
    return (vectors - vectors[pool].mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)


def set_scores(unit: Floats, importance: Floats, examples: Integers, ranked: Integers) -> Floats:
    """Similarity (ranked,) of some rows to examples, one or several, as in `tidalkin.search`."""
    return unit[ranked] @ direction(unit[examples], unit[:0], importance)


Probe = Callable[[Floats, Booleans, Floats], Floats]
"""From training vectors (label, dimension), whether each has a feature (label,), and vectors to rank (test, dimension),
to scores (test,)."""


def _logistic(regularisation: float) -> LogisticRegression:
    return LogisticRegression(C=regularisation, class_weight="balanced", solver="newton-cholesky")


def choose_regularisation(vectors: Floats, positive: Booleans) -> float:
    """The C of the best average precision in a three-fold cross-validation; a fixed one where labels are few.

    Parameters
    ----------
    vectors : (label, dimension) ndarray
    positive : (label,) ndarray of bool
    """
    if min(positive.sum(), (~positive).sum()) < MINIMUM_OF_EACH_CLASS:
        return REGULARISATION_OF_FEW_LABELS
    some = generator(0, "evaluation folds", positive.size).permutation(positive.size)[:MOST_LABELS_TO_CHOOSE_ON]
    vectors, positive = vectors[some], positive[some]
    folds = list(StratifiedKFold(3).split(vectors, positive))

    def quality(regularisation: float) -> float:
        fits = ((_logistic(regularisation).fit(vectors[rest], positive[rest]), held) for rest, held in folds)
        return sum(average_precision_score(positive[held], fit.decision_function(vectors[held])) for fit, held in fits)

    return max(REGULARISATIONS, key=quality)


def linear_probe(vectors: Floats, positive: Booleans, ranked: Floats) -> Floats:
    """Logistic regression with an L2 penalty, both classes of equal weight."""
    return _logistic(choose_regularisation(vectors, positive)).fit(vectors, positive).decision_function(ranked)


def forest_probe(vectors: Floats, positive: Booleans, ranked: Floats) -> Floats:
    """Random forest: what people use on a handful of morphological numbers, whose classes no plane divides."""
    forest = RandomForestClassifier(50, min_samples_leaf=3, class_weight="balanced", random_state=0)
    return forest.fit(vectors, positive).predict_proba(ranked)[:, 1]


def label_counts(probe_labels: Sequence[int], pool_size: int) -> list[int]:
    """How many labels the probes learn from: those of ``probe_labels`` that the pool has, and all."""
    return [*sorted({n for n in probe_labels if 2 <= n < pool_size}), pool_size]


class RankingTask(NamedTuple):
    """One ranking of the test half that a method is asked for."""

    method: str
    name: Literal["single", "set", "probe"]
    n_labels: int
    example: int | None = None
    """Row of the only example."""


def score_tasks(
    method: str, known: MethodVectors, positive: Booleans, parts: Split, settings: config.EvaluationSettings
) -> Iterator[tuple[RankingTask, Floats]]:
    """Yield the scores (test,) of one method for all tasks of one repeat.

    The task `single` comes once for each example.

    Parameters
    ----------
    method : str
    known : MethodVectors
        Of the method, row by row those of ``positive``.
    positive : (object,) ndarray of bool
    parts : Split
    settings : config.EvaluationSettings
    """
    vectors = known.vectors
    unit = _unit_rows(vectors)
    importance = np.ones(vectors.shape[1]) if known.importance is None else known.importance
    for example in parts.pool_positive[:SINGLE_QUERIES]:
        score = set_scores(unit, importance, np.array([example]), parts.test)
        yield RankingTask(method, "single", 1, int(example)), score
    examples = parts.pool_positive[: settings.set_size]
    yield RankingTask(method, "set", examples.size), set_scores(unit, importance, examples, parts.test)
    # A weight on a larger dimension costs the penalty of the probe less: few labels cannot tell what matters.
    standardised = _standardise(vectors, parts.pool) * np.sqrt(importance)
    probes: dict[str, Probe] = {method: linear_probe}
    if method == "morphology":
        probes[f"{method} (random forest)"] = forest_probe
    for name, probe in probes.items():
        for n_labels in label_counts(settings.probe_labels, parts.pool.size):
            training = parts.training(n_labels)
            score = probe(standardised[training], positive[training], standardised[parts.test])
            yield RankingTask(name, "probe", n_labels), score


@dataclass(frozen=True)
class ProbeScores:
    """Scores of the test by the probe on all labels of the pool, for the curves and breakdowns."""

    method: str
    repeat: int
    test: Integers
    """(test,): row numbers."""
    score: Floats
    """(test,)"""
