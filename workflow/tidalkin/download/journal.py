"""What one chunk's download has safely on disk, whatever kills it.

A folder per chunk holds

- ``0.tar``, ``1.tar``, …: the cutouts, packed as the chunk's tar has them, in the order they came;
- ``journal.tsv``: one line per event, appended after the bytes it speaks of; the last line may be torn.

When the chunk is finished, one of these tars holds all cutouts in the order they are asked for, and the chunk's tar is
a hard link to it: nothing is copied or on disk twice, and it outlives the chunk's tar when Snakemake deletes that to
make the chunk anew, so that only what is missing is asked for again. A tar with a second link is never written to; what
comes after is kept in a new one. The tars are packed into one anew only where cutouts came out of order, as those do
that were rejected at first.

Nothing is trusted on restart that is not whole: a cutout counts if the journal names it, it answers the line that would
be asked now, and its bytes have the journal's checksum. That is why nothing needs to be forced to the disk on the way.

A line is *settled* once nothing more can come for it: see `tidalkin.sources.hsc.das`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self

import xxhash
from filelock import FileLock, Timeout

from tidalkin.atomic import atomic_path
from tidalkin.cutouts.base import Delivery, Packed
from tidalkin.download.ledger import checksum
from tidalkin.download.request import Line, Member
from tidalkin.download.tar import member_name
from tidalkin.download.tar_members import BLOCK, TAR_END, padding, write_header
from tidalkin.errors import TidalkinError

logger = logging.getLogger("tidalkin.download")

Key = tuple[int, str]
"""Object and band."""

JOURNAL = "journal.tsv"
FINISHED = "finished\n"
HELD_BYTES = 1 << 18
"""Cutouts are written together once they are so many bytes, which costs half the time of one after the other…"""
HELD_CUTOUTS = 64
"""…or so many cutouts."""


class Stored(NamedTuple):
    """Where a cutout is."""

    part: int
    """Number of the tar."""
    offset: int
    size: int
    checksum: str
    tract: int

    @property
    def end(self) -> int:
        """Where the next member begins."""
        return self.offset + self.size + padding(self.size)


def line_digest(line: Line) -> str:
    """What tells whether a stored cutout answers the line that would be asked now."""
    return xxhash.xxh3_64_hexdigest(line.text.encode())


def on_disk(journal: Path) -> int:
    """Cutouts that a journal names, of a chunk that may be under way."""
    if not journal.exists():
        return 0
    with journal.open() as events:
        fields = (event.split("\t") for event in events if event.endswith("\n"))
        return len({tuple(columns[1:3]) for columns in fields if columns[0] in ("settled", "unsettled")})


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
        self._absent: set[Key] = set()
        self._digests = {line.key: line_digest(line) for line in lines}
        self._stored: dict[Key, Stored] = {}
        self._settled: set[Key] = set()
        self._part, self._end = -1, 0
        self._tar = self._journal = -1
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._events: list[str] = []
        self._lock = FileLock(folder / "lock")
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

    def settled(self, line: Line) -> bool:
        """Whether ``line`` needs no more asking."""
        return line.key in self._settled or line.key in self._absent

    # --- events, in the order they happen ----------------------------------------------------------------------------

    def add(self, member: Member, *, settled: bool) -> None:
        """Store a checked cutout, unless one of a lower tract is here. It may be held in memory until `flush`.

        Parameters
        ----------
        member : Member
            The cutout.
        settled : bool
            Whether nothing more can come for its line.
        """
        key, content = member.line.key, member.content
        stored = self._stored.get(key)
        if stored is None or (member.tract < stored.tract and key not in self._settled):
            if self._tar < 0:
                self._open_tar()
            size = len(content)
            stored = Stored(self._part, self._end + BLOCK, size, checksum(content), member.tract)
            self._held += write_header(member_name(*key), size), content, bytes(padding(size))
            self._held_bytes += size
            self._end = stored.end
            self._stored[key] = stored
        elif not settled or key in self._settled:
            return
        if settled:
            self._settled.add(key)
        self._events.append(self._event(key))
        if self._held_bytes >= HELD_BYTES or len(self._events) >= HELD_CUTOUTS:
            self.flush()

    def settle(self, key: Key) -> None:
        """Nothing more comes for the line of a stored cutout."""
        self._settled.add(key)
        self._events.append(self._event(key))

    def miss(self, lines: Iterable[Line]) -> None:
        """The archive has no data for ``lines``."""
        for line in lines:
            self._absent.add(line.key)
            self._events.append(self._event(line.key))
        self.flush()

    def flush(self) -> None:
        """Bring to disk what is held in memory.

        Raises
        ------
        TidalkinError
            If the disk is full, or the folder cannot be written to.
        """
        held, events = self._held, self._events
        self._held, self._held_bytes, self._events = [], 0, []
        try:
            if held:
                size = sum(map(len, held))
                if os.pwritev(self._tar, held, self._end - size) < size:
                    raise TidalkinError(f"cannot write {self._path(self._part)}: the disk or your quota is full")
            if events:
                if self._journal < 0:
                    self._journal = os.open(self.folder / JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
                os.write(self._journal, "".join(events).encode())
        except OSError as error:
            raise TidalkinError(f"cannot write to {self.folder}: {error.strerror}") from None

    def _event(self, key: Key) -> str:
        """What is known of an object and band, as a line of the journal."""
        begin = f"{key[0]}\t{key[1]}\t{self._digests[key]}"
        if key in self._absent:
            return f"absent\t{begin}\n"
        kind = "settled" if key in self._settled else "unsettled"
        part, offset, size, digest, tract = self._stored[key]
        return f"{kind}\t{begin}\t{part}\t{offset}\t{size}\t{digest}\t{tract}\n"

    # --- the tars ----------------------------------------------------------------------------------------------------

    def finish(self, lines: Sequence[Line]) -> dict[Key, tuple[Packed, str]]:
        """See that one tar holds all stored cutouts, in the order of ``lines``, and nothing else.

        What is absent is forgotten, so that it is asked for when the chunk is made anew.

        Parameters
        ----------
        lines : sequence of Line
            All lines of the chunk, in the order they are asked for.

        Returns
        -------
        dict
            For each object and band that is here: where its cutout is, and its checksum.
        """
        keys = [line.key for line in lines if line.key in self._stored]
        if keys and not self._is_packed(keys):
            self._pack(keys)
        if self._absent:
            self._absent.clear()
            self._events.append(FINISHED)
            self.flush()
        if not keys:
            return {}
        tar = self._path(self._stored[keys[0]].part)
        return {key: (Packed(tar, offset, size), digest) for key, (_, offset, size, digest, _) in self._stored.items()}

    def deliveries(
        self, lines: Sequence[Line], order: Sequence[Line], failed: Mapping[Key, str], absent: Callable[[Line], str]
    ) -> Iterator[Delivery]:
        """Finish the chunk and deliver it, line by line.

        Parameters
        ----------
        lines : sequence of Line
            All lines of the chunk, in the order they are delivered.
        order : sequence of Line
            The same, in the order they are asked for.
        failed : mapping
            Why cutouts are neither here nor known to be absent.
        absent : callable
            Why there is none where nothing failed.
        """
        here = self.finish(order)
        for line in lines:
            if line.key in here:
                packed, digest = here[line.key]
                yield Delivery(line.object_id, line.band, "ok", packed=packed, checksum=digest)
            elif line.key in failed:
                yield Delivery(line.object_id, line.band, "failed", reason=failed[line.key])
            else:
                yield Delivery(line.object_id, line.band, "absent", reason=absent(line))

    def _is_packed(self, keys: Sequence[Key]) -> bool:
        """Whether these cutouts fill one tar in this order; if so, it gets its end."""
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
        """Pack cutouts into a new tar, which takes the place of all others."""
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
        """Open the newest tar to append to it, or a new one if that is the chunk's tar as well."""
        parts = {stored.part for stored in self._stored.values()}
        self._part, self._end = max(parts, default=-1), 0
        if parts and self._path(self._part).stat().st_nlink == 1:
            self._end = max(stored.end for stored in self._stored.values() if stored.part == self._part)
        else:
            self._part += 1
        self._tar = os.open(self._path(self._part), os.O_WRONLY | os.O_CREAT, 0o666)
        # A new file is left alone: what was once cut to nothing, ext4 writes out as soon as it is closed.
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
        journal = self.folder / JOURNAL
        if journal.exists():
            os.truncate(journal, sum(map(len, self._replayed(journal))))
        damaged = self._damaged()
        for key in damaged:
            del self._stored[key]
            self._settled.discard(key)
        if self._stored or self._absent:
            logger.info("%d cutouts are already here, %d are known to be absent", len(self._stored), len(self._absent))
        if damaged:
            logger.warning("%d cutouts on disk are damaged and will be asked for again", len(damaged))
        used = {self._path(stored.part) for stored in self._stored.values()}
        for path in set(self.folder.glob("*.tar")) - used:
            path.unlink()

    def _replayed(self, journal: Path) -> Iterator[bytes]:
        """The journal's whole lines, each when it was taken in."""
        with journal.open("rb") as events:
            for event in events:
                try:
                    self._replay(event)
                except ValueError:
                    return
                yield event

    def _replay(self, event: bytes) -> None:
        """Take in a line of the journal.

        Raises
        ------
        ValueError
            If it is torn.
        """
        if not event.endswith(b"\n"):
            raise ValueError(event)
        if event.decode() == FINISHED:
            self._absent.clear()
            return
        kind, object_id, band, line, *place = event.decode().rstrip("\n").split("\t")
        key = (int(object_id), band)
        if line != self._digests.get(key):
            return
        if kind == "absent":
            self._absent.add(key)
            return
        part, offset, size, digest, tract = place
        self._stored[key] = Stored(int(part), int(offset), int(size), digest, int(tract))
        if kind == "settled":
            self._settled.add(key)

    def _damaged(self) -> list[Key]:
        """Cutouts that are not on disk as the journal says."""
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
