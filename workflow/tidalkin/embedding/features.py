"""Compute encoder features, averaged over symmetries, and embed whole shards."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

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
from tidalkin.model.heads import map_features
from tidalkin.model.simsiam import pooled
from tidalkin.model.stretch import stretch
from tidalkin.seeds import derived_seed

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
# Galaxies whose views are drawn together. It decides the random views, so that the batch size can change no result.
VIEWS_AT_ONCE = 128


class Encoded(NamedTuple):
    """Features and debris maps of images."""

    features: Floats
    """(object, feature): mean and standard deviation of the channels of all stages. With a debris map, its mean, its
    maximum and the mean of its brightest cells follow."""
    debris_map: Floats | None
    """(object, cell, cell): logit of faint light in each cell; None if the training had no injected light."""


def encode(loaded: LoadedEncoder, flux: Floats, settings: config.Embedding, compute: config.Compute) -> Encoded:
    """Compute encoder features and debris maps, averaged over the symmetries of the square.

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

    Raises
    ------
    TidalkinError
        If the images have other bands than the encoder, or are smaller than the crop.

    Examples
    --------
    >>> from tidalkin.model.checkpoint import random_encoder
    >>> network = {"stretch": config.Stretch(), "settings": config.Network(width=8), "image_size": 32, "seed": 1}
    >>> encoder = random_encoder(["g", "i"], np.ones(2, np.float32), **network)
    >>> images = np.zeros((3, 2, 32, 32), np.float32)
    >>> encoded = encode(encoder, images, config.Embedding(crop=None), config.Compute(device="cpu"))
    >>> encoded.features.shape, encoded.debris_map
    ((3, 112), None)
    """
    if flux.shape[1] != len(loaded.bands):
        raise TidalkinError(
            f"the images have {flux.shape[1]} bands, but the encoder was trained on {', '.join(loaded.bands)}: "
            "train on these images, or embed images in those bands"
        )
    if settings.crop and settings.crop > flux.shape[-1]:
        raise TidalkinError(f"embedding.crop {settings.crop} must not exceed the {flux.shape[-1]} pixels of the images")
    device, precision = _on_device(loaded, compute)
    sigma = torch.from_numpy(loaded.sigma).to(device)
    table = np.empty((len(flux), loaded.n_features), np.float32)
    maps: list[Floats] = []
    with torch.inference_mode(), precision:
        for start in range(0, len(flux), compute.embed_batch_size):
            part = central_crop(flux[start : start + compute.embed_batch_size], settings.crop)
            images = stretch(torch.from_numpy(part).to(device), sigma, loaded.stretch)
            readout, debris_map = _mean_over_symmetries(loaded, images, settings.symmetries)
            table[start : start + len(part)] = _joined(readout, debris_map).cpu().numpy()
            if debris_map is not None:
                maps.append(debris_map[:, 0].cpu().numpy())
    if loaded.debris_map is None:
        return Encoded(table, None)
    return Encoded(table, np.concatenate(maps) if maps else np.empty((0, 0, 0), np.float32))


def features(loaded: LoadedEncoder, flux: Floats, settings: config.Embedding, compute: config.Compute) -> Floats:
    """Compute encoder features, (object, feature) float32, before whitening with `encode`.

    Examples
    --------
    >>> from tidalkin.model.checkpoint import random_encoder
    >>> network = {"stretch": config.Stretch(), "settings": config.Network(width=8), "image_size": 32, "seed": 1}
    >>> encoder = random_encoder(["g", "i"], np.ones(2, np.float32), **network)
    >>> images = np.zeros((3, 2, 32, 32), np.float32)
    >>> features(encoder, images, config.Embedding(crop=None), config.Compute(device="cpu")).shape
    (3, 112)
    """
    return encode(loaded, flux, settings, compute).features


def _mean_over_symmetries(loaded: LoadedEncoder, images: Tensor, symmetries: int) -> tuple[Tensor, Tensor | None]:
    """Average readout and debris map over flips and quarter turns.

    Returns
    -------
    readout : (image, readout_dim) tensor
    debris_map : (image, 1, cell, cell) tensor or None
    """
    readouts, maps = [], []
    for quarter_turns, mirrored in _symmetries(symmetries):
        turned = torch.rot90(images, quarter_turns, (2, 3))
        turned = turned.flip(3) if mirrored else turned
        readout, debris_map = _outputs(loaded, turned)
        readouts.append(readout)
        if debris_map is not None:
            back = debris_map.flip(3) if mirrored else debris_map
            maps.append(torch.rot90(back, -quarter_turns, (2, 3)))
    return torch.stack(readouts).mean(dim=0), torch.stack(maps).mean(dim=0) if maps else None


def _outputs(loaded: LoadedEncoder, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Compute readout (image, readout_dim) and debris map (image, 1, cell, cell) of network input."""
    stages = loaded.encoder.stages(images.contiguous(memory_format=torch.channels_last))
    return pooled(stages), None if loaded.debris_map is None else loaded.debris_map(stages).float()


