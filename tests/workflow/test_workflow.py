"""The workflow as a user runs it: first runs, re-runs after a change, and messages."""

from __future__ import annotations

import copy
import shutil
import time
from pathlib import Path

import pandas as pd
import pytest

from surveys.tiny import TINY, changed, planned
from tidalkin.config import load_settings, read_config_file


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory, snakemake) -> Path:
    folder = tmp_path_factory.mktemp("run")
    snakemake(folder, config=TINY)
    return folder


BASELINES = {"baseline_random", "baseline_pca", "baseline_morphology"}
AFTER_EMBEDDING = {"index", "rank", "map", "search", "completeness", "evaluate"}
AFTER_TRAINING = {"whiten", "embed"} | AFTER_EMBEDDING


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"search": {"k": 5}}, {"search"}),
        ({"training": {"epochs": 3}}, {"train"} | AFTER_TRAINING),
        ({"images": {"size": 36}}, {"convert", "images_digest", "views", "train"} | BASELINES | AFTER_TRAINING),
        ({"embedding": {"dimensions": 12}}, {"whiten", "embed", "baseline_random", "baseline_pca"} | AFTER_EMBEDDING),
        ({"index": {"kind": "HNSW32"}}, {"index", "search"}),
        ({"search": {"debris_weight": 0.5}}, {"search", "evaluate"}),
        ({"evaluation": {"repeats": 3}}, {"evaluate"}),
        ({"completeness": {"galaxies": 8}}, {"completeness"}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_only_what_a_change_of_config_touches_runs_again(finished_run, snakemake, change, expected):
    output = snakemake(finished_run, "-n", config=changed(TINY | {"index": {}}, **change)).stdout
    assert planned(output) == expected


@pytest.mark.slow
def test_another_run_takes_encoder_and_whitening_and_gives_the_same_vectors(finished_run, snakemake):
    """Run the same galaxies under another name, with neither training nor fitting."""
    taken = {"encoder": "results/tiny/encoder/encoder.pt", "whitening": "results/tiny/whitening.npz"}
    other = TINY | {"run": "other", "reuse": taken, "evaluation": {"enabled": False}, "search": {"queries": {}}}
    done = snakemake(finished_run, config=other)
    assert planned(done.stdout + done.stderr) & {"reuse_encoder", "reuse_whitening", "train", "whiten", "views"} == {
        "reuse_encoder",
        "reuse_whitening",
    }
    for shard in ("00000", "00001", "00002"):
        ours, theirs = (finished_run / "results" / run / "embeddings" / f"{shard}.npy" for run in ("other", "tiny"))
        assert ours.read_bytes() == theirs.read_bytes()
    assert "Nothing to be done" in snakemake(finished_run, "-n", config=other).stdout


def test_an_encoder_of_another_network_is_not_taken(finished_run, snakemake):
    other = TINY | {"run": "narrow", "reuse": {"encoder": "results/tiny/encoder/encoder.pt"}}
    other = changed(other, encoder={"width": 16})
    done = snakemake(finished_run, "--until", "reuse_encoder", config=other, check=False)
    assert done.returncode != 0
    log = (finished_run / "results" / "narrow" / "logs" / "reuse_encoder.log").read_text()
    assert "encoder.pt: was trained with encoder.width 8, but the configuration says 16" in log


def test_a_change_of_compute_runs_nothing_again(finished_run, snakemake):
    config = TINY | {"compute": {"device": "cpu", "embed_batch_size": 7, "dask": {"workers": 1}}}
    assert "Nothing to be done" in snakemake(finished_run, "-n", config=config).stdout


def test_a_finished_run_has_nothing_to_do(finished_run, snakemake):
    assert "Nothing to be done" in snakemake(finished_run, "-n", config=TINY).stdout


def test_the_run_leaves_what_the_readme_promises(finished_run):
    results = finished_run / "results" / "tiny"
    for path in (
        "catalog.parquet",
        "images.zarr/zarr.json",
        "encoder/encoder.pt",
        "encoder/history.csv",
        "encoder/history.png",
        "encoder/views.png",
        "whitening.npz",
        "embeddings/00002.npy",
        "index/report.json",
        "search/several/neighbours.csv",
        "search/several/neighbours.fits",
        "search/several/mosaic.png",
        "search/most/mosaic.png",
        "evaluation/metrics.csv",
        "evaluation/roc.png",
        "evaluation/breakdown.png",
        "evaluation/examples.png",
        "evaluation/completeness.png",
        "evaluation/completeness.json",
        "evaluation/completeness_injections.csv",
    ):
        assert (results / path).exists(), path
    for pattern in ("chunks/00002-*.parquet", "cutouts/00000-*.tar", "cutouts/00002-*.ledger.parquet"):
        assert len(list(results.glob(pattern))) == 1, pattern
    neighbours = pd.read_csv(results / "search" / "several" / "neighbours.csv", comment="#")
    assert len(neighbours) == 8
    assert not set(neighbours.object_id) & {2, 3, 4}


def test_a_run_keeps_its_settings(finished_run, snakemake):
    saved = finished_run / "results" / "tiny" / "config.yaml"
    made_with = saved.read_text()
    assert load_settings(read_config_file(saved)) == load_settings(TINY)
    snakemake(finished_run, "-n", config=changed(TINY, search={"k": 3}))
    assert saved.read_text() == made_with


def test_the_workflow_passes_snakemakes_lint(root, snakemake, tmp_path):
    done = snakemake(tmp_path, "--lint", config=TINY, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rule_graph_names_every_stage(finished_run, snakemake):
    graph = snakemake(finished_run, "--rulegraph", "--forceall", config=TINY).stdout
    for rule in ("catalog", "fetch", "convert", "train", "whiten", "embed", "index", "search", "evaluate"):
        assert f'"{rule}"' in graph or f'"{rule}\\' in graph or f"= {rule}" in graph, rule


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"trainin": {}}, "unknown key `trainin`"),
        ({"training": {"epochs": 0}}, "training.epochs is 0"),
        ({"images": {"size": "big"}}, "images.size is 'big'"),
        ({"catalog": {"source": "file"}}, "needs `path`"),
    ],
)
def test_a_bad_configuration_ends_in_one_sentence_before_any_job(tmp_path, snakemake, config, sentence):
    done = snakemake(tmp_path, config=config, check=False)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


