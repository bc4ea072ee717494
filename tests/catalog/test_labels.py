"""Labels from conditions on the columns of a catalog."""

import gzip

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from tidalkin.catalog.labels import label_from
from tidalkin.config import load_settings
from tidalkin.errors import TidalkinError
from tidalkin.sources.catalog import obtain_catalog

ROWS = pd.DataFrame(
    {
        "MY ID": [1, 2, 3, 4],
        "R.A.": [10.0, 20.0, 30.0, 40.0],
        "Dec.": [1.0, 2.0, 3.0, 4.0],
        "tail": [0.9, 0.6, 0.1, np.nan],
        "fan": [0.8, 0.1, 0.1, 0.1],
    }
)
NAMES = {"object_id": "MY ID", "ra": "R.A.", "dec": "Dec."}
LABELS = {"tail": "tail > 0.8", "debris": "tail > 0.5 or fan > 0.5", "none": "tail < 0.2 and `R.A.` > 1"}


def catalog_of(table, labels=LABELS, **catalog):
    source = {"source": "file", "path": str(table), "columns": NAMES, "label_from": labels} | catalog
    settings = load_settings({"catalog": source, "cutouts": {"source": "folder", "folder": {"path": "."}}})
    return obtain_catalog(settings, table)


def write_csv(path, rows=ROWS):
    rows.to_csv(path, index=False, na_rep="null")
    return path


def written(folder, suffix):
    path = folder / f"galaxies{suffix}"
    if suffix == ".csv":
        write_csv(path)
    elif suffix == ".csv.gz":
        path.write_bytes(gzip.compress(write_csv(folder / "plain.csv").read_bytes()))
    elif suffix == ".parquet":
        # As other programs write it, with words among the numbers.
        ROWS.assign(tail=["0.9", "0.6", "0.1", "null"]).to_parquet(path)
    else:
        Table.from_pandas(ROWS).write(path, format="votable" if suffix == ".vot" else "fits")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".fits", ".vot", ".parquet"])
def test_the_first_condition_that_is_true_gives_the_label_whatever_the_file(tmp_path, suffix):
    catalog = catalog_of(written(tmp_path, suffix))
    assert catalog["label"].tolist()[:3] == ["tail", "debris", "none"]
    assert pd.isna(catalog["label"][3])
    assert catalog[["object_id", "ra", "dec"]].iloc[1].tolist() == [2, 20.0, 2.0]


def test_the_catalog_servers_answer_is_labelled_too(tmp_path):
    path = write_csv(tmp_path / "query.csv")
    catalog = catalog_of(path, source="hsc_sql", path=None, query="galaxies.sql")
    assert catalog["label"].tolist()[:3] == ["tail", "debris", "none"]


def test_labels_of_the_file_are_kept_beside_the_new_ones():
    rows = pd.DataFrame({"object_id": [1, 2], "label": ["a", "b"], "tail": [0.9, 0.1]})
    labelled = label_from(rows, {"tail": "tail > 0.5"}, {}, "it")
    assert labelled["label_in_file"].tolist() == ["a", "b"]
    assert labelled["label"][0] == "tail"


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ({"tail": "tail >> 0.5"}, r"label_from: tail: the condition `tail >> 0.5` has something else at position 1"),
        ({"ring": "ring > 0.5"}, r"label_from: ring: .* no column 'ring'; it has: object_id, ra, dec, tail, fan"),
        ({"ring": "tail > 50"}, r"label_from: ring: `tail > 50` matches no galaxy of .*: change or remove it"),
        ({"a": "tail > 0", "b": "tail > 0.5"}, r"label_from: b: .* matches only galaxies that an earlier condition"),
    ],
)
def test_a_fault_in_the_labels_is_one_sentence(tmp_path, labels, sentence):
    with pytest.raises(TidalkinError, match=sentence) as fault:
        catalog_of(write_csv(tmp_path / "galaxies.csv"), labels)
    assert "\n" not in str(fault.value)


def test_a_column_of_words_is_named_with_its_value(tmp_path):
    path = write_csv(tmp_path / "galaxies.csv", ROWS.assign(layer="Wide"))
    with pytest.raises(TidalkinError, match="the value 'Wide' in the column 'layer', but a condition compares numbers"):
        catalog_of(path, {"wide": "layer > 0"})


def test_a_simulated_survey_brings_its_own_labels():
    with pytest.raises(TidalkinError, match="`label_from` needs a table"):
        load_settings({"catalog": {"label_from": {"tail": "tail > 0.5"}}})
