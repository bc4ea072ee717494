from __future__ import annotations

import numpy as np
import pytest

from tidalkin.images.crop import central_crop


@pytest.mark.parametrize(("size", "side", "first"), [(8, 4, 2), (9, 4, 2), (8, 3, 2), (7, 3, 2)])
def test_the_crop_is_central_and_contiguous(size, side, first):
    images = np.arange(2 * size * size).reshape(2, size, size)
    cropped = central_crop(images, side)
    np.testing.assert_array_equal(cropped, images[:, first : first + side, first : first + side])
    assert cropped.flags.c_contiguous


@pytest.mark.parametrize("side", [None, 5, 6])
def test_images_that_are_not_larger_than_the_crop_stay_whole(side):
    images = np.arange(25.0).reshape(1, 5, 5)
    np.testing.assert_array_equal(central_crop(images, side), images)
