"""Tests of the conversion of single shards."""

from __future__ import annotations

import io
import os
import re

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from surveys.fetched import Survey, converted, cutout
from tidalkin.catalog.read import read_catalog, write_catalog
from tidalkin.config import Folder
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.download.tar import ChunkTar, write_chunk
from tidalkin.errors import TidalkinError
from tidalkin.sources.folder import FolderSource


@given(objects=st.integers(1, 17), chunk_size=st.integers(1, 9), shard_size=st.integers(1, 9))
@settings(max_examples=12, deadline=None)
def test_each_object_is_in_its_row_however_chunks_and_shards_are_cut(
    tmp_path_factory, scheduler, objects, chunk_size, shard_size
):
    survey = Survey(tmp_path_factory.mktemp("survey"), objects, chunk_size=chunk_size)
    rows, problems = converted(survey, scheduler, shard_size=shard_size, chunk_size=1)
    assert list(rows["object_id"]) == list(range(1, objects + 1))
    assert np.abs(rows["flux"] - rows["object_id"][:, None, None, None]).max() < 1
    assert not (rows["flux"][:, 0] == rows["flux"][:, 1]).any()
    assert (rows["good_fraction"] == 1).all()
    assert rows["sky_sigma"] == pytest.approx(0.1)
    assert problems.empty


def test_absent_bands_bad_pixels_and_small_cutouts_are_missing_pixels(tmp_path, scheduler):
    def deliver(row, band):
        if row.object_id == 2 and band == "r":
            return None
        if row.object_id == 3:
            return cutout(row.object_id, band, row.ra, row.dec, bad=64)
        return cutout(row.object_id, band, row.ra, row.dec, size=8 if row.object_id == 4 else 16)

    rows, problems = converted(Survey(tmp_path, 5, deliver=deliver), scheduler)
    assert rows["good_fraction"].tolist() == [[1, 1], [1, 0], [0.75, 0.75], [0.25, 0.25], [1, 1]]
    assert (np.isfinite(rows["flux"]).mean(axis=(2, 3)) == rows["good_fraction"]).all()
    assert np.isnan(rows["sky_sigma"]).tolist() == (rows["good_fraction"] == 0).tolist()
    assert np.isfinite(rows["flux"][3, 0, 4:12, 4:12]).all()
    assert problems.empty  # absent cutouts are in the ledger only


def test_zero_points_are_taken_into_account(tmp_path, scheduler):
    def deliver(row, band):
        return cutout(row.object_id, band, row.ra, row.dec, fluxmag0=10 ** (0.4 * (27.0 if band == "g" else 31.4)))

    rows, _ = converted(Survey(tmp_path, 3, deliver=deliver), scheduler)
    assert rows["flux"][:, 0].mean() / rows["flux"][:, 1].mean() == pytest.approx(57.54, rel=0.01)
    assert rows["sky_sigma"][:, 0] / rows["sky_sigma"][:, 1] == pytest.approx(57.54, rel=0.01)


def test_seeing_that_no_image_has_counts_as_unknown(tmp_path, scheduler):
    seeing = [0.0, -99.0, 99.0, 9999.0, 1e20, 1e300, np.inf, -np.inf, 25.0]
    rows, _ = converted(Survey(tmp_path, len(seeing), columns={"psf_fwhm_g": seeing}), scheduler)
    np.testing.assert_allclose(rows["psf_fwhm"][:, 0], [*[np.nan] * 8, 25.0])


def test_the_seeing_is_the_catalogs(tmp_path, scheduler):
    survey = Survey(tmp_path, 3, columns={"psf_fwhm_g": [0.79, np.nan, -1.0]})
    rows, _ = converted(survey, scheduler)
    np.testing.assert_allclose(rows["psf_fwhm"][:, 0], [0.79, np.nan, np.nan])
    assert np.isnan(rows["psf_fwhm"][:, 1]).all()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda content: content[: len(content) // 2], "cut short"),
        (lambda content: b"no FITS at all", "not a FITS file"),
        (lambda content: content.replace(b"HSC-R", b"HSC-Z"), "is of band z by its FILTER"),
        (
            lambda content: content.replace(b"CRVAL1  =                150", b"CRVAL1  =                 10"),
            "no good pixel",
        ),
    ],
)
def test_a_cutout_that_cannot_be_used_is_listed_and_loses_nothing_else(tmp_path, scheduler, spoil, sentence):
    def deliver(row, band):
        content = cutout(row.object_id, band, round(row.ra), row.dec)
        return spoil(content) if (row.object_id, band) == (3, "r") else content

    survey = Survey(tmp_path, 6, deliver=deliver, columns={"ra": [150.0] * 6})
    rows, problems = converted(survey, scheduler)
    assert problems[["object_id", "band"]].values.tolist() == [[3, "r"]]
    assert "00000.tar: 3-r.fits: " in problems.reason[0]
    assert sentence in problems.reason[0]
    assert (rows["good_fraction"] == 0).tolist() == [[False, object_id == 3] for object_id in range(1, 7)]


def test_a_tar_that_is_cut_short_is_named(tmp_path, scheduler):
    survey = Survey(tmp_path, 7)
    os.truncate(survey.tars[1], 9000)
    with pytest.raises(TidalkinError, match=r"00001\.tar is cut short"):
        converted(survey, scheduler)


