"""The map: its file, its points and selections."""

import io
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from servers.explorer import served
from surveys.vectors import unit_vectors, write_shards
from tidalkin.errors import TidalkinError
from tidalkin.explorer.projection import write_map


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    """Shards of two clusters of vectors."""
    folder = tmp_path_factory.mktemp("clusters")
    noise = unit_vectors(300, dimensions=8)
    vectors = 0.2 * noise + np.eye(8)[np.arange(300) % 2]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return write_shards(folder, vectors.astype(np.float32))


def test_a_map_keeps_clusters_apart_and_is_the_same_each_time(clusters, tmp_path):
    for name in ("map", "again"):
        write_map(clusters, tmp_path / f"{name}.parquet", "pca", seed=1)
    assert (tmp_path / "map.parquet").read_bytes() == (tmp_path / "again.parquet").read_bytes()
    table = pd.read_parquet(tmp_path / "map.parquet")
    assert table["object_id"].tolist() == list(range(1000, 1300))
    places = table[["x", "y"]].to_numpy()
    assert places.min() >= 0
    assert places.max() <= 1
    even, odd = places[::2].mean(axis=0), places[1::2].mean(axis=0)
    assert np.linalg.norm(even - odd) > 3 * places[::2].std(axis=0).max()


def test_umap_places_those_it_was_not_fitted_on(clusters, tmp_path, monkeypatch):
    pytest.importorskip("umap", reason="umap-learn is not installed")
    monkeypatch.setattr("tidalkin.explorer.projection.MOST_FITTED", 200)
    write_map(clusters, tmp_path / "map.parquet", "umap", seed=1)
    places = pd.read_parquet(tmp_path / "map.parquet")[["x", "y"]].to_numpy()
    assert np.isfinite(places).all()
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1) + 9 * np.eye(300)
    assert (distance.argmin(axis=1) % 2 == np.arange(300) % 2).mean() > 0.95


@pytest.fixture(scope="module")
def mapped(explored_run, tmp_path_factory):
    """A client of a run with a map."""
    run = tmp_path_factory.mktemp("mapped") / "results" / "small"
    shutil.copytree(explored_run, run)
    write_map([run / "embeddings" / "00000.npy"], run / "map.parquet", "pca", seed=1)
    with served(run) as client:
        yield client, pd.read_parquet(run / "map.parquet")


def test_points_and_colours_belong_together(mapped):
    client, table = mapped
    places = np.frombuffer(client.get("/api/map/points").content, "<u2").reshape(-1, 2) / 65535
    np.testing.assert_allclose(places, table[["x", "y"]], atol=1e-4)
    shades = np.frombuffer(client.get("/api/map/colours", params={"by": "magnitude"}).content, np.uint8)
    assert (np.diff(shades.astype(int)) >= 0).all()
    assert "debris score" in client.get("/api/meta").json()["map_colours"]
    assert client.get("/api/map/colours", params={"by": "remark"}).status_code == 400


@pytest.mark.parametrize("path", ["points?", "colours?by=label", "density.png?by=label"])
def test_a_browser_keeps_the_map_only_under_an_address_of_this_run(mapped, path):
    client, _ = mapped
    digest = client.get("/api/meta").json()["digest"]
    for given, is_kept in ((digest, True), ("another run", False)):
        answer = client.get(f"/api/map/{path}&v={given}")
        assert ("immutable" in answer.headers["cache-control"]) == is_kept


def test_the_digest_changes_with_the_run_and_its_map(explored_run, tmp_path):
    digests = set()
    for name in ("first", "second"):
        run = tmp_path / name / "results" / "small"
        shutil.copytree(explored_run, run)
        for seed in (1, 2):
            write_map([run / "embeddings" / "00000.npy"], run / "map.parquet", "pca", seed=seed)
            with served(run) as client:
                digests.add(client.get("/api/meta").json()["digest"])
    assert len(digests) == 4


def test_a_density_picture_shows_where_galaxies_are(mapped):
    client, table = mapped
    picture = np.asarray(Image.open(io.BytesIO(client.get("/api/map/density.png", params={"by": "label"}).content)))
    assert 10 * len(table) < (picture.max(axis=-1) > 40).sum() <= 25 * len(table)  # few galaxies are large dots
    place = table.iloc[7]
    assert picture[599 - int(place["y"] * 599), int(place["x"] * 799)].max() > 0


def test_a_selection_holds_the_galaxies_inside_its_line(mapped):
    client, table = mapped
    corners = [0.2, 0.2, 0.8, 0.2, 0.8, 0.8, 0.2, 0.8]
    found = client.get("/api/galaxies", params={"start": "lasso", "polygon": corners, "k": 100}).json()
    inside = table[table["x"].between(0.2, 0.8) & table["y"].between(0.2, 0.8)]
    assert {int(galaxy["id"]) for galaxy in found["galaxies"]} == set(inside["object_id"])
    scores = [galaxy["score"] for galaxy in found["galaxies"]]
    assert scores == sorted(scores, reverse=True)
    exported = client.get("/api/export.csv", params={"start": "lasso", "polygon": corners, "k": 100}).text
    assert len(exported.splitlines()) == 1 + len(inside)


def test_the_galaxy_at_a_place_is_named(mapped):
    client, table = mapped
    place = table.iloc[11]
    answer = client.get("/api/map/nearest", params={"x": place["x"], "y": place["y"]}).json()
    assert int(answer["id"]) == place["object_id"]


def test_a_line_of_two_corners_selects_nothing(mapped):
    client, _ = mapped
    answer = client.get("/api/galaxies", params={"start": "lasso", "polygon": [0, 0, 1, 1]})
    assert "fewer than three corners" in answer.json()["error"]


def test_a_run_without_a_map_says_so(client):
    assert client.get("/api/meta").json()["has_sky_map"] is False
    answer = client.get("/api/map/points")
    assert "snakemake --forcerun map" in answer.json()["error"]


def test_umap_that_is_not_installed_is_one_sentence(clusters, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    with pytest.raises(TidalkinError, match="umap-learn is not installed"):
        write_map(clusters, tmp_path / "map.parquet", "umap", seed=1)
