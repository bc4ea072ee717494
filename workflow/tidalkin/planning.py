"""What a run will fetch, known before anything has run: how many galaxies, and which chunks hold which of them.

So the whole workflow can be planned and shown, and a catalog that has grown fetches its new chunks and no others: the
digest of a chunk's rows stands among the parameters of the rule that fetches it.

The Snakefile, which every job reads again, plans with this module: what reads tables, and so imports pandas and
astropy, is in `tidalkin.planned_catalog`, and imported only where a table has not become a catalog yet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidalkin.config import Settings, config_digest
from tidalkin.errors import TidalkinError
from tidalkin.partition import chunk_names

PLAN, MADE_FROM = b"tidalkin_plan", b"tidalkin_made_from"
"""Keys of the checked catalog's metadata."""


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
    if settings.catalog.source == "hsc_sql":
        from tidalkin.sources.hsc_sql import is_answered

        if not is_answered(settings.catalog, Path(table)):
            return None
    if Path(catalog).exists():
        import pyarrow.parquet as pq

        metadata = pq.read_metadata(catalog).metadata or {}
        if metadata.get(MADE_FROM) == made_from(settings, table).encode():
            return Plan(**json.loads(metadata[PLAN]))
    from tidalkin.planned_catalog import plan_table

    return plan_table(settings, table)


def made_from(settings: Settings, table: str | Path) -> str:
    """Digest of all that a catalog, and its division into chunks, are made from.

    Of a folder, a set of images with its own catalog that may have terabytes, the names, sizes and times of its files.
    """
    try:
        if Path(table).is_dir():
            files = [(path, path.stat()) for path in sorted(Path(table).rglob("*.hdf5"))]
            content: Any = [(str(path), status.st_size, status.st_mtime_ns) for path, status in files]
        else:
            with Path(table).open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TidalkinError(f"catalog {table}: cannot be read ({error.strerror}): correct catalog.path") from None
    return config_digest(settings.catalog.content(), settings.cutouts.source, content)


def _simulated_plan(settings: Settings) -> Plan:
    """The simulated survey's galaxies depend on its configuration and their number in it, and on nothing else."""
    galaxies, size = settings.cutouts.simulated.galaxies, settings.catalog.chunk_size
    survey = settings.cutouts.simulated.model_dump(exclude={"galaxies"})
    names = chunk_names(galaxies, size)
    ranges = [(i * size, min((i + 1) * size, galaxies)) for i in range(len(names))]
    return Plan(galaxies, {n: config_digest(survey, settings.seed, r) for n, r in zip(names, ranges, strict=True)})
