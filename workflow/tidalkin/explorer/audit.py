"""Estimate from the judged galaxies how many are left to find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tidalkin.explorer.labels import Verdict

CONFIDENCE = 0.9
CALIBRATION_BINS = 5


@dataclass(frozen=True)
class Estimate:
    """A number with the bounds of its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Audit:
    """The state of a search for all positives of a survey."""

    judged: int
    positives: int
    audited: int
    """Judged galaxies that were drawn at random."""
    prevalence: Estimate | None
    """Share of positives among random galaxies; None before any was judged."""
    completeness: Estimate | None
    """Share of the survey's positives that are judged."""
    calibration: tuple[tuple[float, float, int], ...]
    """Mean predicted probability, share of positives and number of galaxies, per bin of the probability."""

    def content(self) -> dict[str, Any]:
        """Return plain values for the page."""
        return asdict(self)


def share(positives: int, n: int) -> Estimate:
    """Estimate a share, with the Jeffreys interval.

    See Brown, Cai & DasGupta 2001, Statistical Science 16, 101.

    Examples
    --------
    >>> estimate = share(2, 20)
    >>> round(estimate.low, 2), estimate.value, round(estimate.high, 2)
    (0.03, 0.1, 0.25)
    """
    from scipy.stats import beta

    tail = (1 - CONFIDENCE) / 2
    posterior = beta(positives + 0.5, n - positives + 0.5)
    low = 0.0 if positives == 0 else float(posterior.ppf(tail))
    high = 1.0 if positives == n else float(posterior.ppf(1 - tail))
    return Estimate(positives / n, low, high)


def audit(verdicts: Sequence[Verdict], n_galaxies: int) -> Audit:
    """Estimate prevalence, completeness and calibration.

    The galaxies offered at random are drawn from those not yet judged. Their share of positives, times the number of
    galaxies that are not judged, estimates how many positives are left.

    Parameters
    ----------
    verdicts : sequence of Verdict
        All verdicts.
    n_galaxies : int
        Galaxies of the survey.

    Returns
    -------
    Audit
        The estimates, with intervals of 90 %.

    Examples
    --------
    >>> from tidalkin import config
    >>> from tidalkin.explorer.labels import current_marks, new_mark, verdicts
    >>> labels = ["tidal", *["not"] * 19]
    >>> marks = [new_mark(number, label, "ada", strategy="random") for number, label in enumerate(labels)]
    >>> audit(verdicts(current_marks(marks), config.Explorer()), n_galaxies=1000).prevalence.value
    0.05
    """
    sure = [verdict for verdict in verdicts if verdict.is_positive is not None]
    positives = sum(bool(verdict.is_positive) for verdict in sure)
    drawn = [verdict for verdict in sure if any(mark.strategy == "random" for mark in verdict.marks)]
    prevalence = completeness = None
    if drawn:
        prevalence = share(sum(bool(verdict.is_positive) for verdict in drawn), len(drawn))
        left = n_galaxies - len(verdicts)
        completeness = Estimate(
            *(_completeness(positives, rate * left) for rate in (prevalence.value, prevalence.high, prevalence.low))
        )
    return Audit(len(verdicts), positives, len(drawn), prevalence, completeness, _calibration(sure))


def _completeness(found: int, left: float) -> float:
    return found / (found + left) if found + left > 0 else 1.0


def _calibration(sure: Sequence[Verdict]) -> tuple[tuple[float, float, int], ...]:
    """Compare predicted probabilities with the verdicts, in equal bins."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(CALIBRATION_BINS)]
    for verdict in sure:
        offered = [mark.probability for mark in verdict.marks if mark.probability is not None]
        if offered:
            place = min(int(offered[0] * CALIBRATION_BINS), CALIBRATION_BINS - 1)
            bins[place].append((offered[0], bool(verdict.is_positive)))
    return tuple(
        (sum(p for p, _ in pairs) / len(pairs), sum(positive for _, positive in pairs) / len(pairs), len(pairs))
        for pairs in bins
        if pairs
    )
