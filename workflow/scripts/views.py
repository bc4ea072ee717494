"""Draw one galaxy under sixteen views.

In: the images. Out: a picture.
"""

from tidalkin.figures.training import draw_views
from tidalkin.stage import images_of, stage

with stage(snakemake) as settings:
    draw_views(
        images_of(snakemake.input.images),
        snakemake.output[0],
        augment=settings.augment,
        stretch=settings.stretch,
        seed=settings.seed,
    )
