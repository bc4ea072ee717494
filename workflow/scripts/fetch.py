"""Fetch the cutouts of one chunk.

In: the chunk's catalog rows. Out: a tar of FITS files as the source sent them, and the ledger.
"""

from pathlib import Path

from tidalkin.catalog.read import read_catalog
from tidalkin.config import load_settings
from tidalkin.sources.fetch import fetch_chunk
from tidalkin.stage import stage

with stage(snakemake.log):
    fetch_chunk(
        read_catalog(Path(snakemake.input[0]) / f"{snakemake.wildcards.chunk}.parquet"),
        load_settings(snakemake.config).cutouts,
        snakemake.params.seed,
        Path(snakemake.output.tar),
        Path(snakemake.output.ledger),
    )
