"""The ranking of a whole survey by its debris score."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from tidalkin.config import Embedding, Images
from tidalkin.embedding.whitening import fit_whitening
from tidalkin.errors import TidalkinError
from tidalkin.images.store import ImageStore, Shard
from tidalkin.model.heads import brightest_mean as brightest_mean_of_tensors
from tidalkin.search.ranking import brightest_mean, draw_ranking, rank_survey

CELLS = 10


@pytest.fixture
def run(tmp_path):
    """Two shards of three galaxies, whose debris grows with object_id, except the last."""
    catalog = pd.DataFrame({"object_id": np.arange(6), "ra": 150.0 + np.arange(6), "dec": 2.0})
    catalog["label"] = ["none", None, "none", "shell", "stream", "none"]
    catalog.to_parquet(tmp_path / "catalog.parquet")
    store = ImageStore.create(tmp_path / "images.zarr", objects=6, bands="gri", images=Images(size=20, shard_size=32))
    ones = np.ones((6, 3), np.float32)
    flux = np.random.default_rng(1).normal(size=(6, 3, 20, 20)).astype(np.float32)
    store.write(0, Shard(flux, ones, ones, ones, np.arange(6)))
    maps = np.full((6, CELLS, CELLS), -4.0, np.float16)
    for row, height in enumerate([0, 1, 2, 3, 4, -5]):
        maps[row, 2, 2:7] = height
    files = {"debris_maps": [], "ids": []}
    for shard in range(2):
        files["debris_maps"].append(tmp_path / f"{shard}.debris_map.npy")
        files["ids"].append(tmp_path / f"{shard}.ids.npy")
        np.save(files["debris_maps"][-1], maps[3 * shard : 3 * shard + 3])
        np.save(files["ids"][-1], np.arange(3 * shard, 3 * shard + 3))
    features = np.random.default_rng(1).normal(size=(16, 6)).astype(np.float32)
    features[:, -1] = np.linspace(-5, 5, 16)
    fit_whitening(features, Embedding(dimensions=4), "", has_debris_score=True).save(tmp_path / "whitening.npz")
    return tmp_path, files


def rank(folder, files, name="ranking.parquet"):
    return rank_survey(folder / "catalog.parquet", folder / "whitening.npz", **files, ranking=folder / name)


def test_the_galaxies_with_most_debris_come_first(run):
    folder, files = run
    table = rank(folder, files)
    assert table["object_id"].tolist() == [4, 3, 2, 1, 0, 5]
    assert table["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    assert table["ra"].tolist() == [154.0, 153.0, 152.0, 151.0, 150.0, 155.0]
    assert table["label"].tolist()[:2] == ["stream", "shell"]
    assert table["percentile"].iloc[0] == 100
    assert list(pq.read_table(folder / "ranking.parquet").column_names) == list(table)


def test_the_ranking_is_the_same_however_the_shards_are_cut(run):
    folder, files = run
    rank(folder, files, "two.parquet")
    for key in files:
        np.save(folder / f"whole.{key}.npy", np.concatenate([np.load(file) for file in files[key]]))
    whole = {key: [folder / f"whole.{key}.npy"] for key in files}
    rank(folder, whole, "one.parquet")
    assert (folder / "one.parquet").read_bytes() == (folder / "two.parquet").read_bytes()


def test_the_mosaic_outlines_faint_light(run):
    folder, files = run
    table = rank(folder, files)
    draw_ranking(table, folder / "images.zarr", **files, output=folder / "with.png")
    for file in files["debris_maps"]:
        np.save(file, np.full((3, CELLS, CELLS), -9, np.float16))
    draw_ranking(table, folder / "images.zarr", **files, output=folder / "without.png")
    assert not np.array_equal(imread(folder / "with.png"), imread(folder / "without.png"))


def test_a_galaxy_that_the_catalog_lacks_is_named(run):
    folder, files = run
    np.save(files["ids"][1], np.array([3, 77, 5]))
    with pytest.raises(TidalkinError, match=r"lacks object 77, .* --forcerun embed"):
        rank(folder, files)


def test_a_damaged_map_is_named(run):
    folder, files = run
    files["debris_maps"][0].write_bytes(b"")
    with pytest.raises(TidalkinError, match=r"0.debris_map.npy: cannot be read .* --forcerun embed"):
        rank(folder, files)


@given(seed=st.integers(0, 1000), cells=st.integers(2, 16))
def test_training_and_ranking_have_one_score(seed, cells):
    maps = np.random.default_rng(seed).normal(size=(3, cells, cells)).astype(np.float32)
    expected = brightest_mean_of_tensors(torch.from_numpy(maps)[:, None]).numpy()
    np.testing.assert_allclose(brightest_mean(maps), expected, rtol=1e-5, atol=1e-6)


@given(seed=st.integers(0, 1000), cells=st.integers(4, 16))
def test_light_on_the_border_does_not_count(seed, cells):
    maps = np.random.default_rng(seed).normal(size=(3, cells, cells)).astype(np.float32)
    bright = maps.copy()
    bright[:, [0, -1], :] += 10.0
    bright[:, :, [0, -1]] += 10.0
    np.testing.assert_array_equal(brightest_mean(bright), brightest_mean(maps))


def test_the_scores_have_the_scale_of_the_whitening(run):
    folder, files = run
    table = rank(folder, files).set_index("object_id")
    median, scatter = np.load(folder / "whitening.npz")["debris"]
    raw = brightest_mean(np.load(files["debris_maps"][1]))
    np.testing.assert_allclose(table.loc[[3, 4, 5], "debris_score"], (raw - median) / scatter, rtol=1e-5)
