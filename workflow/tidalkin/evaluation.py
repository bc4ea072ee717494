"""How well labelled galaxies are found: by one example, by a set of examples, by a linear probe on n labels.

All methods (the encoder and the baselines) are asked the same questions about the same galaxies: the labelled ones that
*every* method has a vector for. In each of the repeats half of them, drawn label by label, is the pool: examples and
training labels come from it, and only from it. The other half is the test: it is ranked, and never trained on or asked
with, so that no question is among its own answers. The splits depend on the galaxies and the repeat, and on nothing
else, not on the seed of the run and not on the method; the labels a probe learns from are nested (the 10 are among
the 20).

This module knows nothing of images: it sees vectors and labels. What the baselines are is in `tidalkin.baselines`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import sklearn
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_curve
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.parallel import Parallel, delayed

from tidalkin import config
from tidalkin.errors import TidalkinError
from tidalkin.files import written_whole
from tidalkin.randomness import generator
from tidalkin.search import direction

logger = logging.getLogger("tidalkin.evaluation")

Floats = NDArray[np.floating]
Booleans = NDArray[np.bool_]
Integers = NDArray[np.int64]

MINIMUM_OF_EACH_CLASS = 10
FALSE_POSITIVE_RATE = 0.2  # completeness is compared at this rate
COMPLETENESS = 0.96  # what Desmons et al. (arXiv:2308.07962) reach
SINGLE_QUERIES = 50  # examples asked with, one by one, per repeat
REGULARISATIONS = (1e-3, 1e-2, 1e-1, 1.0)
REGULARISATION_OF_FEW_LABELS = 1e-3
MOST_LABELS_TO_CHOOSE_ON = 2000
SURFACE_BRIGHTNESS_BINS = 5
GRID: Floats = np.linspace(0.0, 1.0, 201)


# --- what goes in ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Vectors:
    """What one method makes of the galaxies."""

    object_id: Integers
    """(object,)"""
    vectors: Floats
    """(object, dimension), all finite."""
    importance: Floats | None = None
    """(dimension,): how much each counts in a search, and how freely a probe may use it; none: all alike."""


@dataclass(frozen=True)
class Labels:
    """The labelled galaxies."""

    object_id: Integers
    """(object,), ascending."""
    kind: NDArray[np.object_]
    """(object,): the label as text."""
    positive: Booleans
    """(object,): whether the label is another than the negative one."""


def labelled_galaxies(catalog: pd.DataFrame, negative_label: str) -> Labels:
    """The galaxies of a catalog that have a label; an empty or missing one is none.

    Parameters
    ----------
    catalog : DataFrame
        With `object_id` and `label`.
    negative_label : str
        The label of galaxies without a feature.

    Raises
    ------
    TidalkinError
        If there is no column `label`, or too few galaxies with or without a feature to evaluate on.
    """
    if "label" not in catalog:
        raise TidalkinError(
            "the catalog has no column `label`, which the evaluation needs: add it, or set evaluation.enabled to false"
        )
    rows = catalog[catalog["label"].notna()].sort_values("object_id")
    kind = rows["label"].astype(str).str.strip()
    rows, kind = rows[kind != ""], kind[kind != ""]
    labels = Labels(
        rows["object_id"].to_numpy(np.int64),
        kind.to_numpy(dtype=object),
        (kind != negative_label).to_numpy(dtype=bool),
    )
    _check_enough(labels, negative_label, "the catalog")
    return labels


def _check_enough(labels: Labels, negative_label: str, where: str) -> None:
    positive, negative = int(labels.positive.sum()), int((~labels.positive).sum())
    if min(positive, negative) < MINIMUM_OF_EACH_CLASS:
        raise TidalkinError(
            f"{where} has {positive} galaxies labelled with a feature and {negative} labelled {negative_label!r} "
            f"(evaluation.negative_label), but the evaluation needs {MINIMUM_OF_EACH_CLASS} of each: label more, "
            "or set evaluation.enabled to false"
        )


def read_embeddings(vector_files: Sequence[Path], id_files: Sequence[Path], wanted: Integers) -> Vectors:
    """Those of the embedded galaxies that are ``wanted``; other rows are not even read.

    Parameters
    ----------
    vector_files, id_files : sequence of Path
        `embeddings/<shard>.npy` and `embeddings/<shard>.ids.npy`, in the same order.
    wanted : ndarray of int64
        object_ids.
    """
    ids, vectors = [], []
    for vector_file, id_file in zip(vector_files, id_files, strict=True):
        shard_ids = np.load(id_file)
        rows = np.flatnonzero(np.isin(shard_ids, wanted))
        ids.append(shard_ids[rows])
        vectors.append(np.load(vector_file, mmap_mode="r")[rows].astype(np.float32))
    return Vectors(np.concatenate(ids), np.concatenate(vectors))


def read_baseline(path: Path) -> Vectors:
    """A baseline's vectors, as written by `tidalkin.baselines`."""
    with np.load(path) as file:
        return Vectors(file["object_id"], file["vectors"])


