"""A survey of another maker, as FITS files and a catalog.

    python benchmarks/second_maker.py survey --galaxies 3000 --prevalence 0.19 --seed 1

The `folder` source reads it. Hosts, neighbours and tidal features are drawn from formulae, with nothing of the
simulated survey's galaxies, particles or GalSim. So the survey tells whether an encoder, trained on another survey or
with injected light, finds the features of another maker. Companions, arms, bars, knots and stars are common and not
labelled.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.special import gamma, gammaincinv

from tidalkin.atomic import atomic_path
from tidalkin.config import BANDS
from tidalkin.constants import PIXEL_SCALE_ARCSEC, ZERO_POINT_AB
from tidalkin.cutouts.write import write_cutout
from tidalkin.seeds import generator
from tidalkin.simulation.analytic import band_colour, draw_feature_in_bands
from tidalkin.simulation.sky import correlated_noise, over_subtracted

FLUXMAG0 = 10 ** (0.4 * 27.0)
LABELS = ("stream", "shell", "tail")
# 5 sigma for point sources and median seeing, HSC-SSP Wide: Aihara et al. 2018, PASJ 70, S4; 2022, PASJ 74, 247.
DEPTH = {"g": 26.5, "r": 26.1, "i": 25.9, "z": 25.1, "y": 24.4}
SEEING_ARCSEC = {"g": 0.79, "r": 0.71, "i": 0.61, "z": 0.68, "y": 0.68}
MOFFAT_BETA = 3.2
SKY_BRIGHTNESS = {"g": 22.1, "r": 21.1, "i": 20.2, "z": 19.2, "y": 18.2}  # mag/arcsec², for the noise of sources
SATURATION_COUNTS = 350.0
MASK_PLANES = {"BAD": 0, "SAT": 1, "INTRP": 2, "CR": 3, "EDGE": 4, "DETECTED": 5, "NO_DATA": 8}
PADDING = 20  # pixels about the image, so that what lies outside of it still shines in
FINE_PIXELS, OVERSAMPLING = 10, 6  # about the centre of a steep profile

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """One row of the catalog."""

    object_id: int
    ra: float
    dec: float
    label: str
    surface_brightness: float
    """Of the feature in i, mag/arcsec²; NaN without one."""
    colour: float
    """g - i of the feature, mag; NaN without one."""
    magnitude: float
    half_light_radius_arcsec: float
    n_companions: int
    has_arms: bool
    bulge_fraction: float


@dataclass(frozen=True)
class Survey:
    """Size, seed and sky of the survey."""

    prevalence: float
    seed: int
    size: int
    correlated_noise: bool
    over_subtraction: bool


class Scene:
    """Light of one object in all bands, before the seeing."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.side = size + 2 * PADDING
        axis = (np.arange(self.side, dtype=np.float64) - (self.side - 1) / 2) * PIXEL_SCALE_ARCSEC
        self.x, self.y = axis[None, :], axis[:, None]
        self.bands = np.zeros((len(BANDS), self.side, self.side))

    def add(self, image: Doubles, magnitude: float, colour: float) -> None:
        """Add an image of total light 1, scaled to its magnitude and colour.

        The magnitude is in i, the colour g - i.
        """
        against_i = np.array([band_colour(colour, band) for band in BANDS])
        self.bands += (FLUXMAG0 * 10 ** (-0.4 * (magnitude + against_i)))[:, None, None] * image

    def sersic(self, x: float, y: float, radius: float, index: float, axis_ratio: float, angle: float) -> Doubles:
        """Draw Sérsic's profile of total light 1; lengths in arcsec, the angle in radians."""
        b = float(gammaincinv(2 * index, 0.5))
        # Total light: Graham & Driver 2005, PASA 22, 118, equation 4.
        total = 2 * math.pi * index * radius**2 * axis_ratio * b ** (-2 * index) * float(gamma(2 * index))

        def brightness(across: Doubles, along: Doubles) -> Doubles:
            major = (across - x) * math.cos(angle) + (along - y) * math.sin(angle)
            minor = ((along - y) * math.cos(angle) - (across - x) * math.sin(angle)) / axis_ratio
            return np.asarray(np.exp(-b * (np.hypot(major, minor) / radius) ** (1 / index)))

        image = brightness(self.x, self.y)
        # Only near the centre does the light change within a pixel.
        column, row = (round(value / PIXEL_SCALE_ARCSEC + (self.side - 1) / 2) for value in (x, y))
        half = FINE_PIXELS // 2
        if half <= column < self.side - half and half <= row < self.side - half:
            parts = (np.arange(FINE_PIXELS * OVERSAMPLING) + 0.5) / OVERSAMPLING - 0.5 - half
            fine_x = self.x[0, column] + parts * PIXEL_SCALE_ARCSEC
            fine_y = self.y[row, 0] + parts * PIXEL_SCALE_ARCSEC
            fine = brightness(fine_x[None, :], fine_y[:, None])
            shape = (FINE_PIXELS, OVERSAMPLING, FINE_PIXELS, OVERSAMPLING)
            patch = (slice(row - half, row + half), slice(column - half, column + half))
            image[patch] = fine.reshape(shape).mean(axis=(1, 3))
        return image * (PIXEL_SCALE_ARCSEC**2 / total)

    def point(self, x: float, y: float) -> Doubles:
        """Draw a point of light 1 over the four nearest pixels, if it lies inside."""
        image = np.zeros((self.side, self.side))
        column, row = (value / PIXEL_SCALE_ARCSEC + (self.side - 1) / 2 for value in (x, y))
        left, low = math.floor(column), math.floor(row)
        if 0 <= left < self.side - 1 and 0 <= low < self.side - 1:
            right, up = column - left, row - low
            image[low : low + 2, left : left + 2] = np.outer((1 - up, up), (1 - right, right))
        return image

    def seen(self, psf_fwhm: Doubles) -> Doubles:
        """Smooth each band by its seeing, and cut off the padding."""
        length = next_fast_len(self.side + 2 * PADDING, real=True)
        light = rfft2(self.bands, (length, length))
        smooth = irfft2(light * np.stack([_transfer(float(fwhm), length) for fwhm in psf_fwhm]), (length, length))
        inner = slice(PADDING, PADDING + self.size)
        return np.asarray(smooth[:, inner, inner])


