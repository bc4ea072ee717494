"""Fluxes, masks, noise and PSF of the Multimodal Universe's HSC set."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import zarr

from tidalkin.catalog.read import read_catalog
from tidalkin.config import Cutouts, MmuHsc, Settings, load_settings
from tidalkin.cutouts.base import Cutout
from tidalkin.cutouts.grid import place_on_grid
from tidalkin.cutouts.read import read_cutout
from tidalkin.download.tar import write_chunk
from tidalkin.errors import TidalkinError
from tidalkin.sources.catalog import write_chunks, write_run_catalog
from tidalkin.sources.fetch import fetch_chunk
from tidalkin.sources.mmu import MmuHscSource, mmu_catalog
from tidalkin.sources.plan import plan_run
from tidalkin.sources.registry import open_source

BANDS = ("g", "r", "i", "z", "y")
SIDE = 16
NJY = 10 ** (0.4 * (31.4 - 27))


def write_set(folder: Path) -> None:
    """Write two files of three and two galaxies in the layout of the set."""
    for healpix, ids in ((7, [44, 42, 43]), (19, [60, 61])):
        path = folder / f"healpix={healpix}" / "001-of-001.hdf5"
        path.parent.mkdir(parents=True)
        n = len(ids)
        flux = np.zeros((n, 5, SIDE, SIDE), np.float32)
        flux += np.array(ids, np.float32)[:, None, None, None] + np.arange(5, dtype=np.float32)[:, None, None] / 10
        mask = np.ones((n, 5, SIDE, SIDE), bool)
        mask[:, 0, 0, 0] = False
        ivar = np.full((n, 5, SIDE, SIDE), 4.0, np.float32)
        ivar[:, 1, 3, 3] = 0.0
        columns = {
            "object_id": np.array(ids),
            "ra": 150 + np.array(ids) / 1000,
            "dec": 2 + np.array(ids) / 1000,
            "tract": np.full(n, 9813, np.int32),
            "i_cmodel_mag": np.full(n, 19.0, np.float32),
            "image_band": np.array([[f"hsc-{band}".encode() for band in BANDS]] * n, h5py.string_dtype("utf-8", 5)),
            "image_array": flux,
            "image_ivar": ivar,
            "image_mask": mask,
            "image_psf_fwhm": np.array([[0.8, 0.75, 0.6, 0.7, 0.0]] * n, np.float32),
            "image_scale": np.full((n, 5), 0.168, np.float32),
        }
        with h5py.File(path, "w") as file:
            for name, values in columns.items():
                file.create_dataset(name, data=values, compression="gzip", chunks=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_set(tmp_path / "pdr3_dud_22.5")
    return tmp_path / "pdr3_dud_22.5"


def delivered(folder: Path, objects: pd.DataFrame, bands: tuple[str, ...] = BANDS) -> list[Cutout]:
    return list(MmuHscSource(MmuHsc(path=str(folder))).fetch(objects, bands))


def test_the_set_is_its_own_catalog(folder: Path) -> None:
    catalog = mmu_catalog(folder)
    assert catalog["object_id"].tolist() == [42, 43, 44, 60, 61]
    assert catalog["ra"].tolist() == pytest.approx([150.042, 150.043, 150.044, 150.06, 150.061])
    assert catalog["psf_fwhm_i"].tolist() == pytest.approx([0.6] * 5)
    assert catalog["psf_fwhm_y"].isna().all()
    assert catalog["tract"].tolist() == [9813] * 5


def test_each_cutout_has_the_flux_mask_noise_and_psf_of_its_galaxy(folder: Path) -> None:
    catalog = mmu_catalog(folder)
    cuts = delivered(folder, catalog)
    assert [(cut.object_id, cut.band) for cut in cuts] == [(i, band) for i in (42, 43, 44, 60, 61) for band in BANDS]
    for cut in cuts:
        image = read_cutout(cut.content, "cut", bad_mask_planes=["BAD"])
        expected = (cut.object_id + BANDS.index(cut.band) / 10) * NJY
        assert np.nanmax(image.flux) == pytest.approx(expected, rel=1e-5)
        assert np.isnan(image.flux).sum() == (1 if cut.band == "g" else 0)
        assert np.nanmax(image.variance) == pytest.approx(0.25 * NJY**2, rel=1e-5)
        assert np.isnan(image.variance).sum() == (1 if cut.band == "r" else 0)
        assert image.band == cut.band
    psf = [read_cutout(cut.content, "cut").psf_fwhm for cut in cuts[:5]]
    assert psf[:4] == pytest.approx([0.8, 0.75, 0.6, 0.7])
    assert np.isnan(psf[4])


def test_an_object_is_at_the_centre_of_its_cutout(folder: Path) -> None:
    objects = mmu_catalog(folder)[:1]
    image = read_cutout(delivered(folder, objects, ("i",))[0].content, "cut")
    grid = place_on_grid(image.flux, image.wcs, objects["ra"][0], objects["dec"][0], SIDE)
    assert np.isfinite(grid).all()


def test_an_object_the_set_does_not_have_is_absent(folder: Path, tmp_path: Path) -> None:
    objects = pd.DataFrame({"object_id": [61, 99], "ra": [150.061, 150.0], "dec": [2.061, 2.0]})
    cuts = delivered(folder, objects, ("g", "y"))
    assert [cut.status for cut in cuts] == ["ok", "ok", "absent", "absent"]
    ledger = write_chunk(cuts, objects, ("g", "y"), tmp_path / "0.tar", tmp_path / "0.ledger.parquet")
    assert ledger["reason"].tolist()[2:] == ["the set has no such object"] * 2


def test_a_file_that_is_cut_short_is_named(folder: Path) -> None:
    file = folder / "healpix=19" / "001-of-001.hdf5"
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(TidalkinError, match=r"healpix=19/001-of-001.hdf5 cannot be read as a file of the set"):
        mmu_catalog(folder)


def test_a_missing_column_is_named(folder: Path) -> None:
    catalog = mmu_catalog(folder)
    with h5py.File(folder / "healpix=19" / "001-of-001.hdf5", "r+") as file:
        del file["image_ivar"]
    cuts = delivered(folder, catalog, ("g",))
    assert [cut.status for cut in cuts] == ["ok", "ok", "ok", "failed", "failed"]
    assert "image_ivar" in cuts[-1].reason


def settings_of(folder: Path) -> Settings:
    return load_settings(
        {
            "run": "mmu",
            "catalog": {"source": "file", "path": str(folder), "chunk_size": 3},
            "cutouts": {"source": "mmu_hsc", "mmu_hsc": {"path": str(folder)}},
            "images": {"size": SIDE, "shard_size": 8, "chunk_size": 4},
            "stretch": {"bin": 1},
            "augment": {"crop": 12},
            "encoder": {"stem": "small"},
            "evaluation": {"enabled": False},
        }
    )


def test_the_folder_of_the_set_is_a_catalog_that_a_run_is_planned_and_fetched_from(
    folder: Path, tmp_path: Path
) -> None:
    settings, catalog = settings_of(folder), tmp_path / "catalog.parquet"
    planned = plan_run(settings, folder, catalog)
    assert planned is not None
    assert planned.galaxies == 5
    write_run_catalog(settings, folder, catalog)
    write_chunks(settings, folder, planned.digest, tmp_path / "chunks", tmp_path / "objects.parquet")
    assert plan_run(settings, folder, catalog) == planned
    assert read_catalog(catalog)["psf_fwhm_i"].tolist() == pytest.approx([0.6] * 5)
    for name in planned.chunks:
        rows = read_catalog(tmp_path / "chunks" / f"{name}.parquet")
        ledger = fetch_chunk(rows, settings.cutouts, 0, tmp_path / f"{name}.tar", tmp_path / f"{name}.parquet")
        assert set(ledger["status"]) == {"ok"}


def test_a_set_that_has_grown_is_another_plan(folder: Path, tmp_path: Path) -> None:
    settings, catalog = settings_of(folder), tmp_path / "catalog.parquet"
    write_run_catalog(settings, folder, catalog)
    shutil.rmtree(folder / "healpix=19")
    smaller = plan_run(settings, folder, catalog)
    assert smaller is not None
    assert smaller.galaxies == 3


@pytest.mark.slow
def test_the_workflow_needs_nothing_but_the_folder_of_the_set(folder: Path, tmp_path: Path, snakemake) -> None:
    config = settings_of(folder).model_dump(mode="json")
    snakemake(tmp_path, "--until", "convert", config=config)
    store = zarr.open_group(tmp_path / "results" / "mmu" / "images.zarr", mode="r")
    assert store["object_id"][:].tolist() == [42, 43, 44, 60, 61]
    assert store["psf_fwhm"][:, 2] == pytest.approx(0.6)
    assert (store["good_fraction"][:] > 0.9).all()
    again = snakemake(tmp_path, "-n", "--until", "convert", config=config)
    assert "rule fetch" not in again.stdout + again.stderr


def test_images_of_another_survey_are_refused(folder: Path) -> None:
    with h5py.File(folder / "healpix=7" / "001-of-001.hdf5", "r+") as file:
        file["image_band"][:] = b"des-g"
    with pytest.raises(TidalkinError, match="band 'des-g'"):
        mmu_catalog(folder)


def test_pixels_of_another_scale_are_refused(folder: Path) -> None:
    catalog = mmu_catalog(folder)
    with h5py.File(folder / "healpix=7" / "001-of-001.hdf5", "r+") as file:
        file["image_scale"][:] = 0.262
    with pytest.raises(TidalkinError, match=r"pixels of 0\.26"):
        delivered(folder, catalog)


def test_the_configuration_must_name_the_folder_and_it_must_hold_the_set(tmp_path: Path) -> None:
    config = {"catalog": {"source": "file", "path": "a.csv"}, "cutouts": {"source": "mmu_hsc"}}
    with pytest.raises(TidalkinError, match=r"needs `mmu_hsc.path`"):
        load_settings(config)
    with pytest.raises(TidalkinError, match=r"holds no healpix=\*/\*.hdf5"):
        open_source(Cutouts(source="mmu_hsc", mmu_hsc=MmuHsc(path=str(tmp_path))), seed=1, folder=tmp_path)
