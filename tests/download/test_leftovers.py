"""`tidalkin clean` lists and removes what a run no longer uses, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidalkin.cli import app
from tidalkin.download.leftovers import leftovers
from tidalkin.errors import TidalkinError

USED = (
    "chunks/00000-aa.parquet",
    "cutouts/00000-aa.tar",
    "cutouts/00000-aa.ledger.parquet",
    "cutouts/.received/00000/0.tar",
)
LEFT = ("cutouts/00001-bb.tar", "cutouts/00001-bb.ledger.parquet", "cutouts/.received/00001")
VECTORS = ("embeddings/00000.npy", "embeddings/00000.ids.npy", "embeddings/00000.json")
LEFT_VECTORS = ("embeddings/00001.npy", "embeddings/00001.ids.npy", "embeddings/00001.debris_map.npy")


@pytest.fixture
def run(tmp_path) -> Path:
    run = tmp_path / "results" / "mine"
    for name in (*USED, *LEFT[:2], "cutouts/.received/00001/0.tar", *VECTORS, *LEFT_VECTORS):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(b"x" * 1000)
    (run / "images.json").write_text(json.dumps({"shards": ["5f0c"]}))
    return run


def test_what_other_chunks_and_shards_left_is_listed(run):
    assert leftovers(run) == sorted(run / name for name in (*LEFT, *LEFT_VECTORS))


def test_the_journal_of_a_chunk_that_has_changed_goes_with_its_earlier_tar(run):
    (run / "cutouts" / "00000-cc.tar").write_bytes(b"")
    assert {run / "cutouts" / "00000-cc.tar", run / "cutouts" / ".received" / "00000"} <= set(leftovers(run))


def test_half_written_files_of_killed_jobs_are_listed_and_count_as_no_chunk(run):
    names = (
        "chunks/.00001-bb.4711.partial.parquet",
        "cutouts/.00000-aa.4711.partial.tar",
        "cutouts/.00000-aa.ledger.4711.partial.parquet",
        "embeddings/.00000.4711.partial.npy",
    )
    for name in names:
        (run / name).write_bytes(b"x")
    assert leftovers(run) == sorted(run / name for name in (*LEFT, *LEFT_VECTORS, *names))


def test_without_yes_nothing_is_removed(run):
    done = CliRunner().invoke(app, ["clean", str(run)])
    assert done.exit_code == 0
    assert "6 files and folders with 0.0 MB: add --yes to remove them" in done.stdout
    assert len(leftovers(run)) == 6


def test_with_yes_the_rest_stays(run):
    done = CliRunner().invoke(app, ["clean", str(run), "--yes"])
    assert done.exit_code == 0
    assert "removed 6 files and folders" in done.stdout
    assert leftovers(run) == []
    assert all((run / name).exists() for name in (*USED, *VECTORS))
    assert "nothing to remove" in CliRunner().invoke(app, ["clean", str(run)]).stdout


def test_a_folder_that_is_not_a_finished_run_is_refused(run, tmp_path):
    with pytest.raises(TidalkinError, match="is not a run with finished images"):
        leftovers(tmp_path)
    (run / "images.json").write_text("{")
    with pytest.raises(TidalkinError, match=r"images.json: is damaged: run snakemake"):
        leftovers(run)


def test_while_snakemake_is_at_work_nothing_is_removed(run, tmp_path):
    (tmp_path / ".snakemake" / "locks").mkdir(parents=True)
    (tmp_path / ".snakemake" / "locks" / "0.input.lock").write_text("")
    with pytest.raises(TidalkinError, match="Snakemake is at work there: wait until it ends"):
        leftovers(run)
