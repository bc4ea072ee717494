"""Images of HSC from CDS's hips2fits service, without an account.

The service draws any field of a HiPS (a survey's images on HEALPix tiles) on any grid. Its images are interpolated from
tiles that were themselves interpolated from HSC's coadds. Their noise is correlated, they have neither mask nor
variance, and the header does not give the zero point. A HiPS keeps the pixel values of its input (Fernique et al. 2015,
A&A 578, A114), and the service does not rescale them. At HSC's own pixel scale, which is requested here, the zero point
of the coadds therefore holds. Since nothing in the answer proves it, the user has to set it.

Service: https://alasky.cds.unistra.fr/hips-image-services/hips2fits. The HiPS of HSC's release DR2 are called
CDS/P/HSC/DR2/wide/<band> and CDS/P/HSC/DR2/deep/<band>; the list at https://aladin.cds.unistra.fr/hips/list names those
that exist. A name that the service does not know stops the run.
"""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Self

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
from tidalkin.download.footprint import footprint_fault
from tidalkin.download.http import (
    client,
    quoted,
    raise_for_wrong_address,
    read_body,
    retrying,
    status_fault,
    transport_faults,
)
from tidalkin.download.journal import DownloadJournal
from tidalkin.download.request import CutoutRequest, Key, VerifiedCutout
from tidalkin.errors import TidalkinError
from tidalkin.sources.base import SourceContext

ADDRESS_KEY = "cutouts.hips2fits.url"
PLACE_KEYS = ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CDELT1", "CDELT2", "CUNIT1", "CUNIT2")
MATRIX_KEYS = ("CD1_1", "CD1_2", "CD2_1", "CD2_2", "PC1_1", "PC1_2", "PC2_1", "PC2_2", "RADESYS", "EQUINOX")


class Hips2fitsSource:
    """The hips2fits service as a source of one chunk.

    Parameters
    ----------
    cutouts : Cutouts
        The configuration's section: size, and ``hips2fits``.
    folder : Path
        Folder of the chunk's journal.
    lock_folder : Path, optional
        Where the connection limit is kept; by default, in the user's cache directory.
    """

    def __init__(self, cutouts: Cutouts, folder: Path, lock_folder: Path | None = None) -> None:
        self._settings = cutouts.hips2fits
        self._transport = self._settings.transport
        self._size = cutouts.size_pixels
        self._largest = 8 * self._size**2 + (1 << 20)
        self._folder = Path(folder)
        self._lock_folder = lock_folder
        self._address = httpx.URL(self._settings.url)
        if self._settings.zero_point is None:
            raise TidalkinError("config: source hips2fits needs `cutouts.hips2fits.zero_point`: 27.0 for HSC's coadds")
        self._fluxmag0 = 10 ** (0.4 * self._settings.zero_point)

    @classmethod
    def open(cls, cutouts: Cutouts, context: SourceContext) -> Self:
        """Open the source: see `tidalkin.sources.base.SourceType`."""
        return cls(cutouts, context.folder, context.lock_folder)

    def fetch(self, objects: pd.DataFrame, bands: Sequence[str]) -> Iterator[Cutout]:
        """Download the missing images, then yield all; images without pixels are `absent`.

        Raises
        ------
        TidalkinError
            If the service does not know the HiPS, another process works on this chunk, or the disk is full.
        """
        requests = list(self._requests(objects, bands))
        with DownloadJournal(self._folder, requests) as journal:
            failed = self._download(requests, journal)
            yield from journal.cutouts(requests, requests, failed, _has_no_pixels)

    def _requests(self, objects: pd.DataFrame, bands: Sequence[str]) -> Iterator[CutoutRequest]:
        """Yield the requests, object by object and band by band."""
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
                # The zero point becomes part of the cutout.
                text = f"{httpx.QueryParams(parameters)}#{self._settings.zero_point}"
                yield CutoutRequest(object_id, band, hips, ra, dec, self._size, text)

    def _download(self, requests: Sequence[CutoutRequest], journal: DownloadJournal) -> dict[Key, str]:
        """Request the missing images; return the reasons of those that failed."""
        failed: dict[Key, str] = {}
        host = self._address.netloc.decode()
        wanted = [request for request in requests if not journal.is_final(request)]
        # The chunk keeps one connection open, and lets other jobs take their turn between two objects.
        with client(self._transport) as connection:
            for _, of_object in itertools.groupby(wanted, attrgetter("object_id")):
                with connection_lock(host, self._transport.connections, self._lock_folder, poll_seconds=0.1):
                    for request in of_object:
                        try:
                            content = self._retrying()(self._request, connection, request)
                            journal.add(VerifiedCutout(request, 0, content), final=True)
                        except _Blank:
                            journal.mark_absent([request])
                        except Fault as fault:
                            failed[request.key] = f"{self._transport.attempts} tries without result, the last: {fault}"
                journal.flush()
        return failed

    def _retrying(self) -> tenacity.Retrying:
        # A blank image is sometimes a failure of the service, so that it is requested again.
        return retrying(
            self._transport.attempts, self._transport.backoff_seconds, self._transport.backoff_maximum_seconds
        )

    def _request(self, connection: httpx.Client, request: CutoutRequest) -> bytes:
        """Request one image, and return it in the layout of HSC's cutouts."""
        parameters = httpx.QueryParams(request.text.partition("#")[0])
        with (
            transport_faults(self._address, ADDRESS_KEY),
            connection.stream("GET", self._address, params=parameters) as response,
        ):
            body = read_body(response, self._transport, self._largest)
            if response.status_code in (400, 404):
                raise TidalkinError(
                    f"{self._address.host} does not know {request.filter} or refuses the request "
                    f"(HTTP {response.status_code}: {quoted(body.decode(errors='replace'), 200)}): "
                    "check `cutouts.hips2fits.hips`, `cutouts.bands` and `cutouts.hips2fits.url`"
                )
            raise_for_wrong_address(response, self._address, ADDRESS_KEY)
            if response.status_code != 200:
                raise status_fault(response)
        content = self._as_cutout(body, request.band)
        if fault := footprint_fault(content, request):
            raise Fault(fault)
        if not np.isfinite(read_cutout(content, request.filter).flux).any():
            raise _Blank("the image is blank")
        return content

    def _as_cutout(self, content: bytes, band: str) -> bytes:
        """Bring an image of the service into the layout of HSC's cutouts."""
        if not content.startswith(b"SIMPLE  ="):
            raise Fault("the service did not answer with a FITS file")
        try:
            with warnings.catch_warnings(action="error"), fits.open(io.BytesIO(content)) as hdus:
                # A file cut short is only a warning to astropy.
                image, header = np.array(hdus[0].data), hdus[0].header.copy()
        except (*ASTROPY_FAULTS, Warning) as error:
            raise Fault(f"the image cannot be read ({quoted(str(error))})") from None
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
    """An image without any pixel."""


def _has_no_pixels(request: CutoutRequest) -> str:
    return f"{request.filter} has no pixels there"
