"""The ranking of a whole survey by its debris score."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from tidalkin.config import Images
from tidalkin.errors import TidalkinError
from tidalkin.images.store import ImageStore, Shard
from tidalkin.model.heads import brightest_mean as brightest_mean_of_tensors
from tidalkin.search.ranking import brightest_mean, debris_score, draw_ranking, rank_survey

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
    return tmp_path, files


def test_the_galaxies_with_most_debris_come_first(run):
    folder, files = run
    table = rank_survey(folder / "catalog.parquet", **files, ranking=folder / "ranking.parquet")
    assert table["object_id"].tolist() == [4, 3, 2, 1, 0, 5]
    assert table["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    assert table["ra"].tolist() == [154.0, 153.0, 152.0, 151.0, 150.0, 155.0]
    assert table["label"].tolist()[:2] == ["stream", "shell"]
    assert table["percentile"].iloc[0] == 100
    assert list(pq.read_table(folder / "ranking.parquet").column_names) == list(table)


def test_the_ranking_is_the_same_however_the_shards_are_cut(run):
    folder, files = run
    rank_survey(folder / "catalog.parquet", **files, ranking=folder / "two.parquet")
    for key in files:
        np.save(folder / f"whole.{key}.npy", np.concatenate([np.load(file) for file in files[key]]))
    whole = {key: [folder / f"whole.{key}.npy"] for key in files}
    rank_survey(folder / "catalog.parquet", **whole, ranking=folder / "one.parquet")
    assert (folder / "one.parquet").read_bytes() == (folder / "two.parquet").read_bytes()


def test_the_mosaic_outlines_faint_light(run):
    folder, files = run
    table = rank_survey(folder / "catalog.parquet", **files, ranking=folder / "ranking.parquet")
    draw_ranking(table, folder / "images.zarr", **files, output=folder / "with.png")
    for file in files["debris_maps"]:
        np.save(file, np.full((3, CELLS, CELLS), -9, np.float16))
    draw_ranking(table, folder / "images.zarr", **files, output=folder / "without.png")
    assert not np.array_equal(imread(folder / "with.png"), imread(folder / "without.png"))


def test_a_galaxy_that_the_catalog_lacks_is_named(run):
    folder, files = run
    np.save(files["ids"][1], np.array([3, 77, 5]))
    with pytest.raises(TidalkinError, match=r"lacks object 77, .* --forcerun embed"):
        rank_survey(folder / "catalog.parquet", **files, ranking=folder / "ranking.parquet")


def test_a_damaged_map_is_named(run):
    folder, files = run
    files["debris_maps"][0].write_bytes(b"")
    with pytest.raises(TidalkinError, match=r"0.debris_map.npy: cannot be read .* --forcerun embed"):
        rank_survey(folder / "catalog.parquet", **files, ranking=folder / "ranking.parquet")


@given(seed=st.integers(0, 1000), cells=st.integers(2, 16))
def test_training_and_ranking_have_one_score(seed, cells):
    maps = np.random.default_rng(seed).normal(size=(3, cells, cells)).astype(np.float32)
    expected = brightest_mean_of_tensors(torch.from_numpy(maps)[:, None]).numpy()
    np.testing.assert_allclose(brightest_mean(maps), expected, rtol=1e-5, atol=1e-6)


def test_one_absurd_galaxy_does_not_change_the_scores_of_others():
    raw = np.random.default_rng(1).normal(size=101).astype(np.float32)
    absurd = raw.copy()
    absurd[raw.argmax()] = 1e6
    others = np.arange(101) != raw.argmax()
    np.testing.assert_allclose(debris_score(absurd)[others], debris_score(raw)[others], rtol=1e-5)


def test_equal_galaxies_have_finite_scores():
    assert (debris_score(np.full(5, 2.0, np.float32)) == 0).all()
