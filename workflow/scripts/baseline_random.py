"""Embed the labelled galaxies with an encoder of random weights.

In: the catalog, the images. Out: vectors.
"""

from pathlib import Path

from tidalkin.catalog.read import read_catalog
from tidalkin.config import Augment, Embedding, EvaluationSettings, Network, Stretch, load_settings
from tidalkin.evaluation.baselines import random_baseline
from tidalkin.stage import stage

with stage(snakemake.log):
    random_baseline(
        Path(snakemake.input.images),
        read_catalog(snakemake.input.catalog),
        Path(snakemake.output[0]),
        stretch_settings=Stretch(**snakemake.params.stretch),
        encoder=Network(**snakemake.params.encoder),
        embedding=Embedding(**snakemake.params.embedding),
        augment=Augment(**snakemake.params.augment),
        evaluation=EvaluationSettings(**snakemake.params.evaluation),
        seed=snakemake.params.seed,
        compute=load_settings(snakemake.config).compute,
    )
