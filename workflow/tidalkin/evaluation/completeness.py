"""Completeness of the ranking, by injection and recovery.

Tidal features of known surface brightness are injected into some of the survey's galaxies. The encoder scores them, and
each takes its place in the ranking of the whole survey. A feature is recovered if its galaxy is then among the first
galaxies, and was not without it. No label is needed.

Other surveys measure completeness in this way: DES with Balrog (Everett et al. 2022, ApJS 258, 15), and Rubin with its
`source_injection` package.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from astropy.stats import binom_conf_interval
from scipy.optimize import isotonic_regression

from tidalkin import __version__, config
from tidalkin.atomic import atomic_path
from tidalkin.embedding.features import check_bands, encode
from tidalkin.errors import TidalkinError
from tidalkin.evaluation.baselines import images_of, sample_rows
from tidalkin.evaluation.injections import (
    Feature,
    feature_light,
    feature_range,
    half_light_area_arcsec2,
    host_radius_arcsec,
    mean_radius_arcsec,
    plan_features,
)
from tidalkin.images.crop import central_crop
from tidalkin.images.store import ImageStore, Shard
from tidalkin.model.checkpoint import LoadedEncoder, load_encoder
from tidalkin.search.ranking import brightest_mean, survey_ids, survey_scores
from tidalkin.seeds import generator

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

SHARES = (0.01, 0.05, 0.2)
"""Parts of the survey, from the top of its ranking, in which a feature counts as recovered."""
ALL = "all"
RADIUS_GROUPS = 3
BINS = 9
CONFIDENCE = 0.6827
RESAMPLES = 300


@dataclass(frozen=True)
class Limit:
    """Surface brightness at which half of the features are recovered."""

    share: float
    """Part of the survey, from the top of its ranking."""
    by: str
    group: str
    """The features, as in `Completeness.table`."""
    surface_brightness: float | None
    """In i, mag/arcsec²; none if the completeness does not cross one half inside the range."""
    low: float | None
    high: float | None
    """68 % interval, from resampling the features."""
    meaning: str
    """The limit in words."""


@dataclass(frozen=True)
class Completeness:
    """Result of an injection and recovery."""

    injections: pd.DataFrame
    """One row per feature: object_id, kind, surface_brightness (mag/arcsec²), color (g - i, mag),
    host_radius_arcsec, radius_arcsec (mean distance of the feature's light from the centre), area_arcsec2 (its
    brightest area that holds half of the light), rank_without and rank_with (places in the ranking of the survey)"""
    table: pd.DataFrame
    """One row per share, group and bin of surface brightness: share, by (`all`, `kind` or `radius`: the mean distance
    of the feature's light from the centre), group, surface_brightness (centre of the bin), low, high (its edges),
    n_injected, n_recovered, completeness, lower, upper (68 % Wilson interval)"""
    limits: list[Limit]
    without_feature: pd.DataFrame
    """One row per share: share, n_galaxies, n_within, fraction, lower, upper: the same galaxies before the injection"""
    survey_size: int
    """Galaxies in the ranking."""
    surface_brightness: tuple[float, float]
    """Range of the features, mag/arcsec²."""


def measure_completeness(
    images: str | Path,
    encoder: str | Path,
    debris_maps: Sequence[str | Path],
    ids: Sequence[str | Path],
    *,
    settings: config.Completeness,
    embedding: config.Embedding,
    seed: int,
    compute: config.Compute,
) -> Completeness:
    """Inject features into galaxies of the survey and find their places in its ranking.

    Parameters
    ----------
    images, encoder : path
        The image store, and the encoder that made the debris maps.
    debris_maps, ids : sequence of path
        The shards' maps (object, cell, cell) and object_ids (object,), in the same order.
    settings : config.Completeness
        Number of galaxies; kinds, brightness and colours of the features.
    embedding : config.Embedding
        Crop and symmetries.
    seed : int
        The seed of the run.
    compute : config.Compute
        Device, precision, batch size.

    Raises
    ------
    TidalkinError
        If a file is missing or damaged, the encoder has no debris map, or no galaxy was ranked.

    Examples
    --------
    >>> from tidalkin import open_run
    >>> run = Path("results/demo")
    >>> settings = open_run(run).settings
    >>> maps, ids = (sorted(run.glob(f"embeddings/*.{kind}.npy")) for kind in ("debris_map", "ids"))
    >>> sections = {"settings": settings.completeness, "embedding": settings.embedding, "compute": settings.compute}
    >>> found = measure_completeness(run / "images.zarr", run / "encoder/encoder.pt", maps, ids, seed=1, **sections)
    >>> len(found.injections), found.survey_size
    (8, 60)
    """
    store, loaded = ImageStore.open(images), load_encoder(encoder)
    check_bands(store, loaded)
    scores, object_id = survey_scores(debris_maps), survey_ids(ids)
    rows = np.flatnonzero(np.isin(np.asarray(store.object_id), object_id))
    if not rows.size:
        raise TidalkinError(
            f"{images}: holds no galaxy of the ranking to inject a feature into: lower "
            "embedding.minimum_good_fraction, or set completeness.enabled to false"
        )
    random = generator(seed, "completeness")
    rows = sample_rows(rows, settings.galaxies, random)
    sky_sigma = np.nanmedian(np.asarray(store.sky_sigma)[rows], axis=0).astype(np.float32)
    brightness = feature_range(settings, store.bands, sky_sigma)
    features = plan_features(rows.size, settings, brightness, random)
    injected = [
        _inject(part, features[start : start + len(part.flux)], store.bands, loaded, embedding, compute)
        for start, part in _parts(store, rows)
    ]
    injections = _with_ranks(pd.concat(injected, ignore_index=True), scores, object_id)
    resampling = generator(seed, "completeness", "resamples")
    return Completeness(
        injections,
        completeness_table(injections, brightness, scores.size),
        _limits(injections, brightness, scores.size, resampling),
        _without_feature(injections, scores.size),
        scores.size,
        brightness,
    )


def write_completeness(found: Completeness, table: str | Path, injections: str | Path, summary: str | Path) -> None:
    """Write the tables as CSV and the limits as JSON.

    Parameters
    ----------
    found : Completeness
        The result.
    table, injections, summary : path
        Completeness by bin, one row per feature, and the limits.

    Examples
    --------
    >>> table = pd.DataFrame({"share": [0.05], "completeness": [0.5]})
    >>> found = Completeness(table, table, [], table, survey_size=1000, surface_brightness=(24.0, 28.0))
    >>> write_completeness(found, "completeness.csv", "injections.csv", "completeness.json")
    >>> json.loads(Path("completeness.json").read_text())["surface_brightness_range"]
    [24.0, 28.0]
    """
    for path, rows in ((table, found.table), (injections, found.injections)):
        with atomic_path(path) as partial:
            rows.to_csv(partial, index=False, float_format="%.6g")
    content = {
        "tidalkin": __version__,
        "galaxies_in_ranking": found.survey_size,
        "features_injected": len(found.injections),
        "surface_brightness_range": [round(value, 3) for value in found.surface_brightness],
        "limits": [asdict(limit) for limit in found.limits],
        "same_galaxies_without_feature": json.loads(found.without_feature.to_json(orient="records")),
    }
    with atomic_path(summary) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n")


def _parts(store: ImageStore, rows: Integers) -> Iterator[tuple[int, Shard]]:
    """Yield the galaxies of ascending ``rows``, shard by shard, with their first number."""
    start = 0
    for part in images_of(store, rows):
        yield start, part
        start += len(part.flux)
        logger.info("features injected into %d of %d galaxies", start, rows.size)


def _inject(
    part: Shard,
    features: Sequence[Feature],
    bands: Sequence[str],
    loaded: LoadedEncoder,
    embedding: config.Embedding,
    compute: config.Compute,
) -> pd.DataFrame:
    """Inject one feature into each galaxy and describe it, with its raw debris score."""
    deepest = bands.index("i") if "i" in bands else 0
    flux = central_crop(part.flux, embedding.crop)
    known = []
    for number, feature in enumerate(features):
        radius = host_radius_arcsec(flux[number, deepest], float(part.sky_sigma[number, deepest]))
        light = feature_light(feature, bands, part.psf_fwhm[number], radius, flux.shape[-1])
        flux[number] += light
        known.append(
            {
                "object_id": int(part.object_id[number]),
                "kind": feature.kind,
                "surface_brightness": feature.surface_brightness,
                "color": feature.color,
                "host_radius_arcsec": radius,
                "radius_arcsec": mean_radius_arcsec(light[deepest]),
                "area_arcsec2": half_light_area_arcsec2(light[deepest]),
            }
        )
    debris_map = encode(loaded, flux, embedding, compute).debris_map
    if debris_map is None:
        raise TidalkinError(
            "the encoder was trained without injected light and has no debris map: train with `injection`, or set "
            "completeness.enabled to false"
        )
    # Rounded like the maps of the survey.
    return pd.DataFrame(known).assign(score=brightest_mean(debris_map.astype(np.float16)))


def _with_ranks(injected: pd.DataFrame, scores: Floats, object_id: Integers) -> pd.DataFrame:
    """Replace the score by the galaxy's place in the ranking, without and with its feature."""
    by_id = np.argsort(object_id)
    place = by_id[np.searchsorted(object_id, injected["object_id"].to_numpy(), sorter=by_id)]
    without, with_feature = scores[place], injected["score"].to_numpy()
    ascending = np.sort(scores)
    rank_without = scores.size - np.searchsorted(ascending, without, side="right") + 1
    # The galaxy itself is in the ranking: with its feature, it does not stand behind its own image without it.
    above = scores.size - np.searchsorted(ascending, with_feature, side="right") - (without > with_feature)
    return injected.drop(columns="score").assign(rank_without=rank_without, rank_with=above + 1)


def _first(share: float, survey_size: int) -> int:
    """Return the number of galaxies in a share of the survey, at least 1."""
    return max(1, math.ceil(share * survey_size - 1e-9))


def _groups(injections: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield all features, each kind, and three ranges of radius, with their names."""
    yield ALL, ALL, injections
    for kind, rows in injections.groupby("kind", sort=False):
        yield "kind", str(kind), rows
    ranges = pd.qcut(injections["radius_arcsec"], RADIUS_GROUPS, duplicates="drop")
    for _, rows in injections.groupby(ranges, observed=True):
        radius = rows["radius_arcsec"]
        yield "radius", f"{radius.min():.1f} to {radius.max():.1f} arcsec", rows


def _counts(
    injections: pd.DataFrame, edges: Doubles, share: float, survey_size: int
) -> tuple[Integers, npt.NDArray[np.bool_], Integers]:
    """Count the galaxies that are not among the first without a feature.

    Returned are the bin of each, whether it is recovered, and the number in each bin.
    """
    first = _first(share, survey_size)
    outside = injections[injections["rank_without"] > first]
    bins = np.digitize(outside["surface_brightness"], edges[1:-1])
    recovered = (outside["rank_with"] <= first).to_numpy()
    return bins, recovered, np.bincount(bins, minlength=edges.size - 1)


def completeness_table(injections: pd.DataFrame, brightness: tuple[float, float], survey_size: int) -> pd.DataFrame:
    """Compute the completeness in bins of surface brightness.

    Parameters
    ----------
    injections : DataFrame
        As `Completeness.injections`.
    brightness : (float, float)
        Range of surface brightness, mag/arcsec².
    survey_size : int
        Galaxies in the ranking.

    Returns
    -------
    DataFrame
        See `Completeness.table`.

    Examples
    --------
    >>> injections = pd.DataFrame({"surface_brightness": [24.1, 24.2, 26.8], "rank_with": [3, 90, 400]})
    >>> injections = injections.assign(kind="shell", radius_arcsec=4.0, rank_without=900)
    >>> table = completeness_table(injections, (24.0, 27.0), survey_size=1000)
    >>> table.loc[(table["by"] == "all") & (table["share"] == 0.05), ["low", "n_injected", "completeness"]]
             low  n_injected  completeness
    4  24.000000           2           0.5
    5  26.666667           1           0.0
    """
    edges = np.linspace(*brightness, BINS + 1)
    tables = []
    for share, (by, group, features) in product(SHARES, list(_groups(injections))):
        bins, recovered, n_injected = _counts(features, edges, share, survey_size)
        n_recovered = np.bincount(bins, recovered, minlength=BINS).astype(int)
        rows = pd.DataFrame(
            {
                "share": share,
                "by": by,
                "group": group,
                "surface_brightness": (edges[:-1] + edges[1:]) / 2,
                "low": edges[:-1],
                "high": edges[1:],
                "n_injected": n_injected,
                "n_recovered": n_recovered,
            }
        )
        tables.append(rows[n_injected > 0])
    table = pd.concat(tables, ignore_index=True)
    lower, upper = _interval(table["n_recovered"], table["n_injected"])
    return table.assign(completeness=table["n_recovered"] / table["n_injected"], lower=lower, upper=upper)


def _interval(successes: pd.Series, trials: pd.Series) -> tuple[Doubles, Doubles]:
    """Compute Wilson's binomial interval."""
    lower, upper = binom_conf_interval(successes, trials, confidence_level=CONFIDENCE, interval="wilson")
    return lower, upper


def _limits(
    injections: pd.DataFrame, brightness: tuple[float, float], survey_size: int, random: np.random.Generator
) -> list[Limit]:
    """Find the surface brightness at which half of the features are recovered."""
    edges = np.linspace(*brightness, BINS + 1)
    limits = []
    for share, (by, group, features) in product(SHARES, list(_groups(injections))):
        bins, recovered, _ = _counts(features, edges, share, survey_size)
        limit = half_crossing(bins, recovered, edges)
        samples = random.integers(max(bins.size, 1), size=(RESAMPLES, bins.size))
        crossings = [half_crossing(bins[sample], recovered[sample], edges) for sample in samples]
        low, high = np.percentile(crossings, [16, 84], method="nearest")
        interval = _finite(low), _finite(high)
        limits.append(Limit(share, by, group, _finite(limit), *interval, _in_words(limit, brightness)))
    return limits


def half_crossing(bins: Integers, recovered: npt.NDArray[np.bool_], edges: Doubles) -> float:
    """Find where the completeness falls below one half.

    The completeness of the bins is first made to fall monotonically (isotonic regression), so that a scattering bin
    does not decide.

    Parameters
    ----------
    bins : (feature,) ndarray of int
        Bin of surface brightness of each feature.
    recovered : (feature,) ndarray of bool
        Whether it is recovered.
    edges : (bin + 1,) ndarray
        Edges of the bins, ascending.

    Returns
    -------
    float
        Interpolated between the centres of the bins; minus infinity if the completeness is below one half everywhere,
        infinity if it is nowhere.

    Examples
    --------
    >>> half_crossing(np.array([0, 0, 1, 1]), np.array([True, True, False, False]), np.array([24.0, 25.0, 26.0]))
    25.0
    """
    count = np.bincount(bins, minlength=edges.size - 1)
    filled = count > 0
    if not filled.any():
        return -np.inf
    centre = ((edges[:-1] + edges[1:]) / 2)[filled]
    fraction = (np.bincount(bins, recovered, minlength=edges.size - 1)[filled] / count[filled]).astype(float)
    falling = isotonic_regression(fraction, weights=count[filled], increasing=False).x
    below = np.flatnonzero(falling < 0.5)
    if not below.size:
        return np.inf
    if below[0] == 0:
        return -np.inf
    pair = slice(below[0] - 1, below[0] + 1)
    return float(np.interp(-0.5, -falling[pair], centre[pair]))


def _finite(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None


def _in_words(limit: float, brightness: tuple[float, float]) -> str:
    """Say where half of the features are recovered."""
    if np.isfinite(limit):
        return f"50 % at {limit:.2f} mag/arcsec²"
    if limit < 0:
        return f"under 50 % even at {brightness[0]:.1f} mag/arcsec²"
    return f"over 50 % even at {brightness[1]:.1f} mag/arcsec²"


def _without_feature(injections: pd.DataFrame, survey_size: int) -> pd.DataFrame:
    """Count how many of the galaxies are among the first before the injection."""
    within = [(injections["rank_without"] <= _first(share, survey_size)).sum() for share in SHARES]
    table = pd.DataFrame({"share": SHARES, "n_galaxies": len(injections), "n_within": within})
    lower, upper = _interval(table["n_within"], table["n_galaxies"])
    return table.assign(fraction=table["n_within"] / table["n_galaxies"], lower=lower, upper=upper)


def log_limits(found: Completeness) -> None:
    """Log the limit of all kinds together, one line for each share of the survey.

    Examples
    --------
    >>> limit = Limit(0.05, "all", "all", 26.5, 26.3, 26.7, "half of the features of 26.5 mag/arcsec²")
    >>> table = pd.DataFrame({"share": [0.05], "fraction": [0.1]})
    >>> found = Completeness(table, table, [limit], table, survey_size=1000, surface_brightness=(24.0, 28.0))
    >>> log_limits(found)  # "recovered within the first 5 % of the survey: half of the features of 26.5 ..."
    """
    without = found.without_feature.set_index("share")["fraction"]
    for limit in found.limits:
        if limit.by == ALL:
            logger.info(
                "recovered within the first %g %% of the survey: %s; without a feature, %.1f %% of the same galaxies "
                "are there",
                *(100 * limit.share, limit.meaning, 100 * without[limit.share]),
            )
