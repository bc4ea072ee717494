"""Check the catalog.

In: the user's table, or the answer of HSC's catalog server, or nothing for the simulated survey. Out: catalog.parquet.
"""

from tidalkin.sources.catalog import write_run_catalog
from tidalkin.stage import stage

with stage(snakemake) as settings:
    write_run_catalog(settings, snakemake.input.get("table") or settings.catalog.path, snakemake.output[0])
