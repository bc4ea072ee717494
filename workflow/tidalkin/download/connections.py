"""A limit on connections that holds over processes: all jobs of a run, and all workflows of one user on one machine.

Each connection a user may have to a server is a slot, a file in the user's cache directory; a job holds the lock of one
of them while it talks to that server. The operating system lets go of a dead job's lock. Jobs on several machines share
the limit only where they share that directory and its file system keeps locks; otherwise the workflow's own resource
limits the jobs.
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

logger = logging.getLogger("tidalkin.download")


def slots_folder(host: str, directory: Path | None = None) -> Path:
    """The folder, made if needed, of what this user's processes tell each other about ``host``.

    It is in ``directory``, or in the user's cache directory if that is not given.
    """
    directory = directory or platformdirs.user_cache_path("tidalkin") / "connections"
    folder = directory / re.sub(r"[^\w.-]", "_", host)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _free_slot(directory: Path, connections: int) -> FileLock | None:
    """A slot whose lock could be taken, if there is one."""
    for number in range(connections):
        slot = FileLock(directory / f"{number}.lock")
        try:
            slot.acquire(blocking=False)
        except Timeout:
            continue
        return slot
    return None


@contextmanager
def connection_slot(
    host: str, connections: int, directory: Path | None = None, poll_seconds: float = 0.2
) -> Iterator[None]:
    """Hold one of the ``connections`` this user has to ``host``; wait until one is free.

    Parameters
    ----------
    host : str
        The server, with its port if it is not the usual one.
    connections : int
        Most connections at once.
    directory : Path, optional
        Where the slots are; the user's cache directory if not given.
    poll_seconds : float
        How often to look for a free slot, seconds.
    """
    directory = slots_folder(host, directory)
    slot = _free_slot(directory, connections)
    if slot is None:
        logger.info("waiting for one of the %d connections to %s", connections, host)
    while slot is None:
        # Unequal waits, so that waiting jobs do not look all at the same moment. Nothing else depends on them.
        time.sleep(poll_seconds * random.uniform(0.5, 1.5))
        slot = _free_slot(directory, connections)
    try:
        yield
    finally:
        slot.release()
