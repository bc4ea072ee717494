"""Real HSC pixels through the whole workflow: folder source, store, training, embeddings, index, mosaic."""

from __future__ import annotations

import copy

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import zarr
from astropy.io import fits

from surveys.tiny import TINY


@pytest.mark.slow
def test_real_hsc_images_become_a_mosaic_of_look_alikes(real_hsc_cutouts, snakemake, tmp_path):
    catalog = pd.read_csv(real_hsc_cutouts / "catalog.csv")
    query = int(catalog.sort_values("width").object_id.iloc[-1])
    config = copy.deepcopy(TINY)
    config["catalog"] = {"source": "file", "path": str(real_hsc_cutouts / "catalog.csv"), "chunk_size": 40}
    config["cutouts"] = {"source": "folder", "folder": {"path": str(real_hsc_cutouts / "cutouts")}}
    config["images"] = {"size": 64, "shard_size": 64, "chunk_size": 16, "bad_mask_bits": [0, 1, 8]}
    config["embedding"] = {"dimensions": 16, "symmetries": 2, "minimum_good_fraction": 0.05}
    config["training"] |= {"minimum_good_fraction": 0.05}
    config["search"] = {"k": 8, "queries": {"large": {"like": [query]}}}
    config["evaluation"] = {"enabled": False}
    snakemake(tmp_path, config=config)

    results = tmp_path / "results" / "tiny"
    ledger = pd.concat(map(pd.read_parquet, sorted((results / "cutouts").glob("*.ledger.parquet"))))
    assert (ledger.status == "ok").all()
    store = zarr.open_group(results / "images.zarr", mode="r")
    flux = store["flux"][:]
    assert flux.shape == (len(catalog), 5, 64, 64)
    # The catalog's positions are the middles of the images.
    row = int(np.flatnonzero(store["object_id"][:] == query)[0])
    counts = fits.getdata(real_hsc_cutouts / "cutouts" / f"{query}-HSC-I.fits", "IMAGE")
    y, x = (np.array(counts.shape) - 64) // 2
    middle = counts[y : y + 64, x : x + 64] * 10 ** (0.4 * (31.4 - 27.0))
    np.testing.assert_allclose(flux[row, 2], middle, rtol=1e-5)
    neighbours = pd.read_csv(results / "search" / "large" / "neighbours.csv", comment="#")
    assert len(neighbours) == 8
    assert query not in set(neighbours.object_id)
    assert set(neighbours.object_id) < set(catalog.object_id)
    mosaic = matplotlib.image.imread(results / "search" / "large" / "mosaic.png")
    assert mosaic[..., :3].std() > 0.05
