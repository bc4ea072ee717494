"""The user's own stamps: how they are read, turned and painted, and what is refused."""

import math

import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.wcs import WCS

from tidalkin.config import Injection, StampFolder
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.draws import Draws
from tidalkin.errors import TidalkinError
from tidalkin.injection.light import draw_light
from tidalkin.injection.stamp_files import stamps_digest
from tidalkin.injection.stamps import read_stamps

BANDS = ("g", "r", "i")
SIZE = 48
ONLY_STAMPS = {"clouds": 0, "filaments": 0, "edges": 0, "arcs": 0}


def bar(side=40, length=30, at=(0, 0)):
    """Draw a bar along x, off the centre by ``at`` (y, x) pixels."""
    image = np.zeros((side, side), np.float32)
    y, x = side // 2 + at[0], side // 2 + at[1]
    image[y - 1 : y + 2, x - length // 2 : x + length // 2] = 1
    return image


def write(path, *images, names=(), scale_arcsec=PIXEL_SCALE_ARCSEC):
    header = None
    if scale_arcsec:
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.cdelt = [-scale_arcsec / 3600, scale_arcsec / 3600]
        header = wcs.to_header()
    if names:
        named = zip(images, names, strict=True)
        hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(image, header, name=name) for image, name in named)]
    else:
        hdus = [fits.PrimaryHDU(images[0], header)]
    fits.HDUList(hdus).writeto(path, overwrite=True)


def settings(folder, **keys):
    return StampFolder(folder=str(folder), **keys)


def light_of(folder, n=40, seed=1, **keys):
    injection = Injection(stamps=settings(folder, **keys), **ONLY_STAMPS)
    stamps = read_stamps(injection.stamps, BANDS, SIZE)
    flux, psf = torch.zeros(n, 3, SIZE, SIZE), torch.full((n, 3), 0.6)
    draws = Draws(torch.Generator().manual_seed(seed))
    return draw_light(draws, injection, (25.0, 25.0), BANDS, flux, psf, fraction=1.0, stamps=stamps)


def test_a_stamp_is_painted_at_every_angle_with_the_drawn_brightness(tmp_path):
    write(tmp_path / "bar.fits", bar())
    light = light_of(tmp_path)
    assert light.injected.all()
    y, x = torch.meshgrid(*[torch.arange(SIZE) - (SIZE - 1) / 2] * 2, indexing="ij")
    weight = light.shape[:, 0] / light.shape.sum(dim=(1, 2, 3))[:, None, None]
    angle = 0.5 * torch.atan2(2 * (weight * x * y).sum(dim=(1, 2)), (weight * (x**2 - y**2)).sum(dim=(1, 2)))
    assert angle.std() > 0.5
    brightest = light.shape[0].flatten().sort(descending=True).values
    half = int((brightest.cumsum(0) < brightest.sum() / 2).sum()) + 1
    assert brightest[:half].mean().item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("scale_arcsec", [0.05, 0.168, 0.5])
