"""Tell when the user's own image files change, so that their cutouts are read again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tidalkin.config import Cutouts, config_digest

LOCAL_SOURCES = ("folder", "mmu_hsc")
"""Sources that read files of the user's."""


def local_files_digest(cutouts: Cutouts, object_ids: Sequence[int]) -> str:
    """Digest the names, sizes and times of the image files of some galaxies.

    A survey may hold terabytes, so the sizes and times stand for the content. A file that is missing is left out, so
    that the digest changes when it arrives.

    Parameters
    ----------
    cutouts : Cutouts
        The configuration's section, with one of `LOCAL_SOURCES`.
    object_ids : sequence of int
        The galaxies.

    Raises
    ------
    TidalkinError
        If there is no such folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cutouts = Cutouts(source="folder", bands=["i"], folder={"path": folder, "template": "{object_id}.fits"})
    ...     before = local_files_digest(cutouts, [7, 8])
    ...     _ = (Path(folder) / "8.fits").write_bytes(b"SIMPLE")
    ...     local_files_digest(cutouts, [7, 8]) == before, local_files_digest(cutouts, [7]) == before
    (False, True)
    """
    if cutouts.source == "mmu_hsc":
        return _digest(sorted(Path(cutouts.mmu_hsc.path).expanduser().rglob("*.hdf5")))
    # Imported here: it brings astropy, which planning needs for no other source.
    from tidalkin.sources.folder import FolderSource

    return _digest(FolderSource(cutouts.folder).files(object_ids, cutouts.bands))


def _digest(files: Iterable[Path]) -> str:
    status = [(str(path), path.stat()) for path in files]
    return config_digest([(name, one.st_size, one.st_mtime_ns) for name, one in status])
