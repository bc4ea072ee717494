"""A run that the tests of the explorer share; those that judge take a copy."""

import shutil

import pytest

from servers.explorer import served, write_explored_run


@pytest.fixture(scope="session")
def explored_run(tmp_path_factory):
    """The run small; no test writes to it."""
    return write_explored_run(tmp_path_factory.mktemp("explored"))


@pytest.fixture(scope="session")
def client(explored_run):
    """A client of a server that no test judges with."""
    with served(explored_run) as client:
        yield client


@pytest.fixture
def run_to_judge(explored_run, tmp_path):
    """A run of one's own, which shares the large files."""
    run = tmp_path / "results" / "small"
    shutil.copytree(explored_run, run, ignore=shutil.ignore_patterns("labels"))
    shutil.copytree(explored_run.parents[1] / "config", tmp_path / "config")
    return run


@pytest.fixture
def judging(run_to_judge):
    """A client whose marks no other test sees."""
    with served(run_to_judge) as client:
        yield client
