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
from tidalkin.download.report import download_report, print_report, write_report
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
