"""A run with images and an encoder."""

import numpy as np
import pytest

from surveys.encoded import BANDS, SIZE, galaxies, write_encoder
from tidalkin import config
from tidalkin.images.store import ImageStore, Shard


@pytest.fixture
def run(tmp_path):
    """A folder with the images of 20 galaxies and an encoder.

    The shards hold 8 galaxies; 105 and 119 have no good image.
    """
    images = config.Images(size=SIZE, shard_size=8, chunk_size=4)
    store = ImageStore.create(tmp_path / "images.zarr", objects=20, bands=BANDS, images=images)
    flux, good_fraction, ids = galaxies(20), np.ones((20, len(BANDS)), np.float32), np.arange(100, 120)
    flux[[5, 19]], good_fraction[[5, 19], 1] = np.nan, 0.1
    for shard in range(3):
        rows = slice(shard * 8, min(shard * 8 + 8, 20))
        ones = np.ones((len(ids[rows]), len(BANDS)), np.float32)
        store.write(shard, Shard(flux[rows], ones, ones, good_fraction[rows], ids[rows]))
    write_encoder(tmp_path / "encoder.pt")
    return tmp_path
