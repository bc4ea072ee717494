"""Fit the whitening of the embeddings on a sample of the images.

In: the images, the encoder. Out: the whitening.
"""

from tidalkin.config import Augment, Embedding, load_settings
from tidalkin.embedding.sample import whiten
from tidalkin.stage import stage

with stage(snakemake.log):
    whiten(
        snakemake.input.images,
        snakemake.input.encoder,
        snakemake.output[0],
        settings=Embedding(**snakemake.params.embedding),
        augment=Augment(**snakemake.params.augment),
        seed=snakemake.params.seed,
        compute=load_settings(snakemake.config).compute,
    )
