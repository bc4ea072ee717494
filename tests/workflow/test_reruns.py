"""One run after a change remakes what changed, with the bytes of a fresh run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from surveys.tiny import TINY, changed, planned

pytestmark = pytest.mark.slow

SMALL = changed(
    TINY,
    catalog={"chunk_size": 8},
    cutouts={"bands": ["g", "i"], "simulated": {"galaxies": 24, "tidal_fraction": 0.5}},
    images={"size": 24, "shard_size": 8, "chunk_size": 4},
    augment={"crop": 24, "jitter_pixels": 0},
    encoder={"width": 8},
    training={"epochs": 1, "batch_size": 8},
    embedding={"dimensions": 4, "symmetries": 1, "whitening_sample": 24},
    evaluation={"enabled": False},
    search={"queries": {"one": {"like": [1]}}},
)
UP_TO_IMAGES = ("--until", "convert")
PRODUCTS = ("objects.parquet", "images.json", "images.problems.csv", "images.zarr")


def products(folder: Path) -> dict[str, bytes]:
    """Read the bytes of a run's catalog, images and chunks."""
    results = folder / "results" / "tiny"
    files = [path for name in PRODUCTS for path in [results / name, *(results / name).rglob("*")] if path.is_file()]
    for chunk in (results / "chunks").glob("*.parquet"):
        files += [chunk, *(results / "cutouts").glob(f"{chunk.stem}.*")]
    return {str(path.relative_to(results)): path.read_bytes() for path in files}


def jobs(done: subprocess.CompletedProcess) -> set[str]:
    return planned(done.stdout + done.stderr)


def assert_like_a_fresh_run(folder: Path, fresh: Path, config: dict, snakemake) -> None:
    """Check that the run has nothing to do and equals a fresh one."""
    assert jobs(snakemake(folder, "-n", *UP_TO_IMAGES, config=config)) == set()
    fresh.mkdir()
    snakemake(fresh, *UP_TO_IMAGES, config=config)
    assert products(folder) == products(fresh)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, snakemake) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    snakemake(folder, *UP_TO_IMAGES, config=SMALL)
    return folder


@pytest.fixture
def run(drawn, tmp_path) -> Path:
    """A copy of a run up to its images, with the times of the copying."""
    shutil.copytree(drawn, tmp_path / "run", copy_function=shutil.copy)
    return tmp_path / "run"


def test_a_copy_has_nothing_to_do(run, snakemake):
    assert jobs(snakemake(run, "-n", *UP_TO_IMAGES, config=SMALL)) == set()


def test_a_copy_by_rsync_has_nothing_to_do(drawn, tmp_path, snakemake):
    if not shutil.which("rsync"):
        pytest.skip("no rsync on this machine")
    subprocess.run(["rsync", "-a", f"{drawn}/", str(tmp_path / "copy")], check=True)
    assert jobs(snakemake(tmp_path / "copy", "-n", *UP_TO_IMAGES, config=SMALL)) == set()


def test_results_moved_into_a_fresh_clone_with_other_docs_and_comments_have_nothing_to_do(drawn, root, tmp_path):
    clone = tmp_path / "clone"
    for name in ("workflow", "profiles", "config"):
        shutil.copytree(root / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "Snakefile", clone)
    for name in ("results", ".snakemake", "config.json"):
        copy = shutil.copytree if (drawn / name).is_dir() else shutil.copy
        copy(drawn / name, clone / name)
    for path in [clone / "Snakefile", *clone.rglob("*.smk"), *clone.rglob("*.py")]:
        path.write_text(path.read_text() + "# A comment of a later commit.\n")
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--configfile", "config.json", *UP_TO_IMAGES]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert jobs(done) == set()


@pytest.mark.parametrize(
    "change",
    [{"cutouts": {"simulated": {"galaxies": 24, "tidal_fraction": 0.9}}}, {"seed": 2}],
    ids=["tidal_fraction", "seed"],
)
def test_another_simulated_survey_is_drawn_in_the_first_run(run, tmp_path, snakemake, change):
    config = SMALL | {key: SMALL[key] | value if isinstance(value, dict) else value for key, value in change.items()}
    assert jobs(snakemake(run, *UP_TO_IMAGES, config=config)) == {"chunks", "fetch", "convert"}
    assert_like_a_fresh_run(run, tmp_path / "fresh", config, snakemake)


