"""Where the catalog comes from: a table of the user's, a set of images with its own, HSC's server, or a simulation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from tidalkin.catalog.plan import MADE_FROM, PLAN, Plan, made_from
from tidalkin.catalog.read import read_catalog, split_catalog, write_catalog
from tidalkin.config import Settings
from tidalkin.sources.hsc.psf import with_psf_fwhm

FETCHING = ("object_id", "ra", "dec", "tract", "patch")


def obtain_catalog(settings: Settings, table: str | Path | None) -> pd.DataFrame:
    """The run's catalog, checked.

    Parameters
    ----------
    settings : Settings
        The run's configuration.
    table : str or Path or None
        The user's table, or the folder of the Multimodal Universe's set, or the catalog server's answer; none for the
        simulated survey.

    Raises
    ------
    TidalkinError
        If the table is no catalog.
    """
    if table is None:
        # Imported here: GalSim is needed by no other catalog.
        from tidalkin.sources.simulated import simulate_catalog

        return simulate_catalog(settings.cutouts.simulated, settings.seed)
    if Path(table).is_dir():
        # Imported here: HDF5 is needed by no other catalog.
        from tidalkin.sources.mmu import mmu_catalog

        return mmu_catalog(table)
    return with_psf_fwhm(read_catalog(table, settings.catalog.columns))


def chunk_columns(catalog: pd.DataFrame, source: str) -> list[str] | None:
    """The columns that fetching needs; none stands for all, which the simulated survey is drawn from.

    A column of the user's own is none of them, so that a new one fetches nothing again.
    """
    return None if source == "simulated" else [name for name in FETCHING if name in catalog.columns]


def plan_table(settings: Settings, table: str | Path) -> Plan:
    """Plan a run from its table: see `tidalkin.sources.plan.plan_run`."""
    return _plan(_chunks(settings, obtain_catalog(settings, table)))


def write_planned(settings: Settings, table: str | Path | None, catalog: str | Path, chunks: str | Path) -> None:
    """Check the run's catalog and write it, with its plan, and the rows of each chunk.

    Parameters
    ----------
    settings : Settings
        The run's configuration.
    table : str or Path or None
        The user's table or the catalog server's answer; none for the simulated survey.
    catalog : str or Path
        ``catalog.parquet``.
    chunks : str or Path
        Folder of the chunks.

    Raises
    ------
    TidalkinError
        If the table is no catalog.
    """
    rows = obtain_catalog(settings, table)
    parts = _chunks(settings, rows)
    for name, part in parts.items():
        write_catalog(part, Path(chunks) / f"{name}.parquet")
    metadata = {}
    if table is not None:
        metadata = {MADE_FROM: made_from(settings, table), PLAN: json.dumps(asdict(_plan(parts)))}
    write_catalog(rows, catalog, metadata)


def _chunks(settings: Settings, catalog: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return split_catalog(catalog, settings.catalog.chunk_size, chunk_columns(catalog, settings.cutouts.source))


def _plan(chunks: Mapping[str, pd.DataFrame]) -> Plan:
    return Plan(sum(map(len, chunks.values())), {name: _digest(rows) for name, rows in chunks.items()})


def _digest(rows: pd.DataFrame) -> str:
    """Digest of a chunk's columns and values."""
    values = pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes()
    return hashlib.sha256(json.dumps(list(rows.columns)).encode() + values).hexdigest()[:16]
