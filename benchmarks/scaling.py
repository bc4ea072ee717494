"""Measure how time and memory of each stage grow with the number of galaxies.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --smallest 512

Exponents are measured over three sizes, each 4 times the one before. Each stage runs at each size in a process of its
own, on tiny images. Chunks, shards, windows and samples keep their size, and the many jobs of a cluster run one after
the other. Index and search work on 400 times as many made-up vectors, so that all three sizes have the same kind of
index; that of 128 galaxies is exact.

Time is the processor time of all processes of a stage, which other users of a machine hardly change. The start of
Python and its imports are not counted, and no stage here waits for a network. A run of 128 galaxies measures the fixed
costs (Dask's workers, the network's first step). They are subtracted, because they would make the exponent look better
than it is. Memory is the peak of the largest process of a stage. On Linux, the pages of mapped files (programs,
vectors) are left out, because a machine with less memory would not keep them. The table also shows the memory that a
stage adds to the imports, which take most of it here. An exponent is the slope of a line through the logarithms.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from tidalkin import config
from tidalkin.catalog.partition import chunk_names, shard_names
from tidalkin.catalog.plan import plan_chunks, simulated_digests
from tidalkin.catalog.read import read_catalog, write_catalog
from tidalkin.constants import PIXEL_SCALE_ARCSEC

ROWS = 64  # per chunk of the catalog, per shard of the store, per window of training, in the whitening's sample
VECTORS = 400  # per galaxy: beyond index.EXACT_UP_TO at every size, so that the kind of index is the same
VECTOR_SHARD = 4096
DIMENSIONS, LATENT, NOISE = 32, 8, np.float32(0.5)

SETTINGS = config.load_settings(
    {
        "catalog": {"chunk_size": ROWS},
        "cutouts": {"size_arcsec": 32 * PIXEL_SCALE_ARCSEC},
        "images": {"size": 32, "shard_size": ROWS, "chunk_size": 16},
        "stretch": {"bin": 1, "asymmetry": False},
        "augment": {"crop": 24, "jitter_pixels": 4, "rotate": True, "discs": 3},
        "encoder": {"width": 8, "stem": "standard", "projector_size": 64, "predictor_size": 16},
        "training": {"epochs": 1, "batch_size": 32, "shuffle_window": ROWS, "collapse_below": 0},
        "embedding": {"dimensions": DIMENSIONS, "symmetries": 2, "whitening_sample": ROWS},
        "compute": {"device": "cpu", "images_in": "stream", "embed_batch_size": ROWS, "dask": {"workers": 1}},
    }
)


# --- stages: each imports its own modules, and returns the work ----------------------------------------------------


def simulate(folder: Path, galaxies: int) -> Callable[[], None]:
    """Write the catalog and its chunks, and draw and pack the cutouts of every chunk."""
    from tidalkin.sources.catalog import write_chunks, write_run_catalog
    from tidalkin.sources.fetch import fetch_chunk

    cutouts = SETTINGS.cutouts.model_copy(
        update={"simulated": SETTINGS.cutouts.simulated.model_copy(update={"galaxies": galaxies})}
    )

    def work() -> None:
        settings = SETTINGS.model_copy(update={"cutouts": cutouts})
        plan = plan_chunks(settings, simulated_digests(settings))
        write_run_catalog(settings, None, folder / "catalog.parquet")
        write_chunks(settings, None, plan.digest, folder / "chunks", folder / "objects.parquet")
        for name, chunk in zip(chunk_names(galaxies, ROWS), plan.chunks, strict=True):
            rows = read_catalog(folder / "chunks" / f"{chunk}.parquet")
            tar, ledger = (folder / "cutouts" / f"{name}{suffix}" for suffix in (".tar", ".ledger.parquet"))
            fetch_chunk(rows, cutouts, SETTINGS.seed, tar, ledger)

    return work


def convert(folder: Path, galaxies: int) -> Callable[[], None]:
    """Convert all cutouts to the store, with one worker of Dask."""
    from tidalkin.images.convert import convert

    names = chunk_names(galaxies, ROWS)

    def work() -> None:
        convert(
            catalog=folder / "catalog.parquet",
            tars=[folder / "cutouts" / f"{name}.tar" for name in names],
            ledgers=[folder / "cutouts" / f"{name}.ledger.parquet" for name in names],
            bands=SETTINGS.cutouts.bands,
            images=SETTINGS.images,
            dask=SETTINGS.compute.dask,
            threads=1,
            output=folder / "images.zarr",
            problems=folder / "images.problems.csv",
        )

    return work


def train(folder: Path, galaxies: int) -> Callable[[], None]:
    """Train one epoch on streamed images."""
    from tidalkin.model import train as training

    def work() -> None:
        training.train(
            folder / "images.zarr",
            folder / "encoder",
            stretch=SETTINGS.stretch,
            augment=SETTINGS.augment,
            encoder=SETTINGS.encoder,
            training=SETTINGS.training,
            injection=SETTINGS.injection,
            seed=SETTINGS.seed,
            compute=SETTINGS.compute,
        )

    return work


def embed(folder: Path, galaxies: int) -> Callable[[], None]:
    """Fit the whitening and embed every shard."""
    from tidalkin.embedding.features import embed_shard
    from tidalkin.embedding.sample import whiten

    store, encoder, whitening = folder / "images.zarr", folder / "encoder" / "encoder.pt", folder / "whitening.npz"
    settings, compute = SETTINGS.embedding, SETTINGS.compute

    def work() -> None:
        common = {"augment": SETTINGS.augment, "seed": SETTINGS.seed, "compute": compute}
        whiten(store, encoder, whitening, settings=settings, **common)
        for shard, name in enumerate(shard_names(galaxies, ROWS)):
            vectors, ids = (folder / "embeddings" / f"{name}{suffix}" for suffix in (".npy", ".ids.npy"))
            embed_shard(store, shard, encoder, whitening, vectors, ids, settings=settings, compute=compute)

    return work


def index(folder: Path, galaxies: int) -> Callable[[], None]:
    """Index made-up vectors, and measure the recall."""
    from tidalkin.index.build import build_index

    files = write_vectors(folder / "vectors", VECTORS * galaxies)
    return lambda: build_index(files, SETTINGS.index, folder / "index", SETTINGS.seed) and None


def search(folder: Path, galaxies: int) -> Callable[[], None]:
    """Run ten queries."""
    from tidalkin.embedding.whitening import fit_whitening
    from tidalkin.search.files import RunFiles
    from tidalkin.search.query import find_similar

    ids = np.arange(VECTORS * galaxies)
    write_catalog(
        pd.DataFrame({"object_id": ids, "ra": 150 + ids / len(ids), "dec": 2 + ids / len(ids)}),
        folder / "vectors.parquet",
    )
    features = np.random.default_rng(1).standard_normal((4 * DIMENSIONS, 2 * DIMENSIONS), dtype=np.float32)
    embedding = config.Embedding(dimensions=DIMENSIONS)
    whitening = folder / f"whitening-{galaxies}.npz"
    fit_whitening(features, embedding, "", np.eye(2 * DIMENSIONS)).save(whitening)
    nothing = folder / "nothing"  # neither images nor encoder are needed for examples from the catalog
    files = RunFiles(
        folder / "vectors.parquet", folder / "vectors", folder / "index", nothing, nothing, whitening, nothing
    )

    def work() -> None:
        for object_id in range(0, len(ids), len(ids) // 10):
            find_similar(
                config.Query(like=(object_id,)),
                files,
                k=10,
                radius_arcsec=2.0,
                debris_weight=SETTINGS.search.debris_weight,
            )

    return work


def write_vectors(folder: Path, rows: int) -> list[Path]:
    """Write unit vectors in shards.

    As for galaxies, most of their scatter is in a few directions.
    """
    folder.mkdir()
    random = np.random.default_rng(1)
    directions = random.standard_normal((LATENT, DIMENSIONS), dtype=np.float32)
    files = []
    for name, first in zip(shard_names(rows, VECTOR_SHARD), range(0, rows, VECTOR_SHARD), strict=True):
        latent, noise = (
            random.standard_normal((min(VECTOR_SHARD, rows - first), size), dtype=np.float32)
            for size in (LATENT, DIMENSIONS)
        )
        vectors = latent @ directions + NOISE * noise
        files.append(folder / f"{name}.npy")
        np.save(files[-1], vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        np.save(folder / f"{name}.ids.npy", np.arange(first, first + len(vectors)))
    return files


STAGES = {stage.__name__: stage for stage in (simulate, convert, train, embed, index, search)}


# --- measuring ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Taken:
    """Cost of one stage at one size."""

    seconds: float
    peak: float
    """Peak of the largest process, MB."""
    imports: float
    """Peak before the work began, MB."""


class Memory:
    """Peak memory of this process and its ended children, sampled 100 times a second."""

    def __init__(self) -> None:
        self._seen = self._now()
        threading.Thread(target=self._watch, daemon=True).start()

    def peak(self) -> float:
        """Return the peak up to now, MB."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
        return max(self._seen, self._now(), children)

    def _watch(self) -> None:
        while True:
            time.sleep(0.01)
            self._seen = max(self._seen, self._now())

    @staticmethod
    def _now() -> float:
        status = Path("/proc/self/status")
        if status.exists():
            line = next(line for line in status.read_text().splitlines() if line.startswith("RssAnon"))
            return int(line.split()[1]) * 1024 / 1e6
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


