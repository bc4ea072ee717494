"""The record beside the vectors of a shard: what they are made from.

A survey that grows has new images, and Snakemake would embed all shards again. The records tell, while the workflow is
planned, for which shards nothing has changed. They hold digests of content, so that a copy of a run keeps its vectors.
Nothing heavy is imported here, since every job plans.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from tidalkin.atomic import atomic_path


@dataclass(frozen=True)
class VectorRecord:
    """Digests of all that decides the vectors of one shard."""

    shard: str
    """Of the shard's galaxies, and of the settings that its images and vectors are made with."""
    encoder: str
    whitening: str
    ledgers: tuple[str, ...]
    """Of the ledgers, which hold a checksum of each cutout, in the order of the catalog."""

    @classmethod
    def of(
        cls, shard: str, encoder: str | Path, whitening: str | Path, ledgers: Sequence[str | Path]
    ) -> VectorRecord | None:
        """Digest the files that vectors are made from; none if one is absent."""
        try:
            return cls(
                shard, _file_digest(encoder), _file_digest(whitening), tuple(_file_digest(ledger) for ledger in ledgers)
            )
        except FileNotFoundError:
            return None

    def write(self, path: str | Path) -> None:
        """Write the record as JSON."""
        with atomic_path(path) as partial:
            partial.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def is_at(self, path: str | Path) -> bool:
        """Tell whether a file holds this record."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return bool(content == json.loads(json.dumps(asdict(self))))


def _file_digest(path: str | Path) -> str:
    status = Path(path).stat()
    return _digest_of(Path(path), status.st_size, status.st_mtime_ns)


@cache
def _digest_of(path: Path, size: int, time: int) -> str:
    """Digest a file.

    Shards share the encoder, the whitening and some ledgers, so every digest is kept.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
