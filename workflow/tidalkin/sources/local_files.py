"""Tell when the user's own image files change, so that their cutouts are read again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tidalkin.config import Cutouts, config_digest

if TYPE_CHECKING:
    from tidalkin.sources.folder import FolderSource

LOCAL_SOURCES = ("folder", "mmu_hsc")
"""Sources that read files of the user's."""


class LocalFiles:
    """The files that hold the images of a survey.

    Parameters
    ----------
    cutouts : Cutouts
        The configuration's section, with one of `LOCAL_SOURCES`.

    Raises
    ------
    TidalkinError
        If there is no such folder.
    """

    def __init__(self, cutouts: Cutouts) -> None:
        self._bands = cutouts.bands
        self._source: FolderSource | None = None
        self._of_all = ""
        if cutouts.source == "mmu_hsc":
            self._of_all = _digest(sorted(Path(cutouts.mmu_hsc.path).expanduser().rglob("*.hdf5")))
        else:
            # Imported here: it brings astropy, which planning needs for no other source.
            from tidalkin.sources.folder import FolderSource

            self._source = FolderSource(cutouts.folder)

    def has_any(self, object_ids: Sequence[int]) -> bool:
        """Tell whether any of the galaxies' files is here."""
        if self._source is None:
            return self._of_all != _digest([])
        return next(iter(self._source.files(object_ids, self._bands)), None) is not None

    def digest(self, object_ids: Sequence[int]) -> str:
        """Digest the names, sizes and times of the image files of some galaxies.

        A survey may hold terabytes, so the sizes and times stand for the content. A file that is missing is left out,
        so that the digest changes when it arrives. The Multimodal Universe has many galaxies in one file; there, all
        files count.

        Parameters
        ----------
        object_ids : sequence of int
            The galaxies.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     images = {"path": folder, "template": "{object_id}.fits"}
        ...     files = LocalFiles(Cutouts(source="folder", bands=["i"], folder=images))
        ...     before = files.digest([7, 8])
        ...     _ = (Path(folder) / "8.fits").write_bytes(b"SIMPLE")
        ...     files.digest([7, 8]) == before, files.digest([7]) == files.digest([])
        (False, True)
        """
        return self._of_all if self._source is None else _digest(self._source.files(object_ids, self._bands))


def _digest(files: Iterable[Path]) -> str:
    status = [(str(path), path.stat()) for path in files]
    return config_digest([(name, one.st_size, one.st_mtime_ns) for name, one in status])
