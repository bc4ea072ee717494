"""Measure how many positive galaxies a person finds: ``python benchmarks/active_search.py results/demo active.png``.

A run whose catalog has labels is judged by its own labels, twenty galaxies at a time, by several strategies. The
prevalence is changed by leaving galaxies out. The tables have the positive galaxies found, averaged over the seeds, and
the aims. The picture has the curves. ``--example`` and ``--start`` limit what is done.

The strategies:

- *random*: any order.
- *prior*: the order of the debris score.
- *one example*: the look-alikes of the example, in the order of a search.
- *set*: a search by all positive galaxies so far.
- *greedy probe*: the first galaxies of the explorer's ranking.
- *uncertain*: the galaxies whose probability is nearest to one half.
- *explorer*: what the explorer offers.
- *GP-EI*: a Gaussian process with expected improvement, with the kernel, the trade-off and the scores of 0 and 5 of
  Astronomaly's Protege (Lochner & Bassett 2021; Lochner & Rudnick 2025). Its first twenty are those of the prior.
- *ceiling*: a probe on all labels but those of the galaxy's own tenth.
- *perfect*: every galaxy that is looked at is positive.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
import typer
from scipy.special import ndtr
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern, WhiteKernel

from tidalkin.config import Search
from tidalkin.explorer.labels import Verdict
from tidalkin.explorer.rank import Ranker, Ranking, offers
from tidalkin.explorer.survey import Survey
from tidalkin.search.direction import direction
from tidalkin.search.probe import fit_probe

PREVALENCES = (0.26, 0.06, 0.01)
BATCH = 20
MOST_JUDGED = 500
REPORTED = (50, 100, 200, 500)
FOLDS = 10
VISIBLE = 26.0
"""Surface brightness, mag/arcsec², to which a feature is visible."""
TRADEOFF, HIGHEST_SCORE = 0.5, 5.0
"""Of Protege."""
COLOURS = {"explorer": "C3", "GP-EI": "C0", "prior": "C1", "random": "0.6", "ceiling": "0.3", "perfect": "0.8"}

Rows = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]


@dataclass
class Session:
    """One person's search of a part of the run."""

    survey: Survey
    ranker: Ranker
    pool: Rows
    """Catalog rows of the galaxies that can be offered."""
    is_positive: Booleans
    """Of every row of the catalog."""
    example: int | None
    random: np.random.Generator
    judged: list[int] = field(default_factory=list)

    @property
    def known(self) -> Rows:
        """The rows whose label is known: the example and those judged."""
        return np.array([*([] if self.example is None else [self.example]), *self.judged], np.int64)

    @property
    def positives(self) -> Rows:
        """The known rows that are positive."""
        return self.known[self.is_positive[self.known]]

    @property
    def negatives(self) -> Rows:
        """The known rows that are not."""
        return self.known[~self.is_positive[self.known]]

    def left(self, rows: Rows) -> Rows:
        """Return those of some rows that can still be offered, in their order."""
        return rows[np.isin(rows, self.pool) & ~np.isin(rows, self.known)]

    def ranking(self) -> Ranking:
        """Rank the run as the explorer does."""
        known = self.known.tolist()
        verdicts = [Verdict(int(self.survey.ids[row]), "", bool(self.is_positive[row]), False, ()) for row in known]
        return self.ranker.rank(verdicts)


def randomly(session: Session) -> Rows:
    """Offer any galaxies."""
    return session.random.permutation(session.left(session.pool))


def by_prior(session: Session) -> Rows:
    """Offer the galaxies of the highest debris score."""
    return session.left(session.survey.by_score)


def by_example(session: Session) -> Rows:
    """Offer the look-alikes of the example."""
    return _alike(session, np.array([session.example], np.int64), np.zeros(0, np.int64))


def by_set(session: Session) -> Rows:
    """Offer the look-alikes of the positive galaxies, unlike the others."""
    if not len(session.positives):
        return by_prior(session)
    return _alike(session, session.positives, session.negatives)


def _alike(session: Session, like: Rows, unlike: Rows) -> Rows:
    survey = session.survey
    towards = direction(survey.vectors_of(like), survey.vectors_of(unlike), Search().debris_weight)
    similarity = np.asarray(survey.index.vectors, np.float32) @ towards
    return session.left(survey.catalog_rows[np.argsort(-similarity, kind="stable")])


def greedily(session: Session) -> Rows:
    """Offer the first galaxies of the ranking."""
    return session.left(session.ranking().rows())


def uncertainly(session: Session) -> Rows:
    """Offer the galaxies whose probability is nearest to one half."""
    ranking = session.ranking()
    probability = ranking.probability()
    if probability is None:
        return session.left(ranking.rows())
    return session.left(ranking.rows()[np.argsort(np.abs(probability - 0.5), kind="stable")])


