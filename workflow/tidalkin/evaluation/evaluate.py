"""Evaluate all methods on the same labelled galaxies and write tables and curves.

Every method (the encoder and the baselines) ranks the same galaxies in the same tasks. These are the labelled galaxies
for which *every* method has a vector.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed

from tidalkin import config
from tidalkin.atomic import atomic_path, disk_errors
from tidalkin.embedding.whitening import load_whitening
from tidalkin.evaluation.labels import MINIMUM_OF_EACH_CLASS, Booleans, Floats, Integers, Labels, labelled_galaxies
from tidalkin.evaluation.methods import MethodVectors, common_galaxies, read_methods
from tidalkin.evaluation.metrics import FALSE_POSITIVE_RATE, GRID, metrics, ranking
from tidalkin.evaluation.probes import ProbeScores, score_tasks
from tidalkin.evaluation.splits import split
from tidalkin.figures.evaluation import (
    NO_EXAMPLE,
    draw_breakdown,
    draw_examples,
    draw_precision_recall,
    draw_probe,
    draw_roc,
)

logger = logging.getLogger(__name__)

SURFACE_BRIGHTNESS_BINS = 5
Value = tuple[str, str, int, str, int, float]
"""method, task, n_labels, metric, repeat, value"""


@dataclass(frozen=True)
class ExamplePrecision:
    """Precision of the first neighbours of one example."""

    method: str
    repeat: int
    row: int
    """Of the example."""
    value: float
    """Share with a feature among the first k."""


@dataclass(frozen=True)
class RepeatResult:
    """Figures of merit and scores of one repeat."""

    values: list[Value]
    probe_scores: list[ProbeScores]
    no_example_scores: list[ProbeScores]
    """Debris scores, where the method has them."""
    example_precisions: list[ExamplePrecision]
    left_out: dict[tuple[str, str], int]
    """Number of examples left out, by method and task."""


@dataclass(frozen=True)
class Evaluation:
    """The tables of an evaluation, long and tidy; every std is over the repeats."""

    metrics: pd.DataFrame
    """method, task (`no example`, `single`, `set`, `probe`), n_labels, metric, mean, std, repeats, n_objects and
    n_positive (ranked in each repeat), chance (expectation of the metric for a random ranking), n_left_out (examples
    left out over all repeats, for which the method has a vector of zeros)"""
    curves: pd.DataFrame
    """method, curve (`roc`, `precision_recall`), x, mean, std: of the probe on all labels"""
    breakdown: pd.DataFrame
    """method, by (`kind`, `surface_brightness`), group, mean, std, n_objects: completeness among the galaxies of the
    group, of the probe on all labels at `FALSE_POSITIVE_RATE`; the group of a surface brightness is its bin's median;
    the method `<name> (no example)` ranks by the debris score"""
    examples: pd.DataFrame
    """As `breakdown`: share with a feature among the first k neighbours of one example, by the example's group"""


def evaluate(
    vectors: Mapping[str, MethodVectors], catalog: pd.DataFrame, settings: config.EvaluationSettings, processes: int = 1
) -> Evaluation:
    """Evaluate all methods on the same tasks.

    Parameters
    ----------
    vectors : mapping of str to MethodVectors
        By the name of the method.
    catalog : DataFrame
        With ``object_id``, ``label`` and, where known, ``tidal_surface_brightness`` (mag/arcsec²).
    settings : config.EvaluationSettings
        Repeats, numbers of labels, size of the set.
    processes : int
        Number of repeats computed at once; it changes no result.

    Raises
    ------
    TidalkinError
        If there are too few labelled galaxies that every method has.

    Examples
    --------
    >>> catalog = pd.DataFrame({"object_id": range(60), "label": ["shell", "none"] * 30})
    >>> vectors = np.random.default_rng(1).normal(size=(60, 4))
    >>> vectors[::2, 0] += 10  # the shells are alike
    >>> settings = config.EvaluationSettings(repeats=2, probe_labels=(8,), set_size=4)
    >>> found = evaluate({"encoder": MethodVectors(np.arange(60), vectors)}, catalog, settings)
    >>> found.metrics.query("task == 'probe' and metric == 'roc_auc' and n_labels == 8")["mean"].round(2).item()
    1.0
    """
    aligned, labels = common_galaxies(
        vectors, labelled_galaxies(catalog, settings.negative_label), settings.negative_label
    )
    logger.info("%d galaxies, %d of them with a feature", labels.positive.size, labels.positive.sum())
    one_repeat = delayed(_one_repeat)
    done = Parallel(n_jobs=processes)(one_repeat(aligned, labels, settings, n) for n in range(settings.repeats))
    values = [value for repeat in done for value in repeat.values]
    probe_scores = [probe for repeat in done for probe in repeat.probe_scores]
    no_example_scores = [scores for repeat in done for scores in repeat.no_example_scores]
    example_precisions = pd.DataFrame(example for repeat in done for example in repeat.example_precisions)
    return Evaluation(
        _metrics_table(values, done, labels, probe_scores[0].test, settings),
        _curves_table(probe_scores, labels),
        _breakdown(_found_by_probe([*probe_scores, *no_example_scores], labels), labels, catalog),
        _breakdown(example_precisions, labels, catalog),
    )


