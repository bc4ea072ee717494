"""Measure how well labelled galaxies are found, beside the baselines.

In: the catalog, the embeddings, the baselines. Out: tables and curves.
"""

from dataclasses import replace
from pathlib import Path

from tidalkin.catalog.read import read_catalog
from tidalkin.embedding.whitening import load_whitening
from tidalkin.evaluation.evaluate import evaluate, write_evaluation
from tidalkin.evaluation.labels import labelled_galaxies, read_baseline, read_embeddings
from tidalkin.figures.evaluation import draw_completeness, draw_examples, draw_precision_recall, draw_probe, draw_roc
from tidalkin.stage import stage

with stage(snakemake) as settings:
    catalog = read_catalog(snakemake.input.catalog)
    wanted = labelled_galaxies(catalog, settings.evaluation.negative_label).object_id
    methods = {
        "encoder": read_embeddings(
            [Path(file) for file in snakemake.input.vectors],
            [Path(file) for file in snakemake.input.vector_ids],
            wanted,
        )
    }
    methods |= {Path(file).stem: read_baseline(Path(file)) for file in snakemake.input.baselines}
    # Random weights are whitened as the encoder's are; the dimensions of the others have no such meaning.
    importance = load_whitening(snakemake.input.whitening).importance(settings.search.weights)
    for method in ("encoder", "random"):
        methods[method] = replace(methods[method], importance=importance)
    found = evaluate(methods, catalog, settings.evaluation, processes=snakemake.threads)
    write_evaluation(found, Path(snakemake.output.metrics).parent)
    draw_roc(found.curves, found.metrics, Path(snakemake.output.roc))
    draw_precision_recall(found.curves, found.metrics, Path(snakemake.output.precision_recall))
    draw_probe(found.metrics, Path(snakemake.output.probe))
    draw_completeness(found.completeness, Path(snakemake.output.completeness))
    draw_examples(found.examples, found.metrics, Path(snakemake.output.examples))
