"""Set up the test server, and a download that talks to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import SecretStr

from servers.hsc_job import Fetched, fetch_chunk
from servers.hsc_server import CUTOUT_PATH, PASSWORD, USER, CutoutService, HscServer
from tidalkin.config import Cutouts, HscDas, HscDasTransport
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.download.credentials import Account
from tidalkin.download.request import CutoutRequest
from tidalkin.sources.hsc.cutout_server import cutout_requests, in_server_order

ACCOUNT = Account(USER, SecretStr(PASSWORD), "the test")


def galaxies(number: int) -> pd.DataFrame:
    """Make catalog rows in random order."""
    generator = np.random.default_rng(number)
    object_id = 40_000_000_000_000_000 + generator.permutation(number)
    return pd.DataFrame(
        {"object_id": object_id, "ra": generator.uniform(30, 40, number), "dec": generator.uniform(-7, 2, number)}
    )


def serve(server: HscServer, **options: float) -> CutoutService:
    """Mount a cutout service."""
    service = CutoutService(**options)
    server.mount(CUTOUT_PATH, service.answer)
    return service


def settings(server: HscServer, **changes: object) -> Cutouts:
    """Configure small images and short waits for the test server."""
    transport = {"lines_per_request": 100, "timeout_seconds": 0.5, "attempts": 5}
    transport |= {"backoff_seconds": 0.01, "backoff_maximum_seconds": 0.05}
    transport |= {key: value for key, value in changes.items() if key in HscDasTransport.model_fields}
    das = {key: value for key, value in changes.items() if key not in transport}
    das = HscDas(url=server.url("/das_cutout/pdr3"), transport=HscDasTransport(**transport), **das)
    return Cutouts(source="hsc_das", size_arcsec=8 * PIXEL_SCALE_ARCSEC, hsc_das=das)


def ordered_requests(objects: pd.DataFrame, cutouts: Cutouts) -> list[CutoutRequest]:
    """List the requests of a chunk in the order in which they are sent."""
    return in_server_order(cutout_requests(objects, cutouts.bands, cutouts.hsc_das, cutouts.size_pixels))


def fetch(
    objects: pd.DataFrame,
    cutouts: Cutouts,
    folder: Path,
    account: Account = ACCOUNT,
    lock_folder: Path | None = None,
    chunk: str = "00000",
) -> Fetched:
    """Fetch a chunk in this process."""
    return fetch_chunk(objects, cutouts, folder, account, lock_folder, chunk)


def start_fetch(
    objects: pd.DataFrame, cutouts: Cutouts, folder: Path, lock_folder: Path | None = None
) -> subprocess.Popen:
    """Start the same in a process of its own, with the credentials in its environment.

    It logs to ``folder``.
    """
    folder.mkdir(exist_ok=True)
    objects.to_parquet(folder / "objects.parquet")
    (folder / "cutouts.json").write_text(cutouts.model_dump_json())
    environment = os.environ | {"HSC_SSP_USER": USER, "HSC_SSP_PASSWORD": PASSWORD}
    with (folder / "log").open("a") as log:
        command = [sys.executable, "-m", "servers.hsc_job", str(folder), str(lock_folder or folder / "locks")]
        return subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=log, stderr=log, env=environment)
