"""The download of HSC cutouts: requests, stored cutouts, and what is requested again."""

from __future__ import annotations

import base64
import tarfile
import time
from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest

from servers.hsc_run import ACCOUNT, Fetched, fetch, galaxies, ordered_requests, serve, settings, start_fetch
from servers.hsc_server import PASSWORD, USER, CutoutService, HscServer
from tidalkin.config import HscDas
from tidalkin.download.credentials import find_account
from tidalkin.download.journal import DownloadJournal
from tidalkin.download.report import failed_chunks
from tidalkin.errors import TidalkinError
from tidalkin.sources.hsc.cutout_server import cutout_requests, in_server_order

BANDS = ("g", "r", "i", "z", "y")


def asked(service: CutoutService, first_request: int = 0) -> list[str]:
    return [text for request in service.requests[first_request:] for text in request.lines]


def members(result: Fetched) -> dict[str, bytes]:
    with tarfile.open(fileobj=BytesIO(result.tar)) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}


def delete_outputs(folder: Path) -> None:
    """Delete the outputs, as Snakemake does before it makes a chunk again."""
    for path in (folder / "cutouts").glob("00000.*"):
        path.unlink()


def test_a_line_asks_for_one_object_in_one_band_with_a_pixel_to_spare_on_each_side() -> None:
    objects = pd.DataFrame({"object_id": [7], "ra": [30.25], "dec": [-1.5]})
    (line,) = cutout_requests(objects, ("i",), HscDas(rerun="pdr3_dud_rev", image_type="coadd/bg", variance=False), 128)
    assert line.text == (
        "pdr3_dud_rev coadd/bg HSC-I any 30.2500000000 -1.5000000000 0.00303333 0.00303333 true true false"
    )
    assert float(line.text.split()[6]) * 3600 / 0.168 == pytest.approx(65, abs=1e-3)


def test_a_catalog_that_knows_the_tract_asks_for_it() -> None:
    objects = pd.DataFrame({"object_id": [7], "ra": [30.25], "dec": [-1.5], "tract": [9812]})
    (line,) = cutout_requests(objects, ("i",), HscDas(), 128)
    assert line.text.split()[3] == "9812"


def test_lines_are_asked_in_the_order_of_the_public_client() -> None:
    objects = pd.DataFrame(
        {"object_id": [1, 2, 3], "ra": [33.0, 31.0, 32.0], "dec": [0.0, 0.0, 0.0], "tract": [9000, 10000, 9000]}
    )
    order = [line.key for line in in_server_order(cutout_requests(objects, ("r", "g"), HscDas(), 128))]
    assert order == [(3, "g"), (1, "g"), (3, "r"), (1, "r"), (2, "g"), (2, "r")]


def test_a_chunk_is_asked_for_over_one_connection_that_names_the_project(tmp_path: Path) -> None:
    objects = galaxies(50)
    with HscServer() as server:
        service = serve(server)
        fetch(objects, settings(server), tmp_path)
        assert [len(request.lines) for request in service.requests] == [100, 100, 50]
        assert server.connections == 1
        assert all(agent.startswith("tidalkin/") for agent in server.user_agents)


@pytest.mark.parametrize("image_type", ["coadd", "coadd/bg"])
def test_every_cutout_is_the_one_asked_for_from_the_lowest_tract(image_type: str, tmp_path: Path) -> None:
    objects = galaxies(40)
    with HscServer() as server:
        service = serve(server, absent_every=20, overlap_every=3)
        cutouts = settings(server, image_type=image_type)
        result = fetch(objects, cutouts, tmp_path)
        lines = cutout_requests(objects, BANDS, cutouts.hsc_das, cutouts.size_pixels)
        expected = {
            f"{line.object_id}-{line.band}.fits": service.expected(line.text) for line in in_server_order(lines)
        }
    assert members(result) == {name: content for name, content in expected.items() if content}
    assert list(members(result)) == [name for name, content in expected.items() if content]
    absent = result.ledger[result.ledger["status"] == "absent"]
    assert len(absent) == list(expected.values()).count(None) > 0
    assert set(absent["reason"]) == {"the archive has no such data"}


