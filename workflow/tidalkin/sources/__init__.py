"""Where cutouts come from: one file per source, one small interface.

A source turns catalog rows into deliveries: one per object and band, in the order asked for, each the bytes of one FITS
file in the HSC layout (see `tidalkin.cutouts`), or the place of one on disk, or the reason why there is none.
`tidalkin.sources.chunk` makes a tar and a ledger of the deliveries of one chunk, the same way for all sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import pandas as pd

from tidalkin.config import Cutouts

if TYPE_CHECKING:
    from tidalkin.sources.hsc_account import Account

Status = Literal["ok", "absent", "failed"]


class Packed(NamedTuple):
    """Where a cutout is in a tar that the source packed itself, to be the chunk's as it is.

    Such a tar holds the chunk's cutouts and nothing else, in the layout of `tidalkin.sources.chunk`, in any order.
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
    """Of the FITS file, where the source knows it already: see `tidalkin.sources.chunk.checksum`."""

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


def open_source(
    cutouts: Cutouts, seed: int, received: Path, account: Account | None = None, slots: Path | None = None
) -> Source:
    """The source that the configuration names.

    Parameters
    ----------
    cutouts : Cutouts
        The configuration's section.
    seed : int
        Of the simulated survey.
    received : Path
        Folder of this chunk, where a download keeps what it has, so that an interrupted one goes on from there.
    account : Account, optional
        Credentials; looked for, by a source that needs them, if not given.
    slots : Path, optional
        Where a limit on connections is kept, if not in the user's cache directory.
    """
    # Imported here: each source brings its own libraries, and a run uses one of them.
    if cutouts.source == "simulated":
        from tidalkin.sources.simulated import SimulatedSource

        return SimulatedSource(cutouts.simulated, cutouts.size_pixels, seed)
    if cutouts.source == "hsc_das":
        from tidalkin.sources.hsc_das import HscDasSource

        return HscDasSource(cutouts, received, account, slots)
    if cutouts.source == "hsc_patches":
        from tidalkin.sources.hsc_patches import HscPatchesSource

        return HscPatchesSource(cutouts, account, slots)
    if cutouts.source == "hips2fits":
        from tidalkin.sources.hips2fits import Hips2fitsSource

        return Hips2fitsSource(cutouts, received, slots)
    if cutouts.source == "mmu_hsc":
        from tidalkin.sources.mmu_hsc import MmuHscSource

        return MmuHscSource(cutouts.mmu_hsc)
    from tidalkin.sources.folder import FolderSource

    return FolderSource(cutouts.folder)
