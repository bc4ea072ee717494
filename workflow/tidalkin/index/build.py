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
from tidalkin.atomic import atomic_path, disk_errors
from tidalkin.catalog.partition import parts_of
from tidalkin.errors import TidalkinError
from tidalkin.index.faiss_kinds import (
    LISTS_FILE,
    add_vectors,
    choose_kind,
    empty_index,
    explain_faiss_errors,
    packed_index,
    trained_index,
)
from tidalkin.index.ondisk import can_be_joined, write_faiss_index, write_lists
from tidalkin.index.query import read_faiss_index
from tidalkin.index.report import REBUILD_HINT, Report
from tidalkin.index.tune import measure_index, tune_index
from tidalkin.index.vectors import SHARDS_IN_MEMORY, Embeddings, load_array

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
        Folder for ``index.faiss``, ``lists.ivfdata`` (the lists of an inverted file; empty for other kinds),
        ``ids.npy`` (int64 object ids of the index's rows), ``vectors.npy`` (all vectors) and ``report.json``.
    seed : int
        Seed of the samples that the index is trained and measured on.

    Returns
    -------
    Report
        The content of ``report.json``.

    Raises
    ------
    TidalkinError
        If FAISS refuses ``settings.kind`` for these vectors, or the shards are damaged.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/00000.npy", np.eye(32, dtype=np.float32))
    ...     np.save(f"{folder}/00000.ids.npy", np.arange(32))
    ...     report = build_index([f"{folder}/00000.npy"], config.Index(), f"{folder}/index", seed=1)
    >>> report.kind, report.n, report.recall_at_10
    ('Flat', 32, 1.0)
    """
    embeddings, directory = _open_embeddings(files), Path(directory)
    kind = _index_kind(settings, embeddings)
    index = trained_index(kind, embeddings, seed)
    if not can_be_joined(index):
        add_vectors(index, kind, files)
        return _finish_index(index, [], kind, embeddings, settings, directory, seed)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".parts-") as parts_directory:
        parts = []
        for name, shards in parts_of(files, SHARDS_IN_MEMORY).items():
            add_vectors(index, kind, shards)
            parts.append(Path(parts_directory) / f"{name}.faiss")
            write_faiss_index(index, parts[-1])
            index.reset()
        return _finish_index(index, parts, kind, embeddings, settings, directory, seed)


def train_index(files: Sequence[str | Path], settings: config.Index, path: str | Path, seed: int) -> None:
    """Write a trained, empty index: the first of three steps in many jobs.

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

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/00000.npy", np.eye(32, dtype=np.float32))
    ...     np.save(f"{folder}/00000.ids.npy", np.arange(32))
    ...     train_index([f"{folder}/00000.npy"], config.Index(), f"{folder}/trained.faiss", seed=1)
    ...     read_faiss_index(Path(folder) / "trained.faiss").ntotal
    0
    """
    embeddings = _open_embeddings(files)
    kind = _index_kind(settings, embeddings)
    with explain_faiss_errors(kind):
        index = empty_index(kind, embeddings)
    if not (can_be_joined(index) or isinstance(index, faiss.IndexFlat)):
        raise TidalkinError(
            f"config: index.kind {kind!r} cannot be built in several jobs: use `auto` or another inverted file, as "
            f"IVF16384,PQ64x4fs, or set index.shards_per_part to {len(files)} or more"
        )
    index = trained_index(kind, embeddings, seed)
    write_faiss_index(index, path)


def add_shards(trained: str | Path, files: Sequence[str | Path], path: str | Path) -> None:
    """Write an index of some shards alone, the second step.

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

    Examples
    --------
    >>> files = sorted(Path("results/demo/embeddings").glob("?????.npy"))
    >>> train_index(files, config.Index(), "trained.faiss", seed=1)
    >>> add_shards("trained.faiss", files[:1], "00000.faiss")
    >>> read_faiss_index(Path("00000.faiss")).ntotal
    32
    """
    index = read_faiss_index(Path(trained))
    add_vectors(index, "of the trained index", files)
    write_faiss_index(index, path)


def merge_parts(
    trained: str | Path,
    parts: Sequence[str | Path],
    files: Sequence[str | Path],
    settings: config.Index,
    directory: str | Path,
    seed: int,
) -> Report:
    """Join the parts to one index and measure it, the third step.

    The files have the bytes that `build_index` would write. One list of an inverted file is in memory at a time; of a
    `Flat` index, all vectors are.

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

    Examples
    --------
    >>> files = sorted(Path("results/demo/embeddings").glob("?????.npy"))  # two shards, which are one part
    >>> settings = config.Index(queries=5)
    >>> train_index(files, settings, "trained.faiss", seed=1)
    >>> add_shards("trained.faiss", files, "part.faiss")
    >>> merge_parts("trained.faiss", ["part.faiss"], files, settings, "index", seed=1).n
    60
    """
    embeddings = _open_embeddings(files)
    kind = _index_kind(settings, embeddings)
    for part, shards in zip(parts, parts_of(files, settings.shards_per_part).values(), strict=True):
        added, expected = read_faiss_index(Path(part), faiss.IO_FLAG_MMAP_IFC).ntotal, len(Embeddings(shards))
        if added != expected:
            raise TidalkinError(f"{part}: has {added} vectors, but its shards have {expected}: {REBUILD_HINT}")
    return _finish_index(read_faiss_index(Path(trained)), parts, kind, embeddings, settings, Path(directory), seed)


def _open_embeddings(files: Sequence[str | Path]) -> Embeddings:
    """Open the embeddings, of which there must be at least one."""
    embeddings = Embeddings(files)
    if len(embeddings) == 0:
        raise TidalkinError("none of the catalog's objects has an embedding: check the images' `good_fraction`")
    return embeddings


def _index_kind(settings: config.Index, embeddings: Embeddings) -> str:
    """Return the index_factory string of the configuration."""
    kind = choose_kind(len(embeddings), embeddings.dimensions) if settings.kind == "auto" else settings.kind
    logger.info("%d vectors of %d dimensions: index %s", len(embeddings), embeddings.dimensions, kind)
    return kind


def _finish_index(
    index: faiss.Index,
    parts: Sequence[str | Path],
    kind: str,
    embeddings: Embeddings,
    settings: config.Index,
    directory: Path,
    seed: int,
) -> Report:
    """Join the parts to the index, tune, write and measure it."""
    with disk_errors(directory):
        embeddings.write_joined(directory / "vectors.npy", directory / "ids.npy")
    vectors = load_array(directory / "vectors.npy")
    index = _join_parts(index, parts, kind, directory / LISTS_FILE)
    n_rerank = 0 if kind == "Flat" else tune_index(index, vectors, embeddings, settings.queries, seed)
    write_faiss_index(index, directory / "index.faiss")
    size = sum((directory / name).stat().st_size for name in ("index.faiss", LISTS_FILE))
    report = measure_index(index, vectors, kind, n_rerank, size, embeddings, settings, seed)
    with atomic_path(directory / "report.json") as partial:
        partial.write_text(report.model_dump_json(indent=2) + "\n")
    logger.info("recall@10 %.3f, %.0f bytes per vector", report.recall_at_10, report.bytes_per_vector)
    return report


def _join_parts(index: faiss.Index, parts: Sequence[str | Path], kind: str, lists: Path) -> faiss.Index:
    """Add the vectors of the parts to the index.

    The lists of an inverted file go to ``lists``.
    """
    if can_be_joined(index):
        index = packed_index(index, kind)
        write_lists(index, [read_faiss_index(Path(part), faiss.IO_FLAG_MMAP_IFC) for part in parts], lists)
        return index
    for part in parts:
        index.merge_from(read_faiss_index(Path(part)))
    with atomic_path(lists) as partial:
        partial.touch()  # the workflow names this file, whatever the kind
    return index