def _joined(readout: Tensor, debris_map: Tensor | None) -> Tensor:
    """Join the readout and the features of the map, (image, feature)."""
    return readout if debris_map is None else torch.cat([readout, map_features(debris_map)], dim=1)


def _symmetries(count: int) -> list[tuple[int, bool]]:
    """List the quarter turns and flips of 1, 2, 4 or 8 symmetries.

    One is the image itself, two add the mirror image, four are the quarter turns, and eight are both.
    """
    mirrored = (False, True) if count in (2, 8) else (False,)
    return [(turns, flipped) for turns in (range(4) if count >= 4 else range(1)) for flipped in mirrored]


def view_covariance(
    loaded: LoadedEncoder,
    images: Shard,
    augment: config.Augment,
    n_views: int,
    seed: int,
    compute: config.Compute,
) -> Doubles:
    """Sum the covariances of the features of each image's random views.

    Parameters
    ----------
    loaded : LoadedEncoder
        The encoder; it is moved to the device.
    images : Shard
        Images in the encoder's bands.
    augment : config.Augment
        Ranges of the random views.
    n_views : int
        Views of each image, 2 or more.
    seed : int
        Seed of the views.
    compute : config.Compute
        Device and precision.

    Returns
    -------
    (feature, feature) float64
        The sum over images.

    Examples
    --------
    >>> from tidalkin import open_run
    >>> settings = open_run("results/demo").settings
    >>> encoder = load_encoder("results/demo/encoder/encoder.pt")
    >>> images = ImageStore.open("results/demo/images.zarr").read(0).rows(np.arange(4))
    >>> view_covariance(encoder, images, settings.augment, 2, seed=1, compute=settings.compute).shape
    (115, 115)
    """
    device, precision = _on_device(loaded, compute)
    random = torch.Generator(device)
    draw = Views(augment, loaded.stretch, torch.from_numpy(loaded.sigma), loaded.bands, random)
    covariance = np.zeros((loaded.n_features, loaded.n_features))
    # Not inference_mode, which does not reach the threads that draw the views' noise.
    with torch.no_grad(), precision:
        for start in range(0, len(images.flux), VIEWS_AT_ONCE):
            rows = slice(start, start + VIEWS_AT_ONCE)
            part = [torch.from_numpy(a[rows]).to(device) for a in (images.flux, images.sky_sigma, images.psf_fwhm)]
            random.manual_seed(derived_seed(seed, "views", start))
            drawn = (_joined(*_outputs(loaded, draw(*part))) for _ in range(n_views))
            views = np.stack([view.cpu().numpy() for view in drawn]).astype(np.float64)
            difference = (views - views.mean(axis=0)).reshape(-1, loaded.n_features)
            covariance += difference.T @ difference / (n_views - 1)
    return covariance


def _on_device(loaded: LoadedEncoder, compute: config.Compute) -> tuple[torch.device, torch.autocast]:
    """Move the encoder to its device; return the device and the precision."""
    device = choose_device(compute.device)
    precision = choose_precision(compute.precision, device)
    for module in (loaded.encoder, loaded.debris_map):
        if module is not None:
            module.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return device, torch.autocast(device.type, precision, enabled=precision != torch.float32)


