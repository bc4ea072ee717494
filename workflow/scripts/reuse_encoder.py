"""Take the encoder of another run in place of training one.

In: its encoder. Out: this run's.
"""

from tidalkin.embedding.reuse import reuse_encoder
from tidalkin.stage import stage

with stage(snakemake) as settings:
    reuse_encoder(
        snakemake.input[0],
        snakemake.output[0],
        bands=settings.cutouts.bands,
        stretch=settings.stretch,
        settings=settings.encoder,
    )
