"""Cutouts from HSC's data access service (DAS), complete or accounted for.

One chunk is one job, one connection and one folder of what it received (`tidalkin.download.journal`). Lines are asked
for in the order public clients use, in requests of up to 990; each answer is checked member by member
(`tidalkin.sources.hsc_answer`) and kept at once. A fault costs what had not arrived yet: it is asked for again, after a
wait that doubles, in ever smaller requests if the server stumbles over their content, so that one bad position cannot
take its neighbours with it. What a whole answer leaves out is asked for once more at the end, and absent after that.

The protocol is that of downloadCutout.py in HSC's data-access-tools (pdr3); see `tidalkin.sources.hsc_answer`.
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
from tidalkin.cutouts.base import Delivery
from tidalkin.download.connections import connection_slot, slots_folder
from tidalkin.download.credentials import Account, Refusals, find_account
from tidalkin.download.faults import Fault
from tidalkin.download.http import (
    AWAY_STATUS,
    LONGEST_WAIT_SECONDS,
    client,
    refused_credentials,
    retry_after,
    retrying,
    safe_address,
)
from tidalkin.download.journal import Key, Received
from tidalkin.download.request import Line, Member
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
class Request:
    """What became of one request: a row of the chunk's ``requests.csv``, from which the download report is made."""

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

    def log(self, request: Request) -> None:
        """Say how far the chunk is, how fast, and how long it will take."""
        self.received += request.received
        self.bytes += request.bytes
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


def chunk_lines(objects: pd.DataFrame, bands: Sequence[str], das: HscDas, size_pixels: int) -> list[Line]:
    """The lines that ask for ``objects`` in ``bands``, object by object, band by band.

    A catalog with an integer column ``tract`` asks for that tract; otherwise any tract may answer.
    """
    # One pixel more than half the size, because the service cuts at the pixel edges around the exact position.
    half = (size_pixels / 2 + 1) * PIXEL_SCALE_ARCSEC / 3600
    has_tract = "tract" in objects.columns and pd.api.types.is_integer_dtype(objects["tract"])
    tracts = objects["tract"].astype(str) if has_tract else ["any"] * len(objects)
    planes = f"true {str(das.mask).lower()} {str(das.variance).lower()}"
    lines = []
    for object_id, ra, dec, tract in zip(objects["object_id"], objects["ra"], objects["dec"], tracts, strict=True):
        for band in bands:
            name = f"HSC-{band.upper()}"
            text = f"{das.rerun} {das.image_type} {name} {tract} {ra:.10f} {dec:.10f} {half:.8f} {half:.8f} {planes}"
            lines.append(Line(int(object_id), band, name, text))
    return lines


def server_order(lines: Sequence[Line]) -> list[Line]:
    """Lines sorted so that the server's cache serves many: by tract, filter and position, as downloadCutout.py does."""

    def position(line: Line) -> tuple[int, str, float, float, int]:
        _, _, _, tract, ra, dec, *_ = line.text.split()
        return (-1 if tract == "any" else int(tract), line.filter, float(ra), float(dec), line.object_id)

    return sorted(lines, key=position)


