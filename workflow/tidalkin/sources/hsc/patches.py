"""Cutouts from whole coadd patches of HSC, for samples dense in galaxies.

A patch is 4,200 pixels wide. It has a border of 100 pixels, so that neighbours overlap by 200. Cutouts of up to 200
pixels around the galaxies of its inner part are therefore complete. A cutout is that of the cutout service: its image,
mask and variance on the patch's own pixels, one more on each side than requested.
"""

from __future__ import annotations

import io
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import pandas as pd
import platformdirs
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.wcs import NoConvergence

from tidalkin.atomic import disk_errors
from tidalkin.config import Cutouts
from tidalkin.cutouts.base import Cutout, Status
from tidalkin.cutouts.fits_fast import ASTROPY_FAULTS
from tidalkin.cutouts.grid import PIXEL_TOLERANCE
from tidalkin.cutouts.read import read_cutout
from tidalkin.download.credentials import Account
from tidalkin.download.faults import Fault
from tidalkin.download.http import quoted
from tidalkin.download.request import Key
from tidalkin.errors import TidalkinError, first_line
from tidalkin.sources.base import SourceContext
from tidalkin.sources.hsc.patch_cache import IMAGE, MASK, VARIANCE, NoSuchPatch, Patch, PatchCache

logger = logging.getLogger(__name__)

CALIBRATION_KEYS = ("FLUXMAG0", "BUNIT")
_PLACE_STEMS = (
    "CTYPE",
    "CRVAL",
    "CRPIX",
    "CUNIT",
    "CDELT",
    "CD",
    "PC",
    "PV",
    "RADESYS",
    "EQUINOX",
    "LONPOLE",
    "LATPOLE",
)


@dataclass(frozen=True)
class _Cut:
    """A cutout, and its place in the spool if its content is there."""

    cutout: Cutout
    offset: int = 0
    size: int = 0


