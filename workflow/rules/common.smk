# What several stages share: the names of chunks and shards, known once the catalog is, and memory that grows on retry.

import pyarrow.parquet

from tidalkin.catalog import chunk_names, shard_names

ENVIRONMENT = "../../envs/tidalkin.yaml"


def catalog_file(wildcards):
    """The checked catalog; asking for it makes Snakemake wait until the number of galaxies is known."""
    return checkpoints.catalog.get().output.catalog


def chunks(wildcards):
    return chunk_names(
        count_objects(catalog_file(wildcards)), settings.catalog.chunk_size
    )


def shards(wildcards):
    return shard_names(
        count_objects(catalog_file(wildcards)), settings.images.shard_size
    )


def growing(megabytes):
    """Memory for a job: the first try asks for ``megabytes``, the second for twice that, and so on."""

    def memory(wildcards, attempt):
        return megabytes * attempt

    return memory
