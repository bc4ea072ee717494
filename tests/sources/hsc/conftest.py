"""The test server with coadd patches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from servers.hsc_server import HscServer
from servers.patch_run import DEC, RA, SIZE, galaxies
from servers.patch_service import PatchService, address_of, patch_file


@pytest.fixture(scope="module")
def patches() -> dict[str, bytes]:
    stars = list(zip(galaxies()["ra"], galaxies()["dec"], strict=True))
    made = {address_of(9813, "4,5", "g"): patch_file("g", RA, DEC, SIZE, stars=stars)}
    made[address_of(9813, "4,5", "r")] = patch_file("r", RA, DEC, SIZE, stars=stars, compressed=True, seed=2)
    return made


@pytest.fixture
def server() -> Iterator[HscServer]:
    with HscServer() as running:
        yield running


@pytest.fixture
def service(server: HscServer, patches: dict[str, bytes]) -> PatchService:
    mounted = PatchService(dict(patches))
    mounted.mount(server)
    return mounted
