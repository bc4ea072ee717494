"""How many galaxies a run has, known before anything has run, so that the whole workflow can be planned and shown."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow.parquet as pq

from tidalkin.config import Settings

MADE_FROM = b"tidalkin_made_from"


def source_digest(path: str | Path) -> str:
    """Digest of the file that a catalog is made from."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def count_galaxies(settings: Settings, catalog: str | Path) -> int | None:
    """Count the galaxies of a run.

    Parameters
    ----------
    settings : Settings
        The run's configuration.
    catalog : str or Path
        The checked catalog, which may not be there yet, or be made from an earlier version of the user's table.

    Returns
    -------
    int or None
        None where it takes a query to the catalog server to know.

    Raises
    ------
    TidalkinError
        If the user's table cannot be read or is not a catalog: before any job has started.
    """
    if settings.catalog.source == "simulated":
        return settings.cutouts.simulated.galaxies
    source = settings.catalog.path or settings.catalog.query
    assert source is not None  # the configuration is checked
    if Path(catalog).exists() and Path(source).exists():
        # The checked catalog answers at once, as long as it is made from the table as it is now.
        parquet = pq.read_metadata(catalog)
        if (parquet.metadata or {}).get(MADE_FROM) == source_digest(source).encode():
            return parquet.num_rows
    if settings.catalog.source == "hsc_sql":
        return None
    from tidalkin.catalog import read_catalog  # brings astropy and pandas, needed only this once

    return len(read_catalog(source, settings.catalog.columns))
