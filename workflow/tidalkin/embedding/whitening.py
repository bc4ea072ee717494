"""Whiten features to vectors of length one, with the debris score as one more dimension.

A galaxy's size and brightness dominate the raw features, so vectors are compared only after whitening. The whitening
is fitted once, on a sample, and is bound to its encoder by the encoder's digest.

SimSiam's loss reaches only the last stage, and the earlier stages are not yet invariant to anything. The whitening
therefore solves the same problem for all features, in closed form. It finds the directions in which galaxies differ
most, compared with the random views of one galaxy.

An encoder that learned from injected light adds a debris score. It is a dimension of its own, so that a search can
weigh it against similarity.

A search uses this module and must start fast, so libraries that are slow to import are imported where they are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tidalkin import config
from tidalkin.atomic import atomic_path
from tidalkin.constants import MAD_TO_SIGMA
from tidalkin.errors import TidalkinError, first_line

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

SMALLEST_DEVIATION = 1e-6
"""A feature whose deviation is a smaller share of the largest one is constant."""
SMALLEST_VARIANCE = 1e-7
"""A component whose variance is a smaller share of the largest is rounding noise. It is not amplified further."""
VIEW_NOISE_FLOOR = 0.01
"""Share of the mean variance between views that is added to every direction. In a finite sample, the variance of some
directions is near 0 by chance."""

DEBRIS_SHARE_OF_LENGTH = 0.2
"""Length along the debris dimension of a score of one standard deviation, before the vector is scaled to length one."""
DEBRIS_RANGE = (-3.0, 6.0)  # of the standardised score, so that an artefact counts no more than very bright debris
SMALLEST_SCATTER = 1e-6  # of debris scores
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Whitening:
    """A fitted whitening: directions of the features, and the scale of the debris score."""

    mean: Floats
    """(feature,)"""
    components: Floats
    """(direction, feature), divided by each feature's standard deviation."""
    scale: Floats
    """(direction,): factor that gives each component unit variance."""
    debris: Floats
    """(2,): median and robust standard deviation of the debris score, which is the last feature; empty without one."""
    encoder: str
    """Digest of the encoder whose features these are."""

    @property
    def has_debris_score(self) -> bool:
        """Whether the last dimension is the debris score."""
        return len(self.debris) > 0

    @property
    def dimensions(self) -> int:
        """Number of dimensions of a vector."""
        return len(self.scale) + self.has_debris_score

    def apply(self, features: Floats) -> Floats:
        """Compute vectors of length one, (object, dimension) float32, from features (object, feature)."""
        vectors = _unit_rows(((features - self.mean) @ self.components.T * self.scale).astype(np.float32))
        if self.has_debris_score:
            vectors = join_debris_score(vectors, self.debris_score(features[:, -1]))
        return vectors.astype(np.float32)

    def debris_score(self, raw: Floats) -> Floats:
        """Standardise the mean of the brightest cells of debris maps, (object,)."""
        median, scatter = self.debris
        score: Floats = ((raw - median) / scatter).astype(np.float32)
        return score

    def check(self, encoder: str, name: str | Path) -> None:
        """Refuse an encoder, given by its digest, that the whitening was not fitted for."""
        if self.encoder != encoder:
            raise TidalkinError(
                f"{name}: was fitted on features of another encoder ({self.encoder}, not {encoder}): "
                "make it again with `snakemake --forcerun whiten`"
            )

    def save(self, path: str | Path) -> None:
        """Write the whitening as ``.npz``."""
        with atomic_path(path) as partial:
            np.savez(partial, allow_pickle=False, **vars(self))


def join_debris_score(vectors: Floats, score: Floats) -> Floats:
    """Join a standardised debris score (object,) to vectors of length one.

    Returns
    -------
    (object, dimension + 1)
        Of length one; the last dimension is the debris score.

    Examples
    --------
    >>> vectors = np.array([[0.6, 0.8], [0.6, 0.8]], np.float32)
    >>> join_debris_score(vectors, np.array([0.0, 5.0], np.float32)).round(3)
    array([[0.6  , 0.8  , 0.   ],
           [0.424, 0.566, 0.707]], dtype=float32)
    """
    score = score.clip(*DEBRIS_RANGE)
    joined: Floats = _unit_rows(np.column_stack([vectors, DEBRIS_SHARE_OF_LENGTH * score]))
    return joined


def likeness(vectors: Floats) -> Floats:
    """Return vectors (object, dimension) without their debris score, scaled to length one.

    A vector of zeros stays.

    Examples
    --------
    >>> likeness(np.array([[0.3, 0.4, 0.866], [0.0, 0.0, 1.0]], np.float32))
    array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)
    """
    unit: Floats = _unit_rows(vectors[:, :-1]).astype(np.float32)
    return unit


def debris_scores(vectors: Floats) -> Floats:
    """Return the debris score (object,), in standard deviations, of vectors whose last dimension it is.

    A vector is scaled to length one together with its score. The length of the other dimensions undoes that.

    Examples
    --------
    >>> debris_scores(np.array([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]], np.float32)).round(3)
    array([6.667, 0.   ], dtype=float32)
    """
    length = np.linalg.norm(vectors[:, :-1], axis=1)
    scores: Floats = (vectors[:, -1] / np.where(length > 0, length, 1.0) / DEBRIS_SHARE_OF_LENGTH).astype(np.float32)
    return scores


