"""Round galaxies, some with an arm of light, drawn by GalSim."""

from __future__ import annotations

import galsim
import numpy as np

SIZE = 48


def galaxy(sersic_n: float, *, size: int = SIZE, blob: bool = False, noise_seed: int | None = 0) -> np.ndarray:
    """Draw a round galaxy of 40,000 nJy, half of it within 5 pixels.

    The noise is 5 nJy per pixel, and the PSF has a FWHM of 3 pixels.
    """
    y, x = np.mgrid[:size, :size]
    middle = size // 2
    model = galsim.Convolve(galsim.Sersic(sersic_n, half_light_radius=5, flux=4e4), galsim.Gaussian(fwhm=3))
    # An odd number of pixels, so that the centre is on the pixel size // 2 and not between four.
    image = model.drawImage(nx=size + 1, ny=size + 1, scale=1).array[:size, :size].astype(float)
    if blob:  # a fifth of the light in one arm
        image += 1e4 / (2 * np.pi * 4) * np.exp(-((x - middle - 7) ** 2 + (y - middle - 3) ** 2) / (2 * 4))
    if noise_seed is not None:
        image += np.random.default_rng(noise_seed).normal(0, 5, image.shape)
    return image.astype(np.float32)
