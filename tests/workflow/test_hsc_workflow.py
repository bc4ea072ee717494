"""The whole workflow with HSC's two servers: a query, a download with faults, a retry."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import zarr

from servers.catalog_service import CATALOG_PATH, CatalogService
from servers.hsc_run import serve
from servers.hsc_server import CUTOUT_PATH, PASSWORD, USER, CutoutService, Handler, HscServer
from tidalkin.config import load_settings
from tidalkin.constants import FWHM_PER_SIGMA, PIXEL_SCALE_ARCSEC
from tidalkin.download.ledger import read_ledger
from tidalkin.sources.hsc.cutout_server import cutout_requests

pytestmark = pytest.mark.slow

SQL = "SELECT object_id, ra, dec FROM pdr3_wide.forced -- and so on\n"
GALAXIES, CHUNK_SIZE, BANDS = 24, 8, ("g", "r", "i", "z", "y")
FIRST_ID = 40_000_000_000_000_000
HOLED, LOST = 3, 20
"""Rows of the catalog. In the first chunk, one galaxy fails in i; in the last chunk, one fails in all bands."""


def table() -> str:
    """Make the catalog server's table, with a seeing of 2.355 × 0.3 arcsec in g.

    The seeing in the other bands is unknown. All galaxies are within a pixel of the one position of the test server's
    images.
    """
    rows = pd.DataFrame({"object_id": FIRST_ID + np.arange(GALAXIES), "ra": 150 + 1e-6 * np.arange(GALAXIES)})
    moments = {f"g_sdssshape_psf_shape{axes}": value for axes, value in (("11", 0.09), ("22", 0.09), ("12", 0.0))}
    return rows.assign(dec=2.0, **moments).to_csv(index=False)


def configuration(server: HscServer) -> dict:
    """Configure small images and short waits."""
    waits = {"attempts": 4, "backoff_seconds": 0.01, "backoff_maximum_seconds": 0.05, "timeout_seconds": 20}
    return {
        "run": "hsc",
        "catalog": {
            "source": "hsc_sql",
            "query": "query.sql",
            "chunk_size": CHUNK_SIZE,
            "server": {"url": server.url(CATALOG_PATH), "poll_seconds": 0.05} | waits,
        },
        "cutouts": {
            "source": "hsc_das",
            "size_arcsec": 16 * PIXEL_SCALE_ARCSEC,
            "hsc_das": {"url": server.url("/das_cutout/pdr3"), "transport": {"lines_per_request": 20} | waits},
        },
        "images": {"size": 16, "shard_size": 8, "chunk_size": 4},
        "stretch": {"bin": 1},
        "augment": {"crop": 12},
        "evaluation": {"enabled": False},
    }


@dataclass
class Survey:
    """A folder to run the workflow in, and the servers it talks to."""

    folder: Path
    config: dict
    server: HscServer
    catalog: CatalogService
    cutouts: CutoutService
    snakemake: Callable[..., subprocess.CompletedProcess]
    said: list[str] = field(default_factory=list)
    """Output of the commands."""
    process_list: set[str] = field(default_factory=set)
    """Command lines of all processes on the machine, seen while the servers were asked."""

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "query.sql").write_text(SQL)
        (self.folder / "config.json").write_text(json.dumps(self.config))

    @property
    def results(self) -> Path:
        return self.folder / "results" / "hsc"

    def chunk(self, number: int) -> str:
        """Find the name of a chunk, which is its number and a digest."""
        (path,) = (self.results / "chunks").glob(f"{number:05d}-*.parquet")
        return path.stem

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run the workflow up to the image store."""
        done = self.snakemake(self.folder, *arguments, "--until", "convert", config=self.config, check=check)
        self.said += [done.stdout, done.stderr]
        return done

    def retry_command(self, root: Path) -> list[str]:
        """Make the command line of `tidalkin retry-failed`."""
        command = [str(Path(sys.executable).with_name("tidalkin")), "retry-failed", "--run", "results/hsc"]
        return [*command, "--configfile", "config.json", "--cores", "2", "--snakefile", str(root / "Snakefile")]

    def retry_failed(self, root: Path, *arguments: str) -> subprocess.CompletedProcess:
        command = [*self.retry_command(root), *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=600, check=False)

    def lines(self, *rows: int) -> dict[tuple[int, str], str]:
        """Make the request lines of some rows of the catalog, by object and band."""
        cutouts = load_settings(self.config).cutouts
        objects = pd.read_csv(StringIO(table())).iloc[list(rows)]
        return {line.key: line.text for line in cutout_requests(objects, BANDS, cutouts.hsc_das, cutouts.size_pixels)}

    def faulty_lines(self) -> list[str]:
        return sorted([self.lines(HOLED)[FIRST_ID + HOLED, "i"], *self.lines(LOST).values()])

    def asked(self) -> list[str]:
        """List the lines that the cutout server received, sorted."""
        return sorted(text for request in self.cutouts.requests for text in request.lines)

    def ledger(self) -> pd.DataFrame:
        return pd.concat([read_ledger(path) for path in sorted((self.results / "cutouts").glob("*.ledger.parquet"))])

    def statuses(self) -> dict[str, int]:
        return self.ledger()["status"].value_counts().to_dict()

    def missing(self) -> list[tuple[int, str]]:
        """List row and band of each image that is not in the store."""
        fraction = zarr.open_group(self.results / "images.zarr", mode="r")["good_fraction"][:]
        return [(int(row), BANDS[band]) for row, band in np.argwhere(fraction == 0)]