def load_whitening(path: str | Path) -> Whitening:
    """Read what `Whitening.save` wrote.

    Raises
    ------
    TidalkinError
        If the file is missing or not a whitening.

    Examples
    --------
    >>> load_whitening("no_such_run/whitening.npz")
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: no_such_run/whitening.npz: is missing or not a whitening (...): make it again with
    `snakemake --forcerun whiten`
    """
    try:
        with np.load(path) as saved:
            return Whitening(
                saved["mean"],
                saved["components"],
                saved["scale"],
                saved["debris"],
                str(saved["encoder"]),
            )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise TidalkinError(
            f"{path}: is missing or not a whitening ({first_line(error)}): make it again with "
            "`snakemake --forcerun whiten`"
        ) from None


def fit_whitening(
    features: Floats,
    settings: config.Embedding,
    encoder: str,
    between_views: Doubles | None = None,
    *,
    has_debris_score: bool = False,
) -> Whitening:
    """Fit a whitening: the best directions of the standardised features, scaled to unit variance.

    Features are standardised, because the variance of a channel depends on its place in the network. Otherwise the few
    channels of largest variance would fill the components that are kept.

    The best directions are those in which galaxies differ most. Without ``between_views`` these are the principal
    components. With it, differences count relative to those between the views of one galaxy (Fisher's linear
    discriminant, with every galaxy a class of its own).

    Parameters
    ----------
    features : (object, feature) float32
        A sample of features.
    settings : config.Embedding
        Dimensions of a vector, including the debris score if there is one.
    encoder : str
        Digest of the encoder.
    between_views : (feature, feature) float64, optional
        Mean covariance of the features of one galaxy's views.
    has_debris_score : bool
        Whether the last feature is the debris score.

    Raises
    ------
    TidalkinError
        If there are fewer objects or features than dimensions.

    Examples
    --------
    >>> features = np.random.default_rng(1).normal(size=(100, 8)).astype(np.float32)
    >>> whitening = fit_whitening(features, config.Embedding(dimensions=4), encoder="3f2a")
    >>> vectors = whitening.apply(features)
    >>> vectors.shape, round(float(np.linalg.norm(vectors[0])), 3)
    ((100, 4), 1.0)
    """
    most = min(len(features) - 1, features.shape[1])
    if settings.dimensions > most:
        raise TidalkinError(
            f"embedding.dimensions is {settings.dimensions}, but {len(features)} galaxies with {features.shape[1]} "
            f"features allow at most {max(most, 0)}: lower it"
        )
    directions = settings.dimensions - has_debris_score
    mean, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    varies = deviation > SMALLEST_DEVIATION * deviation.max()
    weight = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)
    standardised = (features - mean) * weight
    if between_views is None:
        components, variance = _principal_components(standardised, directions)
    else:
        between_views = between_views * weight * weight[:, None]
        components, variance = _discriminants(np.cov(standardised, rowvar=False), between_views, directions)
    variance = np.maximum(variance, SMALLEST_VARIANCE * variance[0])
    scale = 1 / np.sqrt(np.maximum(variance, TINY))
    return Whitening(
        mean.astype(np.float32),
        (components * weight).astype(np.float32),
        scale.astype(np.float32),
        robust_scale(features[:, -1]) if has_debris_score else np.zeros(0, np.float32),
        encoder,
    )


def robust_scale(score: Floats) -> Floats:
    """Compute median and robust standard deviation of scores (object,), (2,) float32.

    Examples
    --------
    >>> robust_scale(np.array([1.0, 2.0, 3.0, 4.0, 500.0]))
    array([3.       , 1.4826022], dtype=float32)
    """
    median = np.median(score)
    scatter = MAD_TO_SIGMA * np.median(np.abs(score - median))
    return np.array([median, max(scatter, SMALLEST_SCATTER)], np.float32)


def _principal_components(standardised: Doubles, count: int) -> tuple[Doubles, Doubles]:
    """Find the directions (direction, feature) in which objects differ most, and their variances (direction,)."""
    from sklearn.decomposition import PCA

    pca = PCA(count, svd_solver="covariance_eigh").fit(standardised)
    return pca.components_, pca.explained_variance_


def _discriminants(between_objects: Doubles, between_views: Doubles, count: int) -> tuple[Doubles, Doubles]:
    """Find the directions in which objects differ most, compared with their views.

    Returns
    -------
    directions : (direction, feature) float64
        Best first.
    variance : (direction,) float64
        Variance of the objects along each, in units of the variance between views.
    """
    from scipy.linalg import eigh

    n_features = len(between_views)
    floor = VIEW_NOISE_FLOOR * np.trace(between_views) / n_features
    # eigh scales each direction to unit variance between views, so that its eigenvalue is the variance of the objects.
    variance, directions = eigh(
        between_objects,
        between_views + floor * np.eye(n_features),
        subset_by_index=(n_features - count, n_features - 1),
    )
    return directions.T[::-1], variance[::-1]


def _unit_rows(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(length, TINY)
