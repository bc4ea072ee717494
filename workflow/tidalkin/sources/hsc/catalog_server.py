"""HSC's catalog server (CAS): its methods, retries, and the end of every job.

The protocol is that of hscReleaseQuery.py, clientVersion 20190514.1, in HSC's data-access-tools for pdr3. It succeeds
hscSspQuery3.py, which speaks the same protocol to the collaboration's own server. Methods are POSTs of JSON to
``preview``, ``submit``, ``status``, ``download`` and ``delete`` below ``.../datasearch/api/catalog_jobs/``. The server
answers 401 to wrong credentials, and 406 with a message to SQL that it refuses.
"""

from __future__ import annotations

import gzip
import itertools
import json
import logging
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import tenacity

from tidalkin.atomic import atomic_path, disk_errors
from tidalkin.config import Catalog
from tidalkin.download.credentials import Account
from tidalkin.download.faults import Fault
from tidalkin.download.http import (
    quoted,
    raise_for_wrong_address,
    read_body,
    refused_credentials,
    retrying,
    status_fault,
    steady,
    transport_faults,
)
from tidalkin.download.interruptions import Interruptions
from tidalkin.errors import TidalkinError

logger = logging.getLogger(__name__)

ADDRESS_KEY = "catalog.server.url"
CLIENT_VERSION = 20190514.1
OUT_FORMAT = "csv.gz"  # a gzip file tells whether it is complete
LARGEST_ANSWER = 1 << 24
"""Most bytes of an answer other than a table, and of the comments above a table."""
LARGEST_ROW = 1 << 16
"""Most bytes of a table's row: PostgreSQL has at most 1,664 columns in a result."""