def _common(vectors: Mapping[str, Vectors], labels: Labels, negative_label: str) -> tuple[dict[str, Vectors], Labels]:
    """Vectors and labels of the labelled galaxies that every method knows, row by row the same ones."""
    common = labels.object_id
    for method, known in vectors.items():
        common = np.intersect1d(common, known.object_id)
        logger.info(
            "%s: %d galaxies; %d labelled ones are known to all methods so far",
            method,
            known.object_id.size,
            common.size,
        )
    rows = np.searchsorted(labels.object_id, common)
    kept = Labels(common, labels.kind[rows], labels.positive[rows])
    _check_enough(kept, negative_label, "what all methods of the evaluation know of the catalog")
    aligned = {}
    for method, known in vectors.items():
        order = np.argsort(known.object_id)
        rows = order[np.searchsorted(known.object_id, common, sorter=order)]
        aligned[method] = replace(known, object_id=common, vectors=known.vectors[rows])
        if not np.isfinite(aligned[method].vectors).all():
            raise TidalkinError(f"the vectors of method {method!r} are not all finite numbers: make its file again")
    return aligned, kept


# --- splits ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """Row numbers of one repeat; pool and test share none."""

    pool_positive: Integers
    """Galaxies with a feature to ask with or learn from, in random order."""
    pool_negative: Integers
    """Galaxies without one to learn from, in random order."""
    test: Integers
    """Galaxies to rank, ascending."""

    @property
    def pool(self) -> Integers:
        """All galaxies that are not ranked."""
        return np.concatenate([self.pool_positive, self.pool_negative])

    def training(self, n_labels: int) -> Integers:
        """``n_labels`` of the pool in its proportion, but at least one with and one without a feature; nested."""
        share = self.pool_positive.size / self.pool.size
        n_positive = min(max(round(n_labels * share), 1), n_labels - 1)
        return np.concatenate([self.pool_positive[:n_positive], self.pool_negative[: n_labels - n_positive]])


