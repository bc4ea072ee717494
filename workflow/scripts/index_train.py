"""Train an index that many jobs will add to.

In: the embeddings. Out: the empty index.
"""

from tidalkin.config import Index
from tidalkin.index.build import train_index
from tidalkin.stage import stage

with stage(snakemake.log):
    train_index(
        snakemake.input.vectors,
        Index(**snakemake.params.index),
        snakemake.output[0],
        seed=snakemake.params.seed,
    )
