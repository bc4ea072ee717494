"""Fetch one chunk as the workflow's job does.

Run as a command, it is a process that a test can kill.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tidalkin.config import Cutouts
from tidalkin.download.credentials import Account
from tidalkin.redaction import RedactingFormatter
from tidalkin.sources.fetch import fetch_chunk as fetch_files
from tidalkin.stage import LOG_FORMAT


@dataclass(frozen=True)
class Fetched:
    """A chunk on disk."""

    tar: bytes
    ledger: pd.DataFrame

    @property
    def statuses(self) -> dict[str, int]:
        return self.ledger["status"].value_counts().to_dict()


def fetch_chunk(
    objects: pd.DataFrame,
    cutouts: Cutouts,
    folder: Path,
    account: Account | None,
    lock_folder: Path | None = None,
    chunk: str = "00000",
) -> Fetched:
    """Fetch a chunk, as the workflow's job does."""
    tar = folder / "cutouts" / f"{chunk}.tar"
    ledger_path = tar.with_suffix(".ledger.parquet")
    ledger = fetch_files(objects, cutouts, 0, tar, ledger_path, account, lock_folder or folder / "locks")
    return Fetched(tar.read_bytes(), ledger)


if __name__ == "__main__":
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter(LOG_FORMAT))
    logging.basicConfig(level=logging.DEBUG, handlers=[handler])
    chosen = Path(sys.argv[1])
    fetch_chunk(
        pd.read_parquet(chosen / "objects.parquet"),
        Cutouts.model_validate_json((chosen / "cutouts.json").read_text()),
        chosen,
        account=None,
        lock_folder=Path(sys.argv[2]),
    )
