"""Cutouts from HSC's data access service (DAS), each one stored or accounted for.

One chunk is one job, one connection and one journal (`tidalkin.download.journal`). Cutouts are requested in the order
of the public client, in lists of up to 990. Each answer is checked member by member (`tidalkin.sources.hsc.protocol`)
and stored at once. After a fault, what has not arrived is requested again. The waits double. If the server fails over
the content of a list, the lists get shorter, so that one bad position does not take its neighbours with it. Cutouts
that a complete answer leaves out are requested once more at the end; after that they are absent.

The protocol is that of downloadCutout.py in HSC's data-access-tools (pdr3); see `tidalkin.sources.hsc.protocol`.
"""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path

import httpx
import pandas as pd

from tidalkin.config import Cutouts, HscDas
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.cutouts.base import Cutout
from tidalkin.download.connections import connection_lock, host_folder
from tidalkin.download.credentials import Account, Refusals, find_account
from tidalkin.download.faults import Fault
from tidalkin.download.http import (
    LONGEST_WAIT_SECONDS,
    UNAVAILABLE_STATUS,
    client,
    refused_credentials,
    retry_after,
    retrying,
    safe_address,
)
from tidalkin.download.journal import DownloadJournal
from tidalkin.download.request import CutoutRequest, Key, VerifiedCutout
from tidalkin.errors import TidalkinError
from tidalkin.sources.hsc.protocol import Rejected, read_answer

logger = logging.getLogger("tidalkin.download")

COLUMNS = ("rerun", "type", "filter", "tract", "ra", "dec", "sw", "sh", "image", "mask", "variance")
REQUESTS = "requests.csv"
MOST_BAD_PARTS = 3
"""Parts of a request that may fail one after the other before the rest is given up; each takes an hour of waiting."""
BYTES_PER_PIXEL = 12
"""Image, mask and variance, four bytes each."""


@dataclass
class RequestRecord:
    """One HTTP request: a row of the chunk's ``requests.csv``, which the download report reads."""

    started: float
    """Unix time, seconds."""
    asked: int
    seconds: float = 0.0
    received: int = 0
    bytes: int = 0
    rejected: int = 0
    fault: str = ""


@dataclass
class Progress:
    """How far a chunk is, for the log."""

    asked: int
    received: int = 0
    bytes: int = 0
    began: float = field(default_factory=time.monotonic)

    def log(self, record: RequestRecord) -> None:
        """Say how far the chunk is, how fast, and how long it will take."""
        self.received += record.received
        self.bytes += record.bytes
        seconds = max(time.monotonic() - self.began, 1e-9)
        left = f"{(self.asked - self.received) * seconds / self.received:.0f} s left" if self.received else "none yet"
        megabytes = self.bytes / 1e6
        logger.info(
            "%d of %d cutouts, %.1f MB, %.2f MB/s, %s",
            self.received,
            self.asked,
            megabytes,
            megabytes / seconds,
            left,
        )


def cutout_requests(objects: pd.DataFrame, bands: Sequence[str], das: HscDas, size_pixels: int) -> list[CutoutRequest]:
    """The requests that ask for ``objects`` in ``bands``, object by object, band by band.

    A catalog with an integer column ``tract`` asks for that tract; otherwise any tract may answer.
    """
    # One pixel more than half the size, because the service cuts at the pixel edges around the exact position.
    half = (size_pixels / 2 + 1) * PIXEL_SCALE_ARCSEC / 3600
    has_tract = "tract" in objects.columns and pd.api.types.is_integer_dtype(objects["tract"])
    tracts = objects["tract"].astype(str) if has_tract else ["any"] * len(objects)
    planes = f"true {str(das.mask).lower()} {str(das.variance).lower()}"
    requests = []
    for object_id, ra, dec, tract in zip(objects["object_id"], objects["ra"], objects["dec"], tracts, strict=True):
        for band in bands:
            name = f"HSC-{band.upper()}"
            text = f"{das.rerun} {das.image_type} {name} {tract} {ra:.10f} {dec:.10f} {half:.8f} {half:.8f} {planes}"
            requests.append(CutoutRequest(int(object_id), band, name, text))
    return requests


def in_server_order(requests: Sequence[CutoutRequest]) -> list[CutoutRequest]:
    """Lines sorted so that the server's cache serves many: by tract, filter and position, as downloadCutout.py does."""

    def position(request: CutoutRequest) -> tuple[int, str, float, float, int]:
        _, _, _, tract, ra, dec, *_ = request.text.split()
        return (-1 if tract == "any" else int(tract), request.filter, float(ra), float(dec), request.object_id)

    return sorted(requests, key=position)


def request_list(requests: Sequence[CutoutRequest]) -> bytes:
    """The list of one HTTP request: a header that names the columns, then the requests."""
    return "\n".join([f"#? {' '.join(COLUMNS)}", *(request.text for request in requests), ""]).encode()


