"""Known rankings have known figures; the splits are the same for all; what is found by chance is reported as chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from tidalkin import config
from tidalkin.errors import TidalkinError
from tidalkin.evaluation.evaluate import evaluate, found_at, write_evaluation
from tidalkin.evaluation.labels import Labels, MethodVectors, labelled_galaxies, read_embeddings
from tidalkin.evaluation.metrics import ranking
from tidalkin.evaluation.probes import label_counts, score_tasks
from tidalkin.evaluation.splits import split
from tidalkin.figures.evaluation import draw_completeness, draw_examples, draw_precision_recall, draw_probe, draw_roc

FEW = config.EvaluationSettings(probe_labels=(5, 20), repeats=3, set_size=5)


def catalog_of(n_positive: int, n_negative: int) -> pd.DataFrame:
    """Kinds in turn among the positive; ids neither sorted nor contiguous."""
    n = n_positive + n_negative
    kinds = ["stream", "shell", "tail"]
    label = [kinds[row % 3] for row in range(n_positive)] + ["none"] * n_negative
    brightness = [24 + 4 * row / n_positive for row in range(n_positive)] + [np.nan] * n_negative
    object_id = np.random.default_rng(5).permutation(n) * 11 + 7
    return pd.DataFrame({"object_id": object_id, "label": label, "tidal_surface_brightness": brightness})


def vectors_of(catalog: pd.DataFrame, signal: float, seed: int = 0, dimensions: int = 16) -> MethodVectors:
    vectors = np.random.default_rng(seed).normal(size=(len(catalog), dimensions))
    vectors[:, 0] += signal * np.where(catalog["label"] == "none", -1, 1)
    return MethodVectors(catalog["object_id"].to_numpy(), vectors)


# --- figures of merit --------------------------------------------------------------------------------------------


def test_a_ranking_by_hand_has_the_figures_computed_by_hand():
    positive = np.array([True, False, True, False, False])
    found = ranking(positive, np.array([5.0, 4.0, 3.0, 2.0, 1.0]))
    assert found.average_precision() == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert found.roc_auc() == pytest.approx(5 / 6)  # of 6 pairs, one is in the wrong order
    assert found.precision_at(1) == 1
    assert found.precision_at(4) == pytest.approx(2 / 4)
    assert found.precision_at(50) == pytest.approx(2 / 5)
    assert found.true_positive_rate_at(0.2) == pytest.approx(1 / 2)
    assert found.true_positive_rate_at(1 / 3) == 1
    assert found.contamination_at(0.5) == 0
    assert found.contamination_at(0.96) == pytest.approx(1 / 3)


def test_equal_scores_give_what_a_random_order_of_them_gives_on_average():
    positive = np.array([True, False, False, True, False, False, False, False])
    found = ranking(positive, np.array([2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0]))
    assert found.precision_at(1) == pytest.approx(2 / 4)
    assert found.precision_at(2) == pytest.approx(2 / 4)
    assert found.roc_auc() == pytest.approx((2 * 4 + 2 * 2 / 2) / 12)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40).filter(
        lambda rows: len({positive for positive, _ in rows}) == 2
    )
)
def test_figures_agree_with_scikit_learn_also_with_ties(rows):
    positive = np.array([row[0] for row in rows])
    score = np.array([row[1] for row in rows], float)
    found = ranking(positive, score)
    assert found.roc_auc() == pytest.approx(roc_auc_score(positive, score))
    assert found.average_precision() == pytest.approx(average_precision_score(positive, score))
    assert found.precision_at(len(rows)) == pytest.approx(positive.mean())
    rates = [found.true_positive_rate_at(rate) for rate in (0.0, 0.2, 0.5, 1.0)]
    assert rates == sorted(rates)
    assert rates[-1] == 1
    # Who is found and how many are found are two ways to say the same.
    assert found_at(positive, score, 0.2)[positive].mean() == pytest.approx(found.true_positive_rate_at(0.2))


# --- splits ------------------------------------------------------------------------------------------------------


@given(st.integers(10, 60), st.integers(10, 90), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_pool_and_test_share_no_galaxy_and_miss_none(n_positive, n_negative, repeat):
    labels = labelled_galaxies(catalog_of(n_positive, n_negative), "none")
    parts = split(labels, repeat)
    assert np.array_equal(np.sort(np.concatenate([parts.pool, parts.test])), np.arange(n_positive + n_negative))
    assert labels.positive[parts.pool_positive].all()
    assert not labels.positive[parts.pool_negative].any()
    for kind in ("stream", "shell", "tail", "none"):
        in_pool, in_test = (np.sum(labels.kind[rows] == kind) for rows in (parts.pool, parts.test))
        assert in_test - in_pool in (0, 1)


@given(st.integers(10, 60), st.integers(10, 90))
@settings(max_examples=30, deadline=None)
def test_training_labels_are_as_many_as_asked_for_nested_and_of_both_classes(n_positive, n_negative):
    labels = labelled_galaxies(catalog_of(n_positive, n_negative), "none")
    parts = split(labels, 0)
    smaller: set[int] = set()
    for n_labels in label_counts((2, 5, 7, 10), parts.pool.size):
        training = parts.training(n_labels)
        assert len(set(training)) == n_labels
        assert set(training) <= set(parts.pool)
        assert 0 < labels.positive[training].sum() < n_labels
        # Rounding may exchange one galaxy without for one with a feature.
        assert len(smaller - set(training)) <= 1
        smaller = set(training)


def test_all_methods_are_asked_about_the_same_galaxies_in_the_same_halves():
    catalog = catalog_of(30, 60)
    full = vectors_of(catalog, 1.0)
    # The second method knows fewer galaxies, in another order, and has the same vectors of them.
    some = np.random.default_rng(1).permutation(len(catalog))[:80]
    fewer = MethodVectors(full.object_id[some], full.vectors[some])
    table = evaluate({"full": full, "fewer": fewer}, catalog, FEW).metrics
    of_full, of_fewer = (table[table["method"] == method] for method in ("full", "fewer"))
    pd.testing.assert_frame_equal(
        of_full.drop(columns="method").reset_index(drop=True), of_fewer.drop(columns="method").reset_index(drop=True)
    )
    known = catalog.set_index("object_id").loc[fewer.object_id, "label"]
    assert of_full["n_objects"].unique().tolist() == [sum(-(-count // 2) for count in known.value_counts())]


def test_a_query_is_not_among_its_own_answers():
    # Every galaxy is like itself and like no other: were it among the answers, it would come first.
    catalog = catalog_of(20, 20)
    labels = labelled_galaxies(catalog, "none")
    parts = split(labels, 0)
    identity = MethodVectors(labels.object_id, np.eye(40))
    asked = dict(score_tasks("identity", identity, labels.positive, parts, FEW))
    assert any(task.name == "single" for task in asked)
    for task, score in asked.items():
        assert len(score) == len(parts.test)
        if task.name in ("single", "set"):
            assert not score.any()


def test_what_the_test_galaxies_are_labelled_does_not_change_their_scores():
    catalog = catalog_of(30, 60)
    labels = labelled_galaxies(catalog, "none")
    parts = split(labels, 0)
    vectors = vectors_of(catalog, 1.0)
    hidden = labels.positive.copy()
    hidden[parts.test] = ~hidden[parts.test]
    pairs = zip(
        score_tasks("encoder", vectors, labels.positive, parts, FEW),
        score_tasks("encoder", vectors, hidden, parts, FEW),
        strict=True,
    )
    for (task, score), (_, blind) in pairs:
        assert np.array_equal(score, blind), task


# --- the table ---------------------------------------------------------------------------------------------------


def figure(table: pd.DataFrame, task: str, metric: str, method: str = "encoder") -> pd.Series:
    rows = table[(table["method"] == method) & (table["task"] == task) & (table["metric"] == metric)]
    return rows.loc[rows["n_labels"].idxmax()]


def test_a_perfect_embedding_scores_one_in_every_task():
    catalog = catalog_of(40, 60)
    direction = np.where(catalog["label"] == "none", -1.0, 1.0)[:, None] * np.ones(4)
    perfect = MethodVectors(catalog["object_id"].to_numpy(), direction)
    table = evaluate({"encoder": perfect}, catalog, FEW).metrics
    contamination = table["metric"].str.startswith("contamination")
    assert table.loc[~contamination & (table["metric"] != "precision_at_20"), "mean"].eq(1).all()
    assert table.loc[table["metric"] == "precision_at_20", "mean"].eq(1).all()
    assert table.loc[contamination, "mean"].eq(0).all()
    assert table["std"].eq(0).all()


def test_a_random_embedding_scores_the_chance_that_is_reported():
    catalog = catalog_of(150, 450)
    settings_ = config.EvaluationSettings(probe_labels=(20,), repeats=8, precision_at=20)
    table = evaluate({"encoder": vectors_of(catalog, 0.0)}, catalog, settings_).metrics
    off = (table["mean"] - table["chance"]).abs()
    # The halves overlap, so that the mean scatters nearly as much as the value of one.
    assert (off < 3 * table["std"].clip(lower=0.01)).all(), table
    assert table.loc[table["metric"] == "roc_auc", "mean"].between(0.45, 0.55).all()
    assert table.loc[table["metric"] == "average_precision", "chance"].eq(0.25).all()
    assert table["n_objects"].eq(300).all()
    assert table["n_positive"].eq(75).all()


def test_more_labels_and_more_examples_find_more():
    catalog = catalog_of(150, 450)
    settings_ = config.EvaluationSettings(probe_labels=(10, 50), repeats=5, set_size=20)
    table = evaluate({"encoder": vectors_of(catalog, 0.6)}, catalog, settings_).metrics
    probe = table[(table["task"] == "probe") & (table["metric"] == "roc_auc")].set_index("n_labels")["mean"]
    assert probe[10] < probe[50] < probe[probe.index.max()]
    assert figure(table, "single", "roc_auc")["mean"] < figure(table, "set", "roc_auc")["mean"]


def test_dimensions_count_as_their_importance_says():
    catalog = catalog_of(150, 450)
    vectors = vectors_of(catalog, 0.6)
    importance = np.ones(16)
    importance[0] = 9  # the one that knows
    methods = {"encoder": vectors, "told": MethodVectors(vectors.object_id, vectors.vectors, importance)}
    table = evaluate(methods, catalog, FEW).metrics
    table = table[(table["metric"] == "roc_auc") & table["n_labels"].isin([1, 5, 20])]
    found = table.pivot_table(index=["task", "n_labels"], columns="method", values="mean")
    assert found.index.get_level_values("task").unique().tolist() == ["probe", "set", "single"]
    assert (found["told"] > found["encoder"] + 0.03).all(), found


def test_numbers_do_not_depend_on_the_number_of_processes():
    catalog = catalog_of(30, 60)
    vectors = {"encoder": vectors_of(catalog, 0.5)}
    one, two = (evaluate(vectors, catalog, FEW, processes=processes) for processes in (1, 2))
    pd.testing.assert_frame_equal(one.metrics, two.metrics)
    pd.testing.assert_frame_equal(one.curves, two.curves)
    pd.testing.assert_frame_equal(one.completeness, two.completeness)


def test_morphology_is_also_probed_with_a_forest_that_sees_what_no_plane_divides():
    catalog = catalog_of(150, 250)
    random = np.random.default_rng(3)
    numbers = random.normal(size=(400, 3))
    radius = np.where(catalog["label"] == "none", 0.5, 2.0)
    numbers *= (radius / np.linalg.norm(numbers, axis=1))[:, None]  # a shell around a ball
    morphology = MethodVectors(catalog["object_id"].to_numpy(), numbers)
    table = evaluate({"morphology": morphology}, catalog, FEW).metrics
    assert figure(table, "probe", "roc_auc", "morphology (random forest)")["mean"] > 0.95
    assert figure(table, "probe", "roc_auc", "morphology")["mean"] < 0.7


def test_completeness_falls_where_features_are_too_faint_to_see():
    catalog = catalog_of(200, 300)
    vectors = vectors_of(catalog, 0.0, dimensions=4).vectors
    vectors[:, 0] += 4 * (catalog["tidal_surface_brightness"] < 26).to_numpy()
    table = evaluate({"encoder": MethodVectors(catalog["object_id"].to_numpy(), vectors)}, catalog, FEW).completeness
    by_brightness = table[table["by"] == "surface_brightness"].sort_values("group")
    assert by_brightness["mean"].iloc[0] > 0.9
    assert by_brightness["mean"].iloc[-1] < 0.4
    assert set(table.loc[table["by"] == "kind", "group"]) == {"stream", "shell", "tail"}


def test_bright_examples_find_others_and_faint_ones_what_a_random_draw_does():
    catalog = catalog_of(200, 300)
    vectors = vectors_of(catalog, 0.0, dimensions=4).vectors
    bright = (catalog["tidal_surface_brightness"] < 26).to_numpy()
    vectors[:, 0] += 4 * bright
    table = evaluate({"encoder": MethodVectors(catalog["object_id"].to_numpy(), vectors)}, catalog, FEW).examples
    by_brightness = table[table["by"] == "surface_brightness"].sort_values("group")
    assert by_brightness["mean"].iloc[0] > 0.8
    assert by_brightness["mean"].iloc[-1] < 0.5
    assert set(table.loc[table["by"] == "kind", "group"]) == {"stream", "shell", "tail"}


def test_the_same_evaluation_is_written_byte_for_byte_the_same(tmp_path):
    catalog = catalog_of(30, 60)
    contents = []
    for name in ("first", "second"):
        evaluation = evaluate({"encoder": vectors_of(catalog, 0.5), "pca": vectors_of(catalog, 0.0)}, catalog, FEW)
        write_evaluation(evaluation, tmp_path / name)
        draw_roc(evaluation.curves, evaluation.metrics, tmp_path / name / "roc.png")
        draw_precision_recall(evaluation.curves, evaluation.metrics, tmp_path / name / "precision_recall.png")
        draw_probe(evaluation.metrics, tmp_path / name / "probe.png")
        draw_completeness(evaluation.completeness, tmp_path / name / "completeness.png")
        draw_examples(evaluation.examples, evaluation.metrics, tmp_path / name / "examples.png")
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]
    assert set(contents[0]) == {
        *("metrics.csv", "curves.csv", "completeness.csv", "examples.csv"),
        *("roc.png", "precision_recall.png", "probe.png", "completeness.png", "examples.png"),
    }
    for name in contents[0]:
        if name.endswith(".png"):
            pixels = np.asarray(Image.open(tmp_path / "first" / name).convert("L"))
            assert pixels.std() > 10, f"{name} is blank"
    assert pd.read_csv(tmp_path / "first" / "metrics.csv").columns.tolist() == [
        *("method", "task", "n_labels", "metric", "mean", "std", "repeats", "n_objects", "n_positive", "chance")
    ]


# --- what goes in ------------------------------------------------------------------------------------------------


def test_galaxies_without_a_label_do_not_count():
    catalog = catalog_of(12, 12).astype({"label": object})
    catalog.loc[0, "label"] = None
    catalog.loc[1, "label"] = "  "
    labels = labelled_galaxies(catalog, "none")
    assert isinstance(labels, Labels)
    assert labels.positive.sum() == 10
    assert not set(catalog.loc[:1, "object_id"]) & set(labels.object_id)


def test_a_catalog_without_labels_is_refused_in_a_sentence():
    with pytest.raises(TidalkinError, match=r"no column `label`.*evaluation.enabled"):
        labelled_galaxies(catalog_of(20, 20).drop(columns="label"), "none")


@pytest.mark.parametrize(("n_positive", "n_negative"), [(9, 50), (50, 9)])
def test_too_few_of_a_class_are_counted_in_a_sentence(n_positive, n_negative):
    with pytest.raises(TidalkinError, match=f"{n_positive} galaxies labelled with .* and {n_negative} labelled 'none'"):
        labelled_galaxies(catalog_of(n_positive, n_negative), "none")


def test_a_method_that_knows_too_few_labelled_galaxies_is_refused():
    catalog = catalog_of(30, 30)
    vectors = vectors_of(catalog, 1.0)
    few = MethodVectors(vectors.object_id[:12], vectors.vectors[:12])
    with pytest.raises(TidalkinError, match="12 galaxies labelled with a feature and 0 labelled 'none'"):
        evaluate({"encoder": vectors, "morphology": few}, catalog, FEW)


def test_vectors_that_are_no_numbers_are_refused_by_the_name_of_their_method():
    catalog = catalog_of(20, 20)
    vectors = vectors_of(catalog, 1.0)
    vectors.vectors[3, 0] = np.nan
    with pytest.raises(TidalkinError, match="'pca'"):
        evaluate({"encoder": vectors_of(catalog, 1.0), "pca": vectors}, catalog, FEW)


def test_of_the_embeddings_only_the_wanted_galaxies_are_read(tmp_path):
    for shard, ids in (("00000", [4, 9, 2]), ("00001", [7, 1])):
        np.save(tmp_path / f"{shard}.npy", np.array(ids, np.float16)[:, None] * np.ones((1, 3), np.float16))
        np.save(tmp_path / f"{shard}.ids.npy", np.array(ids))
    files = [tmp_path / "00000.npy", tmp_path / "00001.npy"]
    read = read_embeddings(files, [file.with_suffix(".ids.npy") for file in files], np.array([1, 2, 3, 9]))
    assert read.object_id.tolist() == [9, 2, 1]
    assert read.vectors[:, 0].tolist() == [9, 2, 1]
    assert read.vectors.dtype == np.float32
