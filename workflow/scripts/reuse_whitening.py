"""Take the whitening of another run in place of fitting one.

In: its whitening, this run's encoder. Out: this run's whitening.
"""

from tidalkin.embedding.reuse import reuse_whitening
from tidalkin.model.checkpoint import load_encoder
from tidalkin.stage import stage

with stage(snakemake) as settings:
    reuse_whitening(
        snakemake.input.whitening,
        snakemake.output[0],
        encoder=load_encoder(snakemake.input.encoder).digest,
        settings=settings.embedding,
    )
