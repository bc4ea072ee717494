"""The image store: every galaxy on one grid of pixels, calibrated, in Zarr v3 shards.

This module knows the layout of the store, how one shard is written and how it is read back. How shards are made from
cutouts, in parallel and with restarts, is `tidalkin.conversion`.

One row per catalog row, in catalog order, also for objects without any image:

================= ======================= ===================================================================
``flux``          (object, band, y, x) f4 nanojansky, NaN where missing
``sky_sigma``     (object, band) f4       noise of one pixel of sky, nanojansky, NaN where unknown
``psf_fwhm``      (object, band) f4       seeing, arcsec, NaN where unknown
``good_fraction`` (object, band) f4       share of the pixels that are not missing
``object_id``     (object,) i8            as in the catalog
================= ======================= ===================================================================

All five are cut at the same rows: shard ``i`` is one file of each, and no two shards share a file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.errors import BaseZarrError

from tidalkin import __version__
from tidalkin.config import PIXEL_SCALE_ARCSEC, Images, config_digest
from tidalkin.errors import TidalkinError

STORE_VERSION = 1
ZERO_POINT_AB = 31.4  # magnitude of 1 nJy

# Sky pixels are mantissa noise: on HSC images, LZ4 after a bit shuffle leaves 92 % of the bytes, writes 500 MB/s and
# reads 1.2 GB/s per core; Zstandard leaves 88 % at best and writes four times slower.
FLUX_CODECS = (BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=4), Crc32cCodec())

# How far the variance plane may be from the scatter of the pixels before it is taken for something else.
LARGEST_SIGMA_RATIO = 10.0
SKY_SAMPLE = 4096  # pixels: the median of so many has an error of 2 % of sigma
MAD_TO_SIGMA = 1.4826022

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Shard:
    """The rows of one shard."""

    flux: Floats
    """(object, band, y, x), nanojansky, NaN where missing."""
    sky_sigma: Floats
    """(object, band), nanojansky."""
    psf_fwhm: Floats
    """(object, band), arcsec."""
    good_fraction: Floats
    """(object, band)."""
    object_id: npt.NDArray[np.int64]
    """(object,)."""

    def rows(self, chosen: npt.NDArray[np.int64]) -> Shard:
        """Some of the rows."""
        return Shard(**{name: array[chosen] for name, array in vars(self).items()})


ARRAYS = tuple(Shard.__dataclass_fields__)


# --- layout ------------------------------------------------------------------------------------------------------


def create_store(path: str | Path, *, objects: int, bands: Sequence[str], images: Images) -> zarr.Group:
    """Lay out an empty store.

    Parameters
    ----------
    path : path
        Where; whatever is there is replaced.
    objects : int
        Number of rows.
    bands : sequence of str
        Bands, in the order of the second axis.
    images : Images
        Size of the images, rows of a shard and of a chunk.

    Returns
    -------
    zarr.Group
        With the arrays of this module and no data.
    """
    store = zarr.open_group(path, mode="w", zarr_format=3, attributes=store_attributes(bands, images))
    rows = images.shard_size
    frame = (len(bands), images.size, images.size)
    store.create_array(
        "flux",
        shape=(objects, *frame),
        dtype="float32",
        shards=(rows, *frame),
        chunks=(images.chunk_size, *frame),
        compressors=FLUX_CODECS,
        fill_value=math.nan,
        dimension_names=("object", "band", "y", "x"),
        attributes={"unit": "nJy"},
    )
    for name, unit in (("sky_sigma", "nJy"), ("psf_fwhm", "arcsec"), ("good_fraction", "1")):
        store.create_array(
            name,
            shape=(objects, len(bands)),
            dtype="float32",
            chunks=(rows, len(bands)),
            compressors=Crc32cCodec(),
            fill_value=math.nan,
            dimension_names=("object", "band"),
            attributes={"unit": unit},
        )
    store.create_array(
        "object_id",
        shape=(objects,),
        dtype="int64",
        chunks=(rows,),
        compressors=Crc32cCodec(),
        dimension_names=("object",),
    )
    return store


def store_attributes(bands: Sequence[str], images: Images) -> dict[str, Any]:
    """What a store says of itself: versions, bands, grid, units, and which configuration made it."""
    return {
        "tidalkin_store": STORE_VERSION,
        "tidalkin_version": __version__,
        "config_digest": config_digest(list(bands), images),
        "bands": list(bands),
        "size": images.size,
        "pixel_scale_arcsec": PIXEL_SCALE_ARCSEC,
        "flux_unit": "nJy",
        "zero_point_ab": ZERO_POINT_AB,
    }


def open_store(path: str | Path) -> zarr.Group:
    """Open a store for reading.

    Raises
    ------
    TidalkinError
        If there is no store of this version's layout.
    """
    mend = "make it again with `snakemake --forcerun convert`"
    if not Path(path).is_dir():
        raise TidalkinError(f"{path}: no image store is here: {mend}")
    try:
        store = zarr.open_group(path, mode="r")
        version = store.attrs.get("tidalkin_store")
        missing = [name for name in ARRAYS if name not in store]
    except (BaseZarrError, OSError, ValueError, KeyError, TypeError) as error:
        raise TidalkinError(f"{path}: is not an image store of tidalkin ({error}): {mend}") from None
    if version is None:
        raise TidalkinError(f"{path}: is a Zarr group, but not an image store of tidalkin: {mend}")
    if version != STORE_VERSION:
        raise TidalkinError(
            f"{path}: is an image store of version {version}, but this tidalkin reads version {STORE_VERSION}: {mend}"
        )
    if missing:
        raise TidalkinError(f"{path}: lacks the array `{missing[0]}`: {mend}")
    return store


def array_of(store: zarr.Group, name: str) -> zarr.Array[Any]:
    """One array of a store."""
    array = store[name]
    assert isinstance(array, zarr.Array)
    return array


def shard_rows(store: zarr.Group, shard: int) -> slice:
    """Rows of one shard; the last one may be shorter."""
    ids = array_of(store, "object_id")
    rows = ids.chunks[0]
    return slice(shard * rows, min((shard + 1) * rows, ids.shape[0]))


def shard_count(store: zarr.Group) -> int:
    """Number of shards."""
    ids = array_of(store, "object_id")
    return math.ceil(ids.shape[0] / ids.chunks[0])


def shard_files(path: str | Path, shard: int) -> list[Path]:
    """The files of one shard below the store at ``path``."""
    names = {"flux": (shard, 0, 0, 0), "object_id": (shard,)}
    return [Path(path, name, "c", *map(str, names.get(name, (shard, 0)))) for name in ARRAYS]


# --- shards ------------------------------------------------------------------------------------------------------


def write_shard(store: zarr.Group, shard: int, content: Shard) -> None:
    """Write all rows of one shard, each array in one piece: the only way data get into a store."""
    rows = shard_rows(store, shard)
    # Also a chunk that is all missing is written, so that a file that is not there is a file that got lost.
    with zarr.config.set({"array.write_empty_chunks": True}):
        for name in ARRAYS:
            array_of(store, name)[rows] = getattr(content, name)


def read_shard(store: zarr.Group, shard: int) -> Shard:
    """Read all rows of one shard: by far the fastest way to read images.

    Parameters
    ----------
    store : zarr.Group
        From `open_store`.
    shard : int
        From 0 to ``shard_count(store) - 1``.

    Raises
    ------
    TidalkinError
        If a file of the shard is lost or damaged.
    """
    path = Path(str(store.store_path).removeprefix("file://"))
    for file in shard_files(path, shard):
        if not file.exists() or not file.stat().st_size:  # to Zarr, both are nothing but missing pixels
            raise TidalkinError(f"{file}: is lost or empty: make the store again with `snakemake --forcerun convert`")
    rows = shard_rows(store, shard)
    try:
        arrays: dict[str, Any] = {name: array_of(store, name)[rows] for name in ARRAYS}
    except (ValueError, RuntimeError, OSError) as error:
        raise TidalkinError(
            f"{path}: shard {shard} is damaged ({error}): make it again with `snakemake --forcerun convert`"
        ) from None
    return Shard(**arrays)


# --- sky noise ---------------------------------------------------------------------------------------------------


def sky_sigma(flux: npt.NDArray[np.floating[Any]], variance: npt.NDArray[np.floating[Any]] | None) -> float:
    """Noise of one pixel of sky.

    The square root of the median of the variance plane, over the pixels that are not missing. Where there is no
    variance plane, or it is more than a factor of ten from the scatter of the pixels and so is no variance in
    these units, the scatter itself: 1.4826 times the median absolute deviation, after three rounds of clipping at
    3 sigma. The variance plane comes first because it does not grow with the galaxy: over 550 real HSC images the
    clipped scatter is 1.1 times the variance's sigma in the median and 2.3 times where galaxies fill the image.

    What it is good for: the level at which the stretch turns from linear to logarithmic, and the strength of added
    noise. Both go by single pixels. The noise of coadds is correlated between neighbours by the warping, so that
    averages over n pixels scatter by more than this sigma / sqrt(n): it is no error for photometry, and white noise
    of this sigma is a weaker disturbance of wide structure than HSC's own noise.

    Parameters
    ----------
    flux : (y, x) array
        NaN where missing.
    variance : (y, x) array or None
        In the square of the unit of ``flux``.

    Returns
    -------
    float
        In the unit of ``flux``; NaN where nothing tells.
    """
    step = max(1, math.isqrt(flux.size // SKY_SAMPLE))
    if variance is not None:
        # A variance plane is smooth, and the check is a rough one: fewer pixels do.
        sparse = flux[:: 2 * step, :: 2 * step]
        good = np.isfinite(sparse)
        if good.any():
            expected = math.sqrt(max(_median(variance[:: 2 * step, :: 2 * step][good]), 0.0))
            if _is_plausible(expected, _scatter(sparse[good][::4])):
                return expected
    sample = flux[::step, ::step]
    pixels = sample[np.isfinite(sample)]
    if not pixels.size:
        return math.nan
    for _ in range(3):
        pixels = pixels[np.abs(pixels - _median(pixels)) <= 3 * _scatter(pixels)]
    return _scatter(pixels) or math.nan


def _median(pixels: npt.NDArray[np.floating[Any]]) -> float:
    # Half as long as np.median, whose mean of the middle two does not matter here. NaN sorts last.
    middle = pixels.size // 2
    return float(np.partition(pixels, middle)[middle])


def _is_plausible(expected: float, scatter: float) -> bool:
    if not 0 < expected < math.inf:
        return False
    # Pixels without any scatter (a drawing without noise) contradict no variance.
    return scatter == 0 or 1 / LARGEST_SIGMA_RATIO <= expected / scatter <= LARGEST_SIGMA_RATIO


def _scatter(pixels: npt.NDArray[np.floating[Any]]) -> float:
    return MAD_TO_SIGMA * _median(np.abs(pixels - _median(pixels)))
