"""Single images are those of the store."""

import numpy as np
import pytest

from tidalkin.config import Images
from tidalkin.errors import TidalkinError
from tidalkin.explorer.single_images import SingleImages
from tidalkin.images.store import ImageStore, Shard


@pytest.fixture
def store(tmp_path):
    """A store of three shards of three chunks, the last of them cut short."""
    images = Images(size=48, shard_size=24, chunk_size=8)
    store = ImageStore.create(tmp_path / "images.zarr", objects=60, bands=("g", "r", "i"), images=images)
    random = np.random.default_rng(1)
    for shard in range(3):
        n = len(range(60)[store.rows_of(shard)])
        ones = np.ones((n, 3), np.float32)
        flux = random.standard_normal((n, 3, 48, 48)).astype(np.float32)
        flux[0, 0, 0] = np.nan
        store.write(shard, Shard(flux, ones, ones, ones, np.arange(n) + 24 * shard))
    return ImageStore.open(tmp_path / "images.zarr")


def test_every_image_is_that_of_the_store(store):
    images = SingleImages(store)
    for row in range(60):
        np.testing.assert_array_equal(images.read(row), store.flux[row])


def test_a_lost_or_cut_shard_is_named(store):
    store.files_of(1)[0].unlink()
    store.files_of(2)[0].write_bytes(b"cut")
    images = SingleImages(store)
    for row in (30, 50):
        with pytest.raises(TidalkinError, match="is lost or damaged"):
            images.read(row)
