"""Inject tidal features into galaxies of the survey, and count how many the ranking recovers.

In: the images, the encoder, the debris maps of every shard. Out: tables, the 50 % limits, a picture.
"""

from pathlib import Path

import pandas as pd

from tidalkin.evaluation.completeness import log_limits, measure_completeness, write_completeness
from tidalkin.figures.completeness import draw_completeness
from tidalkin.stage import images_of, stage

with stage(snakemake) as settings:
    found = measure_completeness(
        images_of(snakemake.input.images),
        snakemake.input.encoder,
        snakemake.input.debris_maps,
        snakemake.input.ids,
        settings=settings.completeness,
        embedding=settings.embedding,
        seed=settings.seed,
        compute=settings.compute,
    )
    log_limits(found)
    output = snakemake.output
    write_completeness(found, output.table, output.injections, output.summary)
    draw_completeness(found.table, pd.DataFrame(found.limits), Path(output.picture))