def split(labels: Labels, repeat: int) -> Split:
    """Half pool, half test, kind by kind: the same for all methods and all seeds of a run.

    The odd galaxy of a kind goes to the test, so that all repeats have halves of the same size.
    """
    random = generator(0, "evaluation split", repeat)
    pool: list[Integers] = []
    test: list[Integers] = []
    for kind in np.unique(labels.kind):
        rows = random.permutation(np.flatnonzero(labels.kind == kind))
        pool.append(rows[: rows.size // 2])
        test.append(rows[rows.size // 2 :])
    mixed = random.permutation(np.concatenate(pool))
    positive = labels.positive[mixed]
    return Split(mixed[positive], mixed[~positive], np.sort(np.concatenate(test)))


# --- figures of merit --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranking:
    """Galaxies with and without a feature found down a ranking; those of equal score come together."""

    true_positives: Floats
    """(step,), from 0 to all."""
    false_positives: Floats
    """(step,), from 0 to all."""

    @property
    def true_positive_rate(self) -> Floats:
        """(step,), the completeness."""
        return self.true_positives / self.true_positives[-1]

    @property
    def false_positive_rate(self) -> Floats:
        """(step,), from 0 to 1."""
        return self.false_positives / self.false_positives[-1]

    @property
    def precision(self) -> Floats:
        """(step,), 1 before the first step."""
        found = self.true_positives + self.false_positives
        return np.divide(self.true_positives, found, out=np.ones_like(found), where=found > 0)

    def roc_auc(self) -> float:
        """Area under the curve of true over false positive rate."""
        return float(np.trapezoid(self.true_positive_rate, self.false_positive_rate))

    def average_precision(self) -> float:
        """Precision averaged over the steps in completeness, not interpolated."""
        return float(np.sum(np.diff(self.true_positive_rate) * self.precision[1:]))

    def precision_at(self, k: int) -> float:
        """Share of galaxies with a feature among the first ``k``; of ties its expectation."""
        found = self.true_positives + self.false_positives
        k = min(k, int(found[-1]))
        return float(np.interp(k, found, self.true_positives) / k)

    def true_positive_rate_at(self, false_positive_rate: float) -> float:
        """Completeness at the last step that keeps to ``false_positive_rate``."""
        step = np.searchsorted(self.false_positive_rate, false_positive_rate, side="right") - 1
        return float(self.true_positive_rate[step])

    def contamination_at(self, completeness: float) -> float:
        """Share of galaxies without a feature among those found, at the first step of at least ``completeness``."""
        return float(1 - self.precision[np.searchsorted(self.true_positive_rate, completeness, side="left")])


def ranking(positive: Booleans, score: Floats) -> Ranking:
    """Rank galaxies by descending ``score``.

    Parameters
    ----------
    positive : (object,) ndarray of bool
    score : (object,) ndarray
    """
    false_rate, true_rate, _ = roc_curve(positive, score, drop_intermediate=False)
    return Ranking(true_rate * positive.sum(), false_rate * (~positive).sum())


@dataclass(frozen=True)
class Metric:
    """One figure of merit."""

    name: str
    of: Callable[[Ranking], float]
    chance: Callable[[float], float]
    """Its expectation for a random ranking, from the share of galaxies with a feature."""


def metrics(precision_at: int) -> tuple[Metric, ...]:
    """The figures of merit of the table."""
    return (
        Metric("roc_auc", Ranking.roc_auc, lambda share: 0.5),
        Metric("average_precision", Ranking.average_precision, lambda share: share),
        Metric(f"precision_at_{precision_at}", lambda found: found.precision_at(precision_at), lambda share: share),
        Metric(
            f"tpr_at_fpr_{FALSE_POSITIVE_RATE}",
            lambda found: found.true_positive_rate_at(FALSE_POSITIVE_RATE),
            lambda share: FALSE_POSITIVE_RATE,
        ),
        Metric(
            f"contamination_at_completeness_{COMPLETENESS}",
            lambda found: found.contamination_at(COMPLETENESS),
            lambda share: 1 - share,
        ),
    )


# --- the three ways to ask ---------------------------------------------------------------------------------------


def _unit(vectors: Floats) -> Floats:
    """Rows of length one (a row of zeros stays)."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1.0)


def _standardised(vectors: Floats, pool: Integers) -> Floats:
    """Each dimension with mean 0 and deviation 1 over the pool, whose vectors (not labels) are known beforehand."""
    deviation = vectors[pool].std(axis=0)
    return (vectors - vectors[pool].mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)


def set_scores(unit: Floats, importance: Floats, examples: Integers, ranked: Integers) -> Floats:
    """Similarity (ranked,) of some rows to examples, one or several, as in `tidalkin.search`."""
    return unit[ranked] @ direction(unit[examples], unit[:0], importance)


Probe = Callable[[Floats, Booleans, Floats], Floats]
"""From training vectors (label, dimension), whether each has a feature (label,), and vectors to rank (test, dimension),
to scores (test,)."""


def _logistic(regularisation: float) -> LogisticRegression:
    return LogisticRegression(C=regularisation, class_weight="balanced", solver="newton-cholesky")


def choose_regularisation(vectors: Floats, positive: Booleans) -> float:
    """The C of the best average precision in a three-fold cross-validation; a fixed one where labels are few.

    Parameters
    ----------
    vectors : (label, dimension) ndarray
    positive : (label,) ndarray of bool
    """
    if min(positive.sum(), (~positive).sum()) < MINIMUM_OF_EACH_CLASS:
        return REGULARISATION_OF_FEW_LABELS
    some = generator(0, "evaluation folds", positive.size).permutation(positive.size)[:MOST_LABELS_TO_CHOOSE_ON]
    vectors, positive = vectors[some], positive[some]
    folds = list(StratifiedKFold(3).split(vectors, positive))

    def quality(regularisation: float) -> float:
        fits = ((_logistic(regularisation).fit(vectors[rest], positive[rest]), held) for rest, held in folds)
        return sum(average_precision_score(positive[held], fit.decision_function(vectors[held])) for fit, held in fits)

    return max(REGULARISATIONS, key=quality)


def linear_probe(vectors: Floats, positive: Booleans, ranked: Floats) -> Floats:
    """Logistic regression with an L2 penalty, both classes of equal weight."""
    return _logistic(choose_regularisation(vectors, positive)).fit(vectors, positive).decision_function(ranked)


def forest_probe(vectors: Floats, positive: Booleans, ranked: Floats) -> Floats:
    """Random forest: what people use on a handful of morphological numbers, whose classes no plane divides."""
    forest = RandomForestClassifier(50, min_samples_leaf=3, class_weight="balanced", random_state=0)
    return forest.fit(vectors, positive).predict_proba(ranked)[:, 1]


def label_counts(probe_labels: Sequence[int], pool_size: int) -> list[int]:
    """How many labels the probes learn from: those of ``probe_labels`` that the pool has, and all."""
    return [*sorted({n for n in probe_labels if 2 <= n < pool_size}), pool_size]


class Question(NamedTuple):
    """What was asked."""

    method: str
    task: str
    n_labels: int
    example: int | None = None
    """Row of the only example."""


def answers(
    method: str, known: Vectors, positive: Booleans, parts: Split, settings: config.Evaluation
) -> Iterator[tuple[Question, Floats]]:
    """Scores (test,) of one method, to all questions of one repeat; to `single` one per example.

    Parameters
    ----------
    method : str
    known : Vectors
        Of the method, row by row those of ``positive``.
    positive : (object,) ndarray of bool
    parts : Split
    settings : config.Evaluation
    """
    vectors = known.vectors
    unit = _unit(vectors)
    importance = np.ones(vectors.shape[1]) if known.importance is None else known.importance
    for example in parts.pool_positive[:SINGLE_QUERIES]:
        score = set_scores(unit, importance, np.array([example]), parts.test)
        yield Question(method, "single", 1, int(example)), score
    examples = parts.pool_positive[: settings.set_size]
    yield Question(method, "set", examples.size), set_scores(unit, importance, examples, parts.test)
    # A weight on a larger dimension costs the penalty of the probe less: few labels cannot tell what matters.
    standardised = _standardised(vectors, parts.pool) * np.sqrt(importance)
    probes: dict[str, Probe] = {method: linear_probe}
    if method == "morphology":
        probes[f"{method} (random forest)"] = forest_probe
    for name, probe in probes.items():
        for n_labels in label_counts(settings.probe_labels, parts.pool.size):
            training = parts.training(n_labels)
            score = probe(standardised[training], positive[training], standardised[parts.test])
            yield Question(name, "probe", n_labels), score


# --- the whole evaluation ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probed:
    """Scores of the test by the probe on all labels of the pool, for the curves and breakdowns."""

    method: str
    repeat: int
    test: Integers
    """(test,): row numbers."""
    score: Floats
    """(test,)"""


Value = tuple[str, str, int, str, int, float]
"""method, task, n_labels, metric, repeat, value"""


@dataclass(frozen=True)
class Answered:
    """How good the first answers to one example are."""

    method: str
    repeat: int
    row: int
    """Of the example."""
    value: float
    """Share with a feature among the first k."""


@dataclass(frozen=True)
class Repeat:
    """What came out of one repeat."""

    values: list[Value]
    probed: list[Probed]
    answered: list[Answered]


@dataclass(frozen=True)
class Evaluation:
    """The tables of an evaluation, long and tidy; every std is over the repeats."""

    metrics: pd.DataFrame
    """method, task (`single`, `set`, `probe`), n_labels, metric, mean, std, repeats, n_objects and n_positive
    (ranked in each repeat), chance (expectation of the metric for a random ranking)"""
    curves: pd.DataFrame
    """method, curve (`roc`, `precision_recall`), x, mean, std: of the probe on all labels"""
    completeness: pd.DataFrame
    """method, by (`kind`, `surface_brightness`), group, mean, std, n_objects: completeness among the galaxies of the
    group, of the probe on all labels at `FALSE_POSITIVE_RATE`; the group of a surface brightness is its bin's median"""
    examples: pd.DataFrame
    """As `completeness`: share with a feature among the first k answers to one example, by the example's group"""


def evaluate(
    vectors: Mapping[str, Vectors], catalog: pd.DataFrame, settings: config.Evaluation, processes: int = 1
) -> Evaluation:
    """Ask all methods the same questions.

    Parameters
    ----------
    vectors : mapping of str to Vectors
        By method. The method `morphology` is also probed with a random forest.
    catalog : DataFrame
        With `object_id`, `label` and, where known, `tidal_surface_brightness` (mag/arcsec²).
    settings : config.Evaluation
    processes : int
        How many repeats to work on at once; changes no result.

    Raises
    ------
    TidalkinError
        If labels are missing or too few, also after leaving out what some method does not know.
    """
    aligned, labels = _common(vectors, labelled_galaxies(catalog, settings.negative_label), settings.negative_label)
    logger.info("%d galaxies, %d of them with a feature", labels.positive.size, labels.positive.sum())
    one_repeat = delayed(_one_repeat)
    done = Parallel(n_jobs=processes)(one_repeat(aligned, labels, settings, n) for n in range(settings.repeats))
    values = [value for repeat in done for value in repeat.values]
    probed = [probe for repeat in done for probe in repeat.probed]
    answered = pd.DataFrame(answer for repeat in done for answer in repeat.answered)
    return Evaluation(
        _metrics_table(values, labels.positive[probed[0].test], settings.precision_at),
        _curves_table(probed, labels),
        _breakdown(_found_by_probe(probed, labels), labels, catalog),
        _breakdown(answered, labels, catalog),
    )


def _one_repeat(aligned: Mapping[str, Vectors], labels: Labels, settings: config.Evaluation, repeat: int) -> Repeat:
    parts = split(labels, repeat)
    done = Repeat([], [], [])
    # scikit-learn's checks of its arguments take longer than its small fits.
    with sklearn.config_context(skip_parameter_validation=True, assume_finite=True):
        for method, known in aligned.items():
            for question, score in answers(method, known, labels.positive, parts, settings):
                found = ranking(labels.positive[parts.test], score)
                if question.example is not None:
                    precision = found.precision_at(settings.precision_at)
                    done.answered.append(Answered(method, repeat, question.example, precision))
                asked = question.method, question.task, question.n_labels
                for metric in metrics(settings.precision_at):
                    done.values.append((*asked, metric.name, repeat, metric.of(found)))
                if question.n_labels == parts.pool.size:
                    done.probed.append(Probed(question.method, repeat, parts.test, score))
    return done


def _over_repeats(table: pd.DataFrame, value: str, key: list[str]) -> pd.DataFrame:
    """Mean and std over the repeats of the mean within a repeat, whose queries or galaxies are not independent."""
    per_repeat = table.groupby([*key, "repeat"], sort=False)[value].mean()
    return per_repeat.groupby(key, sort=False).agg(["mean", "std", "count"]).reset_index()


def _metrics_table(values: Sequence[Value], ranked: Booleans, precision_at: int) -> pd.DataFrame:
    key = ["method", "task", "n_labels", "metric"]
    table = _over_repeats(pd.DataFrame(values, columns=[*key, "repeat", "value"]), "value", key)
    chance = {metric.name: metric.chance(float(ranked.mean())) for metric in metrics(precision_at)}
    return table.rename(columns={"count": "repeats"}).assign(
        n_objects=ranked.size, n_positive=int(ranked.sum()), chance=table["metric"].map(chance)
    )


def _curves_table(probed: Sequence[Probed], labels: Labels) -> pd.DataFrame:
    tables = []
    for probe in probed:
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
    """Which galaxies (object,) score above the threshold that ``false_positive_rate`` of the others pass."""
    negative = np.sort(score[~positive])[::-1]
    allowed = int(false_positive_rate * negative.size)
    return score > negative[min(allowed, negative.size - 1)]


def _found_by_probe(probed: Sequence[Probed], labels: Labels) -> pd.DataFrame:
    """Method, repeat, row and value, 1 or 0, of each galaxy with a feature: whether the probe finds it."""
    tables = []
    for probe in probed:
        positive = labels.positive[probe.test]
        found = found_at(positive, probe.score, FALSE_POSITIVE_RATE)[positive]
        rows = probe.test[positive]
        tables.append(pd.DataFrame({"method": probe.method, "repeat": probe.repeat, "row": rows, "value": found}))
    return pd.concat(tables)


def _breakdown(values: pd.DataFrame, labels: Labels, catalog: pd.DataFrame) -> pd.DataFrame:
    """Mean of the values of galaxies with a feature, by its kind and its surface brightness."""
    breakdowns = []
    for by, group in _groups(labels, catalog).items():
        grouped = values.assign(by=by, group=group[values["row"]]).dropna(subset="group")
        key = ["method", "by", "group"]
        sizes = grouped.groupby(key, sort=False).size() / grouped["repeat"].nunique()
        breakdown = _over_repeats(grouped, "value", key).drop(columns="count")
        breakdowns.append(breakdown.assign(n_objects=sizes.round().astype(int).to_numpy()))
    return pd.concat(breakdowns, ignore_index=True)


def _groups(labels: Labels, catalog: pd.DataFrame) -> dict[str, NDArray[np.object_]]:
    """Group of each galaxy (object,) with a feature, in each breakdown; None: in no group."""
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
    """Write `metrics.csv`, `curves.csv`, `completeness.csv` and `examples.csv`."""
    for name in ("metrics", "curves", "completeness", "examples"):
        with written_whole(directory / f"{name}.csv") as path:
            getattr(evaluation, name).to_csv(path, index=False, float_format="%.6g")
