"""Fetch one chunk from any source into a tar and a ledger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from tidalkin.config import Cutouts
from tidalkin.download.tar import journal_folder, write_chunk
from tidalkin.sources.registry import open_source

if TYPE_CHECKING:
    from tidalkin.download.credentials import Account


def fetch_chunk(
    objects: pd.DataFrame,
    cutouts: Cutouts,
    seed: int,
    tar: Path,
    ledger: Path,
    account: Account | None = None,
    lock_folder: Path | None = None,
) -> pd.DataFrame:
    """Fetch the cutouts of a chunk, and write them to disk.

    Parameters
    ----------
    objects : DataFrame
        The chunk's catalog rows.
    cutouts : Cutouts
        The source and its settings, size and bands.
    seed : int
        Seed of the run.
    tar, ledger : Path
        The files to write.
    account, lock_folder : optional
        See `tidalkin.sources.registry.open_source`.

    Returns
    -------
    DataFrame
        The ledger: one row per object and band.

    Raises
    ------
    TidalkinError
        If nothing at all can be fetched, or the files cannot be written.

    Examples
    --------
    >>> objects = pd.DataFrame({"object_id": [7, 8], "ra": [150.0, 150.1], "dec": [2.0, 2.1]})
    >>> cutouts = Cutouts(source="simulated", bands=("g", "i"))
    >>> ledger = fetch_chunk(objects, cutouts, seed=1, tar=Path("00000.tar"), ledger=Path("00000.ledger.parquet"))
    >>> ledger[["object_id", "band", "status"]].values.tolist()
    [[7, 'g', 'ok'], [7, 'i', 'ok'], [8, 'g', 'ok'], [8, 'i', 'ok']]
    """
    source = open_source(cutouts, seed, journal_folder(tar), account, lock_folder)
    return write_chunk(source.fetch(objects, cutouts.bands), objects, cutouts.bands, tar, ledger)
