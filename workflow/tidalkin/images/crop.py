"""Cut the middle out of images."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Pixel = TypeVar("Pixel", bound=np.generic)


def central_crop(images: npt.NDArray[Pixel], side: int | None) -> npt.NDArray[Pixel]:
    """Return the central pixels of images.

    Parameters
    ----------
    images : (..., y, x) array
        Square images.
    side : int or None
        Pixels on a side of the crop. Smaller images are returned whole. None returns all images whole.

    Returns
    -------
    (..., side, side) array
        Contiguous in memory. Where an equal margin is not possible, the margin is smaller at low indices.

    Examples
    --------
    >>> import numpy as np
    >>> central_crop(np.arange(16).reshape(4, 4), 2)
    array([[ 5,  6],
           [ 9, 10]])
    """
    size = images.shape[-1]
    side = size if side is None else min(side, size)
    start = (size - side) // 2
    middle: npt.NDArray[Any] = images[..., start : start + side, start : start + side]
    return np.ascontiguousarray(middle)
