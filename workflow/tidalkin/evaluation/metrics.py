"""Metrics of one ranking: average precision, ROC-AUC, precision@k and their curves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_curve

from tidalkin.evaluation.labels import Booleans, Floats

FALSE_POSITIVE_RATE = 0.2  # completeness is compared at this rate
COMPLETENESS = 0.96  # what Desmons et al. (arXiv:2308.07962) reach
GRID: Floats = np.linspace(0.0, 1.0, 201)


@dataclass(frozen=True)
class Ranking:
    """Numbers of galaxies with and without a feature found down a ranking.

    Galaxies of equal score are one step.
    """

    true_positives: Floats
    """(step,), from 0 to all."""
    false_positives: Floats
    """(step,), from 0 to all."""

    @property
    def true_positive_rate(self) -> Floats:
        """Completeness, (step,)."""
        return self.true_positives / self.true_positives[-1]

    @property
    def false_positive_rate(self) -> Floats:
        """Share of the galaxies without a feature that are found, (step,)."""
        return self.false_positives / self.false_positives[-1]

    @property
    def precision(self) -> Floats:
        """Share with a feature among those found, (step,); 1 before the first step."""
        found = self.true_positives + self.false_positives
        return np.divide(self.true_positives, found, out=np.ones_like(found), where=found > 0)

    def at_prevalence(self, prevalence: float) -> Ranking:
        """Return the ranking as if this share of the galaxies had a feature.

        Galaxies with a feature get the weight that makes them this share, which is what one expects of a survey of that
        prevalence.

        Examples
        --------
        >>> found = ranking(np.array([True, False, True]), np.array([3.0, 2.0, 1.0]))
        >>> round(found.at_prevalence(0.5).average_precision(), 3)
        0.75
        """
        weight = prevalence / (1 - prevalence) * self.false_positives[-1] / self.true_positives[-1]
        return Ranking(weight * self.true_positives, self.false_positives)

    def roc_auc(self) -> float:
        """Compute the area under the curve of true over false positive rate."""
        return float(np.trapezoid(self.true_positive_rate, self.false_positive_rate))

    def average_precision(self) -> float:
        """Average the precision over the steps in completeness, without interpolation."""
        return float(np.sum(np.diff(self.true_positive_rate) * self.precision[1:]))

    def precision_at(self, k: int) -> float:
        """Compute the share with a feature among the first ``k``; for ties, its expectation."""
        found = self.true_positives + self.false_positives
        k = min(k, max(int(found[-1]), 1))
        return float(np.interp(k, found, self.true_positives) / k)

    def true_positive_rate_at(self, false_positive_rate: float) -> float:
        """Return the completeness at the last step that keeps to ``false_positive_rate``."""
        step = np.searchsorted(self.false_positive_rate, false_positive_rate, side="right") - 1
        return float(self.true_positive_rate[step])

    def contamination_at(self, completeness: float) -> float:
        """Return the share without a feature at the first step of at least ``completeness``."""
        return float(1 - self.precision[np.searchsorted(self.true_positive_rate, completeness, side="left")])


def ranking(positive: Booleans, score: Floats) -> Ranking:
    """Rank galaxies by descending ``score``.

    Parameters
    ----------
    positive : (object,) ndarray of bool
        True for galaxies with a feature.
    score : (object,) ndarray
        Scores to rank by.

    Examples
    --------
    >>> ranking(np.array([True, False, True]), np.array([3.0, 2.0, 1.0])).precision_at(2)
    0.5
    """
    false_rate, true_rate, _ = roc_curve(positive, score, drop_intermediate=False)
    return Ranking(true_rate * positive.sum(), false_rate * (~positive).sum())


@dataclass(frozen=True)
class Metric:
    """One figure of merit."""

    name: str
    of: Callable[[Ranking], float]
    chance: Callable[[float], float]
    """Its expectation for a random ranking, from the share of galaxies with a feature."""


def metrics(precision_at: int, prevalence: float) -> tuple[Metric, ...]:
    """Return the figures of merit of the table.

    Parameters
    ----------
    precision_at : int
        k of precision@k.
    prevalence : float
        Share of galaxies with a feature for which precision is given a second time.

    Examples
    --------
    >>> [metric.name for metric in metrics(precision_at=20, prevalence=0.01)][:4]
    ['roc_auc', 'average_precision', 'precision_at_20', 'tpr_at_fpr_0.2']
    """
    return (
        Metric("roc_auc", Ranking.roc_auc, lambda share: 0.5),
        Metric("average_precision", Ranking.average_precision, lambda share: share),
        Metric(f"precision_at_{precision_at}", lambda found: found.precision_at(precision_at), lambda share: share),
        Metric(
            f"tpr_at_fpr_{FALSE_POSITIVE_RATE}",
            lambda found: found.true_positive_rate_at(FALSE_POSITIVE_RATE),
            lambda share: FALSE_POSITIVE_RATE,
        ),
        Metric(
            f"contamination_at_completeness_{COMPLETENESS}",
            lambda found: found.contamination_at(COMPLETENESS),
            lambda share: 1 - share,
        ),
        Metric(
            f"average_precision_at_prevalence_{prevalence:g}",
            lambda found: found.at_prevalence(prevalence).average_precision(),
            lambda share: prevalence,
        ),
        Metric(
            f"precision_at_{precision_at}_at_prevalence_{prevalence:g}",
            lambda found: found.at_prevalence(prevalence).precision_at(precision_at),
            lambda share: prevalence,
        ),
    )
