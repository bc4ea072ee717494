"""Train the encoder, or resume an interrupted training.

In: the images. Out: the encoder, and its training history as a table, a picture and a TensorBoard log.
"""

from pathlib import Path

from tidalkin.figures.training import draw_history
from tidalkin.model.train import train
from tidalkin.stage import images_of, stage

with stage(snakemake) as settings:
    train(
        images_of(snakemake.input.images),
        Path(snakemake.output.encoder).parent,
        augment=settings.augment,
        stretch=settings.stretch,
        encoder=settings.encoder,
        training=settings.training,
        injection=settings.injection,
        seed=settings.seed,
        compute=settings.compute,
    )
    draw_history(snakemake.output.history, snakemake.output.picture)
