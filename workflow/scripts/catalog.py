"""Check the catalog and split it into chunks.

In: the user's table, or the answer of HSC's catalog server, or nothing for the simulated survey.
Out: catalog.parquet, one Parquet file per chunk.
"""

from tidalkin.sources.catalog import write_planned
from tidalkin.stage import stage

with stage(snakemake) as settings:
    write_planned(
        settings,
        snakemake.input.get("table"),
        snakemake.output.catalog,
        snakemake.output.chunks,
    )
