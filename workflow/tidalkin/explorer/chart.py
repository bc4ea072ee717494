"""The map of a run for the page: points, colours, a density picture and selections."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.path import Path as Outline
from PIL import Image

from tidalkin.errors import TidalkinError
from tidalkin.explorer.order import highest_first
from tidalkin.explorer.survey import Survey
from tidalkin.index.vectors import Rows
from tidalkin.search.objects import open_parquet

MOST_DRAWN = 2_000_000
DENSITY_SIZE = (600, 800)
COLOUR_MAP = "viridis"
DOTS = ((20_000, 5, 0.7), (200_000, 3, 0.5), (sys.maxsize, 1, 0.35))
"""Up to a number of galaxies: the side of a dot in pixels, and its brightness where the fullest pixel has 1."""
EDGE_PERCENTILES = (1, 99)

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class Chart:
    """The map of a survey.

    Parameters
    ----------
    survey : Survey
        The run.
    """

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self.file: Path = survey.path / "map.parquet"

    @property
    def exists(self) -> bool:
        """Whether the run has a map."""
        return self.file.exists()

    @cached_property
    def _placed(self) -> tuple[Rows, Floats, Floats]:
        """The catalog rows on the map, and their x and y."""
        with open_parquet(self.file, "map") as file:
            table = file.read()
        rows = self._survey.rows_of(np.asarray(table["object_id"], np.int64))
        return rows, np.asarray(table["x"], np.float32), np.asarray(table["y"], np.float32)

    @cached_property
    def _drawn(self) -> Rows:
        """The points that are drawn: all, or a random part of many."""
        n = len(self._placed[0])
        if n <= MOST_DRAWN:
            return np.arange(n)
        return np.sort(np.random.default_rng(1).choice(n, MOST_DRAWN, replace=False))

    def points(self) -> bytes:
        """Return x and y of the drawn points, as pairs of little-endian 16-bit integers."""
        _, x, y = self._placed
        places = np.column_stack([x[self._drawn], y[self._drawn]])
        return (places * 65535).round().astype("<u2").tobytes()

    @property
    def colour_names(self) -> list[str]:
        """The names of what points can be coloured by."""
        scores = ["debris score"] if self._survey.has_scores else []
        labels = ["label"] if self._survey.has_labels else []
        return [*scores, *labels, *self._survey.columns]

    def colours(self, name: str) -> bytes:
        """Return one byte for each drawn point: 0 where unknown, else 1 to 255.

        Raises
        ------
        TidalkinError
            If there is no such column.
        """
        return self._shades(name, self._placed[0][self._drawn]).tobytes()

    def _shades(self, name: str, rows: Rows) -> Bytes:
        if name == "label":
            labels = sorted({label for label in self._survey.labels if label})
            shade = {label: 1 + 254 * place // max(len(labels) - 1, 1) for place, label in enumerate(labels)}
            return np.array([shade.get(self._survey.labels[row], 0) for row in rows.tolist()], np.uint8)
        values = self._survey.score[rows] if name == "debris score" else self._survey.column(name)[rows]
        known = np.isfinite(values)
        if not known.any():
            return np.zeros(len(rows), np.uint8)
        low, high = np.percentile(values[known], EDGE_PERCENTILES)
        share = ((values - low) / max(float(high - low), np.finfo(np.float32).tiny)).clip(0, 1)
        return np.where(known, 1 + 254 * np.nan_to_num(share), 0).astype(np.uint8)

    def density(self, name: str) -> bytes:
        """Draw the density of galaxies, coloured by a column's mean, as PNG.

        A galaxy is a dot, larger where there are few galaxies.
        """
        rows, x, y = self._placed
        shades = self._shades(name, rows).astype(np.float64)
        height, width = DENSITY_SIZE
        dot, dimmest = next((dot, dimmest) for most, dot, dimmest in DOTS if len(rows) <= most)
        side = np.arange(dot) - dot // 2
        pixel_x = ((x * (width - 1)).astype(int)[:, None, None] + side).clip(0, width - 1)
        pixel_y = ((y * (height - 1)).astype(int)[:, None, None] + side[:, None]).clip(0, height - 1)
        cell = (pixel_y * width + pixel_x).ravel()
        count = np.bincount(cell, minlength=height * width)
        mean = np.bincount(cell, shades.repeat(dot**2), height * width) / np.maximum(count, 1)
        bright = np.where(count > 0, dimmest + (1 - dimmest) * np.log1p(count) / np.log1p(max(count.max(), 2)), 0)
        colours = colormaps[COLOUR_MAP](mean / 255)[:, :3] * bright.clip(0, 1)[:, None]
        picture = (255 * colours).round().astype(np.uint8).reshape(height, width, 3)[::-1]
        with io.BytesIO() as buffer:
            Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG")
            return buffer.getvalue()

    def inside(self, polygon: Sequence[float]) -> Rows:
        """Return the catalog rows inside a polygon, the highest debris score first.

        Parameters
        ----------
        polygon : sequence of float
            x and y of the corners, in turn, from 0 to 1.

        Raises
        ------
        TidalkinError
            If it has fewer than three corners.
        """
        if len(polygon) < 6 or len(polygon) % 2:
            raise TidalkinError("the selection has fewer than three corners: draw around some galaxies")
        corners = np.reshape(polygon, (-1, 2))
        rows, x, y = self._placed
        (left, low), (right, high) = corners.min(axis=0), corners.max(axis=0)
        near = np.flatnonzero((x >= left) & (x <= right) & (y >= low) & (y <= high))
        is_inside = Outline(corners).contains_points(np.column_stack([x[near], y[near]]))
        chosen = rows[near[is_inside]]
        return chosen[highest_first(self._survey.score[chosen])]

    def nearest(self, x: float, y: float) -> int:
        """Return the catalog row nearest to a place of the map."""
        rows, every_x, every_y = self._placed
        return int(rows[np.argmin((every_x - np.float32(x)) ** 2 + (every_y - np.float32(y)) ** 2)])