def moffat(fwhm_arcsec: float, length: int) -> Doubles:
    """Draw a star of total light 1.

    Its centre is in the first pixel, and the image wraps around.
    """
    along = np.minimum(np.arange(length), length - np.arange(length)) * PIXEL_SCALE_ARCSEC
    core = fwhm_arcsec / 2 / math.sqrt(2 ** (1 / MOFFAT_BETA) - 1)
    star = (1 + (along[None, :] ** 2 + along[:, None] ** 2) / core**2) ** -MOFFAT_BETA
    return np.asarray(star / star.sum())


@lru_cache(maxsize=256)
def _transfer(fwhm_arcsec: float, length: int) -> npt.NDArray[np.complex128]:
    return np.asarray(rfft2(moffat(fwhm_arcsec, length)))


@lru_cache
def pixel_sigma(band: str) -> float:
    """Compute the noise of a pixel that gives the survey's depth for point sources, counts."""
    pixels = 1 / float(np.sum(moffat(SEEING_ARCSEC[band], 64) ** 2))
    return FLUXMAG0 * 10 ** (-0.4 * DEPTH[band]) / 5 / math.sqrt(pixels)


# --- galaxies and features -----------------------------------------------------------------------------------------


def magnitude_between(rng: np.random.Generator, bright: float, faint: float, slope: float) -> float:
    """Draw a magnitude; numbers rise by ``slope`` in log10 per magnitude."""
    return math.log10(rng.uniform(10 ** (slope * bright), 10 ** (slope * faint))) / slope


