"""Completeness by injection and recovery."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.image import imread

from surveys.encoded import BANDS, CPU, NETWORK, SETTINGS, SIGMA, SIZE, STRETCH, an_encoder, galaxies, write_encoder
from tidalkin.config import Completeness, Images
from tidalkin.embedding.features import encode
from tidalkin.errors import TidalkinError
from tidalkin.evaluation.completeness import (
    completeness_table,
    half_crossing,
    measure_completeness,
    write_completeness,
)
from tidalkin.figures.completeness import draw_completeness
from tidalkin.images.store import ImageStore, Shard
from tidalkin.model.checkpoint import load_encoder, save_encoder
from tidalkin.model.heads import DebrisMap
from tidalkin.search.ranking import brightest_mean

N = 30
FEW = Completeness(galaxies=12)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """30 galaxies in two shards, with the debris maps of a random encoder."""
    folder = tmp_path_factory.mktemp("run")
    encoder = an_encoder()
    torch.manual_seed(1)
    debris_map = DebrisMap(encoder.encoder.stage_channels)
    save_encoder(
        *(folder / "encoder.pt", encoder.encoder),
        debris_map=debris_map,
        bands=BANDS,
        sigma=SIGMA,
        stretch=STRETCH,
        settings=NETWORK,
        image_size=SIZE,
        config_digest="test",
    )
    store = ImageStore.create(
        folder / "images.zarr", objects=N, bands=BANDS, images=Images(size=SIZE, shard_size=16, chunk_size=8)
    )
    flux, ids, loaded = galaxies(N), 1000 - np.arange(N), load_encoder(folder / "encoder.pt")
    files = {"debris_maps": [], "ids": []}
    for shard in range(2):
        rows = store.rows_of(shard)
        noise = np.tile(SIGMA, (len(ids[rows]), 1))
        store.write(shard, Shard(flux[rows], noise, 0.7 * noise / noise, noise / noise, ids[rows]))
        files["debris_maps"].append(folder / f"{shard}.debris_map.npy")
        files["ids"].append(folder / f"{shard}.ids.npy")
        np.save(files["debris_maps"][-1], encode(loaded, flux[rows], SETTINGS, CPU).debris_map.astype(np.float16))
        np.save(files["ids"][-1], ids[rows])
    return folder, files


def measured(run, settings=FEW, **changes):
    folder, files = run
    options = {"settings": settings, "embedding": SETTINGS, "seed": 1, "compute": CPU} | changes
    return measure_completeness(folder / "images.zarr", folder / "encoder.pt", **files, **options)


def test_light_too_faint_to_matter_leaves_every_galaxy_at_its_place(run):
    found = measured(run, FEW.model_copy(update={"surface_brightness": (44.0, 45.0)}))
    injections = found.injections
    assert (injections["rank_with"] == injections["rank_without"]).all()
    assert (found.table["completeness"] == 0).all()
    assert {limit.meaning for limit in found.limits} == {"under 50 % even at 44.0 mag/arcsec²"}


def test_the_place_without_a_feature_is_that_of_the_ranking(run):
    _, files = run
    found = measured(run)
    raw = brightest_mean(np.concatenate([np.load(file) for file in files["debris_maps"]]))
    ids = np.concatenate([np.load(file) for file in files["ids"]])
    rank = pd.Series(-raw, index=ids).rank(method="min").astype(int)  # scores in bfloat16 can be equal
    assert (rank[found.injections["object_id"]].to_numpy() == found.injections["rank_without"]).all()
    assert found.injections["rank_with"].between(1, N).all()


def test_bright_light_moves_galaxies_in_the_ranking(run):
    injections = measured(run, FEW.model_copy(update={"surface_brightness": (20.0, 21.0)})).injections
    assert (injections["rank_with"] != injections["rank_without"]).mean() > 0.5


def test_the_same_seed_gives_the_same_result(run):
    one, two, other = measured(run), measured(run), measured(run, seed=2)
    pd.testing.assert_frame_equal(one.injections, two.injections)
    assert one.limits == two.limits
    assert set(one.injections["object_id"]) != set(other.injections["object_id"])


def test_all_galaxies_of_a_small_survey_get_a_feature(run):
    found = measured(run, Completeness(galaxies=1000))
    assert sorted(found.injections["object_id"]) == sorted(1000 - np.arange(N))
    # Of the whole survey, exactly 5 % are within its first 5 %.
    within = found.without_feature.set_index("share")["n_within"]
    assert within.to_dict() == {0.01: 1, 0.05: 2, 0.2: 6}


def test_the_files_hold_tables_and_limits(run, tmp_path):
    found = measured(run)
    names = [tmp_path / name for name in ("table.csv", "injections.csv", "summary.json")]
    write_completeness(found, *names)
    assert len(pd.read_csv(names[0])) == len(found.table)
    assert len(pd.read_csv(names[1])) == FEW.galaxies
    summary = json.loads(names[2].read_text())
    assert summary["galaxies_in_ranking"] == N
    assert len(summary["limits"]) == 3 * (1 + len(FEW.kinds) + 3)


@pytest.mark.parametrize("kinds", [("stream", "shell", "tail", "fan"), ("shell",)])
def test_the_picture_is_drawn_for_any_kinds(run, tmp_path, kinds):
    found = measured(run, FEW.model_copy(update={"kinds": kinds}))
    draw_completeness(found.table, pd.DataFrame(found.limits), tmp_path / "completeness.png")
    assert imread(tmp_path / "completeness.png").std() > 0.05


def test_an_encoder_without_a_debris_map_is_refused(run, tmp_path):
    folder, files = run
    plain = write_encoder(tmp_path / "plain.pt")
    with pytest.raises(TidalkinError, match=r"trained without injected light .* completeness.enabled"):
        measure_completeness(
            *(folder / "images.zarr", plain), **files, settings=FEW, embedding=SETTINGS, seed=1, compute=CPU
        )


def places(rank_without, rank_with, brightness=25.2):
    ranks = {"rank_without": rank_without, "rank_with": rank_with}
    return pd.DataFrame({"kind": "shell", "radius_arcsec": 3.0, "surface_brightness": brightness} | ranks)


def table_of(injections):
    """Compute the completeness of all features in a survey of 100 galaxies."""
    table = completeness_table(injections, (24.0, 28.0), 100)
    return table[table["by"] == "all"].set_index("share")


def test_a_galaxy_that_was_among_the_first_without_a_feature_does_not_count():
    table = table_of(places([3, 60, 70], [1, 4, 40]))
    assert table.loc[0.05, ["n_injected", "n_recovered"]].tolist() == [2, 1]
    assert table.loc[0.01, ["n_injected", "n_recovered"]].tolist() == [3, 1]
    assert table.loc[0.05, "lower"] < 0.5 < table.loc[0.05, "upper"]


def test_the_edges_of_the_range_belong_to_its_bins():
    assert table_of(places([50, 60], [1, 2], [24.0, 28.0])).groupby("share")["n_injected"].sum().tolist() == [2, 2, 2]


def test_features_far_from_the_centre_are_counted_apart_from_near_ones():
    injections = places(50, [1, 1, 1, 40, 40, 40]).assign(radius_arcsec=[6.0, 7.0, 8.0, 1.0, 2.0, 3.0])
    table = completeness_table(injections, (24.0, 28.0), 100).set_index(["share", "by", "group"])
    assert table.loc[(0.05, "radius", "1.0 to 2.0 arcsec"), "completeness"] == 0
    assert table.loc[(0.05, "radius", "7.0 to 8.0 arcsec"), "completeness"] == 1
    assert table.loc[(0.05, "all", "all"), "completeness"] == 0.5


def test_the_limit_is_where_half_of_the_features_are_recovered():
    random = np.random.default_rng(1)
    brightness = random.uniform(24, 28, 20_000)
    recovered = random.random(brightness.size) < 1 / (1 + np.exp(3 * (brightness - 26.3)))
    edges = np.linspace(24, 28, 10)
    assert half_crossing(np.digitize(brightness, edges[1:-1]), recovered, edges) == pytest.approx(26.3, abs=0.05)


@pytest.mark.parametrize(("recovered", "expected"), [(True, np.inf), (False, -np.inf)])
def test_a_completeness_that_does_not_cross_one_half_has_no_limit(recovered, expected):
    assert half_crossing(np.arange(3), np.full(3, recovered), np.linspace(24, 27, 4)) == expected
