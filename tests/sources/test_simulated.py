"""Tests of the simulated survey: catalog, noise and cutouts."""

from __future__ import annotations

import io
import math

import galsim
import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from surveys.drawn import EMPTY_FIELD, SEED, SURVEY, lone_galaxy, radii_arcsec
from tidalkin.config import BANDS, SimulatedSurvey
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.cutouts.read import read_cutout
from tidalkin.simulation.galaxy import draw_galaxy
from tidalkin.simulation.scene import draw_scene
from tidalkin.simulation.tides import FEATURES
from tidalkin.sources.simulated import (
    DEPTH,
    DEPTH_SCATTER,
    MASK_PLANES,
    SimulatedSource,
    simulate_catalog,
    sky_sigma,
)


def test_a_larger_survey_has_the_same_rows_and_then_some():
    small = simulate_catalog(SURVEY, SEED)
    large = simulate_catalog(SURVEY.model_copy(update={"galaxies": 60}), SEED)
    assert len(large) == 60
    pd.testing.assert_frame_equal(small, large.iloc[:40])


def test_another_seed_is_another_survey():
    one, other = simulate_catalog(SURVEY, 1), simulate_catalog(SURVEY, 2)
    assert list(one["object_id"]) == list(other["object_id"]) == list(range(1, 41))
    assert not np.any(one["magnitude_i"] == other["magnitude_i"])
    assert not np.any(one["ra"] == other["ra"])


def test_the_share_of_galaxies_with_features_is_the_one_asked_for():
    catalog = simulate_catalog(SimulatedSurvey(galaxies=3000, tidal_fraction=0.3), SEED)
    counts = catalog["label"].value_counts()
    four_sigma = 4 * math.sqrt(0.3 * 0.7 / 3000)
    assert 1 - counts["none"] / 3000 == pytest.approx(0.3, abs=four_sigma)
    for feature in FEATURES:
        assert counts[feature] / 3000 == pytest.approx(0.1, abs=four_sigma)


@pytest.mark.parametrize(("fraction", "labels"), [(0.0, {"none"}), (1.0, set(FEATURES))])
def test_none_or_all_galaxies_may_have_features(fraction, labels):
    catalog = simulate_catalog(SimulatedSurvey(galaxies=60, tidal_fraction=fraction), SEED)
    assert set(catalog["label"]) == labels
    assert catalog["tidal_surface_brightness"].isna().all() == (fraction == 0)


def test_the_share_of_features_changes_nothing_else():
    few, many = (simulate_catalog(SURVEY.model_copy(update={"tidal_fraction": share}), SEED) for share in (0.1, 0.9))
    told = ["label", "tidal_surface_brightness", "tidal_colour_offset"]
    pd.testing.assert_frame_equal(few.drop(columns=told), many.drop(columns=told))


def test_parameters_stay_in_their_ranges():
    survey = SimulatedSurvey(galaxies=500, tidal_fraction=1.0)
    catalog = simulate_catalog(survey, SEED)
    for column, bounds in (
        ("magnitude_i", survey.magnitude),
        ("half_light_radius_arcsec", survey.half_light_radius_arcsec),
        ("tidal_surface_brightness", survey.tidal_surface_brightness),
    ):
        assert catalog[column].between(*bounds).all(), column
    assert catalog["tidal_surface_brightness"].std() == pytest.approx(4 / math.sqrt(12), rel=0.1)  # uniform over 4 mag


def test_hosts_with_features_are_like_those_without():
    catalog = simulate_catalog(SimulatedSurvey(galaxies=3000, tidal_fraction=0.5), SEED)
    with_feature = catalog["label"] != "none"
    for column in ("magnitude_i", "half_light_radius_arcsec", "bulge_fraction", "arm_fraction", "psf_fwhm_i"):
        values = catalog[column]
        difference = values[with_feature].mean() - values[~with_feature].mean()
        assert abs(difference) < 4 * values.std() * math.sqrt(4 / 3000), column


