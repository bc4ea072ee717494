"""Check the catalog and split it into chunks.

In: the user's table, or nothing for the simulated survey. Out: catalog.parquet, one Parquet file per chunk.
"""

from pathlib import Path

from tidalkin.catalog import read_catalog, split_catalog, write_catalog
from tidalkin.config import Catalog, SimulatedSurvey
from tidalkin.stage import stage

with stage(snakemake.log):
    settings = Catalog(
        **snakemake.params.catalog, path=snakemake.input.get("table"), query=snakemake.input.get("query")
    )
    if settings.source == "simulated":
        from tidalkin.sources.simulated import simulate_catalog

        catalog = simulate_catalog(SimulatedSurvey(**snakemake.params.survey), snakemake.params.seed)
    else:
        catalog = read_catalog(settings.path, settings.columns)
    write_catalog(catalog, snakemake.output.catalog, made_from=settings.path or settings.query)
    # A chunk holds only what fetching needs: a new column of the user's own fetches nothing again.
    needed = None if settings.source == "simulated" else ("object_id", "ra", "dec")
    for name, rows in split_catalog(catalog, settings.chunk_size, needed).items():
        write_catalog(rows, Path(snakemake.output.chunks) / f"{name}.parquet")
