"""Picture of the completeness by injection and recovery."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from tidalkin.figures.panels import line_style, new_figure, save_figure

HALF_COLOR = "0.45"
SHARE_OF_GROUPS = 0.05


def draw_completeness(table: pd.DataFrame, limits: pd.DataFrame, path: Path) -> None:
    """Draw completeness against surface brightness.

    The panels show all features within parts of the survey, and kinds and radii within the first 5 %.

    Parameters
    ----------
    table : DataFrame
        ``table`` of `tidalkin.evaluation.completeness.Completeness`.
    limits : DataFrame
        Its ``limits``, one row each.
    path : Path
        The picture.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = {"share": 0.05, "by": ["all", "kind", "radius"], "group": ["all", "shell", "under 3 arcsec"]}
    >>> rows |= {"surface_brightness": 26.0, "completeness": 0.5, "lower": 0.4, "upper": 0.6}
    >>> limits = pd.DataFrame({"by": ["all"], "surface_brightness": [26.0]})
    >>> draw_completeness(pd.DataFrame(rows), limits, Path("completeness.png"))
    >>> Path("completeness.png").exists()
    True
    """
    figure, panels = new_figure(3, share_y=True)
    every, groups = table[table["by"] == "all"], table[table["share"] == SHARE_OF_GROUPS]
    parts = every.assign(name=[f"first {100 * share:g} %" for share in every["share"]])
    kinds = groups[groups["by"] == "kind"]
    radii = groups[groups["by"] == "radius"]
    _draw_curves(panels[0], parts)
    _draw_curves(panels[1], kinds.assign(name=kinds["group"] + "s"))
    _draw_curves(panels[2], radii.assign(name=radii["group"]))
    of_all = limits[limits["by"] == "all"].dropna(subset="surface_brightness")
    for limit in of_all["surface_brightness"]:
        panels[0].plot(limit, 0.5, marker="|", markersize=16, color=HALF_COLOR)
        panels[0].annotate(
            f"{limit:.1f}", (limit, 0.5), xytext=(4, 5), textcoords="offset points", fontsize=8, color=HALF_COLOR
        )
    within = f"within the first {100 * SHARE_OF_GROUPS:g} %"
    panels[0].set_title("All features, within the first part of the ranking", fontsize=10)
    panels[1].set_title(f"By kind, {within}", fontsize=10)
    panels[2].set_title(f"By mean distance from the centre, {within}", fontsize=10)
    panels[0].set_ylabel("fraction of injected features recovered")
    for panel in panels:
        panel.axhline(0.5, color=HALF_COLOR, linestyle=(0, (1, 3)))
        panel.set(xlabel="surface brightness in i, mag/arcsec²", ylim=(-0.02, 1.02))
        panel.legend(frameon=False, fontsize=8, loc="upper right")
    save_figure(figure, path)


def _draw_curves(panel: Axes, rows: pd.DataFrame) -> None:
    """Draw one curve for each name, with binomial intervals."""
    names = list(rows["name"].unique())
    for name in names:
        curve = rows[rows["name"] == name]
        below, above = curve["completeness"] - curve["lower"], curve["upper"] - curve["completeness"]
        panel.errorbar(
            curve["surface_brightness"],
            curve["completeness"],
            (below.clip(lower=0), above.clip(lower=0)),  # rounding may put a bound of 0 or 1 on the wrong side
            capsize=2,
            elinewidth=0.9,
            label=name,
            **line_style(names, name),
        )
