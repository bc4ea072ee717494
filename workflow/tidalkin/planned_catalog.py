"""The checked catalog with its plan in it: what a run will fetch, from the table that says which galaxies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from tidalkin.catalog import split_catalog, write_catalog
from tidalkin.config import Settings
from tidalkin.planning import MADE_FROM, PLAN, Plan, made_from
from tidalkin.sources.catalog import chunk_columns, obtain_catalog


def plan_table(settings: Settings, table: str | Path) -> Plan:
    """Plan a run from its table: see `tidalkin.planning.plan_run`."""
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
