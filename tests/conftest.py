"""Shared fixtures: the root of the repository, and the workflow as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from tidalkin import redaction

# An example may take as long as it needs, because a busy machine is not a fault of the code.
settings.register_profile("tidalkin", deadline=None)
settings.load_profile("tidalkin")

ROOT = Path(__file__).resolve().parents[1]
# Programs and helpers hold no tests; as programs, they are not to be imported either.
collect_ignore_glob = ["programs/*", "servers/*", "surveys/*"]


@pytest.fixture(autouse=True)
def secrets_of_one_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget a test's passwords when it ends.

    One that is a common word would become stars in the messages of other tests.
    """
    monkeypatch.setattr(redaction, "_patterns", dict(redaction._patterns))


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def real_hsc_cutouts() -> Path:
    """Return the folder of real HSC images and their catalog, or skip the test."""
    folder = ROOT.parent / "shared" / "data" / "hsc"
    if not folder.is_dir():
        pytest.skip("no real HSC images beside the repository")
    return folder


Snakemake = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="session")
def snakemake() -> Snakemake:
    """Run the workflow in a folder: ``snakemake(folder, "--until", "embed", config={...})``."""

    def run(
        folder: Path, *arguments: str, config: dict | None = None, check: bool = True, timeout: float = 1800
    ) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
        # Beside other tests, two threads that wait for each other take several times longer than one.
        command += ["--cores", "2", "--max-threads", "1", "--directory", str(folder), *arguments]
        if config is not None:
            configfile = folder / "config.json"
            configfile.write_text(json.dumps(config))
            command += ["--configfile", str(configfile)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout)
        if check:
            assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
        return done

    return run
