"""Digest the list of the image store's shards.

In: images.json. Out: a small file that changes exactly when the images change.
"""

from tidalkin.images.digest import write_digest
from tidalkin.stage import stage

with stage(snakemake):
    write_digest(snakemake.input[0], snakemake.output[0])
