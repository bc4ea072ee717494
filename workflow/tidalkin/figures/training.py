"""Draw views of a galaxy, as in training, and the history of the training.

Results of a search are drawn in `tidalkin.figures.mosaic`, the evaluation in `tidalkin.figures.evaluation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tidalkin import __version__
from tidalkin.atomic import atomic_path
from tidalkin.config import Augment, Stretch
from tidalkin.errors import TidalkinError
from tidalkin.images.crop import central_crop
from tidalkin.images.store import ImageStore, Shard
from tidalkin.model.augment import Views
from tidalkin.model.stretch import band_sigma
from tidalkin.model.stretch import stretch as stretched
from tidalkin.seeds import derived_seed

N_VIEWS = 16

HISTORY_PANELS = {
    "loss": "SimSiam loss",
    "injection_loss": "loss: was light injected?",
    "map_loss": "loss: where was light injected?",
    "learning_rate": "learning rate",
    "collapse_std": "collapse monitor: std × √dim",
    "images_per_second": "images per second",
}
"""Columns of the training history and how their axes are called."""


def _save(figure: Figure, path: str | Path) -> None:
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110, metadata={"Software": f"tidalkin {__version__}"})


# --- views -------------------------------------------------------------------------------------------------------


def _telling_galaxy(shard: Shard, crop: int) -> int:
    """Choose a galaxy that is whole and larger than nine tenths of the others.

    Not the very largest: in a real survey that is a bright star.
    """
    whole = np.nan_to_num(shard.good_fraction).min(axis=1)
    rows = np.flatnonzero(whole >= min(0.99, whole.max()))
    centre = central_crop(shard.flux[rows], crop)
    significant = (centre > 3 * shard.sky_sigma[rows, :, None, None]).sum(axis=(1, 2, 3))
    return int(rows[np.argsort(significant, kind="stable")[int(0.9 * (len(rows) - 1))]])


def _rgb(network_input: torch.Tensor, bands: Sequence[str], white: float) -> npt.NDArray[np.float32]:
    """Turn network input (band, y, x) into colours (y, x, 3).

    The bands are i, r and g, or the reddest, the middle and the bluest.
    """
    names = list(bands)
    reddest_first = [names.index(name) for name in "irg"] if set("irg") <= set(names) else [-1, len(names) // 2, 0]
    black = -0.5 * white  # so that the sky, at 0, is grey and its noise is seen
    return ((network_input[reddest_first] - black) / (white - black)).clamp(0, 1).permute(1, 2, 0).numpy()


def _show(panel: Axes, colors: npt.NDArray[np.float32], title: str) -> None:
    panel.imshow(colors, origin="lower", interpolation="nearest")
    panel.set_title(title, fontsize=9, loc="left")
    panel.set_axis_off()


def draw_views(images: str | Path, output: str | Path, *, augment: Augment, stretch: Stretch, seed: int) -> None:
    """Draw one galaxy under sixteen random views, as the network sees them.

    Parameters
    ----------
    images : path
        The image store; the galaxy is taken from its first shard.
    output : path
        The picture: at the top left the galaxy as it is embedded, in the same colours as the views; below it its
        asymmetry, if that is a channel.
    augment : Augment
        How views are made.
    stretch : Stretch
        The stretch to network input.
    seed : int
        The configuration's seed.

    Raises
    ------
    TidalkinError
        If the store is missing or has no good image in some band.

    Examples
    --------
    >>> from tidalkin import open_run
    >>> settings = open_run("results/demo").settings
    >>> sections = {"augment": settings.augment, "stretch": settings.stretch}
    >>> draw_views("results/demo/images.zarr", "views.png", seed=1, **sections)
    >>> Path("views.png").exists()
    True
    """
    store = ImageStore.open(images)
    sigma = torch.from_numpy(band_sigma(store))
    bands = list(store.bands)
    shard = store.read(0)
    row = _telling_galaxy(shard, augment.crop)
    galaxy = [torch.from_numpy(values[row]) for values in (shard.flux, shard.sky_sigma, shard.psf_fwhm)]
    generator = torch.Generator().manual_seed(derived_seed(seed, "views"))
    make_views = Views(augment, stretch, sigma, bands, generator)
    views = make_views(*(values.expand(N_VIEWS, *values.shape) for values in galaxy))
    original = stretched(galaxy[0], sigma, stretch)
    white = max(1.0, float(original.quantile(0.998)))

    figure = Figure(figsize=(12.5, 10.4), layout="constrained")
    grid = figure.add_gridspec(4, 5)
    ranges = "\n".join(f"{name}: {value}" for name, value in augment.model_dump().items())
    averaged = f", {stretch.bin} by {stretch.bin} pixels averaged" if stretch.bin > 1 else ""
    _show(figure.add_subplot(grid[0, 0]), _rgb(original, bands, white), f"galaxy {shard.object_id[row]}{averaged}")
    if stretch.asymmetry:
        limit = float(original[-1].abs().quantile(0.998))
        gray = ((original[-1] / limit).clamp(-1, 1) + 1) / 2
        _show(figure.add_subplot(grid[1, 0]), gray.expand(3, -1, -1).permute(1, 2, 0).numpy(), "its asymmetry")
    text = figure.add_subplot(grid[1 + stretch.asymmetry :, 0], frameon=False, xticks=[], yticks=[])
    text.text(0, 1, ranges, va="top", fontsize=9)
    for number, view in enumerate(views):
        panel = figure.add_subplot(grid[number // 4, 1 + number % 4])
        _show(panel, _rgb(view, bands, white), f"view {number + 1}")
    _save(figure, output)


# --- history -----------------------------------------------------------------------------------------------------


def draw_history(history: str | Path, output: str | Path) -> None:
    r"""Draw how training went: loss, learning rate, collapse monitor and speed, by epoch.

    Parameters
    ----------
    history : path
        The training history, CSV: ``epoch`` and the columns of `HISTORY_PANELS`.
    output : path
        The picture.

    Raises
    ------
    TidalkinError
        If the table lacks a column or has no row.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     history = Path(folder) / "history.csv"
    ...     _ = history.write_text("epoch,loss\n1,-0.8\n")
    ...     draw_history(history, Path(folder) / "history.png")
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: ...history.csv: is not a training history, it has no column ...: train again
    """
    table = pd.read_csv(history)
    if missing := {"epoch", *HISTORY_PANELS} - set(table.columns):
        raise TidalkinError(f"{history}: is not a training history, it has no column `{min(missing)}`: train again")
    if table.empty:
        raise TidalkinError(f"{history}: holds no epoch yet: let at least one finish")
    figure = Figure(figsize=(14, 6.5), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True)
    by_column = dict(zip(HISTORY_PANELS, panels.flat, strict=True))
    for column, panel in by_column.items():
        panel.plot(table["epoch"], table[column], marker=".", color="C0")
        panel.set_ylabel(HISTORY_PANELS[column])
        panel.grid(alpha=0.3)
    monitor = by_column["collapse_std"]
    monitor.axhspan(0.9, 1.1, color="C2", alpha=0.15)
    monitor.set_ylim(0, 1.15)
    monitor.annotate("no collapse", (0.02, 0.90), xycoords="axes fraction", fontsize=8, color="C2")
    monitor.annotate("collapsed", (0.02, 0.02), xycoords="axes fraction", fontsize=8, color="C3")
    by_column["images_per_second"].set_ylim(0, 1.1 * table["images_per_second"].max())
    for panel in panels[1]:
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    _save(figure, output)
