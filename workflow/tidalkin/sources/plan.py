"""Plan a run from its configuration and its table of galaxies."""

from __future__ import annotations

import json
from pathlib import Path

from tidalkin.catalog.partition import chunk_names
from tidalkin.catalog.plan import MADE_FROM, PLAN, Plan, made_from
from tidalkin.config import Settings, config_digest


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
        from tidalkin.sources.hsc.sql import is_answered

        if not is_answered(settings.catalog, Path(table)):
            return None
    if Path(catalog).exists():
        import pyarrow.parquet as pq

        metadata = pq.read_metadata(catalog).metadata or {}
        if metadata.get(MADE_FROM) == made_from(settings, table).encode():
            return Plan(**json.loads(metadata[PLAN]))
    from tidalkin.sources.catalog import plan_table

    return plan_table(settings, table)


def _simulated_plan(settings: Settings) -> Plan:
    """The simulated survey's galaxies depend on its configuration and their number in it, and on nothing else."""
    galaxies, size = settings.cutouts.simulated.galaxies, settings.catalog.chunk_size
    survey = settings.cutouts.simulated.model_dump(exclude={"galaxies"})
    names = chunk_names(galaxies, size)
    ranges = [(i * size, min((i + 1) * size, galaxies)) for i in range(len(names))]
    return Plan(galaxies, {n: config_digest(survey, settings.seed, r) for n, r in zip(names, ranges, strict=True)})
