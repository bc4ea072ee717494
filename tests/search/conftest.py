"""A run that several test files search."""

import pytest

from surveys.small_run import write_encoded_run, write_run


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """The files of a run whose vectors are random; no test changes them."""
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def with_encoder(tmp_path_factory):
    """The files of a run with an encoder, which can embed a cutout."""
    return write_encoded_run(tmp_path_factory.mktemp("encoded"))
