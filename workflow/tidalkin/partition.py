"""How a run is divided: chunks of the catalog, and shards of the image store, and their names.

For the Snakefile, which every job reads again: nothing heavy is imported here.
"""

from __future__ import annotations


def chunk_names(n_objects: int, chunk_size: int) -> list[str]:
    """Names of the chunks of a catalog: `00000`, `00001`, ..."""
    return [f"{i:05d}" for i in range(-(-n_objects // chunk_size))]


def shard_names(n_objects: int, shard_size: int) -> list[str]:
    """Names of the shards of the image store: `00000`, `00001`, ..."""
    return chunk_names(n_objects, shard_size)
