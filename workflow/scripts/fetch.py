"""Fetch the cutouts of one chunk.

In: the chunk's catalog rows. Out: a tar of FITS files as the source sent them, and the ledger.
"""

from tidalkin.catalog import read_catalog
from tidalkin.config import load_settings
from tidalkin.sources import open_source
from tidalkin.sources.chunk import write_chunk
from tidalkin.stage import stage

with stage(snakemake.log):
    objects = read_catalog(snakemake.input[0])
    cutouts = load_settings(snakemake.config).cutouts
    source = open_source(cutouts, snakemake.params.seed)
    write_chunk(
        source.deliver(objects, cutouts.bands), objects, cutouts.bands, snakemake.output.tar, snakemake.output.ledger
    )