def test_a_key_that_is_given_twice_is_refused_before_any_job(tmp_path, snakemake):
    (tmp_path / "my_run.yaml").write_text("training: {epochs: 1}\nseed: 1\ntraining: {batch_size: 8}\n")
    done = snakemake(tmp_path, "--configfile", "my_run.yaml", check=False)
    assert done.returncode != 0
    assert "my_run.yaml, line 3: key `training` is given on line 1 already" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("run: a\n# Sérsic".encode("latin-1"), "config/config.yaml, line 2: the byte 0xe9 is not UTF-8"),
        (b"run: a\nseed: !!float a", "config/config.yaml, line 2: seed is a, which YAML reads as another number"),
        (b"", "config/config.yaml, the file holds no key"),
    ],
)
def test_a_default_configuration_that_cannot_be_read_ends_in_one_sentence(tmp_path, snakemake, content, sentence):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_bytes(content)
    done = snakemake(tmp_path, check=False)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def folder_config(folder: Path) -> dict:
    """Change TINY to read the FITS files of ``folder`` by its catalog.csv."""
    config = copy.deepcopy(TINY)
    config["catalog"] = {"source": "file", "path": str(folder / "catalog.csv"), "chunk_size": 24}
    config["cutouts"] = {"source": "folder", "folder": {"path": str(folder), "template": "{object_id}-{band}.fits"}}
    config["search"] = {"queries": {}}
    config["evaluation"] = {"enabled": False}
    return config


@pytest.fixture
def own_files(finished_run, tmp_path) -> Path:
    """A user's folder: 48 galaxies' FITS files and a catalog of them."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for tar in (finished_run / "results" / "tiny" / "cutouts").glob("*.tar"):
        shutil.unpack_archive(tar, folder)
    pd.read_parquet(finished_run / "results" / "tiny" / "catalog.parquet").head(48).to_csv(
        folder / "catalog.csv", index=False
    )
    return folder


def fetched(folder: Path) -> dict[str, int]:
    """Time of the last change of each chunk's tar."""
    return {
        tar.stem.partition("-")[0]: tar.stat().st_mtime_ns
        for tar in sorted((folder / "results/tiny/cutouts").glob("*.tar"))
    }


def test_a_grown_catalog_fetches_only_the_new_chunks_and_a_touched_one_nothing(
    finished_run, own_files, tmp_path, snakemake
):
    config = folder_config(own_files)
    snakemake(tmp_path, "--until", "fetch", config=config)
    before = fetched(tmp_path)
    assert list(before) == ["00000", "00001"]

    time.sleep(1)
    (own_files / "catalog.csv").touch()
    assert planned(snakemake(tmp_path, "-n", "--until", "fetch", config=config).stdout) == set()

    whole = pd.read_parquet(finished_run / "results" / "tiny" / "catalog.parquet")
    whole.to_csv(own_files / "catalog.csv", index=False)
    snakemake(tmp_path, "--until", "fetch", config=config)
    after = fetched(tmp_path)
    assert list(after) == ["00000", "00001", "00002"]
    assert {chunk: after[chunk] for chunk in before} == before


def test_the_report_shows_mosaics_training_and_evaluation(finished_run, snakemake, tmp_path):
    snakemake(finished_run, "--report", str(tmp_path / "report.html"), config=TINY)
    page = (tmp_path / "report.html").read_text()
    for name in ("mosaic.png", "history.png", "views.png", "roc.png", "metrics.csv"):
        assert name in page, name
