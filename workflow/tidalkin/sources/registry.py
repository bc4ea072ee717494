"""The registry of sources: the built-in ones, and those that installed packages add."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING

from tidalkin.config import Cutouts
from tidalkin.config.outside import ENTRY_POINT_GROUP, outside_sources
from tidalkin.cutouts.base import Source
from tidalkin.sources.base import SourceContext

if TYPE_CHECKING:
    from tidalkin.download.credentials import Account

# Names in place of classes: each source imports its own libraries, and a run uses one of them.
BUILT_IN = {
    "simulated": "tidalkin.sources.simulated:SimulatedSource",
    "folder": "tidalkin.sources.folder:FolderSource",
    "hsc_das": "tidalkin.sources.hsc.das:HscDasSource",
    "hsc_patches": "tidalkin.sources.hsc.patches:HscPatchesSource",
    "hips2fits": "tidalkin.sources.hips2fits:Hips2fitsSource",
    "mmu_hsc": "tidalkin.sources.mmu:MmuHscSource",
}


def registered_sources() -> dict[str, EntryPoint]:
    """Return all sources by name; the built-in ones take precedence.

    Examples
    --------
    >>> registered_sources()["folder"].value
    'tidalkin.sources.folder:FolderSource'
    """
    built_in = {name: EntryPoint(name, value, ENTRY_POINT_GROUP) for name, value in BUILT_IN.items()}
    return outside_sources() | built_in


def open_source(
    cutouts: Cutouts, seed: int, folder: Path, account: Account | None = None, lock_folder: Path | None = None
) -> Source:
    """Open the source that the configuration names.

    Parameters
    ----------
    cutouts : Cutouts
        The configuration's section.
    seed, folder, account, lock_folder
        See `tidalkin.sources.base.SourceContext`.

    Raises
    ------
    TidalkinError
        If the source cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     source = open_source(Cutouts(source="folder", folder={"path": folder}), seed=1, folder=Path("unused"))
    >>> type(source).__name__
    'FolderSource'
    """
    source: Source = (
        registered_sources()[cutouts.source].load().open(cutouts, SourceContext(seed, folder, account, lock_folder))
    )
    return source
