"""Open an index and query it.

The index holds codes of the vectors. Its best candidates are re-ranked by the exact inner product, so similarities are
exact for every kind of index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from tidalkin.errors import TidalkinError
from tidalkin.index.faiss_kinds import LISTS, MEND, _breadth, _largest_breadth, _parameters
from tidalkin.index.ondisk import map_lists
from tidalkin.index.report import Report, read_report
from tidalkin.index.vectors import Rows, Stored, Vectors, _digest, _load

CANDIDATES = (100, 300, 1000)  # ranked again per query: the fewest that reach the aim
QUESTION_BREADTH = 8
"""Times the breadth that was tuned: a question weighs the dimensions anew, so that its answers lie farther from it, and
in more lists, than the neighbours of a vector."""
QUESTION_CANDIDATES = 40  # ranked again for each of a question's answers, at least


def ranked(
    index: faiss.Index,
    vectors: Stored,
    candidates: int,
    vector: Vectors,
    k: int,
    exclude: Sequence[int] = (),
    breadth: int | None = None,
) -> tuple[Rows, Vectors]:
    """The rows most similar to one vector.

    Parameters
    ----------
    index : faiss.Index
        The index.
    vectors : (row, dimension) float32 or float16
        The vectors it was built from.
    candidates : int
        How many of the index's answers are ranked again by exact similarity; 0 trusts the index.
    vector : (dimension,) float32
        The query; of length 1, if similarities are to be cosines.
    k : int
        How many rows.
    exclude : sequence of int
        Rows that are no answers.
    breadth : int, optional
        Lists or nodes to look into; none: as many as the index was tuned to.

    Returns
    -------
    rows, similarities : (k,) int64, (k,) float32
        Most similar first, equal ones by row; fewer than ``k`` only where the index has fewer.
    """
    wanted = min(k + len(exclude), index.ntotal)
    rows = _candidates(index, vector, min(max(candidates, wanted), index.ntotal), wanted, breadth)
    return _best(rows, _similarity(vectors, rows, vector), k, exclude)


def _similarity(vectors: Stored, rows: Rows, vector: Vectors) -> Vectors:
    """Exact inner products of some rows with a vector."""
    similarity: Vectors = vectors[rows].astype(np.float32, copy=False) @ vector
    return similarity


def _best(rows: Rows, similarity: Vectors, k: int, exclude: Sequence[int]) -> tuple[Rows, Vectors]:
    """The ``k`` most similar rows, equal ones by row, without those that are no answers."""
    allowed = ~np.isin(rows, exclude)
    rows, similarity = rows[allowed], similarity[allowed]
    best = np.lexsort((rows, -similarity))[:k]
    return rows[best], similarity[best]


def _candidates(index: faiss.Index, vector: Vectors, count: int, wanted: int, breadth: int | None = None) -> Rows:
    """The index's best ``count`` rows; it looks into more lists or nodes where it finds fewer than ``wanted``."""
    query, largest = vector[None, :], _largest_breadth(index)
    looked_into = min(breadth or _breadth(index) or 1, largest)
    parameters = _parameters(index, looked_into) if breadth and largest > 1 else None
    rows: Rows = index.search(query, count, params=parameters)[1][0]
    while (rows >= 0).sum() < wanted and looked_into < largest:
        looked_into = min(2 * looked_into, largest)
        rows = index.search(query, count, params=_parameters(index, looked_into))[1][0]
    return rows[rows >= 0]


@dataclass(frozen=True)
class OpenIndex:
    """An index with what belongs to it."""

    index: faiss.Index
    ids: npt.NDArray[np.int64]
    """(row,) object ids."""
    vectors: Stored
    """(row, dimension), mapped."""
    report: Report

    def rows_of(self, object_ids: Sequence[int]) -> dict[int, int]:
        """Row of each object that has one."""
        rows = np.flatnonzero(np.isin(self.ids, np.asarray(object_ids, np.int64)))
        return dict(zip(self.ids[rows].tolist(), rows.tolist(), strict=True))

    def nearest(self, vector: Vectors, k: int, exclude: Sequence[int] = ()) -> tuple[Rows, Vectors]:
        """Rows and similarities of the ``k`` nearest neighbours of one of the vectors, as the index was tuned to find.

        See `ranked`.
        """
        return ranked(self.index, self.vectors, self.report.candidates, vector, k, exclude)

    def most_similar(self, direction: Vectors, k: int, exclude: Sequence[int] = ()) -> tuple[Rows, Vectors]:
        """Rows and similarities of the ``k`` objects that lie most in some direction; it takes longer than `nearest`.

        See `ranked`.
        """
        candidates = self.report.candidates and max(self.report.candidates, QUESTION_CANDIDATES * k)
        breadth = self.report.breadth and QUESTION_BREADTH * self.report.breadth
        return ranked(self.index, self.vectors, candidates, direction, k, exclude, breadth)


def open_index(directory: str | Path, embeddings_directory: str | Path) -> OpenIndex:
    """Open an index with the embeddings it was built from; neither is read into memory.

    Parameters
    ----------
    directory : path
        What `build_index` wrote.
    embeddings_directory : path
        The folder of the shards that it was built from; of them, the first and the last are looked at.

    Raises
    ------
    TidalkinError
        If there is no index, it is damaged, or it was built from other embeddings.
    """
    directory = Path(directory)
    report = read_report(directory)
    if _digest([Path(embeddings_directory) / f"{shard}.npy" for shard in report.shards]) != report.embeddings_digest:
        raise TidalkinError(f"{directory}: was not built from the embeddings in {embeddings_directory}: {MEND}")
    index = _mapped(directory)
    ids = _load(directory / "ids.npy", MEND).astype(np.int64, copy=False)
    vectors = _load(directory / "vectors.npy", MEND)
    if not len(vectors) == index.ntotal == len(ids):
        raise TidalkinError(
            f"{directory}: index.faiss has {index.ntotal} vectors, ids.npy {len(ids)} and vectors.npy {len(vectors)}: "
            f"{MEND}"
        )
    return OpenIndex(index, ids, vectors, report)


def _mapped(directory: Path) -> faiss.Index:
    """An index whose vectors or lists are mapped."""
    lists = directory / LISTS
    if not lists.exists():
        raise TidalkinError(f"{lists}: is missing: {MEND}")
    if lists.stat().st_size == 0:
        return _read(directory / "index.faiss", faiss.IO_FLAG_MMAP_IFC)
    index = _read(directory / "index.faiss", faiss.IO_FLAG_SKIP_IVF_DATA | faiss.IO_FLAG_READ_ONLY)
    try:
        map_lists(index, lists)
    except ValueError as error:
        raise TidalkinError(f"{lists}: does not belong to index.faiss ({error}): {MEND}") from None
    return index


def _read(path: Path, flags: int = 0) -> faiss.Index:
    try:
        return faiss.read_index(str(path), flags)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].split("Error: ")[-1]
        raise TidalkinError(f"{path}: cannot be read ({reason}): {MEND}") from None
