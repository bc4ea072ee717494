"""The file `journal.tsv` of a chunk, with one line per event.

A line is appended after the bytes it refers to. The last line may be torn by a kill. A reader stops there.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import xxhash

from tidalkin.download.request import CutoutRequest, Key
from tidalkin.download.tar_members import padding

JOURNAL = "journal.tsv"
REQUESTS = "requests.csv"
"""Times, sizes and faults of the requests, beside the journal."""
FINISHED = "finished"
"""Event that ends a chunk: the absent cutouts above it are requested when the chunk is fetched again."""
ABSENT, FINAL, PROVISIONAL = "absent", "final", "provisional"
"""States of a cutout. A provisional one may still be replaced by that of a lower tract."""


class StoredCutout(NamedTuple):
    """A cutout on disk."""

    part: int
    """Number of its tar."""
    offset: int
    """First byte of the FITS file."""
    size: int
    checksum: str
    tract: int

    @property
    def end(self) -> int:
        """Offset of the next member's header."""
        return self.offset + self.size + padding(self.size)


class Event(NamedTuple):
    """One line of the journal."""

    state: str
    key: Key
    request: str
    """Digest of the request that was answered."""
    stored: StoredCutout | None = None
    """None if the cutout is absent."""


def request_digest(request: CutoutRequest) -> str:
    """Return a digest that changes if the request does.

    Examples
    --------
    >>> small, large = (CutoutRequest(7, "i", "HSC-I", 150.0, 2.0, n, f"7 i {n}") for n in (64, 96))
    >>> request_digest(small) == request_digest(large)
    False
    """
    return xxhash.xxh3_64_hexdigest(request.text.encode())


def write_event(event: Event) -> str:
    r"""Return the line of an event.

    Examples
    --------
    >>> write_event(Event("absent", (7, "g"), "c0ffee"))
    'absent\t7\tg\tc0ffee\n'
    """
    return "\t".join(map(str, (event.state, *event.key, event.request, *(event.stored or ())))) + "\n"


def read_event(line: bytes) -> Event | None:
    r"""Read one line; None stands for the end of a chunk.

    Raises
    ------
    ValueError
        If the line is torn or damaged.

    Examples
    --------
    >>> read_event(b"absent\t7\tg\tc0ffee\n")
    Event(state='absent', key=(7, 'g'), request='c0ffee', stored=None)
    """
    text = line.decode()
    if not text.endswith("\n"):
        raise ValueError(line)
    if text.rstrip("\n") == FINISHED:
        return None
    state, object_id, band, request, *place = text.rstrip("\n").split("\t")
    key = (int(object_id), band)
    if state == ABSENT:
        return Event(state, key, request)
    part, offset, size, checksum, tract = place
    return Event(state, key, request, StoredCutout(int(part), int(offset), int(size), checksum, int(tract)))


def count_stored(journal: Path) -> int:
    """Count the cutouts that a journal names; its chunk may be in progress.

    Examples
    --------
    >>> count_stored(Path("no_such_run/cutouts/00000.journal/journal.jsonl"))  # nothing has been fetched
    0
    """
    if not journal.exists():
        return 0
    keys = set()
    with journal.open("rb") as lines:
        for line in lines:
            try:
                event = read_event(line)
            except ValueError:
                break
            if event and event.stored:
                keys.add(event.key)
    return len(keys)
