"""Read and embed a galaxy that is not in the catalog."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tidalkin import config
from tidalkin.embedding.whitening import load_whitening
from tidalkin.errors import TidalkinError
from tidalkin.index.vectors import Vectors
from tidalkin.search.files import RunFiles


@dataclass(frozen=True)
class CutoutSettings:
    """Settings with which the run embedded its galaxies, needed to embed a cutout."""

    images: config.Images
    embedding: config.Embedding
    compute: config.Compute


@dataclass(frozen=True)
class OutsideGalaxy:
    """A galaxy that is not in the catalog."""

    flux: Vectors
    """(band, y, x), nJy."""
    sky_sigma: Vectors
    """(band,), nJy."""
    vector: Vectors
    """(dimension,), of length 1."""


def read_outside_galaxy(template: str, files: RunFiles, settings: CutoutSettings) -> OutsideGalaxy:
    """Read and embed a galaxy that is not in the catalog.

    It is taken to be in the middle of its image.

    Parameters
    ----------
    template : str
        A FITS file with the HDUs ``G``, ``R``, ..., or a file name with ``{band}`` or ``{BAND}``.
    files : RunFiles
        Encoder and whitening of the run.
    settings : CutoutSettings
        How the run read and embedded its own galaxies.

    Raises
    ------
    TidalkinError
        If a band is missing, cannot be read, or has too few good pixels.

    Examples
    --------
    >>> from astropy.io import fits
    >>> from tidalkin import open_run
    >>> run = open_run("results/demo")
    >>> unit = fits.Header({"BUNIT": "nJy"})
    >>> planes = [fits.ImageHDU(flux, unit, name=band) for band, flux in zip("GRIZY", run.cutout(42).data, strict=True)]
    >>> fits.HDUList([fits.PrimaryHDU(), *planes]).writeto("mine.fits")
    >>> settings = CutoutSettings(run.settings.images, run.settings.embedding, run.settings.compute)
    >>> galaxy = read_outside_galaxy("mine.fits", RunFiles.of("results/demo"), settings)
    >>> galaxy.flux.shape, galaxy.vector.shape
    ((5, 48, 48), (8,))
    """
    # Imported here: importing torch takes seconds, and other queries do not need it.
    from tidalkin.cutouts.grid import place_on_grid
    from tidalkin.cutouts.read import read_cutout
    from tidalkin.embedding.features import features
    from tidalkin.images.noise import sky_sigma
    from tidalkin.model.checkpoint import load_encoder

    loaded, whitening = load_encoder(files.encoder), load_whitening(files.whitening)
    whitening.check(loaded.digest, files.whitening)
    flux, sigma = [], []
    for band, content in _outside_files(template, loaded.bands):
        name = f"cutout {template}, band {band}"
        images = settings.images
        cutout = read_cutout(content, name, images.bad_mask_planes, images.bad_mask_bits)
        sigma.append(sky_sigma(cutout.flux, cutout.variance))
        flux.append(place_on_grid(cutout.flux, None, 0.0, 0.0, loaded.image_size))
        good = float(np.isfinite(flux[-1]).mean())
        least = settings.embedding.minimum_good_fraction
        if good < least:
            raise TidalkinError(
                f"{name}: has only {100 * good:.0f} % good pixels on the grid of {loaded.image_size} x "
                f"{loaded.image_size}, but embedding.minimum_good_fraction asks for {100 * least:.0f} %: give a larger "
                "cutout"
            )
    image = np.stack(flux)
    vector = whitening.apply(features(loaded, image[None], settings.embedding, settings.compute))[0]
    return OutsideGalaxy(image, np.array(sigma, np.float32), vector)


def _outside_files(template: str, bands: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the FITS content of each band."""
    import pandas as pd

    from tidalkin.sources.folder import FolderSource

    # Not validated: unlike a folder of many, the name of one file need not hold the object's id.
    folder = config.Folder.model_construct(path=".", template=str(Path(template).expanduser()))
    one = pd.DataFrame({"object_id": [0]})
    for delivery in FolderSource(folder).fetch(one, bands):
        if delivery.status != "ok":
            raise TidalkinError(
                f"cutout {template}: band {delivery.band} is {delivery.status} ({delivery.reason}): the encoder needs "
                f"the bands {', '.join(bands)}"
            )
        yield delivery.band, delivery.content
