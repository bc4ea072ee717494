"""Requests for a list of galaxies, each fully described by its address, and their answers."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from tidalkin import config
from tidalkin.config.explorer import DISAGREEMENT
from tidalkin.errors import TidalkinError
from tidalkin.explorer.chart import Chart
from tidalkin.explorer.labels import Verdict
from tidalkin.explorer.rank import Ranker
from tidalkin.explorer.survey import Survey
from tidalkin.index.vectors import Rows, Vectors

MOST_ROWS = 10_000
LOST_UPLOAD = "the uploaded image is no longer here, since the explorer was restarted: upload it again"
DEFAULTS = config.Search()
ObjectId = Annotated[int, Field(ge=config.LEAST_OBJECT_ID, le=config.MOST_OBJECT_ID)]


class Ask(BaseModel):
    """A request for galaxies; the page's address and the export share it."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    start: Literal["ranking", "random", "unusual", "similar", "rank", "labels", "lasso"] = "ranking"
    like: tuple[ObjectId, ...] = ()
    unlike: tuple[ObjectId, ...] = ()
    upload: tuple[str, ...] = ()
    debris_weight: float = Field(DEFAULTS.debris_weight, ge=0, le=1e6)
    k: int = Field(48, ge=1, le=MOST_ROWS)
    offset: int = Field(0, ge=0)
    seed: int = Field(1, ge=0, le=2**31 - 1)
    label: str = ""
    polygon: tuple[float, ...] = ()

    def for_export(self) -> Ask:
        """Return the request for a file.

        A selection and the judged galaxies are exported whole, not the part on the page.
        """
        if self.start not in ("lasso", "labels"):
            return self
        return self.model_copy(update={"offset": 0, "k": sys.maxsize})


@dataclass(frozen=True)
class Found:
    """The galaxies that answer a request."""

    rows: Rows
    """Catalog rows, in order."""
    total: int
    """Galaxies of which these are a part."""
    similarity: npt.NDArray[np.float32] | None = None
    probability: npt.NDArray[np.float32] | None = None


def answer(
    ask: Ask,
    survey: Survey,
    ranker: Ranker,
    chart: Chart,
    judged: Sequence[Verdict],
    uploads: Mapping[str, Vectors],
) -> Found:
    """Find the galaxies of a request.

    Parameters
    ----------
    ask : Ask
        The request.
    survey : Survey
        The run.
    ranker : Ranker
        Ranks the run from ``judged``.
    chart : Chart
        The map of the run.
    judged : sequence of Verdict
        All verdicts.
    uploads : mapping of str to (dimension,) float32
        The vectors of uploaded images, by digest.

    Raises
    ------
    TidalkinError
        If an object or an upload is unknown, or the run lacks what is asked for.

    Examples
    --------
    >>> survey = Survey("results/demo")
    >>> request = Ask(start="similar", like=(42,), k=5)
    >>> found = answer(request, survey, Ranker(survey), Chart(survey), judged=[], uploads={})
    >>> len(found.rows), found.total
    (5, 60)
    """
    if ask.start == "similar":
        return _similar(ask, survey, uploads)
    if ask.start == "random":
        return Found(survey.random(ask.seed, ask.k), len(survey.index.ids))
    part = slice(ask.offset, ask.offset + ask.k)
    if ask.start == "rank":
        ranking = ranker.rank(judged)
        return Found(ranking.rows(part), len(ranking), probability=ranking.probability(part))
    rows = chart.inside(ask.polygon) if ask.start == "lasso" else _all_rows(ask, survey, judged)
    return Found(rows[part], len(rows))


def _all_rows(ask: Ask, survey: Survey, judged: Sequence[Verdict]) -> Rows:
    """Return every row of a list that is cut into pages."""
    if ask.start == "unusual":
        return survey.by_unusualness
    if ask.start == "labels":
        return _labelled(ask.label, survey, judged)
    if ask.start == "ranking" and survey.has_scores:
        return survey.by_score
    return np.arange(len(survey.ids))


def _similar(ask: Ask, survey: Survey, uploads: Mapping[str, Vectors]) -> Found:
    both = set(ask.like) & set(ask.unlike)
    if both:
        raise TidalkinError(f"object {min(both)} is both an example and a counter-example: keep one of the two")
    if not (ask.like or ask.upload):
        raise TidalkinError("a search needs an example: name an object_id")
    unknown = [digest for digest in ask.upload if digest not in uploads]
    if unknown:
        raise TidalkinError(LOST_UPLOAD)
    like, unlike = (survey.rows_of(np.array(ids, np.int64)) for ids in (ask.like, ask.unlike))
    outside = [uploads[digest] for digest in ask.upload]
    rows, similarity = survey.similar(like, unlike, outside, ask.k, ask.debris_weight)
    return Found(rows, len(survey.index.ids), similarity)


def _labelled(label: str, survey: Survey, judged: Sequence[Verdict]) -> Rows:
    """Return the judged galaxies: all, those of one label, or those in dispute."""
    chosen = [
        verdict.object_id
        for verdict in judged
        if not label or (verdict.disagreement if label == DISAGREEMENT else verdict.label == label)
    ]
    return survey.rows_of(np.array(chosen, np.int64))
