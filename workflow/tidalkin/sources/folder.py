"""FITS files on disk: one per object and band, or one multi-extension file per object.

A file of one object and band is passed on byte for byte. A multi-extension file is repacked as one file per band: the
HDU that `hdu_template` names is the image, and the HDUs `<image>_MASK` and `<image>_VARIANCE`, if they exist, are its
mask and variance. The calibration (FLUXMAG0 or BUNIT) may be in the image's header or in that of HDU 0. Any file may be
compressed by gzip.
"""

from __future__ import annotations

import fnmatch
import io
import itertools
import re
import warnings
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from string import Formatter
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


WILDCARD = re.compile(r"[*?]")


class _NoFile(Exception):
    """No file fits the template."""


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
        fields = {field for _, field, _, _ in Formatter().parse(folder.template)}
        self._one_per_band = bool(fields & {"band", "BAND"})
        self._names: dict[Path, list[str]] = {}
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
        for object_id in objects["object_id"].tolist():
            if self._one_per_band:
                for band in bands:
                    yield self._file_of_band(object_id, band)
            else:
                yield from self._file_of_all_bands(object_id, bands)

    def files(self, object_ids: Iterable[int], bands: Sequence[str]) -> Iterator[Path]:
        """Name the files of galaxies that exist, in the order in which they are read."""
        for object_id in object_ids:
            for band in bands if self._one_per_band else ("",):
                with suppress(_NoFile, TidalkinError):  # told for each cutout when it is read
                    yield self._find(object_id, band)

    def _find(self, object_id: int, band: str) -> Path:
        """Return the file of an object, the only one that fits a template with wildcards.

        Raises
        ------
        _NoFile
            If there is no such file.
        TidalkinError
            If several files fit.
        """
        name = _filled(self.folder.template, object_id, band)
        path = self.root / name
        if path.exists():
            return path
        files = self._fitting(path)
        if not files:
            raise _NoFile(f"there is no file {path}")
        if len(files) > 1:
            raise TidalkinError(
                f"{len(files)} files fit {path}, among them {files[0].name} and {files[1].name}: make "
                "cutouts.folder.template fit one file for each object and band"
            )
        return files[0]

    def _fitting(self, path: Path) -> list[Path]:
        """Return the files whose names fit the wildcards in the last part of a path."""
        wildcard = WILDCARD.search(path.name)
        if not wildcard or not path.parent.is_dir():
            return []
        # A folder is read once, since it may hold millions of files.
        if path.parent not in self._names:
            self._names[path.parent] = sorted(file.name for file in path.parent.iterdir())
        names, start = self._names[path.parent], path.name[: wildcard.start()]
        candidates = itertools.takewhile(
            lambda name: name.startswith(start), itertools.islice(names, bisect_left(names, start), None)
        )
        return [path.with_name(name) for name in candidates if fnmatch.fnmatchcase(name, path.name)]

    def _file_of_band(self, object_id: int, band: str) -> Cutout:
        try:
            path = self._find(object_id, band)
        except _NoFile as error:
            return Cutout(object_id, band, "absent", reason=str(error))
        except TidalkinError as error:
            return Cutout(object_id, band, "failed", reason=str(error))
        try:
            content = path.read_bytes()
        except OSError as error:
            return Cutout(object_id, band, "failed", reason=f"{path} cannot be read: {error.strerror}")
        return _verified(object_id, band, content, str(path))

    def _file_of_all_bands(self, object_id: int, bands: Sequence[str]) -> Iterator[Cutout]:
        try:
            path = self._find(object_id, "")
        except _NoFile as error:
            yield from (Cutout(object_id, band, "absent", reason=str(error)) for band in bands)
            return
        except TidalkinError as error:
            yield from (Cutout(object_id, band, "failed", reason=str(error)) for band in bands)
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