def request_list(lines: Sequence[Line]) -> bytes:
    """The file of a request: a header that names the columns, then the lines."""
    return "\n".join([f"#? {' '.join(COLUMNS)}", *(line.text for line in lines), ""]).encode()


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
    slots : Path, optional
        Where the connection limit is kept, if not in the user's cache directory.
    """

    def __init__(
        self, cutouts: Cutouts, folder: Path, account: Account | None = None, slots: Path | None = None
    ) -> None:
        self._das = cutouts.hsc_das
        self._transport = self._das.transport
        self._size = cutouts.size_pixels
        self._folder = Path(folder)
        self._slots = slots
        self._address = safe_address(self._das.url.rstrip("/") + "/cgi-bin/cutout", "cutouts.hsc_das.url")
        self._account = account

    def deliver(self, objects: pd.DataFrame, bands: Sequence[str]) -> Iterator[Delivery]:
        """Download what is not here yet, then deliver object by object, band by band.

        Raises
        ------
        TidalkinError
            Where the server refuses the credentials, another process is at this chunk, or the disk is full.
        """
        lines = chunk_lines(objects, bands, self._das, self._size)
        with Received(self._folder, lines) as received:
            failed = self._download(lines, received)
            yield from received.deliveries(lines, server_order(lines), failed, lambda _: "the archive has no such data")

    def _download(self, lines: Sequence[Line], received: Received) -> Mapping[Key, str]:
        """Ask for what is not here; return why cutouts are neither here nor known to be absent."""
        wanted = [line for line in server_order(lines) if not received.settled(line)]
        if not wanted:
            return {}
        account = self._account or find_account(self._address.host)
        host = self._address.netloc.decode()
        slot = connection_slot(host, self._transport.connections, self._slots)
        with slot, client(self._transport.timeout_seconds, account.auth()) as http:
            guard = Refusals(slots_folder(host, self._slots), account)
            return _Download(self._das, self._size, self._address, http, guard, received, len(wanted)).run(wanted)


class _Download:
    """One chunk's requests over one connection."""

    def __init__(
        self,
        das: HscDas,
        size: int,
        address: httpx.URL,
        client: httpx.Client,
        refusals: Refusals,
        received: Received,
        n_lines: int,
    ) -> None:
        self._das = das
        self._transport = das.transport
        self._refusals = refusals
        self._address = address
        self._client = client
        self._received = received
        self._largest = 2 * BYTES_PER_PIXEL * (size + 8) ** 2 + (1 << 20)
        self._progress = Progress(n_lines)
        self._holes: dict[Key, Line] = {}
        self._rejections: dict[Key, str] = {}
        self._forbidden = 0

    def run(self, wanted: Sequence[Line]) -> dict[Key, str]:
        """Ask for all lines, for the holes once more, and return why lines failed."""
        failed = self._ask_all(wanted)
        holes, self._holes = list(self._holes.values()), {}
        if holes:
            logger.info("%d cutouts did not come; asking once more", len(holes))
            failed |= self._ask_all(holes)
            self._received.miss(self._holes.values())
        return failed

    def _ask_all(self, lines: Sequence[Line]) -> dict[Key, str]:
        failed: dict[Key, str] = {}
        for start in range(0, len(lines), self._transport.lines_per_request):
            failed |= self._ask_batch(lines[start : start + self._transport.lines_per_request])
        return failed

    def _ask_batch(self, batch: Sequence[Line]) -> dict[Key, str]:
        """Ask for up to a request's worth of lines until each is received, a hole, or failed."""
        failed: dict[Key, str] = {}
        exhausted = 0
        while remaining := self._open(batch, failed):
            part = _ShrinkingPart(remaining)
            again = retrying(
                self._transport.attempts, self._transport.backoff_seconds, self._transport.backoff_maximum_seconds
            )
            try:
                again(self._ask_part, part)
                exhausted = 0
            except Fault as fault:
                # Only the last, smallest part is to blame, unless nothing at all works any more.
                exhausted += 1
                blamed = remaining if fault.server_away or exhausted > MOST_BAD_PARTS else part.lines
                reason = f"{self._transport.attempts} tries without result, the last: {fault}"
                failed |= {line.key: self._rejections.get(line.key, reason) for line in blamed}
                logger.warning("%d cutouts failed: %s", len(blamed), reason)
        return failed

    def _open(self, batch: Sequence[Line], failed: Mapping[Key, str]) -> list[Line]:
        closed = self._holes.keys() | failed.keys()
        return [line for line in batch if line.key not in closed and not self._received.settled(line)]

    def _ask_part(self, part: _ShrinkingPart) -> None:
        """Send one request; raise the fault only if it brought nothing new."""
        part.shrink_if_stumbled()
        request = Request(time.time(), len(part.lines))
        began = time.monotonic()
        before = len(self._open(part.lines, {}))
        try:
            self._ask(part.lines, request)
        except Fault as fault:
            request.fault = str(fault)
            if len(self._open(part.lines, {})) == before:
                part.stumbled = not fault.server_away
                raise
            logger.warning("%d cutouts came, then: %s", request.received, fault)
            time.sleep(max(self._transport.backoff_seconds, min(fault.retry_after, LONGEST_WAIT_SECONDS)))
        finally:
            request.seconds = time.monotonic() - began
            self._log(request)

    def _log(self, request: Request) -> None:
        self._progress.log(request)
        path = self._received.folder / REQUESTS
        is_new = not path.exists()
        with path.open("a", newline="") as rows:
            writer = csv.writer(rows)
            if is_new:
                writer.writerow([column.name for column in fields(Request)])
            writer.writerow(astuple(request))

    def _ask(self, lines: Sequence[Line], request: Request) -> None:
        """Send one request and keep what comes."""
        self._refusals.stop_if_refused()
        has_answered = False
        try:
            with self._client.stream(
                "POST", self._address, files={"list": ("coordlist.txt", request_list(lines), "text/plain")}
            ) as response:
                has_answered = True
                self._check(response)
                self._keep(response, lines, request)
        except httpx.HTTPError as error:
            message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise Fault(message, server_away=not has_answered) from None

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
            # A 500 may be for one line's sake, so that smaller requests are worth a try.
            away = status != 500 and status in AWAY_STATUS
            raise Fault(f"HTTP {status}", server_away=away, retry_after=retry_after(response))
        kind = response.headers.get("Content-Type", "")
        if kind.startswith("text/"):
            raise Fault(f"the server answered with {kind.partition(';')[0]} instead of a tar")

    def _keep(self, response: httpx.Response, lines: Sequence[Line], request: Request) -> None:
        """Store each checked member as it comes; when the answer is whole, note what did not come."""
        rejected: dict[Key | None, str] = {}
        pieces = response.iter_raw()
        members = read_answer(
            self._paced(pieces, limit) if (limit := self._transport.bytes_per_second) else pieces,
            lines,
            image_type=self._das.image_type,
            rerun=self._das.rerun,
            largest=self._largest,
        )
        self._store(members, rejected, request)
        # After a foreign member it is not known what it came in the place of.
        if None not in rejected:
            for line in self._open(lines, {}):
                if line.key in rejected:
                    continue
                if line.key in self._received:
                    self._received.settle(line.key)
                else:
                    self._holes[line.key] = line
        self._received.flush()
        if rejected:
            raise Fault(f"a member was rejected: {list(rejected.values())[-1]}")

    def _store(self, members: Iterator[Member | Rejected], rejected: dict[Key | None, str], request: Request) -> None:
        """Store what an answer holds, and note in ``rejected`` what it should not.

        A line can be answered several times, once for each tract that overlaps there, of which the lowest is taken. It
        is settled when the answer goes on to another line or ends, unless something that came for it was rejected: the
        service answers line by line, in the order asked.
        """
        latest: Member | None = None
        is_settled = False
        try:
            for member in members:
                if latest and member.line and member.line is not latest.line:
                    self._add(latest, request, settled=latest.line.key not in rejected)
                    latest = None
                if isinstance(member, Rejected):
                    request.rejected += 1
                    rejected[member.line.key if member.line else None] = member.why
                    if member.line:
                        self._rejections[member.line.key] = member.why
                elif latest is None or member.tract < latest.tract:
                    latest = member
            is_settled = latest is not None and latest.line.key not in rejected
        finally:
            # Of an answer that broke off, the line it was at may have more to come: asked again, with this in hand.
            if latest:
                self._add(latest, request, settled=is_settled)
            self._received.flush()

    def _add(self, member: Member, request: Request, *, settled: bool) -> None:
        request.received += member.line.key not in self._received
        request.bytes += len(member.content)
        self._received.add(member, settled=settled)

    def _paced(self, pieces: Iterator[bytes], bytes_per_second: float) -> Iterator[bytes]:
        """The pieces, no faster than this connection's share of ``bytes_per_second``."""
        share = bytes_per_second / self._transport.connections
        began, taken = time.monotonic(), 0
        for piece in pieces:
            yield piece
            taken += len(piece)
            time.sleep(max(0.0, taken / share - (time.monotonic() - began)))


class _ShrinkingPart:
    """What of the remaining lines is asked for: all at first, a quarter after each try that stumbled over them."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines
        self.stumbled = False

    def shrink_if_stumbled(self) -> None:
        """Take the first quarter, if the server stumbled over the latest part."""
        if self.stumbled:
            self.lines = self.lines[: max(1, len(self.lines) // 4)]
            self.stumbled = False
