"""Compare the speed of the simulated survey with GalSim drawing a bulge and a disc.

    python benchmarks/simulation.py

Both draw five bands of the same galaxies on one core in the same run, so that the ratio holds on any machine. The
simulated survey also has neighbours, stars, arms and tidal features, masks and a variance plane.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Annotated

import galsim
import typer

from tidalkin.config import BANDS, Band, SimulatedSurvey
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.simulation.galaxy import Galaxy, draw_galaxy
from tidalkin.simulation.scene import draw_scene, galaxy_fluxes, psf
from tidalkin.sources.simulated import FLUXMAG0, SimulatedSource, simulate_catalog, sky_sigma


def parts(galaxy: Galaxy, band: Band) -> list[galsim.GSObject]:
    """Make bulge and disc of a galaxy in one band, as GalSim profiles."""
    angle = galaxy.position_angle * galsim.degrees
    light = galaxy_fluxes(galaxy, (band,))
    bulge = galsim.Sersic(galaxy.bulge_index, half_light_radius=galaxy.bulge_radius_arcsec)
    disc = galsim.Exponential(half_light_radius=galaxy.disc_radius_arcsec)
    return [
        bulge.shear(q=galaxy.bulge_axis_ratio, beta=angle).withFlux(light.bulge[0] * FLUXMAG0),
        disc.shear(q=0.6, beta=angle).withFlux(light.disc[0] * FLUXMAG0),
    ]


def plain(galaxy: Galaxy, size_pixels: int, noise: galsim.BaseDeviate, one_by_one: bool) -> None:
    """Draw bulge and disc with noise in all bands, separately or as their sum."""
    for band in BANDS:
        profiles = parts(galaxy, band)
        image = galsim.ImageF(size_pixels, size_pixels, scale=PIXEL_SCALE_ARCSEC)
        for profile in profiles if one_by_one else [galsim.Add(profiles)]:
            seen = galsim.Convolve(profile, psf(galaxy.psf_fwhm[band]))
            seen.drawImage(image=image, method="no_pixel", add_to_image=True)
        image.addNoise(galsim.GaussianNoise(noise, sigma=sky_sigma(band)))


def galaxies_per_second(draw: Callable[[Galaxy], object], galaxies: Sequence[Galaxy]) -> float:
    """Measure galaxies per second of processor time, after one to warm up."""
    draw(galaxies[0])
    start = time.process_time()
    for galaxy in galaxies:
        draw(galaxy)
    return len(galaxies) / (time.process_time() - start)


def main(
    galaxies: Annotated[int, typer.Option(min=1, help="Number of galaxies.")] = 200,
    size_pixels: Annotated[int, typer.Option(min=8, help="Side of the cutouts, pixels.")] = 96,
    tidal_fraction: Annotated[float, typer.Option(min=0, max=1, help="Share with tidal features.")] = 0.25,
) -> None:
    """Print galaxies per second and core, ours and plain GalSim's, and their ratio."""
    galsim.utilities.set_omp_threads(1)
    survey = SimulatedSurvey(galaxies=galaxies, tidal_fraction=tidal_fraction)
    source = SimulatedSource(survey, size_pixels, seed=1)
    catalog = simulate_catalog(survey, seed=1)
    rows = {int(number): catalog[index : index + 1] for index, number in enumerate(catalog["object_id"])}
    drawn = [draw_galaxy(survey, 1, number) for number in rows]
    noise = galsim.BaseDeviate(1)

    peer = galaxies_per_second(lambda galaxy: plain(galaxy, size_pixels, noise, one_by_one=True), drawn)
    summed = galaxies_per_second(lambda galaxy: plain(galaxy, size_pixels, noise, one_by_one=False), drawn)
    scenes = galaxies_per_second(lambda galaxy: draw_scene(galaxy, survey, 1, BANDS, size_pixels), drawn)
    exposed = galaxies_per_second(lambda galaxy: list(source.expose(galaxy, BANDS)), drawn)
    written = galaxies_per_second(lambda galaxy: list(source.fetch(rows[galaxy.object_id], BANDS)), drawn)
    print(f"five bands of {size_pixels} pixels, {tidal_fraction:.0%} with tidal features, galaxies/s and core")
    rates = {
        "GalSim, bulge and disc one by one": peer,
        "GalSim, their sum": summed,
        "tidalkin, scene without noise": scenes,
        "tidalkin, with noise and masks": exposed,
        "tidalkin, written as FITS": written,
    }
    for name, rate in rates.items():
        print(f"{name:<36}{rate:7.1f}   ratio {rate / peer:.2f}")


if __name__ == "__main__":
    typer.run(main)
