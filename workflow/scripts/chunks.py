"""Split the catalog into chunks.

In: the user's table, or the answer of HSC's catalog server, or nothing for the simulated survey.
Out: the rows of each chunk, and the columns that the conversion reads.
"""

from tidalkin.sources.catalog import write_chunks
from tidalkin.stage import stage

with stage(snakemake) as settings:
    write_chunks(
        settings,
        snakemake.input.get("table") or settings.catalog.path,
        snakemake.params.plan,
        snakemake.output.chunks,
        snakemake.output.objects,
    )