def test_no_two_galaxies_share_a_cutout():
    catalog = simulate_catalog(SimulatedSurvey(galaxies=5000), SEED)
    sky = SkyCoord(catalog["ra"], catalog["dec"], unit="deg")
    _, nearest, _ = sky.match_to_catalog_sky(sky, nthneighbor=2)
    assert nearest.arcsec.min() > 60


def test_the_noise_is_that_of_the_survey_s_depth():
    """Compute the signal-to-noise ratio of a star in the best of apertures, the PSF."""
    medians = {"g": 0.79, "r": 0.75, "i": 0.61, "z": 0.68, "y": 0.68}
    for band in BANDS:
        star = galsim.Convolve(galsim.Kolmogorov(fwhm=medians[band] - 0.01), galsim.Pixel(PIXEL_SCALE_ARCSEC))
        profile = star.drawImage(nx=64, ny=64, scale=PIXEL_SCALE_ARCSEC, method="no_pixel").array
        counts = 10 ** (0.4 * (27 - DEPTH[band]))
        assert counts * math.sqrt((profile**2).sum()) / sky_sigma(band) == pytest.approx(5, rel=0.03), band


def test_the_noise_in_the_pixels_is_the_one_the_variance_names():
    source = SimulatedSource(EMPTY_FIELD, 96, SEED)
    for band, exposure in zip(BANDS, source.expose(lone_galaxy(1), BANDS), strict=True):
        sky = radii_arcsec(96) > 7.5
        spread = 1.4826 * np.median(np.abs(exposure.image[sky] - np.median(exposure.image[sky])))
        assert spread == pytest.approx(math.sqrt(np.median(exposure.variance[sky])), rel=0.08)
        assert spread == pytest.approx(sky_sigma(band), rel=0.08 + 3 * DEPTH_SCATTER)


def test_correlated_noise_couples_neighbours_and_the_variance_plane_still_holds():
    survey = EMPTY_FIELD.model_copy(update={"correlated_noise": True})
    correlations = []
    for number in range(1, 6):
        exposure = next(SimulatedSource(survey, 96, SEED).expose(lone_galaxy(number), ("i",)))
        plain = next(SimulatedSource(EMPTY_FIELD, 96, SEED).expose(lone_galaxy(number), ("i",)))
        np.testing.assert_array_equal(exposure.mask, plain.mask)
        sky = np.where((radii_arcsec(96) > 7) & (exposure.mask == 0), exposure.image, np.nan)
        spread = 1.4826 * np.nanmedian(np.abs(sky - np.nanmedian(sky)))
        assert spread == pytest.approx(math.sqrt(np.nanmedian(exposure.variance)), rel=0.08)
        assert np.nanmedian(exposure.variance) < 0.95 * np.nanmedian(plain.variance)
        pairs = (sky - np.nanmean(sky))[:, 1:] * (sky - np.nanmean(sky))[:, :-1]
        correlations.append(np.nanmean(pairs) / np.nanvar(sky))
    assert 0.1 < np.mean(correlations) < 0.4


def test_over_subtraction_takes_faint_light_away_most_near_the_galaxy_and_nothing_else():
    survey = EMPTY_FIELD.model_copy(update={"over_subtraction": 0.8})
    galaxy = lone_galaxy(1, magnitude_i=17.5)
    exposure = next(SimulatedSource(survey, 96, SEED).expose(galaxy, ("i",)))
    plain = next(SimulatedSource(EMPTY_FIELD, 96, SEED).expose(galaxy, ("i",)))
    np.testing.assert_array_equal(exposure.variance, plain.variance)
    lost = plain.image - exposure.image
    assert 0 < np.median(lost[radii_arcsec(96) > 7.5]) < np.median(lost[radii_arcsec(96) < 3]) < 2 * sky_sigma("i")


