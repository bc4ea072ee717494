"""The sky of coadds has correlated noise and loses faint light, as promised."""

from __future__ import annotations

import numpy as np
import pytest

from tidalkin.simulation.sky import UNDETECTED_SIGMA, correlated_noise, over_subtracted, warping_kernel


def test_noise_averaged_over_large_areas_is_that_before_the_warping():
    noise, variance_ratio = correlated_noise(3.0, 512, np.random.default_rng(1))
    assert noise.std() == pytest.approx(3 * variance_ratio**0.5, rel=0.02)
    assert variance_ratio < 0.9
    blocks = noise.reshape(32, 16, 32, 16).mean(axis=(1, 3))
    assert blocks.std() * 16 == pytest.approx(3, rel=0.07)


def test_noise_may_differ_from_pixel_to_pixel():
    sigma = np.where(np.arange(64) < 32, 1.0, 10.0)[None, :] * np.ones((64, 1))
    noise, _ = correlated_noise(sigma.astype(np.float32), 64, np.random.default_rng(2))
    assert noise[:, 36:60].std() > 8 * noise[:, 4:28].std()


def test_a_shift_of_a_whole_pixel_changes_nothing_and_one_of_half_a_pixel_is_symmetric():
    assert np.abs(warping_kernel(0.0)).sum() == pytest.approx(1)
    np.testing.assert_allclose(warping_kernel(0.5)[1:], warping_kernel(0.5)[1:][::-1], atol=1e-12)


def test_empty_sky_loses_nothing_and_bright_light_little():
    assert not over_subtracted(np.zeros((16, 16), np.float32), 1.0, 1.0, 0.168).any()
    bright = np.full((16, 16), 1e4, np.float32)
    np.testing.assert_allclose(over_subtracted(bright, 2.0, 0.5, 0.168), UNDETECTED_SIGMA, rtol=1e-6)
