"""The baselines: random weights, principal components of the pixels, classical morphology.

Each baseline makes vectors of the same labelled galaxies, those that the evaluation looks at, and writes them to
`baselines/<name>.npz`: `object_id` (object,) int64, `vectors` (object, dimension) float32, and `has_debris_score`.
Where the encoder learns from injected light, a baseline gets a debris score as well (`tidalkin.evaluation.prior`), as
the last dimension. How they are compared is in `tidalkin.evaluation`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.utils.parallel import Parallel, delayed

from tidalkin import config
from tidalkin.atomic import atomic_path
from tidalkin.constants import MAD_TO_SIGMA, PIXEL_SCALE_ARCSEC
from tidalkin.embedding.features import features
from tidalkin.embedding.sample import WhiteningSample
from tidalkin.errors import TidalkinError
from tidalkin.evaluation.labels import labelled_galaxies
from tidalkin.evaluation.morphology import MEASUREMENTS, measure
from tidalkin.evaluation.prior import GALAXIES_WITH_LIGHT, with_debris_score, with_injected_light
from tidalkin.images.crop import central_crop
from tidalkin.images.store import ImageStore, Shard
from tidalkin.injection.stamps import read_stamps
from tidalkin.model.checkpoint import random_encoder
from tidalkin.model.stretch import band_sigma, channel_count, stretch
from tidalkin.seeds import derived_seed, generator

logger = logging.getLogger("tidalkin.evaluation.baselines")

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

PCA_SAMPLE_BYTES = 2**30  # the pixels that the components are fitted on are in memory at once
MORPHOLOGY_BANDS = ("i", "r")  # the deepest in good seeing first; any other band if neither is there
OUTLIER_SIGMA = 5.0


def write_vectors(
    path: Path,
    object_id: NDArray[np.int64],
    vectors: Floats,
    *,
    has_debris_score: bool = False,
    **more: NDArray[np.generic],
) -> None:
    """Write one baseline's file; equal content gives equal bytes.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "pca.npz"
    ...     write_vectors(file, np.array([7, 8]), np.eye(2))
    ...     np.load(file)["object_id"]
    array([7, 8])
    """
    with atomic_path(path) as partial:
        np.savez(
            partial,
            allow_pickle=False,
            object_id=object_id,
            vectors=vectors.astype(np.float32),
            has_debris_score=np.array(has_debris_score),
            **more,
        )


def evaluated_rows(
    store: ImageStore, catalog: pd.DataFrame, evaluation: config.EvaluationSettings, minimum_good_fraction: float
) -> Rows:
    """Return rows of the store with a label and enough good pixels, at most ``evaluation.sample``.

    All baselines get the same rows, whatever the seed of the run.

    Examples
    --------
    >>> from tidalkin.catalog.read import read_catalog
    >>> store, catalog = ImageStore.open("results/demo/images.zarr"), read_catalog("results/demo/catalog.parquet")
    >>> catalog.loc[:9, "label"] = ""  # ten galaxies have no label
    >>> evaluated_rows(store, catalog, config.EvaluationSettings(), minimum_good_fraction=0.5).shape
    (50,)
    """
    labels = labelled_galaxies(catalog, evaluation.negative_label)
    rows = np.flatnonzero(np.isin(np.asarray(store.object_id), labels.object_id))
    rows = np.intersect1d(rows, store.good_rows(minimum_good_fraction))
    if not rows.size:
        raise TidalkinError(
            f"{store.path}: no labelled galaxy of the catalog has an image with {minimum_good_fraction:.0%} good "
            "pixels in every band: bring images of them, or lower embedding.minimum_good_fraction"
        )
    return sample_rows(rows, evaluation.sample, generator(0, "evaluated galaxies"))


def sample_rows(rows: Rows, largest: int, random: np.random.Generator) -> Rows:
    """Draw at most ``largest`` of the rows, ascending.

    Examples
    --------
    >>> rows = np.array([2, 3, 5, 7, 11, 13])
    >>> sample_rows(rows, 3, np.random.default_rng(1)), sample_rows(rows, 10, np.random.default_rng(1))
    (array([ 3,  5, 11]), array([ 2,  3,  5,  7, 11, 13]))
    """
    return rows if rows.size <= largest else np.sort(random.choice(rows, largest, replace=False))


def images_of(store: ImageStore, rows: Rows) -> Iterator[Shard]:
    """Yield the galaxies of ascending ``rows``, one shard of the store after the other.

    Examples
    --------
    >>> store = ImageStore.open("results/demo/images.zarr")  # with 32 galaxies in a shard
    >>> [part.object_id.tolist() for part in images_of(store, np.array([3, 4, 40]))]
    [[4, 5], [41]]
    """
    for shard in range(store.n_shards):
        of_shard = store.rows_of(shard)
        wanted = rows[(rows >= of_shard.start) & (rows < of_shard.stop)] - of_shard.start
        if wanted.size:
            yield store.read(shard, wanted)


# --- random weights ----------------------------------------------------------------------------------------------


def random_baseline(
    images: Path,
    catalog: pd.DataFrame,
    output: Path,
    *,
    stretch_settings: config.Stretch,
    encoder: config.Network,
    embedding: config.Embedding,
    augment: config.Augment,
    evaluation: config.EvaluationSettings,
    injection: config.Injection,
    seed: int,
    compute: config.Compute,
) -> None:
    """Embed galaxies with random weights, and the readout and whitening of the trained encoder.

    Parameters
    ----------
    images : Path
        The image store.
    catalog : DataFrame
        With `object_id` and `label`.
    output : Path
        `baselines/random.npz`.
    augment : config.Augment
        What the views of the whitening may differ in.
    injection : config.Injection
        The light whose effect the debris score is made from; none if it is not enabled.

    Raises
    ------
    TidalkinError
        If there are too few labels, or too few galaxies for `embedding.dimensions`.

    Examples
    --------
    >>> from tidalkin import open_run
    >>> from tidalkin.catalog.read import read_catalog
    >>> settings, catalog = open_run("results/demo").settings, read_catalog("results/demo/catalog.parquet")
    >>> names = ("encoder", "embedding", "augment", "evaluation", "injection", "compute")
    >>> sections = {name: getattr(settings, name) for name in names} | {"stretch_settings": settings.stretch}
    >>> random_baseline(Path("results/demo/images.zarr"), catalog, Path("random.npz"), seed=1, **sections)
    >>> np.load("random.npz")["vectors"].shape  # 8 dimensions and the debris score
    (60, 9)
    """
    store = ImageStore.open(images)
    evaluated = evaluated_rows(store, catalog, evaluation, embedding.minimum_good_fraction)
    sample = sample_rows(
        store.good_rows(embedding.minimum_good_fraction),
        embedding.whitening_sample,
        generator(seed, "random baseline", "sample"),
    )
    untrained = random_encoder(
        list(store.bands),
        band_sigma(store, embedding.minimum_good_fraction),
        stretch=stretch_settings,
        settings=encoder,
        image_size=store.size,
        seed=seed,
    )
    sample_ids = np.asarray(store.object_id)[sample]
    light_ids = sample_ids[:GALAXIES_WITH_LIGHT] if injection.enabled else sample_ids[:0]
    stamps = read_stamps(injection.stamps, store.bands, store.size) if injection.enabled else None
    before, after = [], []
    rows = np.union1d(evaluated, sample)
    whitening_sample = WhiteningSample(untrained, embedding, augment, compute)
    ids, found = [], []
    for number, part in enumerate(images_of(store, rows)):
        ids.append(part.object_id)
        found.append(features(untrained, part.flux, embedding, compute))
        sampled = np.flatnonzero(np.isin(part.object_id, sample_ids))
        part_seed = derived_seed(seed, "random baseline", "views", number)
        whitening_sample.add(found[-1][sampled], part.rows(sampled), part_seed)
        lit = np.flatnonzero(np.isin(part.object_id, light_ids))
        if lit.size:
            flux = with_injected_light(part.rows(lit), injection, store.bands, untrained.sigma, part_seed, stamps)
            before.append(found[-1][lit])
            after.append(features(untrained, flux, embedding, compute))
        logger.info("random encoder: %d of %d galaxies", sum(map(len, ids)), rows.size)
    is_evaluated = np.isin(rows, evaluated)
    described = np.concatenate(found)[is_evaluated]
    vectors = whitening_sample.fit().apply(described)
    if injection.enabled:
        vectors = with_debris_score(vectors, described, np.concatenate(before), np.concatenate(after))
    write_vectors(output, np.concatenate(ids)[is_evaluated], vectors, has_debris_score=injection.enabled)


# --- pixel principal components ----------------------------------------------------------------------------------


def _pixels(flux: Floats, sigma: Floats, crop: int | None, settings: config.Stretch) -> Floats:
    """Return the encoder's input, flattened to (object, channel * y * x)."""
    return stretch(torch.from_numpy(central_crop(flux, crop)), torch.from_numpy(sigma), settings).flatten(1).numpy()