def test_an_object_is_drawn_the_same_whatever_is_drawn_beside_it():
    catalog = simulate_catalog(SURVEY, SEED)
    source = SimulatedSource(SURVEY, 64, SEED)
    together = {(d.object_id, d.band): d.content for d in source.fetch(catalog[:6], BANDS)}
    assert list(together) == [(number, band) for number in range(1, 7) for band in BANDS]
    alone = list(source.fetch(catalog[3:4], ("y", "g")))
    assert [d.band for d in alone] == ["y", "g"]
    assert all(d.content == together[d.object_id, d.band] for d in alone)


def test_a_cutout_has_the_layout_of_hsc():
    catalog = simulate_catalog(SURVEY, SEED)
    row = catalog.iloc[0]
    delivery = next(SimulatedSource(SURVEY, 96, SEED).fetch(catalog[:1], ("r",)))
    assert (delivery.object_id, delivery.band, delivery.status) == (1, "r", "ok")
    with fits.open(io.BytesIO(delivery.content)) as file:
        file.verify("exception")
        assert [hdu.name for hdu in file] == ["PRIMARY", "IMAGE", "MASK", "VARIANCE"]
        assert file[0].header["FLUXMAG0"] == pytest.approx(10**10.8)
        assert file[0].header["FILTER"] == "HSC-R"
        assert [hdu.data.dtype.kind for hdu in file[1:]] == ["f", "i", "f"]
        assert all(hdu.data.shape == (96, 96) for hdu in file[1:])
        assert {plane: file[2].header[f"MP_{plane}"] for plane in MASK_PLANES} == MASK_PLANES
        x, y = WCS(file[1].header).world_to_pixel(SkyCoord(row["ra"], row["dec"], unit="deg"))
        near = file[1].data[round(float(y)) - 1 : round(float(y)) + 2, round(float(x)) - 1 : round(float(x)) + 2]
        assert np.max(near) > 0.8 * np.max(file[1].data[43:53, 43:53])
    assert max(abs(x - 47.5), abs(y - 47.5)) <= 0.501
    assert read_cutout(delivery.content, "1-r", MASK_PLANES.keys(), ()).psf_fwhm == pytest.approx(row["psf_fwhm_r"])


def test_galaxies_are_detected_and_cores_of_bright_stars_saturated():
    survey = SimulatedSurvey(stars_per_arcmin2=200.0)
    source = SimulatedSource(survey, 96, SEED)
    exposures = [next(source.expose(draw_galaxy(survey, SEED, number), ("i",))) for number in range(1, 30)]
    assert all(exposure.mask[48, 48] & 1 << MASK_PLANES["DETECTED"] for exposure in exposures)
    saturated = [(exposure.mask & 1 << MASK_PLANES["SAT"]) > 0 for exposure in exposures]
    assert 0 < np.mean(saturated) < 0.01
    assert all(
        exposure.image[where].min() > 250 for exposure, where in zip(exposures, saturated, strict=True) if where.any()
    )


def test_now_and_then_pixels_are_missing_and_marked():
    source = SimulatedSource(EMPTY_FIELD, 48, SEED)
    seen = dict.fromkeys(("BAD", "CR", "NO_DATA"), 0)
    for number in range(1, 121):
        for exposure in source.expose(lone_galaxy(number), BANDS):
            no_data = (exposure.mask & 1 << MASK_PLANES["NO_DATA"]) > 0
            assert np.array_equal(no_data, np.isnan(exposure.image))
            for plane in seen:
                seen[plane] += bool((exposure.mask & 1 << MASK_PLANES[plane]).any())
    assert all(0 < count < 60 for count in seen.values())


@settings(max_examples=25, deadline=None)
@given(object_id=st.integers(1, 10**9), size=st.sampled_from([8, 31, 64, 101]), seed=st.integers(0, 2**31 - 1))
def test_any_galaxy_can_be_drawn_at_any_size(object_id, size, seed):
    survey = SimulatedSurvey(tidal_fraction=1.0)
    image = draw_scene(draw_galaxy(survey, seed, object_id), survey, seed, ("g", "y"), size)
    assert image.shape == (2, size, size)
    assert image.dtype == np.float32
    assert np.isfinite(image).all()
    assert image.sum() > 0
