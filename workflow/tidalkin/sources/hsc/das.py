"""Cutouts from HSC's data access service (DAS), each one stored or accounted for.

One chunk is one job, one connection and one journal (`tidalkin.download.journal`). Cutouts are requested in the order
of the public client, in lists of up to 990. Each answer is checked member by member (`tidalkin.sources.hsc.protocol`)
and stored at once. After a fault, what has not arrived is requested again. The waits double. If the server fails over
the content of a list, the lists get shorter, so that one bad position does not take its neighbours with it. Cutouts
that a complete answer leaves out are requested once more at the end; after that they are absent. An answer without any
cutout does not prove this. If it comes twice, its cutouts have failed.

The protocol is that of downloadCutout.py in HSC's data-access-tools (pdr3); see `tidalkin.sources.hsc.protocol`.
"""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Self

import httpx
import pandas as pd

from tidalkin.atomic import disk_errors
from tidalkin.config import Cutouts, HscDas
from tidalkin.cutouts.base import Cutout
from tidalkin.download.connections import connection_lock, host_folder
from tidalkin.download.credentials import Account, Refusals, find_account
from tidalkin.download.faults import Fault
from tidalkin.download.http import client, retrying
from tidalkin.download.journal import DownloadJournal
from tidalkin.download.journal_file import REQUESTS
from tidalkin.download.request import CutoutRequest, Key, VerifiedCutout
from tidalkin.sources.base import SourceContext
from tidalkin.sources.hsc.cutout_server import CutoutServer, cutout_requests, in_server_order
from tidalkin.sources.hsc.protocol import Rejected

logger = logging.getLogger(__name__)

MOST_FAILED_PARTS = 3
"""Parts of a list that may fail in a row before the rest of the list is given up; each takes an hour of waiting."""
NO_DATA = "the archive has no such data"


@dataclass
class RequestRecord:
    """One HTTP request: a row of the chunk's ``requests.csv``, which the download report reads."""

    started: float
    """Unix time, seconds."""
    asked: int
    """Cutouts requested."""
    seconds: float = 0.0
    received: int = 0
    bytes: int = 0
    rejected: int = 0
    fault: str = ""


@dataclass
class Progress:
    """Progress of a chunk, for the log."""

    requested: int
    received: int = 0
    bytes: int = 0
    began: float = field(default_factory=time.monotonic)

    def log(self, record: RequestRecord) -> None:
        """Log cutouts, bytes, rate and the time left."""
        self.received += record.received
        self.bytes += record.bytes
        seconds = max(time.monotonic() - self.began, 1e-9)
        left = (self.requested - self.received) * seconds / self.received if self.received else None
        logger.info(
            "%d of %d cutouts, %.1f MB, %.2f MB/s, %s",
            self.received,
            self.requested,
            self.bytes / 1e6,
            self.bytes / 1e6 / seconds,
            "none yet" if left is None else f"{left:.0f} s left",
        )


class HscDasSource:
    """HSC's cutout service as a source of one chunk.

    Parameters
    ----------
    cutouts : Cutouts
        The configuration's section: size, and ``hsc_das``.
    folder : Path
        Folder of the chunk's journal.
    account : Account, optional
        Credentials; by default, they are looked for.
    lock_folder : Path, optional
        Where the connection limit is kept; by default, in the user's cache directory.
    """

    def __init__(
        self, cutouts: Cutouts, folder: Path, account: Account | None = None, lock_folder: Path | None = None
    ) -> None:
        self._das = cutouts.hsc_das
        self._size = cutouts.size_pixels
        self._folder = Path(folder)
        self._lock_folder = lock_folder
        self._address = httpx.URL(f"{self._das.url}/cgi-bin/cutout")
        self._account = account

    @classmethod
    def open(cls, cutouts: Cutouts, context: SourceContext) -> Self:
        """Open the source: see `tidalkin.sources.base.SourceType`."""
        return cls(cutouts, context.folder, context.account, context.lock_folder)

    def fetch(self, objects: pd.DataFrame, bands: Sequence[str]) -> Iterator[Cutout]:
        """Download the missing cutouts, then yield all of them.

        Raises
        ------
        TidalkinError
            If the server refuses the address or the credentials, another process works on this chunk, or the disk is
            full.
        """
        requests = cutout_requests(objects, bands, self._das, self._size)
        with DownloadJournal(self._folder, requests) as journal:
            failed = self._download(requests, journal)
            yield from journal.cutouts(requests, in_server_order(requests), failed, lambda _: NO_DATA)

    def _download(self, requests: Sequence[CutoutRequest], journal: DownloadJournal) -> Mapping[Key, str]:
        """Request the missing cutouts; return the reasons of those that failed."""
        wanted = [request for request in in_server_order(requests) if not journal.is_final(request)]
        if not wanted:
            return {}
        account = self._account or find_account(self._address.host)
        host = self._address.netloc.decode()
        transport = self._das.transport
        with (
            connection_lock(host, transport.connections, self._lock_folder),
            client(transport, account.auth()) as connection,
        ):
            refusals = Refusals(host_folder(host, self._lock_folder), account)
            server = CutoutServer(self._das, self._size, self._address, connection, refusals)
            return _ChunkDownload(self._das, server, journal, len(requests), len(wanted)).run(wanted)


