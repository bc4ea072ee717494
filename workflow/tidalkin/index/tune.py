"""Tune the search parameters of an index until its recall reaches the aim."""

from __future__ import annotations

import time
from collections.abc import Sequence

import faiss
import numpy as np

from tidalkin import __version__, config
from tidalkin.index.faiss_kinds import _breadth, _largest_breadth, _sample, _set_breadth
from tidalkin.index.query import CANDIDATES, _best, _candidates, _similarity, ranked
from tidalkin.index.report import RECALL_AIM, RECALL_AT, Report
from tidalkin.index.vectors import Embeddings, Rows, Stored, _digest

TUNING_MARGIN = 0.01  # the error of recall with 200 queries
HALVINGS = 3  # of the gap between a breadth that is too little and its double, which is enough


def _measured(
    index: faiss.Index,
    vectors: Stored,
    kind: str,
    candidates: int,
    index_bytes: int,
    embeddings: Embeddings,
    settings: config.Index,
    seed: int,
) -> Report:
    """Ask the index, one query at a time, and compare with exact search."""
    rows = _sample(embeddings, settings.queries, seed, "asked")
    found, milliseconds = [], []
    for row, vector in zip(rows, embeddings.rows(rows), strict=True):
        started = time.perf_counter()
        found.append(ranked(index, vectors, candidates, vector, RECALL_AT, exclude=[row])[0])
        milliseconds.append(1000 * (time.perf_counter() - started))
    return Report(
        kind=kind,
        n=len(embeddings),
        dimensions=embeddings.dimensions,
        index_bytes=index_bytes,
        bytes_per_vector=round(index_bytes / len(embeddings) + 8, 2),
        candidates=candidates,
        breadth=_breadth(index),
        recall_at_10=round(recall(found, exact_neighbours(embeddings, rows, RECALL_AT)), 4),
        queries=len(rows),
        latency_p50_ms=round(float(np.percentile(milliseconds, 50)), 3),
        latency_p99_ms=round(float(np.percentile(milliseconds, 99)), 3),
        shards=tuple(file.stem for file in embeddings.files),
        embeddings_digest=_digest(embeddings.files),
        config_digest=config.config_digest(settings.content(), seed),
        tidalkin_version=__version__,
    )


def exact_neighbours(embeddings: Embeddings, rows: Rows, k: int) -> list[Rows]:
    """Rows of the ``k`` nearest neighbours of each of ``rows`` by exhaustive search, themselves not counted."""
    queries = embeddings.rows(rows)
    similarity = np.full((len(rows), 0), -np.inf, np.float32)
    neighbours = np.zeros((len(rows), 0), np.int64)
    for first, vectors in embeddings.blocks():
        found, at = faiss.knn(queries, vectors, min(k + 1, len(vectors)), metric=faiss.METRIC_INNER_PRODUCT)
        similarity = np.concatenate([similarity, found], axis=1)
        neighbours = np.concatenate([neighbours, at + first], axis=1)
        best = np.argsort(-similarity, axis=1, kind="stable")[:, : k + 1]
        similarity = np.take_along_axis(similarity, best, axis=1)
        neighbours = np.take_along_axis(neighbours, best, axis=1)
    return [near[near != row][:k] for row, near in zip(rows, neighbours, strict=True)]


def recall(found: Sequence[Rows], exact: Sequence[Rows]) -> float:
    """Share of the exact neighbours that were found; 1 where there are none to find."""
    hits = sum(len(np.intersect1d(some, true)) for some, true in zip(found, exact, strict=True))
    possible = sum(len(true) for true in exact)
    return hits / possible if possible else 1.0


def _tune(index: faiss.Index, vectors: Stored, embeddings: Embeddings, queries: int, seed: int) -> int:
    """Set about the least breadth, and return the fewest candidates, that reach the aim; or the most there are.

    On queries of its own, so that the report's are not those it was made to fit.
    """
    rows = _sample(embeddings, queries, seed, "tuned on")
    asked, exact = embeddings.rows(rows), exact_neighbours(embeddings, rows, RECALL_AT)

    def enough(breadth: int) -> int | None:
        """The fewest candidates that reach the aim with so much breadth, if any do."""
        _set_breadth(index, breadth)
        found: dict[int, list[Rows]] = {candidates: [] for candidates in CANDIDATES}
        for row, vector in zip(rows, asked, strict=True):
            most = _candidates(index, vector, min(CANDIDATES[-1], index.ntotal), RECALL_AT + 1)
            similarity = _similarity(vectors, most, vector)
            for candidates in CANDIDATES:
                best = _best(most[:candidates], similarity[:candidates], RECALL_AT, exclude=[row])
                found[candidates].append(best[0])
        reaching = (some for some in CANDIDATES if recall(found[some], exact) >= RECALL_AIM + TUNING_MARGIN)
        return next(reaching, None)

    too_little = 0
    for breadth in _doubling(_largest_breadth(index)):
        if candidates := enough(breadth):
            break
        too_little = breadth
    else:
        return CANDIDATES[-1]
    for _ in range(HALVINGS):
        between = (too_little + breadth) // 2
        if between == too_little:
            break
        if fewer := enough(between):
            breadth, candidates = between, fewer
        else:
            too_little = between
    _set_breadth(index, breadth)
    return candidates


def _doubling(largest: int) -> list[int]:
    """1, 2, 4, ... and ``largest`` itself."""
    return [2**power for power in range(largest.bit_length()) if 2**power < largest] + [largest]
