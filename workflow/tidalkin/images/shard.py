"""Convert the cutouts of one shard."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import zarr

from tidalkin.atomic import atomic_path
from tidalkin.config import Images
from tidalkin.constants import LARGEST_PSF_FWHM_ARCSEC, PIXEL_SCALE_ARCSEC
from tidalkin.cutouts.grid import pixel_axes, place_on_grid
from tidalkin.cutouts.read import read_cutout
from tidalkin.download.ledger import checksum
from tidalkin.download.tar import ChunkTar, member_name
from tidalkin.errors import TidalkinError
from tidalkin.images.inputs import (
    Chunk,
    Conversion,
    Problem,
    ShardReport,
    _inputs_digest,
    _read_ledgers,
    _read_note,
    _read_objects,
    _writing,
)
from tidalkin.images.noise import sky_sigma
from tidalkin.images.store import ImageStore, Shard

AXES_TOLERANCE = 0.02
"""Largest relative difference between the scales or directions of pixels: 1.3 pixels at the edge of a store's image."""


def convert_shard(conversion: Conversion, shard: int, chunks: Sequence[Chunk]) -> ShardReport:
    """Convert the cutouts of one shard, if it is not finished yet.

    Parameters
    ----------
    conversion : Conversion
        What all tasks have in common.
    shard : int
        Which shard.
    chunks : sequence of Chunk
        Those that overlap its rows, in order.

    Raises
    ------
    TidalkinError
        If an input cannot be read or the shard cannot be written.

    Examples
    --------
    >>> from tidalkin.catalog.read import write_catalog
    >>> from tidalkin.config import Cutouts
    >>> from tidalkin.images.convert import prepare
    >>> from tidalkin.sources.fetch import fetch_chunk
    >>> catalog, bands = Path("catalog.parquet"), ("g", "i")
    >>> chunk = Chunk(Path("00000.tar"), Path("00000.ledger.parquet"), first=0, last=2)
    >>> objects = pd.DataFrame({"object_id": [1, 2], "ra": [150.0, 150.1], "dec": [2.0, 2.1]})
    >>> write_catalog(objects, catalog)
    >>> _ = fetch_chunk(objects, Cutouts(bands=bands), 1, chunk.tar, chunk.ledger)
    >>> conversion = Conversion(catalog, bands, Images(size=64), work=Path("images.zarr.partial"))
    >>> prepare(conversion, n_objects=2)
    >>> convert_shard(conversion, 0, [chunk]).objects_with_image
    2
    """
    store = ImageStore.open(conversion.store, mode="r+")
    rows = store.rows_of(shard)
    objects = _read_objects(conversion, rows)
    ledger = _read_ledgers(chunks, rows, objects["object_id"].to_numpy(), conversion.bands)
    inputs = _inputs_digest(objects, ledger)
    note, files = conversion.note(shard), store.files_of(shard)
    report = _read_note(note)
    if report and report.inputs == inputs and all(file.exists() for file in files):
        return ShardReport(**{**vars(report), "kept": True})
    with _writing(files[0]):
        report = _take_over(conversion, shard, inputs, files)
    if report:
        return report
    note.unlink(missing_ok=True)
    content, problems = fill_shard(conversion, objects, ledger, chunks, rows.start)
    report = ShardReport(
        inputs=inputs,
        objects=len(objects),
        objects_with_image=int((content.good_fraction > 0).any(axis=1).sum()),
        problems=tuple(problems),
    )
    with _writing(files[0]):
        _write_shard(store, shard, content)
    with _writing(note), atomic_path(note) as partial:
        partial.write_text(json.dumps(asdict(report)))
    return report


def _take_over(conversion: Conversion, shard: int, inputs: str, files: Sequence[Path]) -> ShardReport | None:
    """Link a shard of the previous store, if it was made from the same inputs.

    Its files keep their bytes and times.
    """
    if conversion.previous is None:
        return None
    note = conversion.note(shard, conversion.previous)
    report = _read_note(note)
    earlier = [conversion.previous / file.relative_to(conversion.store) for file in files]
    if report is None or report.inputs != inputs or not all(file.exists() for file in earlier):
        return None
    for old, new in zip([*earlier, note], [*files, conversion.note(shard)], strict=True):
        new.parent.mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        try:
            new.hardlink_to(old)
        except OSError:  # a file system without hard links
            shutil.copy2(old, new)
    return ShardReport(**{**vars(report), "kept": True})


