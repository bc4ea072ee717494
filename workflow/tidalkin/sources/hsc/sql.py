"""Ask HSC's catalog server (CAS) for a catalog: count, query, download, and leave nothing behind.

The protocol is that of hscReleaseQuery.py, clientVersion 20190514.1, in HSC's data-access-tools for pdr3 (the successor
of hscSspQuery3.py, which speaks the same protocol to the collaboration's own server): JSON by POST to ``preview``,
``submit``, ``status``, ``download`` and ``delete`` below ``.../datasearch/api/catalog_jobs/``; 401 for wrong
credentials, 406 with a message for SQL that the server refuses.

A job at the server takes a user's quota until it is deleted. It is deleted here after every end of a query: success,
fault, Ctrl-C, SIGTERM; after a kill -9 it is deleted by the next query for the same file, which finds its number there.
"""

from __future__ import annotations

import datetime
import gzip
import hashlib
import itertools
import json
import logging
import re
import shutil
import signal
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Self

import httpx
import numpy as np
import numpy.typing as npt
import pandas as pd
import tenacity

import tidalkin
from tidalkin.atomic import atomic_path
from tidalkin.catalog.read import read_catalog
from tidalkin.config import BANDS, Catalog
from tidalkin.constants import FWHM_PER_SIGMA
from tidalkin.download.credentials import Account, find_account
from tidalkin.download.faults import Fault
from tidalkin.download.http import client, refused_credentials, retrying, safe_address, status_fault, transport_fault
from tidalkin.errors import TidalkinError

logger = logging.getLogger("tidalkin.catalog.read")

CLIENT_VERSION = 20190514.1
OUT_FORMAT = "csv.gz"  # the end of a gzip file tells whether it is whole
MESSAGE_LENGTH = 500
"""Full width at half maximum of a Gaussian over its standard deviation."""


# --- the PSF -----------------------------------------------------------------------------------------------------


