"""Marks of several people and processes become one state."""

import errno
import json
import os
import resource
import threading
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidalkin.config import Explorer
from tidalkin.errors import TidalkinError
from tidalkin.explorer.labels import LabelBook, new_mark, verdicts
from tidalkin.explorer.times import utc_time


def lines(folder):
    return [line for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()]


def labels_of(book):
    book.refresh()
    return {object_id: {who: mark.label for who, mark in marks.items()} for object_id, marks in book.current().items()}


def test_the_last_mark_of_a_person_and_object_counts(tmp_path):
    book = LabelBook(tmp_path)
    for object_id, label, who in ((1, "tidal", "ada"), (1, "not", "ada"), (1, "tidal", "bob"), (2, "unsure", "ada")):
        book.append(new_mark(object_id, label, who))
    expected = {1: {"ada": "not", "bob": "tidal"}, 2: {"ada": "unsure"}}
    assert labels_of(book) == labels_of(LabelBook(tmp_path)) == expected


def test_two_processes_write_two_files_and_read_each_other(tmp_path):
    first, second = LabelBook(tmp_path), LabelBook(tmp_path)
    first.append(new_mark(1, "tidal", "ada"))
    second.append(new_mark(2, "not", "bob"))
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    assert labels_of(first) == labels_of(second) == {1: {"ada": "tidal"}, 2: {"bob": "not"}}


def test_a_torn_last_line_is_ignored_until_it_is_whole(tmp_path):
    writer, reader = LabelBook(tmp_path), LabelBook(tmp_path)
    writer.append(new_mark(1, "tidal", "ada"))
    (file,) = tmp_path.glob("*.jsonl")
    line = json.dumps({**json.loads(file.read_text()), "uuid": "another", "object_id": 2})
    with file.open("a") as added:
        added.write(line[:40])
        added.flush()
        assert labels_of(reader) == {1: {"ada": "tidal"}}
        added.write(line[40:] + "\n")
    assert labels_of(reader) == {1: {"ada": "tidal"}, 2: {"ada": "tidal"}}


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    (tmp_path / "x.jsonl").write_text("no mark\n")
    with pytest.raises(TidalkinError, match=r"x\.jsonl: the line at byte 0 is not a mark"):
        LabelBook(tmp_path).refresh()


def test_undo_brings_back_the_mark_before(tmp_path):
    book = LabelBook(tmp_path)
    book.append(new_mark(1, "tidal", "ada"))
    second = book.append(new_mark(1, "not", "ada"))
    book.append(new_mark(1, "", "ada", undoes=second.uuid))
    assert labels_of(book) == {1: {"ada": "tidal"}}
    first = book.last_of("ada")
    book.append(new_mark(1, "", "ada", undoes=first.uuid))
    assert labels_of(LabelBook(tmp_path)) == {}
    assert book.last_of("ada") is None
    assert len(lines(tmp_path)) == 4


def test_a_mark_sent_twice_is_written_once(tmp_path):
    book = LabelBook(tmp_path)
    mark = new_mark(1, "tidal", "ada")
    book.append(mark)
    book.append(mark)
    assert len(lines(tmp_path)) == 1


def test_a_mark_is_synced_before_it_is_confirmed(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    LabelBook(tmp_path).append(new_mark(1, "tidal", "ada"))
    (file,) = tmp_path.glob("*.jsonl")
    assert synced[0] == file.stat().st_size


def test_many_marks_are_synced_once(tmp_path, monkeypatch):
    synced, book = [], LabelBook(tmp_path)
    book.append(new_mark(0, "tidal", "ada"))
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    marks = [new_mark(object_id, "not", "ada") for object_id in range(1, 50)]
    kept = book.extend([*marks, marks[0]])
    assert [mark.uuid for mark in kept] == [mark.uuid for mark in [*marks, marks[0]]]
    (file,) = tmp_path.glob("*.jsonl")
    assert synced == [file.stat().st_size]
    assert labels_of(LabelBook(tmp_path)) == labels_of(book)
    assert len(lines(tmp_path)) == 50


def test_after_a_failed_write_the_next_mark_goes_to_a_new_file(tmp_path, monkeypatch):
    book = LabelBook(tmp_path)
    book.append(new_mark(1, "tidal", "ada"))
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:10]))
    with pytest.raises(TidalkinError, match="free some space"):
        book.append(new_mark(2, "not", "ada"))
    monkeypatch.undo()
    book.append(new_mark(3, "not", "ada"))
    assert labels_of(LabelBook(tmp_path)) == labels_of(book) == {1: {"ada": "tidal"}, 3: {"ada": "not"}}


