"""Measure the labelled galaxies' classical morphology.

In: the catalog, the images. Out: vectors, and the measurements as they are.
"""

from pathlib import Path

from tidalkin.catalog.read import read_catalog
from tidalkin.evaluation.baselines import morphology_baseline
from tidalkin.stage import images_of, stage

with stage(snakemake) as settings:
    morphology_baseline(
        images_of(snakemake.input.images),
        read_catalog(snakemake.input.catalog),
        Path(snakemake.output[0]),
        embedding=settings.embedding,
        evaluation=settings.evaluation,
        injection=settings.injection,
        processes=snakemake.threads,
    )
