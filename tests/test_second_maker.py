"""The second maker writes a survey that the folder source can read."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tidalkin.catalog.read import read_catalog
from tidalkin.config import BANDS, Cutouts, Folder, Images
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.images.inputs import Chunk, Conversion
from tidalkin.images.shard import fill_shard
from tidalkin.simulation.analytic import half_light_brightness
from tidalkin.sources.fetch import fetch_chunk

ROOT = Path(__file__).resolve().parents[1]
SIZE = 64


def write_survey(folder, *options):
    command = [sys.executable, ROOT / "benchmarks" / "second_maker.py", folder, "--size", str(SIZE), *options]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("survey"), "--galaxies", "20", "--prevalence", "0.5")


def test_twenty_galaxies_come_through_the_folder_source_into_the_store(survey, tmp_path):
    catalog = read_catalog(survey / "catalog.csv")
    assert set(catalog["label"]) <= {"none", "stream", "shell", "tail"}
    cutouts = Cutouts(source="folder", folder=Folder(path=str(survey)))
    tar, ledger_file, catalog_file = tmp_path / "0.tar", tmp_path / "0.ledger.parquet", tmp_path / "catalog.parquet"
    ledger = fetch_chunk(catalog, cutouts, 1, tar, ledger_file)
    assert (ledger["status"] == "ok").all()
    catalog.to_parquet(catalog_file)
    conversion = Conversion(catalog_file, BANDS, Images(size=SIZE), tmp_path / "work")
    shard, problems = fill_shard(conversion, catalog, ledger, (Chunk(tar, ledger_file, 0, 20),), 0)
    assert not problems
    assert shard.flux.shape == (20, 5, SIZE, SIZE)
    assert (shard.good_fraction > 0.9).all()
    assert (shard.sky_sigma > 0).all()
    assert np.all((shard.psf_fwhm > 0.4) & (shard.psf_fwhm < 1.2))
    # Galaxies are in the middle, and as bright as the catalog says.
    middle = slice(SIZE // 2 - 3, SIZE // 2 + 3)
    centres = shard.flux[:, 2, middle, middle].mean(axis=(1, 2))
    assert np.all(centres > 5 * shard.sky_sigma[:, 2])
    assert np.corrcoef(np.log(centres), catalog["magnitude"])[0, 1] < -0.5


def test_the_truth_has_a_surface_brightness_exactly_where_it_has_a_feature(survey):
    catalog = read_catalog(survey / "catalog.csv")
    has_feature = catalog["label"] != "none"
    assert 4 <= has_feature.sum() <= 16
    assert (catalog["surface_brightness"].notna() == has_feature).all()
    assert catalog.loc[has_feature, "surface_brightness"].between(24, 27.5).all()


def test_an_object_is_the_same_in_a_larger_survey(survey, tmp_path):
    larger = write_survey(tmp_path / "larger", "--galaxies", "21", "--prevalence", "0.5")
    for band in "GY":
        name = f"20-HSC-{band}.fits"
        assert (larger / name).read_bytes() == (survey / name).read_bytes()
    pd.testing.assert_frame_equal(
        read_catalog(larger / "catalog.csv")[:20], read_catalog(survey / "catalog.csv"), check_exact=True
    )


def test_the_feature_has_the_surface_brightness_and_colour_that_the_catalog_tells(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    second_maker = import_module("second_maker")
    survey = second_maker.Survey(1.0, 1, SIZE, False, False)
    drawn = [second_maker.draw_object(survey, object_id) for object_id in range(1, 6)]
    monkeypatch.setattr(second_maker, "draw_feature_in_bands", lambda *_, **__: 0.0)
    for truth, _, counts in drawn:
        _, _, host = second_maker.draw_object(survey, truth.object_id)
        feature = counts - host
        counts_per_arcsec2 = half_light_brightness(feature[2]) / PIXEL_SCALE_ARCSEC**2
        assert 27 - 2.5 * np.log10(counts_per_arcsec2) == pytest.approx(truth.surface_brightness, abs=0.02)
        assert -2.5 * np.log10(feature[0].sum() / feature[2].sum()) == pytest.approx(truth.colour, abs=0.01)
