"""The labelled galaxies of a catalog."""

from __future__ import annotations

import pytest

from surveys.labelled import catalog_of
from tidalkin.errors import TidalkinError
from tidalkin.evaluation.labels import Labels, labelled_galaxies


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


def test_the_labels_found_are_listed_where_none_is_the_negative_one():
    catalog = catalog_of(20, 30)
    with pytest.raises(TidalkinError, match=r"0 labelled 'smooth'.*labels found: 'none' 30"):
        labelled_galaxies(catalog, "smooth")
