"""Divide a run into chunks of the catalog, image shards and parts of the index.

The Snakefile imports this module in every job, so nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def chunk_names(n_objects: int, chunk_size: int) -> list[str]:
    """Return the names of the chunks of a catalog.

    Examples
    --------
    >>> chunk_names(700, 300)
    ['00000', '00001', '00002']
    """
    return [f"{i:05d}" for i in range(-(-n_objects // chunk_size))]


def shard_names(n_objects: int, shard_size: int) -> list[str]:
    """Return the names of the shards of the image store.

    Examples
    --------
    >>> shard_names(700, 512)
    ['00000', '00001']
    """
    return chunk_names(n_objects, shard_size)


def parts_of(shards: Sequence[Item], shards_per_part: int) -> dict[str, Sequence[Item]]:
    """Return the shards of each part of the index, by the part's name.

    Examples
    --------
    >>> parts_of(["00000", "00001", "00002"], 2)
    {'00000': ['00000', '00001'], '00001': ['00002']}
    """
    names = chunk_names(len(shards), shards_per_part)
    return {name: shards[i * shards_per_part : (i + 1) * shards_per_part] for i, name in enumerate(names)}
