"""A limit on connections per server, shared by all processes of one user.

Each allowed connection is a lock file in the user's cache directory. A job holds one of these locks while it talks to
the server. The operating system releases the lock of a dead job. Jobs on several machines share the limit only if they
share the directory and its file system supports locks. Otherwise the resource `hsc_connections` of the workflow limits
the jobs.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from tidalkin.errors import TidalkinError

logger = logging.getLogger(__name__)


def host_folder(host: str, directory: Path | None = None) -> Path:
    """Return the folder in which this user's processes share state about a server.

    Parameters
    ----------
    host : str
        The server, with its port if it is not the usual one.
    directory : Path, optional
        Where the folder is; by default, in the user's cache directory.

    Raises
    ------
    TidalkinError
        If the folder cannot be made.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     host_folder("localhost:8080", Path(folder)).name
    'localhost_8080'
    """
    directory = directory or platformdirs.user_cache_path("tidalkin") / "connections"
    folder = directory / re.sub(r"[^\w.-]", "_", host)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise _unusable(folder, error) from None
    return folder


def _unusable(folder: Path, error: OSError) -> TidalkinError:
    return TidalkinError(
        f"{folder}, which holds the locks of the connections, cannot be written to ({error.strerror or error}): "
        "make it writable, or let XDG_CACHE_HOME name another cache directory"
    )


def _free_lock(folder: Path, connections: int) -> FileLock | None:
    """Acquire one of the locks, if one is free."""
    for number in range(connections):
        lock = FileLock(folder / f"{number}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        except OSError as error:
            raise _unusable(folder, error) from None
        return lock
    return None


@contextmanager
def connection_lock(
    host: str, connections: int, directory: Path | None = None, poll_seconds: float = 0.2
) -> Iterator[None]:
    """Hold one of this user's connections to a server; wait until one is free.

    Parameters
    ----------
    host : str
        The server, with its port if it is not the usual one.
    connections : int
        Most connections at once.
    directory : Path, optional
        Where the lock files are; by default, in the user's cache directory.
    poll_seconds : float
        Time between two looks for a free connection, seconds.

    Raises
    ------
    TidalkinError
        If the lock files cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with connection_lock("localhost:8080", 1, Path(folder)):
    ...         [path.name for path in host_folder("localhost:8080", Path(folder)).iterdir()]
    ['0.lock']
    """
    folder = host_folder(host, directory)
    lock = _free_lock(folder, connections)
    if lock is None:
        logger.info("waiting for one of the %d connections to %s", connections, host)
    while lock is None:
        # Random waits keep the waiting jobs from looking at the same moment. No result depends on them.
        time.sleep(poll_seconds * random.uniform(0.5, 1.5))
        lock = _free_lock(folder, connections)
    try:
        yield
    finally:
        lock.release()
