"""Classical morphology of single images."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import statmorph
from hypothesis import given, settings
from hypothesis import strategies as st

from surveys.round_galaxies import SIZE, galaxy
from tidalkin.evaluation.morphology import MEASUREMENTS, QuickMorphology, central_source, measure


def measured(image: np.ndarray) -> pd.Series:
    return pd.Series(measure(image, 5.0, 3.0), index=MEASUREMENTS)


def test_a_de_vaucouleurs_galaxy_is_more_concentrated_than_a_disc():
    disc, bulge = measured(galaxy(1.0, size=96)), measured(galaxy(4.0, size=96))
    assert bulge["concentration"] > disc["concentration"] + 0.3
    assert bulge["gini"] > disc["gini"]
    assert disc["sersic_n"] == pytest.approx(1.0, abs=0.1)
    assert bulge["sersic_n"] > 2


def test_an_unknown_psf_leaves_the_profile_blurred_and_all_else_as_it_is():
    image = galaxy(2.0, size=96)
    known, unknown = measured(image), pd.Series(measure(image, 5.0, np.nan), index=MEASUREMENTS)
    assert unknown["sersic_n"] < known["sersic_n"]
    profile = known.index.str.startswith("sersic")
    pd.testing.assert_series_equal(known[~profile], unknown[~profile])


def test_a_disturbed_galaxy_is_more_asymmetric_than_an_undisturbed_one():
    undisturbed, disturbed = measured(galaxy(1.0)), measured(galaxy(1.0, blob=True))
    assert abs(undisturbed["asymmetry"]) < 0.05
    assert disturbed["asymmetry"] > undisturbed["asymmetry"] + 0.1
    assert disturbed["shape_asymmetry"] > undisturbed["shape_asymmetry"]


def test_a_faster_search_measures_what_statmorph_measures():
    image = galaxy(1.0, blob=True).astype(float)
    inside, others = central_source(image, 5.0)
    reference = statmorph.SourceMorphology(
        image, inside.astype(np.int64), 1, mask=others, weightmap=np.full(image.shape, 5.0)
    )
    ours = pd.Series(measure(image, 5.0, np.nan), index=MEASUREMENTS)
    for name in MEASUREMENTS:
        # Of two clumps of nearly equal area, a finer grid of thresholds finds another second one.
        tolerance = 0.2 if name == "multimode" else 0.005
        assert ours[name] == pytest.approx(getattr(reference, name), rel=0.01, abs=tolerance), name


def test_a_doubtful_measurement_gives_no_warning(recwarn):
    y, x = np.mgrid[:32, :32] - 16
    no_sky_left = 100 * np.exp(-np.hypot(x, y) / 4) + np.random.default_rng(1).normal(size=(32, 32))
    warnings.simplefilter("always")
    measure(no_sky_left, 1.0, np.nan)
    assert [str(warning.message) for warning in recwarn] == []


@given(seed=st.integers(0, 10**6), masked=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_the_square_of_empty_sky_is_that_of_statmorph(seed, masked):
    image = galaxy(1.0).astype(float)
    inside, _ = central_source(image, 5.0)
    others = (np.random.default_rng(seed).random(image.shape) < masked**4) & ~inside
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # statmorph warns of many masked pixels and of missing sky
        morphology = QuickMorphology(image, inside.astype(np.int64), 1, mask=others, gain=1.0)
        expected = statmorph.SourceMorphology._slice_skybox.fget(morphology)
    assert morphology._slice_skybox == expected


def test_a_neighbour_is_left_out_of_the_galaxy():
    y, x = np.mgrid[:96, :96]
    alone = galaxy(1.0, size=96)
    neighbour = alone + 400 * np.exp(-((x - 75) ** 2 + (y - 60) ** 2) / 8).astype(np.float32)
    inside, others = central_source(neighbour, 5.0)
    assert inside[48, 48]
    assert others[60, 75]
    assert not inside[60, 75]
    assert measured(neighbour)["asymmetry"] == pytest.approx(measured(alone)["asymmetry"], abs=0.05)


@pytest.mark.parametrize(
    "image",
    [
        np.full((SIZE, SIZE), np.nan),
        np.zeros((SIZE, SIZE)),
        np.random.default_rng(0).normal(0, 5, (SIZE, SIZE)),
        -galaxy(1.0),
    ],
    ids=["missing", "empty", "noise", "negative"],
)
def test_where_there_is_no_galaxy_nothing_is_measured(image):
    assert np.isnan(measure(image, 5.0, 3.0)).all()


@pytest.mark.parametrize("sky_sigma", [0.0, np.nan, -1.0])
def test_without_a_known_noise_nothing_is_measured(sky_sigma):
    assert np.isnan(measure(galaxy(1.0), sky_sigma, 3.0)).all()


@given(seed=st.integers(0, 10**6), missing=st.floats(0, 0.6), scale=st.floats(0.01, 30))
@settings(max_examples=12, deadline=None)
def test_bad_images_give_numbers_or_nan_but_never_a_sentinel(seed, missing, scale):
    random = np.random.default_rng(seed)
    image = scale * galaxy(random.uniform(0.5, 5), blob=bool(seed % 2), noise_seed=seed)
    image[random.random(image.shape) < missing] = np.nan
    found = measure(image, 5.0, np.nan)
    assert found.shape == (len(MEASUREMENTS),)
    assert not np.isinf(found).any()
    assert not (found == -99).any()


def test_real_galaxies_are_measured(real_hsc_cutouts):
    from astropy.io import fits

    found = []
    for path in sorted(real_hsc_cutouts.glob("cutouts/*-HSC-I.fits"))[:12]:
        with fits.open(path) as hdus:
            image, variance = hdus[1].data.astype(float), hdus[3].data
        found.append(measure(image, float(np.sqrt(np.median(variance))), np.nan))
    assert np.isfinite(found).all(axis=1).mean() >= 0.5
