"""A run of 60 galaxies with random images, vectors and maps, and searches of it."""

from pathlib import Path

import numpy as np
import pandas as pd

import published
from tidalkin.catalog.read import write_catalog
from tidalkin.config import Compute, Images, Index, Query
from tidalkin.cutouts.write import write_cutout
from tidalkin.embedding.whitening import fit_whitening
from tidalkin.images.store import ImageStore, Shard
from tidalkin.index.build import build_index
from tidalkin.search.files import RunFiles
from tidalkin.search.outside import CutoutSettings
from tidalkin.search.query import find_similar

BANDS = ("g", "r", "i")
N, SIZE = 60, 16
CUTOUTS = CutoutSettings(
    Images(size=SIZE, shard_size=64, chunk_size=32),
    published.embedding(dimensions=8, symmetries=1),
    Compute(device="cpu"),
)
NANOJANSKY_PER_COUNT = 57.543994


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def write_run(run):
    """Write a run of the galaxies 1000 to 1059, the last without embedding."""
    random = np.random.default_rng(1)
    files = RunFiles.of(run)
    ids = np.arange(N) + 1000
    catalog = pd.DataFrame({"object_id": ids, "ra": np.linspace(150, 151, N), "dec": np.linspace(-2, 2, N)})
    catalog["label"] = np.where(ids % 4 == 0, "shell", "none")
    write_catalog(catalog, files.catalog)
    files.embeddings.mkdir()
    for shard, rows in enumerate((slice(0, 30), slice(30, N - 1))):
        vectors = unit(random.standard_normal((len(ids[rows]), 8)))
        np.save(files.embeddings / f"{shard:05d}.npy", vectors)
        np.save(files.embeddings / f"{shard:05d}.ids.npy", ids[rows])
    build_index([files.embeddings / f"{shard:05d}.npy" for shard in range(2)], Index(queries=5), files.index, seed=1)
    features = random.standard_normal((N, 12)).astype(np.float32)
    fit_whitening(features, published.embedding(dimensions=8), "", has_debris_score=True).save(files.whitening)
    store = ImageStore.create(
        files.images, objects=N, bands=BANDS, images=Images(size=SIZE, shard_size=64, chunk_size=32)
    )
    flux = random.standard_normal((N, 3, SIZE, SIZE)).astype(np.float32)
    flux[:, :, 6:10, 6:10] += 100
    ones = np.ones((N, 3), np.float32)
    store.write(0, Shard(flux, ones, 0.6 * ones, ones, ids))
    write_ranking(files, random)
    return files


def write_ranking(files, random):
    """Write debris maps, and the ranking of the galaxies that have a vector."""
    from tidalkin.search.ranking import rank_survey

    id_files = sorted(files.embeddings.glob("*.ids.npy"))
    map_files = [Path(str(file).replace(".ids.npy", ".debris_map.npy")) for file in id_files]
    for map_file, id_file in zip(map_files, id_files, strict=True):
        np.save(map_file, random.standard_normal((len(np.load(id_file)), 4, 4)).astype(np.float16))
    rank_survey(files.catalog, files.whitening, map_files, id_files, files.ranking)


def find(files, k=5, debris_weight=1.0, **query):
    return find_similar(Query(**query), files, k=k, radius_arcsec=2.0, debris_weight=debris_weight)


def vector_of(files, object_id):
    shard, row = divmod(object_id - 1000, 30)
    return np.load(files.embeddings / f"{shard:05d}.npy")[row]


def write_encoded_run(run):
    """Write a run with a random encoder, and images and vectors that belong together."""
    from tidalkin.embedding.features import embed_shard
    from tidalkin.embedding.sample import whiten
    from tidalkin.model.checkpoint import random_encoder, save_encoder

    files = write_run(run)
    sigma = np.ones(3, np.float32)
    settings = published.network(width=8, projector_size=16, predictor_size=8)
    loaded = random_encoder(BANDS, sigma, stretch=published.stretch(), settings=settings, image_size=SIZE, seed=1)
    save_encoder(
        files.encoder,
        loaded.encoder,
        bands=BANDS,
        sigma=sigma,
        stretch=published.stretch(),
        settings=settings,
        image_size=SIZE,
        config_digest="",
    )
    compute = CUTOUTS.compute
    paths = files.images, files.encoder, files.whitening
    whiten(*paths, settings=CUTOUTS.embedding, augment=published.augment(), seed=1, compute=compute)
    vectors, ids = files.embeddings / "00000.npy", files.embeddings / "00000.ids.npy"
    embed_shard(
        files.images, 0, files.encoder, files.whitening, vectors, ids, settings=CUTOUTS.embedding, compute=compute
    )
    build_index([vectors], Index(queries=5), files.index, seed=1)
    return files


def write_outside(files, folder, object_id, size=SIZE):
    """Write a galaxy of the store as FITS files, one per band."""
    import zarr

    flux = zarr.open_group(files.images, mode="r")["flux"][object_id - 1000]
    for band, image in zip(BANDS, flux, strict=True):
        content = write_cutout(
            image[:size, :size] / NANOJANSKY_PER_COUNT,
            None,
            None,
            band=band,
            ra=1.0,
            dec=1.0,
            fluxmag0=10**10.8,
            mask_planes={},
        )
        (folder / f"mine-{band}.fits").write_bytes(content)
    return str(folder / "mine-{band}.fits")
