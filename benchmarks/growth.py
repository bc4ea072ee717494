"""Cost of appended galaxies, stage by stage, in a run that keeps its encoder.

    python benchmarks/growth.py 10000 100
    python benchmarks/growth.py 100000 1000 --per-file 5000

The survey is a folder of small FITS files with noise and a blob. The run is made as docs/how-to/growing-survey.md says:
it trains, keeps its encoder and its whitening, and then the new rows are appended. Seconds are those of the jobs
themselves, as Snakemake measures them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from tidalkin.cutouts.write import write_cutout

ROOT = Path(__file__).resolve().parents[1]
SIDE = 16
STAGES = ("catalog", "fetch", "convert", "train", "whiten", "embed", "index", "rank")  # those that Snakemake times


def write_survey(folder: Path, galaxies: int) -> pd.DataFrame:
    """Write one FITS file for each galaxy, in one band, and return the catalog."""
    random = np.random.default_rng(1)
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    ra, dec = random.uniform(0, 360, galaxies), random.uniform(-5, 5, galaxies)
    catalog = pd.DataFrame({"object_id": np.arange(galaxies) + 1, "ra": ra, "dec": dec})
    (folder / "files").mkdir()
    for object_id, ra, dec in catalog.itertuples(index=False):
        width, height = random.uniform(1, 3, 2)
        image = 20 * np.exp(-((x / width) ** 2) - (y / height) ** 2) + random.standard_normal((SIDE, SIDE))
        content = write_cutout(
            image.astype(np.float32), None, None, band="i", ra=ra, dec=dec, fluxmag0=10**10.8, mask_planes={}
        )
        (folder / "files" / f"{object_id}-i.fits").write_bytes(content)
    return catalog


def configuration(folder: Path, per_file: int) -> dict:
    """Return the configuration: the least network, one epoch, one query."""
    return {
        "run": "growing",
        "catalog": {"source": "file", "path": str(folder / "catalog.csv"), "chunk_size": per_file},
        "cutouts": {
            "source": "folder",
            "bands": ["i"],
            "folder": {"path": str(folder / "files"), "template": "{object_id}-{band}.fits"},
        },
        "images": {"size": SIDE, "shard_size": per_file, "chunk_size": min(50, per_file)},
        "stretch": {"bin": 1},
        "augment": {"crop": SIDE, "jitter_pixels": 0},
        "encoder": {"width": 8, "stem": "small", "projector_size": 32, "predictor_size": 8},
        "training": {"epochs": 1, "collapse_below": 0.0},
        "embedding": {"dimensions": 8, "symmetries": 1, "whitening_sample": 1000},
        "search": {"queries": {"one": {"like": [1]}}},
        "evaluation": {"enabled": False},
    }


def run_workflow(folder: Path, config: dict, threads: int | None) -> dict[str, tuple[int, float]]:
    """Run Snakemake; return the jobs of each stage and their seconds."""
    measured = folder / "results" / "growing" / "benchmarks"
    shutil.rmtree(measured, ignore_errors=True)
    (folder / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--workflow-profile", str(ROOT / "profiles" / "default"), "--cores", "all"]
    command += ["--max-threads", str(threads)] if threads else []
    done = subprocess.run([*command, "--configfile", str(folder / "config.json")], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"snakemake failed:\n{(done.stdout + done.stderr)[-3000:]}")
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", (done.stdout + done.stderr).split("Job stats:")[-1], re.MULTILINE))
    stages = {}
    for stage in STAGES:
        files = [measured / f"{stage}.tsv", *(measured / stage).glob("*.tsv")]
        seconds = sum(pd.read_csv(file, sep="\t")["s"].sum() for file in files if file.exists())
        stages[stage] = (int(jobs.get(stage, 0)), float(seconds))
    return stages


def main(
    galaxies: Annotated[int, typer.Argument(min=20, help="Galaxies of the survey.")] = 10_000,
    appended: Annotated[int, typer.Argument(min=1, help="Galaxies that are appended.")] = 100,
    per_file: Annotated[int, typer.Option(min=10, help="Galaxies per chunk and per shard.")] = 500,
    threads: Annotated[int | None, typer.Option(min=1, help="Most threads of a job.")] = None,
) -> None:
    """Measure and print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        catalog = write_survey(folder, galaxies + appended)
        config = configuration(folder, per_file)
        config["training"]["batch_size"] = min(64, galaxies // 2)
        catalog.head(galaxies).to_csv(folder / "catalog.csv", index=False)
        first = run_workflow(folder, config, threads)
        (folder / "encoders").mkdir()
        results = folder / "results" / "growing"
        for file in (results / "encoder" / "encoder.pt", results / "whitening.npz"):
            shutil.copy(file, folder / "encoders")
        config["reuse"] = {"encoder": "encoders/encoder.pt", "whitening": "encoders/whitening.npz"}
        run_workflow(folder, config, threads)
        catalog.to_csv(folder / "catalog.csv", index=False)
        grown = run_workflow(folder, config, threads)
    table = Table(title=f"{galaxies:,} galaxies, then {appended:,} more; {per_file:,} per chunk and shard")
    for column in ("stage", "jobs, first run", "seconds", "jobs, grown", "seconds"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in STAGES:
        cells = [cell for jobs, seconds in (first[stage], grown[stage]) for cell in (f"{jobs}", f"{seconds:.1f}")]
        table.add_row(stage, *cells)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
