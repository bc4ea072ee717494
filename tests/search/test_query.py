"""Searches by id, set and position, and what they refuse."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from surveys.small_run import find, unit, vector_of
from tidalkin.catalog.read import write_catalog
from tidalkin.config import Embedding
from tidalkin.embedding.whitening import fit_whitening
from tidalkin.errors import TidalkinError
from tidalkin.search.files import RunFiles
from tidalkin.search.objects import catalog_rows


def direction_to(files, object_id, debris_weight):
    """Return the direction of one example; a debris score of 1 has length 0.2."""
    likeness = (1 + 1 / 51) * unit(vector_of(files, object_id)[:-1])
    return unit(np.append(likeness, debris_weight / 0.2))


def test_one_example_is_compared_by_cosine_and_not_in_the_answer(files):
    found = find(files, k=58, debris_weight=0, like=[1007]).neighbours.to_pandas()
    assert set(found.object_id) == set(range(1000, 1059)) - {1007}
    towards = direction_to(files, 1007, 0.0)
    expected = [vector_of(files, object_id) @ towards for object_id in found.object_id]
    np.testing.assert_allclose(found.similarity, expected, atol=2e-5)
    assert found.similarity.is_monotonic_decreasing
    assert found["rank"].tolist() == list(range(1, 59))
    assert (found.label == np.where(found.object_id % 4 == 0, "shell", "none")).all()
    np.testing.assert_allclose(found.ra, 150 + (found.object_id - 1000) / 59)


def test_a_set_never_finds_its_own_objects(files):
    found = find(files, k=100, like=[1001, 1002, 1003], unlike=[1050]).neighbours
    assert len(found) == 59 - 4
    assert not set(found["object_id"].to_pylist()) & {1001, 1002, 1003, 1050}


def test_the_debris_score_counts_as_its_weight_says(files):
    found = find(files, k=58, debris_weight=9, like=[1007]).neighbours.to_pandas()
    towards = direction_to(files, 1007, 9.0)
    expected = [vector_of(files, object_id) @ towards for object_id in found.object_id]
    np.testing.assert_allclose(found.similarity, expected, atol=2e-5)
    assert found.similarity.is_monotonic_decreasing


def test_with_no_example_the_galaxies_with_most_debris_come_first(files):
    ranking = pd.read_parquet(files.ranking)
    found = find(files, k=7, debris=True)
    assert found.table.column_names == ["rank", "object_id", "ra", "dec", "debris_score", "label"]
    assert found.neighbours["object_id"].to_pylist() == ranking["object_id"].tolist()[:7]
    np.testing.assert_allclose(found.neighbours["debris_score"], ranking["debris_score"][:7], atol=1e-5)
    assert found.neighbours["rank"].to_pylist() == list(range(1, 8))
    assert found.n_searched == len(ranking) == 59
    assert len(find(files, k=100, debris=True).neighbours) == 59


def test_a_training_without_injected_light_has_no_debris_to_rank_by(files, tmp_path):
    plain = replace(files, whitening=tmp_path / "whitening.npz")
    features = np.random.default_rng(1).standard_normal((20, 12)).astype(np.float32)
    fit_whitening(features, Embedding(dimensions=8), "").save(plain.whitening)
    with pytest.raises(TidalkinError, match=r"has no debris score, since training had no injected light: name ex"):
        find(plain, debris=True)


def test_a_missing_ranking_is_named(files, tmp_path):
    with pytest.raises(TidalkinError, match=r"ranking\.parquet: cannot be read .* --forcerun rank"):
        find(replace(files, ranking=tmp_path / "ranking.parquet"), debris=True)


def test_an_unknown_object_is_named(files):
    with pytest.raises(TidalkinError, match=r"object 77 is not in .*catalog\.parquet"):
        find(files, like=[1001, 77])


def test_an_object_without_embedding_is_named_as_such(files):
    with pytest.raises(TidalkinError, match="object 1059 has no embedding, since too much of its image is missing"):
        find(files, like=[1059])


def test_a_position_means_the_galaxy_there(files):
    there = catalog_rows(files.catalog, [1030]).to_pylist()[0]
    at_position = find(files, position=(there["ra"], there["dec"] + 1 / 3600))
    assert at_position.like["object_id"].to_pylist() == [1030]
    assert at_position.neighbours.equals(find(files, like=[1030]).neighbours)


def test_a_position_without_a_galaxy_names_the_nearest_and_its_distance(files):
    there = catalog_rows(files.catalog, [1030]).to_pylist()[0]
    with pytest.raises(TidalkinError, match=r"within 2 arcsec.*the nearest, 1030, is 7\.2 arcsec away"):
        find(files, position=(there["ra"], there["dec"] + 0.002))


def test_a_counter_example_at_the_position_is_a_contradiction(files):
    there = catalog_rows(files.catalog, [1030]).to_pylist()[0]
    with pytest.raises(TidalkinError, match="object 1030 is both"):
        find(files, position=(there["ra"], there["dec"]), unlike=[1030])


def test_a_catalog_that_lost_an_object_is_refused(files, tmp_path):
    other = RunFiles(tmp_path / "catalog.parquet", *list(vars(files).values())[1:])
    write_catalog(pd.read_parquet(files.catalog).iloc[:50], other.catalog)
    with pytest.raises(TidalkinError, match="lacks object 105"):
        find(other, k=60, like=[1001])
