"""The index through the workflow: in one job or in parts, of made-up embeddings."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

SHARDS, ROWS = 19, 16
ONLY_THE_INDEX = ("results/parts/index/index.faiss", "--allowed-rules", "index_train", "index_part", "index")


def configuration(**index: object) -> dict:
    return {
        "run": "parts",
        "cutouts": {"simulated": {"galaxies": SHARDS * ROWS}},
        "images": {"shard_size": ROWS, "chunk_size": ROWS},
        "index": {"queries": 10, **index},
    }


def write_embeddings(folder: Path) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    for shard in range(SHARDS):
        vectors = random.standard_normal((ROWS, 16)).astype(np.float32)
        np.save(folder / f"{shard:05d}.npy", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        np.save(folder / f"{shard:05d}.ids.npy", np.arange(ROWS) + ROWS * shard)


def jobs(output: str) -> dict[str, int]:
    """Read the job table that Snakemake prints."""
    table = {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", output, re.MULTILINE)}
    return {name: count for name, count in table.items() if name != "total"}


@pytest.mark.parametrize("kind", ["auto", "IVF4,PQ8x4fs"])
def test_an_index_in_parts_is_byte_identical_to_that_of_one_job_and_leaves_no_parts(tmp_path, snakemake, kind):
    made = {}
    for shards_per_part, expected in (
        (24, {"index": 1}),
        (8, {"index_train": 1, "index_part": 3, "index": 1}),
    ):
        folder = tmp_path / str(shards_per_part)
        write_embeddings(folder / "results" / "parts" / "embeddings")
        done = snakemake(folder, *ONLY_THE_INDEX, config=configuration(kind=kind, shards_per_part=shards_per_part))
        assert jobs(done.stdout + done.stderr) == expected
        index = folder / "results" / "parts" / "index"
        made[shards_per_part] = [
            (index / name).read_bytes() for name in ("index.faiss", "lists.ivfdata", "ids.npy", "vectors.npy")
        ]
        assert not list(index.glob("parts/*.faiss"))
    assert made[24] == made[8]


def test_a_kind_that_cannot_be_joined_says_so_before_anything_is_added(tmp_path, snakemake):
    write_embeddings(tmp_path / "results" / "parts" / "embeddings")
    done = snakemake(tmp_path, *ONLY_THE_INDEX, config=configuration(kind="HNSW8", shards_per_part=8), check=False)
    assert done.returncode != 0
    assert "set index.shards_per_part to 19 or more" in done.stderr
    assert not (tmp_path / "results" / "parts" / "logs" / "index_part").exists()
