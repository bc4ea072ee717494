"""Open the source of cutouts that the configuration names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tidalkin.config import Cutouts
from tidalkin.cutouts.base import Source

if TYPE_CHECKING:
    from tidalkin.download.credentials import Account


def open_source(
    cutouts: Cutouts, seed: int, received: Path, account: Account | None = None, lock_folder: Path | None = None
) -> Source:
    """Open the source that the configuration names.

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
    lock_folder : Path, optional
        Where a limit on connections is kept, if not in the user's cache directory.
    """
    # Imported here: each source brings its own libraries, and a run uses one of them.
    if cutouts.source == "simulated":
        from tidalkin.sources.simulated import SimulatedSource

        return SimulatedSource(cutouts.simulated, cutouts.size_pixels, seed)
    if cutouts.source == "hsc_das":
        from tidalkin.sources.hsc.das import HscDasSource

        return HscDasSource(cutouts, received, account, lock_folder)
    if cutouts.source == "hsc_patches":
        from tidalkin.sources.hsc.patches import HscPatchesSource

        return HscPatchesSource(cutouts, account, lock_folder)
    if cutouts.source == "hips2fits":
        from tidalkin.sources.hips2fits import Hips2fitsSource

        return Hips2fitsSource(cutouts, received, lock_folder)
    if cutouts.source == "mmu_hsc":
        from tidalkin.sources.mmu import MmuHscSource

        return MmuHscSource(cutouts.mmu_hsc)
    from tidalkin.sources.folder import FolderSource

    return FolderSource(cutouts.folder)