def draw_host(scene: Scene, rng: np.random.Generator) -> dict[str, Any]:
    """Add a bulge and, in most galaxies, a disc with its structure; return the truth."""
    magnitude = magnitude_between(rng, 17.0, 20.8, 0.35)
    radius = float(np.clip(1.7 * 10 ** (-0.11 * (magnitude - 18.5)) * rng.lognormal(0, 0.28), 0.6, 3.2))
    angle, early = rng.uniform(0, math.pi), rng.random() < 0.4
    bulge_fraction = rng.uniform(0.55, 1.0) if early else rng.beta(1.1, 3.5)
    red = rng.normal(1.35, 0.13)
    blue = red - (rng.uniform(0.0, 0.2) if early else rng.uniform(0.25, 0.95))
    centre = rng.uniform(-0.5, 0.5, 2) * PIXEL_SCALE_ARCSEC
    bulge_radius = radius * (rng.uniform(0.8, 1.0) if early else rng.uniform(0.15, 0.4))
    index = rng.uniform(2.5, 4.5) if early else rng.uniform(1.0, 3.0)
    bulge = scene.sersic(*centre, bulge_radius, index, rng.uniform(0.6, 1.0), angle + rng.normal(0, 0.1))
    scene.add(bulge, magnitude - 2.5 * math.log10(bulge_fraction), red)
    disc_magnitude = magnitude - 2.5 * math.log10(max(1 - bulge_fraction, 1e-6))
    has_arms = False
    if bulge_fraction < 0.97:
        has_arms = draw_disc(scene, rng, disc_magnitude, radius * rng.uniform(1.0, 1.25), angle, blue, early)
    return {
        "magnitude": magnitude,
        "half_light_radius_arcsec": radius,
        "bulge_fraction": bulge_fraction,
        "has_arms": has_arms,
        "colours": (red, blue),
    }


def draw_disc(
    scene: Scene, rng: np.random.Generator, magnitude: float, radius: float, angle: float, colour: float, early: bool
) -> bool:
    """Add an inclined exponential disc with arms, bar and knots; return whether it has arms."""
    cosine = rng.uniform(0.0, 1.0)
    axis_ratio = math.sqrt(cosine**2 + 0.2**2 * (1 - cosine**2))  # a disc of thickness 0.2
    offset = rng.normal(0, 0.06, 2) * radius
    smooth = scene.sersic(*offset, radius, 1.0, axis_ratio, angle)
    major = (scene.x - offset[0]) * math.cos(angle) + (scene.y - offset[1]) * math.sin(angle)
    minor = ((scene.y - offset[1]) * math.cos(angle) - (scene.x - offset[0]) * math.sin(angle)) / axis_ratio
    distance, azimuth = np.hypot(major, minor) / radius, np.arctan2(minor, major)

    shares = {"smooth": 1.0}
    images = {"smooth": smooth}
    has_arms = rng.random() < (0.1 if early else 0.6)
    if has_arms:
        number, pitch = int(rng.choice((2, 2, 2, 3, 4))), math.radians(rng.uniform(10, 32))
        phase = number * (azimuth - rng.choice((-1, 1)) * np.log(np.maximum(distance, 0.05)) / math.tan(pitch))
        crest = np.exp(rng.uniform(1.5, 4.0) * (np.cos(phase + rng.uniform(0, 2 * math.pi)) - 1))
        outside_bulge = np.clip((distance - 0.25) / 0.4, 0, 1)
        images["arms"], shares["arms"] = smooth**0.8 * crest * outside_bulge, rng.uniform(0.15, 0.45)
    if rng.random() < 0.3:
        bar_angle, length = rng.uniform(0, math.pi), rng.uniform(0.4, 0.8)
        along = distance * np.cos(azimuth - bar_angle) / length
        across = distance * np.sin(azimuth - bar_angle) / (length * rng.uniform(0.25, 0.4))
        images["bar"], shares["bar"] = np.exp(-(along**4) - across**2), rng.uniform(0.08, 0.25)
    if rng.random() < (0.1 if early else 0.5):
        knots = np.zeros_like(smooth)
        for _ in range(int(rng.integers(3, 16))):
            far, turn = radius * rng.gamma(2.5, 0.45), rng.uniform(0, 2 * math.pi)
            a, b = far * math.cos(turn), far * math.sin(turn) * axis_ratio
            x = offset[0] + a * math.cos(angle) - b * math.sin(angle)
            y = offset[1] + a * math.sin(angle) + b * math.cos(angle)
            knots += rng.lognormal(0, 0.8) * scene.point(x, y)
        images["knots"], shares["knots"] = knots, rng.uniform(0.03, 0.15)
    shares["smooth"] -= sum(share for name, share in shares.items() if name != "smooth")
    bluer = {"smooth": 0.0, "arms": 0.25, "bar": -0.2, "knots": 0.5}
    for name, image in images.items():
        light = image.sum()
        if light > 0:
            # The total of the smooth disc is known. For the others, only the part in the image counts.
            total = 1.0 if name == "smooth" else light
            scene.add(image / total, magnitude - 2.5 * math.log10(shares[name]), colour - bluer[name])
    return has_arms


