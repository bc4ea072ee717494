"""Draw random views of galaxies, in batches on the device.

SimSiam learns to see no difference between two views of a galaxy. Each step is a pure function of its random
parameters (`turn`, `resample`, `widen_psf`, `extinction_factor`, `disc_mask`). `Views` draws the parameters from one
generator and applies the steps in this order: position and orientation, seeing, dust and brightness, sky and gaps, and
the stretch to network input.

Where `stretch.bin` averages pixels, they are averaged first, as running means that the views sample at wider steps.
The light is the same as if they were averaged last, and with a bin of 2 every step costs a quarter.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional

from tidalkin.config import Augment, Stretch
from tidalkin.constants import FWHM_PER_SIGMA, PIXEL_SCALE_ARCSEC
from tidalkin.draws import Draws, constant
from tidalkin.errors import TidalkinError
from tidalkin.injection.light import Light
from tidalkin.model.stretch import network_input

EXTINCTION_COEFFICIENTS = {"g": 3.240, "r": 2.276, "i": 1.633, "z": 1.263, "y": 1.075}
"""A_band / E(B-V) of HSC's filters, by M. Tanaka (github.com/lsst/obs_subaru, config/extinctionCoeffs.py)."""

GALAXIES_IN_CACHE = 8
"""Galaxies whose images are prepared at once on the CPU, so that intermediate results stay in its cache."""


def running_mean(flux: torch.Tensor, width: int) -> torch.Tensor:
    """Average all blocks of ``width`` by ``width`` pixels, one block starting at each pixel.

    Parameters
    ----------
    flux : (object, band, y, x) tensor
        Images without NaN.
    width : int
        Side of a block, pixels.

    Returns
    -------
    (object, band, y - width + 1, x - width + 1) tensor
        Its centre is the image's centre.

    Examples
    --------
    >>> image = torch.arange(9.0).reshape(1, 1, 3, 3)
    >>> running_mean(image, 2)[0, 0]
    tensor([[2., 3.],
            [5., 6.]])
    """
    size = flux.shape[-1] - width + 1
    rows = functools.reduce(torch.add, (flux[:, :, i : i + size] for i in range(width)))
    return functools.reduce(torch.add, (rows[..., i : i + size] for i in range(width))) / width**2


