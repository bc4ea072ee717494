# What several stages share: the names of chunks and shards, and memory that grows on retry.

from tidalkin.catalog import chunk_names, shard_names
from tidalkin.planning import count_galaxies

ENVIRONMENT = "../../envs/tidalkin.yaml"

try:
    GALAXIES = count_galaxies(settings, f"{RESULTS}/catalog.parquet")
except TidalkinError as error:
    raise WorkflowError(str(error)) from None


def catalog_file(wildcards):
    """The checked catalog; asking for it makes Snakemake look again, once it is there, at what has to be fetched."""
    return checkpoints.catalog.get().output.catalog


def galaxies(wildcards):
    """The number of galaxies: known from the start, but where it takes a query to the catalog server."""
    return GALAXIES or count_galaxies(settings, catalog_file(wildcards))


def chunks(wildcards):
    return chunk_names(galaxies(wildcards), settings.catalog.chunk_size)


def shards(wildcards):
    return shard_names(galaxies(wildcards), settings.images.shard_size)


def growing(megabytes):
    """Memory for a job: the first try asks for ``megabytes``, the second for twice that, and so on."""

    def memory(wildcards, attempt):
        return megabytes * attempt

    return memory
