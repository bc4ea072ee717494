"""Types of a delivered cutout, and the interface that every source implements.

A source turns catalog rows into deliveries, one per object and band, in the requested order. Each holds the bytes of
one FITS file in the HSC layout (see `tidalkin.cutouts.read`), or its place on disk, or the reason why there is none.
`tidalkin.download.tar` packs the deliveries of one chunk into a tar and a ledger, in the same way for all sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import pandas as pd

Status = Literal["ok", "absent", "failed"]


class Packed(NamedTuple):
    """Where a cutout is in a tar that the source packed itself, to be the chunk's as it is.

    Such a tar holds the chunk's cutouts and nothing else, in the layout of `tidalkin.download.tar`, in any order.
    """

    tar: Path
    offset: int
    """Where the FITS file begins, bytes."""
    size: int
    """Bytes of the FITS file."""


class Delivery(NamedTuple):
    """What became of one object in one band."""

    object_id: int
    band: str
    status: Status
    content: bytes = b""
    """The FITS file, as the archive sent it, where ``status`` is `ok` and it is not packed yet."""
    reason: str = ""
    """Why there is no file: empty where ``status`` is `ok`."""
    packed: Packed | None = None
    """Where the FITS file is, in place of ``content``; a source packs all that it delivers, or nothing."""
    checksum: str = ""
    """Of the FITS file, where the source knows it already: see `tidalkin.download.ledger.checksum`."""

    @property
    def size(self) -> int:
        """Bytes of the FITS file; 0 without one."""
        return self.packed.size if self.packed else len(self.content)


class Source(Protocol):
    """Anything that delivers cutouts."""

    def deliver(self, objects: pd.DataFrame, bands: Sequence[str]) -> Iterator[Delivery]:
        """Deliver each object of the catalog rows ``objects`` in each of ``bands``: object by object, band by band.

        Raises
        ------
        TidalkinError
            Only where nothing at all can be delivered (no such folder, credentials refused). What is wrong with one
            object's file is a delivery of status `failed`.
        """
        ...