class CatalogServer:
    """The methods of the catalog server. Each is a POST of a JSON object.

    Parameters
    ----------
    settings : Catalog
        The configuration's section.
    address : httpx.URL
        Address of the server.
    account : Account
        Credentials.
    connection : httpx.Client
        The client.
    """

    def __init__(self, settings: Catalog, address: httpx.URL, account: Account, connection: httpx.Client) -> None:
        self._settings = settings
        self._server = settings.server
        self._address = address
        self._account = account
        self._client = connection

    def count(self, sql: str) -> int | None:
        """Count the rows that a statement finds; None if a preview takes too long.

        Parameters
        ----------
        sql : str
            A statement that counts: see `tidalkin.sources.hsc.sql.counting`.
        """
        try:
            result = self._asking(2)(self._ask, "preview", catalog_job=self._catalog_job(sql))["result"]
            return int(result["rows"][0][0])
        except _SqlRefused as refusal:
            if "timeout" in str(refusal).lower():
                return None
            raise TidalkinError(f"the catalog server refuses {self._settings.query}: {refusal}") from None
        except _NoSuchThing as fault:
            raise TidalkinError(
                f"{self._address.host} does not serve what `{ADDRESS_KEY}` names ({fault}): check that address"
            ) from None
        except Fault as fault:
            # A preview that takes too long ends in a proxy's 502 or 504.
            logger.warning("the preview failed: %s", fault)
            return None
        except (KeyError, IndexError, TypeError, ValueError):
            raise TidalkinError(
                f"{self._address.host} does not answer a preview like the catalog server: check `{ADDRESS_KEY}`"
            ) from None

    @contextmanager
    def job(self, sql: str, number: Path, interruptions: Interruptions) -> Iterator[int]:
        """Submit a job, and delete it at the server when the block ends.

        Parameters
        ----------
        sql : str
            The statement.
        number : Path
            File that holds the job's number as long as the server has the job.
        interruptions : Interruptions
            Signals that wait while a job is submitted or deleted.
        """
        self._delete_earlier(number)
        try:
            yield self._submit(sql, number, interruptions)
        finally:
            if number.exists():
                with interruptions.held():
                    self._delete(int(number.read_text()), number)

    def _delete_earlier(self, number: Path) -> None:
        """Delete the job of an earlier query that was killed."""
        if not number.exists():
            return
        text = number.read_text().strip()
        if not text.isdecimal():
            # A full disk can leave an empty file.
            logger.warning("%s does not hold the number of a job and is ignored", number)
            number.unlink()
            return
        logger.info("deleting job %s of an earlier query that was killed", text)
        self._delete(int(text), number)

    def wait(self, job: int) -> None:
        """Wait until the job is done; look after 1, 2, 4, … seconds."""
        started = time.monotonic()
        for doubling in itertools.count():
            time.sleep(min(2.0 ** min(doubling, 30), self._server.poll_seconds))
            state = self._status(job)
            if state.get("status") == "done":
                return
            if state.get("status") == "error":
                message = quoted(str(state.get("error")))
                raise TidalkinError(f"the catalog server could not run {self._settings.query}: {message}")
            if time.monotonic() - started > self._server.wait_seconds:
                raise TidalkinError(
                    f"the catalog server has not finished {self._settings.query} in "
                    f"{self._server.wait_seconds:.0f} s (its status: {quoted(str(state.get('status')), 40)}): narrow "
                    "the query or raise catalog.server.wait_seconds"
                )

    def download(self, job: int, output: Path, n_rows: int) -> None:
        """Write the job's table as a CSV file with the names of its columns.

        Parameters
        ----------
        job : int
            Number of the job.
        output : Path
            The file to write.
        n_rows : int
            Most rows that the table can have. It bounds what is taken from the server, packed and unpacked.
        """
        try:
            self._asking()(self._download, job, output, LARGEST_ANSWER + n_rows * LARGEST_ROW)
        except Fault as fault:
            raise TidalkinError(
                f"the table of {self._settings.query} cannot be downloaded after {self._server.attempts} tries, "
                f"the last: {fault}"
            ) from None

    def _download(self, job: int, output: Path, at_most: int) -> None:
        with atomic_path(output) as path:
            received = path.with_name(f"{path.name}.received")
            try:
                self._receive(job, received, at_most)
                _as_plain_csv(received, path, at_most)
            finally:
                received.unlink(missing_ok=True)

    def _receive(self, job: int, path: Path, at_most: int) -> None:
        request = self._request("download", id=job)
        with transport_faults(self._address, ADDRESS_KEY):
            response = self._client.send(request, stream=True)
            try:
                if response.status_code != 200:
                    self._check(response, read_body(response, self._server, LARGEST_ANSWER))
                with disk_errors(path), path.open("wb") as file:
                    for piece in steady(response, self._server):
                        file.write(piece)
                        _check_length(file.tell(), at_most)
            finally:
                response.close()

    def _submit(self, sql: str, number: Path, interruptions: Interruptions) -> int:
        """Submit the job, and write its number to a file.

        A request that may have reached the server is not sent again, since it would leave a job that nobody deletes.
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
                raise Fault("the answer does not hold the job's number") from None
            with disk_errors(number):
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
        """Return a retrier of at most ``attempts`` tries and at most the configured number."""
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
        """Send one request, and return the answer; an answer without content is empty."""
        request = self._request(method, **content)
        with transport_faults(self._address, ADDRESS_KEY):
            try:
                response = self._client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                raise self._not_reached(error) from None
            try:
                body = read_body(response, self._server, LARGEST_ANSWER)
            finally:
                response.close()
        self._check(response, body)
        if not body:
            return {}
        try:
            answer = json.loads(body)
        except ValueError:
            kind = quoted(response.headers.get("Content-Type", "an unknown type"), 40)
            raise Fault(f"{method} answers with {kind} instead of JSON") from None
        return answer if isinstance(answer, dict) else {}

    def _not_reached(self, error: httpx.HTTPError) -> _NotReached:
        try:
            with transport_faults(self._address, ADDRESS_KEY):
                raise error
        except Fault as fault:
            return _NotReached(str(fault))

    def _check(self, response: httpx.Response, body: bytes) -> None:
        status = response.status_code
        if status == 401:
            raise refused_credentials(self._account, self._address.host)
        if status == 406:
            raise _SqlRefused(_message(body))
        if status in (429, 503):
            fault = status_fault(response)
            raise _NotReached(str(fault), retry_after=fault.retry_after)
        if status in (400, 404, 410):
            raise _NoSuchThing(f"HTTP {status}: {_message(body)}")
        raise_for_wrong_address(response, self._address, ADDRESS_KEY)
        if status != 200:
            raise status_fault(response)


class _NotReached(Fault):
    """The server did not accept the request, which can be sent again."""


class _NoSuchThing(Fault):
    """The server knows no such job or method; another try would not help."""


class _SqlRefused(Exception):
    """The server refuses the SQL."""


def _message(body: bytes) -> str:
    """Return a server's message in one line."""
    try:
        content = json.loads(body)
    except ValueError:
        content = body.decode(errors="replace")
    if isinstance(content, dict):
        content = content.get("error") or content.get("message") or content
    return quoted(str(content))


def _check_length(n_bytes: int, at_most: int) -> None:
    """Refuse a table that is too long; the next one would be as long."""
    if n_bytes > at_most:
        raise TidalkinError(
            f"the catalog server sends a table of more than {at_most} bytes, more than its rows can have: check "
            f"`{ADDRESS_KEY}`, or ask for fewer columns"
        )


def _as_plain_csv(received: Path, output: Path, at_most: int) -> None:
    """Write the server's CSV without the comments above the column names.

    The last of the comments holds the names.

    Raises
    ------
    Fault
        If the file is cut short or not a gzip file.
    TidalkinError
        If it unpacks to more than ``at_most`` bytes.
    """
    try:
        # No time and no name in the header: equal tables give equal bytes.
        with (
            gzip.open(received, "rb") as table,
            output.open("wb") as file,
            gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as plain,
        ):
            line = names = table.readline(LARGEST_ANSWER + 1)
            while line.startswith(b"#"):
                _check_length(table.tell(), LARGEST_ANSWER)
                names, line = line, table.readline(LARGEST_ANSWER + 1)
            plain.write(names.lstrip(b"# "))
            if names is not line:
                plain.write(line)
            while piece := table.read(1 << 20):
                _check_length(table.tell(), at_most)
                plain.write(piece)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Fault(f"the table came damaged or cut short ({error})") from None