def _cpu_seconds() -> float:
    """Return the processor time of this process and of its ended children, s."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def run_stage(name: str, folder: Path, galaxies: int) -> None:
    """Run one stage in this process, and print its cost."""
    work = STAGES[name](folder, galaxies)
    memory = Memory()
    imports = memory.peak()
    began = _cpu_seconds()
    work()
    print(json.dumps({"seconds": _cpu_seconds() - began, "peak": memory.peak(), "imports": imports}))


def in_a_process(name: str, folder: Path, galaxies: int) -> Taken:
    """Run one stage in a process of its own."""
    command = [sys.executable, __file__, "--stage", name, "--folder", str(folder), "--smallest", str(galaxies)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} of {galaxies} galaxies failed:\n{done.stderr[-3000:]}")
    return Taken(**json.loads(done.stdout.splitlines()[-1]))


def exponent(sizes: list[int], values: list[float]) -> float:
    """Fit the slope of a line through the logarithms; NaN if noise exceeds the measurement."""
    if min(values) <= 0:
        return float("nan")
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def main(
    smallest: Annotated[int, typer.Option(min=1, help="Galaxies of the smallest of the three sizes.")] = 256,
    stage: Annotated[str, typer.Option(hidden=True)] = "",
    folder: Annotated[Path | None, typer.Option(help="Where to write the files; a temporary folder.")] = None,
) -> None:
    """Measure and print the table."""
    if stage:
        assert folder is not None
        run_stage(stage, folder, smallest)
        return
    if smallest < 4 * ROWS:
        raise typer.BadParameter(f"--smallest must be at least {4 * ROWS}")
    sizes = [smallest, 4 * smallest, 16 * smallest]
    least = 2 * ROWS
    taken: dict[int, dict[str, Taken]] = {}
    work = Path(tempfile.mkdtemp(dir=folder))
    try:
        for galaxies in [least, *sizes]:
            (work / str(galaxies)).mkdir()
            taken[galaxies] = {name: in_a_process(name, work / str(galaxies), galaxies) for name in STAGES}
            shutil.rmtree(work / str(galaxies))
    finally:
        shutil.rmtree(work)
    found = Table(title=f"{', '.join(f'{size:,}' for size in sizes)} galaxies (vectors: times {VECTORS})")
    for column in (
        "stage",
        f"CPU s at {least}",
        "CPU seconds",
        "exponent",
        "peak memory, MB",
        "of it added, MB",
        "exponent",
    ):
        found.add_column(column, justify="left" if column == "stage" else "right")
    for name in STAGES:
        first = taken[least][name]
        each = [taken[size][name] for size in sizes]
        found.add_row(
            name,
            f"{first.seconds:.2f}",
            ", ".join(f"{one.seconds:.2f}" for one in each),
            f"{exponent([size - least for size in sizes], [one.seconds - first.seconds for one in each]):.2f}",
            ", ".join(f"{one.peak:.0f}" for one in each),
            ", ".join(f"{max(one.peak - one.imports, 0):.0f}" for one in each),
            f"{exponent(sizes, [one.peak for one in each]):.2f}",
        )
    Console(width=130).print(found)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    typer.run(main)
