"""The working directory of the examples in docstrings.

It is an empty folder. If the example names the run results/demo, the folder holds a copy of it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the run once; each example gets a copy."""
    from surveys.demo import write_demo

    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder)
    return folder


@pytest.fixture(autouse=True)
def working_directory(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give an example a folder of its own, and results/demo if it names it."""
    if isinstance(request.node, pytest.DoctestItem) and "results/demo" in request.node.dtest.docstring:
        shutil.copytree(request.getfixturevalue("demo"), tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