@contextmanager
def disk_that_is_full_after(n_bytes):
    """Let no file of this process grow beyond a size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("n_before", [0, 5])
def test_a_batch_that_the_disk_refuses_leaves_no_mark(tmp_path, n_before):
    book, other = LabelBook(tmp_path), LabelBook(tmp_path)
    book.extend([new_mark(object_id, "tidal", "ada") for object_id in range(n_before)])
    before = labels_of(other)
    batch = [new_mark(object_id, "not", "ada") for object_id in range(60)]
    with disk_that_is_full_after(4000), pytest.raises(TidalkinError, match="cannot be written"):
        book.extend(batch)
    assert labels_of(book) == labels_of(other) == labels_of(LabelBook(tmp_path)) == before
    assert len(lines(tmp_path)) == n_before
    book.extend(batch)
    assert labels_of(book) == labels_of(other) == {object_id: {"ada": "not"} for object_id in range(60)}


def test_a_reader_forgets_the_part_of_a_batch_that_was_cut_off(tmp_path):
    book, reader = LabelBook(tmp_path), LabelBook(tmp_path)
    book.append(new_mark(1, "tidal", "ada"))
    (file,) = tmp_path.glob("*.jsonl")
    size = file.stat().st_size
    book.append(new_mark(2, "tidal", "ada"))
    version = reader.refresh()
    os.truncate(file, size)
    assert labels_of(reader) == {1: {"ada": "tidal"}}
    assert reader.version > version


@contextmanager
def another_user():
    """Act as a user without privileges, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_private_file_or_folder_is_left_out_with_one_warning(tmp_path, caplog, monkeypatch, is_folder):
    monkeypatch.chdir(tmp_path)  # the other user cannot enter the folders above
    tmp_path.chmod(0o777)
    labels = Path("labels")
    LabelBook(labels).append(new_mark(1, "tidal", "ada"))
    (private,) = labels.glob("*.jsonl")
    LabelBook(labels).append(new_mark(2, "not", "bob"))
    private = labels if is_folder else private
    private.chmod(0)
    reader = LabelBook(labels)
    with another_user():
        assert labels_of(reader) == ({} if is_folder else {2: {"bob": "not"}})
        reader.refresh()
    (warning,) = caplog.messages
    assert warning == f"{private} cannot be read, so its labels are left out: ask its owner for the permission"
    private.chmod(0o755)
    assert labels_of(reader) == {1: {"ada": "tidal"}, 2: {"bob": "not"}}


def test_a_file_on_a_failing_disk_is_named(tmp_path, monkeypatch):
    LabelBook(tmp_path).append(new_mark(1, "tidal", "ada"))
    (file,) = tmp_path.glob("*.jsonl")

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(TidalkinError, match=rf"{file} cannot be read \(Input/output error\): check the disk"):
        LabelBook(tmp_path).refresh()


