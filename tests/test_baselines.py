"""The baselines see the same galaxies as the encoder, and what they measure is what it is called."""

from __future__ import annotations

import warnings
from pathlib import Path

import galsim
import numpy as np
import pandas as pd
import pytest
import statmorph
from hypothesis import given, settings
from hypothesis import strategies as st

from tidalkin import config
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.errors import TidalkinError
from tidalkin.evaluation.baselines import comparable, morphology_baseline, pca_baseline, random_baseline, sample_rows
from tidalkin.evaluation.evaluate import Evaluation, evaluate
from tidalkin.evaluation.labels import read_baseline
from tidalkin.evaluation.morphology import MEASUREMENTS, QuickMorphology, central_source, measure
from tidalkin.images.store import ImageStore, Shard

SIZE = 48
BANDS = ("g", "i")
N_GALAXIES = 60
FEW = config.EvaluationSettings(sample=24)
EMBEDDING = config.Embedding(dimensions=8, symmetries=2, crop=32, whitening_views=2)
AUGMENT = config.Augment(crop=32, jitter_pixels=4)
STRETCH = config.Stretch(softening_sigma=1.0, maximum=3.0)


def galaxy(sersic_n: float, *, size: int = SIZE, blob: bool = False, noise_seed: int | None = 0) -> np.ndarray:
    """A round galaxy of 40,000 nJy, half of it within 5 pixels, in noise of 5 nJy per pixel and a PSF of 3 pixels."""
    y, x = np.mgrid[:size, :size]
    middle = size // 2
    model = galsim.Convolve(galsim.Sersic(sersic_n, half_light_radius=5, flux=4e4), galsim.Gaussian(fwhm=3))
    # An odd number of pixels, so that the centre is on the pixel size // 2 and not between four.
    image = model.drawImage(nx=size + 1, ny=size + 1, scale=1).array[:size, :size].astype(float)
    if blob:  # a fifth of the light in one arm
        image += 1e4 / (2 * np.pi * 4) * np.exp(-((x - middle - 7) ** 2 + (y - middle - 3) ** 2) / (2 * 4))
    if noise_seed is not None:
        image += np.random.default_rng(noise_seed).normal(0, 5, image.shape)
    return image.astype(np.float32)


def measured(image: np.ndarray) -> pd.Series:
    return pd.Series(measure(image, 5.0, 3.0), index=MEASUREMENTS)


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    """Sixty galaxies in a store, a third of them with an arm and labelled so; object 5 has no i image, 6 no label."""
    path = tmp_path_factory.mktemp("survey") / "images.zarr"
    object_id = np.arange(N_GALAXIES, dtype=np.int64) * 3 + 100
    has_arm = np.arange(N_GALAXIES) % 3 == 0
    flux = np.stack([[galaxy(1.0, blob=arm, noise_seed=2 * n + b) for b in (0, 1)] for n, arm in enumerate(has_arm)])
    flux[5, 1] = np.nan
    good_fraction = np.isfinite(flux).mean(axis=(2, 3)).astype(np.float32)
    store = ImageStore.create(
        path, objects=N_GALAXIES, bands=BANDS, images=config.Images(size=SIZE, shard_size=32, chunk_size=16)
    )
    for shard in range(store.n_shards):
        rows = store.rows_of(shard)
        ones = np.ones_like(good_fraction[rows])
        store.write(
            shard,
            Shard(flux[rows], 5 * ones, 3 * PIXEL_SCALE_ARCSEC * ones, good_fraction[rows], object_id[rows]),
        )
    label = np.where(has_arm, "tail", "none").astype(object)
    label[6] = None
    return path, pd.DataFrame({"object_id": object_id, "label": label})


def make(baseline: str, survey: tuple[Path, pd.DataFrame], output: Path, seed: int = 1) -> None:
    images, catalog = survey
    common = {"embedding": EMBEDDING, "evaluation": FEW}
    if baseline == "morphology":
        morphology_baseline(images, catalog, output, processes=2, **common)
    elif baseline == "pca":
        pca_baseline(images, catalog, output, stretch_settings=STRETCH, seed=seed, **common)
    else:
        encoder = config.Network(width=4, stem="small", projector_size=16, predictor_size=4)
        compute = config.Compute(device="cpu")
        network = {"stretch_settings": STRETCH, "encoder": encoder, "augment": AUGMENT, "compute": compute}
        random_baseline(images, catalog, output, seed=seed, **network, **common)


