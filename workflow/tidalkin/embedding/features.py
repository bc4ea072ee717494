"""Compute encoder features, averaged over symmetries, and embed whole shards."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tidalkin import config
from tidalkin.atomic import atomic_path
from tidalkin.embedding.whitening import load_whitening
from tidalkin.errors import TidalkinError
from tidalkin.images.crop import central_crop
from tidalkin.images.store import ImageStore, Shard
from tidalkin.model.augment import Views
from tidalkin.model.checkpoint import LoadedEncoder, load_encoder
from tidalkin.model.device import choose_device, choose_precision
from tidalkin.model.simsiam import Encoder
from tidalkin.model.stretch import stretch
from tidalkin.seeds import derived_seed

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
VIEWS_AT_ONCE = 128  # galaxies whose views are drawn together; not the embedding's batch size, which changes no result


def features(loaded: LoadedEncoder, flux: Floats, settings: config.Embedding, compute: config.Compute) -> Floats:
    """What the encoder says of images, before whitening.

    Parameters
    ----------
    loaded : LoadedEncoder
        The encoder; it is moved to the device.
    flux : (object, band, y, x) float32
        Images in the encoder's bands, nJy, NaN where missing.
    settings : config.Embedding
        Crop and symmetries.
    compute : config.Compute
        Device, precision, batch size.

    Returns
    -------
    (object, readout_dim) float32
        Mean and standard deviation of all stages' channels, averaged over the symmetries of the square.

    Raises
    ------
    TidalkinError
        If the images have other bands than the encoder, or are smaller than the crop.
    """
    if flux.shape[1] != len(loaded.bands):
        raise TidalkinError(
            f"the images have {flux.shape[1]} bands, but the encoder was trained on {', '.join(loaded.bands)}: "
            "train on these images or embed those the encoder knows"
        )
    if settings.crop and settings.crop > flux.shape[-1]:
        raise TidalkinError(f"embedding.crop {settings.crop} must not exceed the {flux.shape[-1]} pixels of the images")
    encoder, device, precision = _on_device(loaded, compute)
    sigma = torch.from_numpy(loaded.sigma).to(device)
    found = np.empty((len(flux), encoder.readout_dim), np.float32)
    with torch.inference_mode(), precision:
        for start in range(0, len(flux), compute.embed_batch_size):
            part = central_crop(flux[start : start + compute.embed_batch_size], settings.crop)
            images = stretch(torch.from_numpy(part).to(device), sigma, loaded.stretch)
            readouts = [
                encoder.readout(image.contiguous(memory_format=torch.channels_last))
                for image in _symmetric_copies(images, settings.symmetries)
            ]
            found[start : start + len(part)] = torch.stack(readouts).mean(dim=0).cpu().numpy()
    return found


def view_covariance(
    loaded: LoadedEncoder,
    images: Shard,
    augment: config.Augment,
    n_views: int,
    seed: int,
    compute: config.Compute,
) -> Doubles:
    """How the features of random views of one image differ, summed over images.

    Parameters
    ----------
    loaded : LoadedEncoder
        The encoder; it is moved to the device.
    images : Shard
        Images in the encoder's bands.
    augment : config.Augment
        What the views may differ in.
    n_views : int
        Views of each image, 2 or more.
    seed : int
        Decides the views.
    compute : config.Compute
        Device and precision.

    Returns
    -------
    (readout_dim, readout_dim) float64
        Sum of the covariances of each image's views.
    """
    encoder, device, precision = _on_device(loaded, compute)
    random = torch.Generator(device)
    draw = Views(augment, loaded.stretch, torch.from_numpy(loaded.sigma), loaded.bands, random)
    covariance = np.zeros((encoder.readout_dim, encoder.readout_dim))
    # Not inference_mode: the views' noise is drawn in threads, to which it does not reach.
    with torch.no_grad(), precision:
        for start in range(0, len(images.flux), VIEWS_AT_ONCE):
            rows = slice(start, start + VIEWS_AT_ONCE)
            part = [torch.from_numpy(a[rows]).to(device) for a in (images.flux, images.sky_sigma, images.psf_fwhm)]
            random.manual_seed(derived_seed(seed, "views", start))
            drawn = (draw(*part).contiguous(memory_format=torch.channels_last) for _ in range(n_views))
            views = np.stack([encoder.readout(view).cpu().numpy() for view in drawn]).astype(np.float64)
            difference = (views - views.mean(axis=0)).reshape(-1, encoder.readout_dim)
            covariance += difference.T @ difference / (n_views - 1)
    return covariance


def _on_device(loaded: LoadedEncoder, compute: config.Compute) -> tuple[Encoder, torch.device, torch.autocast]:
    """The encoder on its device, ready to be used; the device; and the precision to use it in."""
    device = choose_device(compute.device)
    precision = choose_precision(compute.precision, device)
    encoder = loaded.encoder.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return encoder, device, torch.autocast(device.type, precision, enabled=precision != torch.float32)


def _symmetric_copies(images: Tensor, symmetries: int) -> Iterator[Tensor]:
    """The images as they are (1), and mirrored (2), or in quarter turns (4), and mirrored (8)."""
    turns = range(4) if symmetries >= 4 else range(1)
    for quarter_turns in turns:
        turned = torch.rot90(images, quarter_turns, (2, 3))
        yield turned
        if symmetries in (2, 8):
            yield turned.flip(3)


def embed_shard(
    store: str | Path,
    shard: int,
    encoder: str | Path,
    whitening: str | Path,
    vectors: str | Path,
    ids: str | Path,
    *,
    settings: config.Embedding,
    compute: config.Compute,
) -> None:
    """Embed the galaxies of one shard; those with too few good pixels are left out and listed in the log.

    Parameters
    ----------
    store, encoder, whitening : path
        The images, the trained encoder, the whitening.
    shard : int
        Which shard of the store.
    vectors : path
        The ``.npy`` of (object, dimension) vectors of length one to write.
    ids : path
        The ``.npy`` of their (object,) int64 object_ids to write.
    settings : config.Embedding
        How features are taken, and the type of the vectors.
    compute : config.Compute
        Device, precision, batch size.

    Raises
    ------
    TidalkinError
        If images, encoder and whitening do not belong together.
    """
    opened, loaded, white = ImageStore.open(store), load_encoder(encoder), load_whitening(whitening)
    check_bands(opened, loaded)
    white.check(loaded.digest, whitening)
    content = opened.read(shard)
    good = has_enough_good_pixels(content, settings)
    if not good.all():
        logger.info(
            "shard %d: %d of %d galaxies are left out, with under %g %% good pixels in some band: %s",
            *(shard, (~good).sum(), len(good), 100 * settings.minimum_good_fraction),
            ", ".join(map(str, content.object_id[~good])),
        )
    found = white.apply(features(loaded, content.flux[good], settings, compute)).astype(settings.dtype)
    for path, array in ((vectors, found), (ids, content.object_id[good])):
        with atomic_path(path) as partial:
            np.save(partial, array)


def has_enough_good_pixels(content: Shard, settings: config.Embedding) -> npt.NDArray[np.bool_]:
    """Tell, for each galaxy, whether every band has the least fraction of good pixels."""
    return content.good_fraction.min(axis=1) >= settings.minimum_good_fraction


def check_bands(store: ImageStore, loaded: LoadedEncoder) -> None:
    """Refuse images in other bands, or in another order of bands, than the encoder was trained on."""
    if store.bands != loaded.bands:
        raise TidalkinError(
            f"{store.path}: has the bands {', '.join(store.bands)}, but the encoder was trained on "
            f"{', '.join(loaded.bands)}: train on these images or embed those the encoder knows"
        )
