"""Choose, train and configure a FAISS index of a given kind.

`auto` is exact up to `EXACT_UP_TO` vectors. Beyond, it takes an inverted file with 4-bit product codes and re-ranks the
candidates. Of the kinds that `benchmarks/index.py` measured, it is the fastest that reaches a recall of 0.95. FAISS
cannot join packed lists, so vectors are added to plain lists, which are packed when they are joined.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import faiss
import numpy as np

from tidalkin.catalog.partition import parts_of
from tidalkin.constants import SHARDS_ADDED_TOGETHER
from tidalkin.errors import TidalkinError
from tidalkin.index.ondisk import faiss_reason, inverted_file
from tidalkin.index.vectors import Embeddings, Rows, check_unit_length
from tidalkin.seeds import generator

logger = logging.getLogger(__name__)

EXACT_UP_TO = 100_000  # vectors: 51 MB at 128 dimensions, and 30 ms a query on two busy cores
TRAINING_VECTORS_PER_LIST = 40  # FAISS warns below 39
LEAST_TRAINING_VECTORS = 50_000
LISTS_FILE = "lists.ivfdata"


def choose_kind(n: int, dimensions: int) -> str:
    """Return the index_factory string that `auto` stands for.

    Beyond `EXACT_UP_TO` vectors, this is an inverted file of about 4 sqrt(n) lists, rounded to a power of two (FAISS's
    guide advises 4 to 16 sqrt(n)), with 4-bit codes of pairs of dimensions, which are scanned in registers.

    Parameters
    ----------
    n : int
        Number of vectors.
    dimensions : int
        Length of a vector.

    Examples
    --------
    >>> choose_kind(50_000, 128)
    'Flat'
    >>> choose_kind(1_000_000, 128)
    'IVF4096,PQ64x4fs'
    """
    if n <= EXACT_UP_TO:
        return "Flat"
    lists = 2 ** round(math.log2(4 * math.sqrt(n)))
    return f"IVF{lists},PQ{dimensions // math.gcd(dimensions, 2)}x4fs"


@contextmanager
def explain_faiss_errors(kind: str) -> Iterator[None]:
    """Turn a refusal of FAISS into one sentence.

    Examples
    --------
    >>> with explain_faiss_errors("Flt"):
    ...     faiss.index_factory(8, "Flt")
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: config: index.kind 'Flt' does not work for these vectors (...): use `auto`, `Flat` or
    another string of faiss.index_factory
    """
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        reason = faiss_reason(error)
        raise TidalkinError(
            f"config: index.kind {kind!r} does not work for these vectors ({reason}): use `auto`, `Flat` or another "
            "string of faiss.index_factory"
        ) from None


@contextmanager
def _one_thread(kind: str) -> Iterator[None]:
    """Build graphs with one thread, since with several they differ from run to run."""
    threads = faiss.omp_get_max_threads()
    if "HNSW" in kind or "NSG" in kind:
        faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def empty_index(kind: str, embeddings: Embeddings) -> faiss.Index:
    """Make an index that is not trained.

    For a packed kind, it is the plain index that becomes it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/00000.npy", np.eye(32, dtype=np.float32))
    ...     np.save(f"{folder}/00000.ids.npy", np.arange(32))
    ...     index = empty_index("IVF4,Flat", Embeddings([f"{folder}/00000.npy"]))
    >>> index.d, index.is_trained
    (32, False)
    """
    plain = kind.removesuffix("fs") + "np" if _is_packed_kind(kind) else kind
    index = faiss.index_factory(embeddings.dimensions, plain, faiss.METRIC_INNER_PRODUCT)
    if _is_packed_kind(kind):
        index.by_residual = False  # type: ignore[attr-defined]  # as FAISS's own fast-scan kinds
    return index


def trained_index(kind: str, embeddings: Embeddings, seed: int) -> faiss.Index:
    """Make an empty index and train it on a sample of the vectors.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/00000.npy", np.eye(32, dtype=np.float32))
    ...     np.save(f"{folder}/00000.ids.npy", np.arange(32))
    ...     index = trained_index("IVF4,Flat", Embeddings([f"{folder}/00000.npy"]), seed=1)
    >>> index.is_trained, index.ntotal
    (True, 0)
    """
    with explain_faiss_errors(kind), _one_thread(kind):
        index = empty_index(kind, embeddings)
        if not index.is_trained:
            inverted = inverted_file(index)
            lists = inverted.nlist if inverted is not None else 0
            size = min(len(embeddings), max(LEAST_TRAINING_VECTORS, TRAINING_VECTORS_PER_LIST * lists))
            started = time.monotonic()
            index.train(embeddings.rows(draw_rows(embeddings, size, seed, "training")))
            logger.info("trained on %d vectors in %.0f s", size, time.monotonic() - started)
        return index


def add_vectors(index: faiss.Index, kind: str, files: Sequence[str | Path]) -> None:
    """Add shards to an index, eight at a time.

    The same shards are added together in one job and in many, because the rounding may depend on it. They are not
    added one by one: FAISS takes up to three times as long for 500 vectors at a time as for 4,000.

    Examples
    --------
    >>> import tempfile
    >>> index = faiss.IndexFlatIP(32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/00000.npy", np.eye(32, dtype=np.float32))
    ...     np.save(f"{folder}/00000.ids.npy", np.arange(32))
    ...     add_vectors(index, "Flat", [f"{folder}/00000.npy"])
    >>> index.ntotal
    32
    """
    with explain_faiss_errors(kind), _one_thread(kind):
        for shards in parts_of(files, SHARDS_ADDED_TOGETHER).values():
            embeddings = Embeddings(shards)
            for first, vectors in embeddings.blocks():
                check_unit_length(embeddings, first, vectors)
                index.add(vectors)


def _is_packed_kind(kind: str) -> bool:
    """Tell whether the kind has 4-bit codes that are packed for FAISS's fast scan."""
    return re.fullmatch(r"IVF\d+,PQ\d+x4fs", kind) is not None


def packed_index(index: faiss.Index, kind: str) -> faiss.Index:
    """Return the same empty index, packed if the kind is.

    It is packed before it has lists: joining packed lists corrupts memory in FAISS 1.15.

    Examples
    --------
    >>> plain = faiss.index_factory(32, "IVF4,PQ8x4np", faiss.METRIC_INNER_PRODUCT)
    >>> type(packed_index(plain, "IVF4,PQ8x4fs")).__name__
    'IndexIVFPQFastScan'
    """
    if not _is_packed_kind(kind):
        return index
    assert isinstance(index, faiss.IndexIVFPQ)
    packed = faiss.IndexIVFPQFastScan(index)
    index.own_fields, packed.own_fields = False, True  # of the centroids
    del packed.referenced_objects  # type: ignore[attr-defined]  # which would keep the plain index, too
    return packed


def _inner_index(index: faiss.Index) -> faiss.Index:
    """Return the index behind a transformation of the vectors."""
    return faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index


def get_search_depth(index: faiss.Index) -> int | None:
    """Return ``nprobe`` of an inverted file or ``efSearch`` of a graph; None for other kinds.

    Examples
    --------
    >>> index = faiss.index_factory(32, "IVF16,Flat", faiss.METRIC_INNER_PRODUCT)
    >>> get_search_depth(index), get_search_depth(faiss.IndexFlatIP(32))
    (1, None)
    """
    inner = _inner_index(index)
    if isinstance(inner, faiss.IndexIVF):
        return int(inner.nprobe)
    return int(inner.hnsw.efSearch) if isinstance(inner, faiss.IndexHNSW) else None


def largest_search_depth(index: faiss.Index) -> int:
    """Return the number of lists or nodes; 1 for other kinds.

    Examples
    --------
    >>> largest_search_depth(faiss.index_factory(32, "IVF16,Flat", faiss.METRIC_INNER_PRODUCT))
    16
    """
    inner = _inner_index(index)
    if isinstance(inner, faiss.IndexIVF):
        return int(inner.nlist)
    return int(inner.ntotal) if isinstance(inner, faiss.IndexHNSW) else 1


def set_search_depth(index: faiss.Index, search_depth: int) -> None:
    """Set ``nprobe`` of an inverted file or ``efSearch`` of a graph.

    It is written with the index.

    Examples
    --------
    >>> index = faiss.index_factory(32, "IVF16,Flat", faiss.METRIC_INNER_PRODUCT)
    >>> set_search_depth(index, 4)
    >>> index.nprobe
    4
    """
    inner = _inner_index(index)
    if isinstance(inner, faiss.IndexIVF):
        inner.nprobe = search_depth
    elif isinstance(inner, faiss.IndexHNSW):
        inner.hnsw.efSearch = search_depth


def search_parameters(index: faiss.Index, search_depth: int) -> faiss.SearchParameters:
    """Set the search depth of one query only.

    Examples
    --------
    >>> index = faiss.index_factory(32, "IVF16,Flat", faiss.METRIC_INNER_PRODUCT)
    >>> search_parameters(index, 4).nprobe, index.nprobe
    (4, 1)
    """
    inner = _inner_index(index)
    if isinstance(inner, faiss.IndexIVF):
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe = search_depth
    else:
        parameters = faiss.SearchParametersHNSW()  # type: ignore[attr-defined]
        parameters.efSearch = search_depth
    if inner is index:
        return parameters
    outer = faiss.SearchParametersPreTransform()
    outer.index_params = parameters
    return outer


def draw_rows(embeddings: Embeddings, size: int, seed: int, purpose: str) -> Rows:
    """Draw rows at random, in ascending order.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/00000.npy", np.eye(32, dtype=np.float32))
    ...     np.save(f"{folder}/00000.ids.npy", np.arange(32))
    ...     draw_rows(Embeddings([f"{folder}/00000.npy"]), 5, seed=1, purpose="tuned on")
    array([ 0,  3, 12, 13, 25])
    """
    random = generator(seed, "index", purpose)
    return np.sort(random.choice(len(embeddings), min(size, len(embeddings)), replace=False))
