"""Fetch the cutouts of one chunk.

In: the chunk's catalog rows. Out: a tar of FITS files as the source sent them, and the ledger. If the files are the
user's own, also their digest.
"""

from pathlib import Path

from tidalkin.catalog.read import read_catalog
from tidalkin.sources.fetch import fetch_chunk
from tidalkin.stage import stage

with stage(snakemake) as settings:
    fetch_chunk(
        read_catalog(Path(snakemake.input[0]) / f"{snakemake.wildcards.chunk}.parquet"),
        settings.cutouts,
        settings.seed if settings.cutouts.source == "simulated" else 0,
        Path(snakemake.output.tar),
        Path(snakemake.output.ledger),
    )
    if snakemake.output.get("files"):
        Path(snakemake.output.files).write_text(snakemake.params.files)
