"""Ask HSC's catalog server for a catalog.

In: the SQL. Out: the server's table, and a record of the query with its time.
"""

from tidalkin.sources.hsc.sql import query_catalog
from tidalkin.stage import stage

with stage(snakemake) as settings:
    query_catalog(settings.catalog, snakemake.output.table)
