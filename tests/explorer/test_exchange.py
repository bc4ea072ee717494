"""Labels go to other programs and come back."""

import errno
import json
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servers.explorer import served
from tidalkin import open_run
from tidalkin.catalog.read import read_catalog
from tidalkin.cli import export_labels, import_labels
from tidalkin.config import Explorer
from tidalkin.errors import TidalkinError
from tidalkin.explorer.exchange import export_labels as write_labels
from tidalkin.explorer.exchange import import_labels as read_into
from tidalkin.explorer.exchange import label_table
from tidalkin.explorer.label_files import FORMATS, read_labels
from tidalkin.explorer.labels import LabelBook, new_mark, verdicts


@pytest.fixture
def judged_run(run_to_judge):
    book = open_run(run_to_judge).label_book()
    marks = ((1000, "shell", "ada"), (1001, "not", "ada"), (1002, "unsure", "ada"), (1003, "tidal", "ada"))
    for object_id, label, who in (*marks, (1003, "not", "bob")):
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


def test_an_export_without_a_private_file_warns_once(judged_run, tmp_path, caplog, monkeypatch):
    open_run(judged_run).label_book().append(new_mark(1005, "tidal", "eve"))
    *_, private = sorted((judged_run / "labels").glob("*.jsonl"), key=lambda file: "eve" in file.read_text())
    open_file = Path.open

    def refuse(path, *options, **more):
        if path == private:
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_file(path, *options, **more)

    monkeypatch.setattr(Path, "open", refuse)
    export_labels(tmp_path / "labels.csv", "csv", judged_run)
    assert pd.read_csv(tmp_path / "labels.csv")["object_id"].tolist() == [1000, 1001, 1002, 1003]
    (warning,) = caplog.messages
    assert str(private) in warning


