"""How a run is divided: chunks of the catalog, shards of the image store, parts of the index, and their names.

For the Snakefile, which every job reads again: nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def chunk_names(n_objects: int, chunk_size: int) -> list[str]:
    """Names of the chunks of a catalog: `00000`, `00001`, ..."""
    return [f"{i:05d}" for i in range(-(-n_objects // chunk_size))]


def shard_names(n_objects: int, shard_size: int) -> list[str]:
    """Names of the shards of the image store: `00000`, `00001`, ..."""
    return chunk_names(n_objects, shard_size)


def parts_of(shards: Sequence[Item], shards_per_part: int) -> dict[str, Sequence[Item]]:
    """The shards of each part of the index, by its name: `00000`, `00001`, ..."""
    names = chunk_names(len(shards), shards_per_part)
    return {name: shards[i * shards_per_part : (i + 1) * shards_per_part] for i, name in enumerate(names)}
