"""Rank the test half by one example, by several, and by probes."""

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
from tidalkin.embedding.whitening import debris_scores
from tidalkin.evaluation.labels import MINIMUM_OF_EACH_CLASS, Booleans, Floats, Integers
from tidalkin.evaluation.methods import MethodVectors, ProbeName
from tidalkin.evaluation.splits import Split
from tidalkin.search.direction import direction
from tidalkin.search.probe import fit_probe
from tidalkin.seeds import generator

SINGLE_QUERIES = 50  # largest number of single-example queries per repeat
REGULARISATIONS = (1e-3, 1e-2, 1e-1, 1.0)
REGULARISATION_OF_FEW_LABELS = 1e-3
MOST_LABELS_TO_CHOOSE_ON = 2000


def _unit_rows(vectors: Floats) -> Floats:
    """Scale rows to length one; a row of zeros stays."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1.0)


def _standardise(vectors: Floats, pool: Integers) -> Floats:
    """Scale each dimension to mean 0 and deviation 1 over the pool.

    Only vectors are used, and no labels.
    """
    deviation = vectors[pool].std(axis=0)
    return (vectors - vectors[pool].mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)


def _logistic(regularisation: float) -> LogisticRegression:
    return LogisticRegression(C=regularisation, class_weight="balanced", solver="newton-cholesky")


def choose_regularisation(vectors: Floats, positive: Booleans) -> float:
    """Choose C by the average precision in a three-fold cross-validation.

    It is fixed where labels are few.

    Parameters
    ----------
    vectors : (label, dimension) ndarray
        Training vectors.
    positive : (label,) ndarray of bool
        Their classes.

    Examples
    --------
    >>> few = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    >>> choose_regularisation(few, np.array([True, True, False, False])) == REGULARISATION_OF_FEW_LABELS
    True
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
    """Score by logistic regression with an L2 penalty and balanced classes.

    Examples
    --------
    >>> vectors, positive = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]), np.array([1, 1, 0, 0], bool)
    >>> linear_probe(vectors, positive, np.array([[0.8, 0.2], [0.2, 0.8]])) > 0
    array([ True, False])
    """
    return _logistic(choose_regularisation(vectors, positive)).fit(vectors, positive).decision_function(ranked)


def forest_probe(vectors: Floats, positive: Booleans, ranked: Floats) -> Floats:
    """Score by a random forest with balanced classes.

    Examples
    --------
    >>> vectors, positive = np.arange(20.0)[:, None], np.arange(20) >= 10
    >>> forest_probe(vectors, positive, ranked=np.array([[2.0], [18.0]])).round()
    array([0., 1.])
    """
    forest = RandomForestClassifier(50, min_samples_leaf=3, class_weight="balanced", random_state=0)
    return forest.fit(vectors, positive).predict_proba(ranked)[:, 1]


def debris_probe(vectors: Floats, positive: Booleans, ranked: Floats) -> Floats:
    """Score by a probe that is shrunk towards the debris score, as `tidalkin.search.probe` does.

    Examples
    --------
    >>> vectors = np.array([[0.8, 0.0, 0.6], [0.7, 0.1, 0.7], [0.0, 1.0, 0.0], [0.1, 1.0, -0.1]], np.float32)
    >>> debris_probe(vectors, np.array([True, True, False, False]), vectors).argsort()[::-1]
    array([1, 0, 2, 3])
    """
    return fit_probe(vectors[positive], vectors[~positive], has_debris_score=True).score(ranked)


class Probe(NamedTuple):
    """A classifier that is trained on some labels and then ranks the test half."""

    suffix: str
    """Follows the name of the method in the tables."""
    scores: Callable[[Floats, Booleans, Floats], Floats]
    """Return scores (test,) from training vectors (label, dimension), their classes (label,) and test vectors."""


PROBES: dict[ProbeName, Probe] = {
    "linear": Probe("", linear_probe),
    "debris": Probe("", debris_probe),
    "forest": Probe(" (random forest)", forest_probe),
}


def label_counts(probe_labels: Sequence[int], pool_size: int) -> list[int]:
    """Return the numbers of labels to train on, the whole pool included.

    Examples
    --------
    >>> label_counts((5, 20, 500), pool_size=100)
    [5, 20, 100]
    """
    return [*sorted({n for n in probe_labels if 2 <= n < pool_size}), pool_size]


class RankingTask(NamedTuple):
    """One ranking of the test half."""

    method: str
    name: Literal["no example", "single", "set", "probe"]
    n_labels: int
    n_left_out: int = 0
    """Examples left out of the task, because the method has a vector of zeros for them."""
    example: int | None = None
    """Row of the example, where there is one."""


def score_tasks(
    method: str, known: MethodVectors, positive: Booleans, parts: Split, settings: config.EvaluationSettings
) -> Iterator[tuple[RankingTask, Floats]]:
    """Yield the scores (test,) of one method for all tasks of one repeat.

    The task `single` comes once for each example. A vector of zeros has no direction, as that of a galaxy that
    statmorph cannot measure: such an example is left out of `single` and `set`, and counted.

    Parameters
    ----------
    method : str
        Name of the method.
    known : MethodVectors
        Its vectors, in the order of ``positive``.
    positive : (object,) ndarray of bool
        True for galaxies with a feature.
    parts : Split
        Pool and test half of the repeat.
    settings : config.EvaluationSettings
        Numbers of labels, size of the set.

    Examples
    --------
    >>> vectors = np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32)
    >>> parts = Split(np.array([0, 1]), np.array([2, 3]), np.array([4, 5, 6, 7]))
    >>> known, positive = MethodVectors(np.arange(8), vectors), np.arange(8) % 2 == 0
    >>> settings = config.EvaluationSettings(probe_labels=(4,))
    >>> [(task.name, scores.shape) for task, scores in score_tasks("encoder", known, positive, parts, settings)]
    [('single', (4,)), ('single', (4,)), ('set', (4,)), ('probe', (4,))]
    """
    vectors = known.vectors
    unit = _unit_rows(vectors)
    with_debris = known.debris_weight is not None
    if with_debris:
        yield RankingTask(method, "no example", 0), debris_scores(vectors[parts.test])
    known_direction: Booleans = np.any((unit[:, :-1] if with_debris else unit) != 0, axis=1)

    def similarity(examples: Integers) -> Floats:
        return unit[parts.test] @ direction(unit[examples], unit[:0], known.debris_weight)

    singles = parts.pool_positive[:SINGLE_QUERIES]
    left_out = int((~known_direction[singles]).sum())
    for example in singles[known_direction[singles]]:
        yield RankingTask(method, "single", 1, left_out, int(example)), similarity(np.array([example]))
    examples = parts.pool_positive[: settings.set_size]
    usable = examples[known_direction[examples]]
    if usable.size:
        yield RankingTask(method, "set", examples.size, examples.size - usable.size), similarity(usable)
    described = unit if with_debris else _standardise(vectors, parts.pool)
    for name in known.probes:
        probe = PROBES["debris" if with_debris and name == "linear" else name]
        for n_labels in label_counts(settings.probe_labels, parts.pool.size):
            training = parts.training(n_labels)
            score = probe.scores(described[training], positive[training], described[parts.test])
            yield RankingTask(method + probe.suffix, "probe", n_labels), score


@dataclass(frozen=True)
class ProbeScores:
    """Scores of the test half by a probe on all labels of the pool."""

    method: str
    repeat: int
    test: Integers
    """(test,): rows."""
    score: Floats
    """(test,)"""
