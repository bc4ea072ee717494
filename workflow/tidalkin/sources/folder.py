"""FITS files on disk: one per object and band, or one multi-extension file per object.

A file of one object and band is passed on byte for byte. A multi-extension file is repacked as one file per band: the
HDU that `hdu_template` names is the image, and the HDUs `<image>_MASK` and `<image>_VARIANCE`, if they exist, are its
mask and variance. The calibration (FLUXMAG0 or BUNIT) may be in the image's header or in that of HDU 0. Any file may be
compressed by gzip.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import pandas as pd
from astropy.io import fits

from tidalkin.config import Cutouts, Folder
from tidalkin.cutouts.base import Cutout
from tidalkin.cutouts.fits_fast import ASTROPY_FAULTS, unzipped
from tidalkin.cutouts.read import read_cutout, read_file
from tidalkin.errors import TidalkinError
from tidalkin.sources.base import SourceContext

# Keys of HDU 0 that apply to every band.
SHARED_KEYS = ("FLUXMAG0", "BUNIT", "PSF_FWHM")


class FolderSource:
    """The FITS files of a folder as a source.

    Parameters
    ----------
    folder : Folder
        The folder and the names of the files in it.

    Raises
    ------
    TidalkinError
        If there is no such folder.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.root = Path(folder.path).expanduser()
        if not self.root.is_dir():
            raise TidalkinError(
                f"cutouts.folder.path {folder.path!r} is not a folder: name the one with your FITS files"
            )

    @classmethod
    def open(cls, cutouts: Cutouts, context: SourceContext) -> Self:
        """Open the source: see `tidalkin.sources.base.SourceType`."""
        return cls(cutouts.folder)

    def fetch(self, objects: pd.DataFrame, bands: Sequence[str]) -> Iterator[Cutout]:
        """Read each object in each band; a missing file is `absent`, an unreadable one `failed`."""
        one_per_band = "{band}" in self.folder.template or "{BAND}" in self.folder.template
        for object_id in objects["object_id"].tolist():
            if one_per_band:
                for band in bands:
                    yield self._file_of_band(object_id, band)
            else:
                yield from self._file_of_all_bands(object_id, bands)

    def _path(self, object_id: int, band: str) -> Path:
        return self.root / _filled(self.folder.template, object_id, band)

    def _file_of_band(self, object_id: int, band: str) -> Cutout:
        path = self._path(object_id, band)
        if not path.exists():
            return Cutout(object_id, band, "absent", reason=f"there is no file {path}")
        try:
            content = path.read_bytes()
        except OSError as error:
            return Cutout(object_id, band, "failed", reason=f"{path} cannot be read: {error.strerror}")
        return _verified(object_id, band, content, str(path))

    def _file_of_all_bands(self, object_id: int, bands: Sequence[str]) -> Iterator[Cutout]:
        path = self._path(object_id, "")
        if not path.exists():
            for band in bands:
                yield Cutout(object_id, band, "absent", reason=f"there is no file {path}")
            return
        try:
            content = unzipped(read_file(path), str(path))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a file that is cut short fails below, where its band is known
                hdus = fits.open(io.BytesIO(content), memmap=False, lazy_load_hdus=False)
        except (TidalkinError, *ASTROPY_FAULTS) as error:
            reason = str(error) if isinstance(error, TidalkinError) else f"{path} cannot be read as FITS: {error}"
            for band in bands:
                yield Cutout(object_id, band, "failed", reason=reason)
            return
        with hdus:
            for band in bands:
                yield self._band_of(hdus, object_id, band, path)

    def _band_of(self, hdus: fits.HDUList, object_id: int, band: str, path: Path) -> Cutout:
        name = _filled(self.folder.hdu_template, object_id, band)
        if name not in hdus:
            return Cutout(object_id, band, "absent", reason=f"{path} has no HDU named {name!r}")
        try:
            content = _repacked(hdus, name, band)
        except ASTROPY_FAULTS as error:
            return Cutout(object_id, band, "failed", reason=f"{path}: HDU {name!r} cannot be read: {error}")
        return _verified(object_id, band, content, f"{path}: HDU {name!r}")


def _filled(template: str, object_id: int, band: str) -> str:
    return template.format(object_id=object_id, band=band, BAND=band.upper())


def _verified(object_id: int, band: str, content: bytes, name: str) -> Cutout:
    """Return the content as a cutout, if it can be read as one.

    The bytes stay unchanged. A file of another band has failed.
    """
    try:
        found = read_cutout(content, name).band
    except TidalkinError as error:
        return Cutout(object_id, band, "failed", reason=str(error))
    if found not in (None, band):
        return Cutout(object_id, band, "failed", reason=f"{name}: is of band {found} by its key FILTER, not {band}")
    return Cutout(object_id, band, "ok", content)


def _repacked(hdus: fits.HDUList, name: str, band: str) -> bytes:
    """Write one band of a multi-extension file in the layout of HSC's cutouts."""
    primary = fits.PrimaryHDU()
    for key in SHARED_KEYS:
        if key in hdus[0].header:
            primary.header[key] = hdus[0].header[key]
    primary.header["FILTER"] = hdus[name].header.get("FILTER", f"HSC-{band.upper()}")
    planes = [primary]
    for role, source in (("IMAGE", name), ("MASK", f"{name}_MASK"), ("VARIANCE", f"{name}_VARIANCE")):
        if source in hdus:
            planes.append(fits.ImageHDU(hdus[source].data, hdus[source].header, name=role))
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)
        fits.HDUList(planes).writeto(buffer, output_verify="silentfix")
    return buffer.getvalue()
