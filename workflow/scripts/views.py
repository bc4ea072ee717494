"""Draw one galaxy under sixteen views.

In: the images. Out: a picture.
"""

from tidalkin.config import Augment, Stretch
from tidalkin.figures.training import draw_views
from tidalkin.stage import stage

with stage(snakemake.log):
    draw_views(
        snakemake.input[0],
        snakemake.output[0],
        augment=Augment(**snakemake.params.augment),
        stretch=Stretch(**snakemake.params.stretch),
        seed=snakemake.params.seed,
    )
