"""Run one query of the configuration.

In: the run's files. Out: the look-alikes as a table and as a mosaic.
"""

from pathlib import Path

from tidalkin.search.files import RunFiles
from tidalkin.search.outside import CutoutSettings
from tidalkin.search.query import find_similar
from tidalkin.search.result import write_result
from tidalkin.stage import images_of, stage

with stage(snakemake) as settings:
    index = Path(snakemake.input.index).parent
    files = RunFiles(
        catalog=Path(snakemake.input.catalog),
        embeddings=index.parent / "embeddings",
        index=index,
        images=images_of(snakemake.input.images),
        encoder=Path(snakemake.input.encoder),
        whitening=Path(snakemake.input.whitening),
        ranking=index.parent / "ranking.parquet",
    )
    found = find_similar(
        settings.search.queries[snakemake.wildcards.query],
        files,
        k=settings.search.k,
        radius_arcsec=settings.search.radius_arcsec,
        debris_weight=settings.search.debris_weight,
        cutouts=CutoutSettings(
            settings.images,
            settings.embedding,
            settings.compute,
        ),
    )
    write_result(found, Path(snakemake.output.mosaic).parent)