def test_many_threads_lose_no_mark(tmp_path):
    book = LabelBook(tmp_path)

    def judge(who):
        for object_id in range(20):
            book.append(new_mark(object_id, "not", who))

    threads = [threading.Thread(target=judge, args=(f"person {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(tmp_path)) == 80
    assert sum(map(len, labels_of(LabelBook(tmp_path)).values())) == 80


@pytest.mark.parametrize(
    ("given", "label", "is_positive", "disagreement"),
    [
        (["tidal", "tidal"], "tidal", True, False),
        (["shell", "stream"], "tidal", True, False),
        (["shell", "shell"], "shell", True, False),
        (["tidal", "not"], "", None, True),
        (["tidal", "unsure"], "tidal", True, False),
        (["unsure"], "unsure", None, False),
        (["ring"], "ring", None, False),
        (["ring", "unsure"], "ring", None, False),
        (["ring", "arm"], "unsure", None, False),
        (["ring", "not"], "not", False, False),
        (["not"], "not", False, False),
    ],
)
def test_a_verdict_joins_people_and_shows_disagreement(given, label, is_positive, disagreement):
    marks = {str(number): new_mark(1, name, str(number)) for number, name in enumerate(given)}
    (verdict,) = verdicts({1: marks}, Explorer())
    assert (verdict.label, verdict.is_positive, verdict.disagreement) == (label, is_positive, disagreement)


def write_line(folder, name="other", **values):
    """Write a line as another process would, or a program that is not ours."""
    line = asdict(new_mark(1003, "tidal", "ada", when="2026-01-01T00:00:00+00:00")) | values
    with (folder / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def test_a_mark_counts_although_the_one_before_is_from_a_machine_whose_clock_is_ahead(tmp_path):
    write_line(tmp_path, when="2199-01-01T00:00:00+00:00")
    book = LabelBook(tmp_path)
    later = [book.append(new_mark(object_id, "not", "ada")) for object_id in (1003, 1004)]
    assert labels_of(LabelBook(tmp_path)) == {1003: {"ada": "not"}, 1004: {"ada": "not"}}
    assert [mark.when for mark in later] == sorted(mark.when for mark in later)
    assert book.last_of("ada").object_id == 1004


def test_a_clock_that_is_ahead_moves_only_the_marks_of_its_person(tmp_path):
    write_line(tmp_path, when="2199-01-01T00:00:00+00:00")
    assert LabelBook(tmp_path).append(new_mark(1003, "not", "bob")).when < "2199"


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("2026-01-01T10:00:00+09:00", "2026-01-01T02:00:00+00:00"),
        ("2026-01-01T03:00:00-08:00", "2026-01-01T11:00:01+00:00"),
        ("2026-01-01T09:00:00.5Z", "2026-01-01 10:00:00 UTC"),
        ("2026-01-01T10:00:00+00:00", "2026-01-01T10:00:00.1Z"),
        ("5 May 2026", "2026-05-06"),
    ],
)
def test_the_later_time_counts_however_it_is_spelled(tmp_path, earlier, later):
    write_line(tmp_path, "a", uuid="a", when=later, label="not")
    write_line(tmp_path, "b", uuid="b", when=earlier)
    assert labels_of(LabelBook(tmp_path)) == {1003: {"ada": "not"}}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 3),
            st.sampled_from(["ada", "bob"]),
            st.sampled_from(["tidal", "not", "unsure"]),
            st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.timezones()),
            st.integers(0, 2),
        ),
        max_size=12,
        unique_by=lambda given: given[3].astimezone(UTC),
    )
)
def test_the_last_mark_by_time_counts_whatever_the_order_of_the_files(tmp_path_factory, marks):
    folder = tmp_path_factory.mktemp("labels")
    for number, (object_id, who, label, when, file) in enumerate(marks):
        write_line(folder, str(file), uuid=str(number), object_id=object_id, who=who, label=label, when=str(when))
    expected = {}
    for object_id, who, label, _, _ in sorted(marks, key=lambda given: given[3].astimezone(UTC)):
        expected.setdefault(object_id, {})[who] = label
    assert labels_of(LabelBook(folder)) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"when": 1767225600},
        {"when": None},
        {"when": "last week"},
        {"object_id": "1003"},
        {"object_id": 1003.5},
        {"object_id": 2**70},
        {"object_id": True},
        {"label": None},
        {"label": ["tidal"]},
        {"who": 7},
        {"uuid": ["a"]},
        {"undoes": {}},
        {"rank": "first"},
        {"probability": float("nan")},
        {"probability": 3},
        {"milliseconds": 1.5},
        {"strategy": None},
    ],
)
def test_a_line_with_a_wrong_value_is_named_and_stops_no_mark(tmp_path, wrong):
    write_line(tmp_path, **wrong)
    book = LabelBook(tmp_path)
    with pytest.raises(TidalkinError, match=r"other\.jsonl: the line at byte 0 is not a mark"):
        book.refresh()
    book.append(new_mark(1, "not", "bob"))
    (tmp_path / "other.jsonl").unlink()
    assert labels_of(LabelBook(tmp_path)) == {1: {"bob": "not"}}


def test_a_mark_that_could_not_be_read_again_is_not_written(tmp_path):
    for wrong in (new_mark(1, "tidal", "\ud800"), new_mark(1, "tidal", "ada", probability=float("nan"))):
        with pytest.raises(TidalkinError, match="the mark of object 1 by"):
            LabelBook(tmp_path).append(wrong)
    assert labels_of(LabelBook(tmp_path)) == {}


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-01-01 10:00:00 UTC", "2026-01-01T10:00:00.000000+00:00"),
        ("Tue, 5 May 2026 10:00:00 +0900", "2026-05-05T01:00:00.000000+00:00"),
        ("2026/05/06 10:00", "2026-05-06T10:00:00.000000+00:00"),
        ("25/12/2026", "2026-12-25T00:00:00.000000+00:00"),
    ],
)
def test_a_time_is_read_in_many_spellings(text, utc):
    assert utc_time(text) == utc


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "May 2026",
        "10:00",
        "05/06/2026",
        "2026-01-01 10:00 EST",
        "1767225600",
        "1767225600000",
        "9999-12",
    ],
)
def test_a_time_that_is_not_one_clear_date_is_refused(text):
    with pytest.raises(ValueError, match="is not one clear date: write it like 2026-05-31"):
        utc_time(text)
