"""Files that are complete or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidalkin.errors import TidalkinError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a file system that is full or where a quota is used up."""
FAILING = (errno.EIO, errno.ESTALE)
"""Errors of a broken disk, or of a lost network file system. They name no file."""
HALF_WRITTEN = ".*.partial*"
"""Pattern of the temporary names of `atomic_path`."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    r"""Yield a temporary path, which is renamed to ``path`` if the block succeeds.

    It is removed if the block raises.

    The temporary name keeps the suffix, since some writers choose their format by it.

    Raises
    ------
    TidalkinError
        If the disk is full or fails, or the folder cannot be written to.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder) / "table.csv") as partial:
    ...         _ = partial.write_text("object_id,ra,dec\n")
    ...     [file.name for file in Path(folder).iterdir()]
    ['table.csv']
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        # The block may read other files or a network, whose errors are not of this disk.
        is_folder = error.filename is not None and Path(str(error.filename)) in partial.parents
        if error.errno in (*FULL, *FAILING) or is_folder or str(partial) in str(error):
            raise _unwritable(path, error) from error
        raise
    finally:
        if partial.exists():  # a read-only disk refuses to remove even what is not there
            partial.unlink()


def finished_files(folder: str | Path, pattern: str) -> list[Path]:
    """List the files of a folder that match a pattern, without half-written ones.

    A process that is killed leaves its half-written file behind.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("00000-a.parquet", ".00001-b.4711.partial.parquet"):
    ...         (Path(folder) / name).touch()
    ...     [path.name for path in finished_files(folder, "*.parquet")]
    ['00000-a.parquet']
    """
    return sorted(path for path in Path(folder).glob(pattern) if not path.match(HALF_WRITTEN))


def half_written_files(folder: str | Path) -> list[Path]:
    """List the temporary files of `atomic_path` in a folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / ".00001-b.4711.partial.parquet").touch()
    ...     [path.name for path in half_written_files(folder)]
    ['.00001-b.4711.partial.parquet']
    """
    return sorted(Path(folder).glob(HALF_WRITTEN))


@contextmanager
def disk_errors(path: str | Path) -> Iterator[None]:
    """Turn an error of the file system into one sentence with the fix.

    Parameters
    ----------
    path : str or Path
        The file or folder that the block writes.

    Raises
    ------
    TidalkinError
        In place of an `OSError`, such as a full disk or a folder that cannot be written to.

    Examples
    --------
    >>> with disk_errors("/nowhere/galaxies.csv"):
    ...     Path("/nowhere/galaxies.csv").write_text("7")
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: /nowhere/galaxies.csv cannot be written (No such file or directory):
    check that the folder can be written to
    """
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: str | Path, error: OSError) -> TidalkinError:
    fix = "free some space and run again" if error.errno in FULL else "check that the folder can be written to"
    return TidalkinError(f"{path} cannot be written ({error.strerror or error}): {fix}")
