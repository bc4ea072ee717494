"""Run one query of the configuration.

In: the run's files. Out: the look-alikes as a table and as a mosaic.
"""

from pathlib import Path

from tidalkin.config import Embedding, Images, Query, Weights, load_settings
from tidalkin.search.files import RunFiles
from tidalkin.search.outside import CutoutSettings
from tidalkin.search.query import find_similar
from tidalkin.search.result import write_result
from tidalkin.stage import stage

with stage(snakemake.log):
    index = Path(snakemake.input.index).parent
    files = RunFiles(
        catalog=Path(snakemake.input.catalog),
        embeddings=index.parent / "embeddings",
        index=index,
        images=Path(snakemake.input.images),
        encoder=Path(snakemake.input.encoder),
        whitening=Path(snakemake.input.whitening),
    )
    found = find_similar(
        Query(**snakemake.params.query),
        files,
        k=snakemake.params.k,
        radius_arcsec=snakemake.params.radius_arcsec,
        weights=Weights(**snakemake.params.weights),
        cutouts=CutoutSettings(
            Images(**snakemake.params.images),
            Embedding(**snakemake.params.embedding),
            load_settings(snakemake.config).compute,
        ),
    )
    write_result(found, files.images, Path(snakemake.output.mosaic).parent)
