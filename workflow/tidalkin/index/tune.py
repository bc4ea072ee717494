"""Tune the search parameters of an index until its recall reaches the aim."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import faiss
import numpy as np

from tidalkin import __version__, config
from tidalkin.index.faiss_kinds import draw_rows, get_search_depth, largest_search_depth, set_search_depth
from tidalkin.index.query import RERANK_STEPS, candidate_rows, inner_products, search_index, top_rows
from tidalkin.index.report import RECALL_AIM, RECALL_AT, Report
from tidalkin.index.vectors import Embeddings, Rows, Stored, embeddings_digest

logger = logging.getLogger(__name__)

TUNING_MARGIN = 0.01  # the error of recall with 200 queries
HALVINGS = 3  # of the interval between a search depth that is too small and its double, which suffices


def measure_index(
    index: faiss.Index,
    vectors: Stored,
    kind: str,
    n_rerank: int,
    index_bytes: int,
    embeddings: Embeddings,
    settings: config.Index,
    seed: int,
) -> Report:
    """Query the index, one vector at a time, and compare with exact search.

    The latency goes to the log, so that the report is the same when it is made again.

    Examples
    --------
    >>> from pathlib import Path
    >>> embeddings = Embeddings(sorted(Path("results/demo/embeddings").glob("?????.npy")))
    >>> vectors = embeddings.rows(np.arange(60))
    >>> index = faiss.IndexFlatIP(8)
    >>> index.add(vectors)
    >>> report = measure_index(index, vectors, "Flat", 0, vectors.nbytes, embeddings, config.Index(queries=5), seed=1)
    >>> report.recall_at_10, report.bytes_per_vector
    (1.0, 40.0)
    """
    rows = draw_rows(embeddings, settings.queries, seed, "asked")
    found, milliseconds = [], []
    for row, vector in zip(rows, embeddings.rows(rows), strict=True):
        started = time.perf_counter()
        found.append(search_index(index, vectors, n_rerank, vector, RECALL_AT, exclude=[row])[0])
        milliseconds.append(1000 * (time.perf_counter() - started))
    logger.info(
        "latency of a query: median %.3f ms, 99th percentile %.3f ms",
        np.percentile(milliseconds, 50),
        np.percentile(milliseconds, 99),
    )
    return Report(
        kind=kind,
        n=len(embeddings),
        dimensions=embeddings.dimensions,
        index_bytes=index_bytes,
        bytes_per_vector=round(index_bytes / len(embeddings) + 8, 2),
        n_rerank=n_rerank,
        search_depth=get_search_depth(index),
        recall_at_10=round(recall(found, exact_neighbours(embeddings, rows, RECALL_AT)), 4),
        queries=len(rows),
        shards=tuple(file.stem for file in embeddings.files),
        embeddings_digest=embeddings_digest(embeddings.files),
        config_digest=config.config_digest(settings.content(), seed),
        tidalkin_version=__version__,
    )


def exact_neighbours(embeddings: Embeddings, rows: Rows, k: int) -> list[Rows]:
    """Find the ``k`` nearest neighbours of each row by exhaustive search.

    The row itself does not count.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/00000.npy", np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float32))
    ...     np.save(f"{folder}/00000.ids.npy", np.array([7, 8, 9]))
    ...     exact_neighbours(Embeddings([f"{folder}/00000.npy"]), np.array([0, 1]), k=1)
    [array([2]), array([2])]
    """
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
    """Compute the share of the exact neighbours that were found; 1 if there are none.

    Examples
    --------
    >>> recall([np.array([1, 2]), np.array([3, 9])], [np.array([1, 2]), np.array([3, 4])])
    0.75
    """
    hits = sum(len(np.intersect1d(some, true)) for some, true in zip(found, exact, strict=True))
    possible = sum(len(true) for true in exact)
    return hits / possible if possible else 1.0


def tune_index(index: faiss.Index, vectors: Stored, embeddings: Embeddings, queries: int, seed: int) -> int:
    """Set the least search depth that reaches the aim, and return the least ``n_rerank``.

    Both are the largest possible where none reaches it. The queries differ from those of the report, which would
    otherwise measure what was fitted to them.

    Examples
    --------
    >>> from pathlib import Path
    >>> embeddings = Embeddings(sorted(Path("results/demo/embeddings").glob("?????.npy")))
    >>> vectors = embeddings.rows(np.arange(60))
    >>> index = faiss.index_factory(8, "IVF1,Flat", faiss.METRIC_INNER_PRODUCT)
    >>> index.train(vectors)
    >>> index.add(vectors)
    >>> tune_index(index, vectors, embeddings, queries=5, seed=1) == RERANK_STEPS[0], index.nprobe
    (True, 1)
    """
    rows = draw_rows(embeddings, queries, seed, "tuned on")
    asked, exact = embeddings.rows(rows), exact_neighbours(embeddings, rows, RECALL_AT)

    def enough(search_depth: int) -> int | None:
        """Return the least ``n_rerank`` that reaches the aim at this search depth, if any does."""
        set_search_depth(index, search_depth)
        found: dict[int, list[Rows]] = {n_rerank: [] for n_rerank in RERANK_STEPS}
        for row, vector in zip(rows, asked, strict=True):
            most = candidate_rows(index, vector, min(RERANK_STEPS[-1], index.ntotal), RECALL_AT + 1)
            similarity = inner_products(vectors, most, vector)
            for n_rerank in RERANK_STEPS:
                best = top_rows(most[:n_rerank], similarity[:n_rerank], RECALL_AT, exclude=[row])
                found[n_rerank].append(best[0])
        reaching = (some for some in RERANK_STEPS if recall(found[some], exact) >= RECALL_AIM + TUNING_MARGIN)
        return next(reaching, None)

    too_little = 0
    for search_depth in _powers_of_two(largest_search_depth(index)):
        if n_rerank := enough(search_depth):
            break
        too_little = search_depth
    else:
        return RERANK_STEPS[-1]
    for _ in range(HALVINGS):
        between = (too_little + search_depth) // 2
        if between == too_little:
            break
        if fewer := enough(between):
            search_depth, n_rerank = between, fewer
        else:
            too_little = between
    set_search_depth(index, search_depth)
    return n_rerank


def _powers_of_two(largest: int) -> list[int]:
    """Return 1, 2, 4, ... and ``largest`` itself."""
    return [2**power for power in range(largest.bit_length()) if 2**power < largest] + [largest]