def evaluate_run(
    catalog: pd.DataFrame,
    vector_files: Sequence[Path],
    id_files: Sequence[Path],
    baselines: Sequence[Path],
    whitening: Path,
    directory: Path,
    *,
    settings: config.EvaluationSettings,
    debris_weight: float,
    processes: int = 1,
) -> None:
    """Evaluate the encoder beside the baselines, and write the tables and figures.

    Parameters
    ----------
    catalog : DataFrame
        As of `evaluate`.
    vector_files, id_files : sequence of Path
        The embeddings and their object ids, shard by shard.
    baselines : sequence of Path
        The files of the baselines.
    whitening : Path
        The whitening of the run.
    directory : Path
        Where to write.
    settings : config.EvaluationSettings
        Repeats, numbers of labels, size of the set.
    debris_weight : float
        How much the debris score counts in a search.
    processes : int
        Number of repeats computed at once; it changes no result.

    Examples
    --------
    >>> from tidalkin import open_run
    >>> from tidalkin.catalog.read import read_catalog
    >>> run, directory = Path("results/demo"), Path("evaluation")
    >>> ids = sorted(run.glob("embeddings/*.ids.npy"))
    >>> vectors = [file.with_name(file.name.replace(".ids", "")) for file in ids]
    >>> inputs = (read_catalog(run / "catalog.parquet"), vectors, ids, [], run / "whitening.npz")
    >>> evaluate_run(*inputs, directory, settings=open_run(run).settings.evaluation, debris_weight=1.0)
    >>> sorted(path.name for path in directory.glob("*.csv"))
    ['breakdown.csv', 'curves.csv', 'examples.csv', 'metrics.csv']
    """
    wanted = labelled_galaxies(catalog, settings.negative_label).object_id
    white = load_whitening(whitening)
    methods = read_methods(
        vector_files,
        id_files,
        baselines,
        wanted,
        debris_weight=debris_weight if white.has_debris_score else None,
    )
    found = evaluate(methods, catalog, settings, processes)
    write_evaluation(found, directory)
    with disk_errors(directory):
        draw_evaluation(found, directory)


def _one_repeat(
    aligned: Mapping[str, MethodVectors], labels: Labels, settings: config.EvaluationSettings, repeat: int
) -> RepeatResult:
    parts = split(labels, repeat)
    done = RepeatResult([], [], [], [], {})
    # scikit-learn's checks of its arguments take longer than its small fits.
    with sklearn.config_context(skip_parameter_validation=True, assume_finite=True):
        for method, known in aligned.items():
            for task, score in score_tasks(method, known, labels.positive, parts, settings):
                found = ranking(labels.positive[parts.test], score)
                if task.example is not None:
                    precision = found.precision_at(settings.precision_at)
                    done.example_precisions.append(ExamplePrecision(method, repeat, task.example, precision))
                key = task.method, task.name, task.n_labels
                done.left_out[task.method, task.name] = task.n_left_out
                for metric in metrics(settings.precision_at, settings.prevalence):
                    done.values.append((*key, metric.name, repeat, metric.of(found)))
                if task.example is not None:
                    same_kind = ranking(labels.kind[parts.test] == labels.kind[task.example], score)
                    value = same_kind.precision_at(settings.precision_at)
                    done.values.append((*key, same_kind_name(settings.precision_at), repeat, value))
                if task.name == "no example":
                    name = f"{task.method} {NO_EXAMPLE}"
                    done.no_example_scores.append(ProbeScores(name, repeat, parts.test, score))
                if task.n_labels == parts.pool.size:
                    done.probe_scores.append(ProbeScores(task.method, repeat, parts.test, score))
    return done


