"""Each key of the configuration runs again what the documentation says, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from surveys.reruns import CHANGES, change_of, changed_by, keys, page
from surveys.tiny import TINY, planned


def test_every_key_has_an_expectation_and_every_expectation_a_key():
    assert set(CHANGES) == {key for key in keys() if ".transport." not in key}
    for key in keys():
        change_of(key)


def test_the_page_of_the_documentation_is_current(root):
    assert (root / "docs" / "reference" / "reruns.md").read_text() == page()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, snakemake) -> Path:
    folder = tmp_path_factory.mktemp("table")
    snakemake(folder, config=TINY)
    results = folder / "results" / "tiny"
    shutil.copy(results / "encoder" / "encoder.pt", folder)
    shutil.copy(results / "whitening.npz", folder)
    pd.read_parquet(results / "catalog.parquet").to_csv(folder / "catalog.csv", index=False)
    (folder / "stamps").mkdir()
    (folder / "stamps" / "one.fits").write_bytes(b"read by no plan")
    return folder


@pytest.mark.slow
def test_a_change_of_any_key_plans_the_stages_of_the_table(finished, root):
    base = TINY | {"cutouts": TINY["cutouts"] | {"folder": {"path": str(finished)}}}
    names = list(keys())
    configurations = [base, *(changed_by(base, key) for key in names)]
    program = [sys.executable, str(root / "tests" / "programs" / "plan_changes.py"), str(finished)]
    done = subprocess.run(program, input=json.dumps(configurations), capture_output=True, text=True, check=True)
    unchanged, *plans = json.loads(done.stdout.splitlines()[-1])
    assert unchanged == []
    assert {key: set(plan) for key, plan in zip(names, plans, strict=True)} == {
        key: change_of(key).stages for key in names
    }


PRODUCTS = ("catalog.parquet", "objects.parquet", "images.json", "images.zarr", "encoder/encoder.pt", "whitening.npz")
PRODUCTS += ("embeddings", "index", "ranking.parquet", "search", "baselines", "evaluation")


def products(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all that a run has made, without pictures."""
    results = folder / "results" / "tiny"
    files = [path for name in PRODUCTS for path in [results / name, *(results / name).rglob("*")] if path.is_file()]
    return {str(path.relative_to(results)): path.read_bytes() for path in files if path.suffix != ".png"}


@pytest.mark.slow
def test_one_change_after_another_runs_its_stages_at_once_and_ends_like_a_fresh_run(finished, tmp_path, snakemake):
    folder, config = tmp_path / "run", TINY
    shutil.copytree(finished, folder, copy_function=shutil.copy)
    assert planned(snakemake(folder, "-n", config=config).stdout) == set(), "a copy of a run has something to do"
    for key in ("evaluation.repeats", "index.kind", "embedding.dimensions", "images.size"):
        config = changed_by(config, key)
        done = snakemake(folder, config=config)
        assert planned(done.stdout + done.stderr) == change_of(key).stages, key
        assert planned(snakemake(folder, "-n", config=config).stdout) == set(), key
    (tmp_path / "fresh").mkdir()
    snakemake(tmp_path / "fresh", config=config)
    assert products(folder) == products(tmp_path / "fresh")