def watched(answer: Callable[[Handler], None], seen: set[str]) -> Callable[[Handler], None]:
    """Wrap an answer, so that each request also records the process list."""

    def look_and_answer(handler: Handler) -> None:
        seen.update(" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
        answer(handler)

    return look_and_answer


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory, snakemake) -> Iterator[Survey]:
    """A run with six failed cutouts in two of three chunks, and its servers.

    The account is in the environment; locks and caches stay in the test's own folder.
    """
    folder = tmp_path_factory.mktemp("hsc")
    with pytest.MonkeyPatch.context() as patch, HscServer(connection_limit=4) as server:
        patch.setenv("HSC_SSP_USER", USER)
        patch.setenv("HSC_SSP_PASSWORD", PASSWORD)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        survey = Survey(
            folder / "work", configuration(server), server, CatalogService(table()), serve(server), snakemake
        )
        server.mount(CATALOG_PATH, watched(survey.catalog.answer, survey.process_list))
        server.mount(CUTOUT_PATH, watched(survey.cutouts.answer, survey.process_list))
        survey.cutouts.faults = {text: ["corrupt-fits"] * 1000 for text in survey.faulty_lines()}
        survey.run()
        yield survey


@pytest.fixture
def survey(faulty: Survey, tmp_path: Path) -> Survey:
    """A copy of that run, and servers without faults or memory."""
    shutil.copytree(faulty.folder, tmp_path / "work")
    catalog = CatalogService(table())
    catalog.mount(faulty.server)
    return replace(faulty, folder=tmp_path / "work", catalog=catalog, cutouts=serve(faulty.server))


# --- the first run ---------------------------------------------------------------------------------------------------


def test_the_query_is_counted_first_and_its_job_is_deleted_at_the_server(faulty):
    methods = [method for method, _ in faulty.catalog.asked]
    assert methods[:2] == ["preview", "submit"]
    assert methods[-2:] == ["download", "delete"]
    assert faulty.catalog.jobs == {}
    assert f"query.sql will find {GALAXIES} rows" in (faulty.results / "logs" / "query.log").read_text()


def test_the_query_and_its_time_are_kept_beside_its_result(faulty):
    kept = json.loads((faulty.results / "query.csv.gz.json").read_text())
    assert (kept["sql"], kept["rows_counted"]) == (SQL.strip(), GALAXIES)
    age = time.time() - datetime.fromisoformat(kept["submitted"]).timestamp()
    assert 0 <= age < 3600
    assert len(pd.read_csv(faulty.results / "query.csv.gz")) == GALAXIES


def test_the_ledger_names_what_failed_and_the_run_goes_on_with_the_rest(faulty):
    ledger = faulty.ledger().set_index(["object_id", "band"])
    assert len(ledger) == GALAXIES * len(BANDS)
    failed = ledger[ledger["status"] == "failed"]
    lost = [(FIRST_ID + LOST, band) for band in BANDS]
    assert list(failed.index) == [(FIRST_ID + HOLED, "i"), *lost]
    assert set(failed["reason"]) == {"the header of HDU 1 is damaged"}
    assert (ledger.drop(failed.index)["status"] == "ok").all()
    assert faulty.missing() == [(HOLED, "i"), *((LOST, band) for band in BANDS)]


def test_the_seeing_of_the_query_is_in_the_store(faulty):
    seeing = zarr.open_group(faulty.results / "images.zarr", mode="r")["psf_fwhm"][:]
    assert seeing[:, 0] == pytest.approx(FWHM_PER_SIGMA * 0.3)
    assert np.isnan(seeing[:, 1:]).all()


def test_of_five_jobs_at_once_four_talk_to_the_server(faulty, tmp_path):
    config = faulty.config | {"catalog": faulty.config["catalog"] | {"chunk_size": 3}}
    slow = serve(faulty.server, seconds_per_member=0.3)
    survey = replace(faulty, folder=tmp_path / "work", config=config, cutouts=slow)
    survey.run("--cores", "6", "--until", "fetch")
    logs = [path.read_text() for path in (survey.results / "logs" / "fetch").iterdir()]
    assert len(logs) == GALAXIES / 3
    assert any("waiting for one of the 4 connections" in log for log in logs)
    assert survey.server.refused == 0
    assert survey.server.most_connections <= 4