def as_explorer(session: Session) -> Rows:
    """Offer what the explorer offers."""
    hidden = np.setdiff1d(np.arange(len(session.survey.ids)), session.left(session.pool))
    seed = int(session.random.integers(2**31))
    return np.array([one.row for one in offers(session.ranking(), hidden, session.survey, BATCH, seed)], np.int64)


def by_gaussian_process(session: Session) -> Rows:
    """Offer the galaxies of the highest expected improvement, as Protege does."""
    if not session.judged:
        return by_prior(session)
    left = session.left(session.pool)
    scores = HIGHEST_SCORE * session.is_positive[session.known]
    process = GaussianProcessRegressor(kernel=Matern() + WhiteKernel())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(session.survey.vectors_of(session.known), scores)
    mean, deviation = process.predict(session.survey.vectors_of(left), return_std=True)
    above = mean - scores.max() - TRADEOFF
    gain = above * ndtr(above / deviation) + deviation * norm.pdf(above / deviation)
    return left[np.argsort(-gain, kind="stable")]


STRATEGIES: dict[str, Callable[[Session], Rows]] = {
    "random": randomly,
    "prior": by_prior,
    "one example": by_example,
    "set": by_set,
    "greedy probe": greedily,
    "uncertain": uncertainly,
    "explorer": as_explorer,
    "GP-EI": by_gaussian_process,
}


def judge(session: Session, strategy: Callable[[Session], Rows]) -> Rows:
    """Judge what a strategy offers, and return the rows in the order of judgement."""
    most = min(MOST_JUDGED, len(session.pool))
    while len(session.judged) < most:
        offered = strategy(session)[: min(BATCH, most - len(session.judged))]
        session.judged.extend(offered.tolist())
    return np.array(session.judged, np.int64)


def ceiling(session: Session) -> Rows:
    """Order the pool by probes that know all labels but those of each tenth."""
    survey, fold = session.survey, session.random.integers(FOLDS, size=len(session.pool))
    scores = np.empty(len(session.pool), np.float32)
    for number in range(FOLDS):
        known = session.pool[fold != number]
        positive, negative = (
            survey.vectors_of(known[kind]) for kind in (session.is_positive[known], ~session.is_positive[known])
        )
        probe = fit_probe(positive, negative, has_debris_score=survey.has_scores)
        # A tenth is comparable with another by the log-odds, which every probe has.
        scores[fold == number] = probe.score(survey.vectors_of(session.pool[fold == number]))
    return session.pool[np.argsort(-scores, kind="stable")]


def part_of(rows: Rows, is_positive: Booleans, prevalence: float, random: np.random.Generator) -> Rows:
    """Leave out as few galaxies as possible for a prevalence."""
    positive, negative = rows[is_positive[rows]], rows[~is_positive[rows]]
    n_positive = min(len(positive), round(len(negative) * prevalence / (1 - prevalence)))
    n_negative = min(len(negative), round(n_positive * (1 - prevalence) / prevalence))
    kept = [random.choice(kind, n, replace=False) for kind, n in ((positive, n_positive), (negative, n_negative))]
    return np.sort(np.concatenate(kept))


@dataclass(frozen=True)
class Result:
    """The order of judgement of one strategy, and how much there was to find."""

    prevalence: float
    start: str
    strategy: str
    seed: int
    n_galaxies: int
    found: npt.NDArray[np.int64]
    """Positives among the first 1, 2, ... judged."""
    visible: float
    """Share of the visible positives among the first 20 % of the galaxies."""


def sessions(
    survey: Survey, brightness: npt.NDArray[np.float64], prevalence: float, seeds: int, starts: list[str]
) -> list[Result]:
    """Judge with every strategy, start and seed."""
    ranker = Ranker(survey)
    is_positive = np.array([label not in ("", "none") for label in survey.labels])
    rows = np.sort(survey.catalog_rows)
    results = []
    for seed in range(seeds):
        random = np.random.default_rng([seed, round(1000 * prevalence)])
        part = part_of(rows, is_positive, prevalence, random)
        visible = part[is_positive[part] & (brightness[part] <= VISIBLE)]
        example = int(random.choice(visible))
        for start in starts:
            chosen = example if start == "example" else None
            pool = part[part != chosen]
            seen = visible[visible != chosen]

            def result(
                name: str, order: Rows, pool: Rows = pool, seen: Rows = seen, start: str = start, seed: int = seed
            ) -> None:
                looked_at = order[: round(0.2 * len(pool))]
                found = np.cumsum(is_positive[order])[:MOST_JUDGED]
                share = float(np.isin(seen, looked_at).mean()) if len(seen) else np.nan
                results.append(Result(prevalence, start, name, seed, len(pool), found, share))

            def session(pool: Rows = pool, chosen: int | None = chosen, seed: int = seed) -> Session:
                return Session(survey, ranker, pool, is_positive, chosen, np.random.default_rng(seed))

            for name, strategy in STRATEGIES.items():
                if name != "one example" or chosen is not None:
                    result(name, judge(session(), strategy))
            result("ceiling", ceiling(session()))
            result("perfect", pool[np.argsort(~is_positive[pool], kind="stable")])
        print(f"prevalence {prevalence:.2f}, seed {seed}", file=sys.stderr, flush=True)
    return results


