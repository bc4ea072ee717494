"""Sorting by bits gives the order of a stable sort."""

import numpy as np
import pytest

from tidalkin.explorer.order import highest_first


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(1).standard_normal(1000),
        np.random.default_rng(2).integers(-3, 4, 1000),
        [0.0, -0.0, 0.0, -0.0],
        [np.inf, -np.inf, 1e-45, -1e-45, 3e38, -3e38],
        [],
    ],
)
def test_the_order_is_that_of_a_stable_sort(values):
    values = np.array(values, np.float32)
    np.testing.assert_array_equal(highest_first(values), np.argsort(-values, kind="stable"))


def test_unknown_values_are_last():
    assert highest_first(np.array([np.nan, -5, -np.nan, 7], np.float32)).tolist() == [3, 1, 0, 2]