def test_bands_that_come_back_are_not_fetched_again(run, snakemake):
    fewer = changed(SMALL, cutouts={"bands": ["i"]})
    assert "fetch" in jobs(snakemake(run, *UP_TO_IMAGES, config=fewer))
    assert jobs(snakemake(run, *UP_TO_IMAGES, config=SMALL)) == {"chunks", "convert"}


@pytest.fixture
def own(drawn, tmp_path, snakemake) -> tuple[Path, dict]:
    """A finished run on a user's own FITS files and `catalog.csv`, and its configuration."""
    folder = tmp_path / "own"
    folder.mkdir()
    results = drawn / "results" / "tiny"
    for tar in (results / "cutouts").glob("*.tar"):
        shutil.unpack_archive(tar, folder / "files")
    catalog = pd.read_parquet(results / "objects.parquet")[["object_id", "ra", "dec"]]
    catalog.assign(label="none").head(20).to_csv(folder / "catalog.csv", index=False)
    files = {"path": str(folder / "files"), "template": "{object_id}-{band}.fits"}
    config = SMALL | {
        "catalog": {"source": "file", "path": "catalog.csv", "chunk_size": 8},
        "cutouts": {"source": "folder", "bands": ["g", "i"], "folder": files},
    }
    snakemake(folder, "--until", "convert", "catalog", config=config)
    return folder, config


def grown(rows: pd.DataFrame) -> pd.DataFrame:
    more = rows.tail(4).assign(object_id=[21, 22, 23, 24])
    return pd.concat([rows, more])


def moved(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(dec=rows["dec"] + (rows["object_id"] == 10) * 1e-4)


CHANGES = {
    "a row is removed": (lambda rows: rows.drop(index=19), {"catalog", "chunks", "fetch", "convert"}),
    "rows fill the last chunk": (grown, {"catalog", "chunks", "fetch", "convert"}),
    "a galaxy is moved": (moved, {"catalog", "chunks", "fetch", "convert"}),
    "rows are reordered": (lambda rows: rows.iloc[::-1], {"catalog", "chunks", "fetch", "convert"}),
    "a label is changed": (lambda rows: rows.assign(label="shell"), {"catalog"}),
    "a column is added": (lambda rows: rows.assign(redshift=0.1), {"catalog"}),
    "the same rows are written again": (lambda rows: rows, set()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_catalog_runs_what_it_changes_in_the_first_run(own, tmp_path, snakemake, change):
    folder, config = own
    alter, expected = CHANGES[change]
    alter(pd.read_csv(folder / "catalog.csv")).to_csv(folder / "catalog.csv", index=False)
    assert jobs(snakemake(folder, "--until", "convert", "catalog", config=config)) == expected
    shutil.copy(folder / "catalog.csv", tmp_path)
    absolute = config | {"catalog": config["catalog"] | {"path": str(tmp_path / "catalog.csv")}}
    assert_like_a_fresh_run(folder, tmp_path / "fresh", absolute, snakemake)


def test_a_query_for_an_unknown_galaxy_is_refused_before_any_job(tmp_path, snakemake):
    config = SMALL | {"search": {"queries": {"one": {"like": [999]}}}}
    done = snakemake(tmp_path, config=config, check=False)
    assert done.returncode != 0
    assert "search.queries.one.like: object 999 is not in the catalog" in done.stdout + done.stderr
    assert not (tmp_path / "results").exists()


def test_after_a_kill_the_documented_commands_go_on(run, root, snakemake):
    config = SMALL | {"seed": 3}
    (run / "config.json").write_text("")
    snakemake(run, "-n", *UP_TO_IMAGES, config=config)  # writes config.json
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--cores", "1"]
    command += ["--configfile", "config.json", *UP_TO_IMAGES]
    with subprocess.Popen(command, cwd=run, start_new_session=True, stdout=-3, stderr=-3) as killed:
        while not list((run / ".snakemake" / "incomplete").glob("*")):
            assert killed.poll() is None
            time.sleep(0.05)
        os.killpg(killed.pid, signal.SIGKILL)
    assert snakemake(run, "--unlock", config=config).returncode == 0
    snakemake(run, *UP_TO_IMAGES, config=config)
    assert jobs(snakemake(run, "-n", *UP_TO_IMAGES, config=config)) == set()
