"""List the user's stamps, and tell when they change.

The Snakefile imports this module in every job, so nothing heavy is imported here.
"""

from __future__ import annotations

from pathlib import Path

from tidalkin.config.injection import StampFolder
from tidalkin.digest import content_digest
from tidalkin.errors import TidalkinError

SUFFIXES = (".fits", ".fit", ".fits.gz", ".fits.fz")


def stamp_files(settings: StampFolder) -> list[Path]:
    """List the FITS files of the folder, by name.

    Raises
    ------
    TidalkinError
        If the folder is not there or holds no FITS file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.fits", "a.fits", "notes.txt"):
    ...         (Path(folder) / name).touch()
    ...     [path.name for path in stamp_files(StampFolder(folder=folder))]
    ['a.fits', 'b.fits']
    """
    if settings.folder is None:
        return []
    folder = Path(settings.folder)
    if not folder.is_dir():
        raise TidalkinError(f"injection.stamps.folder {folder}: is not a folder: correct the path")
    files = sorted(path for path in folder.iterdir() if path.name.lower().endswith(SUFFIXES))
    if not files:
        raise TidalkinError(f"injection.stamps.folder {folder}: holds no FITS file: put stamps there ({SUFFIXES[0]})")
    return files


def stamps_digest(settings: StampFolder) -> str:
    """Return a digest of the content of all stamps; empty without a folder.

    Examples
    --------
    >>> stamps_digest(StampFolder())  # no folder is configured
    ''
    """
    return content_digest(stamp_files(settings))
