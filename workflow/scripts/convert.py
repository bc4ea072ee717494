"""Convert all cutouts to one Zarr store, one Dask task per shard.

In: the galaxies, every chunk's tar and ledger. Out: images.zarr, and a table of the cutouts that could not be read.
"""

from tidalkin.images.convert import convert
from tidalkin.stage import images_of, stage

if __name__ == "__main__":  # Dask's worker processes import this file
    with stage(snakemake) as settings:
        convert(
            catalog=snakemake.input.objects,
            tars=snakemake.input.tars,
            ledgers=snakemake.input.ledgers,
            bands=settings.cutouts.bands,
            images=settings.images,
            dask=settings.compute.dask,
            threads=snakemake.threads,
            output=images_of(snakemake.output.images),
            problems=snakemake.output.problems,
        )
