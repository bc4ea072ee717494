"""Query HSC's catalog server for a catalog: count, query, download, and leave no job behind.

A job at the server uses the user's quota until it is deleted. It is deleted after every end of a query: success, fault,
Ctrl-C, SIGTERM. After a kill -9, the next query for the same file finds the job's number there and deletes the job. The
server itself is in `tidalkin.sources.hsc.catalog_server`.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import re
import time
from pathlib import Path

import httpx
import pandas as pd

import tidalkin
from tidalkin.atomic import atomic_path, disk_errors
from tidalkin.catalog.read import read_catalog
from tidalkin.config import Catalog
from tidalkin.download.credentials import Account, find_account
from tidalkin.download.http import client
from tidalkin.download.interruptions import Interruptions
from tidalkin.errors import TidalkinError
from tidalkin.sources.hsc.catalog_server import CatalogServer
from tidalkin.sources.hsc.psf import with_psf_fwhm

logger = logging.getLogger(__name__)


def query_catalog(settings: Catalog, output: str | Path, account: Account | None = None) -> pd.DataFrame:
    """Run the SQL of ``settings.query`` at HSC's catalog server.

    Parameters
    ----------
    settings : Catalog
        The configuration's section, with ``source: hsc_sql``.
    output : str or Path
        File of the server's table; its name ends in ``.csv.gz``. The file ``<output>.json`` beside it holds the SQL,
        the time, the number of rows and the table's digest. If both exist for the same SQL and release, as after a run
        that was interrupted later on, the server is not asked again.
    account : Account, optional
        Credentials; by default, they are looked for.

    Returns
    -------
    pandas.DataFrame
        The checked catalog, with ``psf_fwhm_<band>`` where the query has the PSF's moments.

    Raises
    ------
    TidalkinError
        If there is no SQL, or the server refuses it or the credentials, finds no rows or too many, or does not answer.

    Examples
    --------
    >>> settings = Catalog(source="hsc_sql", query="config/queries/pdr3_wide_galaxies.sql")
    >>> catalog = query_catalog(settings, "results/hsc_pdr3/query.csv.gz")  # doctest: +SKIP
    """
    output = Path(output)
    sql = _read_sql(settings)
    if not _is_complete(output, sql, settings):
        address = httpx.URL(settings.server.url)
        account = account or find_account(address.host)
        with disk_errors(output):
            output.parent.mkdir(parents=True, exist_ok=True)
        # A signal can leave the request that it interrupts in its connection. The job is then deleted over another.
        with client(settings.server, connections=2) as connection, Interruptions() as interruptions:
            server = CatalogServer(settings, address, account, connection)
            n_rows = _expected_rows(server, sql, settings)
            started = time.time()
            with server.job(sql, output.with_name(f"{output.name}.job"), interruptions) as job:
                server.wait(job)
                server.download(job, output, settings.server.maximum_rows if n_rows is None else n_rows)
        _write_provenance(output, sql, settings, n_rows, started)
    return with_psf_fwhm(read_catalog(output, settings.columns))


def _read_sql(settings: Catalog) -> str:
    assert settings.query is not None  # the configuration is checked
    try:
        sql = Path(settings.query).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise TidalkinError(f"catalog.query {settings.query} cannot be read: {reason}") from None
    if not sql:
        raise TidalkinError(f"catalog.query {settings.query} is empty: write the SQL into it")
    return sql


def counting(sql: str) -> str:
    r"""Return the SQL that counts the rows of a statement.

    Examples
    --------
    >>> counting("SELECT 1; -- one")
    'SELECT COUNT(*) FROM (\nSELECT 1\n) AS counted'
    """
    # A semicolon and comments may follow the statement. They cannot stand within parentheses.
    statement = re.sub(r"(?:\s++|;|--[^\n]*+(?:\n|\Z)|/\*(?:(?!\*/).)*+\*/)++\Z", "", sql, flags=re.DOTALL)
    return f"SELECT COUNT(*) FROM (\n{statement}\n) AS counted"


def _expected_rows(server: CatalogServer, sql: str, settings: Catalog) -> int | None:
    """Count the rows of the query; None if a preview takes too long."""
    n_rows = server.count(counting(sql))
    if n_rows is None:
        logger.warning("the server cannot count the rows in the time of a preview; the query is sent uncounted")
        return None
    logger.info("%s will find %d rows", settings.query, n_rows)
    if n_rows == 0:
        raise TidalkinError(f"catalog.query {settings.query} finds no rows in {settings.rerun}: widen its WHERE")
    if n_rows > settings.server.maximum_rows:
        raise TidalkinError(
            f"catalog.query {settings.query} finds {n_rows} rows, more than catalog.server.maximum_rows "
            f"({settings.server.maximum_rows}): narrow its WHERE or raise that number"
        )
    return n_rows


def _write_provenance(output: Path, sql: str, settings: Catalog, n_rows: int | None, started: float) -> None:
    with output.open("rb") as table:
        digest = hashlib.file_digest(table, "sha256").hexdigest()
    provenance = {
        "sql": sql,
        "release": settings.rerun,
        "server": settings.server.url,
        "submitted": datetime.datetime.fromtimestamp(started, datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(time.time() - started, 1),
        "rows_counted": n_rows,
        "sha256": digest,
        "tidalkin": tidalkin.__version__,
    }
    with atomic_path(_provenance(output)) as path:
        path.write_text(json.dumps(provenance, indent=2) + "\n")


def _provenance(output: Path) -> Path:
    return output.with_name(f"{output.name}.json")


def is_answered(settings: Catalog, output: Path) -> bool:
    """Return whether ``output`` is the complete answer to ``settings.query`` from an earlier run.

    Examples
    --------
    >>> _ = Path("galaxies.sql").write_text("SELECT object_id, ra, dec FROM pdr3_wide.forced LIMIT 100")
    >>> is_answered(Catalog(source="hsc_sql", query="galaxies.sql"), Path("query.csv.gz"))
    False
    """
    return _is_complete(output, _read_sql(settings), settings)


def _is_complete(output: Path, sql: str, settings: Catalog) -> bool:
    if not (output.exists() and _provenance(output).exists()):
        return False
    try:
        kept = json.loads(_provenance(output).read_text())
    except ValueError:
        return False
    if (kept.get("sql"), kept.get("release"), kept.get("server")) != (sql, settings.rerun, settings.server.url):
        return False
    with output.open("rb") as table:
        return bool(hashlib.file_digest(table, "sha256").hexdigest() == kept.get("sha256"))