def draw_neighbours(scene: Scene, rng: np.random.Generator, magnitude: float, radius: float) -> int:
    """Add companions, background galaxies and stars; return the number of companions."""
    half = scene.side * PIXEL_SCALE_ARCSEC / 2
    companions = int(rng.poisson(0.55))
    for _ in range(companions):
        light = magnitude + rng.uniform(0.7, 4.2)
        compact = rng.random() < 0.4
        size = rng.uniform(0.12, 0.3) if compact else float(np.clip(radius * rng.uniform(0.25, 0.8), 0.25, 2.0))
        away, turn = rng.uniform(1.2, 0.8 * half), rng.uniform(0, 2 * math.pi)
        place = (away * math.cos(turn), away * math.sin(turn))
        galaxy = scene.sersic(*place, size, rng.uniform(0.8, 3.0), rng.uniform(0.3, 1.0), rng.uniform(0, math.pi))
        scene.add(galaxy, light, rng.normal(1.1, 0.3))
    per_arcmin2, area = 45.0, (2 * half / 60) ** 2
    for _ in range(rng.poisson(per_arcmin2 * area)):
        light = magnitude_between(rng, 20.5, 26.0, 0.36)
        size = float(np.clip(0.45 * 10 ** (-0.08 * (light - 23)) * rng.lognormal(0, 0.4), 0.08, 1.5))
        place = rng.uniform(-half, half, 2)
        galaxy = scene.sersic(*place, size, rng.uniform(0.7, 2.0), rng.uniform(0.25, 1.0), rng.uniform(0, math.pi))
        scene.add(galaxy, light, rng.normal(0.9, 0.45))
    for _ in range(rng.poisson(6.0 * area)):
        star = scene.point(*rng.uniform(-half, half, 2))
        scene.add(star, magnitude_between(rng, 17.5, 25.0, 0.18), rng.normal(1, 0.6))
    if rng.random() < 0.04:
        draw_bright_star(scene, rng, half)
    return companions


def draw_bright_star(scene: Scene, rng: np.random.Generator, half: float) -> None:
    """Add a bright star beside the galaxy or just outside the image, with its halo."""
    away, turn = rng.uniform(0.55, 1.2) * half, rng.uniform(0, 2 * math.pi)
    x, y = away * math.cos(turn), away * math.sin(turn)
    magnitude, colour = rng.uniform(14.0, 17.0), rng.normal(0.8, 0.4)
    # The aureole of a PSF falls as the inverse square (King 1971, PASP 83, 199), here to 30 arcsec.
    distance = np.hypot(scene.x - x, scene.y - y)
    halo = PIXEL_SCALE_ARCSEC**2 / (distance**2 + 1.5**2) * (distance < 30)
    scene.add(halo / (math.pi * math.log(1 + (30 / 1.5) ** 2)), magnitude + 4.5, colour)
    scene.add(scene.point(x, y), magnitude, colour)


def draw_object(survey: Survey, object_id: int) -> tuple[Truth, Doubles, Doubles]:
    """Draw one object without noise.

    Returns
    -------
    truth : Truth
        Its row of the catalog.
    psf_fwhm : (band,) array
        Arcsec.
    counts : (band, y, x) array
        What falls into the image.
    """
    rng = generator(survey.seed, "second maker", object_id)
    ra, dec = rng.uniform(150.0, 190.0), rng.uniform(-1.5, 3.5)
    kind = LABELS[rng.integers(len(LABELS))] if rng.random() < survey.prevalence else "none"
    psf_fwhm = np.array([SEEING_ARCSEC[band] for band in BANDS]) * rng.lognormal(0, 0.08, len(BANDS))
    scene = Scene(survey.size)
    host = draw_host(scene, generator(survey.seed, "second maker", object_id, "host"))
    red, blue = host.pop("colours")
    around = generator(survey.seed, "second maker", object_id, "neighbours")
    companions = draw_neighbours(scene, around, host["magnitude"], host["half_light_radius_arcsec"])
    counts = scene.seen(psf_fwhm)
    brightness = colour = math.nan
    if kind != "none":
        brightness = rng.uniform(24.0, 27.5)
        colour = rng.normal((blue if kind == "tail" else red) - 0.15, 0.15)
        nanojansky = draw_feature_in_bands(
            kind,
            partial(generator, survey.seed, "second maker", object_id, "feature"),
            BANDS,
            psf_fwhm,
            surface_brightness=brightness,
            colour=colour,
            half_light_radius_arcsec=host["half_light_radius_arcsec"],
            size=survey.size,
            pixel_scale_arcsec=PIXEL_SCALE_ARCSEC,
        )
        counts += nanojansky * (FLUXMAG0 * 10 ** (-0.4 * ZERO_POINT_AB))
    truth = Truth(object_id, ra, dec, kind, brightness, colour, n_companions=companions, **host)
    return truth, psf_fwhm, counts


