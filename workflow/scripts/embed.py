"""Embed the galaxies of one shard.

In: the images, the encoder, the whitening. Out: one vector and one object_id per galaxy, and what they are made from.
"""

from tidalkin.embedding.features import embed_shard
from tidalkin.embedding.record import VectorRecord
from tidalkin.stage import images_of, stage

with stage(snakemake) as settings:
    files = snakemake.input
    record = VectorRecord.of(snakemake.params.shard, files.encoder, files.whitening, files.ledgers)
    embed_shard(
        images_of(snakemake.input.images),
        int(snakemake.wildcards.shard),
        snakemake.input.encoder,
        snakemake.input.whitening,
        snakemake.output.vectors,
        snakemake.output.ids,
        snakemake.output.get("debris_maps"),
        settings=settings.embedding,
        compute=settings.compute,
    )
    record.write(snakemake.output.record)
