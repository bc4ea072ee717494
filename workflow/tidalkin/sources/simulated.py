"""The simulated survey, at the depth and seeing of HSC-SSP Wide.

It makes the files that `hsc_das` downloads, without a network: the same five bands, the same FITS layout, counts with
zero point 27, noise, masks and WCS. Its catalog also holds the truth. The galaxies are in `tidalkin.simulation.galaxy`,
their scenes in `tidalkin.simulation.scene`. Noise, masks and files are here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self, cast

import galsim
import numpy as np
import numpy.typing as npt
import pandas as pd

from tidalkin.config import Band, Cutouts, SimulatedSurvey
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.cutouts.base import Cutout
from tidalkin.cutouts.write import write_cutout
from tidalkin.seeds import derived_seed, generator
from tidalkin.simulation.galaxy import SEEING_ARCSEC, Galaxy, draw_galaxy
from tidalkin.simulation.scene import draw_scene, psf
from tidalkin.simulation.sky import correlated_noise, over_subtracted
from tidalkin.sources.base import SourceContext

FLUXMAG0 = 10 ** (0.4 * 27.0)  # HSC's coadds have the zero point 27: Aihara et al. 2022, PASJ 74, 247
# Planned 5 sigma limits for point sources, Wide layer: Aihara et al. 2018, PASJ 70, S4.
DEPTH = {"g": 26.5, "r": 26.1, "i": 25.9, "z": 25.1, "y": 24.4}
DEPTH_SCATTER = 0.05  # natural logarithm of the noise, object to object
# Dark sky on Mauna Kea, mag/arcsec²: with the depth it tells how many electrons a count is, for the noise of sources.
SKY_BRIGHTNESS = {"g": 22.0, "r": 21.0, "i": 20.0, "z": 19.0, "y": 18.0}
SATURATION_COUNTS = 300.0  # A star of i = 17.5 or so under good seeing.
# Bits as in HSC's own coadds: hscPipe 8.
MASK_PLANES = {
    "BAD": 0,
    "SAT": 1,
    "INTRP": 2,
    "CR": 3,
    "EDGE": 4,
    "DETECTED": 5,
    "DETECTED_NEGATIVE": 6,
    "SUSPECT": 7,
    "NO_DATA": 8,
}
COSMIC_RAYS, BAD_COLUMNS, NO_DATA_EDGES = 0.03, 0.02, 0.01  # share of images that have one

Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.int32]


def simulate_catalog(survey: SimulatedSurvey, seed: int) -> pd.DataFrame:
    """Return the catalog of the simulated survey, with the truth.

    Parameters
    ----------
    survey : SimulatedSurvey
        How many galaxies, and of what kind.
    seed : int
        The run's seed.

    Returns
    -------
    pandas.DataFrame
        One row per galaxy: object_id from 1, ra, dec, label (`none`, `stream`, `shell`, `tail`), the parameters of
        `tidalkin.simulation.galaxy.Galaxy`, and psf_fwhm_g to psf_fwhm_y in arcsec. A survey of more galaxies has the
        same rows and then some.

    Examples
    --------
    >>> catalog = simulate_catalog(SimulatedSurvey(galaxies=3), seed=1)
    >>> catalog[["object_id", "label"]].to_dict("list")
    {'object_id': [1, 2, 3], 'label': ['none', 'none', 'tail']}
    """
    return pd.DataFrame(draw_galaxy(survey, seed, number).row() for number in range(1, survey.galaxies + 1))


@dataclass(frozen=True)
class SimulatedSource:
    """Draws the cutouts that others download."""

    survey: SimulatedSurvey
    size_pixels: int
    seed: int

    @classmethod
    def open(cls, cutouts: Cutouts, context: SourceContext) -> Self:
        """Open the source: see `tidalkin.sources.base.SourceType`."""
        return cls(cutouts.simulated, cutouts.size_pixels, context.seed)

    def fetch(self, objects: pd.DataFrame, bands: Sequence[str]) -> Iterator[Cutout]:
        """Draw each object in each band; only its object_id and position are looked at."""
        # More threads than one lose more time in waiting than they save: a chunk is one job of many.
        galsim.utilities.set_omp_threads(1)
        chosen = cast(Sequence[Band], bands)
        for object_id, ra, dec in zip(objects["object_id"], objects["ra"], objects["dec"], strict=True):
            galaxy = draw_galaxy(self.survey, self.seed, int(object_id))
            offset = self._offset_pixels(galaxy)
            centre = _sky_position(float(ra), float(dec), offset)
            for band, exposure in zip(chosen, self.expose(galaxy, chosen), strict=True):
                content = write_cutout(
                    exposure.image,
                    exposure.mask,
                    exposure.variance,
                    band=band,
                    ra=centre[0],
                    dec=centre[1],
                    fluxmag0=FLUXMAG0,
                    mask_planes=MASK_PLANES,
                    psf_fwhm=galaxy.psf_fwhm[band],
                )
                yield Cutout(galaxy.object_id, band, "ok", content)

    def expose(self, galaxy: Galaxy, bands: Sequence[Band]) -> Iterator[Exposure]:
        """Expose one galaxy in each band, as camera and pipeline do."""
        x, y = self._offset_pixels(galaxy)
        offset = (x * PIXEL_SCALE_ARCSEC, y * PIXEL_SCALE_ARCSEC)
        scene = draw_scene(galaxy, self.survey, self.seed, bands, self.size_pixels, offset) * np.float32(FLUXMAG0)
        for band, model in zip(bands, scene, strict=True):
            seed = derived_seed(self.seed, "simulated", galaxy.object_id, "exposure", band)
            yield _expose(model, band, self.survey, seed)

    def _offset_pixels(self, galaxy: Galaxy) -> tuple[float, float]:
        """Draw the galaxy's offset from the middle of its cutout, in pixels.

        A survey's pixels are independent of the galaxies.
        """
        x, y = generator(self.seed, "simulated", galaxy.object_id, "offset").uniform(-0.5, 0.5, 2)
        return float(x), float(y)


def _sky_position(ra: float, dec: float, offset_pixels: tuple[float, float]) -> tuple[float, float]:
    """Return the position of a cutout's middle, degrees.

    The object is ``offset_pixels`` from it, and east is to the left.
    """
    step = PIXEL_SCALE_ARCSEC / 3600
    return ra + offset_pixels[0] * step / math.cos(math.radians(dec)), dec - offset_pixels[1] * step


# --- noise and mask ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exposure:
    """One band of one object."""

    image: Image
    """(y, x), counts."""
    mask: Mask
    """(y, x), bits of `MASK_PLANES`."""
    variance: Image
    """(y, x), counts²."""


@lru_cache
def point_source_pixels(band: Band) -> float:
    """Return the noise-equivalent area of a point source, 1 / sum(PSF²), pixels.

    At the median seeing.

    Examples
    --------
    >>> round(point_source_pixels("i"), 1)
    40.0
    """
    image = psf(SEEING_ARCSEC[band]).drawImage(nx=65, ny=65, scale=PIXEL_SCALE_ARCSEC, method="no_pixel", dtype=float)
    return float(1 / np.sum(image.array**2))


def sky_sigma(band: Band) -> float:
    """Return the noise of the sky in one pixel, counts.

    A point source of the limiting magnitude then has 5 sigma.

    Examples
    --------
    >>> round(sky_sigma("i"), 3)
    0.087
    """
    limit = FLUXMAG0 * 10 ** (-0.4 * DEPTH[band])
    return float(limit / 5 / math.sqrt(point_source_pixels(band)))


def _expose(model: Image, band: Band, survey: SimulatedSurvey, seed: int) -> Exposure:
    """Add noise and defects to an image, and mark the defects."""
    rng = np.random.default_rng(seed)
    sigma = sky_sigma(band) * rng.lognormal(0.0, DEPTH_SCATTER)
    sky_counts = FLUXMAG0 * 10 ** (-0.4 * SKY_BRIGHTNESS[band]) * PIXEL_SCALE_ARCSEC**2
    variance = (sigma**2 * (1 + np.maximum(model, 0) / sky_counts)).astype(np.float32)
    noise_seed = int(rng.integers(1, 2**31))
    if survey.correlated_noise:
        noise, variance_ratio = correlated_noise(np.sqrt(variance), len(model), np.random.default_rng(noise_seed))
        image = model + noise
        variance *= np.float32(variance_ratio)
    else:
        noisy = galsim.ImageF(model.copy())
        noisy.addNoise(galsim.VariableGaussianNoise(galsim.BaseDeviate(noise_seed), galsim.ImageF(variance)))
        image = noisy.array
    if survey.over_subtraction:
        image -= over_subtracted(model, sigma, survey.over_subtraction, PIXEL_SCALE_ARCSEC)

    mask = np.zeros(model.shape, np.int32)
    # 5 sigma after smoothing with the PSF, as the pipeline detects; for light that is smooth already.
    mask[model > 5 * sigma / math.sqrt(point_source_pixels(band))] |= _bits("DETECTED")
    mask[model > SATURATION_COUNTS] |= _bits("SAT", "INTRP")
    return _blemish(Exposure(image, mask, variance), sigma, rng)


def _bits(*planes: str) -> np.int32:
    return np.int32(sum(1 << MASK_PLANES[plane] for plane in planes))


def _blemish(exposure: Exposure, sigma: float, rng: np.random.Generator) -> Exposure:
    """Add a cosmic ray, a bad column or an empty edge at times."""
    image, mask, variance = exposure.image, exposure.mask, exposure.variance
    height, width = image.shape
    ray, column, edge = rng.random(3) < (COSMIC_RAYS, BAD_COLUMNS, NO_DATA_EDGES)
    if ray:
        along = np.arange(rng.integers(3, 12))
        angle = rng.uniform(0, 2 * np.pi)
        rows = np.clip(rng.integers(height) + np.rint(along * np.sin(angle)).astype(int), 0, height - 1)
        columns = np.clip(rng.integers(width) + np.rint(along * np.cos(angle)).astype(int), 0, width - 1)
        image[rows, columns] += np.float32(sigma * rng.uniform(10, 100))
        mask[rows, columns] |= _bits("CR")
    if column:
        where = int(rng.integers(width))
        image[:, where] += np.float32(sigma * rng.normal(0, 20))
        mask[:, where] |= _bits("BAD")
    if edge:
        missing = slice(0, int(rng.integers(1, max(2, width // 6))))
        image[:, missing] = np.nan
        variance[:, missing] = np.nan
        mask[:, missing] = _bits("NO_DATA")
    return exposure
