"""Galaxies as pictures: colour composites of three bands, and mosaics of look-alikes.

Curves are drawn elsewhere (`tidalkin.figures.training`, `tidalkin.figures.evaluation`). Nothing here knows files of
the pipeline: arrays come in, pictures go out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter, zoom

from tidalkin.atomic import atomic_path
from tidalkin.constants import MAD_TO_SIGMA

RGB_BANDS = ("i", "r", "g")
WAVELENGTH_ORDER = "grizy"

# In units of the sky noise, root mean square over the three bands. One sigma of HSC Wide's i band is near 25.8
# mag/arcsec^2: tidal light is at the softening, cores of luminous galaxies are near white.
SOFTENING_SIGMA = 0.8
WHITE_SIGMA = 300.0
SKY_GREY = 0.12
SMOOTHING_PIXELS = 1.3  # tidal light is smooth at this scale, noise is not
SMOOTHING_SIGMAS = (0, SMOOTHING_PIXELS, SMOOTHING_PIXELS)
SMOOTHED_BELOW_SIGMA = 8.0

# Flux densities are weighted so that a galaxy of mean colour (g-r 0.65, r-i 0.3, i-z 0.2, z-y 0.1) is nearly white.
COLOUR_WEIGHTS = {"g": 2.2, "r": 1.25, "i": 1.0, "z": 0.83, "y": 0.76}


BACKGROUND, INK, FAINT_INK = "#101418", "#f2f2f2", "#9aa4ae"
# Two of the colours of IBM's palette that colour-blind people can tell apart.
FRAMES = {
    "example": "#ffb000",
    "counter-example": "#fe6100",
    "answer": "#3a424a",
}
COLUMNS = 6
PANEL_INCHES, CAPTION_INCHES, TITLE_INCHES, GAP_INCHES = 1.9, 0.46, 0.75, 0.12
DPI = 110
CONTOUR_LEVELS, CONTOUR_COLORS = (0.3, 0.6), ("#648fff", "#ffb000")  # share of the map's target, t / (1 + t)
CONTOUR_ZOOM = 8

Floats = npt.NDArray[np.float32]
Picture = npt.NDArray[np.float64]


def rgb(flux: Floats, sky_sigma: Floats, bands: Sequence[str], *, softening_sigma: float = SOFTENING_SIGMA) -> Picture:
    """Make a colour composite that shows faint tidal light and the colour of cores.

    The intensity is stretched by arcsinh and the colour kept, after Lupton et al. 2004, PASP 116, 133.

    Parameters
    ----------
    flux : (band, y, x) float32
        Nanojansky, NaN where missing.
    sky_sigma : (band,) float32
        Sky noise of one pixel, nJy; where not known, taken from the pixels.
    bands : sequence of str
        Names of the bands. Red, green and blue are i, r and g where there are these; else the reddest, a middle and
        the bluest of the bands with any pixel. One band gives grey, and two share the green.
    softening_sigma : float
        Light below this is shown linearly, in units of the sky noise: a smaller value brightens faint light.

    Returns
    -------
    (y, x, 3) float64
        In 0 to 1, row 0 at the bottom as in the image. Pixels missing in all three bands are hatched grey.

    Examples
    --------
    >>> flux = np.full((3, 8, 8), 50.0, np.float32)
    >>> flux[2] *= 3  # i is shown in red
    >>> picture = rgb(flux, np.ones(3, np.float32), ["g", "r", "i"])
    >>> picture.shape, picture[0, 0].round(2).tolist()
    ((8, 8, 3), [1.0, 0.48, 0.76])
    """
    channels = _channels(flux, bands)
    if not channels:
        return _hatched(np.zeros((*flux.shape[1:], 3)), np.ones(flux.shape[1:], bool))
    weights = np.array([COLOUR_WEIGHTS.get(bands[band], 1.0) for band in channels])
    noise = [_noise(flux[band], sky_sigma[band]) for band in channels]
    unit = float(np.sqrt(np.mean(np.square(weights * noise))))
    signal = _smoothed_where_faint(np.stack([flux[band] for band in channels]) * (weights / unit)[:, None, None])
    missing = np.asarray(np.isnan(signal).all(axis=0))
    intensity = _mean_of_known(signal)
    signal = np.where(np.isnan(signal), intensity, signal)
    if len(signal) == 2:
        signal = np.stack([signal[0], intensity, signal[1]])
    # arcsinh(I/s)/I has a limit at I = 0, so that the sky is linear and keeps the sign of its noise.
    scaled = np.maximum(np.abs(intensity), 1e-3) / softening_sigma
    gain = np.arcsinh(scaled) / scaled / np.arcsinh(WHITE_SIGMA / softening_sigma)
    picture = np.moveaxis(np.broadcast_to(signal, (3, *intensity.shape)), 0, -1) * gain[..., None] / softening_sigma
    picture = np.clip(SKY_GREY + (1 - SKY_GREY) * picture, 0, None)
    # What is too bright in one channel is dimmed in all, and so keeps its colour.
    return _hatched(picture / np.maximum(picture.max(axis=-1, keepdims=True), 1), missing)


def _channels(flux: Floats, bands: Sequence[str]) -> list[int]:
    """Choose the bands for red, green and blue among those that have pixels."""
    known = [band for band, image in zip(bands, flux, strict=True) if np.isfinite(image).any()]
    if set(RGB_BANDS) <= set(known):
        return [bands.index(band) for band in RGB_BANDS]
    reddest_first = sorted(known, key=WAVELENGTH_ORDER.find, reverse=True)
    if len(reddest_first) > 3:
        reddest_first = [reddest_first[0], reddest_first[len(reddest_first) // 2], reddest_first[-1]]
    return [bands.index(band) for band in reddest_first]


def _noise(flux: Floats, sky_sigma: float) -> float:
    """Return the sky noise, or the scatter of the pixels if it is not known."""
    if np.isfinite(sky_sigma) and sky_sigma > 0:
        return float(sky_sigma)
    scatter = MAD_TO_SIGMA * float(np.nanmedian(np.abs(flux - np.nanmedian(flux))))
    return scatter if scatter > 0 else 1.0


def _smoothed_where_faint(signal: Picture) -> Picture:
    """Smooth images (channel, y, x) where they are not far above the noise.

    Missing pixels stay missing and do not spread.
    """
    known = np.isfinite(signal)
    filled = np.where(known, signal, 0.0)
    smooth = gaussian_filter(filled, SMOOTHING_SIGMAS)
    if not known.all():
        smooth /= np.maximum(gaussian_filter(known.astype(np.float64), SMOOTHING_SIGMAS), 1e-6)
    sharp = np.clip(smooth / SMOOTHED_BELOW_SIGMA, 0, 1)
    return np.where(known, sharp * filled + (1 - sharp) * smooth, np.nan)


def _mean_of_known(signal: Picture) -> Picture:
    """Average the channels that have the pixel; 0 where none has."""
    known = np.isfinite(signal)
    mean: Picture = np.where(known, signal, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return mean


def _hatched(picture: Picture, missing: npt.NDArray[np.bool_]) -> Picture:
    """Draw diagonal grey stripes where there is no image."""
    if not missing.any():
        return picture
    y, x = np.indices(missing.shape)
    stripes = np.where((x + y) % 8 < 2, 0.36, 0.22)
    return np.where(missing[..., None], stripes[..., None], picture)


# --- mosaics -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """One galaxy of a mosaic."""

    picture: Picture
    """(y, x, 3), 0 to 1."""
    heading: str
    caption: str = ""
    role: Literal["example", "counter-example", "answer"] = "answer"
    debris_map: Floats | None = None
    """(cell, cell) logits of faint light, drawn as contours."""


def mosaic_figure(panels: Sequence[Panel], *, title: str, subtitle: str) -> Figure:
    """Draw galaxies in rows, with those of the query framed in colour.

    Parameters
    ----------
    panels : sequence of Panel
        In drawing order from the top left. The neighbours begin a new row.
    title, subtitle : str
        Two lines above.

    Returns
    -------
    matplotlib.figure.Figure
        Not known to pyplot, so that nothing has to close it.

    Examples
    --------
    >>> grey = np.full((8, 8, 3), 0.5)
    >>> panels = [Panel(grey, "galaxy 42", role="example"), Panel(grey, "galaxy 7", "0.91")]
    >>> figure = mosaic_figure(panels, title="Most similar", subtitle="1 of 500 galaxies")
    >>> [text.get_text() for text in figure.texts][:2]
    ['Most similar', '1 of 500 galaxies']
    """
    asked = [panel for panel in panels if panel.role != "answer"]
    answers = [panel for panel in panels if panel.role == "answer"]
    rows = [group[start : start + COLUMNS] for group in (asked, answers) for start in range(0, len(group), COLUMNS)]
    width = COLUMNS * (PANEL_INCHES + GAP_INCHES) + GAP_INCHES
    height = TITLE_INCHES + len(rows) * (PANEL_INCHES + CAPTION_INCHES) + GAP_INCHES
    figure = Figure(figsize=(width, height), facecolor=BACKGROUND, dpi=DPI)
    FigureCanvasAgg(figure)
    figure.text(GAP_INCHES / width, 1 - 0.30 / height, title, color=INK, fontsize=15, fontweight="bold", va="center")
    figure.text(GAP_INCHES / width, 1 - 0.57 / height, subtitle, color=FAINT_INK, fontsize=10, va="center")
    for row, group in enumerate(rows):
        top = height - TITLE_INCHES - row * (PANEL_INCHES + CAPTION_INCHES)
        for column, panel in enumerate(group):
            left = GAP_INCHES + column * (PANEL_INCHES + GAP_INCHES)
            _draw_panel(figure, panel, left, top, width, height)
    return figure


def draw_mosaic(
    panels: Sequence[Panel], path: str | Path, *, title: str, subtitle: str, made_by: Mapping[str, str]
) -> None:
    """Write a mosaic as PNG.

    Parameters
    ----------
    panels, title, subtitle
        As of `mosaic_figure`.
    path : path
        The PNG to write.
    made_by : mapping of str to str
        Text for the PNG's metadata.

    Examples
    --------
    >>> panels = [Panel(np.zeros((32, 32, 3)), "1   42", "0.951   shell")]
    >>> made_by = {"Software": "tidalkin"}
    >>> draw_mosaic(panels, "mosaic.png", title="Galaxies like 7", subtitle="1 of 60 galaxies", made_by=made_by)
    >>> Path("mosaic.png").exists()
    True
    """
    figure = mosaic_figure(panels, title=title, subtitle=subtitle)
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=DPI, facecolor=BACKGROUND, metadata=dict(made_by))


def _draw_panel(figure: Figure, panel: Panel, left: float, top: float, width: float, height: float) -> None:
    """Draw one galaxy with its lines of text, at a place in inches."""
    box = (left / width, (top - PANEL_INCHES) / height, PANEL_INCHES / width, PANEL_INCHES / height)
    axes = figure.add_axes(box)
    axes.imshow(panel.picture, origin="lower", interpolation="nearest")
    if panel.debris_map is not None:
        _draw_contours(axes, panel.debris_map, panel.picture.shape[0])
    axes.set(xticks=[], yticks=[])
    asked = panel.role != "answer"
    for spine in axes.spines.values():
        spine.set(color=FRAMES[panel.role], linewidth=3.5 if asked else 1)
    text_top = (top - PANEL_INCHES - 0.12) / height
    color = FRAMES[panel.role] if asked else INK
    figure.text(left / width, text_top, panel.heading, color=color, fontsize=9, fontweight="bold", va="center")
    figure.text(left / width, text_top - 0.16 / height, panel.caption, color=FAINT_INK, fontsize=8, va="center")


def _draw_contours(axes: Axes, debris_map: Floats, size: int) -> None:
    """Outline where the encoder sees faint light, on a picture of ``size`` pixels."""
    cells = len(debris_map)
    fine = zoom(1 / (1 + np.exp(-debris_map.astype(np.float64))), CONTOUR_ZOOM, order=1, grid_mode=True, mode="nearest")
    pixel = (np.arange(cells * CONTOUR_ZOOM) + 0.5) * (size / (cells * CONTOUR_ZOOM)) - 0.5
    if fine.max() > CONTOUR_LEVELS[0]:
        axes.contour(pixel, pixel, fine, levels=CONTOUR_LEVELS, colors=CONTOUR_COLORS, linewidths=0.9, alpha=0.9)
    axes.set(xlim=(-0.5, size - 0.5), ylim=(-0.5, size - 0.5))
