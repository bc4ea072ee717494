"""Draw the curves of the evaluation, from values of `tidalkin.evaluation`."""

from __future__ import annotations

from pathlib import Path

import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from tidalkin.figures.panels import legend_below, line_style, new_figure, save_figure

CHANCE_COLOR = "0.45"
NO_EXAMPLE = "(no example)"
"""End of the name of a method that ranks by its debris score alone."""
PROBE_METRICS = ("average_precision", "roc_auc")


def metric_name(metric: str) -> str:
    """Return a metric's name for people.

    Examples
    --------
    >>> metric_name("average_precision"), metric_name("precision_at_20")
    ('average precision', 'precision at 20')
    """
    return {"roc_auc": "ROC area"}.get(metric, metric.replace("_", " ").replace("tpr", "completeness"))


def draw_roc(curves: pd.DataFrame, metrics: pd.DataFrame, path: Path) -> None:
    """Draw the probe's ROC curve on all labels, mean and std over the repeats.

    Parameters
    ----------
    curves, metrics : DataFrame
        Of `tidalkin.evaluation.evaluate.Evaluation`.
    path : Path
        The picture.

    Examples
    --------
    >>> x, y = [0.0, 0.1, 1.0], [0.0, 0.8, 1.0]
    >>> curves = pd.DataFrame({"method": "encoder", "curve": "roc", "x": x, "mean": y, "std": 0.02})
    >>> scores = {"task": "probe", "n_labels": 100, "metric": "roc_auc", "mean": 0.9, "std": 0.02}
    >>> draw_roc(curves, pd.DataFrame({"method": ["encoder"], **scores}), Path("roc.png"))
    >>> Path("roc.png").exists()
    True
    """
    figure, (panel,) = new_figure(1)
    _draw_curves(panel, curves[curves["curve"] == "roc"], metrics, "roc_auc")
    panel.plot([0, 1], [0, 1], color=CHANCE_COLOR, linestyle=(0, (1, 3)), label="chance (0.50)")
    panel.set(
        xlim=(0, 1), ylim=(0, 1.01), xlabel="false positive rate", ylabel="true positive rate (completeness)", aspect=1
    )
    panel.set_title(f"Probe on {_all_labels(metrics):,} labels, and its ROC area", fontsize=11)
    legend_below(figure, panel, columns=2)
    save_figure(figure, path)


def draw_precision_recall(curves: pd.DataFrame, metrics: pd.DataFrame, path: Path) -> None:
    """Draw precision against completeness of the probe on all labels, like `draw_roc`.

    Examples
    --------
    >>> x, y = [0.0, 0.5, 1.0], [1.0, 0.9, 0.2]
    >>> curves = pd.DataFrame({"method": "encoder", "curve": "precision_recall", "x": x, "mean": y, "std": 0.02})
    >>> scores = {"task": "probe", "metric": "average_precision", "mean": 0.8, "std": 0.02, "chance": 0.2}
    >>> metrics = pd.DataFrame({"method": ["encoder"], "n_labels": 100, **scores})
    >>> draw_precision_recall(curves, metrics, Path("precision_recall.png"))
    >>> Path("precision_recall.png").exists()
    True
    """
    figure, (panel,) = new_figure(1)
    _draw_curves(panel, curves[curves["curve"] == "precision_recall"], metrics, "average_precision")
    chance = metrics.loc[metrics["metric"] == "average_precision", "chance"].iloc[0]
    panel.axhline(chance, color=CHANCE_COLOR, linestyle=(0, (1, 3)), label=f"chance ({chance:.2f})")
    panel.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="completeness (recall)", ylabel="precision", aspect=1)
    panel.set_title(f"Probe on {_all_labels(metrics):,} labels, and its average precision", fontsize=11)
    legend_below(figure, panel, columns=2)
    save_figure(figure, path)


def draw_probe(metrics: pd.DataFrame, path: Path) -> None:
    """Draw the metrics against the probe's number of labels, beside the searches.

    Examples
    --------
    >>> scores = {"n_labels": 100, "metric": ["average_precision", "roc_auc"], "mean": [0.8, 0.9], "std": 0.02}
    >>> metrics = pd.DataFrame({"method": "encoder", "task": "probe", "chance": [0.2, 0.5], **scores})
    >>> draw_probe(metrics, Path("probe.png"))
    >>> Path("probe.png").exists()
    True
    """
    methods = list(metrics["method"].unique())
    figure, axes = new_figure(len(PROBE_METRICS))
    for panel, metric in zip(axes, PROBE_METRICS, strict=True):
        rows = metrics[metrics["metric"] == metric]
        for number, method in enumerate(methods):
            shift = 1 + 0.03 * (number - (len(methods) - 1) / 2)  # so that error bars do not cover each other
            probe = rows[(rows["method"] == method) & (rows["task"] == "probe")]
            style = line_style(methods, method)
            panel.errorbar(
                probe["n_labels"] * shift, probe["mean"], probe["std"], capsize=2, elinewidth=0.9, label=method, **style
            )
            search = rows[(rows["method"] == method) & rows["task"].isin(["single", "set"])]
            panel.errorbar(
                search["n_labels"] * shift,
                search["mean"],
                search["std"],
                capsize=2,
                elinewidth=0.9,
                **{**style, "linestyle": "none", "markerfacecolor": "white", "markersize": 6},
            )
        panel.axhline(rows["chance"].iloc[0], color=CHANCE_COLOR, linestyle=(0, (1, 3)), label="chance")
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        panel.set(xlabel="labelled galaxies", ylabel=metric_name(metric))
    legend_below(figure, axes[0], columns=6)
    figure.suptitle(
        "Lines: probe on labels. Open markers: search from one example and from a set, all with a feature",
        fontsize=10,
    )
    save_figure(figure, path)


