"""Catalogs from HSC's catalog server: the table, its provenance, faults, and no job left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from servers.catalog_service import CATALOG_PATH, CatalogService
from servers.hsc_server import PASSWORD, USER, HscServer
from tidalkin.config import Catalog, CatalogServer
from tidalkin.constants import FWHM_PER_SIGMA
from tidalkin.download.credentials import Account
from tidalkin.errors import TidalkinError
from tidalkin.sources.hsc.psf import psf_fwhm, with_psf_fwhm
from tidalkin.sources.hsc.sql import counting, query_catalog

ACCOUNT = Account(USER, SecretStr(PASSWORD), "the test")
MOMENTS = ",".join(f"i_sdssshape_psf_shape{axes}" for axes in ("11", "22", "12"))
TABLE = f"""object_id,ra,dec,tract,patch,i_cmodel_mag,{MOMENTS}
40000000000000001,150.1,2.1,9813,405,18.5,0.0625,0.0625,0.0
40000000000000003,150.2,2.2,9813,405,19.25,0.09,0.04,0.0
40000000000000007,150.3,2.3,9813,406,,,,
"""
SQL = "SELECT object_id, ra, dec FROM pdr3_wide.forced WHERE isprimary; -- all of them"


@pytest.fixture
def server() -> Iterator[HscServer]:
    with HscServer() as running:
        yield running


def mounted(server: HscServer, **options: object) -> CatalogService:
    service = CatalogService(TABLE, **options)
    service.mount(server)
    return service


def settings(server: HscServer, folder: Path, **changes: object) -> Catalog:
    query = folder / "galaxies.sql"
    query.write_text(SQL)
    quick = {"url": server.url(CATALOG_PATH), "attempts": 3, "backoff_seconds": 0.01, "backoff_maximum_seconds": 0.02}
    quick |= {"poll_seconds": 0.01, "timeout_seconds": 0.3}
    return Catalog(source="hsc_sql", query=str(query), server=CatalogServer(**(quick | changes)))


def test_a_query_gives_the_checked_catalog_with_the_psf_of_each_galaxy(server: HscServer, tmp_path: Path) -> None:
    service = mounted(server)
    catalog = query_catalog(settings(server, tmp_path), tmp_path / "hsc.csv.gz", ACCOUNT)
    assert catalog["object_id"].tolist() == [40000000000000001, 40000000000000003, 40000000000000007]
    assert catalog["object_id"].dtype == np.int64
    assert catalog["psf_fwhm_i"].tolist()[:2] == pytest.approx([FWHM_PER_SIGMA * 0.25, FWHM_PER_SIGMA * 0.06**0.5])
    assert np.isnan(catalog["psf_fwhm_i"][2])
    assert catalog["patch"].tolist() == [405, 405, 406]
    assert service.deleted == [1001]
    assert not service.jobs
    assert server.user_agents == {"tidalkin/" + __import__("tidalkin").__version__}


def test_rows_are_counted_before_the_full_query_is_sent(server: HscServer, tmp_path: Path) -> None:
    service = mounted(server)
    query_catalog(settings(server, tmp_path), tmp_path / "hsc.csv.gz", ACCOUNT)
    assert [method for method, _ in service.asked[:2]] == ["preview", "submit"]
    submitted = service.asked[1][1]
    assert submitted["catalog_job"]["sql"] == SQL
    assert submitted["catalog_job"]["release_version"] == "pdr3"
    assert submitted["nomail"] is True


def test_sql_time_and_rows_are_kept_beside_the_table_without_the_password(server: HscServer, tmp_path: Path) -> None:
    mounted(server)
    query_catalog(settings(server, tmp_path), tmp_path / "hsc.csv.gz", ACCOUNT)
    kept = json.loads((tmp_path / "hsc.csv.gz.json").read_text())
    assert kept["sql"] == SQL
    assert kept["rows_counted"] == 3
    assert kept["release"] == "pdr3"
    assert abs(pd.Timestamp(kept["submitted"]).timestamp() - time.time()) < 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["galaxies.sql", "hsc.csv.gz", "hsc.csv.gz.json"]
    assert not any(PASSWORD.encode() in path.read_bytes() for path in tmp_path.iterdir())


def test_a_table_that_is_here_for_the_same_sql_is_not_asked_for_again(server: HscServer, tmp_path: Path) -> None:
    service = mounted(server)
    first = query_catalog(settings(server, tmp_path), tmp_path / "hsc.csv.gz", ACCOUNT)
    again = query_catalog(settings(server, tmp_path), tmp_path / "hsc.csv.gz", ACCOUNT)
    pd.testing.assert_frame_equal(first, again)
    assert service.calls["submit"] == 1
    changed = settings(server, tmp_path)
    Path(changed.query).write_text(SQL.replace("isprimary", "TRUE"))
    query_catalog(changed, tmp_path / "hsc.csv.gz", ACCOUNT)
    assert service.calls["submit"] == 2


PASSING = [("status", "500"), ("status", "reset"), ("status", "html"), ("status", "silent"), ("download", "reset")]
PASSING += [
    ("download", "truncated"),
    ("download", "503"),
    ("download", "html"),
    ("preview", "500"),
    ("preview", "429"),
]
PASSING += [("submit", "503"), ("submit", "429"), ("delete", "500"), ("delete", "reset")]


@pytest.mark.parametrize(("method", "fault"), PASSING)
def test_a_fault_that_passes_changes_no_byte(server: HscServer, tmp_path: Path, method: str, fault: str) -> None:
    service = mounted(server)
    query_catalog(settings(server, tmp_path), tmp_path / "smooth.csv.gz", ACCOUNT)
    service.faults[method] = [fault]
    query_catalog(settings(server, tmp_path), tmp_path / "rough.csv.gz", ACCOUNT)
    assert (tmp_path / "rough.csv.gz").read_bytes() == (tmp_path / "smooth.csv.gz").read_bytes()
    assert service.faults[method] == []
    assert not service.jobs


LASTING = [
    ("preview", ["406: column k does not exist"], "column k does not exist", 0),
    ("preview", ["302"], r"redirects to 127.0.0.1 \(HTTP 302\), as to a login page: check `catalog.server.url`", 0),
    ("preview", ["404"], r"does not serve what `catalog.server.url` names \(HTTP 404: .*\): check that address", 0),
    ("status", ["302"], "as to a login page: check `catalog.server.url`", 1),
    ("submit", ["406: quota exceeded"], "quota exceeded", 0),
    ("submit", ["502"], "skip_syntax_check: true", 0),
    ("submit", ["503"] * 3, "did not take", 0),
    ("status", ["error: division by zero"], "division by zero", 1),
    ("status", ["500"] * 3, "state of job 1001", 1),
    ("download", ["truncated"] * 3, "cut short", 1),
    ("download", ["500"] * 3, "HTTP 500", 1),
    ("download", ["endless"], "a table of more than 16973824 bytes, more than its rows can have", 1),
    ("download", ["row"], "a table of more than 16973824 bytes, more than its rows can have", 1),
    ("download", ["comment"], "a table of more than 16777216 bytes, more than its rows can have", 1),
]


@pytest.mark.parametrize("method", ["preview", "submit", "status", "download"])
def test_a_server_that_sends_back_what_it_received_gets_the_password_into_no_message(
    server: HscServer, tmp_path: Path, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    mounted(server, faults={method: ["echo"] * 3})
    with pytest.raises(TidalkinError) as caught:
        query_catalog(settings(server, tmp_path), tmp_path / "hsc.csv.gz", ACCOUNT)
    assert PASSWORD not in str(caught.value) + caplog.text
    for path in tmp_path.iterdir():
        assert PASSWORD.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("method", ["submit", "status", "download"])
def test_an_answer_of_a_few_bytes_a_second_is_given_up(server: HscServer, tmp_path: Path, method: str) -> None:
    mounted(server, faults={method: ["slow"] * 3})
    with pytest.raises(TidalkinError, match="too slow"):
        query_catalog(settings(server, tmp_path), tmp_path / "hsc.csv.gz", ACCOUNT)


def test_headers_of_a_few_bytes_a_second_are_given_up(server: HscServer, tmp_path: Path) -> None:
    service = mounted(server)
    server.seconds_per_header_byte = 0.05
    with pytest.raises(TidalkinError, match="the headers of the answer did not end in"):
        query_catalog(settings(server, tmp_path, timeout_seconds=0.2), tmp_path / "hsc.csv.gz", ACCOUNT)
    assert service.calls["submit"] == 1


@pytest.mark.parametrize(("method", "faults", "sentence", "jobs"), LASTING)
def test_a_fault_that_lasts_ends_in_a_sentence_and_leaves_no_job(
    server: HscServer, tmp_path: Path, method: str, faults: list[str], sentence: str, jobs: int
) -> None:
    service = mounted(server, faults={method: faults})
    with pytest.raises(TidalkinError, match=sentence):
        query_catalog(settings(server, tmp_path), tmp_path / "hsc.csv.gz", ACCOUNT)
    assert not service.jobs
    assert len(service.deleted) == jobs
    assert [path.name for path in tmp_path.iterdir()] == ["galaxies.sql"]


def test_a_count_that_takes_too_long_does_not_stop_the_query(server: HscServer, tmp_path: Path) -> None:
    mounted(server, faults={"preview": ["406: canceling statement due to statement timeout"]})
    assert len(query_catalog(settings(server, tmp_path), tmp_path / "hsc.csv.gz", ACCOUNT)) == 3
    assert json.loads((tmp_path / "hsc.csv.gz.json").read_text())["rows_counted"] is None


def test_a_query_that_finds_too_much_or_nothing_is_not_sent(server: HscServer, tmp_path: Path) -> None:
    service = mounted(server)
    with pytest.raises(TidalkinError, match=r"3 rows, more than catalog.server.maximum_rows \(2\)"):
        query_catalog(settings(server, tmp_path, maximum_rows=2), tmp_path / "hsc.csv.gz", ACCOUNT)
    service.table = TABLE.splitlines()[0]
    with pytest.raises(TidalkinError, match="finds no rows"):
        query_catalog(settings(server, tmp_path), tmp_path / "hsc.csv.gz", ACCOUNT)
    assert service.calls["submit"] == 0


def test_a_job_that_does_not_end_is_given_up_and_deleted(server: HscServer, tmp_path: Path) -> None:
    service = mounted(server, looks_until_done=10**9)
    with pytest.raises(TidalkinError, match=r"has not finished .* \(its status: started\)"):
        query_catalog(settings(server, tmp_path, wait_seconds=0.1), tmp_path / "hsc.csv.gz", ACCOUNT)
    assert service.deleted == [1001]


def test_a_wrong_password_stops_at_once_and_is_not_shown(server: HscServer, tmp_path: Path) -> None:
    service = mounted(server)
    wrong = Account(USER, SecretStr("not-the-password"), "HSC_SSP_USER and HSC_SSP_PASSWORD")
    with pytest.raises(TidalkinError, match="refuses the credentials found in HSC_SSP_USER") as caught:
        query_catalog(settings(server, tmp_path), tmp_path / "hsc.csv.gz", wrong)
    assert "not-the-password" not in str(caught.value)
    assert sum(service.calls.values()) == 1


def test_the_job_of_a_killed_query_is_deleted_by_the_next(server: HscServer, tmp_path: Path) -> None:
    service = mounted(server)
    service.jobs[77] = 0
    (tmp_path / "hsc.csv.gz.job").write_text("77")
    query_catalog(settings(server, tmp_path), tmp_path / "hsc.csv.gz", ACCOUNT)
    assert service.deleted == [77, 1001]
    assert not service.jobs


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_query_deletes_its_job(
    server: HscServer, tmp_path: Path, root: Path, number: signal.Signals
) -> None:
    service = mounted(server, looks_until_done=10**9)
    command = [sys.executable, "-m", "servers.query_job", settings(server, tmp_path).model_dump_json()]
    command.append(str(tmp_path / "hsc.csv.gz"))
    environment = {**os.environ, "HSC_SSP_USER": USER, "HSC_SSP_PASSWORD": PASSWORD}
    process = subprocess.Popen(command, cwd=root / "tests", env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while service.calls["status"] < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert service.deleted == [1001], errors
    assert PASSWORD not in errors


def test_a_job_is_deleted_though_the_interrupted_request_still_holds_its_connection(
    server: HscServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, send = mounted(server), httpx.Client.send

    def interrupted(self: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        response = send(self, request, **options)
        if request.url.path.endswith("/status"):
            raise SystemExit(128 + signal.SIGTERM)
        return response

    monkeypatch.setattr(httpx.Client, "send", interrupted)
    with pytest.raises(SystemExit):
        query_catalog(settings(server, tmp_path), tmp_path / "hsc.csv.gz", ACCOUNT)
    assert service.deleted == [1001]


def test_sql_that_is_missing_or_empty_is_refused(server: HscServer, tmp_path: Path) -> None:
    chosen = settings(server, tmp_path)
    Path(chosen.query).write_text(" \n")
    with pytest.raises(TidalkinError, match="is empty"):
        query_catalog(chosen, tmp_path / "hsc.csv.gz", ACCOUNT)
    Path(chosen.query).unlink()
    with pytest.raises(TidalkinError, match="No such file"):
        query_catalog(chosen, tmp_path / "hsc.csv.gz", ACCOUNT)


@pytest.mark.parametrize("end", ["", ";", " ;\n", "; -- done", ";\n/* all\n of it */ -- ; really\n", "-- a;\n;;"])
def test_the_end_of_a_statement_does_not_get_into_the_count(end: str) -> None:
    assert counting(f"SELECT 1 -- one\nFROM x{end}") == "SELECT COUNT(*) FROM (\nSELECT 1 -- one\nFROM x\n) AS counted"


def test_counting_takes_no_time_whatever_the_sql() -> None:
    began = time.monotonic()
    counting("SELECT 1 " + "-- ; /* " * 300 + "x\nFROM y")
    assert time.monotonic() - began < 5


@given(st.floats(0.2, 2.0), st.floats(1.0, 2.0), st.floats(0.0, 180.0))
def test_psf_fwhm_is_that_of_the_circle_of_equal_area_however_turned(
    fwhm: float, ratio: float, angle_degrees: float
) -> None:
    major, minor = (fwhm / FWHM_PER_SIGMA) ** 2 * ratio, (fwhm / FWHM_PER_SIGMA) ** 2 / ratio
    c, s = np.cos(np.radians(angle_degrees)), np.sin(np.radians(angle_degrees))
    xx, yy, xy = major * c**2 + minor * s**2, major * s**2 + minor * c**2, (major - minor) * c * s
    assert psf_fwhm(xx, yy, xy) == pytest.approx(fwhm, rel=1e-6)


def test_moments_of_no_ellipse_give_no_psf() -> None:
    assert np.isnan(
        psf_fwhm([0.0, -1.0, 1.0, np.nan, 1.0], [0.0, -1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 2.0, 0.0, np.inf])
    ).all()


def test_a_psf_column_that_is_there_is_kept() -> None:
    moments = {f"g_sdssshape_psf_shape{axes}": [0.0625] for axes in ("11", "22")} | {"g_sdssshape_psf_shape12": [0.0]}
    catalog = with_psf_fwhm(pd.DataFrame({**moments, "psf_fwhm_g": [0.7]}))
    assert catalog["psf_fwhm_g"].tolist() == [0.7]
    assert "psf_fwhm_r" not in catalog
