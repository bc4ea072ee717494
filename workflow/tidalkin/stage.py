"""What every workflow script does around its one call: log to the rule's file, end in a sentence, not a traceback."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tidalkin.errors import TidalkinError

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


@contextmanager
def stage(log: Sequence[str]) -> Iterator[logging.Logger]:
    """Run one stage of the workflow.

    Parameters
    ----------
    log : sequence of str
        ``snakemake.log``: the messages go to its first file and to standard error.

    Yields
    ------
    logging.Logger
        The package's logger.

    Raises
    ------
    SystemExit
        With status 1 after a `TidalkinError`, whose sentence is then the last thing logged.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(), logging.FileHandler(log[0], mode="w")]
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, handlers=handlers, force=True)
    logger = logging.getLogger("tidalkin")
    if "SLURM_JOB_ID" in os.environ:
        logger.info("SLURM job %s on %s", os.environ["SLURM_JOB_ID"], socket.gethostname())
    try:
        yield logger
    except TidalkinError as error:
        logger.error("%s", error)
        sys.exit(1)
    except Exception:
        logger.exception("unexpected fault: please report it with this log")
        raise
