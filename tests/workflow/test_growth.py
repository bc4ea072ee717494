"""A survey that grows and keeps its encoder makes only what is new."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from surveys.tiny import TINY, changed, planned, planned_jobs

pytestmark = pytest.mark.slow

SMALL = changed(
    TINY,
    cutouts={"bands": ["g", "i"], "simulated": {"galaxies": 40, "tidal_fraction": 0.5}},
    images={"size": 24, "shard_size": 8, "chunk_size": 4},
    augment={"crop": 24, "jitter_pixels": 0},
    training={"epochs": 1, "batch_size": 8},
    embedding={"dimensions": 4, "symmetries": 1, "whitening_sample": 24},
    evaluation={"enabled": False},
    search={"queries": {"one": {"like": [1]}}},
)
REUSE = {"reuse": {"encoder": "encoders/mine/encoder.pt", "whitening": "encoders/mine/whitening.npz"}}
PRODUCTS = ("catalog.parquet", "objects.parquet", "images.json", "images.zarr", "embeddings", "index", "search")


def counts(done: subprocess.CompletedProcess) -> dict[str, int]:
    """Return the number of jobs of each rule that Snakemake planned."""
    return planned_jobs(done.stdout + done.stderr)


def products(folder: Path) -> dict[str, bytes]:
    results = folder / "results" / "tiny"
    files = [path for name in PRODUCTS for path in [results / name, *(results / name).rglob("*")] if path.is_file()]
    files += [results / "ranking.parquet"]
    return {str(path.relative_to(results)): path.read_bytes() for path in files}


def vector_files(folder: Path, shards: range) -> list[Path]:
    embeddings = folder / "results" / "tiny" / "embeddings"
    return [path for shard in shards for path in sorted(embeddings.glob(f"{shard:05d}.*"))]


@pytest.fixture(scope="module")
def frozen(tmp_path_factory, snakemake) -> tuple[Path, dict, pd.DataFrame]:
    """Return a run of 20 galaxies that keeps its encoder.

    It is made as the documentation says, from FITS files of a user's own. Also return its configuration, and the rows
    of these galaxies and 20 more.
    """
    folder = tmp_path_factory.mktemp("growth")
    (folder / "files").mkdir()
    snakemake(folder, "--until", "fetch", config=SMALL | {"run": "drawn"})
    drawn = folder / "results" / "drawn"
    for tar in (drawn / "cutouts").glob("*.tar"):
        shutil.unpack_archive(tar, folder / "files")
    rows = pd.concat(pd.read_parquet(chunk) for chunk in sorted((drawn / "chunks").glob("*.parquet")))
    rows = rows[["object_id", "ra", "dec"]]
    shutil.rmtree(folder / "results")
    rows.head(20).to_csv(folder / "catalog.csv", index=False)
    config = SMALL | {
        "catalog": {"source": "file", "path": "catalog.csv", "chunk_size": 8},
        "cutouts": {
            "source": "folder",
            "bands": ["g", "i"],
            "folder": {"path": str(folder / "files"), "template": "{object_id}-{band}.fits"},
        },
    }
    snakemake(folder, config=config)
    # The steps of docs/how-to/growing-survey.md.
    results = folder / "results" / "tiny"
    mine = folder / "encoders" / "mine"
    mine.mkdir(parents=True)
    for file in (results / "encoder" / "encoder.pt", results / "whitening.npz"):
        shutil.copy(file, mine)
    vectors = [path.read_bytes() for path in vector_files(folder, range(3))]
    config |= REUSE
    done = snakemake(folder, config=config)
    assert not {"train", "whiten", "convert", "fetch"} & planned(done.stdout + done.stderr)
    assert [path.read_bytes() for path in vector_files(folder, range(3))] == vectors
    return folder, config, rows


@pytest.fixture
def run(frozen, tmp_path) -> tuple[Path, dict, pd.DataFrame]:
    """A copy of the run, with the times as they were."""
    folder, config, rows = frozen
    shutil.copytree(folder, tmp_path / "run")
    return tmp_path / "run", config, rows


def assert_like_a_fresh_run(folder: Path, fresh: Path, config: dict, snakemake) -> None:
    assert planned(snakemake(folder, "-n", config=config).stdout) == set()
    fresh.mkdir()
    shutil.copy(folder / "catalog.csv", fresh)
    shutil.copytree(folder / "encoders", fresh / "encoders")
    snakemake(fresh, config=config)
    assert products(folder) == products(fresh)


def test_appended_galaxies_cost_what_they_are_and_leave_the_others_as_they_were(run, tmp_path, snakemake):
    folder, config, rows = run
    kept = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in vector_files(folder, range(2))}
    rows.head(32).to_csv(folder / "catalog.csv", index=False)
    done = snakemake(folder, config=config)
    # Chunks of 8 of 20, then 32 galaxies: one is filled up, one is new. So are the shards.
    expected = {"catalog": 1, "chunks": 1, "fetch": 2, "convert": 1, "embed": 2}
    expected |= {"index": 1, "rank": 1, "map": 1, "search": 1, "completeness": 1}
    assert counts(done) == expected
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in kept} == kept
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copy)
    assert planned(snakemake(tmp_path / "copy", "-n", config=config).stdout) == set()
    assert_like_a_fresh_run(folder, tmp_path / "fresh", config, snakemake)


def test_galaxies_that_are_taken_back_leave_the_run_that_was(run, tmp_path, snakemake):
    folder, config, rows = run
    before = products(folder)
    rows.head(32).to_csv(folder / "catalog.csv", index=False)
    snakemake(folder, config=config)
    rows.head(20).to_csv(folder / "catalog.csv", index=False)
    done = snakemake(folder, config=config)
    assert counts(done)["embed"] == 1
    assert "fetch" not in counts(done)
    after = products(folder)
    assert {name: after[name] for name in before} == before


def test_a_shard_whose_cutouts_were_asked_for_again_is_embedded_again(run, snakemake):
    folder, config, _ = run
    cutouts = folder / "results" / "tiny" / "cutouts"
    tar = next(cutouts.glob("00001-*.tar"))
    for path in cutouts.glob("00001-*"):
        path.unlink()
    # What was received is not needed once it is converted; `tidalkin retry-failed` asks for the file itself.
    assert counts(snakemake(folder, "-n", config=config)) == {}
    # A kill between the download and the conversion leaves a ledger that the vectors do not know.
    snakemake(folder, str(tar.relative_to(folder)), config=config)
    ledger = next(cutouts.glob("00001-*.ledger.parquet"))
    rows = pd.read_parquet(ledger)
    rows.assign(bytes=rows["bytes"] + 1).to_parquet(ledger)
    assert counts(snakemake(folder, "-n", config=config))["embed"] == 1


def test_other_settings_of_the_vectors_embed_all_galaxies_again(run, snakemake):
    folder, config, rows = run
    rows.head(32).to_csv(folder / "catalog.csv", index=False)
    other = config | {"embedding": config["embedding"] | {"dtype": "float16"}}
    assert counts(snakemake(folder, "-n", config=other))["embed"] == 4


AFTER_EMBED = {"index", "rank", "map", "search", "completeness"}


def test_galaxies_in_another_order_moved_and_relabelled_leave_what_a_fresh_run_makes(run, tmp_path, snakemake):
    folder, config, rows = run
    rows = rows.head(20).iloc[::-1]
    moved = rows.assign(dec=rows["dec"] + (rows["object_id"] == rows["object_id"].iloc[10]) * 1e-4)
    labelled = moved.assign(label=["shell", "none"] * 10)
    changes = [
        # Three chunks of 8 of 20 galaxies in another order, then one with the galaxy that moved.
        (rows, {"fetch": 3, "embed": 3}),
        (moved, {"fetch": 1, "embed": 1}),
        (labelled, {}),
        (labelled.assign(redshift=0.1), {}),
    ]
    for number, (catalog, expected) in enumerate(changes):
        catalog.to_csv(folder / "catalog.csv", index=False)
        done = counts(snakemake(folder, config=config))
        assert {rule: done[rule] for rule in ("fetch", "embed") if rule in done} == expected, number
        assert not {"train", "whiten", "reuse_encoder", "reuse_whitening"} & done.keys(), number
        assert done.keys() >= AFTER_EMBED or not expected, number
        assert planned(snakemake(folder, "-n", config=config).stdout) == set(), number
    assert_like_a_fresh_run(folder, tmp_path / "fresh", config, snakemake)


def test_a_moved_galaxy_trains_an_encoder_that_is_not_frozen_as_a_fresh_run_does(run, tmp_path, snakemake):
    folder, config, rows = run
    trained = {key: value for key, value in config.items() if key != "reuse"}
    rows = rows.head(20)
    rows.assign(dec=rows["dec"] + (rows.index == rows.index[10]) * 1e-4).to_csv(folder / "catalog.csv", index=False)
    done = counts(snakemake(folder, config=trained))
    assert {"fetch": 1, "train": 1, "whiten": 1, "embed": 3}.items() <= done.items()
    assert_like_a_fresh_run(folder, tmp_path / "fresh", trained, snakemake)
    encoders = [path / "results" / "tiny" / "encoder" / "encoder.pt" for path in (folder, tmp_path / "fresh")]
    assert encoders[0].read_bytes() == encoders[1].read_bytes()
