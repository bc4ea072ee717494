"""Fixtures of the image tests."""

from __future__ import annotations

import pytest
from distributed import LocalCluster

from tidalkin.config import Dask


@pytest.fixture(scope="module")
def scheduler():
    """Address of one Dask scheduler for the tests that need no cluster of their own."""
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, memory_limit=None
    ) as cluster:
        yield Dask(cluster="address", address=cluster.scheduler_address)
