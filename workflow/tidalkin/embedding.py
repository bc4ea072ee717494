"""Images to vectors: features of all stages, averaged over symmetries, whitened, of length one.

Whitening comes before the cosine because raw features are ruled by a galaxy's size and brightness. It is fitted once,
on a sample, and is bound to its encoder by the encoder's digest; each shard of images is then embedded on its own.

The loss of SimSiam sees the last stage only; what the earlier ones add is not yet invariant to anything. So the
whitening asks the question of the loss once more, of all features, in closed form: which directions tell galaxies
apart, but not the random views of one galaxy?
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import zarr
from scipy.linalg import eigh
from sklearn.decomposition import PCA
from torch import Tensor

from tidalkin import config
from tidalkin.augment import Views
from tidalkin.device import choose_device, choose_precision
from tidalkin.encoder_file import LoadedEncoder, load_encoder
from tidalkin.errors import TidalkinError
from tidalkin.files import written_whole
from tidalkin.images import Shard, open_store, read_shard, shard_count
from tidalkin.randomness import derived_seed, generator
from tidalkin.stretch import stretch

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

SMALLEST_DEVIATION = 1e-6  # of a feature, as a share of the loudest one's: below it, the feature says nothing
MOST_UNUSUAL = 3.0  # standard deviations: an artefact is no more unusual than that
SMALLEST_VARIANCE = 1e-7
"""Components with less variance, as a share of the largest, are rounding noise: they are not blown up further."""

VIEWS_AT_ONCE = 128  # galaxies whose views are drawn together; not the embedding's batch size, which changes no result
VIEW_NOISE_FLOOR = 0.01
"""Added to the variance between views, in every direction alike, as a share of its mean over the directions: from a
finite sample, some directions seem to have next to none."""


# --- features -------------------------------------------------------------------------------------------------------


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
    device = choose_device(compute.device)
    precision = choose_precision(compute.precision, device)
    encoder = loaded.encoder.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    sigma = torch.from_numpy(loaded.sigma).to(device)
    found = np.empty((len(flux), loaded.encoder.readout_dim), np.float32)
    with torch.inference_mode(), torch.autocast(device.type, precision, enabled=precision != torch.float32):
        for start in range(0, len(flux), compute.embed_batch_size):
            part = torch.from_numpy(_centre(flux[start : start + compute.embed_batch_size], settings.crop)).to(device)
            images = stretch(part, sigma, loaded.stretch)
            readouts = (
                encoder.readout(image.contiguous(memory_format=torch.channels_last))
                for image in _symmetric(images, settings.symmetries)
            )
            found[start : start + len(part)] = (sum(readouts) / settings.symmetries).cpu().numpy()
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
    device = choose_device(compute.device)
    precision = choose_precision(compute.precision, device)
    encoder = loaded.encoder.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    random = torch.Generator(device)
    draw = Views(augment, loaded.stretch, torch.from_numpy(loaded.sigma), loaded.bands, random)
    covariance = np.zeros((encoder.readout_dim, encoder.readout_dim))
    # Not inference_mode: the views' noise is drawn in threads, to which it does not reach.
    with torch.no_grad(), torch.autocast(device.type, precision, enabled=precision != torch.float32):
        for start in range(0, len(images.flux), VIEWS_AT_ONCE):
            rows = slice(start, start + VIEWS_AT_ONCE)
            part = [torch.from_numpy(a[rows]).to(device) for a in (images.flux, images.sky_sigma, images.psf_fwhm)]
            random.manual_seed(derived_seed(seed, "views", start))
            drawn = (draw(*part).contiguous(memory_format=torch.channels_last) for _ in range(n_views))
            views = np.stack([encoder.readout(view).cpu().numpy() for view in drawn]).astype(np.float64)
            difference = (views - views.mean(axis=0)).reshape(-1, encoder.readout_dim)
            covariance += difference.T @ difference / (n_views - 1)
    return covariance


def _centre(flux: Floats, crop: int | None) -> Floats:
    """The central ``crop`` pixels of images; all of them if none."""
    if crop is None:
        return flux
    first = (flux.shape[-1] - crop) // 2
    return np.ascontiguousarray(flux[..., first : first + crop, first : first + crop])


def _symmetric(images: Tensor, symmetries: int) -> Iterator[Tensor]:
    """The images as they are (1), and mirrored (2), or in quarter turns (4), and mirrored (8)."""
    turns = range(4) if symmetries >= 4 else range(1)
    for quarter_turns in turns:
        turned = torch.rot90(images, quarter_turns, (2, 3))
        yield turned
        if symmetries in (2, 8):
            yield turned.flip(3)


# --- whitening ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Whitening:
    """Directions of the standardised features, each scaled to unit variance; and how unusual a galaxy is."""

    mean: Floats
    """(feature,)"""
    components: Floats
    """(direction, feature), divided by each feature's standard deviation."""
    scale: Floats
    """(direction,): what a component is multiplied with."""
    distance: Floats
    """Mean and standard deviation, over galaxies, of the logarithm of the distance from the average one."""
    unusualness: float
    """Weight of that logarithm, standardised, as one more dimension; 0: none."""
    encoder: str
    """Digest of the encoder whose features these are."""

    def apply(self, features: Floats) -> Floats:
        """Vectors of length one, (object, dimension) float32, from features (object, feature)."""
        white = (features - self.mean) @ self.components.T * self.scale
        length = np.maximum(np.linalg.norm(white, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        vectors = white / length
        if self.unusualness:
            mean, deviation = self.distance
            unusual = ((np.log(length) - mean) / deviation).clip(-MOST_UNUSUAL, MOST_UNUSUAL)
            vectors = np.hstack([vectors, self.unusualness * unusual])
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.astype(np.float32)

    def check(self, loaded: LoadedEncoder, name: str | Path) -> None:
        """Refuse another encoder than the one it was fitted for."""
        if self.encoder != loaded.digest:
            raise TidalkinError(
                f"{name}: was fitted on features of another encoder ({self.encoder}, not {loaded.digest}): "
                "make it again with `snakemake --forcerun whiten`"
            )

    def save(self, path: str | Path) -> None:
        """Write it whole, as ``.npz``."""
        with written_whole(path) as partial:
            np.savez(partial, allow_pickle=False, **vars(self))


def load_whitening(path: str | Path) -> Whitening:
    """Read what `Whitening.save` wrote.

    Raises
    ------
    TidalkinError
        If it is not there or no whitening.
    """
    try:
        with np.load(path) as saved:
            return Whitening(
                saved["mean"],
                saved["components"],
                saved["scale"],
                saved["distance"],
                float(saved["unusualness"]),
                str(saved["encoder"]),
            )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise TidalkinError(
            f"{path}: is missing or no whitening ({error}): make it again with `snakemake --forcerun whiten`"
        ) from None


def fit_whitening(
    features: Floats,
    dimensions: int,
    encoder: str,
    between_views: Doubles | None = None,
    unusualness: float = 0.0,
) -> Whitening:
    """Fit a whitening: the best directions of the standardised features, each scaled to unit variance.

    Standardised, because a channel's variance is an accident of its place in the network: without it the few loudest
    ones fill the components that are kept. The best directions are those in which galaxies differ most: by themselves
    (principal components), or, where that is known, compared with how views of one galaxy differ (Fisher's linear
    discriminant, with every galaxy a class of its own).

    Parameters
    ----------
    features : (object, feature) float32
        A sample of features.
    dimensions : int
        Of a vector: directions to keep, and the unusualness if it has a weight.
    encoder : str
        Digest of the encoder.
    between_views : (feature, feature) float64, optional
        Mean covariance of the features of one galaxy's views.
    unusualness : float
        Weight of the dimension that says how far a galaxy is from the average one.

    Raises
    ------
    TidalkinError
        If there are fewer objects or features than dimensions.
    """
    most = min(len(features) - 1, features.shape[1])
    if dimensions > most:
        raise TidalkinError(
            f"embedding.dimensions is {dimensions}, but {len(features)} galaxies with {features.shape[1]} features "
            f"allow at most {max(most, 0)}: lower it"
        )
    directions = dimensions - (unusualness > 0)
    mean, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    varies = deviation > SMALLEST_DEVIATION * deviation.max()
    weight = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)
    standardised = (features - mean) * weight
    if between_views is None:
        pca = PCA(directions, svd_solver="covariance_eigh").fit(standardised)
        components, variance = pca.components_, pca.explained_variance_
    else:
        between_views = between_views * weight * weight[:, None]
        components, variance = _discriminants(np.cov(standardised, rowvar=False), between_views, directions)
    variance = np.maximum(variance, SMALLEST_VARIANCE * variance[0])
    scale = 1 / np.sqrt(np.maximum(variance, np.finfo(np.float32).tiny))
    length = np.linalg.norm(standardised @ components.T * scale, axis=1)
    distance = np.log(np.maximum(length, np.finfo(np.float32).tiny))
    return Whitening(
        mean.astype(np.float32),
        (components * weight).astype(np.float32),
        scale.astype(np.float32),
        np.array([distance.mean(), distance.std() or 1.0], np.float32),
        unusualness,
        encoder,
    )


def _discriminants(between_objects: Doubles, between_views: Doubles, count: int) -> tuple[Doubles, Doubles]:
    """Directions in which objects differ most compared with their views (direction, feature), best first.

    With them, the variance of objects along each (direction,).
    """
    n_features = len(between_views)
    floor = VIEW_NOISE_FLOOR * np.trace(between_views) / n_features
    # Each direction comes with unit variance between views, so that its eigenvalue is the variance between objects.
    variance, directions = eigh(
        between_objects,
        between_views + floor * np.eye(n_features),
        subset_by_index=(n_features - count, n_features - 1),
    )
    return directions.T[::-1], variance[::-1]


def whiten(
    store: str | Path,
    encoder: str | Path,
    output: str | Path,
    *,
    settings: config.Embedding,
    augment: config.Augment,
    seed: int,
    compute: config.Compute,
) -> None:
    """Fit the whitening on a sample of the images: whole shards, drawn at random, until there are enough galaxies.

    Parameters
    ----------
    store, encoder : path
        The images and the trained encoder.
    output : path
        The ``.npz`` to write.
    settings : config.Embedding
        Size of the sample, views, dimensions, and how features are taken.
    augment : config.Augment
        What the views may differ in.
    seed : int
        The seed of the run.
    compute : config.Compute
        Device, precision, batch size.
    """
    opened, loaded = open_store(store), load_encoder(encoder)
    _check_bands(opened, loaded)
    sample: list[Floats] = []
    covariances: list[Doubles] = []
    missing = settings.whitening_sample
    for shard in generator(seed, "whitening").permutation(shard_count(opened)):
        content = read_shard(opened, int(shard))
        chosen = content.rows(np.flatnonzero(_good(content, settings))[:missing])
        sample.append(features(loaded, chosen.flux, settings, compute))
        if settings.whitening_views:
            shard_seed = derived_seed(seed, "whitening", int(shard))
            covariances.append(view_covariance(loaded, chosen, augment, settings.whitening_views, shard_seed, compute))
        missing -= len(chosen.flux)
        logger.info("whitening: features of %d galaxies", settings.whitening_sample - missing)
        if missing == 0:
            break
    table = np.concatenate(sample)
    between_views = np.sum(covariances, axis=0) / len(table) if covariances else None
    fit_whitening(table, settings.dimensions, loaded.digest, between_views, settings.unusualness).save(output)


# --- shards ---------------------------------------------------------------------------------------------------------


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
    opened, loaded, white = open_store(store), load_encoder(encoder), load_whitening(whitening)
    _check_bands(opened, loaded)
    white.check(loaded, whitening)
    content = read_shard(opened, shard)
    good = _good(content, settings)
    if not good.all():
        logger.info(
            "shard %d: %d of %d galaxies are left out, with under %g %% good pixels in some band: %s",
            *(shard, (~good).sum(), len(good), 100 * settings.minimum_good_fraction),
            ", ".join(map(str, content.object_id[~good])),
        )
    found = white.apply(features(loaded, content.flux[good], settings, compute)).astype(settings.dtype)
    for path, array in ((vectors, found), (ids, content.object_id[good])):
        with written_whole(path) as partial:
            np.save(partial, array)


def _good(content: Shard, settings: config.Embedding) -> npt.NDArray[np.bool_]:
    return content.good_fraction.min(axis=1) >= settings.minimum_good_fraction


def _check_bands(store: zarr.Group, loaded: LoadedEncoder) -> None:
    """Refuse images in other bands, or in another order of bands, than the encoder was trained on."""
    bands = tuple(str(band) for band in store.attrs["bands"])  # type: ignore[union-attr]
    if bands != loaded.bands:
        raise TidalkinError(
            f"{store.store_path}: has the bands {', '.join(bands)}, but the encoder was trained on "
            f"{', '.join(loaded.bands)}: train on these images or embed those the encoder knows"
        )
