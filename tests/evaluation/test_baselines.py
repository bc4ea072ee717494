"""The baselines: the galaxies they describe, and their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import published
from surveys.round_galaxies import SIZE, galaxy
from tidalkin import config
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.embedding.whitening import debris_scores, likeness
from tidalkin.errors import TidalkinError
from tidalkin.evaluation.baselines import comparable, morphology_baseline, pca_baseline, random_baseline, sample_rows
from tidalkin.evaluation.evaluate import Evaluation, evaluate
from tidalkin.evaluation.methods import read_baseline
from tidalkin.images.store import ImageStore, Shard

BANDS = ("g", "i")
N_GALAXIES = 60
FEW = config.EvaluationSettings(sample=24)
EMBEDDING = published.embedding(dimensions=8, symmetries=2, crop=32, whitening_views=2)
AUGMENT = published.augment(crop=32, jitter_pixels=4)
STRETCH = published.stretch(softening_sigma=1.0, maximum=3.0)
NO_LIGHT = config.Injection(head_weight=0, map_weight=0)
LIGHT = config.Injection(surface_brightness=(23.0, 24.0))


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    """The store and the catalog of sixty galaxies, a third of them with an arm.

    Object 5 has no i image, and object 6 no label.
    """
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


def make(
    baseline: str,
    survey: tuple[Path, pd.DataFrame],
    output: Path,
    seed: int = 1,
    injection: config.Injection = NO_LIGHT,
) -> None:
    images, catalog = survey
    common = {"embedding": EMBEDDING, "evaluation": FEW, "injection": injection}
    if baseline == "morphology":
        morphology_baseline(images, catalog, output, processes=2, **common)
    elif baseline == "pca":
        pca_baseline(images, catalog, output, stretch_settings=STRETCH, seed=seed, **common)
    else:
        encoder = published.network(width=8, stem="small", projector_size=16, predictor_size=4)
        compute = config.Compute(device="cpu")
        network = {"stretch_settings": STRETCH, "encoder": encoder, "augment": AUGMENT, "compute": compute}
        random_baseline(images, catalog, output, seed=seed, **network, **common)


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


@pytest.mark.parametrize("baseline", ["random", "pca", "morphology"])
def test_a_baseline_has_a_debris_score_where_the_encoder_learns_from_injected_light(baseline, survey, tmp_path):
    for name in ("once", "again"):
        make(baseline, survey, tmp_path / f"{name}.npz", injection=LIGHT)
    make(baseline, survey, tmp_path / "plain.npz")
    assert (tmp_path / "once.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()
    told, plain = (read_baseline(tmp_path / f"{name}.npz", debris_weight=2.0) for name in ("once", "plain"))
    assert (told.debris_weight, plain.debris_weight) == (2.0, None)
    assert np.array_equal(told.object_id, plain.object_id)
    assert told.vectors.shape[1] == plain.vectors.shape[1] + 1
    assert abs(np.median(debris_scores(told.vectors))) < 0.05
    known = told.vectors.any(axis=1)
    length = np.linalg.norm(plain.vectors[known], axis=1)
    cosine = (likeness(told.vectors[known]) * plain.vectors[known]).sum(axis=1) / length
    assert cosine.min() > 0.999


def test_another_seed_makes_another_random_network_for_the_same_galaxies(survey, tmp_path):
    make("random", survey, tmp_path / "one.npz", seed=1)
    make("random", survey, tmp_path / "two.npz", seed=2)
    one, two = (read_baseline(tmp_path / f"{name}.npz") for name in ("one", "two"))
    assert np.array_equal(one.object_id, two.object_id)
    assert not np.allclose(one.vectors, two.vectors)


def test_the_components_are_of_the_channels_and_averaged_pixels_that_the_encoder_sees(survey, tmp_path):
    images, catalog = survey
    seen = STRETCH.model_copy(update={"bin": 2, "asymmetry": True})
    settings = {"embedding": EMBEDDING, "evaluation": FEW, "injection": NO_LIGHT, "seed": 1}
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
    with pytest.raises(TidalkinError, match="all methods of the evaluation know"):
        evaluate({name: read_baseline(tmp_path / f"{name}.npz") for name in ("pca", "morphology")}, survey[1], FEW)


def test_morphology_tells_galaxies_with_an_arm_from_those_without(survey, tmp_path):
    images, catalog = survey
    all_of_them = config.EvaluationSettings(sample=N_GALAXIES, probe_labels=(10,), repeats=2, set_size=5)
    morphology_baseline(
        *(images, catalog, tmp_path / "m.npz"),
        embedding=EMBEDDING,
        evaluation=all_of_them,
        injection=NO_LIGHT,
        processes=2,
    )
    found: Evaluation = evaluate({"morphology": read_baseline(tmp_path / "m.npz")}, catalog, all_of_them)
    area = found.metrics[found.metrics["metric"] == "roc_auc"]
    assert (area.loc[area["task"] != "probe", "mean"] > 0.9).all()
    assert area.loc[area["n_labels"] == area["n_labels"].max(), "mean"].min() > 0.95


def test_a_store_without_an_image_of_a_labelled_galaxy_is_refused_in_a_sentence(survey, tmp_path):
    images, catalog = survey
    elsewhere = catalog.assign(object_id=catalog["object_id"] + 10**6)
    with pytest.raises(TidalkinError, match="no labelled galaxy"):
        morphology_baseline(
            *(images, elsewhere, tmp_path / "m.npz"), embedding=EMBEDDING, evaluation=FEW, injection=NO_LIGHT
        )
    with pytest.raises(TidalkinError, match="no labelled galaxy"):
        pca_baseline(
            *(images, elsewhere, tmp_path / "p.npz"),
            stretch_settings=STRETCH,
            embedding=EMBEDDING,
            evaluation=FEW,
            injection=NO_LIGHT,
            seed=1,
        )
    assert not list(tmp_path.iterdir())


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


def test_one_outlier_does_not_flatten_a_measurement_that_is_mostly_zero():
    numbers = np.zeros((40, 1))
    numbers[:10, 0] = np.linspace(0.1, 1, 10)
    without = comparable(numbers)
    numbers[10, 0] = 1e9
    assert comparable(numbers)[:10].std() > 0.8 * without[:10].std()


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
