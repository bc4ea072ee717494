"""Panels, line styles and legends that the figures of an evaluation share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tidalkin.atomic import atomic_path

# Okabe & Ito's colours, told apart by colour-blind people, and a line and a marker each, told apart in print.
STYLES = (
    ("#0072B2", "-", "o"),
    ("#D55E00", "--", "s"),
    ("#009E73", "-.", "^"),
    ("#CC79A7", ":", "D"),
    ("#E69F00", (0, (5, 1, 1, 1, 1, 1)), "v"),
    ("#56B4E9", (0, (3, 1)), "P"),
)


def line_style(names: Sequence[str], name: str) -> dict[str, Any]:
    """Return the colour, line and marker of one of several curves.

    Examples
    --------
    >>> style = line_style(["encoder", "pca"], "pca")
    >>> style["color"], style["linestyle"], style["marker"]
    ('#D55E00', '--', 's')
    """
    color, line, marker = STYLES[list(names).index(name) % len(STYLES)]
    return {"color": color, "linestyle": line, "marker": marker, "markersize": 4, "linewidth": 1.6}


def new_figure(columns: int, share_y: bool = False) -> tuple[Figure, list[Axes]]:
    """Make a figure with panels side by side.

    Examples
    --------
    >>> figure, panels = new_figure(3, share_y=True)
    >>> len(panels), figure.get_size_inches().round(1).tolist()
    (3, [15.6, 4.8])
    """
    # A Figure of its own, not pyplot: nothing global, and no display.
    figure = Figure(figsize=(5.2 * columns, 4.8), dpi=150, layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False, sharey=share_y)[0]
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25, linewidth=0.6)
    return figure, list(axes)


def legend_below(figure: Figure, panel: Axes, columns: int) -> None:
    """Draw the legend of a panel below the axes, where it covers no curve.

    Examples
    --------
    >>> figure, (panel,) = new_figure(1)
    >>> _ = panel.plot([0, 1], [0, 1], label="chance")
    >>> legend_below(figure, panel, columns=2)
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['chance']
    """
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; equal figures give equal files.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first, second = (Path(folder) / name for name in ("first.png", "second.png"))
    ...     for path in (first, second):
    ...         save_figure(Figure(figsize=(1, 1)), path)
    ...     first.read_bytes() == second.read_bytes()
    True
    """
    # The file does not name matplotlib's version.
    with atomic_path(path) as partial:
        figure.savefig(partial, metadata={"Software": None})
