"""Help of `tidalkin retry-failed`, and its messages when there is nothing to retry.

A real download is retried in test_hsc_workflow.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tidalkin.cli import _with_cores
from tidalkin.cutouts.base import Cutout
from tidalkin.download.tar import write_chunk

TIDALKIN = str(Path(sys.executable).with_name("tidalkin"))


def retry_failed(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"COLUMNS": "120", "TERM": "dumb"}
    command = [TIDALKIN, "retry-failed", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=environment, timeout=120, check=False
    )


def refused(folder: Path, *arguments: str) -> str:
    """Return the one line of a refusal."""
    done = retry_failed(folder, *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `whole`, `holed` and `waiting`, and their configurations."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "results" / "waiting" / "chunks").mkdir(parents=True)
    objects = pd.DataFrame({"object_id": [1], "ra": [150.0], "dec": [2.0]})
    for run, delivery in {
        "whole": Cutout(1, "g", "ok", b"FITS"),
        "holed": Cutout(1, "g", "failed", reason="HTTP 500"),
    }.items():
        cutouts, chunks = (folder / "results" / run / name for name in ("cutouts", "chunks"))
        cutouts.mkdir(parents=True)
        chunks.mkdir()
        objects.to_parquet(chunks / "00000.parquet")
        write_chunk([delivery], objects, ("g",), cutouts / "00000.tar", cutouts / "00000.ledger.parquet")
        (folder / f"{run}.json").write_text(json.dumps({"run": run}))
    (folder / "list.yaml").write_text("- run\n- holed\n")
    return folder


def test_the_help_says_what_is_asked_for_what_is_passed_on_and_how_it_ends(folder):
    done = retry_failed(folder, "--help")
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    for words in (
        "--run RUN [--configfile FILE] [OPTIONS OF SNAKEMAKE]",
        "Download the failed cutouts once more",
        "Other options go to snakemake",
        "The exit status is 0 if nothing is left to retry, and 1 if something failed again",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--run", "results/none"], "--run results/none: is not the results of a run"),
        (["--run", "."], "--run .: is not the results of a run"),
        (["--run", "results/waiting"], "--run results/waiting: no chunk of cutouts is finished here"),
        (["--run", "results/holed"], "config: config/config.yaml cannot be read (No such file"),
        (["--run", "results/holed", "--configfile", "whole.json"], "is of run 'whole', not of 'holed'"),
        (["--run", "results/holed", "--configfile", "list.yaml"], "list.yaml, the file holds a list instead of keys"),
    ],
)
def test_bad_use_is_refused_in_one_sentence_with_status_1(folder, arguments, sentence):
    assert sentence in refused(folder, *arguments)


def test_without_a_run_the_usage_is_shown_with_status_2(folder):
    done = retry_failed(folder)
    assert done.returncode == 2
    assert "Missing option '--run'" in done.stderr


def test_where_nothing_failed_it_says_so_with_status_0(folder):
    done = retry_failed(folder, "--run", "results/whole")
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing failed in results/whole\n", "")


def test_a_chunk_that_left_the_catalog_is_not_asked_for(folder):
    chunk = folder / "results" / "holed" / "chunks" / "00000.parquet"
    rows = chunk.read_bytes()
    chunk.unlink()
    try:
        done = retry_failed(folder, "--run", "results/holed")
    finally:
        chunk.write_bytes(rows)
    assert (done.returncode, done.stdout) == (0, "nothing failed in results/holed\n")


def test_snakemakes_own_status_is_passed_on(folder):
    done = retry_failed(folder, "--run", "results/holed", "--configfile", "holed.json", "--no-such-option")
    assert done.returncode == 2
    assert "chunks with failed or missing cutouts: 00000" in done.stdout
    assert "unrecognized arguments: --no-such-option" in done.stderr


@pytest.mark.parametrize(
    "said", [["--cores", "2"], ["-c4"], ["-j", "4"], ["--jobs=9"], ["--workflow-profile", "slurm"]]
)
def test_all_cores_are_taken_only_where_nothing_else_is_said(said):
    assert _with_cores(said) == said
    assert _with_cores(["--keep-going"]) == ["--cores", "all", "--keep-going"]
