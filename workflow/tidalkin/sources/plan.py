"""Plan a run from its configuration and its table of galaxies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidalkin.catalog.plan import DIGESTS, MADE_FROM, CatalogDigests, Plan, made_from, plan_chunks, simulated_digests
from tidalkin.config import Settings
from tidalkin.errors import TidalkinError, first_line

if TYPE_CHECKING:
    import pyarrow as pa


def plan_run(settings: Settings, table: str | Path | None, catalog: str | Path) -> Plan | None:
    """Plan a run.

    Parameters
    ----------
    settings : Settings
        The run's configuration.
    table : str or Path or None
        The user's table or the catalog server's answer, which may not exist yet; None for the simulated survey.
    catalog : str or Path
        The checked catalog. It may not exist yet, or may come from an earlier version of the table.

    Returns
    -------
    Plan or None
        None if the catalog server must be queried first.

    Raises
    ------
    TidalkinError
        If the user's table cannot be read or is not a catalog. No job has started by then.

    Examples
    --------
    >>> settings = Settings(catalog={"chunk_size": 300}, cutouts={"simulated": {"galaxies": 700}})
    >>> plan = plan_run(settings, None, "catalog.parquet")
    >>> plan.galaxies, len(plan.chunks)
    (700, 3)
    """
    if table is None:
        return plan_chunks(settings, simulated_digests(settings))
    if not is_known(settings, table):
        return None
    metadata = _current_metadata(settings, table, catalog)
    if metadata is not None:
        values = json.loads(metadata[DIGESTS])
        digests = CatalogDigests(values["galaxies"], tuple(values["chunks"]), tuple(values["objects"]))
        return plan_chunks(settings, digests)
    from tidalkin.sources.catalog import digest_table

    return plan_chunks(settings, digest_table(settings, table))


def is_known(settings: Settings, table: str | Path) -> bool:
    """Tell whether the table exists, or must first be queried from the catalog server.

    Examples
    --------
    >>> is_known(Settings(), "galaxies.csv")  # a file of the user, not a query
    True
    """
    if settings.catalog.source != "hsc_sql":
        return True
    from tidalkin.sources.hsc.sql import is_answered

    return is_answered(settings.catalog, Path(table))


def planned_objects(
    settings: Settings,
    table: str | Path | None,
    catalog: str | Path,
    columns: Sequence[str] = ("object_id", "ra", "dec"),
) -> pa.Table:
    r"""Read columns of a run's galaxies, even before its catalog exists.

    Parameters
    ----------
    settings, table, catalog
        As for `plan_run`.
    columns : sequence of str
        Names of the columns. One that the catalog lacks is left out.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder) / "galaxies.csv"
    ...     _ = table.write_text("object_id,ra,dec,label\n7,150.1,2.2,shell\n")
    ...     planned_objects(Settings(), table, Path(folder) / "catalog.parquet").to_pylist()
    [{'object_id': 7, 'ra': 150.1, 'dec': 2.2}]
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if table is not None and _current_metadata(settings, table, catalog) is not None:
        known = pq.read_schema(catalog).names
        return pq.read_table(catalog, columns=[name for name in columns if name in known])
    from tidalkin.sources.catalog import obtain_catalog

    objects = obtain_catalog(settings, table)
    return pa.Table.from_pandas(objects[[name for name in columns if name in objects]], preserve_index=False)


def _current_metadata(settings: Settings, table: str | Path, catalog: str | Path) -> dict[bytes, bytes] | None:
    """Return the metadata of a checked catalog that was made from this table, else None."""
    if not Path(catalog).exists():
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata: dict[bytes, Any] = pq.read_metadata(catalog).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise TidalkinError(f"{catalog}: is damaged ({first_line(error)}): delete it, and it is made again") from None
    is_current = DIGESTS in metadata and metadata.get(MADE_FROM) == made_from(settings, table).encode()
    return metadata if is_current else None
