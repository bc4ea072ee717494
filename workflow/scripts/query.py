"""Ask HSC's catalog server for a catalog.

In: the SQL. Out: the server's table, and what was asked when.
"""

from tidalkin.config import load_settings
from tidalkin.sources.hsc.sql import query_catalog
from tidalkin.stage import stage

with stage(snakemake.log):
    query_catalog(load_settings(snakemake.config).catalog, snakemake.output.table)
