"""A chunk's tar and ledger are complete or absent, and list every cutout."""

from __future__ import annotations

import os
import resource
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidalkin.cutouts.base import Cutout, TarLocation
from tidalkin.download.ledger import checksum, read_ledger
from tidalkin.download.tar import ChunkTar, write_chunk
from tidalkin.errors import TidalkinError

BANDS = ("g", "r")
OBJECTS = pd.DataFrame({"object_id": [7, 43160169307177141], "ra": [1.0, 2.0], "dec": [0.0, 0.0]})
DELIVERIES = (
    Cutout(7, "g", "ok", b"first"),
    Cutout(7, "r", "absent", reason="the archive has none"),
    Cutout(43160169307177141, "g", "failed", reason="cut short"),
    Cutout(43160169307177141, "r", "ok", b"second" * 200),
)


def write(folder, deliveries=DELIVERIES):
    return write_chunk(deliveries, OBJECTS, BANDS, folder / "00000.tar", folder / "00000.ledger.parquet")


def test_the_ledger_has_one_row_per_object_and_band(tmp_path):
    ledger = write(tmp_path)
    pd.testing.assert_frame_equal(ledger, read_ledger(tmp_path / "00000.ledger.parquet"))
    assert ledger["object_id"].tolist() == [7, 7, 43160169307177141, 43160169307177141]
    assert ledger["object_id"].dtype == ledger["bytes"].dtype == "int64"
    assert ledger["band"].tolist() == ["g", "r", "g", "r"]
    assert ledger["status"].tolist() == ["ok", "absent", "failed", "ok"]
    assert ledger["reason"].tolist() == ["", "the archive has none", "cut short", ""]
    assert ledger["bytes"].tolist() == [5, 0, 0, 1200]
    assert ledger["checksum"].tolist() == [checksum(b"first"), "", "", checksum(b"second" * 200)]


