"""The record of a shard's vectors tells whether anything they are made from has changed."""

from __future__ import annotations

import hashlib
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


def test_what_shards_share_is_digested_once_however_many_ledgers_they_have(tmp_path, monkeypatch):
    names = ["encoder.pt", "whitening.npz", *(f"{number}.ledger.parquet" for number in range(30))]
    encoder, whitening, *ledgers = files = [tmp_path / name for name in names]
    for file in files:
        file.write_text(file.name)
    digested = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: digested.append(file.name) or digest(file, kind))
    for first in (0, 15):
        assert VectorRecord.of("a shard", encoder, whitening, ledgers[first : first + 15])
    assert sorted(digested) == sorted(map(str, files))
