"""Open an index and query it.

The index holds codes of the vectors. Its best candidates are re-ranked by the exact inner product, so similarities are
exact for every kind of index.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from tidalkin.config import LEAST_OBJECT_ID, MOST_OBJECT_ID
from tidalkin.errors import TidalkinError
from tidalkin.index.faiss_kinds import (
    LISTS_FILE,
    get_search_depth,
    largest_search_depth,
    search_parameters,
)
from tidalkin.index.ondisk import faiss_reason, map_lists
from tidalkin.index.report import REBUILD_HINT, Report, read_report
from tidalkin.index.vectors import Rows, Stored, Vectors, embeddings_digest, load_array

RERANK_STEPS = (100, 300, 1000)  # candidates re-ranked per query: the fewest that reach the aim
QUERY_DEPTH_FACTOR = 8
"""Factor on the tuned search depth for user queries.

These re-weight the dimensions, so that the true neighbours lie in more lists.
"""
QUERY_RERANK_PER_RESULT = 40  # least number of candidates re-ranked for each result of a user query


def search_index(
    index: faiss.Index,
    vectors: Stored,
    n_rerank: int,
    vector: Vectors,
    k: int,
    exclude: Sequence[int] = (),
    search_depth: int | None = None,
) -> tuple[Rows, Vectors]:
    """Find the rows most similar to one vector.

    Parameters
    ----------
    index : faiss.Index
        The index.
    vectors : (row, dimension) float32 or float16
        The vectors it was built from.
    n_rerank : int
        Candidates of the index to re-rank by exact similarity; 0 trusts the index.
    vector : (dimension,) float32
        The query; of length 1, if similarities are to be cosines.
    k : int
        Number of rows.
    exclude : sequence of int
        Rows to leave out.
    search_depth : int, optional
        ``nprobe`` of an inverted file or ``efSearch`` of a graph for this query; by default the tuned value.

    Returns
    -------
    rows, similarities : (k,) int64, (k,) float32
        Most similar first, equal ones by row; fewer than ``k`` only where the index has fewer.

    Examples
    --------
    >>> index, vectors = faiss.IndexFlatIP(2), np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float32)
    >>> index.add(vectors)
    >>> search_index(index, vectors, n_rerank=0, vector=vectors[0], k=2, exclude=[0])
    (array([2, 1]), array([0.6, 0. ], dtype=float32))
    """
    wanted = min(k + len(exclude), index.ntotal)
    rows = candidate_rows(index, vector, min(max(n_rerank, wanted), index.ntotal), wanted, search_depth)
    return top_rows(rows, inner_products(vectors, rows, vector), k, exclude)


def inner_products(vectors: Stored, rows: Rows, vector: Vectors) -> Vectors:
    """Compute the exact inner products of some rows with a vector.

    Examples
    --------
    >>> vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float16)
    >>> inner_products(vectors, np.array([0, 2]), np.array([1.0, 0.0], np.float32))
    array([1.        , 0.60009766], dtype=float32)
    """
    similarity: Vectors = vectors[rows].astype(np.float32, copy=False) @ vector
    return similarity


def top_rows(rows: Rows, similarity: Vectors, k: int, exclude: Sequence[int]) -> tuple[Rows, Vectors]:
    """Return the ``k`` most similar rows, equal ones by row, without the excluded ones.

    Examples
    --------
    >>> rows, similarity = np.array([4, 2, 9]), np.array([0.5, 0.5, 0.9], np.float32)
    >>> top_rows(rows, similarity, 2, exclude=[])
    (array([9, 2]), array([0.9, 0.5], dtype=float32))
    >>> top_rows(rows, similarity, 2, exclude=[9])
    (array([2, 4]), array([0.5, 0.5], dtype=float32))
    """
    allowed = ~np.isin(rows, exclude)
    rows, similarity = rows[allowed], similarity[allowed]
    best = np.lexsort((rows, -similarity))[:k]
    return rows[best], similarity[best]


def candidate_rows(
    index: faiss.Index, vector: Vectors, count: int, wanted: int, search_depth: int | None = None
) -> Rows:
    """Return the best ``count`` rows of the index.

    The search depth is doubled while there are fewer than ``wanted``.

    Examples
    --------
    >>> index = faiss.IndexFlatIP(2)
    >>> index.add(np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float32))
    >>> candidate_rows(index, np.array([1.0, 0.0], np.float32), count=2, wanted=2)
    array([0, 2])
    """
    query, largest = vector[None, :], largest_search_depth(index)
    depth = min(search_depth or get_search_depth(index) or 1, largest)
    parameters = search_parameters(index, depth) if search_depth and largest > 1 else None
    rows: Rows = index.search(query, count, params=parameters)[1][0]
    while (rows >= 0).sum() < wanted and depth < largest:
        depth = min(2 * depth, largest)
        rows = index.search(query, count, params=search_parameters(index, depth))[1][0]
    return rows[rows >= 0]


@dataclass(frozen=True)
class OpenIndex:
    """An index with its object ids, its vectors and its report."""

    index: faiss.Index
    ids: npt.NDArray[np.int64]
    """(row,) object ids."""
    vectors: Stored
    """(row, dimension), mapped."""
    scattered: Stored
    """The same, mapped so that a row is read without its neighbours."""
    report: Report

    def rows_of(self, object_ids: Sequence[int]) -> dict[int, int]:
        """Return the row of each object that has one."""
        possible = [number for number in object_ids if LEAST_OBJECT_ID <= number <= MOST_OBJECT_ID]
        rows = np.flatnonzero(np.isin(self.ids, np.array(possible, np.int64)))
        return dict(zip(self.ids[rows].tolist(), rows.tolist(), strict=True))

    def nearest(self, vector: Vectors, k: int, exclude: Sequence[int] = ()) -> tuple[Rows, Vectors]:
        """Find the ``k`` nearest neighbours of one of the vectors, with the tuned parameters.

        Returns rows and similarities, as `search_index` does.
        """
        return search_index(self.index, self.scattered, self.report.n_rerank, vector, k, exclude)

    def most_similar(self, direction: Vectors, k: int, exclude: Sequence[int] = ()) -> tuple[Rows, Vectors]:
        """Find the ``k`` objects most similar to any direction; slower than `nearest`.

        Returns rows and similarities, as `search_index` does.
        """
        n_rerank = self.report.n_rerank and max(self.report.n_rerank, QUERY_RERANK_PER_RESULT * k)
        search_depth = self.report.search_depth and QUERY_DEPTH_FACTOR * self.report.search_depth
        return search_index(self.index, self.scattered, n_rerank, direction, k, exclude, search_depth)


def open_index(directory: str | Path, embeddings_directory: str | Path) -> OpenIndex:
    """Open an index with the embeddings it was built from.

    Neither is read into memory.

    Parameters
    ----------
    directory : path
        What `build_index` wrote.
    embeddings_directory : path
        The folder of the shards that it was built from. Only the first and the last are compared.

    Raises
    ------
    TidalkinError
        If there is no index, it is damaged, or it was built from other embeddings.

    Examples
    --------
    >>> open_index("no_such_run/index", "no_such_run/embeddings")
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: no_such_run/index: no index is here: build one with `snakemake --until index`
    """
    directory = Path(directory)
    report = read_report(directory)
    files = [Path(embeddings_directory) / f"{shard}.npy" for shard in report.shards]
    if embeddings_digest(files) != report.embeddings_digest:
        raise TidalkinError(f"{directory}: was not built from the embeddings in {embeddings_directory}: {REBUILD_HINT}")
    index = _map_index(directory)
    ids = load_array(directory / "ids.npy", REBUILD_HINT).astype(np.int64, copy=False)
    vectors = load_array(directory / "vectors.npy", REBUILD_HINT)
    if not len(vectors) == index.ntotal == len(ids):
        raise TidalkinError(
            f"{directory}: index.faiss has {index.ntotal} vectors, ids.npy {len(ids)} and vectors.npy {len(vectors)}: "
            f"{REBUILD_HINT}"
        )
    return OpenIndex(index, ids, vectors, _scattered(directory / "vectors.npy"), report)


def _scattered(file: Path) -> Stored:
    """Map vectors of which single rows are read.

    Re-ranking reads some hundred rows all over the file. By default, the system reads 128 kB around each of them, and
    the first search among ten million galaxies waits for that.
    """
    vectors = load_array(file, REBUILD_HINT)
    mapping = vectors.base
    if isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
        mapping.madvise(mmap.MADV_RANDOM)
    return vectors


def _map_index(directory: Path) -> faiss.Index:
    """Open an index with its vectors or lists mapped."""
    lists = directory / LISTS_FILE
    if not lists.exists():
        raise TidalkinError(f"{lists}: is missing: {REBUILD_HINT}")
    if lists.stat().st_size == 0:
        return read_faiss_index(directory / "index.faiss", faiss.IO_FLAG_MMAP_IFC)
    index = read_faiss_index(directory / "index.faiss", faiss.IO_FLAG_SKIP_IVF_DATA | faiss.IO_FLAG_READ_ONLY)
    try:
        map_lists(index, lists)
    except ValueError as error:
        raise TidalkinError(f"{lists}: does not belong to index.faiss ({error}): {REBUILD_HINT}") from None
    return index


def read_faiss_index(path: Path, flags: int = 0) -> faiss.Index:
    """Read an index file; refuse a damaged one in a sentence.

    Examples
    --------
    >>> read_faiss_index(Path("no_such_run/index.faiss"))
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: no_such_run/index.faiss: cannot be read (...): build the index again with
    `snakemake --forcerun index`
    """
    try:
        return faiss.read_index(str(path), flags)
    except RuntimeError as error:
        raise TidalkinError(f"{path}: cannot be read ({faiss_reason(error)}): {REBUILD_HINT}") from None
