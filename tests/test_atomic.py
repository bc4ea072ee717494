"""Files are whole or absent, also on a disk that is full or read-only."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from tidalkin.atomic import atomic_path
from tidalkin.catalog.read import write_catalog
from tidalkin.errors import TidalkinError
from tidalkin.figures.panels import save_figure
from tidalkin.model.train import _save_checkpoint


@contextmanager
def nearly_full(largest_file: int) -> Iterator[None]:
    """Let no file grow beyond some bytes, as a disk that is full does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def bytes_to(path: Path) -> None:
    with atomic_path(path) as partial:
        partial.write_bytes(bytes(4096))


def catalog_to(path: Path) -> None:
    rows = np.random.default_rng(1).random((1000, 2))
    write_catalog(pd.DataFrame({"object_id": range(1000), "ra": rows[:, 0], "dec": rows[:, 1]}), path)


def checkpoint_to(path: Path) -> None:
    model = torch.nn.Linear(64, 64)
    _save_checkpoint(path, "digest", model, torch.optim.SGD(model.parameters(), lr=0.1), [])


def figure_to(path: Path) -> None:
    save_figure(Figure(), path)


WRITERS = [(bytes_to, "a.bin"), (catalog_to, "a.parquet"), (checkpoint_to, "a.pt"), (figure_to, "a.png")]


@pytest.mark.parametrize(("write", "name"), WRITERS)
def test_a_full_disk_is_one_sentence_that_leaves_no_file_and_the_next_run_goes_on(
    tmp_path: Path, write: Callable[[Path], None], name: str
) -> None:
    path = tmp_path / "made" / name
    with (
        nearly_full(1000),
        pytest.raises(TidalkinError, match=rf"{path} cannot be written .*: free some space and run"),
    ):
        write(path)
    assert list(path.parent.iterdir()) == []
    write(path)
    assert path.stat().st_size > 1000


@pytest.mark.parametrize(("write", "name"), WRITERS)
def test_a_folder_that_cannot_be_is_one_sentence(tmp_path: Path, write: Callable[[Path], None], name: str) -> None:
    (tmp_path / "file").write_text("here")
    for path in (tmp_path / "file" / name, tmp_path / "file" / "below" / name):
        with pytest.raises(TidalkinError, match=rf"{path} cannot be written .*: check that the folder can be written"):
            write(path)
    assert (tmp_path / "file").read_text() == "here"


def test_an_error_of_another_file_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a") as partial:
        partial.write_bytes((tmp_path / "nowhere").read_bytes())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_disk_that_fails_is_one_sentence(tmp_path: Path, number: int) -> None:
    with (
        pytest.raises(TidalkinError, match=rf"{tmp_path / 'a'} cannot be written \({os.strerror(number)}\)"),
        atomic_path(tmp_path / "a"),
    ):
        raise OSError(number, os.strerror(number))


def interrupted(path: Path) -> None:
    with atomic_path(path) as partial:
        partial.write_bytes(b"begun")
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


def test_an_error_of_a_network_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError):
        interrupted(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
