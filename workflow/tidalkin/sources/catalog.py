"""Obtain the catalog of a run and divide it into chunks.

The catalog is a table of the user's, the catalog of a data set, the answer of HSC's catalog server, or simulated.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from tidalkin.catalog.labels import label_from
from tidalkin.catalog.plan import DIGESTS, MADE_FROM, CatalogDigests, made_from, plan_chunks, simulated_digests
from tidalkin.catalog.read import read_catalog, split_catalog, write_catalog
from tidalkin.config import BANDS, Settings
from tidalkin.errors import TidalkinError
from tidalkin.sources.hsc.psf import with_psf_fwhm

FETCHING = ("object_id", "ra", "dec", "tract", "patch")


def obtain_catalog(settings: Settings, table: str | Path | None) -> pd.DataFrame:
    r"""Read, query or simulate the run's catalog, and check it.

    Parameters
    ----------
    settings : Settings
        The run's configuration.
    table : str or Path or None
        The user's table, the folder of the Multimodal Universe's data set, or the catalog server's answer; None for
        the simulated survey.

    Raises
    ------
    TidalkinError
        If the table is not a catalog.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder) / "galaxies.csv"
    ...     _ = table.write_text("objid,RAJ2000,DEJ2000\n7,150.1,2.2\n")
    ...     obtain_catalog(Settings(), table)
       object_id     ra  dec
    0          7  150.1  2.2
    """
    if table is None:
        # Imported here, because only this catalog needs GalSim.
        from tidalkin.sources.simulated import simulate_catalog

        return simulate_catalog(settings.cutouts.simulated, settings.seed)
    if Path(table).is_dir():
        # Imported here, because only this catalog needs HDF5.
        from tidalkin.sources.mmu import mmu_catalog

        catalog = mmu_catalog(table)
    else:
        catalog = with_psf_fwhm(read_catalog(table, settings.catalog.columns))
    if not settings.catalog.label_from:
        return catalog
    return label_from(catalog, settings.catalog.label_from, settings.catalog.columns, f"catalog {table}")


def digest_table(settings: Settings, table: str | Path) -> CatalogDigests:
    r"""Digest the rows of a table for `tidalkin.sources.plan.plan_run`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder) / "galaxies.csv"
    ...     _ = table.write_text("object_id,ra,dec\n7,150.1,2.2\n8,150.2,2.3\n")
    ...     digest_table(Settings(), table).galaxies
    2
    """
    return _digests(settings, obtain_catalog(settings, table))


def write_run_catalog(settings: Settings, table: str | Path | None, catalog: str | Path) -> None:
    r"""Check the run's catalog and write it, with the digests for planning.

    Parameters
    ----------
    settings : Settings
        The run's configuration.
    table : str or Path or None
        The user's table or the catalog server's answer; None for the simulated survey.
    catalog : str or Path
        ``catalog.parquet``.

    Raises
    ------
    TidalkinError
        If the table is not a catalog.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table, catalog = Path(folder) / "galaxies.csv", Path(folder) / "catalog.parquet"
    ...     _ = table.write_text("objid,RAJ2000,DEJ2000\n7,150.1,2.2\n")
    ...     write_run_catalog(Settings(), table, catalog)
    ...     pd.read_parquet(catalog)
       object_id     ra  dec
    0          7  150.1  2.2
    """
    rows = obtain_catalog(settings, table)
    metadata = {}
    if table is not None:
        metadata = {MADE_FROM: made_from(settings, table), DIGESTS: json.dumps(asdict(_digests(settings, rows)))}
    write_catalog(rows, catalog, metadata)


def write_chunks(
    settings: Settings, table: str | Path | None, plan: str, chunks: str | Path, objects: str | Path
) -> None:
    """Write the rows of each chunk, and the columns that the conversion reads.

    Parameters
    ----------
    settings : Settings
        The run's configuration.
    table : str or Path or None
        The user's table or the catalog server's answer; None for the simulated survey.
    plan : str
        Digest of the plan that the workflow follows.
    chunks : str or Path
        Folder to write, with one Parquet file per chunk.
    objects : str or Path
        Parquet file to write: object_id, ra, dec and, if known, psf_fwhm_<band>.

    Raises
    ------
    TidalkinError
        If the table has changed since the workflow was planned.

    Examples
    --------
    >>> settings = Settings(catalog={"chunk_size": 50}, cutouts={"simulated": {"galaxies": 120}})
    >>> plan = plan_chunks(settings, simulated_digests(settings)).digest
    >>> write_chunks(settings, None, plan, "chunks", "objects.parquet")
    >>> len(list(Path("chunks").glob("*.parquet")))
    3
    """
    rows = obtain_catalog(settings, table)
    digests = simulated_digests(settings) if table is None else _digests(settings, rows)
    planned = plan_chunks(settings, digests)
    if planned.digest != plan:
        raise TidalkinError(f"catalog {table}: was changed while the workflow ran: start it again")
    for name, part in zip(planned.chunks, _chunks(settings, rows).values(), strict=True):
        write_catalog(part, Path(chunks) / f"{name}.parquet")
    write_catalog(rows[conversion_columns(rows)], objects)


def chunk_columns(catalog: pd.DataFrame, source: str) -> list[str] | None:
    """List the columns that fetching needs; None means all, as the simulated survey does.

    The user's own columns are left out, so that a new one does not cause a new download.

    Examples
    --------
    >>> catalog = pd.DataFrame(columns=["object_id", "ra", "dec", "tract", "my_mass"])
    >>> chunk_columns(catalog, "hsc_das")
    ['object_id', 'ra', 'dec', 'tract']
    """
    return None if source == "simulated" else [name for name in FETCHING if name in catalog.columns]


def conversion_columns(catalog: pd.DataFrame) -> list[str]:
    """List the columns that the conversion to images reads.

    Examples
    --------
    >>> catalog = pd.DataFrame(columns=["object_id", "ra", "dec", "label", "psf_fwhm_i"])
    >>> conversion_columns(catalog)
    ['object_id', 'ra', 'dec', 'psf_fwhm_i']
    """
    seeing = [f"psf_fwhm_{band}" for band in BANDS]
    return ["object_id", "ra", "dec", *(name for name in seeing if name in catalog.columns)]


def _chunks(settings: Settings, catalog: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return split_catalog(catalog, settings.catalog.chunk_size, chunk_columns(catalog, settings.cutouts.source))


def _digests(settings: Settings, catalog: pd.DataFrame) -> CatalogDigests:
    chunks = tuple(_rows_digest(rows) for rows in _chunks(settings, catalog).values())
    parts = split_catalog(catalog, settings.catalog.chunk_size, conversion_columns(catalog))
    return CatalogDigests(len(catalog), chunks, tuple(_rows_digest(rows) for rows in parts.values()))


def _rows_digest(rows: pd.DataFrame) -> str:
    """Digest the columns and values of some rows."""
    values = pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes()
    return hashlib.sha256(json.dumps(list(rows.columns)).encode() + values).hexdigest()[:16]