def fill_shard(
    conversion: Conversion, objects: pd.DataFrame, ledger: pd.DataFrame, chunks: Sequence[Chunk], first: int
) -> tuple[Shard, list[Problem]]:
    """Read all cutouts of one shard.

    Parameters
    ----------
    conversion : Conversion
        Bands, grid and bad mask planes.
    objects : DataFrame
        The shard's catalog rows: object_id, ra, dec and, where known, psf_fwhm_<band>.
    ledger : DataFrame
        Their ledger rows, object by object, band by band.
    chunks : sequence of Chunk
        Those that overlap, in order.
    first : int
        Catalog row of the first object.

    Returns
    -------
    Shard
        The images. All pixels are missing where there is no usable cutout.
    list of Problem
        Problems of the cutouts that should be usable.

    Examples
    --------
    >>> from tidalkin.config import Cutouts
    >>> from tidalkin.sources.fetch import fetch_chunk
    >>> chunk = Chunk(Path("00000.tar"), Path("00000.ledger.parquet"), first=0, last=2)
    >>> objects = pd.DataFrame({"object_id": [1, 2], "ra": [150.0, 150.1], "dec": [2.0, 2.1]})
    >>> ledger = fetch_chunk(objects, Cutouts(bands=("g", "i")), 1, chunk.tar, chunk.ledger)
    >>> conversion = Conversion(Path("catalog.parquet"), ("g", "i"), Images(size=64), work=Path("images.zarr.partial"))
    >>> shard, problems = fill_shard(conversion, objects, ledger, [chunk], first=0)
    >>> shard.flux.shape, problems
    ((2, 2, 64, 64), [])
    """
    bands, images = conversion.bands, conversion.images
    shape = (len(objects), len(bands))
    shard = Shard(
        flux=np.full((*shape, images.size, images.size), np.nan, np.float32),
        sky_sigma=np.full(shape, np.nan, np.float32),
        psf_fwhm=_known_psf_fwhm(objects, bands),
        good_fraction=np.zeros(shape, np.float32),
        object_id=objects["object_id"].to_numpy(np.int64),
    )
    positions = objects[["ra", "dec"]].to_numpy(np.float64)
    is_ok = (ledger["status"] == "ok").to_numpy().reshape(shape)
    checksums = ledger["checksum"].to_numpy().reshape(shape)
    axes: dict[int, npt.NDArray[np.float64]] = {}
    problems = []
    for chunk in chunks:
        start, stop = max(chunk.first - first, 0), min(chunk.last - first, len(objects))
        with ChunkTar(chunk.tar) as cutouts:
            for row, band in zip(*np.nonzero(is_ok[start:stop]), strict=True):
                object_id, name = int(shard.object_id[start + row]), bands[band]
                at = (start + row, band)
                try:
                    content = cutouts.read(object_id, name)
                    file = f"{chunk.tar.name}: {member_name(object_id, name)}"
                    if checksum(content) != checksums[at]:
                        raise TidalkinError(
                            f"{file}: is damaged (its checksum is not the ledger's): delete {chunk.tar} and its "
                            "ledger, to have the chunk fetched again"
                        )
                    image = read_band(content, file, name, positions[at[0]], images)
                    if image.axes is not None:
                        _check_axes(image.axes, axes.setdefault(at[0], image.axes), file)
                except TidalkinError as error:
                    problems.append(Problem(object_id, name, str(error)))
                    continue
                if image.impossible_pixels:
                    problems.append(Problem(object_id, name, _impossible(image.impossible_pixels, file)))
                shard.flux[at] = image.flux
                shard.sky_sigma[at] = image.sky_sigma
                shard.good_fraction[at] = np.isfinite(image.flux).mean()
                if np.isnan(shard.psf_fwhm[at]):
                    shard.psf_fwhm[at] = image.psf_fwhm
    return shard, problems


@dataclass(frozen=True)
class BandImage:
    """One object in one band, as the store holds it."""

    flux: npt.NDArray[np.float32]
    """(y, x), nanojansky."""
    sky_sigma: float
    """Noise of one pixel of sky, nanojansky."""
    psf_fwhm: float
    """Arcsec; NaN where unknown."""
    axes: npt.NDArray[np.float64] | None = None
    """Pixels per arcsec, see `tidalkin.cutouts.grid.pixel_axes`; none where the file has no coordinates."""
    impossible_pixels: int = 0
    """Pixels beyond any flux, which count as missing."""


