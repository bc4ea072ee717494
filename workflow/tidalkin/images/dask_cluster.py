"""Start or join the Dask cluster that converts cutouts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dask import config as dask_config
from distributed import Client, LocalCluster

import tidalkin
from tidalkin.config import Dask
from tidalkin.errors import TidalkinError

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_WARNINGS = 60.0
# Settings of glibc's allocator in our workers. Dask lets it return free memory at once, so that each image's pages are
# requested from the system again, which takes a third of a worker's time. Without glibc, these settings do nothing.
ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": 256 * 2**20, "MALLOC_MMAP_THRESHOLD_": 32 * 2**20}
# Dask starts a dead worker of this machine again. By default it also gives the worker up after 15 seconds. On a busy
# machine the new process takes longer, and the conversion would wait without any worker.
LOST_WORKER_TIMEOUT = "1 day"


@contextmanager
def _client(dask: Dask, n_workers: int, job_logs: Path) -> Iterator[Client]:
    """Connect to the cluster of the configuration, or start it."""
    if dask.cluster == "address":
        try:
            client = Client(dask.address)
        except (OSError, ValueError) as error:
            raise TidalkinError(
                f"compute.dask.address {dask.address}: no Dask scheduler answers there ({error})"
            ) from error
        with client:
            yield client
    elif dask.cluster == "slurm":
        with _slurm_cluster(dask, n_workers, job_logs) as cluster, Client(cluster) as client:
            yield client
    else:
        # Without a memory limit of Dask's own: a task holds one shard and nothing that could be spilled to disk.
        settings: dict[str, object] = {
            f"distributed.nanny.pre-spawn-environ.{name}": ALLOCATOR[name] for name in ALLOCATOR
        }
        with (
            dask_config.set(settings | {"distributed.deploy.lost-worker-timeout": LOST_WORKER_TIMEOUT}),
            LocalCluster(
                n_workers=n_workers, threads_per_worker=1, processes=True, memory_limit=None, dashboard_address=":0"
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client
            # The scheduler ends before its workers. One that waits for an answer then would log an error.
            client.run(logging.getLogger("distributed.worker").setLevel, logging.CRITICAL, on_error="ignore")


def _wait_for_a_worker(client: Client) -> None:
    """Wait for the first worker, with a warning every minute.

    A cluster's queue may take hours, and its jobs may fail.
    """
    while True:
        try:
            return client.wait_for_workers(1, timeout=SECONDS_BETWEEN_WARNINGS)
        except TimeoutError:
            logger.warning(
                "still no Dask worker at %s: look at the cluster's queue and job logs", client.scheduler.addr
            )


@contextmanager
def _slurm_cluster(dask: Dask, n_workers: int, job_logs: Path) -> Iterator[object]:
    # Imported here: it brings its own configuration, and most runs have no SLURM.
    from dask_jobqueue import SLURMCluster

    # The workers find this package where the driver found it, installed or not.
    package = Path(tidalkin.__file__).resolve().parents[1]
    ours = {"cores": 1, "processes": 1, "memory": "4GiB", "scheduler_options": {"dashboard_address": ":0"}}
    job: dict[str, Any] = ours | {"log_directory": str(job_logs)} | dask.slurm
    exports = [
        f'export PYTHONPATH="{package}:$PYTHONPATH"',
        *(f"export {name}={ALLOCATOR[name]}" for name in ALLOCATOR),
    ]
    job["job_script_prologue"] = [*exports, *job.get("job_script_prologue", [])]
    try:
        cluster = SLURMCluster(**job)
    except (TypeError, ValueError) as error:
        raise TidalkinError(f"config: compute.dask.slurm: {error}") from error
    with cluster:
        cluster.adapt(minimum=n_workers, maximum=n_workers)  # unlike `scale`, this replaces jobs that end or die
        yield cluster
