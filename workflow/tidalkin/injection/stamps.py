"""Read FITS stamps of the user's own light, to be injected beside the generic shapes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter, zoom
from torch import Tensor

from tidalkin.config.injection import StampFolder
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.errors import TidalkinError, first_line
from tidalkin.injection.stamp_files import stamp_files

if TYPE_CHECKING:
    from astropy.io import fits

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stamps:
    """The user's stamps, on the survey's pixel scale."""

    images: Tensor
    """(stamp, 1, y, x) float32, not negative; of arbitrary scale."""
    band_ratio: Tensor
    """(stamp, band): light of each band relative to the reference band; NaN where a stamp has one band only."""

    def to(self, device: torch.device) -> Stamps:
        """Return the stamps on a device."""
        return Stamps(self.images.to(device), self.band_ratio.to(device))

    def drawn(self, which: Tensor, angle: Tensor, mirrored: Tensor, size: int) -> Tensor:
        """Rotate and mirror stamps about their centres.

        Parameters
        ----------
        which : (object,) tensor of int64
            The stamp of each galaxy.
        angle : (object,) tensor
            Position angle, radians.
        mirrored : (object,) tensor of bool
            Whether the stamp is mirrored.
        size : int
            Side of the images, pixels.

        Returns
        -------
        (object, y, x) tensor
        """
        cos, sin = torch.cos(angle), torch.sin(angle)
        flip = torch.where(mirrored, -1.0, 1.0)
        none = torch.zeros_like(cos)
        ratio = size / self.images.shape[-1]
        turned = torch.stack([torch.stack([cos * flip, -sin, none], 1), torch.stack([sin * flip, cos, none], 1)], 1)
        grid = F.affine_grid(turned * ratio, [len(which), 1, size, size], align_corners=False)
        return F.grid_sample(self.images[which], grid, align_corners=False)[:, 0]


def read_stamps(settings: StampFolder, bands: Sequence[str], size: int) -> Stamps | None:
    """Read all stamps of the folder, and bring them to the survey's pixel scale.

    Parameters
    ----------
    settings : StampFolder
        The folder, and the pixel scale of stamps without a WCS.
    bands : sequence of str
        Names of the survey's bands.
    size : int
        Side of the survey's images, pixels.

    Returns
    -------
    Stamps or None
        None without a folder.

    Raises
    ------
    TidalkinError
        If the folder holds no stamp, or a stamp cannot be read, lacks a band, has missing pixels or holds no light.

    Examples
    --------
    >>> import tempfile
    >>> from astropy.io import fits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fits.PrimaryHDU(np.ones((20, 20), np.float32)).writeto(f"{folder}/arc.fits")
    ...     stamps = read_stamps(StampFolder(folder=folder, pixel_scale_arcsec=0.168), ["g", "i"], 64)
    >>> stamps.images.shape
    torch.Size([1, 1, 91, 91])
    """
    files = stamp_files(settings)
    if not files:
        return None
    side = math.ceil(size * math.sqrt(2))  # so that a corner does not stay empty when a stamp is turned
    images = np.empty((len(files), 1, side, side), np.float32)
    band_ratio = np.full((len(files), len(bands)), np.nan, np.float32)
    reference = bands.index("i") if "i" in bands else 0
    for number, path in enumerate(files):
        planes, scale = _read_planes(path, bands, settings.pixel_scale_arcsec)
        if len(planes) == len(bands) > 1:
            light = planes.sum(axis=(1, 2))
            if not light[reference] > 0:
                raise TidalkinError(f"{path}: holds no light in band {bands[reference]}: leave the stamp out")
            band_ratio[number] = light / light[reference]
        images[number, 0] = _on_grid(planes.sum(axis=0), scale, side)
        peak = images[number].max()
        if not peak > 0:
            raise TidalkinError(f"{path}: holds no light within {size} pixels of the survey: leave the stamp out")
        images[number] /= peak
    return Stamps(torch.from_numpy(images), torch.from_numpy(band_ratio))


def _read_planes(path: Path, bands: Sequence[str], pixel_scale_arcsec: float | None) -> tuple[Doubles, float]:
    """Read the images of a stamp and its pixel scale, arcsec.

    The images are (band, y, x), or (1, y, x), without negative light.
    """
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            with fits.open(path, memmap=False) as file:
                hdus = {hdu.name.upper(): hdu for hdu in file if hdu.is_image and hdu.header["NAXIS"] == 2}
                scale = pixel_scale_arcsec or next((_scale(hdu.header) for hdu in hdus.values()), None)
                planes = {name: np.asarray(hdu.data, np.float64) for name, hdu in hdus.items()}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TidalkinError(f"{path}: cannot be read as FITS ({first_line(error)}): write the stamp again") from None
    if len(planes) > 1:
        missing = [band for band in bands if band.upper() not in planes]
        if missing:
            raise TidalkinError(
                f"{path}: has several images, but none named {missing[0].upper()}: give one image, or one for each of "
                f"{', '.join(band.upper() for band in bands)}"
            )
        planes = {band: planes[band.upper()] for band in bands}
    if not planes:
        raise TidalkinError(f"{path}: holds no image of two axes: give one, or one for each band")
    if len({plane.shape for plane in planes.values()}) > 1:
        raise TidalkinError(f"{path}: has images of different sizes: give all bands the same size")
    stack = np.stack(list(planes.values()))
    if not np.isfinite(stack).all():
        raise TidalkinError(f"{path}: has pixels that are NaN or infinite: fill them with 0")
    if not stack.max() > 0:
        raise TidalkinError(f"{path}: holds no light: leave the stamp out")
    if scale is None:
        raise TidalkinError(f"{path}: has no WCS: set injection.stamps.pixel_scale_arcsec to its pixel scale")
    return stack.clip(min=0.0), scale


def _scale(header: fits.Header) -> float | None:
    """Return the pixel scale of a celestial WCS, arcsec, or None."""
    from astropy.wcs import WCS
    from astropy.wcs.utils import proj_plane_pixel_scales

    wcs = WCS(header)
    return float(np.mean(proj_plane_pixel_scales(wcs.celestial))) * 3600 if wcs.has_celestial else None


def _on_grid(image: Doubles, scale_arcsec: float, side: int) -> npt.NDArray[np.float32]:
    """Resample an image (y, x) to the survey's pixel scale, centred in a square.

    The square has ``side`` pixels.
    """
    factor = scale_arcsec / PIXEL_SCALE_ARCSEC
    if factor < 1:  # smoothed first, so that no light falls between the new pixels
        image = gaussian_filter(image, 0.5 * (1 / factor - 1))
    resampled = np.maximum(zoom(image, factor, order=1, grid_mode=True, mode="nearest"), 0.0)
    grid = np.zeros((side, side), np.float32)
    height, width = resampled.shape
    rows, columns = min(height, side), min(width, side)
    top, left = (height - rows) // 2, (width - columns) // 2
    y, x = (side - rows) // 2, (side - columns) // 2
    grid[y : y + rows, x : x + columns] = resampled[top : top + rows, left : left + columns]
    return grid
