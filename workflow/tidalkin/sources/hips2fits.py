"""Images of HSC from CDS's hips2fits service: for a look without an account.

The service draws any field of a HiPS (a survey's images on HEALPix tiles) on any grid. What comes is interpolated from
tiles that were themselves interpolated from HSC's coadds: noise is correlated, there is no mask and no variance, and
the header does not say what a count is. A HiPS keeps the values of the pixels it was made from (Fernique et al. 2015,
A&A 578, A114) and the service does not rescale them, so at HSC's own pixel scale, which is asked for, the coadds' zero
point holds. Since nothing in the answer proves it, the user has to set it.

Service: https://alasky.cds.unistra.fr/hips-image-services/hips2fits. HiPS of HSC's release DR2 are called
CDS/P/HSC/DR2/wide/<band> and CDS/P/HSC/DR2/deep/<band>; which exist is in the list at
https://aladin.cds.unistra.fr/hips/list. A name the service does not know stops the run.
"""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import tenacity
from astropy.io import fits

from tidalkin.config import Cutouts
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.cutouts.base import Cutout
from tidalkin.cutouts.fits_fast import ASTROPY_FAULTS
from tidalkin.cutouts.read import read_cutout
from tidalkin.download.connections import connection_lock
from tidalkin.download.faults import Fault
from tidalkin.download.http import client, retrying, safe_address, status_fault, transport_fault
from tidalkin.download.journal import DownloadJournal
from tidalkin.download.request import CutoutRequest, Key, VerifiedCutout
from tidalkin.errors import TidalkinError

PLACE_KEYS = ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CDELT1", "CDELT2", "CUNIT1", "CUNIT2")
MATRIX_KEYS = ("CD1_1", "CD1_2", "CD2_1", "CD2_2", "PC1_1", "PC1_2", "PC2_1", "PC2_2", "RADESYS", "EQUINOX")