def test_the_result_does_not_depend_on_the_size_of_the_requests(tmp_path: Path) -> None:
    objects = galaxies(30)
    tars = set()
    for lines_per_request in (7, 40, 990):
        with HscServer() as server:
            serve(server, overlap_every=3)
            cutouts = settings(server, lines_per_request=lines_per_request)
            tars.add(fetch(objects, cutouts, tmp_path / str(lines_per_request)).tar)
    assert len(tars) == 1


def test_a_chunk_made_anew_asks_only_for_what_is_not_there(tmp_path: Path) -> None:
    objects = galaxies(40)
    with HscServer() as server:
        service = serve(server, absent_every=20)
        cutouts = settings(server)
        first = fetch(objects, cutouts, tmp_path)
        delete_outputs(tmp_path)
        n_requests = len(service.requests)
        again = fetch(objects, cutouts, tmp_path)
        assert set(asked(service, n_requests)) == {text for text in asked(service) if not service.expected(text)}
    assert again.tar == first.tar
    assert again.ledger.equals(first.ledger)


def test_a_finished_chunk_is_on_disk_once(tmp_path: Path) -> None:
    with HscServer() as server:
        serve(server)
        fetch(galaxies(10), settings(server), tmp_path)
    (packed,) = (tmp_path / "cutouts" / ".received" / "00000").glob("*.tar")
    assert packed.samefile(tmp_path / "cutouts" / "00000.tar")


def test_a_change_of_the_size_asks_for_everything_again(tmp_path: Path) -> None:
    objects = galaxies(10)
    with HscServer() as server:
        service = serve(server)
        cutouts = settings(server)
        fetch(objects, cutouts, tmp_path)
        larger = cutouts.model_copy(update={"size_arcsec": 2 * cutouts.size_arcsec})
        result = fetch(objects, larger, tmp_path)
        assert len(asked(service)) == 100
        line = cutout_requests(objects, BANDS, larger.hsc_das, larger.size_pixels)[0]
        assert members(result)[f"{line.object_id}-{line.band}.fits"] == service.expected(line.text)


def test_failed_cutouts_are_asked_for_again_and_nothing_else(tmp_path: Path) -> None:
    objects = galaxies(20)
    with HscServer() as server:
        service = serve(server)
        cutouts = settings(server)
        poison = [ordered_requests(objects, cutouts)[number].text for number in (0, 50, 99)]
        service.faults = {text: ["corrupt-fits"] * 1000 for text in poison}
        assert fetch(objects, cutouts, tmp_path).statuses == {"ok": 97, "failed": 3}
        assert failed_chunks(tmp_path) == ["00000"]
        service.faults.clear()
        delete_outputs(tmp_path)
        n_requests = len(service.requests)
        assert fetch(objects, cutouts, tmp_path).statuses == {"ok": 100}
        assert sorted(asked(service, n_requests)) == sorted(poison)
        assert failed_chunks(tmp_path) == []


