"""Constants that several rooms share."""

from __future__ import annotations

import math

PIXEL_SCALE_ARCSEC = 0.168
"""Pixel scale of HSC coadds, arcsec (Aihara et al. 2022, PASJ 74, 247)."""

ZERO_POINT_AB = 31.4
"""AB magnitude of 1 nJy (Oke & Gunn 1983, ApJ 266, 713)."""

MAD_TO_SIGMA = 1.4826022
"""Standard deviation of a normal distribution over its median absolute deviation."""

FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
"""Full width at half maximum of a Gaussian over its standard deviation."""

LARGEST_PSF_FWHM_ARCSEC = 30.0
"""Seeing that is larger counts as unknown. The worst nights have a tenth of it, and placeholders begin at 99."""

SHARDS_ADDED_TOGETHER = 8
"""Shards whose vectors are added to an index at once; a part of an index holds a multiple of them."""

DEBRIS_SHARE = 0.08
"""Share of a debris map's inner cells, the brightest ones, whose mean is the debris score."""

BORDER_CELLS = 1
"""Cells along each side of a debris map that do not count: the network sees neighbours cut off there."""

SMALLEST_MAP_WITH_BORDER = 4
"""Side of the smallest debris map of which the border is left out, cells."""


def inner_cells(side: int) -> slice:
    """Return the cells that count, along one side of a debris map of ``side`` cells.

    Examples
    --------
    >>> inner_cells(8), inner_cells(2)
    (slice(1, 7, None), slice(0, 2, None))
    """
    border = BORDER_CELLS if side >= SMALLEST_MAP_WITH_BORDER else 0
    return slice(border, side - border)
