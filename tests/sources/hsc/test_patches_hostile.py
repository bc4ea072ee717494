"""A wrong, slow, empty or hostile archive neither holds a job nor changes a patch."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import pytest

import tidalkin.download.http
from servers.hsc_run import start_fetch
from servers.hsc_server import PASSWORD, USER, HscServer
from servers.patch_run import ADDRESS, BANDS, DEC, RA, SIZE, delivered, galaxies, settings, source
from servers.patch_service import PatchService, address_of, patch_file
from tidalkin.errors import TidalkinError
from tidalkin.sources.hsc.patch_cache import LARGEST_PATCH

G = address_of(9813, "4,5", "g")
SECRETS = (PASSWORD, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())

WRONG_PATCHES = [
    (lambda: patch_file("g", RA + 1, DEC, SIZE), "it is of another place"),
    (lambda: patch_file("g", RA, DEC, 12), "it has only 12 x 12 pixels"),
    (lambda: patch_file("g", RA, DEC, SIZE).replace(b"'RA---TAN'", b"'RA---XXX'"), "its coordinates cannot be used"),
]


@pytest.mark.parametrize(("make", "reason"), WRONG_PATCHES, ids=["place", "size", "coordinates"])
def test_a_wrong_patch_under_the_right_name_is_never_ok_and_is_asked_for_again(
    server: HscServer, service: PatchService, patches: dict[str, bytes], tmp_path: Path, make, reason: str
) -> None:
    content = make()
    # Without its checksums, as an archive that makes its files wrongly would send it.
    service.files[G] = content.replace(b"CHECKSUM", b"CHECKSUX").replace(b"DATASUM ", b"DATASUX ")
    first = delivered(source(server, tmp_path), galaxies())
    assert {(cut.band, cut.status) for cut in first} == {("g", "failed"), ("r", "ok")}
    assert all(
        cut.reason.startswith(f"patch 4,5 of tract 9813 in HSC-G came whole, but {reason}") for cut in first[::2]
    )
    service.files[G] = patches[G]
    assert {cut.status for cut in delivered(source(server, tmp_path), galaxies())} == {"ok"}


@pytest.mark.parametrize("fault", ["short 0", "trickle", "huge", "echo"])
def test_a_fault_that_lasts_is_a_failure_with_its_reason(
    server: HscServer, service: PatchService, tmp_path: Path, fault: str
) -> None:
    service.faults[ADDRESS] = [fault] * 9
    first = delivered(source(server, tmp_path), galaxies())
    assert {(cut.band, cut.status) for cut in first} == {("g", "failed"), ("r", "ok")}
    assert "3 tries without result, the last: " in first[0].reason
    service.faults.clear()
    assert {cut.status for cut in delivered(source(server, tmp_path), galaxies())} == {"ok"}


def test_a_file_without_an_announced_end_is_bounded(
    server: HscServer, service: PatchService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LARGEST_PATCH > 12 * 4200**2
    monkeypatch.setattr("tidalkin.sources.hsc.patch_cache.LARGEST_PATCH", 10)
    service.faults[ADDRESS] = ["trickle"] * 9
    cuts = delivered(source(server, tmp_path, timeout_seconds=5), galaxies())
    assert "more than 10 bytes came, which cannot be a patch" in cuts[0].reason
    assert not [path for path in (tmp_path / "patches").rglob("*.part") if path.stat().st_size > 11]


def test_headers_of_a_few_bytes_a_second_are_given_up(server: HscServer, service: PatchService, tmp_path: Path) -> None:
    server.seconds_per_header_byte = 0.05
    cuts = delivered(source(server, tmp_path, attempts=2, timeout_seconds=0.2), galaxies())
    assert {cut.status for cut in cuts} == {"failed"}
    assert all("the headers of the answer did not end in" in cut.reason for cut in cuts)


@pytest.mark.parametrize("status", ["302", "400"])
def test_a_wrong_address_stops_at_once_and_names_the_key(
    server: HscServer, service: PatchService, tmp_path: Path, status: str
) -> None:
    service.faults[ADDRESS] = [status]
    with pytest.raises(TidalkinError, match=rf"HTTP {status}\).*: check") as caught:
        delivered(source(server, tmp_path), galaxies())
    assert "cutouts.hsc_patches.url" in str(caught.value)
    assert len(service.asked) == 1


def test_an_address_with_nothing_below_it_is_asked_once_for_each_patch_and_nothing_is_absent(
    server: HscServer, service: PatchService, tmp_path: Path
) -> None:
    service.files.clear()
    cuts = delivered(source(server, tmp_path), galaxies())
    assert {cut.status for cut in cuts} == {"failed"}
    assert "check `cutouts.hsc_patches.url`" in cuts[0].reason
    assert len(service.asked) == len(BANDS)


def test_a_wait_of_thirty_years_is_bounded(
    server: HscServer, service: PatchService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidalkin.download.http, "LONGEST_WAIT_SECONDS", 0.2)
    service.faults[ADDRESS] = ["504"]
    began = time.monotonic()
    assert {cut.status for cut in delivered(source(server, tmp_path), galaxies())} == {"ok"}
    assert time.monotonic() - began >= 0.2


def test_an_archive_that_sends_back_what_it_received_gets_the_password_into_no_file(
    server: HscServer, service: PatchService, tmp_path: Path
) -> None:
    service.faults[ADDRESS] = ["echo"] * 9
    process = start_fetch(galaxies(), settings(server, tmp_path), tmp_path / "run")
    assert process.wait(120) == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"log", "00000.ledger.parquet"} <= {path.name for path in files}
    assert b"***" in (tmp_path / "run" / "log").read_bytes()
    for path in files:
        assert not [secret for secret in SECRETS if secret.encode() in path.read_bytes()], path