def test_a_chunk_written_again_is_byte_identical(tmp_path):
    for folder in ("one", "two"):
        write(tmp_path / folder)
    for name in ("00000.tar", "00000.ledger.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_any_tar_program_reads_the_tar(tmp_path):
    write(tmp_path)
    with tarfile.open(tmp_path / "00000.tar") as tar:
        assert tar.getnames() == ["7-g.fits", "43160169307177141-r.fits"]
        assert {(member.mtime, member.uid, member.uname) for member in tar} == {(0, 0, "")}


@pytest.mark.parametrize(
    ("deliveries", "sentence"),
    [
        (DELIVERIES[:3], "gave nothing where object 43160169307177141 in r was due"),
        ((*DELIVERIES, DELIVERIES[0]), "object 7 in g, which was not requested"),
        ((DELIVERIES[0], DELIVERIES[0], *DELIVERIES[2:]), "object 7 in g where object 7 in r was due"),
        ((DELIVERIES[1], DELIVERIES[0], *DELIVERIES[2:]), "object 7 in r where object 7 in g was due"),
        ((Cutout(7, "g", "ok"), *DELIVERIES[1:]), "'ok' with 0 bytes"),
        ((Cutout(7, "g", "absent"), *DELIVERIES[1:]), "'absent' with 0 bytes and the reason ''"),
    ],
)
def test_a_source_that_misbehaves_leaves_nothing(tmp_path, deliveries, sentence):
    with pytest.raises(TidalkinError, match=sentence):
        write(tmp_path, deliveries)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_breaks_midway_keeps_the_earlier_chunk(tmp_path):
    write(tmp_path)
    before = (tmp_path / "00000.tar").read_bytes()

    def breaks():
        yield DELIVERIES[0]
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write(tmp_path, breaks())
    assert (tmp_path / "00000.tar").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    large = (Cutout(7, "g", "ok", bytes(300_000)), *DELIVERIES[1:])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(TidalkinError, match=r"00000.tar cannot be written \(.*\): free some space and run again"):
            write(tmp_path, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_cutouts_are_read_in_any_order_by_many_threads(tmp_path):
    objects = pd.DataFrame({"object_id": range(200)})
    deliveries = [Cutout(i, band, "ok", f"{i}{band}".encode() * 500) for i in range(200) for band in BANDS]
    write_chunk(deliveries, objects, BANDS, tmp_path / "0.tar", tmp_path / "0.parquet")
    with ChunkTar(tmp_path / "0.tar") as chunk, ThreadPoolExecutor(8) as threads:
        assert len(chunk) == 400
        found = threads.map(lambda delivery: chunk.read(delivery.object_id, delivery.band), deliveries[::-1])
        assert list(found) == [delivery.content for delivery in deliveries[::-1]]
        assert (7, "y") not in chunk
        with pytest.raises(TidalkinError, match=r"0.tar holds no 7-y.fits"):
            chunk.read(7, "y")


@pytest.mark.parametrize("kept", [0, 100, 512, 700, 1500, 2048, 3500])
def test_a_tar_cut_short_is_refused(tmp_path, kept):
    write(tmp_path)
    path = tmp_path / "00000.tar"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(TidalkinError, match=r"00000.tar is cut short"):
        ChunkTar(path)


@pytest.mark.parametrize(("position", "flipped"), [(0, 8), (124, 7), (126, 9), (148, 7), (156, 5)])
def test_a_damaged_header_is_no_end_of_the_tar(tmp_path, position, flipped):
    write(tmp_path)
    path = tmp_path / "00000.tar"
    content = bytearray(path.read_bytes())
    content[1024 + position] ^= flipped  # the header of the second cutout
    path.write_bytes(content)
    with pytest.raises(TidalkinError, match=r"00000.tar is cut short or not a tar of cutouts \(.*\): delete it"):
        ChunkTar(path)


def test_a_tar_packed_again_by_another_program_is_read(tmp_path):
    write(tmp_path)
    with (
        tarfile.open(tmp_path / "00000.tar") as tar,
        tarfile.open(tmp_path / "again.tar", "w", format=tarfile.PAX_FORMAT) as again,
    ):
        for member in tar:
            member.mtime, member.uname = 0.5, "Zoë"  # neither fits the plain header
            again.addfile(member, tar.extractfile(member))
    with ChunkTar(tmp_path / "again.tar") as chunk:
        assert (chunk.read(7, "g"), chunk.read(43160169307177141, "r")) == (b"first", b"second" * 200)


def test_files_that_are_no_chunk_are_refused(tmp_path):
    with pytest.raises(TidalkinError, match=r"nowhere.tar cannot be read"):
        ChunkTar(tmp_path / "nowhere.tar")
    (tmp_path / "text.tar").write_bytes(b"hello " * 1000 + bytes(2048))
    with pytest.raises(TidalkinError, match=r"text.tar is cut short or not a tar of cutouts"):
        ChunkTar(tmp_path / "text.tar")
    with tarfile.open(tmp_path / "other.tar", "w") as tar:
        tar.add(tmp_path / "text.tar", arcname="../evil-g.fits")
    with pytest.raises(TidalkinError, match=r"'../evil-g\.fits', which is not a cutout"):
        ChunkTar(tmp_path / "other.tar")


@settings(deadline=None, max_examples=25)
@given(contents=st.lists(st.binary(max_size=3000), max_size=12))
def test_what_is_written_is_read(tmp_path_factory, contents):
    folder = tmp_path_factory.mktemp("chunk")
    deliveries = [
        Cutout(i, "g", "ok", content) if content else Cutout(i, "g", "absent", reason="empty")
        for i, content in enumerate(contents)
    ]
    objects = pd.DataFrame({"object_id": pd.Series(range(len(contents)), dtype="int64")})
    ledger = write_chunk(deliveries, objects, ["g"], folder / "0.tar", folder / "0.parquet")
    with ChunkTar(folder / "0.tar") as chunk:
        read = [chunk.read(i, "g") if status == "ok" else b"" for i, status in enumerate(ledger["status"])]
    assert read == contents


def test_what_a_killed_job_of_the_same_process_id_left_does_not_empty_the_tar_of_the_source(tmp_path):
    write(tmp_path / "packed")
    packed = tmp_path / "packed" / "00000.tar"
    content = packed.read_bytes()
    left = tmp_path / f".00000.{os.getpid()}.partial.tar"
    left.hardlink_to(packed)
    places = (TarLocation(packed, 512, 5), TarLocation(packed, 1536, 1200))
    deliveries = [
        delivery._replace(content=b"", location=places[delivery.object_id != 7]) if delivery.content else delivery
        for delivery in DELIVERIES
    ]
    write(tmp_path, deliveries)
    assert packed.read_bytes() == content == (tmp_path / "00000.tar").read_bytes()