def test_a_stamp_keeps_its_angular_size(tmp_path, scale_arcsec):
    length = round(4.0 / scale_arcsec)  # 4 arcsec
    side = 2 * length
    image = np.zeros((side, side), np.float32)
    image[side // 2 - max(1, length // 8) : side // 2 + max(1, length // 8), side // 4 : side // 4 + length] = 1
    write(tmp_path / "bar.fits", image, scale_arcsec=scale_arcsec)
    stamps = read_stamps(settings(tmp_path), BANDS, SIZE)
    row = stamps.images[0, 0].sum(dim=0)
    assert (row > 0.5 * row.max()).sum() * PIXEL_SCALE_ARCSEC == pytest.approx(4.0, abs=0.6)


def test_a_pixel_scale_serves_stamps_without_wcs(tmp_path):
    write(tmp_path / "bar.fits", bar(), scale_arcsec=None)
    with pytest.raises(TidalkinError, match=r"bar.fits: has no WCS: set injection.stamps.pixel_scale_arcsec"):
        read_stamps(settings(tmp_path), BANDS, SIZE)
    read_stamps(settings(tmp_path, pixel_scale_arcsec=0.2), BANDS, SIZE)


def test_a_stamp_in_several_bands_has_its_own_colour(tmp_path):
    write(tmp_path / "bar.fits", 0.2 * bar(), 0.5 * bar(), bar(), names=("G", "R", "I"))
    flux = light_of(tmp_path).band_flux
    assert torch.allclose(flux / flux[:, 2:], torch.tensor([0.2, 0.5, 1.0]).expand(40, 3), atol=1e-4)


def test_stamps_join_the_generic_shapes_in_the_number_asked_for(tmp_path):
    write(tmp_path / "bar.fits", 0.2 * bar(), 0.5 * bar(), bar(), names=("G", "R", "I"))
    injection = Injection(stamps=settings(tmp_path, number=3.0))
    stamps = read_stamps(injection.stamps, BANDS, SIZE)
    flux, psf = torch.zeros(600, 3, SIZE, SIZE), torch.full((600, 3), 0.6)
    draws = Draws(torch.Generator().manual_seed(1))
    light = draw_light(draws, injection, (25.0, 25.0), BANDS, flux, psf, 1.0, stamps=stamps)
    of_stamp = (light.band_flux[:, 0] / light.band_flux[:, 2] - 0.2).abs() < 1e-4
    assert of_stamp.float().mean() == pytest.approx(0.5, abs=0.08)


def test_equal_seeds_paint_equal_light(tmp_path):
    write(tmp_path / "a.fits", bar())
    write(tmp_path / "b.fits", bar(at=(8, 0)))
    assert torch.equal(light_of(tmp_path).shape, light_of(tmp_path).shape)
    assert not torch.equal(light_of(tmp_path).shape, light_of(tmp_path, seed=2).shape)


def test_the_digest_tells_when_a_stamp_changes(tmp_path):
    write(tmp_path / "bar.fits", bar())
    before = stamps_digest(settings(tmp_path))
    assert before == stamps_digest(settings(tmp_path))
    write(tmp_path / "bar.fits", bar(length=20))
    assert stamps_digest(settings(tmp_path)) != before
    assert stamps_digest(StampFolder()) == ""


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.full((9, 9), math.nan), "bar.fits: has pixels that are NaN or infinite: fill them with 0"),
        (np.zeros((9, 9)), "bar.fits: holds no light: leave the stamp out"),
        (np.ones((2, 9, 9)), "bar.fits: holds no image of two axes"),
    ],
)
def test_a_stamp_that_cannot_be_painted_is_refused_in_one_sentence(tmp_path, image, sentence):
    fits.PrimaryHDU(image).writeto(tmp_path / "bar.fits")
    with pytest.raises(TidalkinError, match=sentence):
        read_stamps(settings(tmp_path, pixel_scale_arcsec=0.168), BANDS, SIZE)


def test_a_missing_band_a_damaged_file_and_an_empty_folder_are_refused(tmp_path):
    write(tmp_path / "bar.fits", bar(), bar(), names=("G", "R"))
    with pytest.raises(TidalkinError, match="has several images, but none named I: give one image, or one for each"):
        read_stamps(settings(tmp_path), BANDS, SIZE)
    (tmp_path / "bar.fits").write_bytes(b"SIMPLE")
    with pytest.raises(TidalkinError, match=r"bar.fits: cannot be read as FITS"):
        read_stamps(settings(tmp_path), BANDS, SIZE)
    (tmp_path / "bar.fits").unlink()
    with pytest.raises(TidalkinError, match="holds no FITS file: put stamps there"):
        read_stamps(settings(tmp_path), BANDS, SIZE)
    with pytest.raises(TidalkinError, match="is not a folder: correct the path"):
        read_stamps(settings(tmp_path / "no"), BANDS, SIZE)
