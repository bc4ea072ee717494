"""Shared setup of workflow scripts: settings, log file, and one-sentence errors."""

from __future__ import annotations

import logging
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tidalkin
from tidalkin.config import DeclaredSettings, load_settings
from tidalkin.errors import TidalkinError
from tidalkin.redaction import RedactingFormatter

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"
BYTES_PER_MAXRSS = 1 if sys.platform == "darwin" else 1024


@contextmanager
def stage(snakemake: Any) -> Iterator[DeclaredSettings]:
    """Run one stage of the workflow.

    The last line of a log is the cost of the job, or the sentence of its error.

    Parameters
    ----------
    snakemake : snakemake.iocontainers.Snakemake
        The object that Snakemake gives to a script. Messages go to the rule's log and to standard error.

    Yields
    ------
    DeclaredSettings
        The settings that the rule declares in ``params: settings=uses(...)``.

    Raises
    ------
    SystemExit
        With status 1 after an error.

    Examples
    --------
    >>> with stage(snakemake) as settings:  # doctest: +SKIP
    ...     build_index(snakemake.input, settings.index, "results/demo/index", settings.seed)
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(), _LogFile(snakemake.log[0], mode="w")]
    for handler in handlers:
        handler.setFormatter(RedactingFormatter(LOG_FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)
    threading.excepthook = _log_failed_thread
    logger = logging.getLogger("tidalkin")
    if "SLURM_JOB_ID" in os.environ:
        logger.info("SLURM job %s on %s", os.environ["SLURM_JOB_ID"], socket.gethostname())
    try:
        _check_package(Path(snakemake.scriptdir).parent)
        yield DeclaredSettings(load_settings(snakemake.config), snakemake.params.get("settings", {}))
        logger.info(_cost())
    except TidalkinError as error:
        logger.error("%s", error)
        sys.exit(1)
    except Exception:
        # Python would print the traceback once more, with any password in it.
        logger.exception("unexpected fault: please report it with this log")
        sys.exit(1)


class _LogFile(logging.FileHandler):
    """The log of a rule, which may lie on a full disk.

    Python would print a traceback for every message that cannot be written. Standard error has all messages.
    """

    is_writable = True

    def handleError(self, record: logging.LogRecord) -> None:
        """Say once that the log cannot be written."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif self.is_writable:
            self.is_writable = False
            print(f"{self.baseFilename} cannot be written ({error.strerror}): it may be incomplete", file=sys.stderr)


def _log_failed_thread(failed: threading.ExceptHookArgs) -> None:
    """Log the exception that ended a thread, without the passwords that Python would print.

    An error of the system, such as a full disk, is one line, because the job's own sentence names the file.
    Like Python, this ignores a thread that ends itself with `SystemExit`.
    """
    error = failed.exc_value
    if isinstance(error, SystemExit):
        return
    name = failed.thread.name if failed.thread else "unknown"
    is_known = isinstance(error, OSError | TidalkinError)
    logging.getLogger("tidalkin").error("thread %s ended: %s", name, error, exc_info=None if is_known else error)


def _cost() -> str:
    """Describe the time and the memory of this process and its ended children.

    Snakemake's own `benchmark` files miss up to the last 30 seconds of a job, and all children that have ended.
    """
    import psutil  # a requirement of the workflow, but not of a search

    seconds = time.time() - psutil.Process().create_time()
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    peak = max(_peak_bytes(own), children.ru_maxrss * BYTES_PER_MAXRSS) / 1e9
    return f"done in {seconds:.1f} s, with {processor:.1f} s of processor time and at most {peak:.3f} GB of memory"


def _peak_bytes(own: resource.struct_rusage) -> int:
    """Return the peak memory of this process, with the pages of mapped files."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux counts the memory of Snakemake, which started this process, in `ru_maxrss`.
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    return own.ru_maxrss * BYTES_PER_MAXRSS


def images_of(shards: str) -> Path:
    """Return the image store that belongs to a list of its shards.

    Examples
    --------
    >>> images_of("results/demo/images.json").as_posix()
    'results/demo/images.zarr'
    """
    return Path(shards).with_suffix(".zarr")


def lend_package(folder: Path) -> None:
    """Make child processes import the package from ``folder``, before any installed copy.

    Examples
    --------
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ):
    ...     lend_package(Path("/data/tidalkin/workflow"))
    ...     os.environ["PYTHONPATH"].split(os.pathsep)[0]
    '/data/tidalkin/workflow'
    """
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(folder)]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *others])


def _check_package(workflow: Path) -> None:
    """Refuse to run the scripts of one clone with the package of another.

    Parameters
    ----------
    workflow : Path
        The `workflow` folder of the running script.

    Raises
    ------
    TidalkinError
        If the package was imported from another folder.
    """
    used = Path(tidalkin.__file__).parents[1]
    if used.resolve() != workflow.resolve():
        raise TidalkinError(
            f"the scripts in {workflow / 'scripts'} would use the package in {used}: "
            f"put {workflow} first in PYTHONPATH, or use an environment without tidalkin"
        )
