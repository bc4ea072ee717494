"""Take the encoder of another run in place of training one.

In: its encoder. Out: this run's.
"""

from tidalkin.config import Network, Stretch
from tidalkin.embedding.reuse import reuse_encoder
from tidalkin.stage import stage

with stage(snakemake.log):
    reuse_encoder(
        snakemake.input[0],
        snakemake.output[0],
        bands=snakemake.params.bands,
        stretch=Stretch(**snakemake.params.stretch),
        settings=Network(**snakemake.params.encoder),
    )
