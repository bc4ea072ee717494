"""Place every galaxy on the map of the explorer.

In: the embeddings. Out: object_id, x and y.
"""

from tidalkin.explorer.projection import write_map
from tidalkin.stage import stage

with stage(snakemake) as settings:
    write_map(snakemake.input.vectors, snakemake.output[0], settings.explorer.projection, settings.seed)
