"""The methods that are compared, and their vectors."""

from __future__ import annotations

import numpy as np
import pytest

from surveys.labelled import FEW, catalog_of, vectors_of
from tidalkin.errors import TidalkinError
from tidalkin.evaluation.baselines import write_vectors
from tidalkin.evaluation.evaluate import evaluate
from tidalkin.evaluation.methods import BASELINES, MethodVectors, read_embeddings, read_methods


def test_a_method_that_knows_too_few_labelled_galaxies_is_refused():
    catalog = catalog_of(30, 30)
    vectors = vectors_of(catalog, 1.0)
    few = MethodVectors(vectors.object_id[:12], vectors.vectors[:12])
    with pytest.raises(TidalkinError, match="12 galaxies labelled with a feature and 0 labelled 'none'"):
        evaluate({"encoder": vectors, "morphology": few}, catalog, FEW)


def test_vectors_that_are_no_numbers_are_refused_by_the_name_of_their_method():
    catalog = catalog_of(20, 20)
    vectors = vectors_of(catalog, 1.0)
    vectors.vectors[3, 0] = np.nan
    with pytest.raises(TidalkinError, match="'pca'"):
        evaluate({"encoder": vectors_of(catalog, 1.0), "pca": vectors}, catalog, FEW)


def test_of_the_embeddings_only_the_wanted_galaxies_are_read(tmp_path):
    for shard, ids in (("00000", [4, 9, 2]), ("00001", [7, 1])):
        np.save(tmp_path / f"{shard}.npy", np.array(ids, np.float16)[:, None] * np.ones((1, 3), np.float16))
        np.save(tmp_path / f"{shard}.ids.npy", np.array(ids))
    files = [tmp_path / "00000.npy", tmp_path / "00001.npy"]
    read = read_embeddings(files, [file.with_suffix(".ids.npy") for file in files], np.array([1, 2, 3, 9]))
    assert read.object_id.tolist() == [9, 2, 1]
    assert read.vectors[:, 0].tolist() == [9, 2, 1]
    assert read.vectors.dtype == np.float32


def test_a_baseline_comes_with_its_probes_and_the_encoder_with_its_debris_score(tmp_path):
    ids = np.arange(3)
    np.save(tmp_path / "0.npy", np.ones((3, 2)))
    np.save(tmp_path / "0.ids.npy", ids)
    baselines = [tmp_path / f"{baseline.name}.npz" for baseline in BASELINES]
    for path in baselines:
        write_vectors(path, ids, np.ones((3, 2)))
    methods = read_methods([tmp_path / "0.npy"], [tmp_path / "0.ids.npy"], baselines, ids, debris_weight=2.0)
    assert list(methods) == ["encoder", "random", "pca", "morphology"]
    assert {name: known.debris_weight for name, known in methods.items() if known.debris_weight} == {"encoder": 2.0}
    assert {name: known.probes for name, known in methods.items() if len(known.probes) > 1} == {
        "morphology": ("linear", "forest")
    }
