"""Cutouts from coadd patches: the right pixels, each patch downloaded once, resumed, checked, and let go."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import SecretStr

from servers.hsc_server import PASSWORD, USER, HscServer
from servers.patch_service import TREE_PATH, PatchService, address_of, patch_file
from tidalkin.config import Cutouts, HscPatches, HscPatchesTransport
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.cutouts.base import Delivery
from tidalkin.cutouts.grid import place_on_grid
from tidalkin.cutouts.read import NANOJANSKY_OF_MAGNITUDE_ZERO, read_cutout
from tidalkin.download.credentials import Account
from tidalkin.download.tar import ChunkTar, write_chunk
from tidalkin.errors import TidalkinError
from tidalkin.sources.hsc.patches import HscPatchesSource

ACCOUNT = Account(USER, SecretStr(PASSWORD), "the test")
RA, DEC, SIZE = 150.0, 2.0, 220
BANDS = ("g", "r")
PIXEL = PIXEL_SCALE_ARCSEC / 3600
NAME = "calexp-HSC-G-9813-4,5.fits"
NJY = NANOJANSKY_OF_MAGNITUDE_ZERO / 10 ** (0.4 * 27)


def galaxies(number: int = 6) -> pd.DataFrame:
    """Galaxies in the middle of patch 4,5 of tract 9813 (columns of an HSC catalog); the last one is at its corner."""
    steps = np.arange(number) - number / 2
    ra, dec = RA + 12 * PIXEL * steps, DEC - 9 * PIXEL * steps
    ra[-1], dec[-1] = RA + (SIZE / 2 - 3) * PIXEL / np.cos(np.radians(DEC)), DEC + (SIZE / 2 - 3) * PIXEL
    return pd.DataFrame({"object_id": 1 + np.arange(number), "ra": ra, "dec": dec, "tract": 9813, "patch": 405})


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


def source(server: HscServer, folder: Path, account: Account | None = ACCOUNT, **changes: object) -> HscPatchesSource:
    quick = {"cache": str(folder / "patches"), "attempts": 3, "timeout_seconds": 0.5}
    quick |= {"backoff_seconds": 0.01, "backoff_maximum_seconds": 0.02}
    patches = HscPatches(url=server.url(TREE_PATH), transport=HscPatchesTransport(**(quick | changes)))
    cutouts = Cutouts(source="hsc_patches", size_arcsec=16 * PIXEL_SCALE_ARCSEC, hsc_patches=patches)
    return HscPatchesSource(cutouts, account, folder / "slots")


def delivered(opened: HscPatchesSource, objects: pd.DataFrame) -> list[Delivery]:
    return list(opened.deliver(objects, BANDS))


def test_each_cutout_is_centred_on_its_object_in_nanojansky(
    server: HscServer, service: PatchService, tmp_path: Path
) -> None:
    objects = galaxies()
    cuts = delivered(source(server, tmp_path), objects)
    assert [(cut.object_id, cut.band) for cut in cuts] == [(i, band) for i in range(1, 7) for band in BANDS]
    for cut in cuts:
        assert cut.status == "ok", cut.reason
        ra, dec = objects.set_index("object_id").loc[cut.object_id, ["ra", "dec"]]
        image = read_cutout(cut.content, "cut")
        assert image.band == cut.band
        grid = place_on_grid(image.flux, image.wcs, ra, dec, 16)
        assert grid[7:9, 7:9].max() == pytest.approx(1000 * NJY, rel=1e-5)
        assert image.variance.mean() == pytest.approx(9e-4 * NJY**2, rel=1e-4)
        masked = read_cutout(cut.content, "cut", bad_mask_planes=["SAT"])
        lost = np.isnan(masked.flux)
        assert image.flux[lost].min() == pytest.approx(1000 * NJY, rel=1e-5)
        assert lost.sum() == (image.flux > 500 * NJY).sum()


def test_a_cutout_at_the_edge_ends_where_the_patch_ends(
    server: HscServer, service: PatchService, tmp_path: Path
) -> None:
    inside, edge = (
        read_cutout(cut.content, "cut").flux.shape for cut in delivered(source(server, tmp_path), galaxies())[::10]
    )
    assert inside == (18, 18)
    assert max(edge) < 18


def test_pixels_of_a_compressed_patch_are_those_of_a_plain_one(server: HscServer, tmp_path: Path) -> None:
    address = address_of(9813, "4,5", "g")
    contents = []
    for number, compressed in enumerate((False, True)):
        service = PatchService({address: patch_file("g", RA, DEC, SIZE, compressed=compressed)})
        service.mount(server)
        cuts = list(source(server, tmp_path / str(number)).deliver(galaxies(), ["g"]))
        contents.append([cut.content for cut in cuts])
    assert contents[0] == contents[1]


def test_a_patch_is_downloaded_once_for_all_its_objects_and_chunks(
    server: HscServer, service: PatchService, tmp_path: Path
) -> None:
    objects = galaxies()
    delivered(source(server, tmp_path), objects[:3])
    delivered(source(server, tmp_path), objects[3:])
    assert sorted(name for name, _ in service.asked) == [NAME, NAME.replace("HSC-G", "HSC-R")]


def test_two_jobs_at_one_patch_download_it_once(server: HscServer, service: PatchService, tmp_path: Path) -> None:
    objects = galaxies()
    results: list[list[Delivery]] = []
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
    service.faults[NAME] = [fault]
    assert delivered(source(server, tmp_path / "rough"), galaxies()) == smooth
    assert not service.faults[NAME]


def test_a_download_that_breaks_again_and_again_goes_on_where_it_was(
    server: HscServer, service: PatchService, patches: dict[str, bytes], tmp_path: Path
) -> None:
    size = len(patches[address_of(9813, "4,5", "g")])
    service.faults[NAME] = ["reset 70000"] * 5
    assert {cut.status for cut in delivered(source(server, tmp_path, attempts=2), galaxies())} == {"ok"}
    starts = [int(re.sub(r"\D", "", asked) or 0) for name, asked in service.asked if name == NAME]
    assert starts == sorted(starts)
    assert starts[-1] > 0
    assert service.sent[NAME] < size + 6 * 70000


@pytest.mark.parametrize("then", ["changed", "wrong-range", "no-ranges", "416"])
def test_what_is_no_continuation_begins_anew(
    server: HscServer, service: PatchService, tmp_path: Path, then: str
) -> None:
    smooth = delivered(source(server, tmp_path / "smooth"), galaxies())
    service.faults[NAME] = ["reset 70000", then]
    assert delivered(source(server, tmp_path / "rough"), galaxies()) == smooth


def test_the_next_run_goes_on_where_a_killed_one_was(server: HscServer, service: PatchService, tmp_path: Path) -> None:
    service.faults[NAME] = ["reset 70000", "500", "500", "500"]
    first = delivered(source(server, tmp_path), galaxies())
    assert {cut.reason.partition(":")[0] for cut in first if cut.band == "g"} == {"patch 4,5 of tract 9813 in HSC-G"}
    assert {cut.status for cut in first if cut.band == "g"} == {"failed"}
    assert {cut.status for cut in first if cut.band == "r"} == {"ok"}
    service.asked.clear()
    assert {cut.status for cut in delivered(source(server, tmp_path), galaxies())} == {"ok"}
    (asked,) = (asked for name, asked in service.asked if name == NAME)
    assert asked.startswith("bytes=")


def test_a_patch_the_archive_does_not_have_is_absent(server: HscServer, service: PatchService, tmp_path: Path) -> None:
    del service.files[address_of(9813, "4,5", "r")]
    cuts = delivered(source(server, tmp_path), galaxies())
    assert {(cut.band, cut.status) for cut in cuts} == {("g", "ok"), ("r", "absent")}
    assert "the archive has no patch 4,5 of tract 9813 in HSC-R" in {cut.reason for cut in cuts}


def test_a_damaged_patch_is_not_kept(server: HscServer, service: PatchService, tmp_path: Path) -> None:
    service.faults[NAME] = ["flip 150000"] * 4
    cuts = delivered(source(server, tmp_path), galaxies())
    assert {cut.status for cut in cuts if cut.band == "g"} == {"failed"}
    assert "hecksum" in cuts[0].reason or "atasum" in cuts[0].reason
    assert [path.name for path in (tmp_path / "patches").rglob("*.fits")] == [NAME.replace("HSC-G", "HSC-R")]


def test_a_patch_of_another_filter_is_refused(
    server: HscServer, service: PatchService, patches: dict[str, bytes], tmp_path: Path
) -> None:
    service.files[address_of(9813, "4,5", "g")] = patches[address_of(9813, "4,5", "r")]
    assert "it is of filter HSC-R" in delivered(source(server, tmp_path), galaxies())[0].reason


def test_an_object_that_is_not_on_its_patch_has_failed(
    server: HscServer, service: PatchService, tmp_path: Path
) -> None:
    objects = galaxies(2)
    objects.loc[0, "dec"] += 1.0
    first, *_, last = delivered(source(server, tmp_path), objects)
    assert (first.status, last.status) == ("failed", "ok")
    assert first.reason == "its position is not on the patch 4,5 of tract 9813 in HSC-G of the catalog"


def test_the_cache_keeps_to_its_size(server: HscServer, patches: dict[str, bytes], tmp_path: Path) -> None:
    plain = patches[address_of(9813, "4,5", "g")]
    service = PatchService({address_of(9813, f"{x},5", "g"): plain for x in range(5)})
    service.mount(server)
    bound = 2.5 * len(plain) / 1e9
    for x in range(5):
        list(source(server, tmp_path, cache_gigabytes=bound).deliver(galaxies().assign(patch=100 * x + 5), ["g"]))
    kept = sorted(path.name for path in (tmp_path / "patches").rglob("*.fits"))
    assert kept == ["calexp-HSC-G-9813-3,5.fits", "calexp-HSC-G-9813-4,5.fits"]


def test_a_wrong_password_stops_everything_at_once(server: HscServer, service: PatchService, tmp_path: Path) -> None:
    wrong = Account(USER, SecretStr("not-the-password"), "HSC_SSP_USER and HSC_SSP_PASSWORD")
    with pytest.raises(TidalkinError, match="refuses the credentials found in HSC_SSP_USER") as caught:
        delivered(source(server, tmp_path, wrong), galaxies())
    assert "not-the-password" not in str(caught.value)
    assert len(service.asked) == 1
    with pytest.raises(TidalkinError, match=r"were refused \d+ s ago"):
        delivered(source(server, tmp_path, wrong), galaxies())
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("objects", "sentence"),
    [
        (galaxies().drop(columns="tract"), "has no column tract"),
        (galaxies().assign(patch=4.5), "column patch must hold whole numbers from 0 to 909"),
        (galaxies().assign(patch=4500), "column patch must hold whole numbers from 0 to 909"),
    ],
)
def test_a_catalog_without_patches_is_refused(
    server: HscServer, service: PatchService, tmp_path: Path, objects: pd.DataFrame, sentence: str
) -> None:
    with pytest.raises(TidalkinError, match=sentence):
        delivered(source(server, tmp_path), objects)


def test_the_chunk_is_byte_identical_when_made_again(server: HscServer, service: PatchService, tmp_path: Path) -> None:
    tars = []
    for number in range(2):
        tar = tmp_path / f"{number}.tar"
        objects = galaxies()
        cuts = source(server, tmp_path / str(number)).deliver(objects, BANDS)
        write_chunk(cuts, objects, BANDS, tar, tar.with_suffix(".ledger.parquet"))
        tars.append(tar.read_bytes())
        with ChunkTar(tar) as chunk:
            assert len(chunk) == 12
    assert tars[0] == tars[1]
