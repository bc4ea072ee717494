"""Marks of several people and processes become one state."""

import json
import os
import threading

import pytest

from tidalkin.config import Explorer
from tidalkin.errors import TidalkinError
from tidalkin.explorer.labels import LabelBook, new_mark, verdicts


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
    assert book.extend([*marks, marks[0]]) == [*marks, marks[0]]
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
        (["not"], "not", False, False),
    ],
)
def test_a_verdict_joins_people_and_shows_disagreement(given, label, is_positive, disagreement):
    marks = {str(number): new_mark(1, name, str(number)) for number, name in enumerate(given)}
    (verdict,) = verdicts({1: marks}, Explorer())
    assert (verdict.label, verdict.is_positive, verdict.disagreement) == (label, is_positive, disagreement)