def draw_breakdown(breakdown: pd.DataFrame, path: Path) -> None:
    """Draw completeness at a false positive rate of 0.2.

    It is split by kind of feature and, if known, by its surface brightness.

    Examples
    --------
    >>> rows = {"by": "kind", "group": ["shell", "stream"], "mean": [0.9, 0.7], "std": 0.05, "n_objects": [40, 25]}
    >>> draw_breakdown(pd.DataFrame({"method": "encoder", **rows}), Path("breakdown.png"))
    >>> Path("breakdown.png").exists()
    True
    """
    breakdown = breakdown[~breakdown["method"].str.endswith(NO_EXAMPLE)]  # the figure has methods enough
    _draw_groups(breakdown, "completeness at false positive rate 0.2", 0.2, path)


def draw_examples(examples: pd.DataFrame, metrics: pd.DataFrame, path: Path) -> None:
    """Draw the fraction with a feature among the results of one example, by its feature.

    Examples
    --------
    >>> rows = {"by": "kind", "group": ["shell", "stream"], "mean": [0.6, 0.4], "std": 0.05, "n_objects": [40, 25]}
    >>> metrics = pd.DataFrame({"metric": ["precision_at_20"], "chance": [0.2]})
    >>> draw_examples(pd.DataFrame({"method": "encoder", **rows}), metrics, Path("examples.png"))
    >>> Path("examples.png").exists()
    True
    """
    precision = metrics[metrics["metric"].str.startswith("precision_at_")].iloc[0]
    k = precision["metric"].removeprefix("precision_at_")
    _draw_groups(examples, f"share with a feature among the first {k} answers", precision["chance"], path)


def _draw_groups(table: pd.DataFrame, what: str, chance: float, path: Path) -> None:
    breakdowns = list(table["by"].unique())
    methods = list(table["method"].unique())
    limit = min(1.01, 1.1 * (table["mean"] + table["std"]).max())
    figure, axes = new_figure(len(breakdowns), share_y=True)
    for panel, by in zip(axes, breakdowns, strict=True):
        rows = table[table["by"] == by]
        groups = list(rows["group"].drop_duplicates().sort_values())
        for number, method in enumerate(methods):
            # A method may have left out all examples of a group: no point is drawn there.
            of_method = rows[rows["method"] == method].set_index("group").reindex(groups)
            shift = (0.12 if by == "kind" else 0.04) * (number - (len(methods) - 1) / 2)
            style = line_style(methods, method)
            if by == "kind":
                x = np.arange(len(groups)) + shift
                style["linestyle"] = "none"
            else:
                x = np.array(groups, float) + shift
            panel.errorbar(x, of_method["mean"], of_method["std"], capsize=2, elinewidth=0.9, label=method, **style)
        if by == "kind":
            sizes = rows.drop_duplicates("group").set_index("group")["n_objects"]
            panel.set_xticks(range(len(groups)), [f"{group}\n{sizes[group]} galaxies" for group in groups])
            panel.set_xlabel("kind of feature")
        else:
            panel.set_xlabel("surface brightness of the feature, mag/arcsec²")
        panel.axhline(chance, color=CHANCE_COLOR, linestyle=(0, (1, 3)), label="chance")
        panel.set_ylim(0, limit)
    axes[0].set_ylabel(what)
    legend_below(figure, axes[0], columns=6)
    save_figure(figure, path)


def _draw_curves(panel: Axes, curves: pd.DataFrame, metrics: pd.DataFrame, metric: str) -> None:
    methods = list(curves["method"].unique())
    scores = metrics[(metrics["task"] == "probe") & (metrics["metric"] == metric)]
    scores = scores[scores["n_labels"] == _all_labels(metrics)].set_index("method")
    for method in methods:
        curve = curves[curves["method"] == method]
        style = {**line_style(methods, method), "marker": ""}
        label = f"{method}: {scores.loc[method, 'mean']:.2f} ± {scores.loc[method, 'std']:.2f}"
        panel.plot(curve["x"], curve["mean"], label=label, **style)
        low, high = curve["mean"] - curve["std"], curve["mean"] + curve["std"]
        panel.fill_between(curve["x"], low.clip(0, 1), high.clip(0, 1), color=style["color"], alpha=0.15, linewidth=0)


def _all_labels(metrics: pd.DataFrame) -> int:
    return int(metrics["n_labels"].max())
