"""The download report tells how far a run is."""

from __future__ import annotations

import tarfile
from io import BytesIO, StringIO
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from servers.hsc_run import Fetched, fetch, galaxies, ordered_requests, serve, settings
from servers.hsc_server import HscServer
from tidalkin.download.report import download_report, failed_chunks, print_report, write_report
from tidalkin.errors import TidalkinError

BANDS = ("g", "r", "i", "z", "y")


def members(result: Fetched) -> dict[str, bytes]:
    with tarfile.open(fileobj=BytesIO(result.tar)) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}


def test_the_report_tells_how_far_a_run_is_and_why_something_failed(tmp_path: Path) -> None:
    (tmp_path / "chunks").mkdir()
    chunks = {name: galaxies(number) for name, number in (("00000", 10), ("00001", 20), ("00002", 30))}
    for name, objects in chunks.items():
        objects.to_parquet(tmp_path / "chunks" / f"{name}.parquet")
    assert download_report(tmp_path, BANDS).seconds_left is None
    with HscServer() as server:
        service = serve(server)
        cutouts = settings(server, attempts=2)
        poison, once = (ordered_requests(chunks["00000"], cutouts)[number].text for number in (3, 30))
        service.faults = {poison: ["not-fits"] * 1000, once: ["503"]}
        first = fetch(chunks["00000"], cutouts, tmp_path)
        second = ordered_requests(chunks["00001"], cutouts)
        service.faults = {second[-1].text: ["401"]}
        small = settings(server, lines_per_request=50)
        with pytest.raises(TidalkinError):
            fetch(chunks["00001"], small, tmp_path, chunk="00001")
    report = download_report(tmp_path, BANDS)
    assert [chunk.state for chunk in report.chunks] == ["done", "under way", "waiting"]
    assert [chunk.cutouts for chunk in report.chunks] == [49, 50, 0]
    assert (report.objects, report.total("complete"), report.total("failed")) == (60, 9, 1)
    assert report.reasons == {"the file is not FITS": 1}
    assert report.faults["HTTP 503"] == 1
    assert report.total("bytes") == sum(map(len, members(first).values()))
    assert report.seconds_left == pytest.approx((300 - 100) / report.cutouts_per_second)
    write_report(report, tmp_path / "download.csv", tmp_path / "download.json")
    assert pd.read_csv(tmp_path / "download.csv")["cutouts"].sum() == 99
    console = Console(width=120, record=True, file=StringIO())
    print_report(report, tmp_path, console)
    printed = console.export_text()
    assert "9 of 60" in printed
    assert f"tidalkin retry-failed --run {tmp_path}" in printed


def test_a_half_written_chunk_or_ledger_of_a_killed_job_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "chunks").mkdir()
    (tmp_path / "cutouts").mkdir()
    galaxies(10).to_parquet(tmp_path / "chunks" / "00000.parquet")
    (tmp_path / "chunks" / ".00001.4711.partial.parquet").write_bytes(b"PAR1")
    (tmp_path / "cutouts" / ".00000.4711.partial.ledger.parquet").write_bytes(b"PAR1")
    (tmp_path / "cutouts" / ".00000.ledger.4711.partial.parquet").write_bytes(b"PAR1")
    assert [chunk.objects for chunk in download_report(tmp_path, BANDS).chunks] == [10]
    assert failed_chunks(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"", 0),
        (b"started,asked,seconds,received,bytes,rejected,fault\n", 0),
        (b"started,asked,seconds,received,bytes,rejected,fault\n1.0,5,2.0,3,100,0,HTTP 503\n2.0,5,", 1),
        (b"1.0,5,2.0,3,100,0,\n", 0),
        (b"\xff\x00\x00" * 100, 0),
    ],
)
def test_requests_that_a_full_disk_has_torn_do_not_break_the_report(tmp_path: Path, content: bytes, rows: int) -> None:
    (tmp_path / "chunks").mkdir()
    galaxies(10).to_parquet(tmp_path / "chunks" / "00000.parquet")
    folder = tmp_path / "cutouts" / ".received" / "00000"
    folder.mkdir(parents=True)
    (folder / "requests.csv").write_bytes(content)
    report = download_report(tmp_path, BANDS)
    assert report.faults == ({"HTTP 503": 1} if rows else {})
    assert report.cutouts_per_second == (1.5 if rows else 0.0)


def test_a_report_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "chunks").mkdir()
    galaxies(2).to_parquet(tmp_path / "chunks" / "00000.parquet")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TidalkinError, match=r"download.csv cannot be written \(.*\): check that the folder"):
        write_report(download_report(tmp_path, BANDS), tmp_path / "file" / "download.csv", tmp_path / "download.json")
