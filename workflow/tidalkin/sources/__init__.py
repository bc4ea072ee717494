"""Where cutouts come from: one file per source, one small interface.

A source turns catalog rows into deliveries: one per object and band, in the order asked for, each the bytes of one FITS
file in the HSC layout (see `tidalkin.cutouts`) or the reason why there is none. `tidalkin.sources.chunk` writes the
deliveries of one chunk to a tar and a ledger, the same way for all sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import pandas as pd

from tidalkin.config import Cutouts

Status = Literal["ok", "absent", "failed"]


@dataclass(frozen=True)
class Delivery:
    """What became of one object in one band."""

    object_id: int
    band: str
    status: Status
    content: bytes = b""
    """The FITS file, as the archive sent it, where ``status`` is `ok`."""
    reason: str = ""
    """Why there is no file: empty where ``status`` is `ok`."""
    sha256: str = ""
    """Of the content, where the source knows it already."""


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


def open_source(cutouts: Cutouts, seed: int, received: Path) -> Source:
    """The source that the configuration names.

    Parameters
    ----------
    cutouts : Cutouts
        The configuration's section.
    seed : int
        Of the simulated survey.
    received : Path
        Folder of this chunk, where a download keeps what it has, so that an interrupted one goes on from there.
    """
    # Imported here: each source brings its own libraries, and a run uses one of them.
    if cutouts.source == "simulated":
        from tidalkin.sources.simulated import SimulatedSource

        return SimulatedSource(cutouts.simulated, cutouts.size_pixels, seed)
    if cutouts.source == "hsc_das":
        from tidalkin.sources.hsc_das import HscDasSource

        return HscDasSource(cutouts, received)
    if cutouts.source == "hsc_patches":
        from tidalkin.sources.hsc_patches import HscPatchesSource

        return HscPatchesSource(cutouts)
    if cutouts.source == "hips2fits":
        from tidalkin.sources.hips2fits import Hips2fitsSource

        return Hips2fitsSource(cutouts)
    if cutouts.source == "mmu_hsc":
        from tidalkin.sources.mmu_hsc import MmuHscSource

        return MmuHscSource(cutouts.mmu_hsc)
    from tidalkin.sources.folder import FolderSource

    return FolderSource(cutouts.folder)
