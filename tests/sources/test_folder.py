"""FITS files on disk go into the chunk unchanged, and bad files are listed."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from tidalkin.catalog.read import read_catalog
from tidalkin.config import Folder
from tidalkin.cutouts.read import read_cutout
from tidalkin.cutouts.write import write_cutout
from tidalkin.download.tar import ChunkTar, write_chunk
from tidalkin.errors import TidalkinError
from tidalkin.sources.folder import FolderSource

HSC = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "hsc"
OBJECTS = pd.DataFrame({"object_id": [1, 2], "ra": [150.0, 151.0], "dec": [2.0, 2.0]})


def cutout(value, band="g"):
    image = np.full((8, 8), value, dtype=np.float32)
    return write_cutout(image, None, image, band=band, ra=150.0, dec=2.0, fluxmag0=1e9, mask_planes={})


def multi_extension(path, primary_keys, bands="GR"):
    hdus = [fits.PrimaryHDU()]
    hdus[0].header.update(primary_keys)
    for i, band in enumerate(bands):
        hdus += [
            fits.ImageHDU(np.full((6, 5), i + 1.0), name=band),
            fits.ImageHDU(np.eye(6, 5, dtype=np.int32), name=f"{band}_MASK"),
            fits.ImageHDU(np.full((6, 5), 4.0), name=f"{band}_VARIANCE"),
        ]
    for hdu in hdus[1:]:
        hdu.header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 3.0})
        hdu.header.update({"CRPIX2": 3.5, "CDELT1": -5e-5, "CDELT2": 5e-5})
    hdus[2].header["MP_BAD"] = 0
    fits.HDUList(hdus).writeto(path)


def test_one_file_per_object_and_band_is_delivered_byte_for_byte(tmp_path):
    (tmp_path / "1-HSC-G.fits").write_bytes(cutout(1))
    (tmp_path / "2-HSC-R.fits").write_bytes(cutout(2, "r"))
    found = list(FolderSource(Folder(path=str(tmp_path))).fetch(OBJECTS, ["g", "r"]))
    assert [(row.object_id, row.band, row.status) for row in found] == [
        (1, "g", "ok"),
        (1, "r", "absent"),
        (2, "g", "absent"),
        (2, "r", "ok"),
    ]
    assert found[0].content == cutout(1)
    assert found[1].reason == f"there is no file {tmp_path / '1-HSC-R.fits'}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "1.g.fits: is empty"),
        (b"hello, this is text\n" * 200, "1.g.fits: is not a FITS file"),
        (cutout(1)[:4000], "1.g.fits: is cut short"),
        (cutout(1, "r"), "1.g.fits: is of band r by its key FILTER, not g"),
    ],
)
def test_a_malformed_file_fails_with_its_reason_and_harms_no_other(tmp_path, content, reason):
    (tmp_path / "1.g.fits").write_bytes(content)
    (tmp_path / "2.g.fits").write_bytes(cutout(2))
    source = FolderSource(Folder(path=str(tmp_path), template="{object_id}.{band}.fits"))
    bad, good = source.fetch(OBJECTS, ["g"])
    assert bad.status == "failed"
    assert reason in bad.reason
    assert good.status == "ok"


def test_a_folder_in_the_place_of_a_file_fails(tmp_path):
    (tmp_path / "1-HSC-G.fits").mkdir()
    bad, _ = FolderSource(Folder(path=str(tmp_path))).fetch(OBJECTS, ["g"])
    assert bad.status == "failed"
    assert "cannot be read" in bad.reason


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(TidalkinError, match="nowhere' is not a folder"):
        FolderSource(Folder(path=str(tmp_path / "nowhere")))


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{band}{foo}.fits", r"has the unknown field \{foo\}: use object_id, band or BAND"),
        ("{band", "cannot be filled in: "),
        ("mine}.fits", "cannot be filled in: "),
        ("{}.fits", r"has the unknown field \{\}"),
    ],
)
def test_a_file_name_that_cannot_be_filled_in_is_refused_in_a_sentence(tmp_path, template, fault):
    # As a search does with the user's own galaxy, whose name is not in the configuration.
    folder = Folder.model_construct(path=str(tmp_path), template=template)
    with pytest.raises(TidalkinError, match=f"^file name '.*' {fault}"):
        FolderSource(folder)


def test_one_file_of_all_bands_is_repacked_band_by_band(tmp_path):
    multi_extension(tmp_path / "1.fits", {"FLUXMAG0": 10 ** (31.4 / 2.5), "PSF_FWHM": 0.6})
    source = FolderSource(Folder(path=str(tmp_path), template="{object_id}.fits"))
    g, r, y = source.fetch(OBJECTS[:1], ["g", "r", "y"])
    assert y.status == "absent"
    assert "has no HDU named 'Y'" in y.reason
    first = read_cutout(g.content, "g", ("BAD",), ())
    assert first.band == "g"
    assert first.psf_fwhm == 0.6
    assert first.wcs.pixel(150.0, 2.0) == pytest.approx((2.0, 2.5))
    np.testing.assert_allclose(first.flux, np.where(np.eye(6, 5) == 1, np.nan, 1.0), rtol=1e-6)
    np.testing.assert_allclose(first.variance, 4.0, rtol=1e-6)
    np.testing.assert_allclose(read_cutout(r.content, "r").flux, 2.0, rtol=1e-6)
    assert next(source.fetch(OBJECTS[:1], ["g"])).content == g.content


def test_a_file_of_one_band_has_the_filter_that_its_hdu_0_names(tmp_path):
    (tmp_path / "1.fits").write_bytes(cutout(1, band="i"))
    source = FolderSource(Folder(path=str(tmp_path), template="{object_id}.fits", hdu_template="IMAGE"))
    right, wrong = next(source.fetch(OBJECTS[:1], ["i"])), next(source.fetch(OBJECTS[:1], ["g"]))
    assert right.status == "ok"
    assert "is of band i by its key FILTER, not g" in wrong.reason


def test_one_file_of_all_bands_in_nanojansky_needs_no_zero_point(tmp_path):
    multi_extension(tmp_path / "1.fits", {"BUNIT": "nJy"})
    (g,) = FolderSource(Folder(path=str(tmp_path), template="{object_id}.fits")).fetch(OBJECTS[:1], ["g"])
    assert read_cutout(g.content, "g").flux[0, 0] == 1.0


def test_one_file_of_all_bands_may_have_its_coordinates_in_hdu_0(tmp_path):
    keys = {"BUNIT": "nJy", "CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 5.0}
    keys |= {"CRPIX2": 3.5, "CDELT1": -5e-5, "CDELT2": 5e-5}
    multi_extension(tmp_path / "1.fits", keys)
    source = FolderSource(Folder(path=str(tmp_path), template="{object_id}.fits"))
    g, _ = source.fetch(OBJECTS[:1], ["g", "r"])
    assert read_cutout(g.content, "g").wcs.pixel(150.0, 2.0) == pytest.approx((2.0, 2.5))
    with fits.open(tmp_path / "1.fits", mode="update") as hdus:
        for key in ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CDELT1", "CDELT2"):
            del hdus["R"].header[key]
    g_again, r = source.fetch(OBJECTS[:1], ["g", "r"])
    assert g_again.content == g.content
    found = read_cutout(r.content, "r")
    assert found.wcs.pixel(150.0, 2.0) == pytest.approx((4.0, 2.5))
    assert (found.band, found.flux[0, 0]) == ("r", 2.0)


def test_a_broken_file_of_all_bands_fails_in_every_band_or_in_those_cut_off(tmp_path):
    (tmp_path / "1.fits").write_text("hello")
    multi_extension(tmp_path / "2.fits", {"BUNIT": "nJy"})
    whole = (tmp_path / "2.fits").read_bytes()
    (tmp_path / "2.fits").write_bytes(whole[: 2880 * 8 + 20])  # in the data of R
    found = FolderSource(Folder(path=str(tmp_path), template="{object_id}.fits")).fetch(OBJECTS, ["g", "r"])
    statuses = [(row.object_id, row.band, row.status) for row in found]
    assert statuses == [(1, "g", "failed"), (1, "r", "failed"), (2, "g", "ok"), (2, "r", "failed")]


def test_a_zipped_file_of_all_bands_is_repacked_as_the_plain_one(tmp_path):
    multi_extension(tmp_path / "1.fits", {"BUNIT": "nJy"})
    (tmp_path / "1.fits.gz").write_bytes(gzip.compress((tmp_path / "1.fits").read_bytes()))
    (tmp_path / "2.fits.gz").write_bytes((tmp_path / "1.fits.gz").read_bytes()[:500])
    plain = FolderSource(Folder(path=str(tmp_path), template="{object_id}.fits")).fetch(OBJECTS[:1], ["g", "r"])
    zipped = FolderSource(Folder(path=str(tmp_path), template="{object_id}.fits.gz")).fetch(OBJECTS, ["g", "r"])
    found = list(zipped)
    assert [cutout.content for cutout in found[:2]] == [cutout.content for cutout in plain]
    assert all(cutout.status == "failed" and "cannot be unzipped" in cutout.reason for cutout in found[2:])


def test_a_template_may_give_a_field_its_format(tmp_path):
    (tmp_path / "000001-g.fits").write_bytes(cutout(1))
    source = FolderSource(Folder(path=str(tmp_path), template="{object_id:06d}-{band}.fits"))
    assert [found.status for found in source.fetch(OBJECTS, ["g"])] == ["ok", "absent"]


def test_a_wildcard_stands_for_what_varies_where_one_file_fits(tmp_path):
    (tmp_path / "1-cutout-HSC-G-9813-pdr3_wide.fits").write_bytes(cutout(1))
    (tmp_path / "11-cutout-HSC-G-9813-pdr3_wide.fits").write_bytes(cutout(11))
    source = FolderSource(Folder(path=str(tmp_path), template="{object_id}-cutout-HSC-{BAND}-*.fits"))
    found, other = source.fetch(OBJECTS, ["g"])
    assert found.content == cutout(1)
    assert other.status == "absent"
    (tmp_path / "1-cutout-HSC-G-9814-pdr3_wide.fits").write_bytes(cutout(1))
    source = FolderSource(Folder(path=str(tmp_path), template="{object_id}-cutout-HSC-{BAND}-*.fits"))
    several, _ = source.fetch(OBJECTS, ["g"])
    assert several.status == "failed"
    assert "2 files fit" in several.reason


@pytest.mark.parametrize(
    ("template", "own", "other"),
    [
        ("{object_id}*-{band}.fits", "1-coadd-g.fits", "10-coadd-g.fits"),
        ("{object_id}?{band}.fits", "1-g.fits", "12g.fits"),
        ("*{object_id}-{band}.fits", "coadd-1-g.fits", "coadd-21-g.fits"),
        ("tile_*{object_id:04d}*{band}.fits", "tile_7_0001_g.fits", "tile_7_10001_g.fits"),
        ("a{object_id}{BAND}*.fits", "a1G2.fits", "a11G2.fits"),
        ("7{object_id}*[{band}].fits", "71_[g].fits", "710_[g].fits"),
    ],
)
def test_a_wildcard_beside_the_id_never_takes_the_file_of_another_object(tmp_path, template, own, other):
    (tmp_path / other).write_bytes(cutout(10))
    source = FolderSource(Folder(path=str(tmp_path), template=template))
    assert next(source.fetch(OBJECTS, ["g"])).status == "absent"
    (tmp_path / own).write_bytes(cutout(1))
    source = FolderSource(Folder(path=str(tmp_path), template=template))
    assert next(source.fetch(OBJECTS, ["g"])).content == cutout(1)


def test_a_file_that_is_left_for_another_object_is_named_in_the_reason(tmp_path):
    (tmp_path / "10-g.fits").write_bytes(cutout(10))
    found = next(FolderSource(Folder(path=str(tmp_path), template="{object_id}*-{band}.fits")).fetch(OBJECTS, ["g"]))
    assert found.reason.endswith("1*-g.fits: 10-g.fits has more digits, the id of another object")


def test_real_hsc_files_come_through_whole(tmp_path):
    if not HSC.is_dir():
        pytest.skip("the real HSC images are not on this machine")
    objects = read_catalog(HSC / "catalog.csv")[:12]
    deliveries = FolderSource(Folder(path=str(HSC / "cutouts"))).fetch(objects, ["g", "r", "i", "z", "y"])
    ledger = write_chunk(deliveries, objects, ["g", "r", "i", "z", "y"], tmp_path / "0.tar", tmp_path / "0.parquet")
    assert (ledger["status"] == "ok").all()
    with ChunkTar(tmp_path / "0.tar") as chunk:
        for row in objects.itertuples():
            content = chunk.read(row.object_id, "i")
            assert content == (HSC / "cutouts" / f"{row.object_id}-HSC-I.fits").read_bytes()
            found = read_cutout(content, str(row.object_id))
            assert found.flux.shape == (row.height, row.width)
            x, y = found.wcs.pixel(row.ra, row.dec)
            assert math.hypot(x - (row.width - 1) / 2, y - (row.height - 1) / 2) < 1


def test_one_compressed_file_of_all_bands_is_read_like_a_plain_one(tmp_path):
    multi_extension(tmp_path / "1.fits", {"BUNIT": "nJy"})
    plain = FolderSource(Folder(path=str(tmp_path), template="{object_id}.fits")).fetch(OBJECTS[:1], ["g", "r"])
    expected = [cut.content for cut in plain]
    (tmp_path / "1.fits.gz").write_bytes(gzip.compress((tmp_path / "1.fits").read_bytes()))
    found = list(
        FolderSource(Folder(path=str(tmp_path), template="{object_id}.fits.gz")).fetch(OBJECTS[:1], ["g", "r"])
    )
    assert [cut.status for cut in found] == ["ok", "ok"]
    assert [cut.content for cut in found] == expected


def test_a_compressed_file_of_all_bands_that_is_cut_short_fails_by_name(tmp_path):
    multi_extension(tmp_path / "1.fits", {"BUNIT": "nJy"})
    (tmp_path / "1.fits.gz").write_bytes(gzip.compress((tmp_path / "1.fits").read_bytes())[:300])
    (bad,) = FolderSource(Folder(path=str(tmp_path), template="{object_id}.fits.gz")).fetch(OBJECTS[:1], ["g"])
    assert bad.status == "failed"
    assert "1.fits.gz: cannot be unzipped" in bad.reason
