"""Embedding vectors of a run, read shard by shard and joined into one file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tidalkin.atomic import atomic_path
from tidalkin.constants import SHARDS_ADDED_TOGETHER
from tidalkin.errors import TidalkinError, first_line

BLOCK_ROWS = 65_536
SHARDS_IN_MEMORY = 8 * SHARDS_ADDED_TOGETHER  # shards whose codes one job holds before it writes them
OPEN_SHARDS = 256  # memory maps kept open: each holds a file descriptor
LENGTH_TOLERANCE = 0.01  # float16 rows are off unit length by 1e-3
Vectors = npt.NDArray[np.float32]
Stored = npt.NDArray[np.generic]  # float32 or float16, mapped
Rows = npt.NDArray[np.int64]


class Embeddings:
    """Shards of vectors, of which rows are read from disk when they are needed.

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
        If a file is missing or not an array, or if shards disagree with their ids or with each other.
    """

    def __init__(self, files: Sequence[str | Path]) -> None:
        self.files = tuple(Path(file) for file in files)
        if not self.files:
            raise TidalkinError("there are no embeddings to index: make them with `snakemake --until embed`")
        self._vectors = lru_cache(OPEN_SHARDS)(lambda shard: load_array(self.files[shard]))
        lengths = []
        self.dimensions, self.dtype = 0, np.dtype(np.float16)
        for shard, file in enumerate(self.files):
            vectors, ids = self._vectors(shard), load_array(ids_file(file))
            if vectors.ndim != 2 or ids.shape != vectors.shape[:1]:
                raise TidalkinError(
                    f"{file}: has shape {vectors.shape}, but its ids {ids.shape}: make both again with "
                    "`snakemake --forcerun embed`"
                )
            if self.dimensions not in (0, vectors.shape[1]):
                raise TidalkinError(
                    f"{file}: has {vectors.shape[1]} dimensions, but the shards before it {self.dimensions}: "
                    "make all of them with `snakemake --forcerun embed`"
                )
            self.dimensions, self.dtype = vectors.shape[1], np.promote_types(self.dtype, vectors.dtype)
            lengths.append(len(ids))
        self.starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def rows(self, rows: Rows) -> Vectors:
        """Read the vectors of some rows, (row, dimension)."""
        vectors = np.empty((len(rows), self.dimensions), np.float32)
        shards = np.searchsorted(self.starts, rows, side="right") - 1
        for shard in np.unique(shards):
            here = np.flatnonzero(shards == shard)
            vectors[here] = self._vectors(int(shard))[rows[here] - self.starts[shard]]
        return vectors

    def blocks(self, block_rows: int = BLOCK_ROWS) -> Iterator[tuple[int, Vectors]]:
        """Yield the first row and the vectors (row, dimension) of each block."""
        for first in range(0, len(self), block_rows):
            yield first, self.rows(np.arange(first, min(first + block_rows, len(self))))

    def write_joined(self, vectors: str | Path, ids: str | Path) -> None:
        """Write all vectors (row, dimension) and all object ids (row,), a file each."""
        shards = range(len(self.files))
        _write_joined(vectors, self.dtype, (len(self), self.dimensions), map(self._vectors, shards))
        _write_joined(ids, np.dtype(np.int64), (len(self),), (load_array(ids_file(file)) for file in self.files))


def _write_joined(path: str | Path, dtype: np.dtype, shape: tuple[int, ...], parts: Iterable[Stored]) -> None:
    """Write arrays one after the other as one ``.npy``, one at a time."""
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(part.astype(dtype).tobytes())


def embeddings_digest(files: Sequence[Path]) -> str:
    """Digest names, ids and some vectors of the first and the last shard.

    It is cheap to compute, and it differs between two trainings and between a catalog and a grown one.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "00000.npy"
    ...     np.save(file, np.eye(2, dtype=np.float32))
    ...     np.save(f"{folder}/00000.ids.npy", np.array([7, 8]))
    ...     embeddings_digest([file])
    '05cf91827f82e823'
    """
    digest = hashlib.sha256()
    for file in (files[0], files[-1]):
        vectors = load_array(file)
        digest.update(f"{file.stem} {vectors.shape} {vectors.dtype}".encode())
        digest.update(load_array(ids_file(file)).tobytes())
        digest.update(vectors[:1].tobytes() + vectors[-1:].tobytes())
    return digest.hexdigest()[:16]


def ids_file(file: Path) -> Path:
    """Return the file of object ids beside a shard of vectors.

    Examples
    --------
    >>> ids_file(Path("embeddings/00003.npy")).name
    '00003.ids.npy'
    """
    return file.with_suffix(".ids.npy")


def load_array(file: Path, hint: str = "make it with `snakemake --forcerun embed`") -> npt.NDArray[np.generic]:
    """Map an array from a file.

    Examples
    --------
    >>> load_array(Path("no_such_run/00000.npy"))
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: no_such_run/00000.npy: cannot be read (...): make it with
    `snakemake --forcerun embed`
    """
    try:
        array: npt.NDArray[np.generic] = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise TidalkinError(f"{file}: cannot be read ({first_line(error)}): {hint}") from None
    return array


def check_unit_length(embeddings: Embeddings, first: int, vectors: Vectors) -> None:
    """Refuse a vector that is not finite or not of length 1.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/00000.npy", 2 * np.eye(2, dtype=np.float32))
    ...     np.save(f"{folder}/00000.ids.npy", np.array([7, 8]))
    ...     embeddings = Embeddings([f"{folder}/00000.npy"])
    ...     check_unit_length(embeddings, 0, embeddings.rows(np.array([0, 1])))
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: ...00000.npy: the vector of object 7 has length 2 instead of 1: make it again with
    `snakemake --forcerun embed`
    """
    length = np.linalg.norm(vectors, axis=1)
    wrong = np.flatnonzero(~(np.abs(length - 1) < LENGTH_TOLERANCE))
    if len(wrong):
        shard = int(np.searchsorted(embeddings.starts, first + wrong[0], side="right")) - 1
        file = embeddings.files[shard]
        object_id = load_array(ids_file(file))[first + wrong[0] - embeddings.starts[shard]]
        raise TidalkinError(
            f"{file}: the vector of object {object_id} has length {length[wrong[0]]:.3g} instead of 1: "
            "make it again with `snakemake --forcerun embed`"
        )
