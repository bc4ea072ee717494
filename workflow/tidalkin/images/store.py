"""The layout of the image store: every galaxy on one grid of pixels, in Zarr v3 shards.

The store has one row per catalog row, in catalog order, also for objects without any image:

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
from tidalkin.config import Images, config_digest
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.errors import TidalkinError
from tidalkin.images.noise import Floats

STORE_VERSION = 1
ZERO_POINT_AB = 31.4  # magnitude of 1 nJy
# Sky pixels are mantissa noise: on HSC images, LZ4 after a bit shuffle leaves 92 % of the bytes, writes 500 MB/s and
# reads 1.2 GB/s per core; Zstandard leaves 88 % at best and writes four times slower.
FLUX_CODECS = (BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=4), Crc32cCodec())


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