def pca_baseline(
    images: Path,
    catalog: pd.DataFrame,
    output: Path,
    *,
    stretch_settings: config.Stretch,
    embedding: config.Embedding,
    evaluation: config.EvaluationSettings,
    injection: config.Injection,
    seed: int,
) -> None:
    """Describe galaxies by whitened principal components of the pixels, of length one.

    They are fitted on at most ``embedding.whitening_sample`` galaxies, labelled or not, that fit into 1 GiB.

    Parameters
    ----------
    images : Path
        The image store.
    catalog : DataFrame
        With `object_id` and `label`.
    output : Path
        `baselines/pca.npz`.

    Raises
    ------
    TidalkinError
        If there are too few labels.

    Examples
    --------
    >>> from tidalkin import open_run
    >>> from tidalkin.catalog.read import read_catalog
    >>> settings, catalog = open_run("results/demo").settings, read_catalog("results/demo/catalog.parquet")
    >>> sections = {name: getattr(settings, name) for name in ("embedding", "evaluation", "injection")}
    >>> sections["stretch_settings"] = settings.stretch
    >>> pca_baseline(Path("results/demo/images.zarr"), catalog, Path("pca.npz"), seed=1, **sections)
    >>> np.load("pca.npz")["object_id"].shape
    (60,)
    """
    store = ImageStore.open(images)
    sigma = band_sigma(store, embedding.minimum_good_fraction)
    rows = evaluated_rows(store, catalog, evaluation, embedding.minimum_good_fraction)
    n_bands, size = len(store.bands), store.size
    side = min(embedding.crop or size, size) // stretch_settings.bin
    n_pixels = channel_count(n_bands, stretch_settings) * side**2
    sample_size = min(embedding.whitening_sample, PCA_SAMPLE_BYTES // (4 * n_pixels))
    sample = sample_rows(
        store.good_rows(embedding.minimum_good_fraction), sample_size, generator(seed, "pca baseline", "sample")
    )
    pixels = np.empty((sample.size, n_pixels), np.float32)
    filled = 0
    for part in images_of(store, sample):
        pixels[filled : filled + len(part.flux)] = _pixels(part.flux, sigma, embedding.crop, stretch_settings)
        filled += len(part.flux)
    components = PCA(
        min(embedding.dimensions, sample.size - 1, n_pixels),
        copy=False,
        whiten=True,
        svd_solver="randomized",
        random_state=derived_seed(seed, "pca baseline", "solver") % 2**32,
    ).fit(pixels)
    logger.info("%d components of %d pixels, fitted on %d galaxies", components.n_components_, n_pixels, sample.size)
    ids, found = [], []
    for part in images_of(store, rows):
        ids.append(part.object_id)
        found.append(components.transform(_pixels(part.flux, sigma, embedding.crop, stretch_settings)))
    projected = np.concatenate(found)
    if injection.enabled:
        before: list[Floats] = []
        after: list[Floats] = []
        stamps = read_stamps(injection.stamps, store.bands, store.size)
        for number, part in enumerate(images_of(store, sample_rows(rows, GALAXIES_WITH_LIGHT, _light_sample()))):
            lit = with_injected_light(part, injection, store.bands, sigma, derived_seed(seed, "pca", number), stamps)
            for flux, table in ((part.flux, before), (lit, after)):
                table.append(components.transform(_pixels(flux, sigma, embedding.crop, stretch_settings)))
        vectors = with_debris_score(projected, projected, np.concatenate(before), np.concatenate(after))
    else:
        vectors = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    write_vectors(output, np.concatenate(ids), vectors, has_debris_score=injection.enabled)


def _light_sample() -> np.random.Generator:
    """Return the generator that chooses the galaxies which get light."""
    return generator(0, "galaxies with light")


# --- classical morphology ----------------------------------------------------------------------------------------


def morphology_baseline(
    images: Path,
    catalog: pd.DataFrame,
    output: Path,
    *,
    embedding: config.Embedding,
    evaluation: config.EvaluationSettings,
    injection: config.Injection,
    processes: int = 1,
) -> None:
    """Measure labelled galaxies with statmorph.

    The band is i if there is one, else r, else the first.

    The file also has the `measurements` as they are (radii in pixels, NaN where one failed) and their `names`; the
    vectors are `comparable` ones.

    Parameters
    ----------
    images : Path
        The image store.
    catalog : DataFrame
        With `object_id` and `label`.
    output : Path
        `baselines/morphology.npz`.
    processes : int
        Number of galaxies measured at once; it changes no result.

    Raises
    ------
    TidalkinError
        If there are too few labels, or no galaxy could be measured.

    Examples
    --------
    >>> from tidalkin import open_run
    >>> from tidalkin.catalog.read import read_catalog
    >>> settings, catalog = open_run("results/demo").settings, read_catalog("results/demo/catalog.parquet")
    >>> sections = {"embedding": settings.embedding, "injection": config.Injection(head_weight=0, map_weight=0)}
    >>> sections["evaluation"] = settings.evaluation.model_copy(update={"sample": 4})
    >>> morphology_baseline(Path("results/demo/images.zarr"), catalog, Path("morphology.npz"), **sections)
    >>> np.load("morphology.npz")["names"][:3].tolist()
    ['concentration', 'asymmetry', 'smoothness']
    """
    store = ImageStore.open(images)
    rows = evaluated_rows(store, catalog, evaluation, embedding.minimum_good_fraction)
    bands = list(store.bands)
    band = next((bands.index(name) for name in MORPHOLOGY_BANDS if name in bands), 0)
    with_light = sample_rows(rows, GALAXIES_WITH_LIGHT, _light_sample()) if injection.enabled else rows[:0]
    light_ids = np.asarray(store.object_id)[with_light]
    sigma = band_sigma(store, embedding.minimum_good_fraction)
    stamps = read_stamps(injection.stamps, store.bands, store.size) if injection.enabled else None
    ids, measurements, lit = [], [], []
    with Parallel(n_jobs=processes) as pool:

        def measured(flux: Floats, part: Shard) -> list[NDArray[np.float64]]:
            psf_fwhm_pixels = part.psf_fwhm[:, band] / PIXEL_SCALE_ARCSEC
            galaxies = zip(flux[:, band], part.sky_sigma[:, band], psf_fwhm_pixels, strict=True)
            return list(pool(delayed(measure)(*map(np.asarray, galaxy)) for galaxy in galaxies))

        for number, part in enumerate(images_of(store, rows)):
            ids.append(part.object_id)
            measurements.extend(measured(part.flux, part))
            chosen = part.rows(np.flatnonzero(np.isin(part.object_id, light_ids)))
            if len(chosen.flux):
                seed = derived_seed(0, "morphology", number)
                lit.extend(measured(with_injected_light(chosen, injection, store.bands, sigma, seed, stamps), chosen))
            logger.info("%d of %d galaxies measured", len(measurements), rows.size)
    table, object_id = np.array(measurements), np.concatenate(ids)
    logger.info("%d of them could not be measured at all", np.isnan(table).all(axis=1).sum())
    vectors = comparable(table)
    if injection.enabled:
        after = comparable(np.array(lit), reference=table)
        vectors = with_debris_score(vectors, vectors, vectors[np.isin(object_id, light_ids)], after)
    write_vectors(
        output,
        object_id,
        vectors,
        has_debris_score=injection.enabled,
        measurements=table,
        names=np.array(MEASUREMENTS),
    )


def comparable(measurements: NDArray[np.float64], reference: NDArray[np.float64] | None = None) -> Floats:
    """Scale morphological measurements for distances and linear models.

    Each gets median 0 and a robust deviation of 1, and is cut at 5 deviations. A failed measurement counts as the
    median, so that the galaxy stays in the comparison. A galaxy without any measurement becomes a vector of zeros.

    Parameters
    ----------
    measurements : (object, measurement) ndarray
        NaN where failed.
    reference : (object, measurement) ndarray, optional
        Measurements that give median and deviation; by default the same.

    Examples
    --------
    >>> comparable(np.array([[1.0, 40.0], [2.0, np.nan], [3.0, 60.0], [99.0, 50.0]])).round(2)
    array([[-1.01, -0.67],
           [-0.34,  0.  ],
           [ 0.34,  0.67],
           [ 5.  ,  0.  ]], dtype=float32)
    """
    reference = measurements if reference is None else reference
    measured = np.isfinite(reference).any(axis=0)
    if not measured.any():
        raise TidalkinError(
            "statmorph could measure no galaxy at all: look at the images (is there a galaxy in the middle of each?)"
        )
    median = np.nanmedian(reference[:, measured], axis=0)
    values = (measurements[:, measured] - median) / _robust_deviation(reference[:, measured] - median)
    return np.nan_to_num(values, nan=0.0).clip(-OUTLIER_SIGMA, OUTLIER_SIGMA).astype(np.float32)


def _robust_deviation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the deviation (measurement,) of values of median 0, which outliers do not change.

    Where more than half of the values are equal, it is that of the others; 1 where all are equal.
    """
    size = np.abs(values)
    deviation = MAD_TO_SIGMA * np.nanmedian(size, axis=0)
    for measurement in np.flatnonzero(deviation == 0):
        different = size[size[:, measurement] > 0, measurement]
        deviation[measurement] = np.median(different) if different.size else 1.0
    return deviation
