"""What one chunk's download has safely on disk, whatever kills it.

A folder per chunk holds

- ``received.data``: the cutouts, one after the other, in the order they came;
- ``journal.jsonl``: one line per event, appended after the bytes it speaks of; the last line may be torn;
- ``kept.tar``: after the chunk is finished, a hard link to its tar, in place of ``received.data``. It takes no space of
  its own, and outlives the tar when Snakemake deletes it to make the chunk anew, so that only what is missing is asked
  for again.

Nothing is trusted on restart that is not whole: a cutout counts if the journal names it, it answers the line that would
be asked now, and its bytes have the journal's SHA-256. That is why nothing needs to be forced to the disk on the way.

A position where tracts overlap can come several times; the lowest tract is taken. A line is *settled* once nothing more
can come for it: the answer went on to another line, or ended. (The service answers line by line, in the order asked.) A
line whose answer broke off before, or contained something that had to be rejected, is asked again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd
from filelock import FileLock, Timeout

from tidalkin.errors import TidalkinError
from tidalkin.sources.hsc_answer import Line, Member

logger = logging.getLogger("tidalkin.download")

Key = tuple[int, str]
"""Object and band."""

DATA, KEPT, JOURNAL = "received.data", "kept.tar", "journal.jsonl"


def received_folder(tar_path: str | Path) -> Path:
    """Where the job of a chunk keeps what it receives: beside the tars, out of sight."""
    tar_path = Path(tar_path)
    return tar_path.parent / ".received" / tar_path.stem


@dataclass(frozen=True)
class Stored:
    """Where a cutout is."""

    file: str
    offset: int
    size: int
    sha256: str
    tract: int


def line_digest(line: Line) -> str:
    """What tells whether a stored cutout answers the line that would be asked now."""
    return hashlib.sha256(line.text.encode()).hexdigest()[:16]


class Received:
    """The cutouts of one chunk that are on disk.

    Parameters
    ----------
    folder : Path
        The chunk's own folder, made if it is not there.
    lines : iterable of Line
        The lines of the whole chunk. What answers other lines is not used.

    Raises
    ------
    TidalkinError
        If another process is at this chunk.
    """

    def __init__(self, folder: Path, lines: Iterable[Line]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.absent: set[Key] = set()
        self._digests = {line.key: line_digest(line) for line in lines}
        self._stored: dict[Key, Stored] = {}
        self._settled: set[Key] = set()
        self._doubted: set[Key] = set()
        self._latest: Key | None = None
        self._lock = FileLock(folder / "lock")
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise TidalkinError(f"another process is downloading into {folder}: wait for it or end it") from None
        self._load()
        self._data = os.open(folder / DATA, os.O_RDWR | os.O_CREAT, 0o666)
        self._end = max((s.offset + s.size for s in self._stored.values() if s.file == DATA), default=0)
        os.ftruncate(self._data, self._end)
        self._kept = os.open(folder / KEPT, os.O_RDONLY) if (folder / KEPT).exists() else -1
        self._journal = os.open(folder / JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for descriptor in (self._data, self._kept, self._journal):
            if descriptor >= 0:
                os.close(descriptor)
        self._lock.release()

    def settled(self, line: Line) -> bool:
        """Whether ``line`` needs no more asking."""
        return line.key in self._settled or line.key in self.absent

    def __contains__(self, key: Key) -> bool:
        return key in self._stored

    def read(self, key: Key) -> bytes:
        """The cutout of an object and band."""
        stored = self._stored[key]
        return os.pread(self._data if stored.file == DATA else self._kept, stored.size, stored.offset)

    def sha256(self, key: Key) -> str:
        """SHA-256 of a cutout, as it was when it came."""
        return self._stored[key].sha256

    # --- events, in the order they happen ------------------------------------------------------------------------

    def asked(self) -> None:
        """A request is about to be sent."""
        self._record({"event": "asked"})

    def add(self, member: Member) -> None:
        """Store a checked cutout; of several tracts, only the lowest."""
        key = member.line.key
        stored = self._stored.get(key)
        if stored and stored.tract <= member.tract:
            self._record({"event": "again", "key": key})
            return
        place = Stored(DATA, self._end, len(member.content), hashlib.sha256(member.content).hexdigest(), member.tract)
        try:
            written = os.pwrite(self._data, member.content, place.offset)
        except OSError as error:
            raise TidalkinError(f"cannot write {self.folder / DATA}: {error.strerror}") from None
        if written < place.size:
            raise TidalkinError(f"cannot write {self.folder / DATA}: the disk or your quota is full")
        self._end += written
        self._record(_member_event(key, self._digests[key], place))

    def settle(self, line: Line) -> None:
        """Nothing more comes for ``line``, which is stored."""
        self._record({"event": "settled", "key": line.key})

    def doubt(self, line: Line) -> None:
        """Something that came for ``line`` was rejected: it must be asked again."""
        self._record({"event": "doubted", "key": line.key})

    def answered(self) -> None:
        """The answer to the latest request ended as it should."""
        self._record({"event": "answered"})

    def miss(self, lines: Iterable[Line]) -> None:
        """The archive has no data for ``lines``."""
        for line in lines:
            self._record({"event": "absent", "key": line.key, "line": self._digests[line.key]})

    def _record(self, event: Mapping[str, Any]) -> None:
        os.write(self._journal, json.dumps(event).encode() + b"\n")
        self._apply(event)

    def _apply(self, event: Mapping[str, Any]) -> None:
        """What an event means: the same while it happens and when it is read back."""
        kind = event["event"]
        if kind == "asked":
            self._latest, self._doubted = None, set()
        elif kind == "answered":
            self._settle_latest()
        else:
            key = (int(event["key"][0]), str(event["key"][1]))
            if kind == "doubted":
                self._doubted.add(key)
                self._settled.discard(key)
            elif kind == "absent":
                if event["line"] == self._digests.get(key):
                    self.absent.add(key)
            elif kind == "settled":
                self._settled.add(key)
            else:
                if key != self._latest:
                    self._settle_latest()
                self._latest = key
                if kind == "member" and event["line"] == self._digests.get(key):
                    self._stored[key] = Stored(**{name: event[name] for name in Stored.__dataclass_fields__})

    def _settle_latest(self) -> None:
        if self._latest in self._stored and self._latest not in self._doubted:
            self._settled.add(self._latest)
        self._latest = None

    # --- restart --------------------------------------------------------------------------------------

    def _load(self) -> None:
        journal = self.folder / JOURNAL
        if not journal.exists():
            return
        whole = 0
        with journal.open("rb") as lines:
            for line in lines:
                try:
                    event = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    event = None
                if event is None:
                    break
                self._apply(event)
                whole += len(line)
        os.truncate(journal, whole)
        self._latest = None
        damaged = self._damaged()
        for key in damaged:
            del self._stored[key]
            self._settled.discard(key)
        if self._stored or self.absent:
            logger.info("%d cutouts are already here, %d are known to be absent", len(self._stored), len(self.absent))
        if damaged:
            logger.warning("%d cutouts on disk are damaged and will be asked for again", len(damaged))

    def _damaged(self) -> list[Key]:
        """Cutouts whose bytes are not what the journal says."""
        damaged = []
        for name in (DATA, KEPT):
            in_file = sorted((s.offset, key) for key, s in self._stored.items() if s.file == name)
            if not in_file:
                continue
            if not (self.folder / name).exists():
                damaged += [key for _, key in in_file]
                continue
            with (self.folder / name).open("rb") as content:
                for offset, key in in_file:
                    content.seek(offset)
                    if hashlib.sha256(content.read(self._stored[key].size)).hexdigest() != self._stored[key].sha256:
                        damaged.append(key)
        return damaged


def keep_tar(folder: Path, lines: Iterable[Line], tar_path: Path, ledger: pd.DataFrame) -> None:
    """Let a finished tar take the place of the data received for it: no byte is on disk twice.

    Parameters
    ----------
    folder : Path
        The chunk's own folder.
    lines : iterable of Line
        The lines of the chunk.
    tar_path : Path
        The chunk's tar, on the same file system.
    ledger : pandas.DataFrame
        The chunk's ledger.
    """
    link, journal = folder / f"{KEPT}.new", folder / f"{JOURNAL}.new"
    link.unlink(missing_ok=True)
    try:
        link.hardlink_to(tar_path)
    except OSError as error:
        logger.warning("no hard link to %s (%s): made anew, this chunk is downloaded again", tar_path, error)
        for name in (DATA, KEPT, JOURNAL):
            (folder / name).unlink(missing_ok=True)
        return
    digests = {line.key: line_digest(line) for line in lines}
    present = ledger[ledger["status"] == "ok"]
    with journal.open("w") as events:
        events.write(json.dumps({"event": "asked"}) + "\n")
        end = 0
        for object_id, band, size, sha256 in zip(
            present["object_id"], present["band"], present["bytes"], present["sha256"], strict=True
        ):
            # A chunk's tar has one block of header before each cutout; were it otherwise, the SHA-256s would tell.
            offset = end + tarfile.BLOCKSIZE
            end = offset + -(-int(size) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            key = (int(object_id), str(band))
            place = Stored(KEPT, offset, int(size), sha256, tract=0)
            events.write(json.dumps(_member_event(key, digests[key], place)) + "\n")
        events.write(json.dumps({"event": "answered"}) + "\n")
    # Killed between these, the SHA-256s do not fit, and the chunk, which is finished, would be asked for again.
    link.replace(folder / KEPT)
    journal.replace(folder / JOURNAL)
    (folder / DATA).unlink(missing_ok=True)


def _member_event(key: Key, digest: str, place: Stored) -> dict[str, Any]:
    return {"event": "member", "key": key, "line": digest, **vars(place)}
