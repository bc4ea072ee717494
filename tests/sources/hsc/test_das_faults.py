"""The download of HSC cutouts survives every fault of the test server, and kill -9."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from servers.hsc_run import Fetched, fetch, galaxies, ordered_requests, serve, settings, start_fetch
from servers.hsc_server import ANSWER_FAULTS, MEMBER_FAULTS, STREAM_FAULTS, HscServer
from tidalkin.download.journal import DownloadJournal
from tidalkin.download.journal_file import JOURNAL, count_stored
from tidalkin.errors import TidalkinError
from tidalkin.sources.hsc.cutout_server import cutout_requests

EVERY_FAULT = (*ANSWER_FAULTS, *STREAM_FAULTS, *MEMBER_FAULTS)
SKY = {"absent_every": 40, "overlap_every": 6}


def faultless(objects: pd.DataFrame, folder: Path) -> Fetched:
    with HscServer() as server:
        serve(server, **SKY)
        return fetch(objects, settings(server), folder / "faultless")


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def run_to_the_end(objects: pd.DataFrame, cutouts: object, folder: Path) -> tuple[Fetched, int]:
    """Fetch, and again after each error that a user must fix; also count those errors."""
    for stops in range(100):
        try:
            return fetch(objects, cutouts, folder), stops
        except TidalkinError as error:
            if "(HTTP 401)" not in str(error):
                raise
            for refusal in folder.rglob("refused.json"):
                refusal.unlink()
    raise AssertionError("it never ends")


def check_fault(kind: str, objects: pd.DataFrame, expected: Fetched, folder: Path, position: str) -> None:
    """Inject ``kind`` in the first, middle and last request, at that ``position`` of the request."""
    with HscServer() as server:
        service = serve(server, stall_seconds=1.0, **SKY)
        cutouts = settings(server)
        lines = ordered_requests(objects, cutouts)
        size = cutouts.hsc_das.transport.lines_per_request
        batches = [lines[start : start + size] for start in range(0, len(lines), size)]
        for batch in (batches[0], batches[len(batches) // 2], batches[-1]):
            at = {"first": 0, "middle": len(batch) // 2, "last": len(batch) - 1}[position]
            # A line without data in the archive has no member to spoil.
            while service.expected(batch[at].text) is None:
                at = at + 1 if position == "first" else at - 1
            service.faults[batch[at].text] = [kind]
        result, stops = run_to_the_end(objects, cutouts, folder)
        assert not any(service.faults.values()), "a fault was never asked for"
    assert stops == (3 if kind == "401" else 0)
    assert result.tar == expected.tar
    assert result.ledger.equals(expected.ledger)
    (packed,) = (folder / "cutouts" / ".received" / "00000").glob("*.tar")
    assert packed.samefile(folder / "cutouts" / "00000.tar")
    assert files_below(folder) == {
        "cutouts/00000.tar",
        str(packed.relative_to(folder)),
        "cutouts/00000.ledger.parquet",
        "cutouts/.received/00000/journal.tsv",
        "cutouts/.received/00000/lock",
        "cutouts/.received/00000/requests.csv",
        f"locks/{server.host.replace(':', '_')}/0.lock",
    }


def test_every_fault_of_the_server_leaves_the_result_of_a_small_chunk_unchanged(tmp_path: Path) -> None:
    objects = galaxies(50)
    expected = faultless(objects, tmp_path)
    assert set(expected.statuses) == {"ok", "absent"}
    for number, kind in enumerate(EVERY_FAULT):
        position = ("first", "middle", "last")[number % 3]
        check_fault(kind, objects, expected, tmp_path / kind, position)


@pytest.fixture(scope="module")
def faultless_300(tmp_path_factory: pytest.TempPathFactory) -> Fetched:
    return faultless(galaxies(300), tmp_path_factory.mktemp("faultless"))


@pytest.mark.slow
@pytest.mark.parametrize("position", ["first", "middle", "last"])
@pytest.mark.parametrize("kind", EVERY_FAULT)
def test_a_fault_in_first_middle_and_last_request_leaves_the_result_unchanged(
    kind: str, position: str, faultless_300: Fetched, tmp_path: Path
) -> None:
    check_fault(kind, galaxies(300), faultless_300, tmp_path / "run", position)


def test_all_faults_in_one_run_leave_the_result_unchanged(faultless_300: Fetched, tmp_path: Path) -> None:
    objects, expected = galaxies(300), faultless_300
    generator = random.Random(3)
    with HscServer() as server:
        service = serve(server, stall_seconds=1.0, **SKY)
        cutouts = settings(server, lines_per_request=50, attempts=20)
        there = [line.text for line in ordered_requests(objects, cutouts) if service.expected(line.text)]
        # Left out are a second 403 in a row, which stops the run, and a member missing twice, which is absent.
        kinds = [kind for kind in EVERY_FAULT if kind not in ("403", "missing-member")] * 2
        service.faults = {text: [kind] for text, kind in zip(generator.sample(there, len(kinds)), kinds, strict=True)}
        result, _ = run_to_the_end(objects, cutouts, tmp_path / "run")
        assert not any(service.faults.values())
    assert result.tar == expected.tar
    assert result.ledger.equals(expected.ledger)


@pytest.mark.parametrize(
    "kind", ["500", "reset", "corrupt-fits", "short-fits", "wrong-filter", "html-as-tar", "symlink"]
)
def test_a_line_the_server_always_stumbles_over_costs_only_itself(kind: str, tmp_path: Path) -> None:
    objects = galaxies(30)
    with HscServer() as server:
        service = serve(server)
        cutouts = settings(server)
        poison = ordered_requests(objects, cutouts)[40]
        service.faults[poison.text] = [kind] * 1000
        result = fetch(objects, cutouts, tmp_path)
    failed = result.ledger[result.ledger["status"] == "failed"]
    assert [(row.object_id, row.band) for row in failed.itertuples()] == [poison.key]
    assert result.statuses == {"ok": 149, "failed": 1}
    assert failed["reason"].item()


def test_bad_lines_side_by_side_cost_only_themselves(tmp_path: Path) -> None:
    objects = galaxies(30)
    with HscServer() as server:
        service = serve(server)
        cutouts = settings(server)
        poison = ordered_requests(objects, cutouts)[40:43]
        service.faults = {line.text: ["500"] * 1000 for line in poison}
        result = fetch(objects, cutouts, tmp_path)
    failed = result.ledger[result.ledger["status"] == "failed"]
    assert {(row.object_id, row.band) for row in failed.itertuples()} == {line.key for line in poison}
    assert set(failed["reason"]) == {"5 tries without result, the last: HTTP 500"}


def test_a_server_that_stays_away_fails_what_is_left_in_bounded_time(tmp_path: Path) -> None:
    objects = galaxies(30)
    with HscServer() as server:
        service = serve(server)
        cutouts = settings(server)
        service.faults = {line.text: ["503"] * 1000 for line in ordered_requests(objects, cutouts)[100:]}
        result = fetch(objects, cutouts, tmp_path)
        assert len(service.requests) == 1 + cutouts.hsc_das.transport.attempts
    assert result.statuses == {"ok": 100, "failed": 50}


def test_what_is_missing_twice_is_absent_and_the_ledger_says_so(tmp_path: Path) -> None:
    objects = galaxies(30)
    with HscServer() as server:
        service = serve(server)
        cutouts = settings(server)
        lines = ordered_requests(objects, cutouts)
        service.faults[lines[10].text] = ["missing-member"]
        service.faults[lines[20].text] = ["missing-member"] * 2
        result = fetch(objects, cutouts, tmp_path)
        assert [len(request.lines) for request in service.requests] == [100, 50, 2]
    absent = result.ledger[result.ledger["status"] == "absent"]
    assert [(row.object_id, row.band) for row in absent.itertuples()] == [lines[20].key]


def check_kills(number: int, kills: int, seconds_per_member: float, folder: Path) -> None:
    """Kill a download several times, let it end, and compare the result and the requests."""
    objects = galaxies(number)
    expected = faultless(objects, folder)
    generator = random.Random(number)
    run = folder / "run"
    with HscServer() as server:
        service = serve(server, seconds_per_member=seconds_per_member, **SKY)
        cutouts = settings(server, lines_per_request=200, timeout_seconds=30)
        lines = cutout_requests(objects, cutouts.bands, cutouts.hsc_das, cutouts.size_pixels)
        killed_while_downloading, safe_after = 0, []
        for _ in range(kills):
            process = start_fetch(objects, cutouts, run)
            n_requests = len(service.requests)
            while len(service.requests) == n_requests and process.poll() is None:
                time.sleep(0.01)
            # However slow the machine is, the kills come when something is on disk.
            while not count_stored(run / "cutouts" / ".received" / "00000" / JOURNAL) and process.poll() is None:
                time.sleep(0.01)
            time.sleep(generator.uniform(0, 0.4 * 200 * seconds_per_member * 4))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            killed_while_downloading += not (run / "cutouts" / "00000.tar").exists()
            with DownloadJournal(run / "cutouts" / ".received" / "00000", lines) as received:
                safe = {line.text for line in lines if received.is_final(line)}
            safe_after.append((len(service.requests), safe))
        assert killed_while_downloading == kills
        service.seconds_per_member = 0
        process = start_fetch(objects, cutouts, run)
        assert process.wait(120) == 0, (run / "log").read_text()
        for asked_before, safe in safe_after:
            for request in service.requests[asked_before:]:
                assert not safe & set(request.lines), "a line was asked for that was safely on disk"
        assert safe_after[-1][1]
    assert (run / "cutouts" / "00000.tar").read_bytes() == expected.tar
    assert pd.read_parquet(run / "cutouts" / "00000.ledger.parquet").equals(expected.ledger)


def test_three_kills_lose_nothing_that_was_on_disk(tmp_path: Path) -> None:
    check_kills(200, 3, 0.001, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_kills_during_a_download_of_two_thousand_galaxies_lose_nothing(tmp_path: Path) -> None:
    check_kills(2000, 20, 0.0005, tmp_path)
