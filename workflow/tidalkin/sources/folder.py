"""FITS files on disk: one per object and band, or one multi-extension file per object.

A file of one object and band is passed on byte for byte. A multi-extension file is repacked as one file per band: the
HDU that `hdu_template` names is the image, and the HDUs `<image>_MASK` and `<image>_VARIANCE`, if they exist, are its
mask and variance. The calibration (FLUXMAG0 or BUNIT) and the coordinates may be in the image's header or in that of
HDU 0. Any file may be compressed by gzip.
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
from tidalkin.config.cutouts import check_template, fill_template, template_fields
from tidalkin.cutouts.base import Cutout
from tidalkin.cutouts.fits_fast import ASTROPY_FAULTS, unzipped
from tidalkin.cutouts.read import lacks_coordinates, read_cutout, read_file
from tidalkin.errors import TidalkinError
from tidalkin.sources.base import SourceContext

# Keys of HDU 0 that apply to every band.
SHARED_KEYS = ("FLUXMAG0", "BUNIT", "PSF_FWHM")
WILDCARDS = ("*", "?")


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
        If there is no such folder, or a template cannot be filled in.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.root = Path(folder.path).expanduser()
        self._names: dict[Path, list[str]] = {}
        if not self.root.is_dir():
            raise TidalkinError(
                f"cutouts.folder.path {folder.path!r} is not a folder: name the one with your FITS files"
            )
        for template in (folder.template, folder.hdu_template):
            # A user's own file, in a search, is no part of the configuration and was not checked with it.
            try:
                check_template("file name", template)
            except ValueError as error:
                raise TidalkinError(str(error)) from None

    @classmethod
    def open(cls, cutouts: Cutouts, context: SourceContext) -> Self:
        """Open the source: see `tidalkin.sources.base.SourceType`."""
        return cls(cutouts.folder)

    def fetch(self, objects: pd.DataFrame, bands: Sequence[str]) -> Iterator[Cutout]:
        """Read each object in each band; a missing file is `absent`, an unreadable one `failed`."""
        for object_id in objects["object_id"].tolist():
            if self.folder.has_file_per_band:
                for band in bands:
                    yield self._file_of_band(object_id, band)
            else:
                yield from self._file_of_all_bands(object_id, bands)

    def files(self, object_ids: Iterable[int], bands: Sequence[str]) -> Iterator[Path]:
        """Name the files of galaxies that exist, in the order in which they are read."""
        for object_id in object_ids:
            for band in bands if self.folder.has_file_per_band else ("",):
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
        path = self.root / fill_template(self.folder.template, object_id, band)
        if path.exists():
            return path
        fitting = self._fitting(path)
        own = re.compile(_own_names(Path(self.folder.template).name, object_id, band), re.DOTALL)
        files = [file for file in fitting if own.fullmatch(file.name)]
        if not files:
            other = f": {fitting[0].name} has more digits, the id of another object" if fitting else ""
            raise _NoFile(f"there is no file {path}{other}")
        if len(files) > 1:
            raise TidalkinError(
                f"{len(files)} files fit {path}, among them {files[0].name} and {files[1].name}: make "
                "cutouts.folder.template fit one file for each object and band"
            )
        return files[0]

    def _fitting(self, path: Path) -> list[Path]:
        """Return the files whose names fit the wildcards in the last part of a path."""
        wildcard = re.search(r"[*?]", path.name)
        if not wildcard or not path.parent.is_dir():
            return []
        # A folder is read once, since it may hold millions of files.
        if path.parent not in self._names:
            self._names[path.parent] = sorted(file.name for file in path.parent.iterdir())
        names, start = self._names[path.parent], path.name[: wildcard.start()]
        candidates = itertools.takewhile(
            lambda name: name.startswith(start), itertools.islice(names, bisect_left(names, start), None)
        )
        pattern = path.name.replace("[", "[[]")  # a bracket is no wildcard of a template
        return [path.with_name(name) for name in candidates if fnmatch.fnmatchcase(name, pattern)]

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
        name = fill_template(self.folder.hdu_template, object_id, band)
        if name not in hdus:
            return Cutout(object_id, band, "absent", reason=f"{path} has no HDU named {name!r}")
        try:
            content = _repacked(hdus, name, self._filter_of(hdus, name, band))
        except ASTROPY_FAULTS as error:
            return Cutout(object_id, band, "failed", reason=f"{path}: HDU {name!r} cannot be read: {error}")
        return _verified(object_id, band, content, f"{path}: HDU {name!r}")

    def _filter_of(self, hdus: fits.HDUList, name: str, band: str) -> str:
        """Return the filter of an HDU, by its header or else by its name.

        The header of HDU 0 counts too where the file has one band only.
        """
        names_band = {"band", "BAND"} & template_fields(self.folder.hdu_template)
        headers = [hdus[name].header] if names_band else [hdus[name].header, hdus[0].header]
        return next((header["FILTER"] for header in headers if "FILTER" in header), f"HSC-{band.upper()}")


def _own_names(template: str, object_id: int, band: str) -> str:
    """Return a regular expression of the names that are this object's.

    A wildcard beside the id stands for no digit: 1* would fit 10-g.fits, which is another object's.
    """
    pattern, after_id = "", False
    for text, field, form, conversion in Formatter().parse(template):
        pattern += "(?![0-9])" * (after_id and text.startswith(WILDCARDS))
        pattern += "".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in text)
        if field:
            after_id = field == "object_id"
            pattern += "(?<![0-9])" * (after_id and text.endswith(WILDCARDS))
            one = "{" + field + (f"!{conversion}" if conversion else "") + f":{form}" + "}"
            pattern += re.escape(fill_template(one, object_id, band))
    return pattern


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


def _repacked(hdus: fits.HDUList, name: str, filter_name: str) -> bytes:
    """Write one band of a multi-extension file in the layout of HSC's cutouts."""
    primary = fits.PrimaryHDU()
    if lacks_coordinates(hdus[name].header, hdus[0].header):
        # The keys of all projections and distortions are many, and the rest of the header does no harm.
        primary.header.extend(hdus[0].header, strip=True)
    for key in SHARED_KEYS:
        if key in hdus[0].header:
            primary.header[key] = hdus[0].header[key]
    primary.header["FILTER"] = filter_name
    planes = [primary]
    for role, source in (("IMAGE", name), ("MASK", f"{name}_MASK"), ("VARIANCE", f"{name}_VARIANCE")):
        if source in hdus:
            planes.append(fits.ImageHDU(hdus[source].data, hdus[source].header, name=role))
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)
        fits.HDUList(planes).writeto(buffer, output_verify="silentfix")
    return buffer.getvalue()
