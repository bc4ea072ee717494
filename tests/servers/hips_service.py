"""Test double of CDS's hips2fits service, with one bright pixel and planned faults."""

from __future__ import annotations

import io
import itertools
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import numpy as np
from astropy.io import fits

from servers.hsc_server import Handler, HscServer, Reset

HIPS_PATH = "/hips-image-services/hips2fits"


@dataclass
class HipsService:
    """The service, for a survey that ends at ``largest_dec``.

    ``faults`` are used up in order: an HTTP status, ``html``, ``reset``, ``short``, ``blank``, ``zeros``, ``color``,
    ``other-size``, ``other-place``, ``other-scale``, ``slow``, ``endless``, or ``login``, a redirection.
    """

    hips: tuple[str, ...] = ("CDS/P/HSC/DR2/wide/g", "CDS/P/HSC/DR2/wide/r")
    largest_dec: float = 7.0
    faults: list[str] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)

    def mount(self, server: HscServer) -> None:
        server.mount(HIPS_PATH, self.answer, method="GET")

    def answer(self, handler: Handler) -> None:
        question = {key: values[0] for key, values in parse_qs(urlsplit(handler.path).query).items()}
        self.asked.append(question)
        fault = self.faults.pop(0) if self.faults else ""
        if question["hips"] not in self.hips:
            handler.reply(400, b"<p>Bad Request: unknown HiPS</p>", "text/html")
        elif fault.isdecimal():
            handler.reply(int(fault), b"no", "text/plain")
        elif fault == "html":
            handler.reply(200, b"<html>under maintenance</html>", "text/html")
        elif fault == "reset":
            raise Reset
        elif fault == "slow":
            handler.send_chunked((time.sleep(0.05) or b" " for _ in range(200)), "application/fits")
        elif fault == "endless":
            handler.send_chunked(itertools.repeat((1 << 20) * b"x", 1024), "application/fits")
        elif fault == "login":
            handler.reply(302, b"", "text/plain", Location="https://login.example/start")
        else:
            content = self.image(question, fault)
            handler.reply(200, content[: len(content) // 2] if fault == "short" else content, "application/fits")

    def image(self, question: dict[str, str], fault: str = "") -> bytes:
        size = int(question["width"]) + (fault == "other-size")
        ra, dec = float(question["ra"]), float(question["dec"])
        pixels = np.full((size, size), 0.25, np.float32)
        pixels[size // 2, size // 2] = 100.0
        if fault == "blank" or dec > self.largest_dec:
            pixels[:] = np.nan
        if fault == "zeros":
            pixels[:] = 0
        hdu = fits.PrimaryHDU(np.zeros((4, size, size), np.uint8) if fault == "color" else pixels)
        scale = float(question["fov"]) / int(question["width"]) * (1 + (fault == "other-scale"))
        dec += 0.01 * (fault == "other-place")
        for axis, (kind, value, step) in enumerate((("RA---TAN", ra, -scale), ("DEC--TAN", dec, scale)), start=1):
            # The pixel whose centre is the position: half a pixel from the image's middle, where the size is even.
            hdu.header[f"CRPIX{axis}"], hdu.header[f"CRVAL{axis}"] = size // 2 + 1.0, value
            hdu.header[f"CTYPE{axis}"], hdu.header[f"CDELT{axis}"], hdu.header[f"CUNIT{axis}"] = kind, step, "deg"
        buffer = io.BytesIO()
        hdu.writeto(buffer)
        return buffer.getvalue()
