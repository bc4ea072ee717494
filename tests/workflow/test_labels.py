"""The recipe for GALAXY CRUISE, with labels from numbers, on an invented catalog."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from surveys.cruise import write_cruise_catalog
from surveys.tiny import TINY, planned

ROOT = Path(__file__).resolve().parents[2]
N = 40


@pytest.fixture(scope="module")
def recipe() -> dict:
    return yaml.safe_load((ROOT / "config" / "galaxy_cruise.yaml").read_text())


def test_the_recipe_plans_on_a_catalog_in_its_layout(recipe, snakemake, tmp_path):
    write_cruise_catalog(tmp_path / recipe["catalog"]["path"], N)
    rules = planned(snakemake(tmp_path, "-n", config=recipe).stdout)
    assert {"fetch", "train", "rank", "evaluate", "completeness"} <= rules


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ({"tail": "tail >> 0.5"}, "catalog.label_from: tail: the condition `tail >> 0.5` has something else"),
        ({"bridge": "bridge > 0.5"}, "has no column 'bridge'; it has: object_id, ra, dec, specz"),
        ({"tail": "tail > 50"}, "catalog.label_from: tail: `tail > 50` matches no galaxy of catalog"),
    ],
)
def test_a_wrong_label_stops_before_any_job(recipe, snakemake, tmp_path, labels, sentence):
    write_cruise_catalog(tmp_path / recipe["catalog"]["path"], N)
    config = copy.deepcopy(recipe)
    config["catalog"]["label_from"] = labels
    done = snakemake(tmp_path, config=config, check=False)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory, snakemake) -> tuple[Path, dict]:
    """The recipe on simulated images in place of the network, with a tiny network."""
    folder = tmp_path_factory.mktemp("cruise")
    second_maker = [sys.executable, ROOT / "benchmarks" / "second_maker.py", folder / "cutouts", "--size", "48"]
    subprocess.run([*second_maker, "--galaxies", str(N), "--prevalence", "0.5"], check=True, capture_output=True)
    drawn = pd.read_csv(folder / "cutouts" / "catalog.csv").sort_values("object_id")
    places = list(zip(drawn["ra"], drawn["dec"], strict=True))
    write_cruise_catalog(folder / recipe["catalog"]["path"], N, places)
    config = copy.deepcopy(recipe) | {key: TINY[key] for key in ("encoder", "training", "evaluation")}
    config["cutouts"] = {"source": "folder", "folder": {"path": "cutouts", "template": "{object_id}-HSC-{BAND}.fits"}}
    config["images"] = {"size": 48, "shard_size": 32, "chunk_size": 16}
    config["stretch"], config["augment"] = {"bin": 2}, {"crop": 48, "jitter_pixels": 0}
    config["embedding"] = {"dimensions": 8, "symmetries": 1}
    config["completeness"] = {"galaxies": 20}
    snakemake(folder, config=config)
    return folder, config


@pytest.mark.slow
def test_the_recipe_runs_to_the_end_with_its_labels(finished):
    folder, _ = finished
    results = folder / "results" / "galaxy_cruise"
    labels = pd.read_parquet(results / "catalog.parquet")["label"]
    assert labels.value_counts().to_dict() == {"none": 18, "ring": 5, "fan": 5, "tail": 5, "distortion": 5}
    assert labels.isna().sum() == 2
    assert pd.read_csv(results / "evaluation" / "metrics.csv")["n_positive"].max() > 0
    assert (results / "evaluation" / "completeness.png").exists()


@pytest.mark.slow
def test_other_labels_make_again_only_what_depends_on_labels(finished, snakemake):
    folder, config = finished
    changed = copy.deepcopy(config)
    changed["catalog"]["label_from"] = {"debris": "interaction > 0.5", "none": "interaction < 0.2"}
    rules = planned(snakemake(folder, "-n", config=changed).stdout)
    baselines = {"baseline_random", "baseline_pca", "baseline_morphology"}
    assert rules == {"catalog", "rank", "evaluate"} | baselines
