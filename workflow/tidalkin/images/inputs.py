"""Inputs and records of a conversion: chunks, ledgers, notes and problems."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tidalkin.config import Images
from tidalkin.errors import TidalkinError, first_line


@dataclass(frozen=True)
class Chunk:
    """The cutouts of successive catalog rows."""

    tar: Path
    ledger: Path
    first: int
    """The chunk's first catalog row."""
    last: int
    """One past its last."""


@dataclass(frozen=True)
class Conversion:
    """The settings that the tasks of one conversion share."""

    catalog: Path
    bands: tuple[str, ...]
    images: Images
    work: Path
    """The folder the store is built in."""
    previous: Path | None = None
    """A finished store of the same layout, whose shards are taken over where their inputs are the same."""

    @property
    def store(self) -> Path:
        """The store, until it is whole."""
        return self.work / "store"

    def note(self, shard: int, store: Path | None = None) -> Path:
        """Return the path of a shard's note, inside the store but not part of it."""
        return (store or self.store) / "object_id" / ".finished" / f"{shard:05d}.json"


@dataclass(frozen=True)
class Problem:
    """A cutout that is `ok` in the ledger and cannot be used as a whole."""

    object_id: int
    band: str
    reason: str


@dataclass(frozen=True)
class ShardReport:
    """The result of one shard, as its note holds it."""

    inputs: str
    """Digest of the inputs of the shard."""
    objects: int
    objects_with_image: int
    problems: tuple[Problem, ...]
    kept: bool = False
    """Whether an earlier run had finished it."""


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn an error of writing into one sentence."""
    try:
        yield
    except OSError as error:
        raise TidalkinError(
            f"{error.filename or path}: cannot be written ({error.strerror or error}): make room and start again, "
            "and the finished shards are kept"
        ) from error


def _parquet(path: str | Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise TidalkinError(
            f"{path}: cannot be read as Parquet ({first_line(error)}): delete it, to have it made again"
        ) from None


def _read_rows(path: Path, first: int, last: int, columns: Sequence[str]) -> pd.DataFrame:
    """Read some rows of a Parquet file, without the row groups of the others."""
    file = _parquet(path)
    parts, start = [], 0
    for group in range(file.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        if start < last and stop > first:
            rows = file.read_row_group(group, columns=list(columns))
            parts.append(rows.slice(max(first - start, 0), min(last, stop) - max(first, start)))
        start = stop
    return pa.concat_tables(parts).to_pandas()


def _read_objects(conversion: Conversion, rows: slice) -> pd.DataFrame:
    """Read the shard's catalog rows: ids, positions and known seeing."""
    names = set(_parquet(conversion.catalog).schema_arrow.names)
    seeing = [f"psf_fwhm_{band}" for band in conversion.bands if f"psf_fwhm_{band}" in names]
    return _read_rows(conversion.catalog, rows.start, rows.stop, ["object_id", "ra", "dec", *seeing])


def _read_ledgers(
    chunks: Sequence[Chunk], rows: slice, object_ids: npt.NDArray[np.int64], bands: Sequence[str]
) -> pd.DataFrame:
    """Read the ledger rows of the shard's objects, and check that they are theirs."""
    parts = []
    for chunk in chunks:
        first, last = max(rows.start, chunk.first), min(rows.stop, chunk.last)
        ledger = _read_rows(
            chunk.ledger,
            (first - chunk.first) * len(bands),
            (last - chunk.first) * len(bands),
            ["object_id", "band", "status", "checksum"],
        )
        expected = np.repeat(object_ids[first - rows.start : last - rows.start], len(bands))
        same = np.array_equal(ledger["object_id"], expected) and list(ledger["band"]) == [*bands] * (last - first)
        if not same:
            raise TidalkinError(
                f"{chunk.ledger}: does not list the objects {expected[0]} to {expected[-1]} of the catalog in bands "
                f"{', '.join(bands)}: delete it and its tar, to have them fetched again"
            )
        parts.append(ledger)
    return pd.concat(parts, ignore_index=True)


def _inputs_digest(objects: pd.DataFrame, ledger: pd.DataFrame) -> str:
    """Digest everything that determines a shard, apart from the store's attributes."""
    digest = hashlib.sha256()
    for table in (objects, ledger):
        digest.update(",".join(table.columns).encode())
        digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def _read_note(path: Path) -> ShardReport | None:
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    return ShardReport(**{**content, "problems": tuple(Problem(**problem) for problem in content["problems"])})
