"""Received cutouts are packed once, become the chunk's tar without a copy, and outlive it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from tidalkin.cutouts.base import Cutout
from tidalkin.download.journal import DownloadJournal
from tidalkin.download.journal_file import JOURNAL
from tidalkin.download.request import CutoutRequest, VerifiedCutout
from tidalkin.download.tar import ChunkTar, write_chunk
from tidalkin.errors import TidalkinError

REQUESTS = [CutoutRequest(number, "g", "HSC-G", 150.0, 2.0, 8, f"line {number}") for number in range(6)]


def member(number: int, tract: int = 9000) -> VerifiedCutout:
    return VerifiedCutout(REQUESTS[number], tract, f"cutout {number} of tract {tract} ".encode() * 50)


def store(folder: Path, numbers: Sequence[int]) -> None:
    with DownloadJournal(folder, REQUESTS) as received:
        for number in numbers:
            received.add(member(number), final=True)
        received.flush()


def make_chunk(folder: Path) -> tuple[Path, Path]:
    """Make the chunk's tar of the stored cutouts; return it and the journal's tar."""
    with DownloadJournal(folder / "received", REQUESTS) as received:
        here = received.finish(REQUESTS)
    objects = pd.DataFrame({"object_id": range(len(REQUESTS))})
    deliveries = [
        Cutout(line.object_id, "g", "ok", location=here[line.key][0], checksum=here[line.key][1])
        if line.key in here
        else Cutout(line.object_id, "g", "absent", reason="not there")
        for line in REQUESTS
    ]
    tar = folder / "chunk.tar"
    write_chunk(deliveries, objects, ["g"], tar, folder / "chunk.ledger.parquet")
    return tar, here[REQUESTS[0].key][0].tar


def contents(tar: Path) -> list[bytes]:
    with ChunkTar(tar) as chunk:
        return [chunk.read(line.object_id, "g") for line in REQUESTS if line.key in chunk]


def settled(folder: Path) -> list[int]:
    with DownloadJournal(folder, REQUESTS) as received:
        return [line.object_id for line in REQUESTS if received.is_final(line)]


def test_what_came_in_order_becomes_the_chunks_tar_without_a_copy(tmp_path: Path) -> None:
    store(tmp_path / "received", [0, 1, 2])
    before = (tmp_path / "received" / "0.tar").stat().st_ino
    store(tmp_path / "received", [4, 5])
    tar, packed = make_chunk(tmp_path)
    assert packed.name == "0.tar"
    assert tar.stat().st_ino == packed.stat().st_ino == before
    assert contents(tar) == [member(number).content for number in (0, 1, 2, 4, 5)]


def test_what_came_in_another_order_is_packed_in_the_order_asked(tmp_path: Path) -> None:
    for folder, numbers in ((tmp_path / "one", range(6)), (tmp_path / "two", (3, 0, 5, 1, 2, 4))):
        store(folder / "received", list(numbers))
        tar, packed = make_chunk(folder)
        assert list((folder / "received").glob("*.tar")) == [packed]
        assert tar.samefile(packed)
        assert settled(folder / "received") == list(range(6))
    assert (tmp_path / "one" / "chunk.tar").read_bytes() == (tmp_path / "two" / "chunk.tar").read_bytes()


def test_a_chunks_tar_is_not_written_to_when_more_comes(tmp_path: Path) -> None:
    store(tmp_path / "received", [0, 1, 3])
    tar, _ = make_chunk(tmp_path)
    before = tar.read_bytes()
    store(tmp_path / "received", [2])
    assert tar.read_bytes() == before
    again, packed = make_chunk(tmp_path)
    assert contents(again) == [member(number).content for number in (0, 1, 2, 3)]
    assert list((tmp_path / "received").glob("*.tar")) == [packed]


def test_a_kill_between_a_new_tar_and_its_journal_loses_nothing(tmp_path: Path) -> None:
    store(tmp_path / "received", [1, 0, 2])
    before = {path.name: path.read_bytes() for path in (tmp_path / "received").iterdir()}
    make_chunk(tmp_path)
    for name, content in before.items():
        (tmp_path / "received" / name).write_bytes(content)
    (tmp_path / "chunk.tar").unlink()
    assert settled(tmp_path / "received") == [0, 1, 2]
    assert [path.name for path in (tmp_path / "received").glob("*.tar")] == ["0.tar"]


def test_of_several_tracts_the_lowest_is_kept_until_the_line_is_settled(tmp_path: Path) -> None:
    with DownloadJournal(tmp_path / "received", REQUESTS) as received:
        received.add(member(0, 9001), final=False)
        received.add(member(0, 9002), final=False)
        received.flush()
    assert settled(tmp_path / "received") == []
    with DownloadJournal(tmp_path / "received", REQUESTS) as received:
        received.add(member(0, 9000), final=True)
        received.add(member(0, 8000), final=True)
        received.flush()
    assert settled(tmp_path / "received") == [0]
    assert contents(make_chunk(tmp_path)[0]) == [member(0, 9000).content]


def test_what_is_absent_is_known_until_the_chunk_is_finished(tmp_path: Path) -> None:
    store(tmp_path / "received", [0])
    with DownloadJournal(tmp_path / "received", REQUESTS) as received:
        received.mark_absent(REQUESTS[1:3])
    assert settled(tmp_path / "received") == [0, 1, 2]
    make_chunk(tmp_path)
    assert settled(tmp_path / "received") == [0]


def test_without_hard_links_the_tar_is_moved_and_the_chunk_made_anew_asks_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, os.strerror(1))

    store(tmp_path / "received", [0, 1])
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    tar, packed = make_chunk(tmp_path)
    assert not packed.exists()
    assert contents(tar) == [member(number).content for number in (0, 1)]
    assert settled(tmp_path / "received") == []


@pytest.mark.parametrize("position", [0, 130, 700, 1400])
def test_a_byte_that_changed_on_disk_costs_one_cutout(tmp_path: Path, position: int) -> None:
    store(tmp_path, range(6))
    content = bytearray((tmp_path / "0.tar").read_bytes())
    content[len(content) // 6 * 2 + position] ^= 1
    (tmp_path / "0.tar").write_bytes(content)
    assert settled(tmp_path) == [0, 1, 3, 4, 5]


@pytest.mark.parametrize("kept", range(0, 700, 37))
def test_a_torn_journal_costs_what_it_does_not_name(tmp_path: Path, kept: int) -> None:
    store(tmp_path, range(6))
    journal = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(journal[:kept])
    whole = journal[:kept].count(b"\n")
    assert settled(tmp_path) == list(range(whole))
    store(tmp_path, range(whole, 6))
    assert settled(tmp_path) == list(range(6))


def test_a_tar_of_something_else_is_not_taken_over(tmp_path: Path) -> None:
    store(tmp_path / "received", [0, 1])
    with DownloadJournal(tmp_path / "received", REQUESTS) as received:
        here = received.finish(REQUESTS)
    objects = pd.DataFrame({"object_id": [0, 1]})
    first, second = (Cutout(number, "g", "ok", location=here[number, "g"][0], checksum="") for number in (0, 1))
    absent, sent = Cutout(0, "g", "absent", reason="not there"), Cutout(0, "g", "ok", b"sent")
    for deliveries in ([absent, second], [first, absent._replace(object_id=1)], [sent, second]):
        with pytest.raises(TidalkinError, match=r"is not the tar of a chunk|itself, but not all"):
            write_chunk(deliveries, objects, ["g"], tmp_path / "chunk.tar", tmp_path / "chunk.ledger.parquet")
    assert not (tmp_path / "chunk.tar").exists()
