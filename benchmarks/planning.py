"""Time `snakemake -n` on a finished run of 1,000 and more chunks.

    python benchmarks/planning.py 1000
    python benchmarks/planning.py 10000 --no-records

The run is made up. It has a real catalog with its chunks, and all other outputs are empty. `snakemake --touch` then
leaves the same records of code, parameters and inputs as a real run, so that the plan must find nothing to do.
Snakemake touches ten jobs a second. Without records, all files get the same time instead, and the plan compares no
records.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
import yaml
from rich.console import Console
from rich.table import Table

from tidalkin.catalog.plan import plan_chunks
from tidalkin.catalog.read import write_catalog
from tidalkin.config import load_settings
from tidalkin.sources.catalog import digest_table, write_chunks, write_run_catalog

ROOT = Path(__file__).resolve().parents[1]


def snakemake(folder: Path, *arguments: str) -> str:
    """Run Snakemake on the run in ``folder``; return its output."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--configfile", str(folder / "config.yaml"), "--cores", "1", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"snakemake {' '.join(arguments)} failed:\n{done.stdout[-3000:]}")
    return done.stdout


def finished_run(folder: Path, chunks: int, chunk_size: int, records: bool) -> None:
    """Make up a run with all outputs, with or without Snakemake's records of them."""
    galaxies = chunks * chunk_size
    random = np.random.default_rng(1)
    table = folder / "galaxies.parquet"
    write_catalog(
        pd.DataFrame(
            {
                "object_id": np.arange(galaxies) + 10**15,
                "ra": random.uniform(0, 360, galaxies),
                "dec": random.uniform(-5, 5, galaxies),
            }
        ),
        table,
    )
    (folder / "archive").mkdir()
    settings = {
        "run": "big",
        "catalog": {"source": "file", "path": str(table), "chunk_size": chunk_size},
        "cutouts": {"source": "folder", "folder": {"path": str(folder / "archive")}},
        "images": {"shard_size": chunk_size, "chunk_size": 1},
        "search": {"queries": {"first": {"like": [10**15]}}},
        "training": {"batch_size": 2},
        "evaluation": {"enabled": False},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    results = folder / "results" / "big"
    checked = load_settings(settings)
    plan = plan_chunks(checked, digest_table(checked, table))
    write_run_catalog(checked, table, results / "catalog.parquet")
    write_chunks(checked, table, plan.digest, results / "chunks", results / "objects.parquet")
    rows = [line.split("\t") for line in snakemake(folder, "--summary").splitlines() if line.startswith("results/")]
    for name in (row[0] for row in rows):
        output = folder / name
        if output.exists():
            continue
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.suffix in (".zarr", "") or output.name == "tensorboard":
            output.mkdir()
        else:
            output.touch()
    if records:
        snakemake(folder, "--touch", "--forceall", "--quiet")
    else:
        now = time.time()
        for path in folder.rglob("*"):
            os.utime(path, (now, now))


def _children_cpu_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system


def main(
    chunks: Annotated[list[int] | None, typer.Argument(help="Numbers of chunks.")] = None,
    chunk_size: Annotated[int, typer.Option(min=1, help="Galaxies per chunk and per shard.")] = 500,
    records: Annotated[bool, typer.Option(help="Whether Snakemake has records of how each file was made.")] = True,
) -> None:
    """Measure and print the table."""
    found = Table(title=f"snakemake -n on a finished run, {chunk_size} galaxies per chunk and per shard")
    for column in ("chunks", "galaxies", "jobs", "seconds", "CPU seconds", "peak memory, GB"):
        found.add_column(column, justify="right")
    for number in chunks or [1000]:
        folder = Path(tempfile.mkdtemp())
        try:
            finished_run(folder, number, chunk_size, records)
            began, cpu_began = time.perf_counter(), _children_cpu_seconds()
            printed = snakemake(folder, "-n")
            seconds, cpu_seconds = time.perf_counter() - began, _children_cpu_seconds() - cpu_began
        finally:
            shutil.rmtree(folder)
        if "Nothing to be done" not in printed:
            raise SystemExit(f"the run was not finished:\n{printed[-2000:]}")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
        jobs = 2 * number  # one to fetch each chunk and one to embed each shard; the other dozen is not counted
        found.add_row(
            f"{number:,}",
            f"{number * chunk_size:,}",
            f"{jobs:,}",
            f"{seconds:.1f}",
            f"{cpu_seconds:.1f}",
            f"{peak:.2f}",
        )
    Console().print(found)


if __name__ == "__main__":
    typer.run(main)
