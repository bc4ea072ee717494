"""Rank the whole survey from the marks, and choose the galaxies to judge next."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from tidalkin.explorer.labels import Verdict
from tidalkin.explorer.order import highest_first
from tidalkin.explorer.survey import Survey
from tidalkin.index.vectors import Rows, Vectors
from tidalkin.search.direction import has_debris_score
from tidalkin.search.judged import scores
from tidalkin.search.probe import LEAST_OF_EACH, fit_probe

UNCERTAIN_SHARE = 0.05
"""Share of the offers whose probability is nearest to one half. With twice this share, 3 % fewer positive galaxies were
found among the first 200 (``benchmarks/active_search.py``), and the ranking was no better."""
RANDOM_SHARE = 0.1
"""Share of the offers that are drawn at random. Only these tell the prevalence without bias."""
AUDIT_FROM = 20
"""Marks from which on some offers are drawn at random. The first twenty are those of the debris score."""
ALL = slice(None)
NEAR_DUPLICATE = 0.97
"""Cosine similarity from which two offers are too alike to judge both. At 0.9, one galaxy in seven of a survey without
duplicates has such a neighbour, and offers that left them out began worse than the debris score
(``benchmarks/active_search.py``)."""


@dataclass(frozen=True)
class Ranking:
    """Scores of all galaxies that have a vector.

    A survey is large and a page is short, so that only the part that is asked for is put in order.
    """

    catalog_rows: Rows
    """Row of the catalog of each row of the index."""
    scores: npt.NDArray[np.float32]
    """The score of each row of the index."""
    order: Rows
    """The rows of the index, best first."""
    has_probability: bool
    """Whether the scores are log-odds of being positive, as they are from five marks of each kind on."""
    n_marks: int
    """Number of marks that the ranking learned from."""

    def __len__(self) -> int:
        return len(self.order)

    def rows(self, part: slice | Rows = ALL) -> Rows:
        """Return catalog rows, best first."""
        return self.catalog_rows[self.order[part]]

    def probability(self, part: slice | Rows = ALL) -> npt.NDArray[np.float32] | None:
        """Return probabilities of being positive, in this order; None while there are none."""
        if not self.has_probability:
            return None
        probability: npt.NDArray[np.float32] = expit(self.scores[self.order[part]])
        return probability


@dataclass(frozen=True)
class Offer:
    """A galaxy to judge next."""

    row: int
    strategy: str
    """likely, uncertain or random."""
    rank: int
    probability: float | None


class Ranker:
    """Ranks a survey from verdicts, and keeps the last ranking.

    Parameters
    ----------
    survey : Survey
        The run.
    """

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._has_debris_score = has_debris_score(survey.index, survey.files)
        self._lock = threading.Lock()
        self._judged: tuple[tuple[int, bool], ...] | None = None
        self._ranking: Ranking | None = None

    def rank(self, verdicts: Sequence[Verdict]) -> Ranking:
        """Rank the survey by the verdicts on which people agree.

        Raises
        ------
        TidalkinError
            If there is neither a positive verdict nor a debris score.
        """
        judged = tuple(
            (verdict.object_id, verdict.is_positive) for verdict in verdicts if verdict.is_positive is not None
        )
        with self._lock:
            if self._ranking is None or judged != self._judged:
                self._ranking = self._fit(judged)
                self._judged = judged
            return self._ranking

    def _fit(self, judged: tuple[tuple[int, bool], ...]) -> Ranking:
        survey = self._survey
        rows = survey.rows_of([object_id for object_id, _ in judged])
        is_positive = np.array([positive for _, positive in judged], bool)
        has_vector = survey.vector_rows[rows] >= 0
        positive, negative = (survey.vectors_of(rows[has_vector & kind]) for kind in (is_positive, ~is_positive))
        probe = fit_probe(positive, negative, has_debris_score=self._has_debris_score)
        score = scores(probe, survey.index)
        is_logistic = min(len(positive), len(negative)) >= LEAST_OF_EACH
        return Ranking(survey.catalog_rows, score, highest_first(score), is_logistic, len(judged))


def offers(ranking: Ranking, judged: Rows, survey: Survey, k: int, seed: int) -> list[Offer]:
    """Choose the galaxies to judge next.

    85 % are likely, 5 % uncertain and 10 % drawn at random. Random offers begin at twenty marks, uncertain ones with
    the first probabilities. Until then, more are likely.

    Parameters
    ----------
    ranking : Ranking
        The current ranking.
    judged : (galaxy,) int64
        Catalog rows not to offer.
    survey : Survey
        The run.
    k : int
        Number of offers.
    seed : int
        Seed of the random offers and of the order.

    Returns
    -------
    list of Offer
        At most ``k``, in random order, so that their order tells nothing.

    Examples
    --------
    >>> survey = Survey("results/demo")
    >>> ranking = Ranker(survey).rank([])  # nothing is judged yet: by debris score
    >>> chosen = offers(ranking, judged=ranking.rows()[:2], survey=survey, k=3, seed=1)
    >>> sorted(offer.rank for offer in chosen), chosen[0].strategy
    ([3, 4, 5], 'likely')
    """
    random = np.random.default_rng(seed)
    vector_rows = survey.vector_rows[judged]
    is_open = np.ones(len(ranking), bool)
    is_open[vector_rows[vector_rows >= 0]] = False
    is_left = is_open[ranking.order]
    n_left = int(is_left.sum())
    n_random = n_uncertain = 0
    if ranking.n_marks >= AUDIT_FROM:
        n_random = min(n_left, max(1, round(RANDOM_SHARE * k)))
    if ranking.has_probability:
        n_uncertain = max(1, round(UNCERTAIN_SHARE * k))
    # The random ones are drawn first, from all, so that their share of positives is that of the survey.
    drawn = random.choice(np.flatnonzero(is_left), n_random, replace=False)
    is_left[drawn] = False
    likely = _distinct(np.flatnonzero(is_left), ranking, survey, k - n_random - n_uncertain)
    is_left[likely] = False
    uncertain = _uncertain(np.flatnonzero(is_left), ranking, n_uncertain)
    chosen = [
        *((int(place), "likely") for place in likely),
        *((int(place), "uncertain") for place in uncertain),
        *((int(place), "random") for place in drawn),
    ]
    shuffled = [chosen[number] for number in random.permutation(len(chosen))]
    return [_offer(place, strategy, ranking) for place, strategy in shuffled]


def _distinct(places: Rows, ranking: Ranking, survey: Survey, count: int) -> Rows:
    """Return the first places whose galaxies are not near-duplicates of each other."""
    chosen: list[int] = []
    vectors: list[Vectors] = []
    for place in places:
        if len(chosen) >= count:
            break
        vector = survey.vectors_of(ranking.rows(place[None]))[0]
        if not vectors or float(np.max(np.array(vectors) @ vector)) < NEAR_DUPLICATE:
            chosen.append(int(place))
            vectors.append(vector)
    return np.array(chosen, np.int64)


def _uncertain(places: Rows, ranking: Ranking, count: int) -> Rows:
    """Return the places whose probability is nearest to one half.

    Scores are log-odds and descend, so that these places are on both sides of 0.
    """
    zero = int(np.searchsorted(places, (ranking.scores > 0).sum()))
    around = places[max(zero - count, 0) : zero + count]
    scores_around = ranking.scores[ranking.order[around]]
    nearest: Rows = around[np.argsort(np.abs(scores_around), kind="stable")[:count]]
    return nearest


def _offer(place: int, strategy: str, ranking: Ranking) -> Offer:
    part = slice(place, place + 1)
    probability = ranking.probability(part)
    return Offer(
        int(ranking.rows(part)[0]), strategy, place + 1, None if probability is None else float(probability[0])
    )
