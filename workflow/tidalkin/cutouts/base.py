"""Types of a fetched cutout, and the interface that every source implements.

A source turns catalog rows into cutouts, one per object and band, in the requested order. Each cutout holds the bytes
of one FITS file in the HSC layout (see `tidalkin.cutouts.read`), or its location on disk, or the reason why there is
no file. `tidalkin.download.tar` packs the cutouts of one chunk into a tar and a ledger. It does so for all sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import pandas as pd

Status = Literal["ok", "absent", "failed"]


class TarLocation(NamedTuple):
    """Location of a cutout in a tar that the source has packed itself.

    Such a tar holds the chunk's cutouts and nothing else, in the layout of `tidalkin.download.tar`, in any order. It
    becomes the chunk's tar without a copy.
    """

    tar: Path
    offset: int
    """First byte of the FITS file."""
    size: int
    """Size of the FITS file, bytes."""


class Cutout(NamedTuple):
    """One object in one band: a FITS file, or the reason why there is none."""

    object_id: int
    band: str
    status: Status
    content: bytes = b""
    """The FITS file as the archive sent it. Empty if ``status`` is not `ok` or ``location`` is set."""
    reason: str = ""
    """Reason why there is no file. Empty if ``status`` is `ok`."""
    location: TarLocation | None = None
    """Location of the FITS file, in place of ``content``. A source sets it for all of its cutouts or for none."""
    checksum: str = ""
    """Checksum of the FITS file, if the source knows it: see `tidalkin.download.ledger.checksum`."""

    @property
    def size(self) -> int:
        """Size of the FITS file in bytes; 0 without one."""
        return self.location.size if self.location else len(self.content)


class Source(Protocol):
    """Anything that provides cutouts."""

    def fetch(self, objects: pd.DataFrame, bands: Sequence[str]) -> Iterator[Cutout]:
        """Fetch each object in each band, object by object and band by band.

        Parameters
        ----------
        objects : pandas.DataFrame
            Catalog rows with at least `object_id`, `ra` and `dec` (degrees, ICRS).
        bands : sequence of str
            Bands, lower case.

        Yields
        ------
        Cutout
            A problem with one object's file gives a cutout of status `failed`.

        Raises
        ------
        TidalkinError
            If nothing at all can be fetched: there is no such folder, or the server refuses the credentials.
        """
        ...
