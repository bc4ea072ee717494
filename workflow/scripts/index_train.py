"""Train an index that many jobs will add to.

In: the embeddings. Out: the empty index.
"""

from tidalkin.index.build import train_index
from tidalkin.stage import stage

with stage(snakemake) as settings:
    train_index(
        snakemake.input.vectors,
        settings.index,
        snakemake.output[0],
        seed=settings.seed,
    )
