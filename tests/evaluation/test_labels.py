"""The labelled galaxies and the vectors of each method."""

from __future__ import annotations

import numpy as np
import pytest

from surveys.labelled import FEW, catalog_of, vectors_of
from tidalkin.errors import TidalkinError
from tidalkin.evaluation.evaluate import evaluate
from tidalkin.evaluation.labels import Labels, MethodVectors, labelled_galaxies, read_embeddings


def test_galaxies_without_a_label_do_not_count():
    catalog = catalog_of(12, 12).astype({"label": object})
    catalog.loc[0, "label"] = None
    catalog.loc[1, "label"] = "  "
    labels = labelled_galaxies(catalog, "none")
    assert isinstance(labels, Labels)
    assert labels.positive.sum() == 10
    assert not set(catalog.loc[:1, "object_id"]) & set(labels.object_id)


def test_a_catalog_without_labels_is_refused_in_a_sentence():
    with pytest.raises(TidalkinError, match=r"no column `label`.*evaluation.enabled"):
        labelled_galaxies(catalog_of(20, 20).drop(columns="label"), "none")


@pytest.mark.parametrize(("n_positive", "n_negative"), [(9, 50), (50, 9)])
def test_too_few_of_a_class_are_counted_in_a_sentence(n_positive, n_negative):
    with pytest.raises(TidalkinError, match=f"{n_positive} galaxies labelled with .* and {n_negative} labelled 'none'"):
        labelled_galaxies(catalog_of(n_positive, n_negative), "none")


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
