"""The tables of an evaluation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from surveys.labelled import FEW, catalog_of, figure, vectors_of
from tidalkin import config
from tidalkin.evaluation.evaluate import draw_evaluation, evaluate, write_evaluation
from tidalkin.evaluation.methods import MethodVectors


def test_all_methods_rank_the_same_galaxies_in_the_same_halves():
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


def test_a_perfect_embedding_scores_one_in_every_task():
    catalog = catalog_of(40, 60)
    direction = np.where(catalog["label"] == "none", -1.0, 1.0)[:, None] * np.ones(4)
    perfect = MethodVectors(catalog["object_id"].to_numpy(), direction)
    table = evaluate({"encoder": perfect}, catalog, FEW).metrics
    contamination = table["metric"].str.startswith("contamination")
    same_kind, rare = table["metric"].str.startswith("same_kind"), table["metric"].str.contains("20_at_prevalence")
    assert table.loc[~contamination & ~same_kind & ~rare, "mean"].eq(1).all()
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


def test_the_kind_of_the_example_is_looked_for_among_its_neighbours():
    catalog = catalog_of(60, 60)
    kinds = {"none": 0, "stream": 1, "shell": 2, "tail": 3}
    told = MethodVectors(catalog["object_id"].to_numpy(), np.eye(4)[catalog["label"].map(kinds)])
    table = evaluate({"told": told, "blind": vectors_of(catalog, 0.0)}, catalog, replace_k(FEW, 10)).metrics
    rows = table[table["metric"] == "same_kind_at_10"].set_index("method")
    assert rows["task"].eq("single").all()
    assert rows.loc["told", "mean"] == 1
    assert rows.loc["blind", "mean"] == pytest.approx(rows.loc["blind", "chance"], abs=0.08)
    assert rows["chance"].tolist() == pytest.approx([1 / 6, 1 / 6])


def test_precision_is_given_for_a_rarer_feature_too():
    catalog = catalog_of(150, 450)
    table = evaluate({"encoder": vectors_of(catalog, 0.6)}, catalog, FEW).metrics
    probe = table[table["task"] == "probe"].pivot_table(index="n_labels", columns="metric", values="mean")
    assert (probe["average_precision_at_prevalence_0.06"] < probe["average_precision"]).all()
    chance = table.set_index("metric")["chance"]
    assert chance["average_precision_at_prevalence_0.06"].eq(0.06).all()
    assert chance["precision_at_20_at_prevalence_0.06"].eq(0.06).all()


def replace_k(settings, k):
    return settings.model_copy(update={"precision_at": k})


def test_a_debris_score_ranks_with_no_example_and_no_label():
    catalog = catalog_of(40, 60)
    vectors = vectors_of(catalog, 0.0)
    positive = (catalog.set_index("object_id").loc[vectors.object_id, "label"] != "none").to_numpy()
    score = np.where(positive, 0.5, -0.5) + np.random.default_rng(1).normal(0, 0.1, len(positive))
    told = MethodVectors(vectors.object_id, np.column_stack([vectors.vectors, score]), debris_weight=1.0)
    table = evaluate({"told": told, "plain": vectors}, catalog, FEW).metrics
    found = table[(table["task"] == "no example") & (table["metric"] == "average_precision")]
    assert found["method"].tolist() == ["told"]
    assert found["n_labels"].tolist() == [0]
    assert found["mean"].item() > 0.9


def test_completeness_of_the_debris_score_is_given_by_kind_and_surface_brightness():
    catalog = catalog_of(60, 60)
    vectors = vectors_of(catalog, 0.0)
    score = np.where(catalog["label"] == "shell", 9.0, 0.0) + np.random.default_rng(1).normal(0, 0.1, len(catalog))
    told = MethodVectors(vectors.object_id, np.column_stack([vectors.vectors, score]), debris_weight=1.0)
    table = evaluate({"told": told}, catalog, FEW).breakdown
    table = table[table["method"] == "told (no example)"]
    found = table[table["by"] == "kind"].set_index("group")["mean"]
    assert found["shell"] == 1
    assert found.drop("shell").max() < 0.6
    assert len(table[table["by"] == "surface_brightness"]) == 5


def test_a_debris_score_helps_few_examples_and_few_labels():
    catalog = catalog_of(150, 450)
    vectors = vectors_of(catalog, 0.6)
    score = np.where(catalog["label"] == "none", -0.6, 0.6) + np.random.default_rng(2).normal(0, 1, len(catalog))
    told = MethodVectors(vectors.object_id, np.column_stack([vectors.vectors, score]), debris_weight=1.0)
    table = evaluate({"encoder": vectors, "told": told}, catalog, FEW).metrics
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
    pd.testing.assert_frame_equal(one.breakdown, two.breakdown)


def test_a_forest_finds_classes_that_no_plane_separates():
    catalog = catalog_of(150, 250)
    random = np.random.default_rng(3)
    numbers = random.normal(size=(400, 3))
    radius = np.where(catalog["label"] == "none", 0.5, 2.0)
    numbers *= (radius / np.linalg.norm(numbers, axis=1))[:, None]  # a shell around a ball
    morphology = MethodVectors(catalog["object_id"].to_numpy(), numbers, probes=("linear", "forest"))
    table = evaluate({"morphology": morphology}, catalog, FEW).metrics
    assert figure(table, "probe", "roc_auc", "morphology (random forest)")["mean"] > 0.95
    assert figure(table, "probe", "roc_auc", "morphology")["mean"] < 0.7


@pytest.mark.parametrize("unmeasured", [10, 400])
def test_examples_without_a_measurement_are_left_out_and_counted(unmeasured, tmp_path):
    catalog = catalog_of(40, 60)
    full = vectors_of(catalog, 1.0)
    zeros = full.vectors.copy()
    zeros[:unmeasured] = 0
    methods = {"encoder": full, "morphology": MethodVectors(full.object_id, zeros)}
    evaluation = evaluate(methods, catalog, FEW)
    draw_evaluation(evaluation, tmp_path)
    table = evaluation.metrics
    left_out = table.groupby(["method", "task"])["n_left_out"].first()
    assert left_out["encoder"].tolist() == [0, 0, 0]
    assert left_out["morphology", "probe"] == 0
    if unmeasured == 10:
        assert left_out["morphology", "single"] > 0
        assert figure(table, "single", "roc_auc", "morphology")["mean"] > 0.6
    else:  # nothing is left to search with
        assert set(table.loc[table["method"] == "morphology", "task"]) == {"probe"}


def test_completeness_falls_where_features_are_too_faint_to_see():
    catalog = catalog_of(200, 300)
    vectors = vectors_of(catalog, 0.0, dimensions=4).vectors
    vectors[:, 0] += 4 * (catalog["tidal_surface_brightness"] < 26).to_numpy()
    table = evaluate({"encoder": MethodVectors(catalog["object_id"].to_numpy(), vectors)}, catalog, FEW).breakdown
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
        draw_evaluation(evaluation, tmp_path / name)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]
    assert set(contents[0]) == {
        *("metrics.csv", "curves.csv", "breakdown.csv", "examples.csv"),
        *("roc.png", "precision_recall.png", "probe.png", "breakdown.png", "examples.png"),
    }
    for name in contents[0]:
        if name.endswith(".png"):
            pixels = np.asarray(Image.open(tmp_path / "first" / name).convert("L"))
            assert pixels.std() > 10, f"{name} is blank"
    assert pd.read_csv(tmp_path / "first" / "metrics.csv").columns.tolist() == [
        *("method", "task", "n_labels", "metric", "mean", "std", "repeats"),
        *("n_objects", "n_positive", "chance", "n_left_out"),
    ]
