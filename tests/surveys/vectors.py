"""Shards of random vectors, and an index of them that several jobs build."""

import numpy as np

from tidalkin.catalog.partition import parts_of
from tidalkin.index.build import add_shards, merge_parts, train_index


def unit_vectors(n, dimensions=16, seed=1):
    vectors = np.random.default_rng(seed).standard_normal((n, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_shards(folder, vectors, shard_size=100, first_id=1000, dtype=np.float32):
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for start in range(0, len(vectors), shard_size):
        files.append(folder / f"{start // shard_size:05d}.npy")
        part = vectors[start : start + shard_size]
        np.save(files[-1], part.astype(dtype))
        np.save(files[-1].with_suffix(".ids.npy"), np.arange(start, start + len(part)) + first_id)
    return files


def build_in_jobs(files, settings, folder):
    """Build the index in parts, as several jobs do, and return the parts."""
    train_index(files, settings, folder / "trained.faiss", seed=1)
    parts = []
    for name, shards in parts_of(files, settings.shards_per_part).items():
        parts.append(folder / f"{name}.faiss")
        add_shards(folder / "trained.faiss", shards, parts[-1])
    merge_parts(folder / "trained.faiss", parts, files, settings, folder, seed=1)
    return parts
