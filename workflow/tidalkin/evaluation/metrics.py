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
    """Galaxies with and without a feature found down a ranking; those of equal score come together."""

    true_positives: Floats
    """(step,), from 0 to all."""
    false_positives: Floats
    """(step,), from 0 to all."""

    @property
    def true_positive_rate(self) -> Floats:
        """(step,), the completeness."""
        return self.true_positives / self.true_positives[-1]

    @property
    def false_positive_rate(self) -> Floats:
        """(step,), from 0 to 1."""
        return self.false_positives / self.false_positives[-1]

    @property
    def precision(self) -> Floats:
        """(step,), 1 before the first step."""
        found = self.true_positives + self.false_positives
        return np.divide(self.true_positives, found, out=np.ones_like(found), where=found > 0)

    def roc_auc(self) -> float:
        """Area under the curve of true over false positive rate."""
        return float(np.trapezoid(self.true_positive_rate, self.false_positive_rate))

    def average_precision(self) -> float:
        """Precision averaged over the steps in completeness, not interpolated."""
        return float(np.sum(np.diff(self.true_positive_rate) * self.precision[1:]))

    def precision_at(self, k: int) -> float:
        """Share of galaxies with a feature among the first ``k``; of ties its expectation."""
        found = self.true_positives + self.false_positives
        k = min(k, int(found[-1]))
        return float(np.interp(k, found, self.true_positives) / k)

    def true_positive_rate_at(self, false_positive_rate: float) -> float:
        """Completeness at the last step that keeps to ``false_positive_rate``."""
        step = np.searchsorted(self.false_positive_rate, false_positive_rate, side="right") - 1
        return float(self.true_positive_rate[step])

    def contamination_at(self, completeness: float) -> float:
        """Share of galaxies without a feature among those found, at the first step of at least ``completeness``."""
        return float(1 - self.precision[np.searchsorted(self.true_positive_rate, completeness, side="left")])


def ranking(positive: Booleans, score: Floats) -> Ranking:
    """Rank galaxies by descending ``score``.

    Parameters
    ----------
    positive : (object,) ndarray of bool
    score : (object,) ndarray
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


def metrics(precision_at: int) -> tuple[Metric, ...]:
    """The figures of merit of the table."""
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
    )
