"""Features to vectors: whitened, of length one, with how unlike any other a galaxy is as one more dimension.

Whitening comes before any comparison because raw features are ruled by a galaxy's size and brightness. It is fitted
once, on a sample, and is bound to its encoder by the encoder's digest.

The loss of SimSiam sees the last stage only; what the earlier ones add is not yet invariant to anything. So the
whitening asks the question of the loss once more, of all features, in closed form: which directions tell galaxies
apart, but not the random views of one galaxy? The first of these still describe the host galaxy, the surest thing to
know a galaxy by; what is around it comes after them.

A question needs what is here, and shall be answered at once: libraries that take long to import are imported where
they are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tidalkin import config
from tidalkin.atomic import atomic_path
from tidalkin.errors import TidalkinError

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

SMALLEST_DEVIATION = 1e-6  # of a feature, as a share of the loudest one's: below it, the feature says nothing
SMALLEST_VARIANCE = 1e-7
"""Components with less variance, as a share of the largest, are rounding noise: they are not blown up further."""
VIEW_NOISE_FLOOR = 0.01
"""Added to the variance between views, in every direction alike, as a share of its mean over the directions: from a
finite sample, some directions seem to have next to none."""

NEIGHBOURS = 5  # whose mean distance says how unusual a galaxy is
MOST_COMPARED_WITH = 4096  # galaxies of the sample, among which the neighbours are
SAME_GALAXY = 0.01  # distance below which a neighbour is the galaxy itself; others are more than 1 away
MOST_UNUSUAL = 3.0  # standard deviations: an artefact is no more unusual than that
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Whitening:
    """Directions of the standardised features, each scaled to unit variance; and how unusual a galaxy is."""

    mean: Floats
    """(feature,)"""
    components: Floats
    """(direction, feature), divided by each feature's standard deviation."""
    scale: Floats
    """(direction,): what a component is multiplied with."""
    host_directions: int
    """How many of the first directions describe the host galaxy."""
    sample: Floats
    """(object, direction): whitened galaxies to be unlike of, in the directions that are not the host's."""
    distance: Floats
    """Mean and standard deviation, over these, of the logarithm of the mean distance to the nearest others."""
    unusualness: float
    """Weight of that logarithm, standardised, as one more dimension; 0: none."""
    encoder: str
    """Digest of the encoder whose features these are."""

    @property
    def dimensions(self) -> int:
        """Of a vector."""
        return len(self.scale) + (self.unusualness > 0)

    def apply(self, features: Floats) -> Floats:
        """Vectors of length one, (object, dimension) float32, from features (object, feature)."""
        white = ((features - self.mean) @ self.components.T * self.scale).astype(np.float32)
        vectors = _unit_rows(white)
        if self.unusualness and len(white):
            mean, deviation = self.distance
            log_distance = _log_distance(white[:, self.host_directions :], self.sample)
            unusual = ((log_distance - mean) / deviation).clip(-MOST_UNUSUAL, MOST_UNUSUAL)
            vectors = _unit_rows(np.column_stack([vectors, self.unusualness * unusual]))
        elif self.unusualness:
            vectors = np.zeros((0, self.dimensions))
        return vectors.astype(np.float32)

    def importance(self, weights: config.Weights) -> Floats:
        """How much each dimension (dimension,) counts when vectors are compared; 1 but for host and unusualness."""
        counts = np.ones(self.dimensions, np.float32)
        counts[: self.host_directions] = weights.host
        if self.unusualness:
            counts[-1] = weights.unusual
        return counts

    def check(self, encoder: str, name: str | Path) -> None:
        """Refuse another encoder, by its digest, than the one it was fitted for."""
        if self.encoder != encoder:
            raise TidalkinError(
                f"{name}: was fitted on features of another encoder ({self.encoder}, not {encoder}): "
                "make it again with `snakemake --forcerun whiten`"
            )

    def save(self, path: str | Path) -> None:
        """Write it whole, as ``.npz``."""
        with atomic_path(path) as partial:
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
                int(saved["host_directions"]),
                saved["sample"],
                saved["distance"],
                float(saved["unusualness"]),
                str(saved["encoder"]),
            )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise TidalkinError(
            f"{path}: is missing or no whitening ({error}): make it again with `snakemake --forcerun whiten`"
        ) from None


def fit_whitening(
    features: Floats, settings: config.Embedding, encoder: str, between_views: Doubles | None = None
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
    settings : config.Embedding
        Dimensions of a vector: directions to keep, of which the first are the host's, and the unusualness if it has a
        weight.
    encoder : str
        Digest of the encoder.
    between_views : (feature, feature) float64, optional
        Mean covariance of the features of one galaxy's views.

    Raises
    ------
    TidalkinError
        If there are fewer objects or features than dimensions.
    """
    most = min(len(features) - 1, features.shape[1])
    if settings.dimensions > most:
        raise TidalkinError(
            f"embedding.dimensions is {settings.dimensions}, but {len(features)} galaxies with {features.shape[1]} "
            f"features allow at most {max(most, 0)}: lower it"
        )
    directions = settings.dimensions - (settings.unusualness > 0)
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
    rows = np.linspace(0, len(features) - 1, min(len(features), MOST_COMPARED_WITH)).round().astype(int)
    white = (standardised[rows] @ components.T * scale).astype(np.float32)
    sample = white[:, settings.host_directions :] if settings.unusualness else white[:0]
    log_distance = _log_distance(sample, sample) if len(sample) else np.zeros(1)
    return Whitening(
        mean.astype(np.float32),
        (components * weight).astype(np.float32),
        scale.astype(np.float32),
        settings.host_directions,
        sample,
        np.array([log_distance.mean(), log_distance.std() or 1.0], np.float32),
        settings.unusualness,
        encoder,
    )


def _principal_components(standardised: Doubles, count: int) -> tuple[Doubles, Doubles]:
    """Directions in which objects differ most (direction, feature), and their variance along each (direction,)."""
    from sklearn.decomposition import PCA

    pca = PCA(count, svd_solver="covariance_eigh").fit(standardised)
    return pca.components_, pca.explained_variance_


def _discriminants(between_objects: Doubles, between_views: Doubles, count: int) -> tuple[Doubles, Doubles]:
    """Directions in which objects differ most compared with their views (direction, feature), best first.

    With them, the variance of objects along each (direction,).
    """
    from scipy.linalg import eigh

    n_features = len(between_views)
    floor = VIEW_NOISE_FLOOR * np.trace(between_views) / n_features
    # Each direction comes with unit variance between views, so that its eigenvalue is the variance between objects.
    variance, directions = eigh(
        between_objects,
        between_views + floor * np.eye(n_features),
        subset_by_index=(n_features - count, n_features - 1),
    )
    return directions.T[::-1], variance[::-1]


def _log_distance(white: Floats, sample: Floats) -> Doubles:
    """Logarithm of the mean distance (object,) to the nearest of the sample, without the galaxy itself."""
    from sklearn.neighbors import NearestNeighbors

    count = min(NEIGHBOURS, len(sample) - 1)
    nearest = NearestNeighbors(n_neighbors=count + 1, algorithm="brute").fit(sample)
    distance, _ = nearest.kneighbors(white)
    has_itself = distance[:, :1] < SAME_GALAXY
    others = np.where(has_itself, distance[:, 1:], distance[:, :-1])
    logarithm: Doubles = np.log(np.maximum(others.mean(axis=1), TINY))
    return logarithm


def _unit_rows(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(length, TINY)
