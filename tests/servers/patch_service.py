"""HSC's file tree for tests: coadd patches by range request, with faults by plan.

with HscServer() as server:
    service = PatchService({"pdr3_wide/deepCoadd/...": content})
    service.mount(server)
    ... server.url(TREE_PATH) ...
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits

from servers.hsc_server import PIXEL_SCALE_ARCSEC, Handler, HscServer, Reset, password_sent

TREE_PATH = "/archive/filetree"
MASK_PLANES = {"BAD": 0, "SAT": 1, "INTRP": 2, "CR": 3, "EDGE": 4, "DETECTED": 5, "NO_DATA": 8, "NOT_DEBLENDED": 9}


@dataclass
class PatchService:
    """The file tree.

    ``faults`` are planned by address, each used up by one request: an HTTP status, ``html``, ``reset N`` and ``short
    N`` (after N bytes of the answer; ``short`` ends it as if it were whole), ``flip N`` (the file's byte N is another),
    ``no-ranges`` (the whole file is sent), ``wrong-range``, ``changed`` (the file is another one since), ``echo`` (an
    error with all that the client sent), ``huge`` (ten gigabytes are announced), ``trickle`` (a byte each 50 ms). A
    redirect leads to a login page, and a 504 asks for a wait of 30 years.
    """

    files: dict[str, bytes | Path]
    faults: dict[str, list[str]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Address and range of each request."""
    sent: Counter[str] = field(default_factory=Counter)
    """Bytes sent of each file."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def mount(self, server: HscServer) -> None:
        server.mount(TREE_PATH, self.answer, method="GET")

    def answer(self, handler: Handler) -> None:
        address = handler.path.removeprefix(TREE_PATH + "/").replace("%2C", ",")
        with self._lock:
            self.asked.append((address, handler.headers.get("Range", "")))
            planned = self.faults.get(address)
            fault, _, number = (planned.pop(0) if planned else "").partition(" ")
        if not handler.authorized():
            handler.reply(401, b"no", "text/plain", WWW_Authenticate='Basic realm="HSC"')
        elif fault.isdecimal():
            headers = {"302": {"Location": "https://login.example.org/"}, "504": {"Retry_After": str(10**9)}}
            handler.reply(int(fault), b"no", "text/plain", **headers.get(fault, {}))
        elif fault == "echo":
            sent = f"{handler.headers} {password_sent(handler)}"
            handler.reply(200, sent.encode(), f"text/{password_sent(handler)}")
        elif fault == "trickle":
            handler.send_chunked((time.sleep(0.05) or b" " for _ in range(200)), "application/fits")
        elif fault == "html":
            handler.reply(200, b"<html>under maintenance</html>", "text/html")
        elif address not in self.files:
            handler.reply(404, b"no such file", "text/html")
        else:
            held = self.files[address]
            content = held if isinstance(held, bytes) else held.read_bytes()
            self._send(handler, address, content, fault, int(number or 0))

    def _send(self, handler: Handler, address: str, content: bytes, fault: str, number: int) -> None:
        if fault == "flip":
            content = content[:number] + bytes([content[number] ^ 0xFF]) + content[number + 1 :]
        etag = f'"{hashlib.md5(content[:4096]).hexdigest()}{"-2" if fault == "changed" else ""}"'
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        if asked and fault != "no-ranges" and handler.headers.get("If-Range", etag) == etag:
            start, status = int(asked[1]), 206
        if status == 206 and start >= len(content):
            handler.reply(416, b"no", "text/plain")
            return
        body = memoryview(content)[start:]
        if fault == "short":
            body = body[:number]
        handler.send_response(status)
        handler.send_header("Content-Type", "application/fits")
        handler.send_header("Content-Length", str(10 * 1000**3 if fault == "huge" else len(body)))
        handler.send_header("ETag", etag)
        if status == 206:
            first = start + 1 if fault == "wrong-range" else start
            handler.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        handler.end_headers()
        if fault == "reset":
            body = body[:number]
        handler.wfile.write(body)
        with self._lock:
            self.sent[address] += len(body)
        if fault == "reset":
            handler.wfile.flush()
            raise Reset


def address_of(tract: int, place: str, band: str, rerun: str = "pdr3_wide", image_type: str = "coadd/bg") -> str:
    name = f"HSC-{band.upper()}"
    if image_type == "coadd/bg":
        return f"{rerun}/deepCoadd/{name}/{tract}/{place}.fits"
    return f"{rerun}/deepCoadd-results/{name}/{tract}/{place}/calexp-{name}-{tract}-{place}.fits"


def patch_file(
    band: str,
    ra: float,
    dec: float,
    size: int,
    *,
    stars: Sequence[tuple[float, float]] = (),
    compressed: bool = False,
    seed: int = 1,
) -> bytes:
    """Make a coadd patch around a position, in HSC's layout.

    Each of ``stars`` (ra, dec) is one bright pixel.
    """
    generator = np.random.default_rng(seed)
    image = generator.normal(0, 0.03, (size, size)).astype(np.float32)
    mask = np.zeros((size, size), np.int32)
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    # The tangent point is the tract's centre, away from the patch.
    header["CRVAL1"], header["CRVAL2"] = ra + 0.2, dec - 0.1
    scale = PIXEL_SCALE_ARCSEC / 3600
    header["CD1_1"], header["CD1_2"], header["CD2_1"], header["CD2_2"] = -scale, 0.0, 0.0, scale
    header["CUNIT1"], header["CUNIT2"], header["RADESYS"] = "deg", "deg", "ICRS"
    header["CRPIX1"], header["CRPIX2"] = 0.0, 0.0
    wcs = fits_wcs(header)
    x, y = wcs.all_world2pix(ra, dec, 0)
    header["CRPIX1"], header["CRPIX2"] = float((size - 1) / 2 - x), float((size - 1) / 2 - y)
    header["CRVAL1A"], header["CRPIX1A"], header["CTYPE1A"] = 0.0, -20000.0, "LINEAR"
    wcs = fits_wcs(header)
    for star_ra, star_dec in stars:
        column, row = (round(float(pixel)) for pixel in wcs.all_world2pix(star_ra, star_dec, 0))
        image[row, column] = 1000.0
        mask[row, column] = 1 << MASK_PLANES["SAT"]
    primary = fits.PrimaryHDU()
    primary.header["FLUXMAG0"], primary.header["FILTER"] = 10 ** (0.4 * 27), f"HSC-{band.upper()}"
    kind = fits.CompImageHDU if compressed else fits.ImageHDU
    options = {"compression_type": "GZIP_2", "quantize_level": 0} if compressed else {}
    planes = [primary]
    variance = np.full((size, size), 9e-4, np.float32)
    for name, pixels in (("IMAGE", image), ("MASK", mask), ("VARIANCE", variance)):
        planes.append(kind(pixels, header.copy(), name=name, **options))
    for plane, bit in MASK_PLANES.items():
        planes[2].header[f"MP_{plane}" if len(plane) <= 5 else f"HIERARCH MP_{plane}"] = bit
    buffer = io.BytesIO()
    fits.HDUList(planes).writeto(buffer, checksum=True)
    return buffer.getvalue()


def fits_wcs(header: fits.Header):
    from astropy.wcs import WCS

    return WCS(header, naxis=2)
