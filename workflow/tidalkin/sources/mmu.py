"""The HSC set of the Multimodal Universe: cutouts of 160 pixels and their catalog.

The set is a folder of ``healpix=<number>/*.hdf5`` files, made by scripts/hsc/build_parent_sample.py of
MultimodalUniverse/MultimodalUniverse from HSC's coadd patches (PDR3). Each file has one row per galaxy:

- ``object_id``, ``ra``, ``dec`` and the other columns of HSC's catalog, among them tract and patch;
- ``image_band`` (row, band): `hsc-g` … `hsc-y`;
- ``image_array`` (row, band, y, x): the coadd's own counts, not rescaled, with zero point 27.0;
- ``image_ivar``: 1/variance, counts⁻², 0 where there is none;
- ``image_mask``: true where a pixel is good, so that none of the coadd's bits 0, 1 and 8 (bad, saturated, no data) is
  set;
- ``image_psf_fwhm`` (row, band), arcsec, 0 where unknown; ``image_scale`` (row, band), arcsec per pixel.

There is no WCS. The script that made the set called `astropy.nddata.Cutout2D` with pixel positions that count from one,
while that class counts from zero. The object is therefore within a pixel of the centre, and the centre of the cutout is
taken as its position.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd

from tidalkin.catalog.read import check_catalog
from tidalkin.config import Band, Cutouts, MmuHsc
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.cutouts.base import Cutout
from tidalkin.cutouts.write import write_cutout
from tidalkin.errors import TidalkinError
from tidalkin.sources.base import SourceContext

logger = logging.getLogger("tidalkin.download")

IMAGES = ("image_band", "image_array", "image_ivar", "image_mask", "image_psf_fwhm", "image_scale")
BAD = 0
"""The one mask plane that is left of the coadd's."""
SCALE_TOLERANCE = 1e-3
HDF5_FAULTS = (OSError, KeyError, ValueError, RuntimeError)


def mmu_files(path: str | Path) -> list[Path]:
    """List the files of a local copy in the order of their names.

    Raises
    ------
    TidalkinError
        If there are none.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "healpix=1104" / "001-of-001.hdf5"
    ...     file.parent.mkdir()
    ...     file.touch()
    ...     [file.name for file in mmu_files(folder)]
    ['001-of-001.hdf5']
    """
    files = sorted(Path(path).expanduser().glob("healpix=*/*.hdf5"))
    if not files:
        raise TidalkinError(
            f"the folder {str(path)!r} holds no healpix=*/*.hdf5: let cutouts.mmu_hsc.path, or catalog.path, name that "
            "of the Multimodal Universe's HSC set, like .../hsc/pdr3_dud_22.5"
        )
    return files


def mmu_catalog(path: str | Path) -> pd.DataFrame:
    """Read the catalog of a local copy.

    Parameters
    ----------
    path : str or Path
        The folder that holds ``healpix=*/*.hdf5``.

    Returns
    -------
    pandas.DataFrame
        `object_id`, `ra`, `dec`, the set's other columns of one value per galaxy, and ``psf_fwhm_<band>`` (arcsec),
        sorted by object_id.

    Raises
    ------
    TidalkinError
        If there is no such set, or a file cannot be read.

    Examples
    --------
    >>> file = Path("healpix=1104/001-of-001.hdf5")
    >>> file.parent.mkdir()
    >>> content = {"object_id": [42], "ra": [150.0], "dec": [2.0]}
    >>> content |= {"image_band": [[b"hsc-i"]], "image_psf_fwhm": [[0.6]]}
    >>> with h5py.File(file, "w") as data:
    ...     data.update(content)
    >>> mmu_catalog(".").to_dict("records")
    [{'object_id': 42, 'ra': 150.0, 'dec': 2.0, 'psf_fwhm_i': 0.6}]
    """
    tables = []
    for file in mmu_files(path):
        try:
            with h5py.File(file, "r") as data:
                columns = {name: _values(data[name]) for name in data if data[name].ndim == 1 and name not in IMAGES}
                for number, band in enumerate(_bands(data, file)):
                    fwhm = data["image_psf_fwhm"][:, number].astype(np.float64)
                    columns[f"psf_fwhm_{band}"] = np.where(fwhm > 0, fwhm, np.nan)
        except HDF5_FAULTS as error:
            raise _unreadable(file, error) from None
        tables.append(pd.DataFrame(columns))
    catalog = check_catalog(pd.concat(tables, ignore_index=True), f"the catalog of {path}")
    return catalog.sort_values("object_id", ignore_index=True)


