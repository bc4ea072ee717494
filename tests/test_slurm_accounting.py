"""Jobs on SLURM start only where their end can be seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidalkin import slurm
from tidalkin.errors import TidalkinError


@pytest.fixture
def sacct(tmp_path, monkeypatch):
    """Put a program named sacct first in PATH."""

    def install(script: str) -> Path:
        program = tmp_path / "sacct"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return program

    return install


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo Slurm accounting storage is disabled >&2; exit 1", "Slurm accounting storage is disabled"),
        ("exit 3", "exit status 3"),
        ("exec sleep 60", "no answer in 0 seconds"),
    ],
)
def test_without_accounting_the_sentence_names_the_setting_to_change(sacct, script, reason, monkeypatch):
    sacct(script)
    if "sleep" in script:
        monkeypatch.setattr(slurm, "LONGEST_ANSWER_SECONDS", 0.1)
    with pytest.raises(TidalkinError, match=rf"\(sacct: {reason}\): add the line `slurm-status-command: squeue`"):
        slurm.check_accounting("sacct")


def test_with_accounting_or_with_another_command_the_run_starts(sacct):
    sacct("exit 0")
    slurm.check_accounting("sacct")
    sacct("exit 1")
    slurm.check_accounting("squeue")
    slurm.check_accounting(None)


def test_without_sacct_snakemake_asks_the_queue_by_itself(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    slurm.check_accounting("sacct")
