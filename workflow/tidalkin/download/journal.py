"""The cutouts of one chunk that are safely on disk, whatever ends the download.

The folder of a chunk holds

- ``0.tar``, ``1.tar``, …: the cutouts, packed as in the chunk's tar, in the order of their arrival;
- ``journal.tsv``: the events, see `tidalkin.download.journal_file`.

When the chunk is finished, one of these tars holds all cutouts in the order of the requests, and the chunk's tar is a
hard link to it. Nothing is copied, and nothing is on disk twice. The tar stays when Snakemake deletes the chunk's tar
to make the chunk again, so that only missing cutouts are requested again. A tar with a second link is never written to.
Later cutouts go to a new tar. The tars are packed again into one only if cutouts arrived out of order, as a cutout does
that was rejected at first.

On restart, a cutout counts only if the journal names it, it answers the request that would be sent now, and its bytes
have the journal's checksum. For this reason nothing is synced to disk during the download.

A cutout is *final* if no other answer to its request can come. See `tidalkin.sources.hsc.das`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from filelock import FileLock, Timeout

from tidalkin.atomic import atomic_path, disk_errors
from tidalkin.cutouts.base import Cutout, TarLocation
from tidalkin.download.journal_file import (
    ABSENT,
    FINAL,
    FINISHED,
    JOURNAL,
    PROVISIONAL,
    Event,
    StoredCutout,
    read_event,
    request_digest,
    write_event,
)
from tidalkin.download.ledger import checksum
from tidalkin.download.request import CutoutRequest, Key, VerifiedCutout
from tidalkin.download.tar import member_name
from tidalkin.download.tar_members import BLOCK, TAR_END, padding, write_header
from tidalkin.errors import TidalkinError

logger = logging.getLogger(__name__)

BUFFER_BYTES = 1 << 18
"""Cutouts are written once this many bytes are buffered. One by one, writing takes twice as long."""
BUFFER_EVENTS = 64
"""Cutouts are also written once this many events are buffered."""


class DownloadJournal:
    """The cutouts of one chunk that are on disk.

    Parameters
    ----------
    folder : Path
        The chunk's own folder; created if it is missing.
    requests : iterable of CutoutRequest
        The requests of the whole chunk. Stored answers to other requests are not used.

    Raises
    ------
    TidalkinError
        If another process works on this chunk, or the folder cannot be written to.
    """

    def __init__(self, folder: Path, requests: Iterable[CutoutRequest]) -> None:
        self.folder = folder
        self._absent: set[Key] = set()
        self._digests = {request.key: request_digest(request) for request in requests}
        self._stored: dict[Key, StoredCutout] = {}
        self._final: set[Key] = set()
        self._part, self._end = -1, 0
        self._tar = self._journal = -1
        self._buffer: list[bytes] = []
        self._buffered_bytes = 0
        self._events: list[str] = []
        self._lock = FileLock(folder / "lock")
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(blocking=False)
            except Timeout:
                raise TidalkinError(f"another process is downloading into {folder}: wait for it or end it") from None
            self._load()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()
        self._lock.release()

    def __contains__(self, key: Key) -> bool:
        return key in self._stored

    def __len__(self) -> int:
        return len(self._stored)

    def is_final(self, request: CutoutRequest) -> bool:
        """Return whether the request need not be sent again."""
        return request.key in self._final or request.key in self._absent

    # --- events, in the order they happen ----------------------------------------------------------------------------

    def add(self, cutout: VerifiedCutout, *, final: bool) -> None:
        """Store a cutout, unless one of a lower tract is stored.

        It may be buffered until `flush`.

        Parameters
        ----------
        cutout : VerifiedCutout
            The cutout.
        final : bool
            Whether no other answer to its request can come.
        """
        key, content = cutout.request.key, cutout.content
        stored = self._stored.get(key)
        if stored is None or (cutout.tract < stored.tract and key not in self._final):
            if self._tar < 0:
                with disk_errors(self.folder):
                    self._open_tar()
            size = len(content)
            stored = StoredCutout(self._part, self._end + BLOCK, size, checksum(content), cutout.tract)
            self._buffer += write_header(member_name(*key), size), content, bytes(padding(size))
            self._buffered_bytes += size
            self._end = stored.end
            self._stored[key] = stored
        elif not final or key in self._final:
            return
        if final:
            self._final.add(key)
        self._events.append(self._event(key))
        if self._buffered_bytes >= BUFFER_BYTES or len(self._events) >= BUFFER_EVENTS:
            self.flush()

    def mark_final(self, key: Key) -> None:
        """Note that no other answer can come for a stored cutout."""
        self._final.add(key)
        self._events.append(self._event(key))

    def mark_absent(self, requests: Iterable[CutoutRequest]) -> None:
        """Note that the archive has no data for these requests."""
        for request in requests:
            self._absent.add(request.key)
            self._events.append(self._event(request.key))
        self.flush()

    def flush(self) -> None:
        """Write the buffer to disk.

        Raises
        ------
        TidalkinError
            If the disk is full, or the folder cannot be written to.
        """
        buffer, events = self._buffer, self._events
        self._buffer, self._buffered_bytes, self._events = [], 0, []
        with disk_errors(self.folder):
            if buffer:
                size = sum(map(len, buffer))
                if os.pwritev(self._tar, buffer, self._end - size) < size:
                    raise TidalkinError(
                        f"{self._path(self._part)} cannot be written: the disk or your quota is full: free some space "
                        "and run again"
                    )
            if events:
                if self._journal < 0:
                    self._journal = os.open(self.folder / JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
                os.write(self._journal, "".join(events).encode())

    def _event(self, key: Key) -> str:
        """Return what is known of an object and band, as a line of the journal."""
        if key in self._absent:
            return write_event(Event(ABSENT, key, self._digests[key]))
        state = FINAL if key in self._final else PROVISIONAL
        return write_event(Event(state, key, self._digests[key], self._stored[key]))

    # --- the tars ----------------------------------------------------------------------------------------------------

    def finish(self, requests: Sequence[CutoutRequest]) -> dict[Key, tuple[TarLocation, str]]:
        """Bring the stored cutouts into one tar in the order of the requests.

        Nothing else stays in it.

        Absent cutouts are forgotten, so that they are requested when the chunk is fetched again.

        Parameters
        ----------
        requests : sequence of CutoutRequest
            All requests of the chunk, in the order they are sent.

        Returns
        -------
        dict
            Location and checksum of each stored cutout, by object and band.

        Raises
        ------
        TidalkinError
            If the disk is full, or the folder cannot be written to.
        """
        keys = [request.key for request in requests if request.key in self._stored]
        with disk_errors(self.folder):
            if keys and not self._is_packed(keys):
                self._pack(keys)
        if self._absent:
            self._absent.clear()
            self._events.append(f"{FINISHED}\n")
            self.flush()
        if not keys:
            return {}
        tar = self._path(self._stored[keys[0]].part)
        return {
            key: (TarLocation(tar, offset, size), digest) for key, (_, offset, size, digest, _) in self._stored.items()
        }

    def cutouts(
        self,
        requests: Sequence[CutoutRequest],
        order: Sequence[CutoutRequest],
        failed: Mapping[Key, str],
        absent: Callable[[CutoutRequest], str],
    ) -> Iterator[Cutout]:
        """Finish the chunk and yield its cutouts, request by request.

        Parameters
        ----------
        requests : sequence of CutoutRequest
            All requests of the chunk, in the order of the output.
        order : sequence of CutoutRequest
            The same requests, in the order they are sent.
        failed : mapping
            Reason of each failure, by object and band.
        absent : callable
            Returns the reason for a cutout that is neither stored nor failed.
        """
        stored = self.finish(order)
        for request in requests:
            object_id, band = request.key
            if request.key in stored:
                location, digest = stored[request.key]
                yield Cutout(object_id, band, "ok", location=location, checksum=digest)
            elif request.key in failed:
                yield Cutout(object_id, band, "failed", reason=failed[request.key])
            else:
                yield Cutout(object_id, band, "absent", reason=absent(request))

    def _is_packed(self, keys: Sequence[Key]) -> bool:
        """Return whether these cutouts fill one tar in order, and end it."""
        part, end = self._stored[keys[0]].part, 0
        for key in keys:
            stored = self._stored[key]
            if stored.part != part or stored.offset != end + BLOCK:
                return False
            end = stored.end
        path = self._path(part)
        status = path.stat()
        if status.st_nlink > 1:
            return status.st_size == end + len(TAR_END)
        with path.open("r+b") as tar:
            tar.truncate(end)
            tar.seek(end)
            tar.write(TAR_END)
        return True

    def _pack(self, keys: Sequence[Key]) -> None:
        """Pack the cutouts into a new tar, and delete the others."""
        parts = {stored.part for stored in self._stored.values()}
        new, end = max(parts) + 1, 0
        packed = {}
        with ExitStack() as stack:
            tars = {part: stack.enter_context(self._path(part).open("rb")) for part in parts}
            with self._path(new).open("wb") as tar:
                for key in keys:
                    stored = self._stored[key]
                    tars[stored.part].seek(stored.offset - BLOCK)
                    tar.write(tars[stored.part].read(stored.end - stored.offset + BLOCK))
                    packed[key] = stored._replace(part=new, offset=end + BLOCK)
                    end = packed[key].end
                tar.write(TAR_END)
        self._close()
        self._stored = packed
        with atomic_path(self.folder / JOURNAL) as journal:
            journal.write_text("".join(map(self._event, keys)))
        for part in parts:
            self._path(part).unlink()

    def _open_tar(self) -> None:
        """Open the newest tar to append to it, or a new one.

        The newest tar is not written to if it is also the chunk's tar.
        """
        parts = {stored.part for stored in self._stored.values()}
        self._part, self._end = max(parts, default=-1), 0
        if parts and self._path(self._part).stat().st_nlink == 1:
            self._end = max(stored.end for stored in self._stored.values() if stored.part == self._part)
        else:
            self._part += 1
        self._tar = os.open(self._path(self._part), os.O_WRONLY | os.O_CREAT, 0o666)
        # A new file is not truncated: ext4 writes a file out on close if it was ever truncated to zero.
        if os.fstat(self._tar).st_size > self._end:
            os.ftruncate(self._tar, self._end)

    def _path(self, part: int) -> Path:
        return self.folder / f"{part}.tar"

    def _close(self) -> None:
        for descriptor in (self._tar, self._journal):
            if descriptor >= 0:
                os.close(descriptor)
        self._tar = self._journal = -1

    # --- restart -----------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Read the journal, and check every cutout that it names."""
        journal = self.folder / JOURNAL
        if journal.exists():
            os.truncate(journal, sum(map(len, self._replayed(journal))))
        damaged = self._damaged()
        for key in damaged:
            del self._stored[key]
            self._final.discard(key)
        if self._stored or self._absent:
            logger.info("%d cutouts are already on disk, %d are absent", len(self._stored), len(self._absent))
        if damaged:
            logger.warning("%d cutouts on disk are damaged; they are requested again", len(damaged))
        used = {self._path(stored.part) for stored in self._stored.values()}
        for path in set(self.folder.glob("*.tar")) - used:
            path.unlink()

    def _replayed(self, journal: Path) -> Iterator[bytes]:
        """Replay the journal, and yield its whole lines."""
        with journal.open("rb") as lines:
            for line in lines:
                try:
                    self._replay(read_event(line))
                except ValueError:
                    return
                yield line

    def _replay(self, event: Event | None) -> None:
        if event is None:
            self._absent.clear()
        elif event.request != self._digests.get(event.key):
            return
        elif event.stored is None:
            self._absent.add(event.key)
        else:
            self._stored[event.key] = event.stored
            if event.state == FINAL:
                self._final.add(event.key)

    def _damaged(self) -> list[Key]:
        """List the cutouts whose bytes on disk do not match the journal."""
        damaged = []
        for part in {stored.part for stored in self._stored.values()}:
            members = sorted((stored.offset, key) for key, stored in self._stored.items() if stored.part == part)
            try:
                tar = self._path(part).open("rb")
            except FileNotFoundError:
                damaged += [key for _, key in members]
                continue
            with tar:
                damaged += [key for _, key in members if not self._is_whole(tar, key)]
        return damaged

    def _is_whole(self, tar: IO[bytes], key: Key) -> bool:
        stored = self._stored[key]
        tar.seek(stored.offset - BLOCK)
        header, content = tar.read(BLOCK), tar.read(stored.size)
        return (
            header == write_header(member_name(*key), stored.size)
            and checksum(content) == stored.checksum
            and tar.read(padding(stored.size)) == bytes(padding(stored.size))
        )
