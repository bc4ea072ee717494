"""A wrong, slow, empty or hostile server neither holds a job nor passes the checks."""

from __future__ import annotations

import base64
import logging
import resource
from pathlib import Path

import pytest

from servers.hsc_run import fetch, galaxies, ordered_requests, serve, settings, start_fetch
from servers.hsc_server import PASSWORD, USER, HscServer
from tidalkin.download.report import failed_chunks
from tidalkin.errors import TidalkinError

SECRETS = (PASSWORD, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())


@pytest.mark.parametrize("kind", ["other-place", "other-size"])
def test_a_cutout_of_another_place_or_size_is_never_ok(kind: str, tmp_path: Path) -> None:
    objects = galaxies(6)
    with HscServer() as server:
        service = serve(server)
        cutouts = settings(server)
        spoiled = ordered_requests(objects, cutouts)[7]
        service.faults[spoiled.text] = [kind] * 1000
        result = fetch(objects, cutouts, tmp_path)
        assert result.statuses == {"ok": 29, "failed": 1}
        failed = result.ledger[result.ledger["status"] == "failed"]
        assert (failed["object_id"].item(), failed["band"].item()) == spoiled.key
        assert "10 x 10 pixels around it were requested" in failed["reason"].item()
        assert failed_chunks(tmp_path) == ["00000"]
        service.faults.clear()
        assert fetch(objects, cutouts, tmp_path).statuses == {"ok": 30}


@pytest.mark.parametrize("status", [400, 404, 301, 302, 307, 410])
def test_a_wrong_address_stops_at_once_and_names_the_key(status: int, tmp_path: Path) -> None:
    with HscServer() as server:
        service = serve(server, answer_status=status)
        with pytest.raises(TidalkinError, match=rf"HTTP {status}\b.*: check") as caught:
            fetch(galaxies(6), settings(server), tmp_path)
        assert "cutouts.hsc_das.url" in str(caught.value)
        assert len(service.requests) == 1
    if status in (301, 302, 307):
        assert "redirects to login.example.org" in str(caught.value)


def test_a_path_that_the_server_does_not_serve_stops_at_once(tmp_path: Path) -> None:
    with HscServer() as server, pytest.raises(TidalkinError, match=r"cutouts.hsc_das.url` names \(HTTP 404\)"):
        fetch(galaxies(2), settings(server), tmp_path)


def test_an_answer_of_a_few_bytes_a_second_is_given_up(tmp_path: Path) -> None:
    with HscServer() as server:
        service = serve(server, seconds_per_byte=0.05)
        result = fetch(galaxies(1), settings(server, attempts=2), tmp_path)
        assert all(not request.finished for request in service.requests)
    assert result.statuses == {"failed": 5}
    assert set(result.ledger["reason"].str.extract("the last: (.*):")[0]) == {"the answer is too slow"}


def test_headers_of_a_few_bytes_a_second_are_given_up(tmp_path: Path) -> None:
    with HscServer() as server:
        serve(server)
        server.seconds_per_header_byte = 0.05
        result = fetch(galaxies(1), settings(server, attempts=2, timeout_seconds=0.2), tmp_path)
    assert result.statuses == {"failed": 5}
    assert result.ledger["reason"].str.contains("the headers of the answer did not end in").all()


def test_an_empty_tar_twice_is_a_failure_that_is_asked_for_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    objects = galaxies(6)
    with HscServer() as server:
        service = serve(server, is_empty=True)
        cutouts = settings(server)
        with caplog.at_level(logging.WARNING):
            result = fetch(objects, cutouts, tmp_path)
        assert result.statuses == {"failed": 30}
        assert "without a single" in caplog.text
        assert failed_chunks(tmp_path) == ["00000"]
        service.is_empty = False
        assert fetch(objects, cutouts, tmp_path).statuses == {"ok": 30}


def test_a_server_that_sends_back_what_it_received_gets_the_password_into_no_file(tmp_path: Path) -> None:
    with HscServer() as server:
        serve(server, echo=True)
        process = start_fetch(galaxies(2), settings(server, attempts=2), tmp_path / "run")
        assert process.wait(120) == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"log", "requests.csv", "00000.ledger.parquet"} <= {path.name for path in files}
    assert b"***" in (tmp_path / "run" / "log").read_bytes()
    for path in files:
        assert not [secret for secret in SECRETS if secret.encode() in path.read_bytes()], path


def test_a_full_disk_is_one_sentence_and_the_next_run_goes_on(tmp_path: Path) -> None:
    objects = galaxies(20)
    with HscServer() as server:
        service = serve(server)
        cutouts = settings(server, lines_per_request=10)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
        try:
            with pytest.raises(TidalkinError, match=r"00000.* cannot be written.*: free some space and run again"):
                fetch(objects, cutouts, tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        stored = len(service.requests)
        assert stored > 1
        assert fetch(objects, cutouts, tmp_path).statuses == {"ok": 100}
        asked = [text for request in service.requests for text in request.lines]
        assert len(asked) < 2 * 100


def test_an_empty_file_of_requests_gets_its_header(tmp_path: Path) -> None:
    folder = tmp_path / "cutouts" / ".received" / "00000"
    folder.mkdir(parents=True)
    (folder / "requests.csv").touch()
    with HscServer() as server:
        serve(server)
        fetch(galaxies(2), settings(server), tmp_path)
    assert (folder / "requests.csv").read_text().startswith("started,asked,seconds")