class MmuHscSource:
    """The Multimodal Universe's HSC set as a source.

    Parameters
    ----------
    settings : MmuHsc
        The configuration's section.

    Raises
    ------
    TidalkinError
        If there is no such set.
    """

    def __init__(self, settings: MmuHsc) -> None:
        self._files = mmu_files(settings.path)
        self._fluxmag0 = 10 ** (0.4 * settings.zero_point)

    @classmethod
    def open(cls, cutouts: Cutouts, context: SourceContext) -> Self:
        """Open the source: see `tidalkin.sources.base.SourceType`."""
        return cls(cutouts.mmu_hsc)

    def fetch(self, objects: pd.DataFrame, bands: Sequence[str]) -> Iterator[Cutout]:
        """Read each object in each band; an unknown object is `absent`.

        Raises
        ------
        TidalkinError
            If a file of the set cannot be read.
        """
        rows = self._find(set(objects["object_id"].tolist()))
        with ExitStack() as stack:
            opened: dict[Path, h5py.File] = {}
            for object_id, ra, dec in zip(
                objects["object_id"].tolist(), objects["ra"].tolist(), objects["dec"].tolist(), strict=True
            ):
                if object_id not in rows:
                    for band in bands:
                        yield Cutout(object_id, band, "absent", reason="the set has no such object")
                    continue
                file, row = rows[object_id]
                if file not in opened:
                    opened[file] = stack.enter_context(h5py.File(file, "r"))
                yield from self._fetch_object(opened[file], file, row, object_id, ra, dec, bands)

    def _find(self, wanted: set[int]) -> dict[int, tuple[Path, int]]:
        """Find the file and row of each object."""
        found: dict[int, tuple[Path, int]] = {}
        for file in self._files:
            try:
                with h5py.File(file, "r") as data:
                    ids = [int(value) for value in _values(data["object_id"]).tolist()]
            except HDF5_FAULTS as error:
                raise _unreadable(file, error) from None
            found |= {object_id: (file, row) for row, object_id in enumerate(ids) if object_id in wanted}
        return found

    def _fetch_object(
        self, data: h5py.File, file: Path, row: int, object_id: int, ra: float, dec: float, bands: Sequence[str]
    ) -> Iterator[Cutout]:
        for band in bands:
            try:
                numbers = {name: number for number, name in enumerate(_bands(data, file, row))}
                if band not in numbers:
                    yield Cutout(object_id, band, "absent", reason=f"the set has no {band} image of this object")
                    continue
                content = self._cutout(data, file, row, numbers[band], band, ra, dec)
            except HDF5_FAULTS as error:
                yield Cutout(object_id, band, "failed", reason=str(_unreadable(file, error)))
                continue
            yield Cutout(object_id, band, "ok", content)

    def _cutout(self, data: h5py.File, file: Path, row: int, number: int, band: Band, ra: float, dec: float) -> bytes:
        scale = float(data["image_scale"][row, number])
        if abs(scale - PIXEL_SCALE_ARCSEC) > SCALE_TOLERANCE:
            raise TidalkinError(f"{file} has pixels of {scale} arcsec, but HSC's have {PIXEL_SCALE_ARCSEC}")
        ivar = data["image_ivar"][row, number].astype(np.float64)
        with np.errstate(divide="ignore"):
            variance = np.where(ivar > 0, 1 / ivar, np.nan)
        fwhm = float(data["image_psf_fwhm"][row, number])
        return write_cutout(
            data["image_array"][row, number].astype(np.float32),
            np.where(data["image_mask"][row, number], 0, 1 << BAD).astype(np.int32),
            variance.astype(np.float32),
            band=band,
            ra=ra,
            dec=dec,
            fluxmag0=self._fluxmag0,
            mask_planes={"BAD": BAD},
            psf_fwhm=fwhm if fwhm > 0 else np.nan,
        )


def _bands(data: h5py.File, file: Path, row: int = 0) -> list[Band]:
    """Return the bands of a row's images, in their order."""
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in data["image_band"][row]]
    bands: dict[str, Band] = {"hsc-g": "g", "hsc-r": "r", "hsc-i": "i", "hsc-z": "z", "hsc-y": "y"}
    unknown = [name for name in names if name.lower() not in bands]
    if unknown:
        raise TidalkinError(f"{file} has images in the band {unknown[0]!r}, which is none of {', '.join(bands)}")
    return [bands[name.lower()] for name in names]


def _values(dataset: h5py.Dataset) -> npt.NDArray[Any]:
    values = dataset[()]
    return np.char.decode(values.astype("S"), "utf-8") if values.dtype.kind in "SO" else values


def _unreadable(file: Path, error: Exception) -> TidalkinError:
    return TidalkinError(f"{file} cannot be read as a file of the set ({' '.join(str(error).split())}): copy it again")
