"""Build the FAISS index over all vectors, in one job or in parts.

Shards are read in blocks. All vectors are in memory at once only where the index itself holds them (`Flat`). The lists
of an inverted file are joined on disk and stay there (`tidalkin.index.ondisk`). The vectors are joined into one mapped
file, because a thousand candidates lie in almost as many shards, and opening those takes a hundred times as long as
finding them.

One job builds an index with `build_index`. Many jobs build the same index, byte for byte, with `train_index`,
`add_shards` for each part, and `merge_parts`.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import faiss

from tidalkin import config
from tidalkin.atomic import atomic_path
from tidalkin.catalog.partition import parts_of
from tidalkin.errors import TidalkinError
from tidalkin.index.faiss_kinds import LISTS, MEND, _add, _empty, _faiss_faults, _packed, _trained, choose_kind
from tidalkin.index.ondisk import can_be_joined, write_index, write_lists
from tidalkin.index.query import _read
from tidalkin.index.report import Report
from tidalkin.index.tune import _measured, _tune
from tidalkin.index.vectors import SHARDS_IN_MEMORY, Embeddings, _load

logger = logging.getLogger(__name__)


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
    with atomic_path(path) as partial:
        faiss.write_index(index, str(partial))


def add_shards(trained: str | Path, files: Sequence[str | Path], path: str | Path) -> None:
    """Write an index of some shards alone: the second step.

    Parameters
    ----------
    trained : path
        What `train_index` wrote.
    files : sequence of path
        The shards of one part: see `tidalkin.catalog.partition.parts_of`.
    path : path
        The file to write.

    Raises
    ------
    TidalkinError
        If ``trained`` cannot be read, or the shards are damaged.
    """
    index = _read(Path(trained))
    _add(index, "of the trained index", files)
    with atomic_path(path) as partial:
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
    with atomic_path(directory / "index.faiss") as partial:
        write_index(index, partial)
    size = sum((directory / name).stat().st_size for name in ("index.faiss", LISTS))
    report = _measured(index, vectors, kind, candidates, size, embeddings, settings, seed)
    with atomic_path(directory / "report.json") as partial:
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
    with atomic_path(lists) as partial:
        partial.touch()  # the workflow names this file, whatever the kind
    return index