class HscDasSource:
    """HSC's cutout service as a source of one chunk.

    Parameters
    ----------
    cutouts : Cutouts
        The configuration's section: size, and ``hsc_das``.
    folder : Path
        Where this chunk keeps what it received.
    account : Account, optional
        Credentials; looked for if not given.
    lock_folder : Path, optional
        Where the connection limit is kept, if not in the user's cache directory.
    """

    def __init__(
        self, cutouts: Cutouts, folder: Path, account: Account | None = None, lock_folder: Path | None = None
    ) -> None:
        self._das = cutouts.hsc_das
        self._transport = self._das.transport
        self._size = cutouts.size_pixels
        self._folder = Path(folder)
        self._lock_folder = lock_folder
        self._address = safe_address(self._das.url.rstrip("/") + "/cgi-bin/cutout", "cutouts.hsc_das.url")
        self._account = account

    def fetch(self, objects: pd.DataFrame, bands: Sequence[str]) -> Iterator[Cutout]:
        """Download what is not here yet, then deliver object by object, band by band.

        Raises
        ------
        TidalkinError
            Where the server refuses the credentials, another process is at this chunk, or the disk is full.
        """
        requests = cutout_requests(objects, bands, self._das, self._size)
        with DownloadJournal(self._folder, requests) as journal:
            failed = self._download(requests, journal)
            yield from journal.cutouts(
                requests, in_server_order(requests), failed, lambda _: "the archive has no such data"
            )

    def _download(self, requests: Sequence[CutoutRequest], journal: DownloadJournal) -> Mapping[Key, str]:
        """Ask for what is not here; return why cutouts are neither here nor known to be absent."""
        wanted = [request for request in in_server_order(requests) if not journal.is_final(request)]
        if not wanted:
            return {}
        account = self._account or find_account(self._address.host)
        host = self._address.netloc.decode()
        slot = connection_lock(host, self._transport.connections, self._lock_folder)
        with slot, client(self._transport.timeout_seconds, account.auth()) as http:
            guard = Refusals(host_folder(host, self._lock_folder), account)
            return _Download(self._das, self._size, self._address, http, guard, journal, len(wanted)).run(wanted)