def _over_repeats(table: pd.DataFrame, value: str, key: list[str]) -> pd.DataFrame:
    """Return mean and std over the repeats of the mean within each repeat.

    The queries or galaxies within a repeat are not independent.
    """
    per_repeat = table.groupby([*key, "repeat"], sort=False)[value].mean()
    return per_repeat.groupby(key, sort=False).agg(["mean", "std", "count"]).reset_index()


def _metrics_table(
    values: Sequence[Value],
    repeats: Sequence[RepeatResult],
    labels: Labels,
    test: Integers,
    settings: config.EvaluationSettings,
) -> pd.DataFrame:
    """Average the figures of merit over the repeats."""
    ranked = labels.positive[test]
    key = ["method", "task", "n_labels", "metric"]
    table = _over_repeats(pd.DataFrame(values, columns=[*key, "repeat", "value"]), "value", key)
    figures = metrics(settings.precision_at, settings.prevalence)
    chance = {metric.name: metric.chance(float(ranked.mean())) for metric in figures}
    chance[same_kind_name(settings.precision_at)] = _chance_of_same_kind(labels.kind[test], ranked)
    tasks = zip(table["method"], table["task"], strict=True)
    left_out = [sum(repeat.left_out.get(task, 0) for repeat in repeats) for task in tasks]
    return table.rename(columns={"count": "repeats"}).assign(
        n_objects=ranked.size, n_positive=int(ranked.sum()), chance=table["metric"].map(chance), n_left_out=left_out
    )


def same_kind_name(precision_at: int) -> str:
    """Name the share of the first neighbours that are of the example's own kind.

    Examples
    --------
    >>> same_kind_name(20)
    'same_kind_at_20'
    """
    return f"same_kind_at_{precision_at}"


def _chance_of_same_kind(kind: NDArray[np.object_], positive: Booleans) -> float:
    """Return the share of galaxies of the example's kind, averaged over the examples."""
    _, which, count = np.unique(kind.astype(str), return_inverse=True, return_counts=True)
    return float(count[which][positive].mean() / kind.size)


def _curves_table(probe_scores: Sequence[ProbeScores], labels: Labels) -> pd.DataFrame:
    tables = []
    for probe in probe_scores:
        found = ranking(labels.positive[probe.test], probe.score)
        # The precision at a completeness is that of the first step to reach it.
        reached = np.searchsorted(found.true_positive_rate, GRID, side="left")
        curves = {
            "roc": np.interp(GRID, found.false_positive_rate, found.true_positive_rate),
            "precision_recall": found.precision[reached],
        }
        for curve, y in curves.items():
            tables.append(
                pd.DataFrame({"method": probe.method, "curve": curve, "x": GRID, "repeat": probe.repeat, "y": y})
            )
    return _over_repeats(pd.concat(tables), "y", ["method", "curve", "x"]).drop(columns="count")


def found_at(positive: Booleans, score: Floats, false_positive_rate: float) -> Booleans:
    """Tell which galaxies (object,) score above the threshold of a false positive rate.

    Parameters
    ----------
    positive : (object,) ndarray of bool
        True for galaxies with a feature.
    score : (object,) ndarray
        Scores to compare with the threshold.
    false_positive_rate : float
        Share of the galaxies without a feature that may score above the threshold.

    Examples
    --------
    >>> found_at(np.array([True, False, True, False]), np.array([4.0, 3.0, 2.0, 1.0]), 0.5)
    array([ True,  True,  True, False])
    """
    negative = np.sort(score[~positive])[::-1]
    allowed = int(false_positive_rate * negative.size)
    return score > negative[min(allowed, negative.size - 1)]


