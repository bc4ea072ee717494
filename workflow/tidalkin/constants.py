"""Constants that several rooms share."""

from __future__ import annotations

PIXEL_SCALE_ARCSEC = 0.168
"""Pixel scale of HSC coadds, arcsec (Aihara et al. 2022, PASJ 74, 247)."""

SHARDS_ADDED_TOGETHER = 8
"""Shards whose vectors are added to an index at once; a part of an index holds a multiple of them."""