class _ChunkDownload:
    """The requests of one chunk."""

    def __init__(
        self, das: HscDas, server: CutoutServer, journal: DownloadJournal, n_requests: int, n_wanted: int
    ) -> None:
        self._transport = das.transport
        self._server = server
        self._journal = journal
        self._whole_list = min(n_requests, self._transport.lines_per_request)
        self._progress = Progress(n_wanted)
        self._missing: dict[Key, CutoutRequest] = {}
        self._unanswered: set[Key] = set()
        """Cutouts of a whole list whose answer was empty."""
        self._rejections: dict[Key, str] = {}

    def run(self, wanted: Sequence[CutoutRequest]) -> dict[Key, str]:
        """Send all requests, those for missing cutouts once more, and return the reasons of failures."""
        failed = self._request_all(wanted)
        missing, self._missing = list(self._missing.values()), {}
        if not missing:
            return failed
        logger.info("%d cutouts are missing; they are requested once more", len(missing))
        failed |= self._request_all(missing)
        unanswered = self._missing.keys() & self._unanswered
        self._journal.mark_absent(request for key, request in self._missing.items() if key not in unanswered)
        if unanswered:
            reason = "the server answered twice without a single cutout for a whole list"
            logger.warning(
                "%d cutouts failed: %s: check `cutouts.hsc_das.rerun` and the positions", len(unanswered), reason
            )
            failed |= dict.fromkeys(unanswered, reason)
        return failed

    def _request_all(self, requests: Sequence[CutoutRequest]) -> dict[Key, str]:
        failed: dict[Key, str] = {}
        for start in range(0, len(requests), self._transport.lines_per_request):
            failed |= self._request_list(requests[start : start + self._transport.lines_per_request])
        return failed

    def _request_list(self, requests: Sequence[CutoutRequest]) -> dict[Key, str]:
        """Send the requests of one list until each is final, missing or failed."""
        failed: dict[Key, str] = {}
        exhausted = 0
        while remaining := self._open(requests, failed):
            part = _ShrinkingPart(remaining)
            again = retrying(
                self._transport.attempts, self._transport.backoff_seconds, self._transport.backoff_maximum_seconds
            )
            try:
                again(self._request_part, part)
                exhausted = 0
            except Fault as fault:
                # The last, smallest part is to blame, unless nothing works any more.
                exhausted += 1
                blamed = remaining if fault.server_unavailable or exhausted > MOST_FAILED_PARTS else part.requests
                reason = f"{self._transport.attempts} tries without result, the last: {fault}"
                failed |= {request.key: self._rejections.get(request.key, reason) for request in blamed}
                logger.warning("%d cutouts failed: %s", len(blamed), reason)
        return failed

    def _open(self, requests: Sequence[CutoutRequest], failed: Mapping[Key, str]) -> list[CutoutRequest]:
        """List the requests that are neither final nor missing nor failed."""
        closed = self._missing.keys() | failed.keys()
        return [request for request in requests if request.key not in closed and not self._journal.is_final(request)]

    def _request_part(self, part: _ShrinkingPart) -> None:
        """Send one HTTP request; raise its fault only if it brought nothing new."""
        part.shrink_if_failed()
        record = RequestRecord(time.time(), len(part.requests))
        began = time.monotonic()
        before = len(self._open(part.requests, {}))
        try:
            self._receive(part.requests, record)
        except Fault as fault:
            record.fault = str(fault)
            if len(self._open(part.requests, {})) == before:
                part.failed = not fault.server_unavailable
                raise
            logger.warning("%d cutouts came, then: %s", record.received, fault)
            time.sleep(max(self._transport.backoff_seconds, fault.retry_after))
        finally:
            record.seconds = time.monotonic() - began
            self._log(record)

    def _log(self, record: RequestRecord) -> None:
        """Add a row to the chunk's ``requests.csv``."""
        self._progress.log(record)
        path = self._journal.folder / REQUESTS
        with disk_errors(path), path.open("a", newline="") as rows:
            writer = csv.writer(rows)
            # A full disk can leave an empty file.
            if not rows.tell():
                writer.writerow([column.name for column in fields(RequestRecord)])
            writer.writerow(astuple(record))

    def _receive(self, requests: Sequence[CutoutRequest], record: RequestRecord) -> None:
        """Store the members of one answer as they come; note missing cutouts."""
        rejected: dict[Key | None, str] = {}
        self._store(self._server.answer(requests), rejected, record)
        if not record.received and not rejected and len(requests) >= self._whole_list and not self._has_any(requests):
            logger.warning("the server answered a list of %d cutouts without a single one", len(requests))
            self._unanswered |= {request.key for request in requests}
        # After a foreign member it is unknown which cutout it replaces.
        if None not in rejected:
            for request in self._open(requests, {}):
                if request.key in rejected:
                    continue
                if request.key in self._journal:
                    self._journal.mark_final(request.key)
                else:
                    self._missing[request.key] = request
        self._journal.flush()
        if rejected:
            raise Fault(f"a member was rejected: {list(rejected.values())[-1]}")

    def _has_any(self, requests: Sequence[CutoutRequest]) -> bool:
        return any(request.key in self._journal for request in requests)

    def _store(
        self, members: Iterator[VerifiedCutout | Rejected], rejected: dict[Key | None, str], record: RequestRecord
    ) -> None:
        """Store the cutouts of an answer, and note the others in ``rejected``.

        A request gets several answers where tracts overlap, one for each tract. The lowest tract is taken. The service
        answers request by request, in order. A cutout is therefore final when the answer goes on to another request or
        ends, unless a member of its request was rejected.
        """
        latest: VerifiedCutout | None = None
        is_final = False
        try:
            for member in members:
                if latest and member.request and member.request is not latest.request:
                    self._add(latest, record, final=latest.request.key not in rejected)
                    latest = None
                if isinstance(member, Rejected):
                    record.rejected += 1
                    rejected[member.request.key if member.request else None] = member.why
                    if member.request:
                        self._rejections[member.request.key] = member.why
                elif latest is None or member.tract < latest.tract:
                    latest = member
            is_final = latest is not None and latest.request.key not in rejected
        finally:
            # The last request of a broken answer may have more tracts: it is sent again, and this cutout is kept.
            if latest:
                self._add(latest, record, final=is_final)
            self._journal.flush()

    def _add(self, cutout: VerifiedCutout, record: RequestRecord, *, final: bool) -> None:
        record.received += cutout.request.key not in self._journal
        record.bytes += len(cutout.content)
        self._journal.add(cutout, final=final)


class _ShrinkingPart:
    """The part of a list that is sent; it shrinks after each failure.

    It is the whole list at first, and a quarter after each try that failed over the content.
    """

    def __init__(self, requests: Sequence[CutoutRequest]) -> None:
        self.requests = requests
        self.failed = False

    def shrink_if_failed(self) -> None:
        """Keep the first quarter, if the server failed over the latest part."""
        if self.failed:
            self.requests = self.requests[: max(1, len(self.requests) // 4)]
            self.failed = False
