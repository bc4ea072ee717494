"""HSC's cutout service and the requests to it, one list at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import httpx
import pandas as pd

from tidalkin.config import HscDas
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.download.credentials import Refusals
from tidalkin.download.faults import Fault
from tidalkin.download.http import (
    UNAVAILABLE_STATUS,
    quoted,
    raise_for_wrong_address,
    refused_credentials,
    retry_after,
    steady,
    transport_faults,
)
from tidalkin.download.request import CutoutRequest, VerifiedCutout
from tidalkin.errors import TidalkinError
from tidalkin.sources.hsc.protocol import Rejected, read_answer

COLUMNS = ("rerun", "type", "filter", "tract", "ra", "dec", "sw", "sh", "image", "mask", "variance")
ADDRESS_KEY = "cutouts.hsc_das.url"
BYTES_PER_PIXEL = 12
"""Image, mask and variance have four bytes each."""


def cutout_requests(objects: pd.DataFrame, bands: Sequence[str], das: HscDas, size_pixels: int) -> list[CutoutRequest]:
    """List the requests for objects, object by object and band by band.

    Parameters
    ----------
    objects : pandas.DataFrame
        Catalog rows. With an integer column `tract`, that tract is requested; otherwise any tract may answer.
    bands : sequence of str
        Bands, lower case.
    das : HscDas
        Rerun, image type and planes.
    size_pixels : int
        Side of the cutouts.

    Examples
    --------
    >>> objects = pd.DataFrame({"object_id": [7], "ra": [150.1], "dec": [2.2], "tract": [9813]})
    >>> requests = cutout_requests(objects, ["g", "i"], HscDas(), size_pixels=96)
    >>> requests[1].text
    'pdr3_wide coadd/bg HSC-I 9813 150.1000000000 2.2000000000 0.00228667 0.00228667 true true true'
    """
    # One pixel more than half the size, because the service cuts at the pixel edges around the exact position.
    half = (size_pixels / 2 + 1) * PIXEL_SCALE_ARCSEC / 3600
    has_tract = "tract" in objects.columns and pd.api.types.is_integer_dtype(objects["tract"])
    tracts = objects["tract"].astype(str) if has_tract else ["any"] * len(objects)
    planes = f"true {str(das.mask).lower()} {str(das.variance).lower()}"
    requests = []
    for object_id, ra, dec, tract in zip(objects["object_id"], objects["ra"], objects["dec"], tracts, strict=True):
        for band in bands:
            name = f"HSC-{band.upper()}"
            text = f"{das.rerun} {das.image_type} {name} {tract} {ra:.10f} {dec:.10f} {half:.8f} {half:.8f} {planes}"
            requests.append(CutoutRequest(int(object_id), band, name, float(ra), float(dec), size_pixels + 2, text))
    return requests


def in_server_order(requests: Sequence[CutoutRequest]) -> list[CutoutRequest]:
    """Sort requests by tract, filter and position, as downloadCutout.py does, which suits the server's cache.

    Examples
    --------
    >>> objects = pd.DataFrame({"object_id": [7, 8], "ra": [150.1, 150.2], "dec": [2.2, 2.3], "tract": [9813, 9812]})
    >>> requests = cutout_requests(objects, ["g", "i"], HscDas(), size_pixels=96)
    >>> [request.key for request in in_server_order(requests)]
    [(8, 'g'), (8, 'i'), (7, 'g'), (7, 'i')]
    """

    def position(request: CutoutRequest) -> tuple[int, str, float, float, int]:
        _, _, _, tract, ra, dec, *_ = request.text.split()
        return (-1 if tract == "any" else int(tract), request.filter, float(ra), float(dec), request.object_id)

    return sorted(requests, key=position)


def request_list(requests: Sequence[CutoutRequest]) -> bytes:
    """Return the list of one HTTP request, one line per cutout below the columns' names.

    Examples
    --------
    >>> objects = pd.DataFrame({"object_id": [7], "ra": [150.1], "dec": [2.2]})
    >>> print(request_list(cutout_requests(objects, ["i"], HscDas(), size_pixels=96)).decode().rstrip())
    #? rerun type filter tract ra dec sw sh image mask variance
    pdr3_wide coadd/bg HSC-I any 150.1000000000 2.2000000000 0.00228667 0.00228667 true true true
    """
    return "\n".join([f"#? {' '.join(COLUMNS)}", *(request.text for request in requests), ""]).encode()


class CutoutServer:
    """The cutout service, asked with one list at a time.

    Parameters
    ----------
    das : HscDas
        The configuration's section.
    size_pixels : int
        Side of the cutouts.
    address : httpx.URL
        Address of the service.
    connection : httpx.Client
        The client.
    refusals : Refusals
        Memory of refused credentials.
    """

    def __init__(
        self, das: HscDas, size_pixels: int, address: httpx.URL, connection: httpx.Client, refusals: Refusals
    ) -> None:
        self._das = das
        self._transport = das.transport
        self._address = address
        self._connection = connection
        self._refusals = refusals
        self._largest = 2 * BYTES_PER_PIXEL * (size_pixels + 8) ** 2 + (1 << 20)
        self._forbidden = 0

    def answer(self, requests: Sequence[CutoutRequest]) -> Iterator[VerifiedCutout | Rejected]:
        """Send one list, and yield the members of the answer as they come.

        Raises
        ------
        Fault
            If the server is unavailable, or the answer is broken, too slow or not a tar.
        TidalkinError
            If the server refuses the credentials, the rerun or the address.
        """
        self._refusals.stop_if_refused()
        files = {"list": ("coordlist.txt", request_list(requests), "text/plain")}
        has_answered = False
        try:
            with (
                transport_faults(self._address, ADDRESS_KEY),
                self._connection.stream("POST", self._address, files=files) as response,
            ):
                has_answered = True
                self._check(response)
                yield from read_answer(
                    self._paced(steady(response, self._transport)),
                    requests,
                    image_type=self._das.image_type,
                    rerun=self._das.rerun,
                    largest=self._largest,
                )
        except Fault as fault:
            fault.server_unavailable |= not has_answered
            raise

    def _check(self, response: httpx.Response) -> None:
        host, status = self._address.host, response.status_code
        if status == 401:
            self._refusals.remember()
            raise refused_credentials(self._refusals.account, host)
        self._forbidden = self._forbidden + 1 if status == 403 else 0
        if self._forbidden > 1:
            raise TidalkinError(
                f"{host} forbids access to {self._das.rerun} (HTTP 403, twice): check `cutouts.hsc_das.rerun` and what "
                f"the account found in {self._refusals.account.found_in} may use"
            )
        raise_for_wrong_address(response, self._address, ADDRESS_KEY)
        if status != 200:
            # A 500 may be due to one position, so that shorter lists are worth a try.
            unavailable = status != 500 and status in UNAVAILABLE_STATUS
            raise Fault(f"HTTP {status}", server_unavailable=unavailable, retry_after=retry_after(response))
        kind = response.headers.get("Content-Type", "")
        if kind.startswith("text/"):
            raise Fault(f"the server answered with {quoted(kind.partition(';')[0], 40)} instead of a tar")

    def _paced(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the pieces no faster than this connection's share of the configured rate."""
        limit = self._transport.bytes_per_second
        if limit is None:
            yield from pieces
            return
        share = limit / self._transport.connections
        began, received = time.monotonic(), 0
        for piece in pieces:
            yield piece
            received += len(piece)
            time.sleep(max(0.0, received / share - (time.monotonic() - began)))