def test_real_hsc_images_arrive_in_nanojansky(tmp_path, scheduler, real_hsc_cutouts):
    objects = read_catalog(real_hsc_cutouts / "catalog.csv").iloc[:12]
    write_catalog(objects, tmp_path / "catalog.parquet")
    source = FolderSource(Folder(path=str(real_hsc_cutouts / "cutouts"), template="{object_id}-HSC-{BAND}.fits"))
    tar, ledger = tmp_path / "00000.tar", tmp_path / "00000.ledger.parquet"
    write_chunk(source.fetch(objects, "grizy"), objects, "grizy", tar, ledger)
    survey = Survey.__new__(Survey)
    survey.folder, survey.bands, survey.tars, survey.ledgers = tmp_path, "grizy", [tar], [ledger]
    rows, problems = converted(survey, scheduler, size=64, shard_size=5, chunk_size=5)
    assert problems.empty
    for row, object_id in enumerate(objects.object_id):
        image = fits.getdata(real_hsc_cutouts / "cutouts" / f"{object_id}-HSC-I.fits", 1)
        found = rows["flux"][row, 2]
        y, x = (side // 2 for side in image.shape)
        patch = image[y - 2 : y + 2, x - 2 : x + 2] * np.float32(10 ** (0.4 * (31.4 - 27)))
        near = [found[32 + j - 2 : 32 + j + 2, 32 + i - 2 : 32 + i + 2] for j in (-1, 0, 1) for i in (-1, 0, 1)]
        assert any(np.allclose(patch, candidate, rtol=1e-4, equal_nan=True) for candidate in near)
    assert (rows["sky_sigma"] > 0).all()
    assert rows["good_fraction"].min() > 0.05


def test_pixels_that_were_damaged_in_the_tar_are_listed_and_not_used(tmp_path, scheduler):
    survey = Survey(tmp_path, 5)
    content = bytearray(survey.tars[0].read_bytes())
    with ChunkTar(survey.tars[0]) as chunk:
        image = chunk.read(3, "r")
    at = content.index(image) + 2 * 2880 + 100  # in the pixels, where nothing but the checksum tells
    content[at : at + 32] = bytes(32)
    survey.tars[0].write_bytes(content)
    rows, problems = converted(survey, scheduler)
    assert problems[["object_id", "band"]].values.tolist() == [[3, "r"]]
    assert "3-r.fits: is damaged (its checksum is not the ledger's): delete" in problems["reason"][0]
    assert (rows["good_fraction"] == 0).sum() == 1


def with_cards(content, **cards):
    """Replace the values of cards in all headers of a FITS file."""
    for key, value in cards.items():
        content = re.sub(rb"(%-8s= ).{70}" % key.encode(), b"\\g<1>" + f"{value:>20}".ljust(70).encode(), content)
    return content


STEP = PIXEL_SCALE_ARCSEC / 3600


@pytest.mark.parametrize(
    ("cards", "sentence"),
    [
        (
            {"CD1_1": -2 * STEP, "CD2_2": 2 * STEP},
            "has pixels of 0.336 by 0.336 arcsec by its WCS, but 0.168 are expected",
        ),
        ({"CD1_1": -1.1 * STEP}, "has pixels of 0.1848 by 0.168 arcsec"),
        ({"CD1_1": STEP}, "is turned or mirrored against the object's other bands"),
        ({"CD1_1": 0, "CD2_2": 0, "CD1_2": -STEP, "CD2_1": -STEP}, "is turned or mirrored"),
    ],
    ids=["scale", "scale of one axis", "mirrored", "turned"],
)
def test_a_band_on_other_pixels_than_the_store_is_listed(tmp_path, scheduler, cards, sentence):
    def deliver(row, band):
        content = cutout(row.object_id, band, row.ra, row.dec)
        return with_cards(content, **cards) if (row.object_id, band) == (2, "r") else content

    rows, problems = converted(Survey(tmp_path, 3, deliver=deliver), scheduler)
    assert problems[["object_id", "band"]].to_numpy().tolist() == [[2, "r"]]
    assert sentence in problems["reason"][0]
    assert rows["good_fraction"].tolist() == [[1, 1], [1, 0], [1, 1]]


def test_rounding_of_the_pixel_scale_is_no_problem(tmp_path, scheduler):
    def deliver(row, band):
        return with_cards(cutout(row.object_id, band, row.ra, row.dec), CD1_1=-4.67e-5, CD2_2=4.66e-5)

    _, problems = converted(Survey(tmp_path, 2, deliver=deliver), scheduler)
    assert problems.empty


@pytest.mark.parametrize("value", [1e30, -1e30, -9.2e18, np.inf])
def test_a_pixel_beyond_any_flux_is_missing_and_listed(tmp_path, scheduler, value):
    def deliver(row, band):
        content = cutout(row.object_id, band, row.ra, row.dec)
        if (row.object_id, band) != (2, "r"):
            return content
        with fits.open(io.BytesIO(content)) as hdus:
            hdus["IMAGE"].data[3, 3] = value
            changed = io.BytesIO()
            hdus.writeto(changed)
        return changed.getvalue()

    rows, problems = converted(Survey(tmp_path, 3, deliver=deliver), scheduler)
    assert problems["object_id"].tolist() == [2]
    assert "has 1 pixel beyond any flux, counted as missing" in problems["reason"][0]
    assert np.argwhere(np.isnan(rows["flux"])).tolist() == [[1, 1, 3, 3]]
    assert rows["sky_sigma"] == pytest.approx(0.1)
