"""Cutouts from coadd patches have the right pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from servers.hsc_server import HscServer
from servers.patch_run import BANDS, DEC, RA, SIZE, delivered, galaxies, source
from servers.patch_service import PatchService, address_of, patch_file
from tidalkin.cutouts.grid import place_on_grid
from tidalkin.cutouts.read import NANOJANSKY_OF_MAGNITUDE_ZERO, read_cutout
from tidalkin.download.tar import ChunkTar, write_chunk
from tidalkin.errors import TidalkinError

NJY = NANOJANSKY_OF_MAGNITUDE_ZERO / 10 ** (0.4 * 27)


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
        cuts = list(source(server, tmp_path / str(number)).fetch(galaxies(), ["g"]))
        contents.append([cut.content for cut in cuts])
    assert contents[0] == contents[1]


def test_either_kind_of_coadd_comes_from_its_own_file(server: HscServer, tmp_path: Path) -> None:
    kinds = ("coadd/bg", "coadd")
    addresses = [address_of(9813, "4,5", "g", image_type=kind) for kind in kinds]
    files = [patch_file("g", RA, DEC, SIZE, seed=seed) for seed in (1, 2)]
    service = PatchService(dict(zip(addresses, files, strict=True)))
    service.mount(server)
    opened = [source(server, tmp_path, image_type=kind) for kind in kinds]
    first, second = ([cut.content for cut in kind.fetch(galaxies(), ["g"])] for kind in opened)
    assert [address for address, _ in service.asked] == [
        "pdr3_wide/deepCoadd/HSC-G/9813/4,5.fits",
        "pdr3_wide/deepCoadd-results/HSC-G/9813/4,5/calexp-HSC-G-9813-4,5.fits",
    ]
    assert first != second
    assert [cut.content for cut in opened[0].fetch(galaxies(), ["g"])] == first  # both lie in one cache
    assert len(service.asked) == 2


def test_an_object_that_is_not_on_its_patch_has_failed(
    server: HscServer, service: PatchService, tmp_path: Path
) -> None:
    objects = galaxies(2)
    objects.loc[0, "dec"] += 1.0
    first, *_, last = delivered(source(server, tmp_path), objects)
    assert (first.status, last.status) == ("failed", "ok")
    assert first.reason == "its position is not on the patch 4,5 of tract 9813 in HSC-G of the catalog"


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
        cuts = source(server, tmp_path / str(number)).fetch(objects, BANDS)
        write_chunk(cuts, objects, BANDS, tar, tar.with_suffix(".ledger.parquet"))
        tars.append(tar.read_bytes())
        with ChunkTar(tar) as chunk:
            assert len(chunk) == 12
    assert tars[0] == tars[1]
