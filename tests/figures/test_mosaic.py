"""Tests of colour pictures and mosaics."""

import numpy as np
import pytest
from matplotlib.image import imread

from tidalkin.figures.mosaic import BACKGROUND, FRAMES, Panel, draw_mosaic, rgb

BANDS = ("g", "r", "i", "z", "y")


NO_SIGMA = np.full(5, np.nan, np.float32)


SIGMA = np.array([2.4, 3.4, 5.1, 10.6, 16.5], np.float32)  # HSC Wide, nJy


def noise(size=64, seed=1):
    return np.random.default_rng(seed).normal(size=(5, size, size)).astype(np.float32) * SIGMA[:, None, None]


def test_a_patch_of_26_magnitudes_per_square_arcsec_stands_out_from_the_sky():
    flux = noise()
    flux[:, 20:40, 20:40] += 10 ** ((31.4 - 26) / 2.5) * 0.168**2
    picture = rgb(flux, SIGMA, BANDS)
    sky = picture[:15].mean(axis=-1)
    assert picture[22:38, 22:38].mean() > sky.mean() + 0.05
    assert picture[22:38, 22:38].mean() > sky.mean() + 2 * sky.std()


def test_a_core_is_no_white_blob():
    y, x = np.indices((64, 64)) - 32
    profile = 3000 * np.exp(-np.hypot(x, y) / 4)
    flux = noise() + (profile * np.array([0.35, 0.75, 1.0, 1.2, 1.3])[:, None, None]).astype(np.float32)
    red, green, blue = rgb(flux, SIGMA, BANDS)[32, 32]
    assert red > green > blue
    assert blue < 0.9


def test_red_and_blue_galaxies_differ_and_row_zero_stays_row_zero():
    flux = np.zeros((5, 32, 32), np.float32)
    flux[2, 4, 16] = 500  # i: red
    flux[0, 27, 16] = 500  # g: blue
    picture = rgb(flux, SIGMA, BANDS)
    assert picture[4, 16, 0] > 2 * picture[4, 16, 2]
    assert picture[27, 16, 2] > 2 * picture[27, 16, 0]


@pytest.mark.parametrize("bands", [("i",), ("g", "y"), ("g", "r", "i"), ("r", "z", "y"), ("z", "y", "g", "r", "i")])
def test_any_number_of_bands_makes_a_picture(bands):
    picture = rgb(noise()[: len(bands)], SIGMA[: len(bands)], bands)
    assert picture.shape == (64, 64, 3)
    assert np.isfinite(picture).all()
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert (np.ptp(picture, axis=-1).max() == 0) == (len(bands) == 1)


def test_missing_pixels_are_hatched_and_an_absent_band_is_done_without():
    flux = noise()
    flux[:, :, :10] = np.nan
    flux[2] = np.nan  # no i band
    flux[1, 30, 30] = np.nan  # one pixel in one band
    picture = rgb(flux, SIGMA, BANDS)
    hatch = np.unique(picture[:, :10])
    assert len(hatch) == 2
    assert not np.isin(picture[:, 10:], hatch).any()
    assert np.unique(rgb(np.full((5, 16, 16), np.nan, np.float32), NO_SIGMA, BANDS)).tolist() == hatch.tolist()


def test_unknown_noise_is_taken_from_the_pixels():
    flux = noise()
    difference = rgb(flux, NO_SIGMA, BANDS) - rgb(flux, SIGMA, BANDS)
    assert np.abs(difference).max() < 0.03


def test_an_image_of_constant_flux_is_drawn():
    assert np.isfinite(rgb(np.zeros((5, 8, 8), np.float32), NO_SIGMA, BANDS)).all()


def pixels_of(image, color):
    wanted = np.array([int(color[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return (np.abs(image[..., :3] - wanted) < 0.005).all(axis=-1).sum()


def test_a_mosaic_frames_the_questions_and_says_what_made_it(tmp_path):
    picture = np.full((16, 16, 3), 0.5)
    answers = [Panel(picture, f"{rank}  {rank + 40}", "0.91 shell") for rank in range(1, 8)]
    draw_mosaic(answers, tmp_path / "answers.png", title="t", subtitle="s", made_by={"Software": "tidalkin 0"})
    asked = [Panel(picture, "42", role="example"), Panel(picture, "7", role="counter-example")]
    draw_mosaic([*asked, *answers], tmp_path / "all.png", title="t", subtitle="s", made_by={"Software": "tidalkin 0"})
    without, framed = imread(tmp_path / "answers.png"), imread(tmp_path / "all.png")
    for role in ("example", "counter-example"):
        assert pixels_of(without, FRAMES[role]) == 0
        assert pixels_of(framed, FRAMES[role]) > 1000
    assert framed.shape[0] > without.shape[0]  # one row more
    assert pixels_of(framed, BACKGROUND) > 0.2 * framed.shape[0] * framed.shape[1]
    assert b"tidalkin 0" in (tmp_path / "all.png").read_bytes()


def test_a_mosaic_is_byte_identical_when_drawn_again(tmp_path):
    panels = [Panel(rgb(noise(), SIGMA, BANDS), "1  42")]
    for name in ("one.png", "two.png"):
        draw_mosaic(panels, tmp_path / name, title="t", subtitle="s", made_by={})
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
