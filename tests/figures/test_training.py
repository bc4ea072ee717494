"""Tests of the sheet of views and the training history."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

import published
from tidalkin.config import Images
from tidalkin.cutouts.grid import place_on_grid
from tidalkin.cutouts.read import read_cutout
from tidalkin.errors import TidalkinError
from tidalkin.figures.training import draw_history, draw_views
from tidalkin.images.store import ImageStore, Shard

AUGMENT = published.augment(crop=48, jitter_pixels=4, rotate=True, discs=3, color=0.3)


def write_store(path, flux, bands, good_fraction=1.0):
    objects, n_bands, size, _ = flux.shape
    per_band = np.ones((objects, n_bands), np.float32)
    store = ImageStore.create(path, objects=objects, bands=bands, images=Images(size=size, shard_size=32))
    object_id = np.arange(objects, dtype=np.int64)
    store.write(0, Shard(flux, per_band, 0.7 * per_band, good_fraction * per_band, object_id))


def galaxies(objects=5, n_bands=5, size=64):
    """Draw round galaxies in noise, each larger than the one before."""
    pixel = np.arange(size) - (size - 1) / 2
    radius = np.hypot(pixel, pixel[:, None])
    scale = 2.0 + np.arange(objects)[:, None, None, None]
    noise = np.random.default_rng(1).normal(size=(objects, n_bands, size, size))
    return (100 * np.exp(-radius / scale) + noise).astype(np.float32)


@pytest.mark.parametrize("bands", ["grizy", "gr", "i"])
def test_the_sheet_of_views_is_drawn_for_any_number_of_bands(tmp_path, bands):
    write_store(tmp_path / "images.zarr", galaxies(n_bands=len(bands)), list(bands))
    draw_views(tmp_path / "images.zarr", tmp_path / "views.png", augment=AUGMENT, stretch=published.stretch(), seed=1)
    picture = imread(tmp_path / "views.png")
    # Nearly all of the four columns of views is galaxy and grey sky, not white paper.
    assert (picture[:, picture.shape[1] // 5 :, :3].min(axis=2) < 0.99).mean() > 0.7


def test_the_same_seed_draws_the_same_sheet_and_another_seed_another(tmp_path):
    write_store(tmp_path / "images.zarr", galaxies(), list("grizy"))
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        draw_views(
            tmp_path / "images.zarr", tmp_path / f"{name}.png", augment=AUGMENT, stretch=published.stretch(), seed=seed
        )
    first, again, other = ((tmp_path / f"{name}.png").read_bytes() for name in ("first", "again", "other"))
    assert first == again
    assert first != other


def test_a_store_without_images_gives_a_sentence_and_no_picture(tmp_path):
    write_store(tmp_path / "images.zarr", np.full((3, 5, 64, 64), np.nan, np.float32), list("grizy"), 0.0)
    with pytest.raises(TidalkinError, match="band g has no image"):
        draw_views(
            tmp_path / "images.zarr", tmp_path / "views.png", augment=AUGMENT, stretch=published.stretch(), seed=1
        )
    assert [path.name for path in tmp_path.iterdir()] == ["images.zarr"]


def test_real_hsc_images_give_a_sheet(tmp_path, real_hsc_cutouts):
    row = pd.read_csv(real_hsc_cutouts / "catalog.csv").sort_values("width").iloc[-1]
    flux = np.empty((1, 5, 96, 96), np.float32)
    for band, letter in enumerate("GRIZY"):
        path = real_hsc_cutouts / "cutouts" / f"{int(row.object_id)}-HSC-{letter}.fits"
        cutout = read_cutout(path, path.name, ("BAD", "SAT", "NO_DATA"), ())
        flux[0, band] = place_on_grid(cutout.flux, cutout.wcs, row.ra, row.dec, 96)
    write_store(tmp_path / "images.zarr", flux, list("grizy"))
    draw_views(tmp_path / "images.zarr", tmp_path / "views.png", augment=AUGMENT, stretch=published.stretch(), seed=1)
    assert imread(tmp_path / "views.png")[..., :3].std() > 0.1


def history(epochs):
    number = np.arange(1, epochs + 1)
    columns = (
        {"loss": -0.9, "injection_loss": 0.6, "map_loss": 0.4}
        | {"learning_rate": 0.05, "collapse_std": 0.9}
        | {"images_per_second": 100.0}
    )
    return pd.DataFrame({"epoch": number} | {name: value / number for name, value in columns.items()})


@pytest.mark.parametrize("epochs", [1, 25])
def test_the_history_is_drawn_from_the_first_epoch_on(tmp_path, epochs):
    history(epochs).to_csv(tmp_path / "history.csv", index=False)
    draw_history(tmp_path / "history.csv", tmp_path / "history.png")
    blue = np.abs(imread(tmp_path / "history.png")[..., :3] - np.array([0x1F, 0x77, 0xB4]) / 255).max(axis=2) < 0.02
    rows, columns = (size // 2 for size in blue.shape)
    quarters = blue[:rows, :columns], blue[:rows, columns:], blue[rows:, :columns], blue[rows:, columns:]
    assert all(quarter.any() for quarter in quarters), "each panel holds its line"


@pytest.mark.parametrize(
    ("table", "sentence"),
    [(history(3).drop(columns="collapse_std"), "it has no column `collapse_std`"), (history(0), "holds no epoch")],
    ids=["a column is missing", "no epoch"],
)
def test_a_history_that_is_none_is_refused(tmp_path, table, sentence):
    table.to_csv(tmp_path / "history.csv", index=False)
    with pytest.raises(TidalkinError, match=rf"history\.csv: .*{sentence}"):
        draw_history(tmp_path / "history.csv", tmp_path / "history.png")
