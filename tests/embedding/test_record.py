"""The record of a shard's vectors tells whether anything they are made from has changed."""

from __future__ import annotations

import os

import pytest

from tidalkin.embedding.record import VectorRecord


@pytest.fixture
def files(tmp_path):
    for name in ("encoder", "whitening", "one", "two"):
        (tmp_path / name).write_text(name)
    return tmp_path


def record(files, shard="5f0c"):
    return VectorRecord.of(shard, files / "encoder", files / "whitening", [files / "one", files / "two"])


def test_a_record_holds_for_the_same_content_at_any_time(files):
    record(files).write(files / "record.json")
    for name in ("encoder", "one"):
        os.utime(files / name, (1, 1))
    assert record(files).is_at(files / "record.json")


@pytest.mark.parametrize("name", ["encoder", "whitening", "two"])
def test_a_record_does_not_hold_for_other_content(files, name):
    record(files).write(files / "record.json")
    (files / name).write_text("other")
    assert not record(files).is_at(files / "record.json")


def test_a_record_does_not_hold_for_another_shard(files):
    record(files).write(files / "record.json")
    assert not record(files, "e1a7").is_at(files / "record.json")


def test_there_is_no_record_where_a_file_is_not_there_yet(files):
    (files / "two").unlink()
    assert record(files) is None


@pytest.mark.parametrize("content", [None, "", "{", "[]"])
def test_an_absent_or_damaged_record_holds_for_nothing(files, content):
    if content is not None:
        (files / "record.json").write_text(content)
    assert not record(files).is_at(files / "record.json")