class HscPatchesSource:
    """HSC's coadd patches as a source.

    Parameters
    ----------
    cutouts : Cutouts
        The configuration's section: size, and ``hsc_patches``.
    account : Account, optional
        Credentials; by default, they are looked for.
    lock_folder : Path, optional
        Where the connection limit is kept; by default, in the user's cache directory.
    """

    def __init__(self, cutouts: Cutouts, account: Account | None = None, lock_folder: Path | None = None) -> None:
        self._settings = cutouts.hsc_patches
        self._side = cutouts.size_pixels + 2
        chosen = self._settings.transport.cache
        self._folder = Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("tidalkin") / "patches"
        self._cache = PatchCache(self._settings, self._folder, account, lock_folder)

    @classmethod
    def open(cls, cutouts: Cutouts, context: SourceContext) -> Self:
        """Open the source: see `tidalkin.sources.base.SourceType`."""
        return cls(cutouts, context.account, context.lock_folder)

    def fetch(self, objects: pd.DataFrame, bands: Sequence[str]) -> Iterator[Cutout]:
        """Cut patch by patch, then yield object by object and band by band.

        Raises
        ------
        TidalkinError
            If the catalog does not name the patch of each object, the archive refuses the credentials or the address,
            or the disk is full.
        """
        check_patches(objects)
        with disk_errors(self._folder), tempfile.TemporaryFile(dir=self._folder, prefix=".cut-") as spool:
            cuts = self._cut_all(objects, bands, spool)
            if cuts and all(cut.cutout.status == "absent" for cut in cuts.values()):
                cuts = self._suspicious(cuts)
            for object_id in objects["object_id"].tolist():
                for band in bands:
                    cut = cuts.pop((object_id, band))
                    if not cut.size:
                        yield cut.cutout
                        continue
                    spool.seek(cut.offset)
                    yield Cutout(object_id, band, "ok", spool.read(cut.size))

    def _suspicious(self, cuts: dict[Key, _Cut]) -> dict[Key, _Cut]:
        """Mark all cutouts as failed if the archive has none of the patches.

        A wrong address looks like that.
        """
        reason = (
            "the archive has none of the chunk's patches: check `cutouts.hsc_patches.url` and "
            "`cutouts.hsc_patches.rerun`"
        )
        logger.warning("%d cutouts failed: %s", len(cuts), reason)
        return {key: _Cut(cut.cutout._replace(status="failed", reason=reason)) for key, cut in cuts.items()}

    def _cut_all(self, objects: pd.DataFrame, bands: Sequence[str], spool: IO[bytes]) -> dict[Key, _Cut]:
        """Write all cutouts to the spool, patch by patch."""
        cuts: dict[Key, _Cut] = {}
        groups = dict(list(objects.groupby(["tract", "patch"], sort=True)))
        for number, members in enumerate(groups.values(), start=1):
            tract, patch = int(members["tract"].iloc[0]), int(members["patch"].iloc[0])
            for band in bands:
                chosen = Patch(self._settings.rerun, tract, patch, f"HSC-{band.upper()}", self._settings.image_type)
                for cutout in self._cut_patch(chosen, members, band):
                    offset = spool.tell()
                    spool.write(cutout.content)
                    cuts[cutout.object_id, band] = _Cut(cutout._replace(content=b""), offset, len(cutout.content))
            logger.info(
                "%d of %d patches, %d of %d objects", number, len(groups), len(cuts) // len(bands), len(objects)
            )
        return cuts

    def _cut_patch(self, patch: Patch, members: pd.DataFrame, band: str) -> Iterator[Cutout]:
        status: Status
        try:
            with self._cache.opened(patch) as hdus:
                yield from self._cut_members(hdus, patch, members, band)
                return
        except NoSuchPatch as absent:
            status, reason = "absent", str(absent)
        except Fault as fault:
            status = "failed"
            reason = f"{patch}: {self._settings.transport.attempts} tries without result, the last: {fault}"
            logger.warning("%d cutouts failed: %s", len(members), reason)
        for object_id in members["object_id"].tolist():
            yield Cutout(object_id, band, status, reason=reason)

    def _cut_members(self, hdus: fits.HDUList, patch: Patch, members: pd.DataFrame, band: str) -> Iterator[Cutout]:
        try:
            x, y, is_inside = self._positions(hdus, members)
        except Fault as fault:
            # The next try downloads it again.
            self._cache.discard(patch)
            logger.warning("%d cutouts failed: %s came whole, but %s", len(members), patch, fault)
            for object_id in members["object_id"].tolist():
                yield Cutout(object_id, band, "failed", reason=f"{patch} came whole, but {fault}")
            return
        for object_id, column, row, inside in zip(
            members["object_id"].tolist(), x.tolist(), y.tolist(), is_inside.tolist(), strict=True
        ):
            if not inside:
                yield Cutout(object_id, band, "failed", reason=f"its position is not on the {patch} of the catalog")
                continue
            try:
                content = cut(hdus, column, row, self._side, band)
                read_cutout(content, f"cut from the {patch}")
            except (TidalkinError, *ASTROPY_FAULTS) as error:
                yield Cutout(object_id, band, "failed", reason=" ".join(str(error).split()))
                continue
            yield Cutout(object_id, band, "ok", content)

    def _positions(self, hdus: fits.HDUList, members: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find the pixels of the objects on a patch, and which objects lie on it.

        Raises
        ------
        Fault
            If the patch is too small or has none of the objects, so that it is not the one that was requested.
        """
        height, width = hdus[IMAGE].shape
        if min(height, width) < self._side:
            raise Fault(f"it has only {width} x {height} pixels")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of keys that astropy corrects by itself
                wcs = WCS(hdus[IMAGE].header, naxis=2)
                x, y = wcs.all_world2pix(members["ra"].to_numpy(), members["dec"].to_numpy(), 0)
        except (NoConvergence, *ASTROPY_FAULTS) as error:
            raise Fault(f"its coordinates cannot be used ({quoted(first_line(error), 200)})") from None
        is_inside = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
        if not is_inside.any():
            raise Fault("it is of another place, since none of the catalog's objects lies on it")
        return x, y, is_inside


def check_patches(objects: pd.DataFrame) -> None:
    """Refuse a catalog that does not name the patch of each object.

    Raises
    ------
    TidalkinError
        If the columns `tract` and `patch` are missing, or do not hold whole numbers like HSC's.

    Examples
    --------
    >>> check_patches(pd.DataFrame({"object_id": [7], "tract": [9813], "patch": [405]}))
    >>> check_patches(pd.DataFrame({"object_id": [7], "tract": [9813], "patch": ["4,5"]}))
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: the catalog's column patch must hold whole numbers from 0 to 909, like HSC's
    """
    for column, largest in (("tract", 99_999), ("patch", 909)):
        if column not in objects:
            raise TidalkinError(
                f"the catalog has no column {column}, which source hsc_patches needs: add it to the query (HSC's "
                "tables have it), or use source hsc_das"
            )
        values = objects[column]
        if not pd.api.types.is_integer_dtype(values) or values.isna().any() or not values.between(0, largest).all():
            raise TidalkinError(
                f"the catalog's column {column} must hold whole numbers from 0 to {largest}, like HSC's"
            )


def cut(hdus: fits.HDUList, x: float, y: float, side: int, band: str) -> bytes:
    """Cut one object out of a patch.

    Parameters
    ----------
    hdus : HDUList
        The patch: image, mask and variance are HDUs 1 to 3.
    x, y : float
        The object's position on the patch, pixels counted from zero.
    side : int
        Side of the cutout in pixels; it is narrower where the patch ends.
    band : str
        g, r, i, z or y.

    Returns
    -------
    bytes
        A FITS file in the layout of HSC's cutouts.

    Examples
    --------
    >>> planes = [fits.ImageHDU(np.zeros((60, 60), dtype)) for dtype in (np.float32, np.int32, np.float32)]
    >>> file = cut(fits.HDUList([fits.PrimaryHDU(), *planes]), x=30.0, y=55.0, side=20, band="i")
    >>> [hdu.data.shape for hdu in fits.open(io.BytesIO(file))[1:]]  # the patch ends above the object
    [(15, 20), (15, 20), (15, 20)]
    """
    height, width = hdus[IMAGE].shape
    left, low = (math.ceil(position - side / 2 - PIXEL_TOLERANCE) for position in (x, y))
    rows = slice(max(low, 0), min(low + side, height))
    columns = slice(max(left, 0), min(left + side, width))
    primary = fits.PrimaryHDU()
    for key in CALIBRATION_KEYS:
        value = hdus[IMAGE].header.get(key, hdus[0].header.get(key))
        if value is not None:
            primary.header[key] = value
    primary.header["FILTER"] = hdus[0].header.get("FILTER", f"HSC-{band.upper()}")
    planes = [primary]
    for number, name, dtype in (
        (IMAGE, "IMAGE", np.float32),
        (MASK, "MASK", np.int32),
        (VARIANCE, "VARIANCE", np.float32),
    ):
        pixels = hdus[number].data[rows, columns].astype(dtype)
        header = _cut_header(hdus[number].header, columns.start, rows.start)
        planes.append(fits.ImageHDU(pixels, header, name=name))
    buffer = io.BytesIO()
    fits.HDUList(planes).writeto(buffer, output_verify="silentfix")
    return buffer.getvalue()


def _cut_header(header: fits.Header, left: int, low: int) -> fits.Header:
    """Return coordinates and mask planes of a cutout that begins at (left, low)."""
    kept = fits.Header()
    for key in header:
        if key.startswith("MP_"):
            kept[key if len(key) <= 8 else f"HIERARCH {key}"] = header[key]
        elif key.startswith(_PLACE_STEMS) and _is_own_place(key):
            value: Any = header[key]
            kept[key] = value - (left if key == "CRPIX1" else low) if key in ("CRPIX1", "CRPIX2") else value
    return kept


def _is_own_place(key: str) -> bool:
    """Return whether a key is of the main coordinates.

    Keys with a final letter count pixels of the whole tract.
    """
    return key in ("RADESYS", "EQUINOX", "LONPOLE", "LATPOLE") or key[-1].isdecimal()
