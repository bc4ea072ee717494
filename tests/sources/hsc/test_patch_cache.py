"""Each patch is downloaded once, resumed, checked and evicted."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from pydantic import SecretStr

from servers.hsc_server import USER, HscServer
from servers.patch_run import ADDRESS, delivered, galaxies, source
from servers.patch_service import PatchService, address_of
from tidalkin.cutouts.base import Cutout
from tidalkin.download.credentials import Account
from tidalkin.errors import TidalkinError


def test_a_patch_is_downloaded_once_for_all_its_objects_and_chunks(
    server: HscServer, service: PatchService, tmp_path: Path
) -> None:
    objects = galaxies()
    delivered(source(server, tmp_path), objects[:3])
    delivered(source(server, tmp_path), objects[3:])
    assert sorted(address for address, _ in service.asked) == [ADDRESS, ADDRESS.replace("HSC-G", "HSC-R")]


def test_two_jobs_at_one_patch_download_it_once(server: HscServer, service: PatchService, tmp_path: Path) -> None:
    objects = galaxies()
    results: list[list[Cutout]] = []
    jobs = [
        threading.Thread(target=lambda: results.append(delivered(source(server, tmp_path), objects))) for _ in range(2)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert results[0] == results[1]
    assert len(service.asked) == 2


FAULTS = ["500", "503", "429", "html", "short 20000", "reset 0", "reset 30000", "flip 150000", "flip 3", "no-ranges"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_changes_no_byte(server: HscServer, service: PatchService, tmp_path: Path, fault: str) -> None:
    smooth = delivered(source(server, tmp_path / "smooth"), galaxies())
    service.faults[ADDRESS] = [fault]
    assert delivered(source(server, tmp_path / "rough"), galaxies()) == smooth
    assert not service.faults[ADDRESS]


def test_a_download_that_breaks_again_and_again_goes_on_where_it_was(
    server: HscServer, service: PatchService, patches: dict[str, bytes], tmp_path: Path
) -> None:
    size = len(patches[address_of(9813, "4,5", "g")])
    service.faults[ADDRESS] = ["reset 70000"] * 5
    assert {cut.status for cut in delivered(source(server, tmp_path, attempts=2), galaxies())} == {"ok"}
    starts = [int(re.sub(r"\D", "", asked) or 0) for address, asked in service.asked if address == ADDRESS]
    assert starts == sorted(starts)
    assert starts[-1] > 0
    assert service.sent[ADDRESS] < size + 6 * 70000


@pytest.mark.parametrize("then", ["changed", "wrong-range", "no-ranges", "416"])
def test_what_is_no_continuation_begins_anew(
    server: HscServer, service: PatchService, tmp_path: Path, then: str
) -> None:
    smooth = delivered(source(server, tmp_path / "smooth"), galaxies())
    service.faults[ADDRESS] = ["reset 70000", then]
    assert delivered(source(server, tmp_path / "rough"), galaxies()) == smooth


def test_the_next_run_goes_on_where_a_killed_one_was(server: HscServer, service: PatchService, tmp_path: Path) -> None:
    service.faults[ADDRESS] = ["reset 70000", "500", "500", "500"]
    first = delivered(source(server, tmp_path), galaxies())
    assert {cut.reason.partition(":")[0] for cut in first if cut.band == "g"} == {"patch 4,5 of tract 9813 in HSC-G"}
    assert {cut.status for cut in first if cut.band == "g"} == {"failed"}
    assert {cut.status for cut in first if cut.band == "r"} == {"ok"}
    service.asked.clear()
    assert {cut.status for cut in delivered(source(server, tmp_path), galaxies())} == {"ok"}
    (asked,) = (asked for address, asked in service.asked if address == ADDRESS)
    assert asked.startswith("bytes=")


def test_a_patch_the_archive_does_not_have_is_absent(server: HscServer, service: PatchService, tmp_path: Path) -> None:
    del service.files[address_of(9813, "4,5", "r")]
    cuts = delivered(source(server, tmp_path), galaxies())
    assert {(cut.band, cut.status) for cut in cuts} == {("g", "ok"), ("r", "absent")}
    assert "the archive has no patch 4,5 of tract 9813 in HSC-R" in {cut.reason for cut in cuts}


def test_a_damaged_patch_is_not_kept(server: HscServer, service: PatchService, tmp_path: Path) -> None:
    service.faults[ADDRESS] = ["flip 150000"] * 4
    cuts = delivered(source(server, tmp_path), galaxies())
    assert {cut.status for cut in cuts if cut.band == "g"} == {"failed"}
    assert "hecksum" in cuts[0].reason or "atasum" in cuts[0].reason
    assert [path.name for path in (tmp_path / "patches").rglob("*.fits")] == ["deepCoadd-HSC-R-9813-4,5.fits"]


def test_a_patch_of_another_filter_is_refused(
    server: HscServer, service: PatchService, patches: dict[str, bytes], tmp_path: Path
) -> None:
    service.files[address_of(9813, "4,5", "g")] = patches[address_of(9813, "4,5", "r")]
    assert "it is of filter HSC-R" in delivered(source(server, tmp_path), galaxies())[0].reason


def test_the_cache_keeps_to_its_size(server: HscServer, patches: dict[str, bytes], tmp_path: Path) -> None:
    plain = patches[address_of(9813, "4,5", "g")]
    service = PatchService({address_of(9813, f"{x},5", "g"): plain for x in range(5)})
    service.mount(server)
    bound = 2.5 * len(plain) / 1e9
    for x in range(5):
        list(source(server, tmp_path, cache_gigabytes=bound).fetch(galaxies().assign(patch=100 * x + 5), ["g"]))
    kept = sorted(path.name for path in (tmp_path / "patches").rglob("*.fits"))
    assert kept == ["deepCoadd-HSC-G-9813-3,5.fits", "deepCoadd-HSC-G-9813-4,5.fits"]


def test_a_wrong_password_stops_everything_at_once(server: HscServer, service: PatchService, tmp_path: Path) -> None:
    wrong = Account(USER, SecretStr("not-the-password"), "HSC_SSP_USER and HSC_SSP_PASSWORD")
    with pytest.raises(TidalkinError, match="refuses the credentials found in HSC_SSP_USER") as caught:
        delivered(source(server, tmp_path, wrong), galaxies())
    assert "not-the-password" not in str(caught.value)
    assert len(service.asked) == 1
    with pytest.raises(TidalkinError, match=r"were refused \d+ s ago"):
        delivered(source(server, tmp_path, wrong), galaxies())
    assert len(service.asked) == 1
