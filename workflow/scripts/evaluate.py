"""Measure how well labelled galaxies are found, beside the baselines.

In: the catalog, the embeddings, the baselines. Out: tables and curves.
"""

from pathlib import Path

from tidalkin.catalog.read import read_catalog
from tidalkin.evaluation.evaluate import evaluate_run
from tidalkin.stage import stage

with stage(snakemake) as settings:
    evaluate_run(
        read_catalog(snakemake.input.catalog),
        [Path(file) for file in snakemake.input.vectors],
        [Path(file) for file in snakemake.input.vector_ids],
        [Path(file) for file in snakemake.input.baselines],
        Path(snakemake.input.whitening),
        Path(snakemake.output.metrics).parent,
        settings=settings.evaluation,
        debris_weight=settings.search.debris_weight,
        processes=snakemake.threads,
    )