def test_a_run_with_failed_cutouts_has_nothing_to_do_by_itself_and_its_retry_can_be_planned(survey, root):
    assert "Nothing to be done" in survey.run("-n").stdout
    done = survey.retry_failed(root, "-n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("rule fetch:") + done.stderr.count("rule fetch:") == 2
    assert survey.asked() == []


# --- asking again ----------------------------------------------------------------------------------------------------


def test_retry_failed_asks_for_what_failed_alone_and_what_depends_on_it_is_made_again(survey, root):
    done = survey.retry_failed(root)
    assert done.returncode == 0, done.stderr
    assert f"chunks with failed or missing cutouts: {survey.chunk(0)}, {survey.chunk(2)}\n" in done.stdout
    assert "nothing failed this time" in done.stdout
    assert survey.asked() == survey.faulty_lines()
    assert survey.statuses() == {"ok": GALAXIES * len(BANDS)}

    planned = survey.run().stderr
    assert "rule convert" in planned
    assert "rule fetch" not in planned
    assert survey.missing() == []
    assert survey.asked() == survey.faulty_lines()
    assert not survey.catalog.calls
    done = survey.retry_failed(root)
    assert (done.returncode, done.stdout) == (0, "nothing failed in results/hsc\n")


def test_retry_failed_ends_with_status_1_and_a_sentence_where_something_failed_again(survey, root):
    last = survey.faulty_lines()[-1]
    survey.cutouts.faults = {last: ["not-fits"] * 1000}
    done = survey.retry_failed(root)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"cutouts failed again in {survey.chunk(2)}: see the reasons with `tidalkin download-report --run res"
    )
    assert survey.statuses() == {"ok": GALAXIES * len(BANDS) - 1, "failed": 1}
    survey.cutouts.requests.clear()
    survey.cutouts.faults.clear()
    assert survey.retry_failed(root).returncode == 0
    assert survey.asked() == [last]


def test_a_chunk_forced_to_run_asks_only_for_what_is_missing(survey):
    survey.run("--forcerun", f"results/hsc/cutouts/{survey.chunk(2)}.tar")
    lost = sorted(survey.lines(LOST).values())
    assert survey.asked() == lost
    assert survey.missing() == [(HOLED, "i")]
    tar = survey.results / "cutouts" / f"{survey.chunk(2)}.tar"
    before = tar.read_bytes()
    survey.run("--forcerun", f"results/hsc/cutouts/{survey.chunk(2)}.tar")
    assert survey.asked() == lost
    assert tar.read_bytes() == before


def test_a_refused_password_stops_at_once_in_one_sentence_and_loses_nothing(survey, monkeypatch, root):
    monkeypatch.setenv("HSC_SSP_PASSWORD", "forgotten")
    done = survey.retry_failed(root)
    assert done.returncode != 0
    assert "refuses the credentials found in HSC_SSP_USER and HSC_SSP_PASSWORD (HTTP 401)" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(survey.cutouts.requests) <= 2
    survey.cutouts.requests.clear()
    monkeypatch.setenv("HSC_SSP_PASSWORD", PASSWORD)
    assert survey.retry_failed(root).returncode == 0
    assert survey.asked() == survey.faulty_lines()


def test_ctrl_c_ends_retry_failed_in_order_and_loses_nothing(survey, root):
    survey.cutouts.seconds_per_member = 5
    with subprocess.Popen(
        survey.retry_command(root),
        cwd=survey.folder,
        start_new_session=True,
        stdout=-1,
        stderr=-2,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    ) as retry:
        while not survey.cutouts.requests:
            assert retry.poll() is None, retry.stdout.read()
            time.sleep(0.05)
        os.killpg(retry.pid, signal.SIGINT)
        said, _ = retry.communicate(timeout=600)
    assert retry.returncode != 0, said
    assert not list((survey.folder / ".snakemake" / "locks").glob("*"))
    survey.cutouts.seconds_per_member = 0
    survey.cutouts.requests.clear()
    assert survey.retry_failed(root).returncode == 0
    assert survey.asked() == survey.faulty_lines()


def test_a_run_copied_without_what_was_received_has_nothing_to_do_and_asks_for_whole_chunks_again(survey):
    shutil.rmtree(survey.results / "cutouts" / ".received")
    assert "Nothing to be done" in survey.run("-n").stdout
    survey.run("--forcerun", f"results/hsc/cutouts/{survey.chunk(0)}.tar")
    assert survey.asked() == sorted(survey.lines(*range(CHUNK_SIZE)).values())


# --- credentials -----------------------------------------------------------------------------------------------------


def test_the_credentials_are_in_nothing_the_run_wrote_or_showed(faulty):
    secrets = (PASSWORD, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
    written = [path for path in faulty.folder.parent.rglob("*") if path.is_file()]
    names = {path.relative_to(faulty.folder.parent).parts[:2] for path in written}
    assert {("work", "results"), ("work", ".snakemake"), ("cache", "tidalkin")} <= names
    for path in written:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in content], path
    assert any("fetch.py" in command for command in faulty.process_list)
    for text in [*faulty.said, *faulty.process_list]:
        assert not [secret for secret in secrets if secret in text]
