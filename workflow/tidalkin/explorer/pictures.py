"""Pictures for the page: sheets of thumbnails, large images and debris maps."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import binary_erosion, zoom

from tidalkin.errors import TidalkinError
from tidalkin.explorer.single_images import SingleImages
from tidalkin.explorer.survey import Survey
from tidalkin.figures.mosaic import CONTOUR_COLORS, CONTOUR_LEVELS, SOFTENING_SIGMA, rgb
from tidalkin.index.vectors import Rows
from tidalkin.search.debris import maps_of
from tidalkin.search.outside import OutsideGalaxy

logger = logging.getLogger(__name__)

SHEET_COLUMNS = 8
IMAGES_KEPT = 2048
SHARDS_KEPT = 128
"""Shards whose noise is kept."""
JPEG_QUALITY = 92
THREADS = 2
LINE_ALPHA, FILL_ALPHA = 235, 30
MAP_ZOOM = 2
"""Pixels of the overlay for each pixel of the image."""
CROSS_BRIGHTNESS = 70
"""Of the cross in place of an image that cannot be read."""


@dataclass(frozen=True)
class Picture:
    """A picture for the page."""

    content: bytes
    """A JPEG or PNG."""
    is_whole: bool = True
    """Whether all images could be read; a cross is drawn in place of the others."""


class Pictures:
    """Pictures of the galaxies of a survey.

    Parameters
    ----------
    survey : Survey
        The run.
    """

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._images = SingleImages(survey.store)
        self._sky_sigma = lru_cache(SHARDS_KEPT)(self._read_sky_sigma)
        self._read = lru_cache(IMAGES_KEPT)(self._read_image)
        self._pool = ThreadPoolExecutor(THREADS)
        self.size = survey.store.size

    @property
    def has_maps(self) -> bool:
        """Whether the run has debris maps."""
        return bool(self._shards)

    @property
    def _shards(self) -> list[Path]:
        """Name the shards of the index that have maps.

        A catalog that shrank leaves files of other shards behind.
        """
        shards = [self._survey.files.embeddings / shard for shard in self._survey.index.report.shards]
        return [shard for shard in shards if shard.with_suffix(".debris_map.npy").exists()]

    def _read_image(self, row: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        shard, place = divmod(row, self._survey.store.shard_size)
        return self._images.read(row), self._sky_sigma(shard)[place]

    def _read_sky_sigma(self, shard: int) -> npt.NDArray[np.float32]:
        store = self._survey.store
        return np.asarray(store.sky_sigma[store.rows_of(shard)])

    def picture(self, row: int, bands: Sequence[str], stretch: float) -> npt.NDArray[np.uint8]:
        """Draw one galaxy, (y, x, 3), north up.

        Parameters
        ----------
        row : int
            Row of the store.
        bands : sequence of str
            Bands for red, green and blue, or one for grey; all of the store's for the usual composite.
        stretch : float
            Factor on the brightness of faint light; 1 is that of the mosaics.

        Raises
        ------
        TidalkinError
            If a band is not in the store.
        """
        flux, sigma = self._read(row)
        return self.compose(flux, sigma, bands, stretch)

    def compose(
        self, flux: npt.NDArray[np.float32], sigma: npt.NDArray[np.float32], bands: Sequence[str], stretch: float
    ) -> npt.NDArray[np.uint8]:
        """Draw an image (band, y, x) as `picture` does."""
        self._check_bands(bands)
        known = self._survey.store.bands
        chosen = [known.index(band) for band in bands or known]
        picture = rgb(flux[chosen], sigma[chosen], bands or known, softening_sigma=SOFTENING_SIGMA / stretch)
        return np.ascontiguousarray((255 * picture[::-1]).round().astype(np.uint8))

    def _check_bands(self, bands: Sequence[str]) -> None:
        known = self._survey.store.bands
        unknown = [band for band in bands if band not in known]
        if unknown:
            raise TidalkinError(
                f"band {unknown[0]!r} is not among the run's bands {', '.join(known)}: name one of them"
            )

    def sheet(self, rows: Rows, bands: Sequence[str], stretch: float) -> Picture:
        """Draw galaxies side by side on one sheet, as JPEG.

        The sheet has `SHEET_COLUMNS` columns; the first galaxy is at the top left. A lost or damaged image does not
        hide the others.

        Raises
        ------
        TidalkinError
            If a band is not in the store.
        """
        self._check_bands(bands)
        drawn = list(self._pool.map(lambda row: self._thumbnail(row, bands, stretch), rows.tolist()))
        faults = [fault for _, fault in drawn if fault]
        if faults:
            logger.warning("%d of %d images cannot be read. The first: %s", len(faults), len(rows), faults[0])
        sheet = _on_sheet([picture for picture, _ in drawn], self.size, 3)
        return Picture(_encode(sheet, "JPEG", quality=JPEG_QUALITY, subsampling=0), is_whole=not faults)

    def _thumbnail(self, row: int, bands: Sequence[str], stretch: float) -> tuple[npt.NDArray[np.uint8], str]:
        """Draw one galaxy, or a cross and the reason if its image cannot be read."""
        try:
            return self.picture(row, bands, stretch), ""
        except TidalkinError as error:
            return _cross(self.size), str(error)

    def map_sheet(self, rows: Rows) -> bytes:
        """Draw the debris maps of galaxies on one transparent sheet, as PNG.

        Its cells are `MAP_ZOOM` times as large as those of `sheet`.
        """
        maps = self._maps(rows)
        side = self.size * MAP_ZOOM
        drawn = [_contours(debris_map, side) for debris_map in maps]
        return _encode(_on_sheet(drawn, side, 4), "PNG", compress_level=1)

    def _maps(self, rows: Rows) -> list[npt.NDArray[np.float32] | None]:
        """Read the debris maps of galaxies; None where there is none."""
        wanted = self._survey.ids[rows].tolist()
        maps, ids = ([shard.with_suffix(end) for shard in self._shards] for end in (".debris_map.npy", ".ids.npy"))
        found = maps_of(wanted, maps, ids)
        return [found.get(object_id) for object_id in wanted]

    def large(self, row: int, bands: Sequence[str], stretch: float) -> bytes:
        """Draw one galaxy as PNG."""
        return _encode(self.picture(row, bands, stretch), "PNG", compress_level=1)

    def uploaded(self, galaxy: OutsideGalaxy, bands: Sequence[str], stretch: float) -> bytes:
        """Draw a galaxy that is not in the catalog as PNG."""
        return _encode(self.compose(galaxy.flux, galaxy.sky_sigma, bands, stretch), "PNG", compress_level=1)


def _on_sheet(pictures: Sequence[npt.NDArray[np.uint8]], side: int, channels: int) -> npt.NDArray[np.uint8]:
    """Arrange square pictures in rows of `SHEET_COLUMNS`."""
    n_rows = max(1, -(-len(pictures) // SHEET_COLUMNS))
    sheet = np.zeros((n_rows * side, SHEET_COLUMNS * side, channels), np.uint8)
    for number, picture in enumerate(pictures):
        y, x = divmod(number, SHEET_COLUMNS)
        sheet[y * side : (y + 1) * side, x * side : (x + 1) * side] = picture
    return sheet


def _cross(side: int) -> npt.NDArray[np.uint8]:
    """Draw a cross in place of an image, (y, x, 3)."""
    line = np.eye(side, dtype=bool)
    return np.repeat(np.where(line | line[::-1], CROSS_BRIGHTNESS, 0).astype(np.uint8)[..., None], 3, axis=2)


def _contours(debris_map: npt.NDArray[np.float32] | None, side: int) -> npt.NDArray[np.uint8]:
    """Outline where the encoder sees faint light, (y, x, 4), north up."""
    drawn = np.zeros((side, side, 4), np.uint8)
    if debris_map is None:
        return drawn
    share = 1 / (1 + np.exp(-debris_map.astype(np.float64)))
    fine = zoom(share, side / len(share), order=1, grid_mode=True, mode="nearest")[::-1]
    for level, colour in zip(CONTOUR_LEVELS, CONTOUR_COLORS, strict=True):
        inside = fine > level
        line = inside & ~binary_erosion(inside, border_value=1)
        red_green_blue = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        drawn[inside] = [*red_green_blue, FILL_ALPHA]
        drawn[line] = [*red_green_blue, LINE_ALPHA]
    return drawn


def _encode(picture: npt.NDArray[np.uint8], kind: str, **options: int) -> bytes:
    with io.BytesIO() as buffer:
        Image.fromarray(picture).save(buffer, kind, **options)
        return buffer.getvalue()
