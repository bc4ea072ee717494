"""Searches by id, set, position and cutout, and what they refuse."""

import warnings

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from tidalkin.catalog.read import write_catalog
from tidalkin.config import Augment, Compute, Embedding, Images, Index, Network, Query, Stretch, Weights
from tidalkin.cutouts.write import write_cutout
from tidalkin.embedding.whitening import fit_whitening
from tidalkin.errors import TidalkinError
from tidalkin.images.store import ImageStore, Shard
from tidalkin.index.build import build_index
from tidalkin.search.direction import direction
from tidalkin.search.files import RunFiles
from tidalkin.search.objects import catalog_rows, nearest_object, separation_arcsec
from tidalkin.search.outside import CutoutSettings, read_outside_galaxy
from tidalkin.search.query import find_similar
from tidalkin.search.result import write_result

BANDS = ("g", "r", "i")
WEIGHTS = Weights(host=1, unusual=1)
N, SIZE = 60, 16


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def write_run(run):
    """A run of 60 galaxies with ids 1000 to 1059; no. 1059 has no embedding."""
    random = np.random.default_rng(1)
    files = RunFiles.of(run)
    ids = np.arange(N) + 1000
    catalog = pd.DataFrame({"object_id": ids, "ra": np.linspace(150, 151, N), "dec": np.linspace(-2, 2, N)})
    catalog["label"] = np.where(ids % 4 == 0, "shell", "none")
    write_catalog(catalog, files.catalog)
    files.embeddings.mkdir()
    for shard, rows in enumerate((slice(0, 30), slice(30, N - 1))):
        vectors = unit(random.standard_normal((len(ids[rows]), 8)))
        np.save(files.embeddings / f"{shard:05d}.npy", vectors)
        np.save(files.embeddings / f"{shard:05d}.ids.npy", ids[rows])
    build_index([files.embeddings / f"{shard:05d}.npy" for shard in range(2)], Index(queries=5), files.index, seed=1)
    features = random.standard_normal((N, 12)).astype(np.float32)
    fit_whitening(features, Embedding(dimensions=8, host_directions=2, unusualness=0.5), "").save(files.whitening)
    store = ImageStore.create(
        files.images, objects=N, bands=BANDS, images=Images(size=SIZE, shard_size=64, chunk_size=32)
    )
    flux = random.standard_normal((N, 3, SIZE, SIZE)).astype(np.float32)
    flux[:, :, 6:10, 6:10] += 100
    ones = np.ones((N, 3), np.float32)
    store.write(0, Shard(flux, ones, 0.6 * ones, ones, ids))
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


def ask(files, k=5, weights=WEIGHTS, **query):
    return find_similar(Query(**query), files, k=k, radius_arcsec=2.0, weights=weights)


def vector_of(files, object_id):
    shard, row = divmod(object_id - 1000, 30)
    return np.load(files.embeddings / f"{shard:05d}.npy")[row]


# --- examples ----------------------------------------------------------------------------------------------------


def test_one_example_is_compared_by_cosine_and_not_in_the_answer(files):
    found = ask(files, k=58, like=[1007]).neighbours.to_pandas()
    assert set(found.object_id) == set(range(1000, 1059)) - {1007}
    expected = [vector_of(files, object_id) @ vector_of(files, 1007) for object_id in found.object_id]
    np.testing.assert_allclose(found.similarity, expected, atol=2e-5)
    assert found.similarity.is_monotonic_decreasing
    assert found["rank"].tolist() == list(range(1, 59))
    assert (found.label == np.where(found.object_id % 4 == 0, "shell", "none")).all()
    np.testing.assert_allclose(found.ra, 150 + (found.object_id - 1000) / 59)


def test_a_set_never_answers_with_its_own_objects(files):
    found = ask(files, k=100, like=[1001, 1002, 1003], unlike=[1050]).neighbours
    assert len(found) == 59 - 4
    assert not set(found["object_id"].to_pylist()) & {1001, 1002, 1003, 1050}


def test_the_direction_of_one_example_is_its_vector_times_the_importance():
    example = unit(np.array([[3.0, 4.0, 0.0]]))
    none = np.zeros((0, 3), np.float32)
    np.testing.assert_allclose(direction(example, none, np.ones(3)), example[0], atol=1e-6)
    np.testing.assert_allclose(direction(example, none, np.array([4, 1, 1])), unit(example[0] * [4, 1, 1]), atol=1e-6)


