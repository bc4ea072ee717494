"""Embed the labelled galaxies with an encoder of random weights.

In: the catalog, the images. Out: vectors.
"""

from pathlib import Path

from tidalkin.catalog.read import read_catalog
from tidalkin.evaluation.baselines import random_baseline
from tidalkin.stage import images_of, stage

with stage(snakemake) as settings:
    random_baseline(
        images_of(snakemake.input.images),
        read_catalog(snakemake.input.catalog),
        Path(snakemake.output[0]),
        stretch_settings=settings.stretch,
        encoder=settings.encoder,
        embedding=settings.embedding,
        augment=settings.augment,
        evaluation=settings.evaluation,
        injection=settings.injection,
        seed=settings.seed,
        compute=settings.compute,
    )
