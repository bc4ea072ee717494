"""Describe the labelled galaxies by principal components of their pixels.

In: the catalog, the images. Out: vectors.
"""

from pathlib import Path

from tidalkin.catalog.read import read_catalog
from tidalkin.config import Embedding, EvaluationSettings, Stretch
from tidalkin.evaluation.baselines import pca_baseline
from tidalkin.stage import stage

with stage(snakemake.log):
    pca_baseline(
        Path(snakemake.input.images),
        read_catalog(snakemake.input.catalog),
        Path(snakemake.output[0]),
        stretch_settings=Stretch(**snakemake.params.stretch),
        embedding=Embedding(**snakemake.params.embedding),
        evaluation=EvaluationSettings(**snakemake.params.evaluation),
        seed=snakemake.params.seed,
    )
