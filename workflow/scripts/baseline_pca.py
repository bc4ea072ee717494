"""Describe the labelled galaxies by principal components of their pixels.

In: the catalog, the images. Out: vectors.
"""

from pathlib import Path

from tidalkin.catalog.read import read_catalog
from tidalkin.evaluation.baselines import pca_baseline
from tidalkin.stage import images_of, stage

with stage(snakemake) as settings:
    pca_baseline(
        images_of(snakemake.input.images),
        read_catalog(snakemake.input.catalog),
        Path(snakemake.output[0]),
        stretch_settings=settings.stretch,
        embedding=settings.embedding,
        evaluation=settings.evaluation,
        injection=settings.injection,
        seed=settings.seed,
    )