# --- the files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", ["random", "pca", "morphology"])
def test_a_baseline_made_again_is_byte_for_byte_the_same_and_has_labelled_good_galaxies_only(
    baseline, survey, tmp_path
):
    make(baseline, survey, tmp_path / "once.npz")
    make(baseline, survey, tmp_path / "again.npz")
    assert (tmp_path / "once.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()
    known = read_baseline(tmp_path / "once.npz")
    without_image, without_label = survey[1]["object_id"][[5, 6]]
    assert not {without_image, without_label} & set(known.object_id)
    assert set(known.object_id) <= set(survey[1]["object_id"])
    assert len(known.object_id) == FEW.sample
    assert np.isfinite(known.vectors).all()
    if baseline != "morphology":
        assert known.vectors.shape[1] == EMBEDDING.dimensions
        np.testing.assert_allclose(np.linalg.norm(known.vectors, axis=1), 1, rtol=1e-5)


def test_another_seed_makes_another_random_network_for_the_same_galaxies(survey, tmp_path):
    make("random", survey, tmp_path / "one.npz", seed=1)
    make("random", survey, tmp_path / "two.npz", seed=2)
    one, two = (read_baseline(tmp_path / f"{name}.npz") for name in ("one", "two"))
    assert np.array_equal(one.object_id, two.object_id)
    assert not np.allclose(one.vectors, two.vectors)


def test_the_components_are_of_the_channels_and_averaged_pixels_that_the_encoder_sees(survey, tmp_path):
    images, catalog = survey
    seen = STRETCH.model_copy(update={"bin": 2, "asymmetry": True})
    settings = {"embedding": EMBEDDING, "evaluation": FEW, "seed": 1}
    pca_baseline(images, catalog, tmp_path / "pca.npz", stretch_settings=seen, **settings)
    make("pca", survey, tmp_path / "plain.npz")
    binned, plain = (read_baseline(tmp_path / f"{name}.npz").vectors for name in ("pca", "plain"))
    assert binned.shape == plain.shape
    assert not np.allclose(binned, plain)


def test_the_baselines_are_compared_on_the_same_galaxies(survey, tmp_path):
    for baseline in ("random", "pca", "morphology"):
        make(baseline, survey, tmp_path / f"{baseline}.npz")
    ids = [read_baseline(tmp_path / f"{name}.npz").object_id for name in ("random", "pca", "morphology")]
    assert np.array_equal(ids[0], ids[1])
    assert np.array_equal(ids[0], ids[2])
    # There are but 24 of them: too few of one kind to evaluate on, which must be said.
    with pytest.raises(TidalkinError, match="what all methods of the evaluation know"):
        evaluate({name: read_baseline(tmp_path / f"{name}.npz") for name in ("pca", "morphology")}, survey[1], FEW)


def test_morphology_tells_galaxies_with_an_arm_from_those_without(survey, tmp_path):
    images, catalog = survey
    all_of_them = config.EvaluationSettings(sample=N_GALAXIES, probe_labels=(10,), repeats=2, set_size=5)
    morphology_baseline(images, catalog, tmp_path / "m.npz", embedding=EMBEDDING, evaluation=all_of_them, processes=2)
    found: Evaluation = evaluate({"morphology": read_baseline(tmp_path / "m.npz")}, catalog, all_of_them)
    area = found.metrics[found.metrics["metric"] == "roc_auc"]
    assert (area.loc[area["task"] != "probe", "mean"] > 0.9).all()
    assert area.loc[area["n_labels"] == area["n_labels"].max(), "mean"].min() > 0.95


def test_a_store_without_an_image_of_a_labelled_galaxy_is_refused_in_a_sentence(survey, tmp_path):
    images, catalog = survey
    elsewhere = catalog.assign(object_id=catalog["object_id"] + 10**6)
    with pytest.raises(TidalkinError, match="no labelled galaxy"):
        morphology_baseline(images, elsewhere, tmp_path / "m.npz", embedding=EMBEDDING, evaluation=FEW)
    with pytest.raises(TidalkinError, match="no labelled galaxy"):
        pca_baseline(
            *(images, elsewhere, tmp_path / "p.npz"),
            stretch_settings=STRETCH,
            embedding=EMBEDDING,
            evaluation=FEW,
            seed=1,
        )
    assert not list(tmp_path.iterdir())


# --- morphology --------------------------------------------------------------------------------------------------


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


@given(seed=st.integers(0, 10**6), masked=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_the_square_of_empty_sky_is_that_of_statmorph(seed, masked):
    image = galaxy(1.0).astype(float)
    inside, _ = central_source(image, 5.0)
    others = (np.random.default_rng(seed).random(image.shape) < masked**4) & ~inside
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of statmorph, that much is masked and that there is no sky
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


# --- comparable numbers ------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.floats(0.1, 1e4), st.floats(-1e3, 1e3))
def test_comparable_numbers_do_not_depend_on_unit_or_zero_point(seed, unit, zero):
    numbers = np.random.default_rng(seed).normal(size=(30, 3))
    np.testing.assert_allclose(comparable(numbers * unit + zero), comparable(numbers), atol=1e-3)


def test_a_failed_measurement_counts_as_the_median_and_an_outlier_is_cut():
    numbers = np.linspace(-1, 1, 21)[:, None] @ np.ones((1, 2))
    numbers[3, 0] = np.nan
    numbers[4, 1] = 1e6
    found = comparable(numbers)
    assert found[3, 0] == 0
    assert found[4, 1] == 5
    assert np.isfinite(found).all()


def test_a_number_that_always_failed_is_left_out_and_all_failed_is_refused():
    assert comparable(np.array([[1.0, np.nan], [2.0, np.nan], [4.0, np.nan]])).shape == (3, 1)
    with pytest.raises(TidalkinError, match="statmorph could measure no galaxy"):
        comparable(np.full((3, 2), np.nan))


@given(st.integers(1, 50), st.integers(1, 60))
def test_a_sample_is_sorted_distinct_and_no_larger_than_asked_for(n_rows, largest):
    rows = np.arange(n_rows, dtype=np.int64) * 2
    drawn = sample_rows(rows, largest, np.random.default_rng(0))
    assert len(drawn) == min(n_rows, largest)
    assert (np.diff(drawn) > 0).all()
    assert np.isin(drawn, rows).all()