def embed_shard(
    store: str | Path,
    shard: int,
    encoder: str | Path,
    whitening: str | Path,
    vectors: str | Path,
    ids: str | Path,
    debris_maps: str | Path | None = None,
    *,
    settings: config.Embedding,
    compute: config.Compute,
) -> None:
    """Embed the galaxies of one shard.

    Galaxies with too few good pixels are left out and listed in the log.

    Parameters
    ----------
    store, encoder, whitening : path
        The images, the trained encoder, the whitening.
    shard : int
        Number of the shard.
    vectors : path
        The ``.npy`` of (object, dimension) vectors of length one to write.
    ids : path
        The ``.npy`` of their (object,) int64 object_ids to write.
    debris_maps : path, optional
        The ``.npy`` of their (object, cell, cell) float16 debris maps to write.
    settings : config.Embedding
        Crop and symmetries, and the type of the vectors.
    compute : config.Compute
        Device, precision, batch size.

    Raises
    ------
    TidalkinError
        If images, encoder and whitening do not belong together, or if the encoder lacks a debris map that is needed.

    Examples
    --------
    >>> from tidalkin import open_run
    >>> settings = open_run("results/demo").settings
    >>> inputs = {"encoder": "results/demo/encoder/encoder.pt", "whitening": "results/demo/whitening.npz"}
    >>> outputs = {"vectors": "00000.npy", "ids": "00000.ids.npy"}
    >>> sections = {"settings": settings.embedding, "compute": settings.compute}
    >>> embed_shard("results/demo/images.zarr", 0, **inputs, **outputs, **sections)
    >>> np.load("00000.npy").shape  # 32 galaxies in a shard, 8 dimensions
    (32, 8)
    """
    opened, loaded, white = ImageStore.open(store), load_encoder(encoder), load_whitening(whitening)
    check_bands(opened, loaded)
    white.check(loaded.digest, whitening)
    content = opened.read(shard)
    good = has_enough_good_pixels(content, settings)
    if not good.all():
        logger.info(
            "shard %d: %d of %d galaxies are left out, because some band has under %g %% good pixels: %s",
            *(shard, (~good).sum(), len(good), 100 * settings.minimum_good_fraction),
            ", ".join(map(str, content.object_id[~good])),
        )
    encoded = encode(loaded, content.flux[good], settings, compute)
    outputs = [(vectors, white.apply(encoded.features).astype(settings.dtype)), (ids, content.object_id[good])]
    if debris_maps is not None:
        if encoded.debris_map is None:
            raise TidalkinError(
                f"{encoder}: was trained without injected light and has no debris map: train with `injection`, or set "
                "injection.head_weight and injection.map_weight to 0"
            )
        outputs.append((debris_maps, encoded.debris_map.astype(np.float16)))
    for path, array in outputs:
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.save(file, array)


def has_enough_good_pixels(content: Shard, settings: config.Embedding) -> npt.NDArray[np.bool_]:
    """Tell for each galaxy whether every band has enough good pixels.

    Examples
    --------
    >>> good_fraction = np.array([[1.0, 0.9], [1.0, 0.2]], np.float32)  # the second galaxy lacks most of a band
    >>> nothing = np.zeros((2, 2), np.float32)
    >>> content = Shard(np.zeros((2, 2, 8, 8), np.float32), nothing, nothing, good_fraction, np.array([7, 8]))
    >>> has_enough_good_pixels(content, config.Embedding(minimum_good_fraction=0.5))
    array([ True, False])
    """
    return content.good_fraction.min(axis=1) >= settings.minimum_good_fraction


def check_bands(store: ImageStore, loaded: LoadedEncoder) -> None:
    """Refuse images whose bands or order of bands differ from the encoder's.

    Examples
    --------
    >>> from dataclasses import replace
    >>> store = ImageStore.open("results/demo/images.zarr")
    >>> encoder = load_encoder("results/demo/encoder/encoder.pt")
    >>> check_bands(store, encoder)
    >>> check_bands(store, replace(encoder, bands=("g", "r", "i")))
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: .../images.zarr: has the bands g, r, i, z, y, but the encoder was trained on g, r, i:
    train on these images, or embed images in those bands
    """
    if store.bands != loaded.bands:
        raise TidalkinError(
            f"{store.path}: has the bands {', '.join(store.bands)}, but the encoder was trained on "
            f"{', '.join(loaded.bands)}: train on these images, or embed images in those bands"
        )
