"""Labels go to other programs and come back."""

import json

import pandas as pd
import pytest

from tidalkin import open_run
from tidalkin.catalog.read import read_catalog
from tidalkin.cli import export_labels, import_labels
from tidalkin.errors import TidalkinError
from tidalkin.explorer.exchange import FORMATS
from tidalkin.explorer.labels import new_mark


@pytest.fixture
def judged_run(run_to_judge):
    book = open_run(run_to_judge).label_book()
    given = ((1000, "shell", "ada"), (1001, "not", "ada"), (1002, "unsure", "ada"), (1003, "tidal", "ada"))
    for object_id, label, who in (*given, (1003, "not", "bob")):
        book.append(new_mark(object_id, label, who))
    return run_to_judge


def test_the_labels_of_a_run_are_a_table(judged_run):
    labels = open_run(judged_run).labels.set_index("object_id")
    assert labels["label"].to_dict() == {1000: "shell", 1001: "none", 1002: "", 1003: ""}
    assert labels["judged"].to_dict() == {1000: "shell", 1001: "not", 1002: "unsure", 1003: ""}
    assert labels["disagreement"].tolist() == [False, False, False, True]


def test_the_labels_of_the_explorer_rank_the_survey(judged_run):
    ranking = open_run(judged_run).rank()
    judged = {int(row["object_id"]): row["judged"] for row in ranking if row["judged"]}
    assert judged == {1000: "yes", 1001: "no"}


def test_exported_labels_are_a_catalog_of_the_pipeline(judged_run, tmp_path):
    export_labels(tmp_path / "labels.csv", "csv", judged_run)
    catalog = read_catalog(tmp_path / "labels.csv").set_index("object_id")
    assert catalog["label"].dropna().to_dict() == {1000: "shell", 1001: "none"}


@pytest.mark.parametrize("kind", sorted(set(FORMATS) - {"zooniverse"}))
def test_exported_labels_come_back(judged_run, run_to_judge, explored_run, tmp_path, kind):
    import shutil

    file = tmp_path / f"labels.{kind}"
    export_labels(file, kind, judged_run)
    other = tmp_path / "other" / "results" / "small"
    shutil.copytree(explored_run, other)
    for _ in range(2):
        import_labels(file, kind, other, who="eve")
    verdicts = {verdict.object_id: verdict.is_positive for verdict in open_run(other).verdicts()}
    assert {object_id: positive for object_id, positive in verdicts.items() if positive is not None} == {
        1000: True,
        1001: False,
    }


def test_an_export_of_zooniverse_is_read(run_to_judge, tmp_path):
    rows = [
        {
            "user_name": who,
            "created_at": "2026-01-01 00:00:00 UTC",
            "annotations": json.dumps([{"task": "T0", "value": answer}]),
            "subject_data": json.dumps({"77": {"object_id": "1005", "retired": None}}),
        }
        for who, answer in (("ada", "Tidal"), ("bob", "Not"))
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "classifications.csv", index=False)
    import_labels(tmp_path / "classifications.csv", "zooniverse", run_to_judge)
    (verdict,) = open_run(run_to_judge).verdicts()
    assert (verdict.object_id, verdict.disagreement) == (1005, True)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("object_id,label\n77,tidal\n", "object 77 is not in the catalog"),
        ("object_id,label\n1001,odd\n", "label 'odd' of object 1001 is not one of"),
        ("name,label\n1001,tidal\n", "cannot be read as csv"),
    ],
)
def test_a_file_that_does_not_fit_adds_nothing(run_to_judge, tmp_path, content, sentence):
    file = tmp_path / "labels.csv"
    file.write_text("object_id,label\n1000,tidal\n" + content.split("\n", 1)[1] if "name" not in content else content)
    with pytest.raises(TidalkinError, match=sentence):
        import_labels(file, "csv", run_to_judge)
    assert open_run(run_to_judge).labels.empty