@pytest.mark.parametrize("kind", sorted(set(FORMATS) - {"zooniverse"}))
def test_exported_labels_come_back(judged_run, run_to_judge, explored_run, tmp_path, kind):
    import shutil

    file = tmp_path / f"labels.{kind}"
    export_labels(file, kind, judged_run)
    other = tmp_path / "other" / "results" / "small"
    shutil.copytree(explored_run, other)
    for _ in range(2):
        import_labels(file, kind, other, who="eve")
    joint = {verdict.object_id: verdict.is_positive for verdict in open_run(other).verdicts()}
    assert {object_id: positive for object_id, positive in joint.items() if positive is not None} == {
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


def imported(content, run, kind="csv", who="ada"):
    """Import a file, and return the label of each object and person."""
    file = run / "to_import"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    import_labels(file, kind, run, who=who)
    return labels_of(run)


def labels_of(run):
    current = open_run(run).label_book().current()
    return {(one, who): mark.label for one, marks in current.items() for who, mark in marks.items()}


def lines_of(run):
    return sum(len(file.read_text().splitlines()) for file in (run / "labels").glob("*.jsonl"))


def undo(run, who="ada"):
    return open_run(run).label_book().undo_last(who)


def test_a_mark_counts_after_an_imported_one_of_an_earlier_time(run_to_judge):
    imported("object_id,label,who,when\n1003,tidal,ada,5 May 2026\n", run_to_judge)
    book = open_run(run_to_judge).label_book()
    book.append(new_mark(1003, "not", "ada"))
    assert labels_of(run_to_judge) == {(1003, "ada"): "not"}
    assert undo(run_to_judge).label == "not"


def test_imported_times_are_kept_in_one_spelling(run_to_judge):
    rows = ("1000,tidal,5 May 2026", "1001,tidal,2026-01-01 10:00:00 UTC", "1002,tidal,2026-01-01T10:00:00+09:00")
    imported("\n".join(("object_id,label,when", *rows)), run_to_judge)
    assert [mark.when for mark in open_run(run_to_judge).label_book().all_marks()] == [
        "2026-01-01T01:00:00.000000+00:00",
        "2026-01-01T10:00:00.000000+00:00",
        "2026-05-05T00:00:00.000000+00:00",
    ]


def test_the_last_row_of_a_person_and_object_counts(run_to_judge):
    rows = ("1000,not,2026-02-01", "1000,tidal,2026-01-01", "1001,not,", "1001,shell,", "1001,not,2026-01-01")
    content = "\n".join(("object_id,label,when", *rows))
    assert imported(content, run_to_judge) == {(1000, "ada"): "not", (1001, "ada"): "shell"}
    assert lines_of(run_to_judge) == 2


@pytest.mark.parametrize("when", ["", "2026-01-01"])
def test_a_label_that_was_undone_is_imported_again(run_to_judge, when):
    content = f"object_id,label,when\n1000,tidal,{when}\n"
    for _ in range(3):
        assert imported(content, run_to_judge) == {(1000, "ada"): "tidal"}
        assert imported(content, run_to_judge) == {(1000, "ada"): "tidal"}
        undo(run_to_judge)
        assert labels_of(run_to_judge) == {}
    assert lines_of(run_to_judge) == 6


def test_a_label_without_a_time_is_given_now(run_to_judge):
    for label in ("tidal", "not", "tidal"):
        assert imported(f"object_id,label\n1000,{label}\n", run_to_judge) == {(1000, "ada"): label}


def test_a_label_that_is_older_than_the_present_one_is_left_out_with_a_warning(run_to_judge, caplog):
    imported("object_id,label,when\n1000,tidal,2026-02-01\n", run_to_judge)
    assert imported("object_id,label,when\n1000,not,2026-01-01\n", run_to_judge) == {(1000, "ada"): "tidal"}
    assert "left out 1 of its labels, since the same person gave a later one" in caplog.text


def test_a_label_that_was_corrected_in_an_exported_file_counts(run_to_judge, tmp_path):
    open_run(run_to_judge).label_book().append(new_mark(1000, "tidal", "ada"))
    export_labels(tmp_path / "labels.csv", "csv", run_to_judge)
    corrected = (tmp_path / "labels.csv").read_text().replace("tidal", "shell")
    assert imported(corrected, run_to_judge) == {(1000, "ada"): "shell"}
    assert imported(corrected, run_to_judge) == {(1000, "ada"): "shell"}
    assert lines_of(run_to_judge) == 2


def test_a_list_of_the_explorer_gives_the_judged_labels_only(run_to_judge, caplog):
    content = "rank,object_id,label,judged\n1,1000,none,shell\n2,1001,shell,\n3,1002,tail,disagreement\n"
    assert imported(content, run_to_judge) == {(1000, "ada"): "shell"}
    assert "left out 1 of its rows, which tell of a disagreement only" in caplog.text


@pytest.mark.parametrize("kind", ["csv", "vot"])
def test_the_export_of_a_list_is_imported(run_to_judge, tmp_path, kind):
    open_run(run_to_judge).label_book().append(new_mark(1000, "not", "bob"))
    with served(run_to_judge) as client:
        (tmp_path / "list").write_bytes(client.get(f"/api/export.{kind}", params={"k": 60}).content)
    import_labels(tmp_path / "list", {"csv": "csv", "vot": "votable"}[kind], run_to_judge, who="ada")
    assert labels_of(run_to_judge) == {(1000, "bob"): "not", (1000, "ada"): "not"}


def test_a_joint_label_of_several_people_is_refused(run_to_judge):
    header = "object_id,label,judged,disagreement,people,who\n"
    with pytest.raises(TidalkinError, match=r"line 2: 2 people, 'ada bob', cannot be told apart: export"):
        imported(header + "1000,shell,shell,False,2,ada bob\n", run_to_judge)
    assert imported(header + "1000,,,True,2,ada bob\n", run_to_judge) == {}


def test_a_joint_label_that_contradicts_the_marks_is_refused(judged_run, tmp_path):
    open_run(judged_run).label_book().append(new_mark(1000, "shell", "bob"))
    export_labels(tmp_path / "labels.csv", "csv", judged_run)
    corrected = (tmp_path / "labels.csv").read_text().replace("shell,shell,", "tail,tail,")
    with pytest.raises(
        TidalkinError, match=r"line 2: judged 'tail' is not the joint label 'shell' of the column marks"
    ):
        imported(corrected, judged_run)


def classification(**changed):
    row = {
        "user_name": "ada",
        "created_at": "2026-01-01 00:00:00 UTC",
        "annotations": json.dumps([{"task": "T0", "value": "Tidal"}]),
        "subject_data": json.dumps({"77": {"object_id": "1005"}}),
    }
    return pd.DataFrame([row | changed]).to_csv(index=False)


@pytest.mark.parametrize("annotations", ["[]", '[{"task": "T0", "value": null}]', '[{"task": "T0", "value": " "}]'])
def test_a_skipped_question_of_zooniverse_is_no_label(run_to_judge, annotations):
    assert imported(classification(annotations=annotations), run_to_judge, "zooniverse") == {}


def task(result, **annotation):
    one = {"completed_by": "ada", "created_at": "2026-01-01T00:00:00Z", "result": result} | annotation
    return {"data": {"object_id": "1005"}, "annotations": [one]}


CHOICE = [{"value": {"choices": ["tidal"]}}]


def test_a_skipped_task_of_label_studio_is_no_label(run_to_judge):
    tasks = [task([]), task(CHOICE, was_cancelled=True), task([{"value": {"text": ["remark"]}}, *CHOICE])]
    assert imported(tasks[:2], run_to_judge, "labelstudio") == {}
    assert imported(tasks, run_to_judge, "labelstudio") == {(1005, "ada"): "tidal"}


def test_a_score_that_says_the_same_adds_nothing(judged_run, tmp_path):
    before = labels_of(judged_run)
    export_labels(tmp_path / "labels", "astronomaly", judged_run)
    assert imported((tmp_path / "labels").read_text(), judged_run, "astronomaly") == before
    assert imported("id,human_label\n1000,0\n", judged_run, "astronomaly")[1000, "ada"] == "not"


NAMES = st.sampled_from(["ada", "bob", "ada bob"]) | st.text(st.characters(categories=["L", "N", "P"]), min_size=1)
MARKS = st.lists(
    st.tuples(st.sampled_from([1000, 1001, 1002]), st.sampled_from(Explorer().labels), NAMES),
    max_size=8,
)


@settings(max_examples=25, deadline=None)
@given(MARKS, st.sampled_from(["csv", "votable", "labelstudio"]))
def test_an_export_and_import_keeps_every_label_of_every_person(tmp_path_factory, marks, kind):
    folder, labels = tmp_path_factory.mktemp("exchange"), Explorer()
    book, other = LabelBook(folder / "labels"), LabelBook(folder / "other")
    book.extend([new_mark(*mark) for mark in marks])
    judged = verdicts(book.current(), labels)
    catalog = pd.DataFrame({"object_id": [1000, 1001, 1002], "ra": [1.0, 2, 3], "dec": [1.0, 2, 3]})
    table = label_table(judged, catalog, "none", labels)
    (folder / "file").write_bytes(write_labels(table, judged, kind, labels))
    for target, added in ((book, 0), (other, len({(one, who) for one, _, who in marks})), (other, 0)):
        assert read_into(folder / "file", kind, target, catalog["object_id"], labels, "none", "eve") == added
    expected = {one: {who: (mark.label, mark.when) for who, mark in by.items()} for one, by in book.current().items()}
    assert expected == {
        one: {who: (mark.label, mark.when) for who, mark in by.items()} for one, by in other.current().items()
    }


@pytest.mark.parametrize("kind", ["csv", "votable", "labelstudio"])
def test_labels_that_no_longer_fit_are_exported_and_come_back_to_their_run(run_to_judge, tmp_path, kind, caplog):
    book = open_run(run_to_judge).label_book()
    book.extend([new_mark(77, "tidal", "ada"), new_mark(77, "not", "bob"), new_mark(1000, "ring", "ada")])
    before = labels_of(run_to_judge)
    export_labels(tmp_path / "labels", kind, run_to_judge)
    assert "1 of 2 labelled objects, such as 77, are not in the catalog" in caplog.text
    assert "NaN" not in (tmp_path / "labels").read_text() or kind == "votable"
    import_labels(tmp_path / "labels", kind, run_to_judge)
    assert labels_of(run_to_judge) == before
    assert lines_of(run_to_judge) == 3


@pytest.mark.parametrize(
    ("kind", "content", "sentence"),
    [
        ("csv", "object_id,label\n1000,tidal\n1001", "line 3 has fewer fields than the first line"),
        ("csv", "# made by\nobject_id,label\n1001\n", "line 3 has fewer fields"),
        ("csv", f"object_id,label\n1000,tidal\n1001,{'x' * 200_000}", "line 3 cannot be read as a row"),
        ("csv", "object_id,label\n1001.5,tidal", "line 2 cannot be read as csv .object_id '1001.5' is not a whole"),
        ("csv", f"object_id,label\n{2**70},tidal", "line 2 cannot be read as csv .object_id"),
        ("csv", "object_id,label,when\n1000,tidal,soon", "line 2: time 'soon' is not one clear date"),
        ("csv", "object_id,label,when\n1000,tidal,2199-01-01", "line 2: time .* is in the future"),
        ("csv", "object_id,marks\n1000,[3]", "line 2 cannot be read as csv .0 3: Input should be"),
        ("zooniverse", classification(created_at="soon"), "line 2: time 'soon' is not one clear date"),
        ("zooniverse", classification(annotations="[3]"), "line 2 cannot be read as zooniverse"),
        ("zooniverse", classification(subject_data="7"), "line 2 cannot be read as zooniverse"),
        ("zooniverse", "object_id,label\n1000,tidal", "line 2 cannot be read as zooniverse .it has no subject_data"),
        ("labelstudio", [{"data": {"object_id": 1}, "annotations": [3]}], "task 1 cannot be read as labelstudio"),
        ("labelstudio", [task(CHOICE), 7], "task 2 cannot be read as labelstudio"),
        ("labelstudio", {}, "cannot be read as labelstudio .ValueError: not a list of tasks"),
        ("labelstudio", "[" * 100_000, "cannot be read as labelstudio"),
        ("labelstudio", [task(CHOICE, created_at=1767225600)], "task 1 .* .annotations.0.created_at 1767225600: Input"),
        ("labelstudio", [task(CHOICE, created_at="soon")], "task 1: time 'soon' is not one clear date"),
        ("astronomaly", "id,human_label\n1000,high", "line 2 cannot be read as astronomaly"),
        ("astronomaly", "id,human_label\n1000", "line 2 has fewer fields"),
        ("votable", "<VOTABLE/>", "cannot be read as votable"),
        ("votable", "no table", "cannot be read as votable"),
        ("votable", "", "cannot be read as votable"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(run_to_judge, kind, content, sentence):
    with pytest.raises(TidalkinError, match=rf"to_import: .*{sentence}"):
        imported(content, run_to_judge, kind)
    assert labels_of(run_to_judge) == {}


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(FORMATS), st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_no_file_causes_anything_but_a_sentence(tmp_path_factory, kind, content):
    file = tmp_path_factory.mktemp("labels") / "file"
    file.write_bytes(content)
    with suppress(TidalkinError):
        list(read_labels(file, kind, Explorer()))


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
