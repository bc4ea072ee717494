"""The image store: every galaxy on one grid of pixels, in Zarr v3 shards.

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
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.errors import BaseZarrError

from tidalkin import __version__
from tidalkin.config import Images, config_digest
from tidalkin.constants import PIXEL_SCALE_ARCSEC, ZERO_POINT_AB
from tidalkin.errors import TidalkinError, first_line
from tidalkin.images.noise import Floats

STORE_VERSION = 1
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
        """Return some of the rows."""
        return Shard(**{name: array[chosen] for name, array in vars(self).items()})


ARRAYS = tuple(Shard.__dataclass_fields__)


class ImageStore:
    """The images of a run on disk: five zarr arrays in shards of equal rows.

    Open one with `ImageStore.open`, lay out a new one with `ImageStore.create`.

    Parameters
    ----------
    group : zarr.Group
        The group with the arrays and attributes of this module.

    Attributes
    ----------
    group : zarr.Group
        The group on disk.
    path : Path
        Folder of the store.
    bands : tuple of str
        Bands, in the order of the arrays' second axis.
    size : int
        Side of the images, pixels.
    n_objects, shard_size, n_shards : int
        Rows of the store, rows of a shard (the last may have fewer), shards.
    flux, sky_sigma, psf_fwhm, good_fraction, object_id : zarr.Array
        The arrays on disk; ``np.asarray(store.sky_sigma)`` reads one whole.

    Examples
    --------
    >>> images = Images(size=8, shard_size=2, chunk_size=1)
    >>> store = ImageStore.create("images.zarr", objects=3, bands=["g", "i"], images=images)
    >>> ones = np.ones((2, 2), np.float32)
    >>> store.write(0, Shard(np.ones((2, 2, 8, 8), np.float32), ones, ones, ones, np.array([7, 8])))
    >>> store = ImageStore.open("images.zarr")
    >>> store.bands, store.read(0).flux.shape, store.n_shards
    (('g', 'i'), (2, 2, 8, 8), 2)
    >>> store.rows_of(1), store.good_rows(0.5).tolist()  # the second shard is not written yet
    (slice(2, 3, None), [0, 1])
    >>> store.files_of(0)[0].as_posix()
    'images.zarr/flux/c/0/0/0/0'
    """

    def __init__(self, group: zarr.Group) -> None:
        self.group = group
        self.path = Path(str(group.store_path).removeprefix("file://"))
        self.bands = tuple(str(band) for band in cast("list[str]", group.attrs["bands"]))
        self.size = cast("int", group.attrs["size"])
        self.flux, self.sky_sigma, self.psf_fwhm, self.good_fraction, self.object_id = (
            cast("zarr.Array[Any]", group[name]) for name in ARRAYS
        )
        self.n_objects: int = self.object_id.shape[0]
        self.shard_size: int = self.object_id.chunks[0]
        self.n_shards = math.ceil(self.n_objects / self.shard_size)

    @classmethod
    def create(cls, path: str | Path, *, objects: int, bands: Sequence[str], images: Images) -> ImageStore:
        """Lay out an empty store.

        Parameters
        ----------
        path : path
            Folder of the store; whatever is there is replaced.
        objects : int
            Number of rows.
        bands : sequence of str
            Bands, in the order of the second axis.
        images : Images
            Size of the images, rows of a shard and of a chunk.
        """
        group = zarr.open_group(path, mode="w", zarr_format=3, attributes=store_attributes(bands, images))
        rows = images.shard_size
        frame = (len(bands), images.size, images.size)
        group.create_array(
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
            group.create_array(
                name,
                shape=(objects, len(bands)),
                dtype="float32",
                chunks=(rows, len(bands)),
                compressors=Crc32cCodec(),
                fill_value=math.nan,
                dimension_names=("object", "band"),
                attributes={"unit": unit},
            )
        group.create_array(
            "object_id",
            shape=(objects,),
            dtype="int64",
            chunks=(rows,),
            compressors=Crc32cCodec(),
            dimension_names=("object",),
        )
        return cls(group)

    @classmethod
    def open(cls, path: str | Path, mode: Literal["r", "r+"] = "r") -> ImageStore:
        """Open a store.

        Parameters
        ----------
        path : path
            Folder of the store.
        mode : {"r", "r+"}
            Read only, or read and write.

        Raises
        ------
        TidalkinError
            If there is no store of this version's layout.
        """
        hint = "make it again with `snakemake --forcerun convert`"
        if not Path(path).is_dir():
            raise TidalkinError(f"{path}: no image store is here: {hint}")
        try:
            group = zarr.open_group(path, mode=mode)
            version = group.attrs.get("tidalkin_store")
            missing = [f"array `{name}`" for name in ARRAYS if name not in group]
            missing += [f"attribute `{name}`" for name in ("bands", "size") if name not in group.attrs]
        except (BaseZarrError, OSError, ValueError, KeyError, TypeError) as error:
            raise TidalkinError(f"{path}: is not an image store of tidalkin ({first_line(error)}): {hint}") from None
        if version is None:
            raise TidalkinError(f"{path}: is a Zarr group, but not an image store of tidalkin: {hint}")
        if version != STORE_VERSION:
            raise TidalkinError(
                f"{path}: is an image store of version {version}, but this tidalkin reads version {STORE_VERSION}: "
                f"{hint}"
            )
        if missing:
            raise TidalkinError(f"{path}: lacks the {missing[0]}: {hint}")
        return cls(group)

    def rows_of(self, shard: int) -> slice:
        """Return the rows of one shard."""
        return slice(shard * self.shard_size, min((shard + 1) * self.shard_size, self.n_objects))

    def good_rows(self, minimum_good_fraction: float) -> npt.NDArray[np.int64]:
        """Return the rows of the galaxies that have enough good pixels in every band, ascending."""
        worst = np.asarray(self.good_fraction).min(axis=1)
        return np.flatnonzero(worst >= minimum_good_fraction)

    def files_of(self, shard: int) -> list[Path]:
        """Return the files of one shard."""
        chunk = {"flux": (shard, 0, 0, 0), "object_id": (shard,)}
        return [Path(self.path, name, "c", *map(str, chunk.get(name, (shard, 0)))) for name in ARRAYS]

    def write(self, shard: int, content: Shard) -> None:
        """Write all rows of one shard, each array in one piece."""
        rows = self.rows_of(shard)
        # A chunk without any image is written too, so that a missing file is a lost one. An array keeps
        # the setting it was opened with, so it is opened here.
        with zarr.config.set({"array.write_empty_chunks": True}):
            for name in ARRAYS:
                cast("zarr.Array[Any]", self.group[name])[rows] = getattr(content, name)

    def read(self, shard: int, chosen: npt.NDArray[np.int64] | None = None) -> Shard:
        """Read all rows of one shard, or some of them.

        A whole shard is by far the fastest way to read all images.

        Parameters
        ----------
        shard : int
            From 0 to ``n_shards - 1``.
        chosen : (row,) int64, optional
            Rows of the shard, ascending, from 0. Of the images, only the chunks that hold them are read.

        Raises
        ------
        TidalkinError
            If a file of the shard is lost or damaged.
        """
        hint = "make the store again with `snakemake --forcerun convert`"
        for file in self.files_of(shard):
            if not file.exists() or not file.stat().st_size:  # to Zarr, both are nothing but missing pixels
                raise TidalkinError(f"{file}: is lost or empty: {hint}")
        rows = self.rows_of(shard)
        try:
            if chosen is None:
                return Shard(**{name: getattr(self, name)[rows] for name in ARRAYS})
            others = {name: getattr(self, name)[rows][chosen] for name in ARRAYS if name != "flux"}
            return Shard(flux=self._flux_of(rows, chosen), **others)
        except (ValueError, RuntimeError, OSError) as error:
            raise TidalkinError(f"{self.path}: shard {shard} is damaged ({first_line(error)}): {hint}") from None

    def _flux_of(self, rows: slice, chosen: npt.NDArray[np.int64]) -> Floats:
        """Read the images of some rows of a shard, chunk by chunk.

        Zarr's own selection of rows is several times slower than reading the whole shard, if there are many.
        """
        size = self.flux.chunks[0]
        images = np.empty((len(chosen), *self.flux.shape[1:]), np.float32)
        for chunk in np.unique(chosen // size):
            first = rows.start + chunk * size
            is_here = chosen // size == chunk
            read = np.asarray(self.flux[first : min(first + size, rows.stop)])
            images[is_here] = read[chosen[is_here] - chunk * size]
        return images


def store_attributes(bands: Sequence[str], images: Images) -> dict[str, Any]:
    """Return the attributes of a store: versions, bands, grid, units and configuration.

    Examples
    --------
    >>> attributes = store_attributes(["g", "i"], Images(size=96))
    >>> {key: attributes[key] for key in ("bands", "size", "pixel_scale_arcsec", "flux_unit")}
    {'bands': ['g', 'i'], 'size': 96, 'pixel_scale_arcsec': 0.168, 'flux_unit': 'nJy'}
    """
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