class Hips2fitsSource:
    """The hips2fits service as a source of one chunk.

    Parameters
    ----------
    cutouts : Cutouts
        The configuration's section: size, and ``hips2fits``.
    folder : Path
        Where this chunk keeps what it journal.
    lock_folder : Path, optional
        Where the connection limit is kept, if not in the user's cache directory.
    """

    def __init__(self, cutouts: Cutouts, folder: Path, lock_folder: Path | None = None) -> None:
        self._settings = cutouts.hips2fits
        self._transport = self._settings.transport
        self._size = cutouts.size_pixels
        self._folder = Path(folder)
        self._lock_folder = lock_folder
        self._address = safe_address(self._settings.url, "cutouts.hips2fits.url")
        if self._settings.zero_point is None:
            raise TidalkinError("config: source hips2fits needs `cutouts.hips2fits.zero_point`: 27.0 for HSC's coadds")
        self._fluxmag0 = 10 ** (0.4 * self._settings.zero_point)

    def fetch(self, objects: pd.DataFrame, bands: Sequence[str]) -> Iterator[Cutout]:
        """Ask for each object in each band that is not here yet; where the HiPS has no pixels, the cutout is `absent`.

        Raises
        ------
        TidalkinError
            If the service does not know the HiPS, another process is at this chunk, or the disk is full.
        """
        requests = list(self._requests(objects, bands))
        with DownloadJournal(self._folder, requests) as journal:
            failed = self._download(requests, journal)
            yield from journal.cutouts(
                requests, requests, failed, lambda request: f"{request.filter} has no pixels there"
            )

    def _requests(self, objects: pd.DataFrame, bands: Sequence[str]) -> Iterator[CutoutRequest]:
        """What is asked, object by object, band by band; with the zero point, which becomes part of the cutout."""
        for object_id, ra, dec in zip(
            objects["object_id"].tolist(), objects["ra"].tolist(), objects["dec"].tolist(), strict=True
        ):
            for band in bands:
                hips = self._settings.hips.format(band=band, BAND=band.upper())
                parameters = {
                    "hips": hips,
                    "ra": f"{ra:.8f}",
                    "dec": f"{dec:.8f}",
                    "width": str(self._size),
                    "height": str(self._size),
                    "fov": f"{self._size * PIXEL_SCALE_ARCSEC / 3600:.10f}",
                    "projection": "TAN",
                    "coordsys": "icrs",
                    "format": "fits",
                }
                yield CutoutRequest(
                    object_id, band, hips, f"{httpx.QueryParams(parameters)}#{self._settings.zero_point}"
                )

    def _download(self, requests: Sequence[CutoutRequest], journal: DownloadJournal) -> dict[Key, str]:
        """Ask for what is not here; return why images are neither here nor known to be absent."""
        failed: dict[Key, str] = {}
        host = self._address.netloc.decode()
        wanted = [request for request in requests if not journal.is_final(request)]
        # One keep-alive connection for the chunk, given back between two objects so that jobs take turns.
        with client(self._transport.timeout_seconds) as connection:
            for _, of_object in itertools.groupby(wanted, attrgetter("object_id")):
                with connection_lock(host, self._transport.connections, self._lock_folder, poll_seconds=0.1):
                    for request in of_object:
                        try:
                            content = self._retrying()(self._ask, connection, request)
                            journal.add(VerifiedCutout(request, 0, content), final=True)
                        except _Blank:
                            journal.mark_absent([request])
                        except Fault as fault:
                            failed[request.key] = f"{self._transport.attempts} tries without result, the last: {fault}"
                journal.flush()
        return failed

    def _retrying(self) -> tenacity.Retrying:
        # Blank images are now and then the service's failure to draw: asked for again.
        return retrying(
            self._transport.attempts, self._transport.backoff_seconds, self._transport.backoff_maximum_seconds
        )

    def _ask(self, connection: httpx.Client, request: CutoutRequest) -> bytes:
        try:
            response = connection.get(self._address, params=httpx.QueryParams(request.text.partition("#")[0]))
        except httpx.HTTPError as error:
            raise transport_fault(error) from None
        if response.status_code in (400, 404):
            raise TidalkinError(
                f"{self._address.host} does not know {request.filter} or refuses the parameters "
                f"(HTTP {response.status_code}: {' '.join(response.text.split())[:200]}): "
                "check `cutouts.hips2fits.hips` and `cutouts.bands`"
            )
        if response.status_code != 200:
            raise status_fault(response)
        content = self._as_cutout(response.content, request.band)
        if not np.isfinite(read_cutout(content, request.filter).flux).any():
            raise _Blank("the image is blank")
        return content

    def _as_cutout(self, content: bytes, band: str) -> bytes:
        """The service's image in the layout of HSC's cutouts."""
        if not content.startswith(b"SIMPLE  ="):
            raise Fault("the service answered with something else than FITS")
        try:
            with warnings.catch_warnings(action="error"), fits.open(io.BytesIO(content)) as hdus:
                # A file cut short is only a warning to astropy.
                image, header = np.array(hdus[0].data), hdus[0].header.copy()
        except (*ASTROPY_FAULTS, Warning) as error:
            raise Fault(f"the image cannot be read ({' '.join(str(error).split())})") from None
        if image.ndim != 2 or image.dtype.kind != "f":
            raise TidalkinError(
                f"{self._settings.hips} gives images for the eye ({image.dtype.name}, {image.ndim} axes), not fluxes: "
                "choose the HiPS of a single band with FITS tiles in `cutouts.hips2fits.hips`"
            )
        if image.shape != (self._size, self._size):
            raise Fault(f"the image has {image.shape} pixels instead of {(self._size, self._size)}")
        image = image.astype(np.float32)
        if not image.any():
            image[:] = np.nan
        primary = fits.PrimaryHDU()
        primary.header["FLUXMAG0"], primary.header["FILTER"] = self._fluxmag0, f"HSC-{band.upper()}"
        places = fits.Header([header.cards[key] for key in (*PLACE_KEYS, *MATRIX_KEYS) if key in header])
        buffer = io.BytesIO()
        fits.HDUList([primary, fits.ImageHDU(image, places, name="IMAGE")]).writeto(buffer)
        return buffer.getvalue()


class _Blank(Fault):
    """An image without a pixel."""