def _found_by_probe(probe_scores: Sequence[ProbeScores], labels: Labels) -> pd.DataFrame:
    """List the galaxies with a feature (method, repeat, row), and whether each is found (value)."""
    tables = []
    for probe in probe_scores:
        positive = labels.positive[probe.test]
        found = found_at(positive, probe.score, FALSE_POSITIVE_RATE)[positive]
        rows = probe.test[positive]
        tables.append(pd.DataFrame({"method": probe.method, "repeat": probe.repeat, "row": rows, "value": found}))
    return pd.concat(tables)


def _breakdown(values: pd.DataFrame, labels: Labels, catalog: pd.DataFrame) -> pd.DataFrame:
    """Average the values of galaxies with a feature by its kind and its surface brightness."""
    breakdowns = []
    for by, group in _groups(labels, catalog).items():
        grouped = values.assign(by=by, group=group[values["row"]]).dropna(subset="group")
        key = ["method", "by", "group"]
        sizes = grouped.groupby(key, sort=False).size() / grouped["repeat"].nunique()
        breakdown = _over_repeats(grouped, "value", key).drop(columns="count")
        breakdowns.append(breakdown.assign(n_objects=sizes.round().astype(int).to_numpy()))
    return pd.concat(breakdowns, ignore_index=True)


def _groups(labels: Labels, catalog: pd.DataFrame) -> dict[str, NDArray[np.object_]]:
    """Return, for each breakdown, the group of each galaxy (object,); None without a feature."""
    groups = {"kind": labels.kind}
    if "tidal_surface_brightness" in catalog:
        brightness = catalog.set_index("object_id")["tidal_surface_brightness"].reindex(labels.object_id)
        brightness = brightness.reset_index(drop=True).where(labels.positive)
        if brightness.notna().sum() >= MINIMUM_OF_EACH_CLASS:
            bins = pd.qcut(brightness, SURFACE_BRIGHTNESS_BINS, labels=False, duplicates="drop")
            median = brightness.groupby(bins).transform("median").round(2)
            groups["surface_brightness"] = median.astype(object).where(median.notna(), None).to_numpy()
    return groups


def write_evaluation(evaluation: Evaluation, directory: Path) -> None:
    """Write the tables: ``metrics.csv``, ``curves.csv``, ``breakdown.csv`` and ``examples.csv``.

    Examples
    --------
    >>> table = pd.DataFrame({"method": ["encoder"], "mean": [0.9]})
    >>> write_evaluation(Evaluation(table, table, table, table), Path("evaluation"))
    >>> pd.read_csv("evaluation/metrics.csv")["mean"].item()
    0.9
    """
    for name in ("metrics", "curves", "breakdown", "examples"):
        with atomic_path(directory / f"{name}.csv") as path:
            getattr(evaluation, name).to_csv(path, index=False, float_format="%.6g")


def draw_evaluation(evaluation: Evaluation, directory: Path) -> None:
    """Draw the curves and breakdowns, one PNG each.

    Examples
    --------
    >>> catalog = pd.DataFrame({"object_id": range(60), "label": ["shell", "none"] * 30})
    >>> methods = {"encoder": MethodVectors(np.arange(60), np.random.default_rng(1).normal(size=(60, 4)))}
    >>> settings = config.EvaluationSettings(repeats=2, probe_labels=(8,), set_size=4)
    >>> draw_evaluation(evaluate(methods, catalog, settings), Path("evaluation"))
    >>> sorted(path.stem for path in Path("evaluation").glob("*.png"))
    ['breakdown', 'examples', 'precision_recall', 'probe', 'roc']
    """
    draw_roc(evaluation.curves, evaluation.metrics, directory / "roc.png")
    draw_precision_recall(evaluation.curves, evaluation.metrics, directory / "precision_recall.png")
    draw_probe(evaluation.metrics, directory / "probe.png")
    draw_breakdown(evaluation.breakdown, directory / "breakdown.png")
    draw_examples(evaluation.examples, evaluation.metrics, directory / "examples.png")
