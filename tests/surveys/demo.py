"""The small run results/demo, in which the examples of docstrings work."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tidalkin.catalog.read import write_catalog
from tidalkin.config import load_settings, read_config_file
from tidalkin.embedding.features import embed_shard
from tidalkin.embedding.sample import whiten
from tidalkin.images.store import ImageStore, Shard
from tidalkin.index.build import build_index
from tidalkin.model.checkpoint import random_encoder, save_encoder
from tidalkin.model.heads import DebrisMap
from tidalkin.search.files import RunFiles
from tidalkin.search.ranking import rank_survey

N, BANDS, SIZE = 60, ("g", "r", "i", "z", "y"), 48
CONFIG = """\
run: demo
cutouts: {source: simulated, size_arcsec: 9.0, simulated: {galaxies: 60, tidal_fraction: 0.5}}
catalog: {source: simulated}
images: {size: 48, shard_size: 32, chunk_size: 16}
augment: {crop: 48}
encoder: {width: 8, projector_size: 16, predictor_size: 8}
embedding: {dimensions: 8, symmetries: 1, whitening_views: 2}
training: {epochs: 1, batch_size: 16, collapse_below: 0.0}
compute: {device: cpu}
index: {queries: 5}
completeness: {galaxies: 8}
evaluation: {repeats: 2, probe_labels: [8], set_size: 4}
"""


def write_demo(folder: Path) -> None:
    """Write config/config.yaml and results/demo: 60 galaxies, of which every second has a tidal feature.

    The encoder is not trained.
    """
    configfile = folder / "config" / "config.yaml"
    configfile.parent.mkdir()
    configfile.write_text(CONFIG, encoding="utf-8")
    settings = load_settings(read_config_file(configfile))
    run = folder / "results" / "demo"
    files = RunFiles.of(run)
    files.embeddings.mkdir(parents=True)
    files.encoder.parent.mkdir()
    ids = np.arange(1, N + 1)
    position = {"ra": 150 + ids / 100, "dec": 2 + ids / 100}
    kind = np.where(ids % 2, "none", np.where(ids % 4, "shell", "stream"))
    catalog = pd.DataFrame({"object_id": ids, **position, "label": kind})
    catalog["tidal_surface_brightness"] = np.where(ids % 2, np.nan, 24 + ids / 20)
    write_catalog(catalog, files.catalog)
    store = ImageStore.create(files.images, objects=N, bands=BANDS, images=settings.images)
    flux, ones = _images(), np.ones((N, len(BANDS)), np.float32)
    for shard in range(store.n_shards):
        rows = store.rows_of(shard)
        store.write(shard, Shard(flux[rows], ones[rows], 0.7 * ones[rows], ones[rows], ids[rows]))
    network = {"stretch": settings.stretch, "settings": settings.encoder, "image_size": SIZE}
    encoder = random_encoder(BANDS, ones[0], **network, seed=settings.seed).encoder
    torch.manual_seed(settings.seed)
    debris_map = DebrisMap(encoder.stage_channels)
    save_encoder(
        files.encoder, encoder, debris_map=debris_map, bands=BANDS, sigma=ones[0], **network, config_digest="demo"
    )
    made_with = {"settings": settings.embedding, "compute": settings.compute}
    whiten(files.images, files.encoder, files.whitening, augment=settings.augment, seed=settings.seed, **made_with)
    vectors = [files.embeddings / f"{shard:05d}.npy" for shard in range(store.n_shards)]
    id_files = [file.with_suffix(".ids.npy") for file in vectors]
    map_files = [file.with_suffix(".debris_map.npy") for file in vectors]
    for shard, written in enumerate(zip(vectors, id_files, map_files, strict=True)):
        embed_shard(files.images, shard, files.encoder, files.whitening, *written, **made_with)
    build_index(vectors, settings.index, files.index, seed=settings.seed)
    rank_survey(files.catalog, files.whitening, map_files, id_files, files.ranking)


def _images() -> np.ndarray:
    """Draw round galaxies on noise of 1 nJy, every second with an arm of light."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    width = random.uniform(1.5, 3, (N, 1, 1, 1))
    flux = 100 * np.exp(-(x**2 + y**2) / (2 * width**2))
    arm = np.exp(-((np.hypot(x, y) - 9) ** 2) / 2 - (x - 9) ** 2 / 40)
    flux = flux + 10 * arm * (np.arange(N) % 2)[:, None, None, None]
    return (flux + random.normal(size=(N, len(BANDS), SIZE, SIZE))).astype(np.float32)
