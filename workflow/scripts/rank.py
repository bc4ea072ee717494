"""Rank the whole survey by its debris score, with no example.

In: the catalog, the images, the whitening, the debris maps of every shard. Out: the ranking, and a mosaic of its first
galaxies.
"""

from tidalkin.search.ranking import draw_ranking, rank_survey
from tidalkin.stage import images_of, stage

with stage(snakemake):
    files = snakemake.input
    table = rank_survey(files.catalog, files.whitening, files.debris_maps, files.ids, snakemake.output.ranking)
    draw_ranking(table, images_of(files.images), files.debris_maps, files.ids, snakemake.output.mosaic)