def psf_fwhm(shape11: npt.ArrayLike, shape22: npt.ArrayLike, shape12: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The full width at half maximum of a PSF from its second moments: 2.355 · (Mxx·Myy − Mxy²)^¼.

    Parameters
    ----------
    shape11, shape22, shape12 : array
        Mxx, Myy, Mxy: ``<band>_sdssshape_psf_shape11/22/12``, arcsec² in HSC's database (its schema browser).

    Returns
    -------
    array
        Arcsec, NaN where the moments are missing or no ellipse's.
    """
    xx, yy, xy = (np.asarray(moment, dtype=np.float64) for moment in (shape11, shape22, shape12))
    determinant = xx * yy - xy**2
    good = np.isfinite(determinant) & (determinant > 0) & (xx > 0)
    return FWHM_PER_SIGMA * np.where(good, determinant, np.nan) ** 0.25


def with_psf_fwhm(catalog: pd.DataFrame) -> pd.DataFrame:
    """The catalog with a column ``psf_fwhm_<band>`` (arcsec) for each band whose PSF moments it has.

    A column of that name that is there already is kept.
    """
    added = {}
    for band in BANDS:
        moments = [f"{band}_sdssshape_psf_shape{axes}" for axes in ("11", "22", "12")]
        if f"psf_fwhm_{band}" not in catalog and set(moments) <= set(catalog.columns):
            added[f"psf_fwhm_{band}"] = psf_fwhm(*(catalog[moment] for moment in moments))
    return catalog.assign(**added)


# --- the query ---------------------------------------------------------------------------------------------------


def query_catalog(settings: Catalog, output: str | Path, account: Account | None = None) -> pd.DataFrame:
    """Run the SQL of ``settings.query`` at HSC's catalog server.

    Parameters
    ----------
    settings : Catalog
        The configuration's section, with ``source: hsc_sql``.
    output : str or Path
        Where the server's table is kept, a name that ends in ``.csv.gz``. Beside it, in ``<output>.json``, the SQL, the
        time, the number of rows and the table's digest. Where both are there for the same SQL and release, as after a
        run that was interrupted later on, the server is not asked again.
    account : Account, optional
        Credentials; looked for if not given.

    Returns
    -------
    pandas.DataFrame
        The checked catalog, with ``psf_fwhm_<band>`` where the query has the PSF's moments.

    Raises
    ------
    TidalkinError
        If there is no SQL, the server refuses it or the credentials, finds nothing or too much, or does not answer.
    """
    output = Path(output)
    sql = _read_sql(settings)
    if not _is_here(output, sql, settings):
        address = safe_address(settings.server.url, "catalog.server.url")
        account = account or find_account(address.host)
        output.parent.mkdir(parents=True, exist_ok=True)
        with client(settings.server.timeout_seconds) as connection, Interruptions() as interruptions:
            server = _CatalogServer(settings, address, account, connection)
            n_rows = _expected_rows(server, sql, settings)
            started = time.time()
            with server.job(sql, output.with_name(f"{output.name}.job"), interruptions) as job:
                server.wait(job)
                server.download(job, output)
        _keep_provenance(output, sql, settings, n_rows, started)
    return with_psf_fwhm(read_catalog(output, settings.columns))


def _read_sql(settings: Catalog) -> str:
    assert settings.query is not None  # the configuration is checked
    try:
        sql = Path(settings.query).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise TidalkinError(f"catalog.query {settings.query} cannot be read: {reason}") from None
    if not sql:
        raise TidalkinError(f"catalog.query {settings.query} is empty: write the SQL into it")
    return sql


def counting(sql: str) -> str:
    """The SQL that counts the rows of ``sql``."""
    # What may follow the statement is a semicolon and comments, which cannot stand within parentheses.
    statement = re.sub(r"(?:\s++|;|--[^\n]*+(?:\n|\Z)|/\*(?:(?!\*/).)*+\*/)++\Z", "", sql, flags=re.DOTALL)
    return f"SELECT COUNT(*) FROM (\n{statement}\n) AS counted"


def _expected_rows(server: _CatalogServer, sql: str, settings: Catalog) -> int | None:
    """Rows the query will find; None where the server cannot count them in the short time a preview has."""
    n_rows = server.count(sql)
    if n_rows is None:
        logger.warning("the server cannot count the rows in a preview's time; sending the query uncounted")
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


def _keep_provenance(output: Path, sql: str, settings: Catalog, n_rows: int | None, started: float) -> None:
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
    """Whether ``output`` is the whole answer to the SQL of ``settings.query`` from an earlier run."""
    return _is_here(output, _read_sql(settings), settings)


def _is_here(output: Path, sql: str, settings: Catalog) -> bool:
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


# --- the server --------------------------------------------------------------------------------------------------


class _CatalogServer:
    """The server's methods, each a JSON object by POST."""

    def __init__(self, settings: Catalog, address: httpx.URL, account: Account, connection: httpx.Client) -> None:
        self._settings = settings
        self._server = settings.server
        self._address = address
        self._account = account
        self._client = connection

    def count(self, sql: str) -> int | None:
        """Rows that ``sql`` finds, by a preview; None where the preview's short time is not enough."""
        try:
            result = self._asking(2)(self._ask, "preview", catalog_job=self._catalog_job(counting(sql)))["result"]
            return int(result["rows"][0][0])
        except _SqlRefused as refusal:
            if "timeout" in str(refusal).lower():
                return None
            raise TidalkinError(f"the catalog server refuses {self._settings.query}: {refusal}") from None
        except Fault as fault:
            # A preview that takes too long ends in a proxy's 502 or 504.
            logger.warning("the preview failed: %s", fault)
            return None
        except (KeyError, IndexError, TypeError, ValueError):
            raise TidalkinError(
                f"{self._address.host} answers a preview in a way that is not the catalog server's: "
                "check catalog.server.url"
            ) from None

    @contextmanager
    def job(self, sql: str, number: Path, interruptions: Interruptions) -> Iterator[int]:
        """A job for ``sql``, which is deleted at the server when the block ends, however it ends.

        Its number is in the file ``number`` as long as the server has it.
        """
        if number.exists():
            logger.info("deleting job %s of an earlier query, which was killed", number.read_text())
            self._delete(int(number.read_text()), number)
        try:
            yield self._submit(sql, number, interruptions)
        finally:
            if number.exists():
                with interruptions.held():
                    self._delete(int(number.read_text()), number)

    def wait(self, job: int) -> None:
        """Wait until the job is done: as the public client does, after 1, 2, 4, … seconds."""
        started = time.monotonic()
        for doubling in itertools.count():
            time.sleep(min(2.0 ** min(doubling, 30), self._server.poll_seconds))
            state = self._status(job)
            if state.get("status") == "done":
                return
            if state.get("status") == "error":
                message = _one_line(str(state.get("error")))
                raise TidalkinError(f"the catalog server could not run {self._settings.query}: {message}")
            if time.monotonic() - started > self._server.wait_seconds:
                raise TidalkinError(
                    f"the catalog server has not finished {self._settings.query} in "
                    f"{self._server.wait_seconds:.0f} s (its status: {state.get('status')}): narrow the query or raise "
                    "catalog.server.wait_seconds"
                )

    def download(self, job: int, output: Path) -> None:
        """Write the job's table to ``output``: a CSV file whose first line has the columns' names."""
        try:
            self._asking()(self._download, job, output)
        except Fault as fault:
            raise TidalkinError(
                f"the table of {self._settings.query} cannot be downloaded after {self._server.attempts} tries, "
                f"the last: {fault}"
            ) from None

    def _download(self, job: int, output: Path) -> None:
        with atomic_path(output) as path:
            received = path.with_name(f"{path.name}.received")
            try:
                self._receive(job, received)
                _as_plain_csv(received, path)
            finally:
                received.unlink(missing_ok=True)

    def _receive(self, job: int, path: Path) -> None:
        request = self._request("download", id=job)
        try:
            response = self._client.send(request, stream=True)
            try:
                if response.status_code != 200:
                    response.read()
                    self._check(response)
                with path.open("wb") as file:
                    for piece in response.iter_raw():
                        file.write(piece)
            finally:
                response.close()
        except httpx.HTTPError as error:
            raise transport_fault(error) from None

    def _submit(self, sql: str, number: Path, interruptions: Interruptions) -> int:
        """Submit the job, and write its number to a file.

        A request that may have reached the server is not sent again: it would leave a job nobody deletes.
        """
        asking = retrying(
            self._server.attempts,
            self._server.backoff_seconds,
            self._server.backoff_maximum_seconds,
            lambda error: isinstance(error, _NotReached),
        )
        try:
            job = asking(self._submit_once, sql, number, interruptions)
        except _SqlRefused as refusal:
            raise TidalkinError(f"the catalog server refuses {self._settings.query}: {refusal}") from None
        except Fault as fault:
            hint = "set catalog.server.skip_syntax_check: true" if "502" in str(fault) else "try again later"
            raise TidalkinError(
                f"the catalog server did not take {self._settings.query} ({fault}): {hint}, and look at the server's "
                "own page for a job left there"
            ) from None
        logger.info("the catalog server works on job %d", job)
        return job

    def _submit_once(self, sql: str, number: Path, interruptions: Interruptions) -> int:
        with interruptions.held():
            answer = self._ask(
                "submit",
                catalog_job={**self._catalog_job(sql), "out_format": OUT_FORMAT, "include_metainfo_to_body": True},
                nomail=True,
                skip_syntax_check=self._server.skip_syntax_check,
            )
            try:
                job = int(answer["id"])
            except (KeyError, TypeError, ValueError):
                raise Fault("it does not say the job's number") from None
            number.write_text(str(job))
        return job

    def _status(self, job: int) -> dict[str, Any]:
        try:
            return self._asking()(self._ask, "status", id=job)
        except Fault as fault:
            raise TidalkinError(
                f"the catalog server does not tell the state of job {job} after {self._server.attempts} tries, the "
                f"last: {fault}"
            ) from None

    def _delete(self, job: int, number: Path) -> None:
        try:
            self._asking(3)(self._ask, "delete", id=job)
        except _NoSuchThing:
            pass
        except (Fault, TidalkinError) as error:
            # The number stays, so that the next query deletes the job.
            logger.warning("job %d could not be deleted at the catalog server: %s", job, error)
            return
        number.unlink(missing_ok=True)

    def _asking(self, attempts: int = 100) -> tenacity.Retrying:
        """Ask up to ``attempts`` times, and no more often than configured."""
        return retrying(
            min(attempts, self._server.attempts),
            self._server.backoff_seconds,
            self._server.backoff_maximum_seconds,
            lambda error: isinstance(error, Fault) and not isinstance(error, _NoSuchThing),
        )

    def _catalog_job(self, sql: str) -> dict[str, Any]:
        return {"sql": sql, "release_version": self._settings.rerun}

    def _request(self, method: str, **content: object) -> httpx.Request:
        password = self._account.password.get_secret_value()
        credential = {"account_name": self._account.user, "password": password}
        return self._client.build_request(
            "POST",
            f"{self._address}/{method}",
            json={"credential": credential, "clientVersion": CLIENT_VERSION, **content},
        )

    def _ask(self, method: str, **content: object) -> dict[str, Any]:
        request = self._request(method, **content)
        try:
            response = self._client.send(request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _NotReached(str(transport_fault(error))) from None
        except httpx.HTTPError as error:
            raise transport_fault(error) from None
        self._check(response)
        if not response.content:
            return {}
        try:
            answer = response.json()
        except ValueError:
            kind = response.headers.get("Content-Type", "nothing known")
            raise Fault(f"{method} answers with {kind} instead of JSON") from None
        return answer if isinstance(answer, dict) else {}

    def _check(self, response: httpx.Response) -> None:
        status = response.status_code
        if status == 401:
            raise refused_credentials(self._account, self._address.host)
        if status == 406:
            raise _SqlRefused(_message(response))
        if status in (429, 503):
            fault = status_fault(response)
            raise _NotReached(str(fault), retry_after=fault.retry_after)
        if status in (400, 404, 410):
            raise _NoSuchThing(f"HTTP {status}: {_message(response)}")
        if status != 200:
            raise status_fault(response)


class _NotReached(Fault):
    """The request was not taken by the server: it can be sent again without doing anything twice."""


class _NoSuchThing(Fault):
    """The server knows no such job, or no such method: asking again would not help."""


class _SqlRefused(Exception):
    """The server does not like the SQL."""


def _message(response: httpx.Response) -> str:
    """What the server says, in one line."""
    try:
        content = response.json()
    except ValueError:
        content = response.text
    if isinstance(content, dict):
        content = content.get("error") or content.get("message") or content
    return _one_line(str(content))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:MESSAGE_LENGTH]


def _as_plain_csv(received: Path, output: Path) -> None:
    """Write the server's CSV with nothing before the line of names.

    The server begins with comments, the last of which holds the names.

    Raises
    ------
    Fault
        If the file is cut short or no gzip file.
    """
    try:
        # No time and no name in the header: equal tables give equal bytes.
        with (
            gzip.open(received, "rb") as table,
            output.open("wb") as file,
            gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as plain,
        ):
            line = names = table.readline()
            while line.startswith(b"#"):
                names, line = line, table.readline()
            plain.write(names.lstrip(b"# "))
            if names is not line:
                plain.write(line)
            shutil.copyfileobj(table, plain, 1 << 20)
    except (EOFError, OSError, zlib.error) as error:
        raise Fault(f"the table came damaged or cut short ({error})") from None


# --- interruptions -----------------------------------------------------------------------------------------------


class Interruptions:
    """Ctrl-C, SIGTERM and SIGHUP as exceptions, so that what must be done at the end is done.

    Within `held` they wait for its end. Outside the main thread, where Python gives no signals, this does nothing.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        self._holding = False
        self._arrived: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._arrive) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _arrive(self, number: int, _: FrameType | None) -> None:
        self._arrived = number
        if not self._holding:
            self._raise()

    def _raise(self) -> None:
        """Raise what arrived, if anything did."""
        arrived, self._arrived = self._arrived, None
        if arrived == signal.SIGINT:
            raise KeyboardInterrupt
        if arrived is not None:
            raise SystemExit(128 + arrived)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let interruptions wait until the block has ended."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
            self._raise()