def test_an_answer_looks_at_the_host_and_at_the_unusual_as_much_as_it_is_told(files):
    importance = np.array([0.0, 0, 1, 1, 1, 1, 1, 9])  # two directions are the host's, the last is the unusualness
    found = ask(files, k=58, weights=Weights(host=0, unusual=9), like=[1007]).neighbours.to_pandas()
    towards = unit(importance * vector_of(files, 1007))
    expected = [vector_of(files, object_id) @ towards for object_id in found.object_id]
    np.testing.assert_allclose(found.similarity, expected, atol=2e-5)
    assert found.similarity.is_monotonic_decreasing


def test_a_whitening_of_other_dimensions_is_refused(tmp_path):
    files = write_run(tmp_path)
    features = np.random.default_rng(2).standard_normal((N, 12)).astype(np.float32)
    fit_whitening(features, Embedding(dimensions=5), "").save(files.whitening)
    with pytest.raises(TidalkinError, match=r"whitening.npz: makes vectors of 5 dimensions, but the index has 8"):
        ask(files, like=[1001])


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 6))
def test_a_direction_has_length_one_and_ranks_examples_above_counter_examples(seed, n_like, n_unlike):
    random = np.random.default_rng(seed)
    like, unlike = (unit(random.standard_normal((n, 32))) for n in (n_like, n_unlike))
    towards = direction(like, unlike, random.uniform(0.1, 4, 32))
    assert np.linalg.norm(towards) == pytest.approx(1, abs=1e-5)
    assert (like @ towards).mean() > (unlike @ towards).mean()


