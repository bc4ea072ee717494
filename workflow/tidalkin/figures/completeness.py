"""Picture of the completeness by injection and recovery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from tidalkin.figures.panels import line_style, new_figure, save_figure

HALF_COLOR = "0.45"
SHARE_OF_KINDS = 0.05


def draw_completeness(table: pd.DataFrame, limits: pd.DataFrame, path: Path) -> None:
    """Draw completeness against surface brightness, for parts of the survey and for kinds of features.

    Parameters
    ----------
    table : DataFrame
        ``table`` of `tidalkin.evaluation.completeness.Completeness`.
    limits : DataFrame
        Its ``limits``, one row each.
    path : Path
        The picture.
    """
    kinds = list(table["kind"].unique())
    shares = list(table["share"].unique())
    figure, (by_share, by_kind) = new_figure(2, share_y=True)
    for share in shares:
        name = f"first {100 * share:g} %"
        rows = table[(table["share"] == share) & (table["kind"] == kinds[0])]
        _draw_curve(by_share, rows, name, line_style([f"first {100 * one:g} %" for one in shares], name))
        limit = limits[(limits["share"] == share) & (limits["kind"] == kinds[0])]["surface_brightness"].iloc[0]
        if pd.notna(limit):
            by_share.plot(limit, 0.5, marker="|", markersize=16, color=HALF_COLOR)
            by_share.annotate(
                f"{limit:.1f}", (limit, 0.5), xytext=(4, 5), textcoords="offset points", fontsize=8, color=HALF_COLOR
            )
    for kind in kinds[1:] or kinds:
        rows = table[(table["share"] == SHARE_OF_KINDS) & (table["kind"] == kind)]
        _draw_curve(by_kind, rows, f"{kind}s", line_style(kinds[1:] or kinds, kind))
    by_share.set_title("All features, within the first part of the ranking", fontsize=10)
    by_kind.set_title(f"By kind, within the first {100 * SHARE_OF_KINDS:g} %", fontsize=10)
    by_share.set_ylabel("fraction of injected features recovered")
    for panel in (by_share, by_kind):
        panel.axhline(0.5, color=HALF_COLOR, linestyle=(0, (1, 3)))
        panel.set(xlabel="surface brightness in i, mag/arcsec²", ylim=(-0.02, 1.02))
        panel.legend(frameon=False, fontsize=8, loc="upper right")
    save_figure(figure, path)


def _draw_curve(panel: Axes, rows: pd.DataFrame, name: str, style: dict[str, Any]) -> None:
    """Draw fractions with their binomial intervals."""
    below, above = rows["completeness"] - rows["lower"], rows["upper"] - rows["completeness"]
    panel.errorbar(
        rows["surface_brightness"],
        rows["completeness"],
        (below.clip(lower=0), above.clip(lower=0)),
        capsize=2,
        elinewidth=0.9,
        label=name,
        **style,
    )
