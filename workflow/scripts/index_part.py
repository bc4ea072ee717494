"""Add one part of the shards to the trained index.

In: the trained index, the part's embeddings. Out: an index of them alone.
"""

from tidalkin.index.build import add_shards
from tidalkin.stage import stage

with stage(snakemake):
    add_shards(snakemake.input.trained, snakemake.input.vectors, snakemake.output[0])