def turn(
    flux: torch.Tensor, mirror: torch.Tensor, transpose: torch.Tensor, centre: torch.Tensor, crop: int, step: int = 1
) -> torch.Tensor:
    """Cut flipped and quarter-turned views at whole pixels, without interpolation.

    Parameters
    ----------
    flux : (object, band, y, x) tensor
        Square images, large enough to hold the views.
    mirror : (object, 2) tensor of int64
        1 if an axis (x, y) of the view runs along the image's, -1 if against it.
    transpose : (object,) tensor of bool
        Whether x and y change places. Together with ``mirror`` this gives the eight symmetries of the square.
    centre : (object, 2) tensor of int64
        x and y of the image's centre in the view, pixels of the image from the view's centre.
    crop : int
        Side of the view, pixels.
    step : int
        Pixels of the image from one pixel of the view to the next.

    Returns
    -------
    (object, band, crop, crop) tensor

    Examples
    --------
    >>> image = torch.arange(4.0).reshape(1, 1, 2, 2)
    >>> mirror, centre = torch.tensor([[-1, 1]]), torch.zeros(1, 2, dtype=torch.int64)
    >>> turn(image, mirror, torch.tensor([False]), centre, crop=2)[0, 0]  # x runs backwards
    tensor([[1., 0.],
            [3., 2.]])
    """
    n_objects, n_bands, size, _ = flux.shape
    # Twice the offset from the centre keeps centres between pixels in whole numbers.
    doubled = step * (2 * torch.arange(crop, device=flux.device) - (crop - 1))
    offset = mirror[:, :, None] * (doubled - 2 * centre[:, :, None])
    column, row = ((offset + (size - 1)) // 2).unbind(1)
    across, down = column[:, None, :], row[:, :, None]
    swap = transpose[:, None, None]
    pixel_row, pixel_column = torch.where(swap, across, down), torch.where(swap, down, across)
    index = (pixel_row * size + pixel_column).view(n_objects, 1, crop * crop).expand(-1, n_bands, -1)
    return flux.flatten(2).gather(2, index).view(n_objects, n_bands, crop, crop)


def resample(
    flux: torch.Tensor,
    angle: torch.Tensor,
    mirror: torch.Tensor,
    zoom: torch.Tensor,
    shear: torch.Tensor,
    centre: torch.Tensor,
    crop: int,
) -> torch.Tensor:
    """Rotate, flip, zoom, shear and shift in one interpolation.

    Surface brightness is conserved, as if the same galaxy were nearer. Total flux grows with the square of ``zoom``.

    Parameters
    ----------
    flux : (object, band, y, x) tensor of float32
        Square images without NaN, because a NaN would spread to its neighbours.
    angle : (object,) tensor
        Angle of the view against the image, radians.
    mirror : (object,) tensor
        1 if the view's x axis runs along the image's, -1 if against it.
    zoom : (object,) tensor
        Magnification.
    shear : (object, 2) tensor
        Both components of the reduced shear. It stretches along one axis, shortens along the other, and keeps areas,
        as in weak lensing (Bartelmann & Schneider 2001, Phys. Rep. 340, 291).
    centre : (object, 2) tensor
        x and y of the image's centre in the view, pixels from the view's centre.
    crop : int
        Side of the view, pixels.

    Returns
    -------
    (object, band, crop, crop) tensor of float32
        0 where the view reaches beyond the image.

    Examples
    --------
    >>> image = torch.ones(1, 1, 32, 32)
    >>> one, zero = torch.ones(1), torch.zeros(1)
    >>> view = resample(image, zero, one, 2 * one, torch.zeros(1, 2), torch.zeros(1, 2), crop=16)
    >>> view.shape, view.mean()  # the surface brightness stays
    (torch.Size([1, 1, 16, 16]), tensor(1.))
    """
    n_objects, n_bands, size, _ = flux.shape
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    linear = torch.stack([torch.stack([mirror * cos, -sin], -1), torch.stack([mirror * sin, cos], -1)], -2)
    along, across = shear.unbind(-1)
    sheared = torch.stack([torch.stack([1 + along, across], -1), torch.stack([across, 1 - along], -1)], -2)
    linear = linear @ (sheared / torch.sqrt(1.0 - along**2 - across**2)[:, None, None])
    shift = -(linear @ centre[:, :, None])
    # grid_sample measures in half sides of the image and of the view.
    to_image = torch.cat([linear * (crop / size), shift * (2.0 / size)], dim=2)
    grid = functional.affine_grid(to_image, [n_objects, n_bands, crop, crop], align_corners=False)
    return functional.grid_sample(flux, grid, mode="bicubic", padding_mode="zeros", align_corners=False)


@functools.lru_cache
def _cosine_transform(size: int, device: torch.device) -> torch.Tensor:
    """Compute the orthonormal cosine transform (DCT-II) as a (frequency, pixel) matrix."""
    pixel = torch.arange(size, device=device)
    # Whole turns are removed in integers. In single precision, which is all that MPS has, they would cost digits.
    phase = (pixel[:, None] * (2 * pixel + 1)) % (4 * size)
    matrix = torch.cos(phase * (math.pi / (2 * size))) * math.sqrt(2.0 / size)
    matrix[0] /= math.sqrt(2.0)
    return matrix


def widen_psf(flux: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """Convolve each image with a Gaussian, which widens its PSF.

    The kernel is the discrete analogue of the Gaussian (Lindeberg 1990, IEEE TPAMI 12, 234). It is nowhere negative
    and its sum is 1. Its variance is exact at any width, even far below a pixel, where a sampled Gaussian fails. Images
    are continued beyond their edges by reflection, so that each keeps its total flux. In cosine space the convolution
    costs three matrix products, whatever its width.

    Parameters
    ----------
    flux : (object, band, y, x) tensor of float32
        Square images without NaN.
    variance : (object, band) tensor
        Variance of the kernel along each axis, pixels squared; 0 changes nothing.

    Examples
    --------
    >>> star = torch.zeros(1, 1, 9, 9)
    >>> star[..., 4, 4] = 1.0
    >>> wide = widen_psf(star, torch.tensor([[1.0]]))
    >>> wide[0, 0, 4, 3:6], wide.sum().round(decimals=4)
    (tensor([0.0968, 0.2169, 0.0968]), tensor(1.))
    """
    wide = (variance > 0).any(dim=1)
    if flux.device.type == "cpu" and not wide.all():  # on other devices, this test would make the host wait
        widened = flux.clone()
        widened[wide] = _convolved(flux[wide], variance[wide])
        return widened
    return _convolved(flux, variance)


def _convolved(flux: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    size = flux.shape[-1]
    transform = _cosine_transform(size, flux.device)
    frequency = torch.arange(size, device=flux.device) * (math.pi / size)
    response = torch.exp(variance[:, :, None] * (torch.cos(frequency) - 1.0))
    kernel = (transform.T * response[:, :, None, :]) @ transform  # symmetric: along one axis, edges included
    return kernel @ flux @ kernel


def extinction_factor(ebv: torch.Tensor, bands: Sequence[str]) -> torch.Tensor:
    """Compute the factors by which foreground dust changes the flux.

    Parameters
    ----------
    ebv : (object,) tensor
        Change of E(B-V), mag; a negative change removes dust.
    bands : sequence of str
        Names of HSC's bands.

    Returns
    -------
    (object, band) tensor
        ``10 ** (-0.4 * R_band * ebv)``.

    Raises
    ------
    TidalkinError
        If the extinction coefficient of a band is unknown.

    Examples
    --------
    >>> extinction_factor(torch.tensor([0.0, 0.1]), ["g", "i"])
    tensor([[1.0000, 1.0000],
            [0.7420, 0.8604]])
    """
    unknown = [band for band in bands if band not in EXTINCTION_COEFFICIENTS]
    if unknown:
        raise TidalkinError(
            f"augment.extinction_ebv: the extinction coefficient of band {unknown[0]!r} is unknown, only those of "
            f"{', '.join(EXTINCTION_COEFFICIENTS)} are known: set augment.extinction_ebv to [0, 0]"
        )
    coefficients = constant(tuple(EXTINCTION_COEFFICIENTS[band] for band in bands), ebv.device, ebv.dtype)
    return 10.0 ** (-0.4 * ebv[:, None] * coefficients)


def disc_mask(position: torch.Tensor, radius: torch.Tensor, crop: int) -> torch.Tensor:
    """Mark the pixels that lie in any of a view's discs.

    Parameters
    ----------
    position : (object, disc, 2) tensor
        x and y of the discs' centres, pixels from the view's centre.
    radius : (object, disc) tensor
        Radii, pixels.
    crop : int
        Side of the view, pixels.

    Returns
    -------
    (object, 1, crop, crop) tensor of bool

    Examples
    --------
    >>> disc_mask(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[1.0]]), crop=5)[0, 0].int()
    tensor([[0, 0, 0, 0, 0],
            [0, 0, 0, 1, 0],
            [0, 0, 1, 1, 1],
            [0, 0, 0, 1, 0],
            [0, 0, 0, 0, 0]], dtype=torch.int32)
    """
    pixel = torch.arange(crop, device=position.device) - (crop - 1) / 2
    squared = (pixel - position[:, :, :, None]) ** 2
    across, down = squared.unbind(2)
    within = across[:, :, None, :] <= (radius[:, :, None] ** 2 - down)[:, :, :, None]
    return within.any(dim=1, keepdim=True)


class View(NamedTuple):
    """One random view of each galaxy of a batch."""

    image: torch.Tensor
    """(object, channel, y, x) network input."""
    light: torch.Tensor | None
    """(object, 1, y, x) signal to noise of the injected light per pixel, all bands together; None without light."""


class Views:
    """Draw random views of galaxies as network input.

    The steps follow in this order. The neutral value in the configuration switches a step off, at no cost:

    1. `crop`, `jitter_pixels`, `rotate`, `zoom`, `shear` decide place and shape. Without rotation, zoom and shear,
       pixels are only moved (`turn`: flips, quarter turns, whole pixels of jitter). Otherwise `resample` does all of it
       in one bicubic interpolation. Missing pixels become 0, the level of the sky, before any step can spread them.
       Where `stretch.bin` averages pixels, the view is sampled from running means, with blocks along the image's axes
       as in embedding.
    2. `blur_arcsec` changes the seeing. Bands are observed on different nights, so each draws its own FWHM, which adds
       in quadrature to its PSF. Zooming out shrinks the PSF with the galaxy; a known PSF is widened back.
    3. `extinction_ebv`, `brightness` and `color` give one factor per band.
    4. `noise_sigma` adds white noise in units of the image's own sky noise, at one level per view for all bands.
    5. `discs` are gaps away from the galaxy's centre. They are filled with sky noise like that around them, so that
       neither the neighbours nor the gaps identify a galaxy.
    6. The stretch follows, and the asymmetry if it is a channel.

    The same generator state gives the same views on the same kind of device, even if several processes share them.

    Parameters
    ----------
    settings : Augment
        Ranges of all steps.
    stretch_settings : Stretch
        The stretch to network input.
    sigma : (band,) tensor
        Sky noise of each band from `tidalkin.model.stretch.band_sigma`, nJy.
    bands : sequence of str
        Names of the bands.
    generator : torch.Generator
        The only source of randomness, on the device of the images; in the same state in all processes.
    rank, processes : int
        The images given to this object are part number ``rank``, from 0, of a batch split into ``processes`` equal
        parts. The views of all parts together are those that one process draws for the whole batch.
    """

    def __init__(
        self,
        settings: Augment,
        stretch_settings: Stretch,
        sigma: torch.Tensor,
        bands: Sequence[str],
        generator: torch.Generator,
        *,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.settings = settings
        self.stretch_settings = stretch_settings
        self.bands = tuple(bands)
        self.draws = Draws(generator, rank=rank, processes=processes)
        self.device = generator.device
        self.sigma = sigma.to(self.device, torch.float32)
        self.crop = settings.crop // stretch_settings.bin
        self.pixel_scale = PIXEL_SCALE_ARCSEC * stretch_settings.bin
        self.interpolates = settings.rotate or settings.zoom != (1.0, 1.0) or settings.shear > 0

    def __call__(self, flux: torch.Tensor, sky_sigma: torch.Tensor, psf_fwhm: torch.Tensor) -> torch.Tensor:
        """Draw one view of each galaxy.

        Parameters
        ----------
        flux : (object, band, y, x) tensor
            Square images, nJy, NaN where missing, on the generator's device.
        sky_sigma : (object, band) tensor
            Sky noise of each image, nJy; NaN where there is no image, which then gets no noise.
        psf_fwhm : (object, band) tensor
            FWHM of each image's PSF, arcsec; NaN where unknown.

        Returns
        -------
        (object, channel, crop / bin, crop / bin) tensor of float32
            Network input, without NaN.
        """
        return self._drawn(flux, sky_sigma, psf_fwhm, 1)[0].image

    def pair(
        self, flux: torch.Tensor, sky_sigma: torch.Tensor, psf_fwhm: torch.Tensor, light: Light | None = None
    ) -> tuple[View, View]:
        """Draw two views of each galaxy.

        The result is that of two calls, but the preparation is done once.

        Parameters
        ----------
        flux, sky_sigma, psf_fwhm : tensors
            The same as for one view.
        light : Light, optional
            Light to inject into the galaxies. It goes through the same views, so that its place in them is known.
        """
        first, second = self._drawn(flux, sky_sigma, psf_fwhm, 2, light)
        return first, second

    @torch.no_grad()
    def _drawn(
        self,
        flux: torch.Tensor,
        sky_sigma: torch.Tensor,
        psf_fwhm: torch.Tensor,
        n_views: int,
        light: Light | None = None,
    ) -> list[View]:
        # Half precision would drown faint light in the rounding errors of bright cores.
        with torch.autocast(self.device.type, enabled=False):
            images = self._prepared(flux.float(), light)
            sky_sigma = sky_sigma.float().nan_to_num(0.0) / self.stretch_settings.bin  # of a mean of bin x bin pixels
            return [self._view(images, sky_sigma, psf_fwhm.float(), light) for _ in range(n_views)]

    def _prepared(self, flux: torch.Tensor, light: Light | None) -> torch.Tensor:
        """Inject the light, add its shape as a channel, and clean the images."""

        def of(rows: slice) -> torch.Tensor:
            if light is None:
                return self._cleaned(flux[rows])
            part = light.of(rows)
            return self._cleaned(torch.cat([flux[rows] + part.flux(), part.shape], dim=1))

        if self.device.type != "cpu":
            return of(slice(None))
        blocks = (of(slice(start, start + GALAXIES_IN_CACHE)) for start in range(0, len(flux), GALAXIES_IN_CACHE))
        # Channels last in memory, because the bicubic interpolation then takes half the time.
        return torch.cat([block.contiguous(memory_format=torch.channels_last) for block in blocks])

    def _cleaned(self, flux: torch.Tensor) -> torch.Tensor:
        """Replace missing pixels by 0, pad to the size that views need, and average blocks."""
        flux = flux.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        if not self.interpolates:
            room = (flux.shape[-1] - self.settings.crop) // 2
            beyond = max(0, math.floor(self.settings.jitter_pixels) - room)
            flux = functional.pad(flux, (beyond,) * 4) if beyond else flux
        return running_mean(flux, self.stretch_settings.bin) if self.stretch_settings.bin > 1 else flux

    def _view(self, images: torch.Tensor, sky_sigma: torch.Tensor, psf_fwhm: torch.Tensor, light: Light | None) -> View:
        placed, centre, zoom = self._placed(images)
        n_bands = len(self.bands)
        view, shape = placed[:, :n_bands], placed[:, n_bands:]
        variance = self._added_variance(psf_fwhm, zoom)
        if variance is not None:
            view = widen_psf(view, variance)
        factor = self._factor(len(view))
        unit = 1.0 / (self.stretch_settings.softening_sigma * self.sigma)  # from here on, flux is in the stretch's unit
        per_band = (unit if factor is None else factor * unit).expand(len(view), -1)
        view = view * per_band[..., None, None]
        gaps = self._put_on_sky(view, sky_sigma * unit, centre, variance, factor)
        signal_to_noise = None
        if light is not None:
            noise = 1.0 / (self.stretch_settings.softening_sigma * self.stretch_settings.bin)  # of a pixel of the view
            strength = (light.band_flux * per_band).sum(dim=1) / (noise * math.sqrt(n_bands))
            signal_to_noise = shape.clamp(min=0.0) * strength[:, None, None, None]
            if gaps is not None:
                signal_to_noise = signal_to_noise * ~gaps
        return View(network_input(view, self.stretch_settings), signal_to_noise)

    # --- the steps ---

    def _placed(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Draw place and shape of the views.

        Returns
        -------
        views : (object, channel, y, x) tensor
            The views, with their light unchanged.
        centre : (object, 2) tensor
            x and y of each galaxy's centre in its view, pixels from the view's centre.
        zoom : (object,) tensor or None
            Magnification; None where no view is zoomed.
        """
        n_objects, step, jitter = len(images), self.stretch_settings.bin, self.settings.jitter_pixels
        if not self.interpolates:
            steps = math.floor(jitter)
            offset = self.draws.integers(-steps, steps, n_objects, 2)
            mirror = 1 - 2 * self.draws.integers(0, 1, n_objects, 2)
            transpose = self.draws.integers(0, 1, n_objects).bool()
            return turn(images, mirror, transpose, offset, self.crop, step), offset / step, None
        centre = self.draws.uniform((-jitter, jitter), n_objects, 2) / step
        mirror = 1.0 - 2.0 * self.draws.integers(0, 1, n_objects)
        turns = (
            self.draws.uniform((0.0, 4.0), n_objects)
            if self.settings.rotate
            else 2.0 * self.draws.integers(0, 1, n_objects)
        )
        zoom = self.draws.uniform(self.settings.zoom, n_objects)
        view = resample(images, turns * (math.pi / 2), mirror, zoom / step, self._shear(n_objects), centre, self.crop)
        return view, centre, zoom

    def _shear(self, n_objects: int) -> torch.Tensor:
        """Draw both components of the shear, (object, 2), up to the largest strength."""
        if not self.settings.shear:
            return torch.zeros(n_objects, 2, device=self.device)
        strength = self.draws.uniform((0.0, self.settings.shear), n_objects)
        angle = self.draws.uniform((0.0, 2.0 * math.pi), n_objects)
        return strength[:, None] * torch.stack([torch.cos(angle), torch.sin(angle)], dim=-1)

    def _added_variance(self, psf_fwhm: torch.Tensor, zoom: torch.Tensor | None) -> torch.Tensor | None:
        """Draw the variance of the blur, (object, band), pixels of the view squared, or None."""
        squared_fwhm = None
        if self.settings.blur_arcsec != (0.0, 0.0):
            squared_fwhm = self.draws.uniform(self.settings.blur_arcsec, *psf_fwhm.shape) ** 2
        if zoom is not None and self.settings.zoom[0] < 1:
            lost = psf_fwhm.nan_to_num(0.0) ** 2 * (1.0 - zoom**2).clamp(min=0.0)[:, None]
            squared_fwhm = lost if squared_fwhm is None else squared_fwhm + lost
        return None if squared_fwhm is None else squared_fwhm / (self.pixel_scale * FWHM_PER_SIGMA) ** 2

    def _factor(self, n_objects: int) -> torch.Tensor | None:
        """Draw the factor of each band's flux, (object, band), or None where it is 1."""
        settings = self.settings
        factor = None
        if settings.extinction_ebv != (0.0, 0.0):
            factor = extinction_factor(self.draws.uniform(settings.extinction_ebv, n_objects), self.bands)
        logarithm = torch.zeros(n_objects, len(self.bands), device=self.device)
        if settings.brightness:
            logarithm = logarithm + self.draws.uniform((-settings.brightness, settings.brightness), n_objects, 1)
        if settings.color:
            logarithm = logarithm + settings.color * self.draws.normal(n_objects, len(self.bands))
        if settings.brightness or settings.color:
            factor = torch.exp(logarithm) if factor is None else factor * torch.exp(logarithm)
        return factor

    def _put_on_sky(
        self,
        view: torch.Tensor,
        sky_sigma: torch.Tensor,
        centre: torch.Tensor,
        variance: torch.Tensor | None,
        factor: torch.Tensor | None,
    ) -> torch.Tensor | None:
        """Add noise and replace discs by sky, in place.

        Returns
        -------
        (object, 1, y, x) tensor of bool, or None
            Pixels of the discs.
        """
        settings = self.settings
        if settings.noise_sigma == (0.0, 0.0) and not settings.discs:
            return None
        added = sky_sigma * self.draws.uniform(settings.noise_sigma, len(view), 1)
        level, gaps = added[:, :, None, None], None
        if settings.discs:
            gaps = self._discs(centre)
            own = sky_sigma if factor is None else sky_sigma * factor
            if variance is not None:
                own = own * torch.special.i0e(2.0 * variance)  # the part of white noise that survives the blur
            level = torch.where(gaps, torch.hypot(added, own)[:, :, None, None], level)
            view.mul_(~gaps)
        view.addcmul_(self.draws.noise(*view.shape), level)
        return gaps

    def _discs(self, centre: torch.Tensor) -> torch.Tensor:
        """Draw discs over the view, each wholly beyond `disc_distance_arcsec` from the galaxy's centre."""
        settings = self.settings
        shape = (len(centre), settings.discs)
        radius = self.draws.uniform(settings.disc_radius_arcsec, *shape) / self.pixel_scale
        angle = self.draws.uniform((0.0, 2.0 * math.pi), *shape)
        direction = torch.stack([torch.cos(angle), torch.sin(angle)], dim=-1)
        # The distance at which a ray from the galaxy leaves the view, so that all discs fall into it, even in corners.
        to_edge = (self.crop / 2 - direction.sign() * centre[:, None]) / direction.abs()
        nearest = settings.disc_distance_arcsec / self.pixel_scale + radius
        farthest = torch.maximum(to_edge.amin(dim=-1), nearest)
        distance = torch.sqrt(torch.lerp(nearest**2, farthest**2, self.draws.uniform((0.0, 1.0), *shape)))
        return disc_mask(centre[:, None] + distance[..., None] * direction, radius, self.crop)
