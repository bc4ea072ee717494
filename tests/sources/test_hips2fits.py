"""Images from hips2fits: place, flux, absent pixels, and every fault of the service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from servers.hips_service import HIPS_PATH, HipsService
from servers.hsc_server import HscServer
from tidalkin.config import Cutouts, Hips2fits, Hips2fitsTransport, load_settings
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.cutouts.base import Cutout
from tidalkin.cutouts.grid import place_on_grid
from tidalkin.cutouts.read import NANOJANSKY_OF_MAGNITUDE_ZERO, read_cutout
from tidalkin.download.tar import write_chunk
from tidalkin.errors import TidalkinError
from tidalkin.sources.hips2fits import Hips2fitsSource

OBJECTS = pd.DataFrame({"object_id": [1, 2, 3], "ra": [150.0, 150.1, 150.2], "dec": [2.0, 2.1, 2.2]})
BANDS = ("g", "r")


@pytest.fixture
def server() -> Iterator[HscServer]:
    with HscServer() as running:
        yield running


def mounted(server: HscServer, **options: object) -> HipsService:
    service = HipsService(**options)
    service.mount(server)
    return service


def source(server: HscServer, folder: Path, size: int = 16, **changes: object) -> Hips2fitsSource:
    quick = Hips2fitsTransport(attempts=3, timeout_seconds=0.5, backoff_seconds=0.01, backoff_maximum_seconds=0.02)
    hips2fits = {"url": server.url(HIPS_PATH), "zero_point": 27.0, "transport": quick} | changes
    cutouts = Cutouts(source="hips2fits", size_arcsec=size * PIXEL_SCALE_ARCSEC, hips2fits=Hips2fits(**hips2fits))
    return Hips2fitsSource(cutouts, folder / "received", folder / "locks")


def delivered(opened: Hips2fitsSource, objects: pd.DataFrame = OBJECTS) -> list[Cutout]:
    """Fetch cutouts with their content in hand and without their location."""
    return [
        image._replace(content=content_of(image), location=None, checksum="") for image in opened.fetch(objects, BANDS)
    ]


def content_of(image: Cutout) -> bytes:
    if image.location is None:
        return b""
    with image.location.tar.open("rb") as tar:
        tar.seek(image.location.offset)
        return tar.read(image.location.size)


@pytest.mark.parametrize("size", [15, 16])
def test_each_image_is_at_its_place_in_nanojansky(server: HscServer, tmp_path: Path, size: int) -> None:
    service = mounted(server)
    images = delivered(source(server, tmp_path, size))
    assert [(image.object_id, image.band, image.status) for image in images] == [
        (object_id, band, "ok") for object_id in (1, 2, 3) for band in BANDS
    ]
    first = read_cutout(images[0].content, "image")
    assert first.band == "g"
    assert first.variance is None
    grid = place_on_grid(first.flux, first.wcs, 150.0, 2.0, size)
    bright = 100 * NANOJANSKY_OF_MAGNITUDE_ZERO / 10 ** (0.4 * 27)
    assert grid[size // 2, size // 2] == pytest.approx(bright, rel=1e-5)
    asked = service.asked[1]
    assert asked["hips"] == "CDS/P/HSC/DR2/wide/r"
    assert float(asked["fov"]) == pytest.approx(size * PIXEL_SCALE_ARCSEC / 3600)
    assert (asked["projection"], asked["format"]) == ("TAN", "fits")


@pytest.mark.parametrize(
    "fault", ["500", "503", "429", "html", "reset", "short", "blank", "zeros", "other-size", "other-place"]
)
def test_a_fault_that_passes_changes_no_byte(server: HscServer, tmp_path: Path, fault: str) -> None:
    service = mounted(server)
    smooth = delivered(source(server, tmp_path / "smooth"))
    service.faults = [fault]
    assert delivered(source(server, tmp_path / "disturbed")) == smooth
    assert not service.faults


def test_where_the_survey_has_no_pixels_the_cutout_is_absent(server: HscServer, tmp_path: Path) -> None:
    mounted(server, largest_dec=2.15)
    images = delivered(source(server, tmp_path))
    assert [image.status for image in images] == ["ok"] * 4 + ["absent"] * 2
    assert images[-1].reason == "CDS/P/HSC/DR2/wide/r has no pixels there"
    ledger = write_chunk(images, OBJECTS, BANDS, tmp_path / "00000.tar", tmp_path / "00000.ledger.parquet")
    assert ledger["status"].tolist() == ["ok"] * 4 + ["absent"] * 2


def test_an_image_that_does_not_come_has_failed_and_the_others_are_here(server: HscServer, tmp_path: Path) -> None:
    mounted(server, faults=["500"] * 3)
    images = delivered(source(server, tmp_path))
    assert [image.status for image in images] == ["failed"] + ["ok"] * 5
    assert images[0].reason == "3 tries without result, the last: HTTP 500"


def test_only_what_is_missing_is_asked_for_again(server: HscServer, tmp_path: Path) -> None:
    service = mounted(server, faults=["500"] * 3)
    first = delivered(source(server, tmp_path))
    asked_at_first = len(service.asked)
    again = delivered(source(server, tmp_path))
    assert len(service.asked) == asked_at_first + 1
    assert [image.status for image in again] == ["ok"] * 6
    assert again[1:] == first[1:]
    delivered(source(server, tmp_path, zero_point=26.0))  # makes other cutouts
    assert len(service.asked) == asked_at_first + 1 + 6


def test_what_came_before_the_service_refused_is_not_lost(server: HscServer, tmp_path: Path) -> None:
    service = mounted(server, faults=["", "", "color"])
    with pytest.raises(TidalkinError, match="gives images for the eye"):
        delivered(source(server, tmp_path))
    asked_at_first = len(service.asked)
    assert [image.status for image in delivered(source(server, tmp_path))] == ["ok"] * 6
    assert len(service.asked) == asked_at_first + 4


def test_a_hips_the_service_does_not_know_stops_with_its_name(server: HscServer, tmp_path: Path) -> None:
    mounted(server)
    with pytest.raises(TidalkinError, match=r"does not know CDS/P/HSC/DR9/g .*unknown HiPS"):
        delivered(source(server, tmp_path, hips="CDS/P/HSC/DR9/{band}"))


def test_a_color_image_is_not_taken_for_fluxes(server: HscServer, tmp_path: Path) -> None:
    mounted(server, faults=["color"])
    with pytest.raises(TidalkinError, match="gives images for the eye"):
        delivered(source(server, tmp_path))


def test_a_flux_scale_nobody_knows_is_refused_before_anything_runs(server: HscServer) -> None:
    config = {"catalog": {"source": "file", "path": "a.csv"}, "cutouts": {"source": "hips2fits"}}
    with pytest.raises(TidalkinError, match=r"needs `hips2fits.zero_point`.* 27.0 for HSC's coadds"):
        load_settings(config)
    config["cutouts"]["hips2fits"] = {"zero_point": 27.0, "hips": "CDS/P/HSC/DR2/wide/g"}
    with pytest.raises(TidalkinError, match=r"must contain \{band\}"):
        load_settings(config)


def test_transport_settings_do_not_change_what_is_fetched() -> None:
    slow = Cutouts(
        source="hips2fits",
        hips2fits=Hips2fits(zero_point=27.0, transport=Hips2fitsTransport(attempts=9, connections=1)),
    )
    fast = Cutouts(source="hips2fits", hips2fits=Hips2fits(zero_point=27.0))
    other = Cutouts(source="hips2fits", hips2fits=Hips2fits(zero_point=26.0))
    assert slow.content() == fast.content() != other.content()


def test_the_flux_follows_the_zero_point(server: HscServer, tmp_path: Path) -> None:
    mounted(server)
    bright = read_cutout(delivered(source(server, tmp_path, zero_point=22.5))[0].content, "image").flux.max()
    assert bright == pytest.approx(100 * 10 ** (0.4 * (31.4 - 22.5)), rel=1e-5)
    assert np.isfinite(bright)


def test_headers_of_a_few_bytes_a_second_are_given_up(server: HscServer, tmp_path: Path) -> None:
    mounted(server)
    server.seconds_per_header_byte = 0.05
    quick = Hips2fitsTransport(attempts=2, timeout_seconds=0.2, backoff_seconds=0.01, backoff_maximum_seconds=0.02)
    cutouts = delivered(source(server, tmp_path, transport=quick), OBJECTS[:1])
    assert {cut.status for cut in cutouts} == {"failed"}
    assert all("the headers of the answer did not end in" in cut.reason for cut in cutouts)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("slow", "the answer is too slow"),
        ("endless", "the answer is longer than"),
        ("other-place", "pixels around it were requested"),
        ("other-scale", "has pixels of 0.336 arcsec instead of 0.168"),
    ],
)
def test_a_fault_that_lasts_is_a_failure_with_its_reason(
    server: HscServer, tmp_path: Path, fault: str, reason: str
) -> None:
    mounted(server, faults=[fault] * 2)
    quick = Hips2fitsTransport(attempts=2, timeout_seconds=0.3, backoff_seconds=0.01, backoff_maximum_seconds=0.02)
    cutouts = delivered(source(server, tmp_path, transport=quick), OBJECTS[:1])
    assert [cut.status for cut in cutouts] == ["failed", "ok"]
    assert reason in cutouts[0].reason


def test_a_redirection_to_a_login_page_stops_at_once(server: HscServer, tmp_path: Path) -> None:
    service = mounted(server, faults=["login"])
    with pytest.raises(TidalkinError, match=r"redirects to login.example .* check `cutouts.hips2fits.url`"):
        delivered(source(server, tmp_path))
    assert len(service.asked) == 1