def table(results: list[Result]) -> pd.DataFrame:
    """Average the positives found over the seeds."""
    rows = [
        {
            "prevalence": f"{100 * one.prevalence:.0f} %",
            "start": one.start,
            "strategy": one.strategy,
            **{str(n): one.found[min(n, len(one.found)) - 1] for n in REPORTED},
            "visible": one.visible,
        }
        for one in results
    ]
    return pd.DataFrame(rows).groupby(["prevalence", "start", "strategy"], sort=False).mean().reset_index()


def show(results: list[Result]) -> None:
    """Print a table of each prevalence and start."""
    for (prevalence, origin), part in table(results).groupby(["prevalence", "start"], sort=False):
        print(f"\n{prevalence} positive, start from the {origin}\n")
        print(part.drop(columns=["prevalence", "start"]).to_string(index=False, float_format="%.2f"), flush=True)


def curves(results: list[Result], prevalence: float, start: str) -> dict[str, npt.NDArray[np.float64]]:
    """Return the mean number found among the first judged, of each strategy."""
    chosen = [one for one in results if one.prevalence == prevalence and one.start == start]
    names = list(dict.fromkeys(one.strategy for one in chosen))
    return {name: np.mean([one.found for one in chosen if one.strategy == name], axis=0) for name in names}


def aims(results: list[Result]) -> list[str]:
    """Compare the explorer with the aims."""
    lines = []
    shares = table(results).set_index(["prevalence", "start", "strategy"])["visible"]
    for prevalence, start in dict.fromkeys((one.prevalence, one.start) for one in results):
        found = curves(results, prevalence, start)
        ours = found["explorer"]
        steps = np.arange(BATCH, len(ours) + 1, BATCH) - 1
        lines.append(
            f"| {100 * prevalence:.0f} % | {start} "
            f"| {(ours - found['prior'])[steps].min():+.1f} | {(ours - found['GP-EI'])[steps].min():+.1f} "
            f"| {ours[199] / found['ceiling'][199]:.2f} | {ours[199] / found['random'][199]:.1f} "
            f"| {shares[f'{100 * prevalence:.0f} %', start, 'explorer']:.2f} |"
        )
    return lines


def draw(results: list[Result], picture: Path) -> None:
    """Draw the curves of each prevalence and start."""
    starts = list(dict.fromkeys(one.start for one in results))
    figure, axes = plt.subplots(
        len(starts), len(PREVALENCES), figsize=(11, 3.4 * len(starts)), squeeze=False, layout="constrained"
    )
    for across, start in enumerate(starts):
        for along, prevalence in enumerate(PREVALENCES):
            axis = axes[across, along]
            found = curves(results, prevalence, start)
            for name, colour in COLOURS.items():
                dashed = "--" if name in ("ceiling", "perfect") else "-"
                axis.plot(np.arange(1, len(found[name]) + 1), found[name], dashed, color=colour, label=name)
            axis.set_ylim(0, 1.1 * found["ceiling"][-1])
            origin = "the debris score" if start == "prior" else "one example"
            axis.set_title(f"{100 * prevalence:.0f} % positive, from {origin}", fontsize=10)
            axis.set_xlabel("galaxies judged")
            axis.set_ylabel("positive galaxies found")
    axes[0, 0].legend(fontsize=8)
    figure.savefig(picture, dpi=110)


def main(
    run: Annotated[Path, typer.Argument(help="A finished run whose catalog has labels.")],
    picture: Annotated[Path, typer.Argument(help="The picture to write.")],
    brightness: Annotated[str, typer.Option(help="Column of the surface brightness.")] = "tidal_surface_brightness",
    seeds: int = 10,
    start: Annotated[list[str], typer.Option(help="prior, example or both.")] = ["prior", "example"],  # noqa: B006
) -> None:
    """Measure a run."""
    survey = Survey(run)
    magnitudes = survey.column(brightness).astype(np.float64)
    results = []
    for prevalence in PREVALENCES:
        part = sessions(survey, magnitudes, prevalence, seeds, start)
        show(part)
        results += part
    print(
        "\n| prevalence | start | worst against prior | against GP-EI | of ceiling at 200 | of random | visible |\n"
        + "|---" * 7
        + "|"
    )
    print("\n".join(aims(results)))
    draw(results, picture)


if __name__ == "__main__":
    typer.run(main)