def read_band(content: bytes, file: str, band: str, position: npt.NDArray[np.float64], images: Images) -> BandImage:
    """Read one cutout and place it on the store's grid.

    Parameters
    ----------
    content : bytes
        The FITS file.
    file : str
        What to call it in an error.
    band : str
        The band it should be of.
    position : (2,) array
        Right ascension and declination of the object, degrees.
    images : Images
        Grid and bad mask planes.

    Raises
    ------
    TidalkinError
        If it cannot be read, is of another band, does not show the object's position or has pixels of another size
        than the store's.

    Examples
    --------
    >>> from tidalkin.cutouts.write import write_cutout
    >>> counts = np.full((100, 100), 2, np.float32)
    >>> file = write_cutout(counts, None, counts, band="i", ra=150.0, dec=2.0, fluxmag0=10**12.56, mask_planes={})
    >>> image = read_band(file, "42.fits", "i", np.array([150.0, 2.0]), Images(size=64))
    >>> image.flux.shape, float(image.flux.mean().round(3))
    ((64, 64), 2.0)
    """
    cutout = read_cutout(content, file, images.bad_mask_planes, images.bad_mask_bits)
    if cutout.band not in (None, band):
        raise TidalkinError(f"{file}: is of band {cutout.band} by its FILTER: check the names of the files")
    flux = place_on_grid(cutout.flux, cutout.wcs, position[0], position[1], images.size)
    if np.isnan(flux).all() and not np.isnan(cutout.flux).all():
        raise TidalkinError(
            f"{file}: has no good pixel near the object at ra {position[0]:.6f}, dec {position[1]:.6f}: "
            "check that it is the image of this object"
        )
    axes = None if cutout.wcs is None else pixel_axes(cutout.wcs, position[0], position[1])
    if axes is not None:
        _check_scale(axes, file)
    noise = sky_sigma(cutout.flux, cutout.variance)
    return BandImage(flux, noise, cutout.psf_fwhm, axes, cutout.impossible_pixels)


def _check_scale(axes: npt.NDArray[np.float64], file: str) -> None:
    """Refuse pixels of another size than the store's."""
    if not np.isfinite(axes).all():
        return
    sides = 1.0 / np.maximum(np.linalg.norm(axes, axis=0), 1e-9)  # to the east and to the north, arcsec
    if (np.abs(sides / PIXEL_SCALE_ARCSEC - 1.0) > AXES_TOLERANCE).any():
        raise TidalkinError(
            f"{file}: has pixels of {sides[0]:.4g} by {sides[1]:.4g} arcsec by its WCS, but {PIXEL_SCALE_ARCSEC} are "
            "expected: resample it"
        )


def _check_axes(axes: npt.NDArray[np.float64], first: npt.NDArray[np.float64], file: str) -> None:
    """Refuse a band that is turned or mirrored against the object's first band."""
    if np.abs(axes - first).max() * PIXEL_SCALE_ARCSEC > AXES_TOLERANCE:
        raise TidalkinError(
            f"{file}: is turned or mirrored against the object's other bands by its WCS: resample it to their grid"
        )


def _impossible(pixels: int, file: str) -> str:
    return f"{file}: has {pixels} pixel{'s' * (pixels > 1)} beyond any flux, counted as missing: check the file"


def _known_psf_fwhm(objects: pd.DataFrame, bands: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return the seeing in the catalog, (object, band) in arcsec; NaN if unknown or impossible."""
    known = np.full((len(objects), len(bands)), np.nan, np.float32)
    for i, band in enumerate(bands):
        if f"psf_fwhm_{band}" in objects:
            with np.errstate(over="ignore"):  # infinite seeing is impossible as well
                column = objects[f"psf_fwhm_{band}"].to_numpy(np.float32)
            known[:, i] = np.where((column > 0) & (column <= LARGEST_PSF_FWHM_ARCSEC), column, np.nan)
    return known


def _write_shard(store: ImageStore, shard: int, content: Shard) -> None:
    """Write one shard through to the disk, so that its note does not outlive it."""
    # One core per worker: the cluster has as many workers as there are cores for them.
    with zarr.config.set({"threading.max_workers": 1}):
        store.write(shard, content)
    for file in store.files_of(shard):
        with file.open("rb") as written:
            os.fsync(written.fileno())
