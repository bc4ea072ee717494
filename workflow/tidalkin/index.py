"""The FAISS index over all vectors: how it is built, checked against exact search, opened and asked.

The index holds codes of the vectors. Its best candidates are ranked again by the exact inner product with the vectors,
so that similarities are exact for every kind of index. The vectors for that are joined to one file, which is mapped: a
thousand candidates lie in almost as many shards, and opening those takes a hundred times as long as finding them.
Building reads the shards in blocks and never holds all vectors at once, unless the index itself does (`Flat`); the
lists of an inverted file are joined on disk and stay there (`tidalkin.inverted_lists`).

One job builds an index with `build_index`. Many build the same one, byte for byte, with `train_index`, `add_shards` for
the shards of each part and `merge_parts`.

`auto` is exact up to `EXACT_UP_TO` vectors. Beyond, it takes an inverted file with 4-bit product codes, ranked again:
of what `benchmarks/index.py` measured, the fastest that reaches a recall of 0.95; docs/index.md has the table. FAISS
cannot join such packed lists: vectors are added to plain ones, which are packed when they are joined.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from tidalkin import __version__, config
from tidalkin.errors import TidalkinError
from tidalkin.files import written_whole
from tidalkin.inverted_lists import can_be_joined, inverted_file, map_lists, write_index, write_lists
from tidalkin.partition import SHARDS_ADDED_TOGETHER, parts_of
from tidalkin.randomness import generator

EXACT_UP_TO = 100_000  # vectors: 51 MB at 128 dimensions, and 30 ms a query on two busy cores
RECALL_AIM = 0.95
TUNING_MARGIN = 0.01  # the error of recall with 200 queries
RECALL_AT = 10
CANDIDATES = (100, 300, 1000)  # ranked again per query: the fewest that reach the aim
HALVINGS = 3  # of the gap between a breadth that is too little and its double, which is enough
QUESTION_BREADTH = 8
"""Times the breadth that was tuned: a question weighs the dimensions anew, so that its answers lie farther from it, and
in more lists, than the neighbours of a vector."""
QUESTION_CANDIDATES = 40  # ranked again for each of a question's answers, at least
TRAINING_VECTORS_PER_LIST = 40  # FAISS warns below 39
LEAST_TRAINING_VECTORS = 50_000
BLOCK_ROWS = 65_536
SHARDS_IN_MEMORY = 8 * SHARDS_ADDED_TOGETHER  # of which one job holds codes, before it writes them
OPEN_SHARDS = 256  # memory maps kept open: each holds a file descriptor
MEND = "build the index again with `snakemake --forcerun index`"
LISTS = "lists.ivfdata"
LENGTH_TOLERANCE = 0.01  # float16 rows are off unit length by 1e-3

Vectors = npt.NDArray[np.float32]
Stored = npt.NDArray[np.generic]  # float32 or float16, mapped
Rows = npt.NDArray[np.int64]

logger = logging.getLogger(__name__)


class Report(config.Section):
    """What was built from what, and how well and how fast it answers."""

    kind: str
    n: int
    dimensions: int
    index_bytes: int
    bytes_per_vector: float
    """Of index and ids, without the vectors, which are on disk."""
    candidates: int
    """Candidates that are ranked again by their exact similarity; 0 for an index that is exact itself."""
    breadth: int | None
    """Lists of an inverted file (nprobe), or nodes of a graph (efSearch), that a query looks into."""
    recall_at_10: float
    """Share of the 10 exact nearest neighbours found, the query itself not counted."""
    queries: int
    latency_p50_ms: float
    latency_p99_ms: float
    shards: tuple[str, ...]
    embeddings_digest: str
    config_digest: str
    tidalkin_version: str


# --- the vectors -------------------------------------------------------------------------------------------------


class Embeddings:
    """Shards of vectors, read from disk row by row as they are needed.

    Parameters
    ----------
    files : sequence of path
        The shards, each a (row, dimension) array of float32 or float16 in ``<shard>.npy`` with the object ids of its
        rows in ``<shard>.ids.npy`` beside it.

    Attributes
    ----------
    starts : (shard + 1,) int64
        Row of the whole at which each shard starts.
    dimensions : int
        Length of the vectors.
    dtype : numpy.dtype
        Float16 if all shards are, else float32.

    Raises
    ------
    TidalkinError
        If a file is missing or is no array, or if shards disagree with their ids or with each other.
    """

    def __init__(self, files: Sequence[str | Path]) -> None:
        self.files = tuple(Path(file) for file in files)
        if not self.files:
            raise TidalkinError("there are no embeddings to index: make them with `snakemake --until embed`")
        self._vectors = lru_cache(OPEN_SHARDS)(lambda shard: _load(self.files[shard]))
        lengths = []
        self.dimensions, self.dtype = 0, np.dtype(np.float16)
        for shard, file in enumerate(self.files):
            vectors, ids = self._vectors(shard), _load(_ids_file(file))
            if vectors.ndim != 2 or ids.shape != vectors.shape[:1]:
                raise TidalkinError(
                    f"{file}: has shape {vectors.shape}, but its ids {ids.shape}: make both with `snakemake -R embed`"
                )
            if self.dimensions not in (0, vectors.shape[1]):
                raise TidalkinError(
                    f"{file}: has {vectors.shape[1]} dimensions, but the shards before it {self.dimensions}: "
                    "make all of them with `snakemake -R embed`"
                )
            self.dimensions, self.dtype = vectors.shape[1], np.promote_types(self.dtype, vectors.dtype)
            lengths.append(len(ids))
        self.starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def rows(self, rows: Rows) -> Vectors:
        """The vectors of some rows, (row, dimension)."""
        vectors = np.empty((len(rows), self.dimensions), np.float32)
        shards = np.searchsorted(self.starts, rows, side="right") - 1
        for shard in np.unique(shards):
            here = np.flatnonzero(shards == shard)
            vectors[here] = self._vectors(int(shard))[rows[here] - self.starts[shard]]
        return vectors

    def blocks(self, block_rows: int = BLOCK_ROWS) -> Iterator[tuple[int, Vectors]]:
        """All vectors, in order: (first row, (row, dimension) vectors) of up to ``block_rows`` at a time."""
        for first in range(0, len(self), block_rows):
            yield first, self.rows(np.arange(first, min(first + block_rows, len(self))))

    def write_joined(self, vectors: str | Path, ids: str | Path) -> None:
        """Write all vectors (row, dimension) to one file, and all object ids (row,) int64, shard after shard."""
        shards = range(len(self.files))
        _write_joined(vectors, self.dtype, (len(self), self.dimensions), map(self._vectors, shards))
        _write_joined(ids, np.dtype(np.int64), (len(self),), (_load(_ids_file(file)) for file in self.files))


def _write_joined(path: str | Path, dtype: np.dtype, shape: tuple[int, ...], parts: Iterable[Stored]) -> None:
    """Write arrays one after the other as one ``.npy``, with one of them in memory."""
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    with written_whole(path) as partial, partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(part.astype(dtype).tobytes())


def _digest(files: Sequence[Path]) -> str:
    """Short digest of names, ids, and the first and last vector of the first and the last shard.

    It is cheap, and no two trainings agree on it, nor do a catalog and a grown one.
    """
    digest = hashlib.sha256()
    for file in (files[0], files[-1]):
        vectors = _load(file)
        digest.update(f"{file.stem} {vectors.shape} {vectors.dtype}".encode())
        digest.update(_load(_ids_file(file)).tobytes())
        digest.update(vectors[:1].tobytes() + vectors[-1:].tobytes())
    return digest.hexdigest()[:16]


def _ids_file(file: Path) -> Path:
    return file.with_suffix(".ids.npy")


def _load(file: Path, mend: str = "make it with `snakemake -R embed`") -> npt.NDArray[np.generic]:
    """An array, memory-mapped."""
    try:
        array: npt.NDArray[np.generic] = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise TidalkinError(f"{file}: cannot be read ({error}): {mend}") from None
    return array


def _check_unit_length(embeddings: Embeddings, first: int, vectors: Vectors) -> None:
    """Raise where a vector is not finite or not of length 1."""
    length = np.linalg.norm(vectors, axis=1)
    wrong = np.flatnonzero(~(np.abs(length - 1) < LENGTH_TOLERANCE))
    if len(wrong):
        shard = int(np.searchsorted(embeddings.starts, first + wrong[0], side="right")) - 1
        file = embeddings.files[shard]
        object_id = _load(_ids_file(file))[first + wrong[0] - embeddings.starts[shard]]
        raise TidalkinError(
            f"{file}: the vector of object {object_id} has length {length[wrong[0]]:.3g} instead of 1: "
            "make it again with `snakemake -R embed`"
        )


# --- building ----------------------------------------------------------------------------------------------------


def choose_kind(n: int, dimensions: int) -> str:
    """The index_factory string that `auto` stands for.

    Beyond `EXACT_UP_TO`, some 4 sqrt(n) lists (FAISS's guide advises 4 to 16), as a power of two, and 4-bit codes of
    pairs of dimensions, which are scanned in registers.
    """
    if n <= EXACT_UP_TO:
        return "Flat"
    lists = 2 ** round(math.log2(4 * math.sqrt(n)))
    return f"IVF{lists},PQ{dimensions // math.gcd(dimensions, 2)}x4fs"


def build_index(files: Sequence[str | Path], settings: config.Index, directory: str | Path, seed: int) -> Report:
    """Build the index of all vectors and measure it.

    Parameters
    ----------
    files : sequence of path
        The shards of vectors, in catalog order; ids are beside them.
    settings : config.Index
        Kind of index, and number of queries for the report.
    directory : path
        Gets ``index.faiss``, ``lists.ivfdata`` (the lists of an inverted file; empty for other kinds), ``ids.npy``
        (int64 object ids of the index's rows), ``vectors.npy`` (all vectors) and ``report.json``.
    seed : int
        Of the samples that the index is trained and measured on.

    Returns
    -------
    Report
        What is in ``report.json``.

    Raises
    ------
    TidalkinError
        If FAISS refuses ``settings.kind`` for these vectors, or the shards are damaged.
    """
    embeddings, directory = _some(files), Path(directory)
    kind = _kind(settings, embeddings)
    index = _trained(kind, embeddings, seed)
    if not can_be_joined(index):
        _add(index, kind, files)
        return _write(index, [], kind, embeddings, settings, directory, seed)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".parts-") as parts_directory:
        parts = []
        for name, shards in parts_of(files, SHARDS_IN_MEMORY).items():
            _add(index, kind, shards)
            parts.append(Path(parts_directory) / f"{name}.faiss")
            faiss.write_index(index, str(parts[-1]))
            index.reset()
        return _write(index, parts, kind, embeddings, settings, directory, seed)


def train_index(files: Sequence[str | Path], settings: config.Index, path: str | Path, seed: int) -> None:
    """Write an index that is trained and empty: the first of the three steps that build one in many jobs.

    Parameters
    ----------
    files, settings, seed
        As of `build_index`.
    path : path
        The file to write.

    Raises
    ------
    TidalkinError
        If FAISS refuses ``settings.kind`` for these vectors or cannot join parts of it.
    """
    embeddings = _some(files)
    kind = _kind(settings, embeddings)
    with _faiss_faults(kind):
        index = _empty(kind, embeddings)
    if not (can_be_joined(index) or isinstance(index, faiss.IndexFlat)):
        raise TidalkinError(
            f"config: index.kind {kind!r} cannot be built in several jobs: use `auto` or another inverted file, as "
            f"IVF16384,PQ64x4fs, or set index.shards_per_part to {len(files)} or more"
        )
    index = _trained(kind, embeddings, seed)
    with written_whole(path) as partial:
        faiss.write_index(index, str(partial))


def add_shards(trained: str | Path, files: Sequence[str | Path], path: str | Path) -> None:
    """Write an index of some shards alone: the second step.

    Parameters
    ----------
    trained : path
        What `train_index` wrote.
    files : sequence of path
        The shards of one part: see `tidalkin.partition.parts_of`.
    path : path
        The file to write.

    Raises
    ------
    TidalkinError
        If ``trained`` cannot be read, or the shards are damaged.
    """
    index = _read(Path(trained))
    _add(index, "of the trained index", files)
    with written_whole(path) as partial:
        faiss.write_index(index, str(partial))


def merge_parts(
    trained: str | Path,
    parts: Sequence[str | Path],
    files: Sequence[str | Path],
    settings: config.Index,
    directory: str | Path,
    seed: int,
) -> Report:
    """Join the parts to one index and measure it: the third step, with the bytes that `build_index` would write.

    In memory is one list of an inverted file; of a `Flat` index, all vectors.

    Parameters
    ----------
    trained : path
        What `train_index` wrote.
    parts : sequence of path
        What `add_shards` wrote for each of the parts of ``settings.shards_per_part`` shards, in their order.
    files, settings, directory, seed
        As of `build_index`.

    Raises
    ------
    TidalkinError
        If a part cannot be read, or the parts are not those of these shards.
    """
    embeddings = _some(files)
    kind = _kind(settings, embeddings)
    for part, shards in zip(parts, parts_of(files, settings.shards_per_part).values(), strict=True):
        added, expected = _read(Path(part), faiss.IO_FLAG_MMAP_IFC).ntotal, len(Embeddings(shards))
        if added != expected:
            raise TidalkinError(f"{part}: has {added} vectors, but its shards have {expected}: {MEND}")
    return _write(_read(Path(trained)), parts, kind, embeddings, settings, Path(directory), seed)


def _some(files: Sequence[str | Path]) -> Embeddings:
    """The embeddings, at least one."""
    embeddings = Embeddings(files)
    if len(embeddings) == 0:
        raise TidalkinError("none of the catalog's objects has an embedding: check the images' `good_fraction`")
    return embeddings


def _kind(settings: config.Index, embeddings: Embeddings) -> str:
    """The index_factory string of the configuration."""
    kind = choose_kind(len(embeddings), embeddings.dimensions) if settings.kind == "auto" else settings.kind
    logger.info("%d vectors of %d dimensions: index %s", len(embeddings), embeddings.dimensions, kind)
    return kind


def _write(
    index: faiss.Index,
    parts: Sequence[str | Path],
    kind: str,
    embeddings: Embeddings,
    settings: config.Index,
    directory: Path,
    seed: int,
) -> Report:
    """Join the parts to the index, tune, write and measure it."""
    embeddings.write_joined(directory / "vectors.npy", directory / "ids.npy")
    vectors = _load(directory / "vectors.npy")
    index = _with_parts(index, parts, kind, directory / LISTS)
    candidates = 0 if kind == "Flat" else _tune(index, vectors, embeddings, settings.queries, seed)
    with written_whole(directory / "index.faiss") as partial:
        write_index(index, partial)
    size = sum((directory / name).stat().st_size for name in ("index.faiss", LISTS))
    report = _measured(index, vectors, kind, candidates, size, embeddings, settings, seed)
    with written_whole(directory / "report.json") as partial:
        partial.write_text(report.model_dump_json(indent=2) + "\n")
    logger.info(
        "recall@10 %.3f, %.2f ms a query, %.0f bytes a vector",
        report.recall_at_10,
        report.latency_p50_ms,
        report.bytes_per_vector,
    )
    return report


def _with_parts(index: faiss.Index, parts: Sequence[str | Path], kind: str, lists: Path) -> faiss.Index:
    """The index with the vectors of the parts; the lists of an inverted file go to ``lists``."""
    if can_be_joined(index):
        index = _packed(index, kind)
        write_lists(index, [_read(Path(part), faiss.IO_FLAG_MMAP_IFC) for part in parts], lists)
        return index
    for part in parts:
        index.merge_from(_read(Path(part)))
    with written_whole(lists) as partial:
        partial.touch()  # the workflow names this file, whatever the kind
    return index


@contextmanager
def _faiss_faults(kind: str) -> Iterator[None]:
    """What FAISS refuses, as a sentence."""
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[-1].split("Error: ")[-1] if str(error).strip() else "refused"
        raise TidalkinError(
            f"config: index.kind {kind!r} does not work for these vectors ({reason}): use `auto`, `Flat` or another "
            "string of faiss.index_factory"
        ) from None


@contextmanager
def _one_thread(kind: str) -> Iterator[None]:
    """Build graphs with one thread: with several, they differ from run to run."""
    threads = faiss.omp_get_max_threads()
    if "HNSW" in kind or "NSG" in kind:
        faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def _empty(kind: str, embeddings: Embeddings) -> faiss.Index:
    """An index that is not trained; of a packed kind, the plain one that becomes it."""
    plain = kind.removesuffix("fs") + "np" if _is_packed(kind) else kind
    index = faiss.index_factory(embeddings.dimensions, plain, faiss.METRIC_INNER_PRODUCT)
    if _is_packed(kind):
        index.by_residual = False  # type: ignore[attr-defined]  # as FAISS's own fast-scan kinds
    return index


def _trained(kind: str, embeddings: Embeddings, seed: int) -> faiss.Index:
    """An empty index, trained on a sample of the vectors."""
    with _faiss_faults(kind), _one_thread(kind):
        index = _empty(kind, embeddings)
        if not index.is_trained:
            inverted = inverted_file(index)
            lists = inverted.nlist if inverted is not None else 0
            size = min(len(embeddings), max(LEAST_TRAINING_VECTORS, TRAINING_VECTORS_PER_LIST * lists))
            started = time.monotonic()
            index.train(embeddings.rows(_sample(embeddings, size, seed, "training")))
            logger.info("trained on %d vectors in %.0f s", size, time.monotonic() - started)
        return index


def _add(index: faiss.Index, kind: str, files: Sequence[str | Path]) -> None:
    """Add shards, some at a time.

    Always the same ones together, in one job or in many: that rounding depends on what is added together would be
    allowed. Not one by one, since FAISS takes up to three times as long for 500 vectors at a time as for 4,000.
    """
    with _faiss_faults(kind), _one_thread(kind):
        for shards in parts_of(files, SHARDS_ADDED_TOGETHER).values():
            embeddings = Embeddings(shards)
            for first, vectors in embeddings.blocks():
                _check_unit_length(embeddings, first, vectors)
                index.add(vectors)


def _is_packed(kind: str) -> bool:
    """Whether the kind is an inverted file of 4-bit codes that are packed for FAISS's fast scan."""
    return re.fullmatch(r"IVF\d+,PQ\d+x4fs", kind) is not None


def _packed(index: faiss.Index, kind: str) -> faiss.Index:
    """The same empty index, packed if the kind is; of FAISS 1.15, lists that are joined when packed corrupt memory."""
    if not _is_packed(kind):
        return index
    assert isinstance(index, faiss.IndexIVFPQ)
    packed = faiss.IndexIVFPQFastScan(index)
    index.own_fields, packed.own_fields = False, True  # of the centroids
    del packed.referenced_objects  # type: ignore[attr-defined]  # which would keep the plain index, too
    return packed


# --- breadth: how far an approximate index looks -----------------------------------------------------------------


def _inner(index: faiss.Index) -> faiss.Index:
    """The index behind a transformation of the vectors."""
    return faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index


def _breadth(index: faiss.Index) -> int | None:
    """Lists or nodes a query looks into; none for other kinds."""
    inner = _inner(index)
    if isinstance(inner, faiss.IndexIVF):
        return int(inner.nprobe)
    return int(inner.hnsw.efSearch) if isinstance(inner, faiss.IndexHNSW) else None


def _largest_breadth(index: faiss.Index) -> int:
    """The most lists or nodes there are to look into."""
    inner = _inner(index)
    if isinstance(inner, faiss.IndexIVF):
        return int(inner.nlist)
    return int(inner.ntotal) if isinstance(inner, faiss.IndexHNSW) else 1


def _set_breadth(index: faiss.Index, breadth: int) -> None:
    """Let queries look into so many lists or nodes; it is written with the index."""
    inner = _inner(index)
    if isinstance(inner, faiss.IndexIVF):
        inner.nprobe = breadth
    elif isinstance(inner, faiss.IndexHNSW):
        inner.hnsw.efSearch = breadth


def _parameters(index: faiss.Index, breadth: int) -> faiss.SearchParameters:
    """A breadth for one query only."""
    inner = _inner(index)
    if isinstance(inner, faiss.IndexIVF):
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe = breadth
    else:
        parameters = faiss.SearchParametersHNSW()  # type: ignore[attr-defined]
        parameters.efSearch = breadth
    if inner is index:
        return parameters
    outer = faiss.SearchParametersPreTransform()
    outer.index_params = parameters
    return outer


# --- measuring ---------------------------------------------------------------------------------------------------


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


def _sample(embeddings: Embeddings, size: int, seed: int, purpose: str) -> Rows:
    """Rows drawn at random, in order."""
    random = generator(seed, "index", purpose)
    return np.sort(random.choice(len(embeddings), min(size, len(embeddings)), replace=False))


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


# --- asking ------------------------------------------------------------------------------------------------------


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


def read_report(directory: str | Path) -> Report:
    """The report of an index.

    Raises
    ------
    TidalkinError
        If there is none, or it is damaged.
    """
    path = Path(directory) / "report.json"
    mend = "make it with `snakemake --until index`"
    if not path.is_file():
        raise TidalkinError(f"{directory}: no index is here: {mend}")
    try:
        return Report.model_validate_json(path.read_text())
    except (ValidationError, UnicodeDecodeError):
        raise TidalkinError(f"{path}: is damaged or of another tidalkin: {mend}") from None


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
