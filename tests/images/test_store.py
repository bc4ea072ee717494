"""Tests of the image store."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from tidalkin.config import Images
from tidalkin.errors import TidalkinError
from tidalkin.images.store import STORE_VERSION, ImageStore, Shard

TINY = Images(size=8, shard_size=4, chunk_size=2)


def random_shard(rows, bands=2, size=8, seed=0):
    random = np.random.default_rng(seed)
    flux = random.normal(size=(rows, bands, size, size)).astype(np.float32)
    flux[random.random(flux.shape) < 0.1] = np.nan
    per_band = [random.random((rows, bands)).astype(np.float32) for _ in range(3)]
    return Shard(flux, *per_band, random.integers(-(2**63), 2**63 - 1, rows))


def filled_store(path, objects, images=TINY):
    store = ImageStore.create(path, objects=objects, bands="gr", images=images)
    shards = []
    for shard in range(store.n_shards):
        rows = store.rows_of(shard)
        shards.append(random_shard(rows.stop - rows.start, size=images.size, seed=shard))
        store.write(shard, shards[-1])
    return shards


def test_a_store_says_what_it_holds(tmp_path):
    ImageStore.create(tmp_path / "images.zarr", objects=10, bands=["g", "r"], images=TINY)
    store = ImageStore.open(tmp_path / "images.zarr")
    assert (store.bands, store.size, store.n_objects, store.shard_size, store.n_shards) == (("g", "r"), 8, 10, 4, 3)
    assert [store.rows_of(shard) for shard in range(3)] == [slice(0, 4), slice(4, 8), slice(8, 10)]
    assert store.flux.shape == (10, 2, 8, 8)
    assert store.flux.dtype == np.float32
    assert store.flux.shards == (4, 2, 8, 8)
    assert store.flux.chunks == (2, 2, 8, 8)
    assert store.object_id.dtype == np.int64
    expected = {"tidalkin_store": STORE_VERSION, "bands": ["g", "r"], "size": 8, "flux_unit": "nJy"}
    expected |= {"zero_point_ab": 31.4, "pixel_scale_arcsec": 0.168}
    assert expected.items() <= store.group.attrs.asdict().items()
    assert {"tidalkin_version", "config_digest"} <= set(store.group.attrs)


@given(objects=st.integers(1, 20), chunk=st.integers(1, 3), chunks_per_shard=st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_every_shard_comes_back_as_it_was_written(tmp_path_factory, objects, chunk, chunks_per_shard):
    path = tmp_path_factory.mktemp("store") / "images.zarr"
    written = filled_store(path, objects, Images(size=8, shard_size=chunk * chunks_per_shard, chunk_size=chunk))
    store = ImageStore.open(path)
    assert store.n_shards == len(written)
    for shard, expected in enumerate(written):
        found = store.read(shard)
        for name, values in vars(expected).items():
            np.testing.assert_array_equal(getattr(found, name), values)
            assert getattr(found, name).dtype == values.dtype


def test_a_shard_is_one_file_of_each_array_even_without_any_image(tmp_path):
    store = ImageStore.create(tmp_path, objects=6, bands="gr", images=TINY)
    missing = np.full((4, 2), np.nan, np.float32)
    nothing = Shard(np.full((4, 2, 8, 8), np.nan, np.float32), missing, missing, missing, np.zeros(4, np.int64))
    store.write(0, nothing)
    files = {path for path in tmp_path.rglob("*") if path.is_file() and path.name != "zarr.json"}
    assert files == set(ImageStore.open(tmp_path).files_of(0))


def test_equal_content_gives_equal_bytes(tmp_path):
    for name in ("one", "two"):
        filled_store(tmp_path / name, 10)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) == 6 + 3 * 5
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


def test_no_store_is_refused_by_name(tmp_path):
    with pytest.raises(TidalkinError, match=r"images\.zarr: no image store is here: make it again with"):
        ImageStore.open(tmp_path / "images.zarr")


def test_a_store_of_another_version_is_refused(tmp_path):
    ImageStore.create(tmp_path, objects=3, bands="g", images=TINY).group.attrs["tidalkin_store"] = 99
    with pytest.raises(TidalkinError, match="is an image store of version 99, but this tidalkin reads version 1"):
        ImageStore.open(tmp_path)


def test_a_zarr_store_of_somebody_else_is_refused(tmp_path):
    zarr.create_group(tmp_path / "group")
    zarr.create_array(tmp_path / "array", shape=(3,), dtype="f4")
    zarr.create_group(tmp_path / "old", zarr_format=2)
    for name in ("group", "array", "old"):
        with pytest.raises(TidalkinError, match=f"{name}: is .*not an image store of tidalkin"):
            ImageStore.open(tmp_path / name)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"zarr_format": 3}', '{"zarr_format": 4, "node_type": "group"}'])
def test_damaged_metadata_are_refused(tmp_path, content):
    ImageStore.create(tmp_path, objects=3, bands="g", images=TINY)
    (tmp_path / "zarr.json").write_text(content)
    with pytest.raises(TidalkinError, match="not an image store of tidalkin"):
        ImageStore.open(tmp_path)


def test_damaged_metadata_of_an_array_are_refused(tmp_path):
    ImageStore.create(tmp_path, objects=3, bands="g", images=TINY)
    metadata = json.loads((tmp_path / "flux" / "zarr.json").read_text())
    (tmp_path / "flux" / "zarr.json").write_text(json.dumps({**metadata, "data_type": "float33"}))
    with pytest.raises(TidalkinError, match="not an image store of tidalkin"):
        ImageStore.open(tmp_path)


def test_a_store_that_lacks_an_array_is_refused(tmp_path):
    ImageStore.create(tmp_path, objects=3, bands="g", images=TINY)
    shutil.rmtree(tmp_path / "sky_sigma")
    with pytest.raises(TidalkinError, match="lacks the array `sky_sigma`"):
        ImageStore.open(tmp_path)


def test_a_store_that_does_not_name_its_bands_is_refused(tmp_path):
    store = ImageStore.create(tmp_path, objects=3, bands="g", images=TINY)
    del store.group.attrs["bands"]
    with pytest.raises(TidalkinError, match="lacks the attribute `bands`: make it again"):
        ImageStore.open(tmp_path)


def test_good_rows_are_those_with_enough_good_pixels_in_every_band(tmp_path):
    store = ImageStore.create(tmp_path, objects=3, bands="gr", images=TINY)
    content = Shard(
        np.zeros((3, 2, 8, 8), np.float32),
        *2 * [np.ones((3, 2), np.float32)],
        np.float32([[1, 0.6], [0.4, 1], [0.5, 0.5]]),
        np.arange(3),
    )
    store.write(0, content)
    assert store.good_rows(0.5).tolist() == [0, 2]


@pytest.mark.parametrize("chosen", [[0], [1, 2], [0, 3], [0, 1, 2, 3], []])
def test_some_rows_of_a_shard_are_the_same_as_among_all(tmp_path, chosen):
    filled_store(tmp_path, 10)
    store, rows = ImageStore.open(tmp_path), np.array(chosen, np.int64)
    some, among_all = store.read(1, rows), store.read(1).rows(rows)
    for name, array in vars(some).items():
        np.testing.assert_array_equal(array, getattr(among_all, name))


def test_the_rows_of_a_short_last_shard_are_read(tmp_path):
    written = filled_store(tmp_path, 9, Images(size=8, shard_size=8, chunk_size=2))
    some = ImageStore.open(tmp_path).read(1, np.array([0]))
    np.testing.assert_array_equal(some.flux, written[1].flux)


def test_some_rows_of_a_shard_are_read_without_the_other_chunks(tmp_path):
    written = filled_store(tmp_path, 4)
    file = ImageStore.open(tmp_path).files_of(0)[0]
    content = bytearray(file.read_bytes())
    content[10] ^= 16  # in the images of rows 0 and 1
    file.write_bytes(content)
    store = ImageStore.open(tmp_path)
    np.testing.assert_array_equal(store.read(0, np.array([3])).flux, written[0].flux[[3]])
    with pytest.raises(TidalkinError, match="shard 0 is damaged"):
        store.read(0, np.array([1]))


@pytest.mark.parametrize("name", ["flux", "object_id", "sky_sigma"])
def test_a_lost_file_is_told_from_missing_pixels(tmp_path, name):
    filled_store(tmp_path, 10)
    lost = next(file for file in ImageStore.open(tmp_path).files_of(1) if name in file.parts)
    lost.unlink()
    with pytest.raises(TidalkinError, match=f"{name}/c/1.*is lost or empty"):
        ImageStore.open(tmp_path).read(1)
    ImageStore.open(tmp_path).read(0)


@pytest.mark.parametrize("name", ["flux", "object_id", "sky_sigma"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied"])
def test_a_damaged_file_is_noticed(tmp_path, name, damage):
    filled_store(tmp_path, 10)
    file = next(file for file in ImageStore.open(tmp_path).files_of(1) if name in file.parts)
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 16
    file.write_bytes({"flipped": content, "cut": content[:-7], "emptied": b""}[damage])
    with pytest.raises(TidalkinError, match=r"shard 1 is damaged|is lost or empty"):
        ImageStore.open(tmp_path).read(1)