def expose(survey: Survey, truth: Truth, psf_fwhm: Doubles, counts: Doubles) -> Iterator[tuple[str, bytes]]:
    """Add noise, mask and variance to each band, and write it as HSC does."""
    for band, fwhm, light in zip(BANDS, psf_fwhm, counts, strict=True):
        rng = generator(survey.seed, "second maker", truth.object_id, "noise", band)
        sigma = pixel_sigma(band) * rng.lognormal(0, 0.06)
        sky = FLUXMAG0 * 10 ** (-0.4 * SKY_BRIGHTNESS[band]) * PIXEL_SCALE_ARCSEC**2
        model = light.astype(np.float32)
        variance = (sigma**2 * (1 + np.maximum(model, 0) / sky)).astype(np.float32)
        if survey.correlated_noise:
            noise, ratio = correlated_noise(np.sqrt(variance), survey.size, rng)
            variance *= np.float32(ratio)
        else:
            noise = (rng.normal(size=light.shape) * np.sqrt(variance)).astype(np.float32)
        mask = np.where(model > 2 * sigma, 1 << MASK_PLANES["DETECTED"], 0).astype(np.int32)
        mask[model > SATURATION_COUNTS] |= 1 << MASK_PLANES["SAT"]
        image = model + noise
        if survey.over_subtraction:
            image -= over_subtracted(model, sigma, rng.uniform(0.3, 0.9), PIXEL_SCALE_ARCSEC)
        yield (
            band,
            write_cutout(
                image,
                mask,
                variance,
                band=band,
                ra=truth.ra,
                dec=truth.dec,
                fluxmag0=FLUXMAG0,
                mask_planes=MASK_PLANES,
                psf_fwhm=float(fwhm),
            ),
        )


def write_survey(folder: Path, galaxies: int, survey: Survey) -> None:
    """Write the cutouts and `catalog.csv` of a survey.

    Parameters
    ----------
    folder : Path
        Gets ``<object_id>-HSC-<BAND>.fits`` for each object and band, and the catalog when all are written.
    galaxies : int
        Number of objects; object_id runs from 1.
    survey : Survey
        Size, seed and sky.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "catalog.csv") as partial, partial.open("w", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Truth)])
        table.writeheader()
        for object_id in range(1, galaxies + 1):
            truth, psf_fwhm, counts = draw_object(survey, object_id)
            table.writerow(vars(truth))
            for band, content in expose(survey, truth, psf_fwhm, counts):
                (folder / f"{object_id}-HSC-{band.upper()}.fits").write_bytes(content)


def main(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    galaxies: Annotated[int, typer.Option(min=1, help="How many galaxies.")] = 3000,
    prevalence: Annotated[float, typer.Option(min=0, max=1, help="Share with a tidal feature.")] = 0.19,
    seed: Annotated[int, typer.Option(help="Seed of the survey.")] = 1,
    size: Annotated[int, typer.Option(min=32, help="Side of the cutouts, pixels.")] = 96,
    correlated_noise: Annotated[bool, typer.Option(help="Correlate the noise as warping does.")] = False,
    over_subtraction: Annotated[bool, typer.Option(help="Subtract faint light with the sky.")] = False,
) -> None:
    """Write a survey of another maker as FITS files and a catalog."""
    write_survey(out, galaxies, Survey(prevalence, seed, size, correlated_noise, over_subtraction))
    print(f"{galaxies} galaxies in {out}, {prevalence:.0%} with a tidal feature")


if __name__ == "__main__":
    typer.run(main)
