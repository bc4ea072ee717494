"""Measure the memory of building an index in parts, by step, and of searching it.

    python benchmarks/index_memory.py 3000000
    python benchmarks/index_memory.py 10000000 --kind auto

Each step runs in a process of its own. On Linux, pages of mapped files are not counted, because the system drops them
when another process needs the memory.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from scaling import Memory

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from tidalkin.catalog.partition import parts_of
from tidalkin.config import Index
from tidalkin.index.build import add_shards, merge_parts, train_index
from tidalkin.index.query import open_index

SHARD_ROWS, LATENT, NOISE = 8192, 16, np.float32(0.5)


def write_vectors(folder: Path, rows: int, dimensions: int) -> list[Path]:
    """Write float16 unit vectors in shards.

    As for galaxies, most of their scatter is in a few directions.
    """
    folder.mkdir()
    random = np.random.default_rng(1)
    directions = random.standard_normal((LATENT, dimensions), dtype=np.float32)
    files = []
    for shard, first in enumerate(range(0, rows, SHARD_ROWS)):
        here = min(SHARD_ROWS, rows - first)
        latent, noise = (random.standard_normal((here, size), dtype=np.float32) for size in (LATENT, dimensions))
        vectors = latent @ directions + NOISE * noise
        files.append(folder / f"{shard:05d}.npy")
        np.save(files[-1], (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16))
        np.save(files[-1].with_suffix(".ids.npy"), np.arange(first, first + here))
    return files


def ask(directory: Path, embeddings: Path, queries: int) -> None:
    """Open an index and search the neighbours of some of its vectors."""
    opened = open_index(directory, embeddings)
    for row in np.linspace(0, len(opened.ids) - 1, queries, dtype=int):
        opened.nearest(opened.vectors[row].astype(np.float32), 10, exclude=[int(row)])


def watched(function: Callable[..., object], *arguments: object) -> tuple[float, float, float]:
    """Call a function; return peak of memory and memory before, MB, and processor time, s."""
    memory, began = Memory(), time.process_time()
    before = memory.peak()
    function(*arguments)
    return memory.peak(), before, time.process_time() - began


def main(
    rows: Annotated[int, typer.Argument(help="Number of vectors.")],
    kind: Annotated[str, typer.Option(help="Kind of index. Few lists are trained quickly.")] = "IVF512,PQ64x4fs",
    dimensions: Annotated[int, typer.Option(help="Dimensions of the vectors.")] = 128,
    shards_per_part: Annotated[int, typer.Option(help=f"Shards of {SHARD_ROWS} vectors that one job adds.")] = 64,
    folder: Annotated[Path | None, typer.Option(help="Folder for the files [default: a temporary folder].")] = None,
) -> None:
    """Measure and print the table."""
    settings = Index(kind=kind, queries=50, shards_per_part=shards_per_part)
    found = Table(title=f"{rows:,} x {dimensions}, {kind}")
    for column in ("step", "CPU s", "MB before", "peak, MB"):
        found.add_column(column, justify="right")
    with tempfile.TemporaryDirectory(dir=folder) as work:
        trained, index = Path(work) / "trained.faiss", Path(work) / "index"
        files = write_vectors(Path(work) / "embeddings", rows, dimensions)
        parts = {Path(work) / f"{name}.faiss": shards for name, shards in parts_of(files, shards_per_part).items()}
        first, shards = next(iter(parts.items()))
        steps: dict[str, tuple[object, ...]] = {
            "train": (train_index, files, settings, trained, 1),
            "add a part": (add_shards, trained, shards, first),
            "join": (merge_parts, trained, list(parts), files, settings, index, 1),
            "ask": (ask, index, files[0].parent, 50),
        }
        for name, call in steps.items():
            if name == "join":
                for part, its_shards in list(parts.items())[1:]:
                    add_shards(trained, its_shards, part)
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                peak, before, seconds = pool.submit(watched, *call).result()  # type: ignore[arg-type]
            found.add_row(name, f"{seconds:.1f}", f"{before:.0f}", f"{peak:.0f}")
    Console().print(found)


if __name__ == "__main__":
    typer.run(main)
