"""Fit the whitening of the embeddings on a sample of the images.

In: the images, the encoder. Out: the whitening.
"""

from tidalkin.embedding.sample import whiten
from tidalkin.stage import images_of, stage

with stage(snakemake) as settings:
    whiten(
        images_of(snakemake.input.images),
        snakemake.input.encoder,
        snakemake.output[0],
        settings=settings.embedding,
        augment=settings.augment,
        seed=settings.seed,
        compute=settings.compute,
    )