def latent_galaxies(seed, n=4000, dimensions=64):
    """Whitened vectors: every tenth galaxy is shifted along one axis, a third of all along another."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((n, dimensions))
    is_tidal, has_bar = random.random(n) < 0.1, random.random(n) < 0.3
    vectors[:, 0] += 1.8 * is_tidal
    vectors[:, 1] += 2.5 * has_bar
    vectors -= vectors.mean(axis=0)
    return unit(vectors / vectors.std(axis=0)), is_tidal, has_bar


def test_several_examples_find_more_than_one_and_judged_answers_help():
    single, several, judged = [], [], []
    for seed in range(5):
        vectors, is_tidal, has_bar = latent_galaxies(seed)
        ones = np.ones(vectors.shape[1])
        examples = np.flatnonzero(is_tidal & has_bar)[:20]  # they happen to share a trait that does not matter
        first_answer = np.argsort(-vectors @ direction(vectors[examples], vectors[:0], ones))
        wrong = first_answer[~is_tidal[first_answer]][:20]
        rest = np.setdiff1d(np.arange(len(vectors)), [*examples, *wrong])
        for precisions, like, unlike in (
            (single, examples[:1], wrong[:0]),
            (several, examples, wrong[:0]),
            (judged, examples, wrong),
        ):
            similarity = vectors[rest] @ direction(vectors[like], vectors[unlike], ones)
            precisions.append(average_precision_score(is_tidal[rest], similarity))
    assert np.mean(several) > 1.5 * np.mean(single)
    assert np.mean(judged) > np.mean(several)


def test_an_unknown_object_is_named(files):
    with pytest.raises(TidalkinError, match=r"object 77 is not in .*catalog\.parquet"):
        ask(files, like=[1001, 77])


def test_an_object_without_embedding_is_named_as_such(files):
    with pytest.raises(TidalkinError, match="object 1059 has no embedding, since too much of its image is missing"):
        ask(files, like=[1059])


# --- positions ---------------------------------------------------------------------------------------------------


def test_a_position_means_the_galaxy_there(files):
    there = catalog_rows(files.catalog, [1030]).to_pylist()[0]
    at_position = ask(files, position=(there["ra"], there["dec"] + 1 / 3600))
    assert at_position.like["object_id"].to_pylist() == [1030]
    assert at_position.neighbours.equals(ask(files, like=[1030]).neighbours)


def test_a_position_without_a_galaxy_names_the_nearest_and_its_distance(files):
    there = catalog_rows(files.catalog, [1030]).to_pylist()[0]
    with pytest.raises(TidalkinError, match=r"within 2 arcsec.*the nearest, 1030, is 7\.2 arcsec away"):
        ask(files, position=(there["ra"], there["dec"] + 0.002))


def test_a_counter_example_at_the_position_is_a_contradiction(files):
    there = catalog_rows(files.catalog, [1030]).to_pylist()[0]
    with pytest.raises(TidalkinError, match="object 1030 is both"):
        ask(files, position=(there["ra"], there["dec"]), unlike=[1030])


sky = st.tuples(st.floats(0, 359.999), st.floats(-90, 90))


@given(sky, sky)
def test_separations_agree_with_astropy(one, other):
    expected = SkyCoord(*one, unit="deg").separation(SkyCoord(*other, unit="deg")).arcsec
    found = separation_arcsec(*one, np.array([other[0]]), np.array([other[1]]))[0]
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_the_nearest_galaxy_is_found_across_ra_zero_and_row_groups(tmp_path):
    catalog = pd.DataFrame({"object_id": [1, 2, 3], "ra": [10.0, 359.9999, 20.0], "dec": [0.0, 0.0, 0.0]})
    write_catalog(catalog, tmp_path / "catalog.parquet")
    pq.write_table(pq.read_table(tmp_path / "catalog.parquet"), tmp_path / "grouped.parquet", row_group_size=1)
    assert nearest_object(tmp_path / "grouped.parquet", (0.0, 0.0), 1.0) == 2
    rows = catalog_rows(tmp_path / "grouped.parquet", [3, 99, 1])
    assert rows.select(["object_id", "row"]).to_pylist() == [{"object_id": 3, "row": 2}, {"object_id": 1, "row": 0}]


def test_a_damaged_catalog_is_named(tmp_path):
    (tmp_path / "catalog.parquet").write_text("not a parquet file")
    with pytest.raises(TidalkinError, match=r"catalog\.parquet: cannot be read"):
        catalog_rows(tmp_path / "catalog.parquet", [1])


# --- a galaxy from outside ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_encoder(tmp_path_factory):
    """The files of a run with a real, random encoder, and with images and vectors that belong together."""
    from tidalkin.embedding.features import embed_shard
    from tidalkin.embedding.sample import whiten
    from tidalkin.model.checkpoint import random_encoder, save_encoder

    run = tmp_path_factory.mktemp("encoded")
    files = write_run(run)
    sigma = np.ones(3, np.float32)
    settings = Network(width=8, projector_size=16, predictor_size=8)
    loaded = random_encoder(BANDS, sigma, stretch=Stretch(), settings=settings, image_size=SIZE, seed=1)
    save_encoder(
        files.encoder,
        loaded.encoder,
        bands=BANDS,
        sigma=sigma,
        stretch=Stretch(),
        settings=settings,
        image_size=SIZE,
        config_digest="",
    )
    compute = CUTOUTS.compute
    paths = files.images, files.encoder, files.whitening
    whiten(*paths, settings=CUTOUTS.embedding, augment=Augment(), seed=1, compute=compute)
    vectors, ids = files.embeddings / "00000.npy", files.embeddings / "00000.ids.npy"
    embed_shard(
        files.images, 0, files.encoder, files.whitening, vectors, ids, settings=CUTOUTS.embedding, compute=compute
    )
    build_index([vectors], Index(queries=5), files.index, seed=1)
    return files


CUTOUTS = CutoutSettings(
    Images(size=SIZE, shard_size=64, chunk_size=32), Embedding(dimensions=8, symmetries=1), Compute(device="cpu")
)
NANOJANSKY_PER_COUNT = 57.543994


def write_outside(files, folder, object_id, size=SIZE):
    """A galaxy of the store as FITS files from outside, one per band."""
    import zarr

    flux = zarr.open_group(files.images, mode="r")["flux"][object_id - 1000]
    for band, image in zip(BANDS, flux, strict=True):
        content = write_cutout(
            image[:size, :size] / NANOJANSKY_PER_COUNT,
            None,
            None,
            band=band,
            ra=1.0,
            dec=1.0,
            fluxmag0=10**10.8,
            mask_planes={},
        )
        (folder / f"mine-{band}.fits").write_bytes(content)
    return str(folder / "mine-{band}.fits")


def test_a_cutout_of_a_known_galaxy_finds_that_galaxy_first(with_encoder, tmp_path):
    template = write_outside(with_encoder, tmp_path, 1042)
    found = find_similar(Query(cutout=template), with_encoder, k=3, radius_arcsec=2, weights=WEIGHTS, cutouts=CUTOUTS)
    best = found.neighbours.to_pylist()[0]
    assert best["object_id"] == 1042
    assert best["similarity"] == pytest.approx(1, abs=1e-3)
    write_result(found, with_encoder.images, tmp_path)
    assert (tmp_path / "mosaic.png").stat().st_size > 10_000


def test_a_cutout_that_lacks_a_band_or_pixels_is_refused_by_name(with_encoder, tmp_path):
    template = write_outside(with_encoder, tmp_path, 1042, size=6)
    with pytest.raises(TidalkinError, match=r"band g: has only 14 % good pixels"):
        read_outside_galaxy(template, with_encoder, CUTOUTS)
    template = write_outside(with_encoder, tmp_path, 1042)
    (tmp_path / "mine-r.fits").write_bytes(b"text")
    with pytest.raises(TidalkinError, match=r"band r is failed"):
        read_outside_galaxy(template, with_encoder, CUTOUTS)
    (tmp_path / "mine-r.fits").unlink()
    with pytest.raises(TidalkinError, match=r"band r is absent.*needs the bands g, r, i"):
        read_outside_galaxy(template, with_encoder, CUTOUTS)


# --- what is written ---------------------------------------------------------------------------------------------


def test_tables_and_mosaic_say_the_same_and_what_made_them(files, tmp_path):
    found = ask(files, like=[1001, 1002], unlike=[1003])
    write_result(found, files.images, tmp_path)
    csv = pd.read_csv(tmp_path / "neighbours.csv", comment="#")
    assert csv.columns.tolist() == ["rank", "object_id", "ra", "dec", "similarity", "label"]
    pd.testing.assert_frame_equal(csv, found.neighbours.to_pandas(), check_dtype=False, rtol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = Table.read(tmp_path / "neighbours.fits")
    assert table["object_id"].tolist() == csv.object_id.tolist()
    assert table["label"].tolist() == csv.label.tolist()
    assert str(table["ra"].unit) == "deg"
    history = "".join(table.meta.get("HISTORY", table.meta.get("comments", [])))
    for text in (
        history,
        (tmp_path / "neighbours.csv").read_text(),
        (tmp_path / "mosaic.png").read_bytes().decode("latin1"),
    ):
        assert "tidalkin" in text
        assert '"like":[1001,1002]' in text
        assert '"unusual":1.0' in text


def test_an_answer_written_again_is_byte_identical(files, tmp_path):
    for name in ("one", "two"):
        write_result(ask(files, like=[1001]), files.images, tmp_path / name)
    for file in ("neighbours.csv", "neighbours.fits", "mosaic.png"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_catalog_without_labels_is_answered_without_them(files, tmp_path):
    unlabelled = RunFiles(tmp_path / "catalog.parquet", *list(vars(files).values())[1:])
    write_catalog(pd.read_parquet(files.catalog).drop(columns="label"), unlabelled.catalog)
    found = ask(unlabelled, like=[1001])
    assert found.neighbours.column_names == ["rank", "object_id", "ra", "dec", "similarity"]
    write_result(found, files.images, tmp_path)
    assert Table.read(tmp_path / "neighbours.fits").colnames == found.neighbours.column_names


def test_images_of_another_catalog_are_refused(files, tmp_path):
    other = RunFiles(tmp_path / "catalog.parquet", *list(vars(files).values())[1:])
    write_catalog(pd.read_parquet(files.catalog)[::-1], other.catalog)
    with pytest.raises(TidalkinError, match=r"images\.zarr: object \d+ is not in row"):
        write_result(ask(other, like=[1001]), files.images, tmp_path)


def test_a_catalog_that_lost_an_object_is_refused(files, tmp_path):
    other = RunFiles(tmp_path / "catalog.parquet", *list(vars(files).values())[1:])
    write_catalog(pd.read_parquet(files.catalog).iloc[:50], other.catalog)
    with pytest.raises(TidalkinError, match="lacks object 105"):
        ask(other, k=60, like=[1001])
