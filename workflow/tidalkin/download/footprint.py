"""Check that a cutout shows the requested position at the requested size."""

from __future__ import annotations

import math

from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.cutouts.read import read_geometry
from tidalkin.download.request import CutoutRequest
from tidalkin.errors import TidalkinError

TOLERANCE_PIXELS = 3.0
"""Servers round the edges of a cutout, some to one more pixel on each side."""
SCALE_TOLERANCE = 0.02


def footprint_fault(content: bytes, request: CutoutRequest) -> str:
    """Return the fault of a cutout's position, size or scale; empty if none.

    An image that ends at the edge of the coadd is narrower on that side. On the other side, its edge must be where it
    was requested.

    Parameters
    ----------
    content : bytes
        The FITS file.
    request : CutoutRequest
        The request that it answers.

    Examples
    --------
    >>> import numpy as np
    >>> from tidalkin.cutouts.write import write_cutout
    >>> image = np.zeros((64, 64), np.float32)
    >>> file = write_cutout(image, None, None, band="i", ra=150.0, dec=2.0, fluxmag0=10**10.8, mask_planes={})
    >>> footprint_fault(file, CutoutRequest(7, "i", "HSC-I", 150.0, 2.0, 64, "")) == ""
    True
    >>> footprint_fault(file, CutoutRequest(7, "i", "HSC-I", 150.0, 2.0, 96, ""))
    'the image has 64 x 64 pixels with the object at (31.5, 31.5), but 96 x 96 pixels around it were requested'
    """
    try:
        image = read_geometry(content, "the file")
    except TidalkinError as error:
        return str(error)
    if image.wcs is None:
        return "the image has no coordinates"
    x, y = image.wcs.pixel(request.ra, request.dec)
    half = request.size_pixels / 2
    for position, length in ((x, image.width), (y, image.height)):
        low, high = position + 0.5, length - 0.5 - position
        if not (min(low, high) >= 0 and abs(max(low, high) - half) <= TOLERANCE_PIXELS):
            return (
                f"the image has {image.width} x {image.height} pixels with the object at ({x:.1f}, {y:.1f}), but "
                f"{request.size_pixels} x {request.size_pixels} pixels around it were requested"
            )
    step = half * PIXEL_SCALE_ARCSEC / 3600
    away = image.wcs.pixel(request.ra, request.dec - math.copysign(step, request.dec))
    scale = PIXEL_SCALE_ARCSEC * half / (math.dist((x, y), away) or math.nan)
    if not abs(scale / PIXEL_SCALE_ARCSEC - 1) <= SCALE_TOLERANCE:
        return f"the image has pixels of {scale:.3f} arcsec instead of {PIXEL_SCALE_ARCSEC}"
    return ""
