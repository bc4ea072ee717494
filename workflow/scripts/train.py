"""Train the encoder, or go on where an interrupted training was; several processes where GPUs or the config say so.

In: the images. Out: the encoder, its training history as a table, a picture and for TensorBoard.
"""

from pathlib import Path

from tidalkin.config import Augment, Network, Stretch, Training, load_settings
from tidalkin.figures.training import draw_history
from tidalkin.model.train import train
from tidalkin.stage import stage

with stage(snakemake.log):
    train(
        snakemake.input[0],
        Path(snakemake.output.encoder).parent,
        augment=Augment(**snakemake.params.augment),
        stretch=Stretch(**snakemake.params.stretch),
        encoder=Network(**snakemake.params.encoder),
        training=Training(**snakemake.params.training),
        seed=snakemake.params.seed,
        compute=load_settings(snakemake.config).compute,
    )
    draw_history(snakemake.output.history, snakemake.output.picture)
