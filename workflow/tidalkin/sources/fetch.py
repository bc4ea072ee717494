"""Fetch one chunk: whatever the source, it becomes a tar and a ledger."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tidalkin.config import Cutouts
from tidalkin.sources import open_source
from tidalkin.sources.chunk import write_chunk
from tidalkin.sources.hsc_das import HscDasSource
from tidalkin.sources.received import received_folder


def fetch_chunk(objects: pd.DataFrame, cutouts: Cutouts, seed: int, tar: Path, ledger: Path) -> pd.DataFrame:
    """Deliver a chunk's cutouts to disk.

    Parameters
    ----------
    objects : DataFrame
        The chunk's catalog rows.
    cutouts : Cutouts
        The source, and what to ask it for.
    seed : int
        Of the simulated survey.
    tar, ledger : Path
        The files to write.

    Returns
    -------
    DataFrame
        The ledger: one row per object and band.

    Raises
    ------
    TidalkinError
        If nothing at all can be delivered, or the files cannot be written.
    """
    source = open_source(cutouts, seed, received_folder(tar))
    written = write_chunk(source.deliver(objects, cutouts.bands), objects, cutouts.bands, tar, ledger)
    if isinstance(source, HscDasSource):
        # Made anew, the chunk then asks only for what is missing.
        source.keep(objects, cutouts.bands, tar, written)
    return written
