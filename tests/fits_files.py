"""Build small FITS cutouts."""

from __future__ import annotations

import io

import numpy as np
from astropy.io import fits

from tidalkin.cutouts.write import write_cutout

PLANES = {"BAD": 0, "SAT": 1, "INTRP": 2, "CR": 3, "EDGE": 4, "DETECTED": 5, "DETECTED_NEGATIVE": 6, "NO_DATA": 8}


FLUXMAG0 = 10 ** (27.0 / 2.5)


NANOJANSKY_PER_COUNT = 10 ** ((31.4 - 27.0) / 2.5)


def cutout(image, mask=None, variance=None, *, ra=150.1, dec=2.2, **more):
    return write_cutout(
        np.asarray(image, dtype=np.float32),
        None if mask is None else np.asarray(mask, dtype=np.int32),
        None if variance is None else np.asarray(variance, dtype=np.float32),
        **{"band": "g", "ra": ra, "dec": dec, "fluxmag0": FLUXMAG0, "mask_planes": PLANES, **more},
    )


def fits_bytes(*hdus, **primary):
    first = fits.PrimaryHDU()
    first.header.update({"FLUXMAG0": FLUXMAG0, **primary})
    buffer = io.BytesIO()
    fits.HDUList([first, *hdus]).writeto(buffer)
    return buffer.getvalue()


def image_hdu(value=1.0, name="IMAGE", dtype=np.float32, **header):
    hdu = fits.ImageHDU(np.full((3, 4), value, dtype=dtype), name=name)
    hdu.header.update(header)
    return hdu


def wcs_header(projection="TAN", **more):
    header = fits.Header()
    header.update({"CTYPE1": f"RA---{projection}", "CTYPE2": f"DEC--{projection}", "CRVAL1": 150.0, "CRVAL2": 2.0})
    header.update({"CRPIX1": 30.5, "CRPIX2": 20.0, "CDELT1": -4.7e-5, "CDELT2": 4.7e-5, **more})
    return header