def test_damage_on_disk_is_noticed_and_asked_for_again(tmp_path: Path) -> None:
    objects = galaxies(20)
    folder = tmp_path / "cutouts" / ".received" / "00000"
    with HscServer() as server:
        service = serve(server)
        cutouts = settings(server, lines_per_request=50)
        lines = ordered_requests(objects, cutouts)
        service.faults[lines[60].text] = ["401"]
        with pytest.raises(TidalkinError):
            fetch(objects, cutouts, tmp_path)
        data = bytearray((folder / "0.tar").read_bytes())
        data[len(data) // 2] ^= 1
        (folder / "0.tar").write_bytes(data)
        journal = (folder / "journal.tsv").read_bytes()
        (folder / "journal.tsv").write_bytes(journal[:-20])
        with DownloadJournal(folder, lines) as received:
            here = [line.text for line in lines if received.is_final(line)]
        assert len(here) == 48
        n_requests = len(service.requests)
        for refusal in (tmp_path / "locks").rglob("refused.json"):
            refusal.unlink()
        result = fetch(objects, cutouts, tmp_path)
        assert not set(here) & set(asked(service, n_requests))
    with HscServer() as server:
        serve(server)
        assert result.tar == fetch(objects, settings(server), tmp_path / "faultless").tar


def test_two_processes_at_one_chunk_are_refused(tmp_path: Path) -> None:
    with (
        DownloadJournal(tmp_path, []),
        pytest.raises(TidalkinError, match="another process"),
        DownloadJournal(tmp_path, []),
    ):
        pass


def test_retry_after_is_honoured(tmp_path: Path) -> None:
    objects = galaxies(4)
    with HscServer() as server:
        service = serve(server)
        cutouts = settings(server)
        service.faults[ordered_requests(objects, cutouts)[0].text] = ["429-retry-after"]
        began = time.monotonic()
        assert fetch(objects, cutouts, tmp_path).statuses == {"ok": 20}
        assert time.monotonic() - began >= 1.0


def test_the_rate_stays_under_the_limit(tmp_path: Path) -> None:
    objects = galaxies(20)
    with HscServer() as server:
        serve(server)
        cutouts = settings(server, bytes_per_second=4e6, connections=2)
        began = time.monotonic()
        result = fetch(objects, cutouts, tmp_path)
        assert len(result.tar) / (time.monotonic() - began) < 2e6


def test_refused_credentials_stop_at_once_and_say_where_they_are_looked_for(tmp_path: Path) -> None:
    wrong = find_account("127.0.0.1", {"HSC_SSP_USER": USER, "HSC_SSP_PASSWORD": "wrong"})
    with HscServer() as server:
        service = serve(server)
        cutouts = settings(server)
        with pytest.raises(TidalkinError, match=r"HTTP 401.*HSC_SSP_USER.*HSC_SSP_PASSWORD.*netrc"):
            fetch(galaxies(50), cutouts, tmp_path, wrong)
        assert len(service.requests) == 1
        with pytest.raises(TidalkinError, match="were refused"):
            fetch(galaxies(50), cutouts, tmp_path / "another job", wrong, tmp_path / "locks")
        assert len(service.requests) == 1
        assert fetch(galaxies(50), cutouts, tmp_path, ACCOUNT).statuses == {"ok": 250}


def test_forbidden_twice_stops(tmp_path: Path) -> None:
    objects = galaxies(50)
    with HscServer() as server:
        service = serve(server)
        cutouts = settings(server)
        service.faults[ordered_requests(objects, cutouts)[0].text] = ["403", "403"]
        with pytest.raises(TidalkinError, match=r"pdr3_wide \(HTTP 403, twice\)"):
            fetch(objects, cutouts, tmp_path)
        assert len(service.requests) == 2


def test_no_file_a_run_writes_holds_the_credentials(tmp_path: Path) -> None:
    objects = galaxies(20)
    with HscServer() as server:
        service = serve(server, stall_seconds=1.0)
        cutouts = settings(server, attempts=20)
        kinds = ["500", "reset", "stalled", "html", "truncated", "corrupt-fits", "401"]
        service.faults = {ordered_requests(objects, cutouts)[10].text: kinds}
        assert start_fetch(objects, cutouts, tmp_path / "run").wait(60) != 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"log", "refused.json", "journal.tsv", "requests.csv"} <= {path.name for path in files}
    log = (tmp_path / "run" / "log").read_bytes()
    assert b"Traceback" in log
    assert b"DEBUG" in log
    secrets = [PASSWORD.encode(), base64.b64encode(f"{USER}:{PASSWORD}".encode())]
    for path in files:
        assert not any(secret in path.read_bytes() for secret in secrets), path
