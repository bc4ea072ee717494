"""A survey ranked from judged galaxies."""

import re

import numpy as np
import pandas as pd
import pytest

from surveys.small_run import vector_of
from tidalkin.errors import TidalkinError
from tidalkin.search import judged
from tidalkin.search.judged import rank_by_labels, read_labels
from tidalkin.search.probe import fit_probe


def test_every_galaxy_is_ranked_by_the_probe_of_the_labels(files, monkeypatch):
    monkeypatch.setattr(judged, "ROWS_AT_ONCE", 7)
    labels = dict.fromkeys(range(1000, 1006), True) | dict.fromkeys(range(1010, 1016), False)
    table = rank_by_labels(labels, files)
    assert list(table) == ["rank", "object_id", "ra", "dec", "score", "percentile", "judged", "label"]
    assert sorted(table["object_id"]) == list(range(1000, 1059))
    assert table["score"].is_monotonic_decreasing
    vectors = np.stack([vector_of(files, object_id) for object_id in range(1000, 1059)])
    probe = fit_probe(vectors[:6], vectors[10:16], has_debris_score=True)
    expected = dict(zip(range(1000, 1059), probe.score(vectors), strict=True))
    np.testing.assert_allclose(table["score"], [expected[object_id] for object_id in table["object_id"]], atol=1e-5)
    assert table.set_index("object_id")["judged"].loc[[1000, 1010, 1020]].tolist() == ["yes", "no", ""]


def test_without_labels_the_ranking_is_that_of_the_debris_score(files):
    table = rank_by_labels({}, files)
    assert table["score"].is_monotonic_decreasing
    assert len(table) == 59


def test_judged_galaxies_that_left_the_run_are_left_out_with_one_warning(files, caplog):
    labels = {77: True, 1000: True, 1010: False}
    table = rank_by_labels(labels | {1059: False}, files)
    (warning,) = caplog.messages
    assert "2 of 4 judged galaxies are not in" in warning
    assert "or have no embedding, such as object 77: they are left out" in warning
    del labels[77]
    pd.testing.assert_frame_equal(table, rank_by_labels(labels, files))


def test_labels_of_another_run_are_refused(files):
    with pytest.raises(TidalkinError, match=r"1 of 1 judged galaxies are not in .* such as object 77: give labels of"):
        rank_by_labels({77: True}, files)
    with pytest.raises(TidalkinError, match=rf"such as object {10**20}: give labels of"):
        rank_by_labels({10**20: True}, files)


def test_a_long_id_is_read_exactly_or_refused(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("object_id,label\n1237648720693755927,shell\n 7.0 ,shell\n-8,none\n")
    assert read_labels(file) == {1237648720693755927: True, 7: True, -8: False}
    for text in ("1237648720693755927.0", "1.237648720693756e18", "7.5", "nan", "inf", "", "99999999999999999999"):
        file.write_text(f"object_id,label\n7,shell\n{text},shell\n")
        with pytest.raises(TidalkinError, match=rf"object_id '{re.escape(text)}' is not a whole number of at most 63"):
            read_labels(file)


def test_a_file_of_labels_says_what_is_wanted(tmp_path):
    (tmp_path / "labels.csv").write_text(
        "# by hand\nobject_id,label,who\n5,shell,me\n7,none,me\n8,,me\n9, stream ,me\n"
    )
    assert read_labels(tmp_path / "labels.csv") == {5: True, 7: False, 9: True}
    assert read_labels(tmp_path / "labels.csv", negative_label="shell") == {5: False, 7: True, 9: True}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "labels.csv: cannot be read"),
        ("object_id,label\nM51,shell\n", "labels.csv: object_id 'M51' is not a whole number"),
        ("id,label\n5,shell\n", "labels.csv: has no column object_id"),
        ("object_id,kind\n5,shell\n", "labels.csv: has no column label"),
        ("object_id,label\n5,shell\n5,none\n", "object 5 is labelled both 'none' and otherwise: label it once"),
    ],
)
def test_a_file_of_labels_that_cannot_be_used_is_refused(tmp_path, content, sentence):
    if content is not None:
        (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(TidalkinError, match=sentence):
        read_labels(tmp_path / "labels.csv")


def test_columns_of_numbers_are_written_as_they_are(files, tmp_path):
    from tidalkin.search.ranking import write_ranking

    table = rank_by_labels({1000: True}, files)
    write_ranking(table, tmp_path / "ranked.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "ranked.parquet"), table, check_dtype=False)
