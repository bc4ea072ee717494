"""What a run will fetch, known before anything has run: how many galaxies, and which chunks hold which of them.

So the whole workflow can be planned and shown, and a catalog that has grown fetches its new chunks and no others: the
digest of a chunk's rows stands among the parameters of the rule that fetches it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from tidalkin.catalog import chunk_names, split_catalog, write_catalog
from tidalkin.config import Settings, config_digest
from tidalkin.errors import TidalkinError
from tidalkin.sources.catalog import chunk_columns, obtain_catalog
from tidalkin.sources.hsc_sql import is_answered

PLAN, MADE_FROM = b"tidalkin_plan", b"tidalkin_made_from"


@dataclass(frozen=True)
class Plan:
    """What there is to fetch."""

    galaxies: int
    chunks: Mapping[str, str]
    """Digest of the rows of each chunk, by its name."""


def plan_run(settings: Settings, table: str | Path | None, catalog: str | Path) -> Plan | None:
    """Plan a run.

    Parameters
    ----------
    settings : Settings
        The run's configuration.
    table : str or Path or None
        The user's table or the catalog server's answer, which may not be there yet; none for the simulated survey.
    catalog : str or Path
        The checked catalog, which may not be there yet, or be made from an earlier version of the table.

    Returns
    -------
    Plan or None
        None where it takes a query to the catalog server to know.

    Raises
    ------
    TidalkinError
        If the user's table cannot be read or is not a catalog: before any job has started.
    """
    if table is None:
        return _simulated_plan(settings)
    if settings.catalog.source == "hsc_sql" and not is_answered(settings.catalog, Path(table)):
        return None
    metadata = (pq.read_metadata(catalog).metadata or {}) if Path(catalog).exists() else {}
    if metadata.get(MADE_FROM) == _made_from(settings, table).encode():
        return Plan(**json.loads(metadata[PLAN]))
    return _plan(_chunks(settings, obtain_catalog(settings, table)))


def write_planned(settings: Settings, table: str | Path | None, catalog: str | Path, chunks: str | Path) -> None:
    """Check the run's catalog and write it, with its plan, and the rows of each chunk.

    Parameters
    ----------
    settings : Settings
        The run's configuration.
    table : str or Path or None
        As of `plan_run`.
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
        metadata = {MADE_FROM: _made_from(settings, table), PLAN: json.dumps(asdict(_plan(parts)))}
    write_catalog(rows, catalog, metadata)


def _simulated_plan(settings: Settings) -> Plan:
    """The simulated survey's galaxies depend on its configuration and their number in it, and on nothing else."""
    galaxies, size = settings.cutouts.simulated.galaxies, settings.catalog.chunk_size
    survey = settings.cutouts.simulated.model_dump(exclude={"galaxies"})
    names = chunk_names(galaxies, size)
    ranges = [(i * size, min((i + 1) * size, galaxies)) for i in range(len(names))]
    return Plan(galaxies, {n: config_digest(survey, settings.seed, r) for n, r in zip(names, ranges, strict=True)})


def _chunks(settings: Settings, catalog: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return split_catalog(catalog, settings.catalog.chunk_size, chunk_columns(catalog, settings.cutouts.source))


def _plan(chunks: Mapping[str, pd.DataFrame]) -> Plan:
    return Plan(sum(map(len, chunks.values())), {name: _digest(rows) for name, rows in chunks.items()})


def _digest(rows: pd.DataFrame) -> str:
    """Digest of a chunk's columns and values."""
    values = pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes()
    return hashlib.sha256(json.dumps(list(rows.columns)).encode() + values).hexdigest()[:16]


def _made_from(settings: Settings, table: str | Path) -> str:
    """Digest of all that a catalog, and its division into chunks, are made from."""
    try:
        with Path(table).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TidalkinError(f"catalog {table}: cannot be read ({error.strerror}): correct catalog.path") from None
    return config_digest(settings.catalog.content(), settings.cutouts.source, content)