class _Download:
    """One chunk's requests over one connection."""

    def __init__(
        self,
        das: HscDas,
        size: int,
        address: httpx.URL,
        client: httpx.Client,
        refusals: Refusals,
        journal: DownloadJournal,
        n_requests: int,
    ) -> None:
        self._das = das
        self._transport = das.transport
        self._refusals = refusals
        self._address = address
        self._client = client
        self._journal = journal
        self._largest = 2 * BYTES_PER_PIXEL * (size + 8) ** 2 + (1 << 20)
        self._progress = Progress(n_requests)
        self._missing: dict[Key, CutoutRequest] = {}
        self._rejections: dict[Key, str] = {}
        self._forbidden = 0

    def run(self, wanted: Sequence[CutoutRequest]) -> dict[Key, str]:
        """Ask for all requests, for the missing once more, and return why requests failed."""
        failed = self._ask_all(wanted)
        missing, self._missing = list(self._missing.values()), {}
        if missing:
            logger.info("%d cutouts did not come; asking once more", len(missing))
            failed |= self._ask_all(missing)
            self._journal.mark_absent(self._missing.values())
        return failed

    def _ask_all(self, requests: Sequence[CutoutRequest]) -> dict[Key, str]:
        failed: dict[Key, str] = {}
        for start in range(0, len(requests), self._transport.lines_per_request):
            failed |= self._ask_batch(requests[start : start + self._transport.lines_per_request])
        return failed

    def _ask_batch(self, batch: Sequence[CutoutRequest]) -> dict[Key, str]:
        """Ask for up to a request's worth of requests until each is received, a hole, or failed."""
        failed: dict[Key, str] = {}
        exhausted = 0
        while remaining := self._open(batch, failed):
            part = _ShrinkingBatch(remaining)
            again = retrying(
                self._transport.attempts, self._transport.backoff_seconds, self._transport.backoff_maximum_seconds
            )
            try:
                again(self._ask_part, part)
                exhausted = 0
            except Fault as fault:
                # Only the last, smallest part is to blame, unless nothing at all works any more.
                exhausted += 1
                blamed = remaining if fault.server_unavailable or exhausted > MOST_BAD_PARTS else part.requests
                reason = f"{self._transport.attempts} tries without result, the last: {fault}"
                failed |= {request.key: self._rejections.get(request.key, reason) for request in blamed}
                logger.warning("%d cutouts failed: %s", len(blamed), reason)
        return failed

    def _open(self, batch: Sequence[CutoutRequest], failed: Mapping[Key, str]) -> list[CutoutRequest]:
        closed = self._missing.keys() | failed.keys()
        return [request for request in batch if request.key not in closed and not self._journal.is_final(request)]

    def _ask_part(self, part: _ShrinkingBatch) -> None:
        """Send one request; raise the fault only if it brought nothing new."""
        part.shrink_if_failed()
        record = RequestRecord(time.time(), len(part.requests))
        began = time.monotonic()
        before = len(self._open(part.requests, {}))
        try:
            self._ask(part.requests, record)
        except Fault as fault:
            record.fault = str(fault)
            if len(self._open(part.requests, {})) == before:
                part.failed = not fault.server_unavailable
                raise
            logger.warning("%d cutouts came, then: %s", record.received, fault)
            time.sleep(max(self._transport.backoff_seconds, min(fault.retry_after, LONGEST_WAIT_SECONDS)))
        finally:
            record.seconds = time.monotonic() - began
            self._log(record)

    def _log(self, record: RequestRecord) -> None:
        self._progress.log(record)
        path = self._journal.folder / REQUESTS
        is_new = not path.exists()
        with path.open("a", newline="") as rows:
            writer = csv.writer(rows)
            if is_new:
                writer.writerow([column.name for column in fields(RequestRecord)])
            writer.writerow(astuple(record))

    def _ask(self, requests: Sequence[CutoutRequest], record: RequestRecord) -> None:
        """Send one request and keep what comes."""
        self._refusals.stop_if_refused()
        has_answered = False
        try:
            with self._client.stream(
                "POST", self._address, files={"list": ("coordlist.txt", request_list(requests), "text/plain")}
            ) as response:
                has_answered = True
                self._check(response)
                self._keep(response, requests, record)
        except httpx.HTTPError as error:
            message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise Fault(message, server_unavailable=not has_answered) from None

    def _check(self, response: httpx.Response) -> None:
        host, status = self._address.host, response.status_code
        if status == 401:
            self._refusals.remember()
            raise refused_credentials(self._refusals.account, host)
        self._forbidden = self._forbidden + 1 if status == 403 else 0
        if self._forbidden > 1:
            raise TidalkinError(
                f"{host} forbids access to {self._das.rerun} (HTTP 403, twice): check `cutouts.hsc_das.rerun` and what "
                f"the account found in {self._refusals.account.found_in} may use"
            )
        if status != 200:
            # A 500 may be for one request's sake, so that smaller requests are worth a try.
            away = status != 500 and status in UNAVAILABLE_STATUS
            raise Fault(f"HTTP {status}", server_unavailable=away, retry_after=retry_after(response))
        kind = response.headers.get("Content-Type", "")
        if kind.startswith("text/"):
            raise Fault(f"the server answered with {kind.partition(';')[0]} instead of a tar")

    def _keep(self, response: httpx.Response, requests: Sequence[CutoutRequest], record: RequestRecord) -> None:
        """Store each checked member as it comes; when the answer is whole, note what did not come."""
        rejected: dict[Key | None, str] = {}
        pieces = response.iter_raw()
        members = read_answer(
            self._paced(pieces, limit) if (limit := self._transport.bytes_per_second) else pieces,
            requests,
            image_type=self._das.image_type,
            rerun=self._das.rerun,
            largest=self._largest,
        )
        self._store(members, rejected, record)
        # After a foreign member it is not known what it came in the place of.
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

    def _store(
        self, members: Iterator[VerifiedCutout | Rejected], rejected: dict[Key | None, str], record: RequestRecord
    ) -> None:
        """Store what an answer holds, and note in ``rejected`` what it should not.

        A request gets several answers where tracts overlap, one for each tract. The lowest tract is taken. The service
        answers request by request, in order. A cutout is therefore final when the answer goes on to another request or
        ends, unless something that came for it was rejected.
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
            # Of an answer that broke off, the request it was at may have more to come: asked again, with this in hand.
            if latest:
                self._add(latest, record, final=is_final)
            self._journal.flush()

    def _add(self, member: VerifiedCutout, record: RequestRecord, *, final: bool) -> None:
        record.received += member.request.key not in self._journal
        record.bytes += len(member.content)
        self._journal.add(member, final=final)

    def _paced(self, pieces: Iterator[bytes], bytes_per_second: float) -> Iterator[bytes]:
        """The pieces, no faster than this connection's share of ``bytes_per_second``."""
        share = bytes_per_second / self._transport.connections
        began, taken = time.monotonic(), 0
        for piece in pieces:
            yield piece
            taken += len(piece)
            time.sleep(max(0.0, taken / share - (time.monotonic() - began)))


class _ShrinkingBatch:
    """What of the remaining requests is asked for: all at first, a quarter after each try that failed over them."""

    def __init__(self, requests: Sequence[CutoutRequest]) -> None:
        self.requests = requests
        self.failed = False

    def shrink_if_failed(self) -> None:
        """Take the first quarter, if the server failed over the latest part."""
        if self.failed:
            self.requests = self.requests[: max(1, len(self.requests) // 4)]
            self.failed = False
