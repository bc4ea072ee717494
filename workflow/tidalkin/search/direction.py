"""Combine examples and counter-examples into one direction of search."""

from __future__ import annotations

import numpy as np

from tidalkin.embedding.whitening import load_whitening
from tidalkin.errors import TidalkinError
from tidalkin.index.query import OpenIndex
from tidalkin.index.vectors import Vectors
from tidalkin.search.files import RunFiles

POPULATION_WEIGHT = 16.0


def direction(like: Vectors, unlike: Vectors, importance: Vectors) -> Vectors:
    """Return the direction in which examples differ from all other galaxies.

    This is a least-squares fit to whitened vectors. Examples have the value 1; counter-examples and the population have
    the value 0. The vectors of a whitened population have mean 0 and covariance 1/d, so its share of the squares is a
    ridge penalty, which needs no sample of it. The penalty of a dimension is divided by its importance. Without
    counter-examples the direction is near the mean of the examples. With them, it leaves out what they have in common
    with the examples.

    The method was chosen on simulated vectors. With 5 to 20 examples, and the 5 to 60 best wrong results of the first
    search as counter-examples, average precision rose from 0.35 to 0.37 (20 and 5) and from 0.44 to 0.48 (20 and 60),
    and never fell. With the difference of the two means it fell, down to 0.16.

    Parameters
    ----------
    like : (example, dimension) float32
        At least one.
    unlike : (counter-example, dimension) float32
        May be none.
    importance : (dimension,) float32
        How much each dimension counts, 0 or more; see `tidalkin.embedding.whitening.Whitening.importance`.

    Returns
    -------
    (dimension,) float32
        Of length 1; of a single example without counter-examples, its vector times the importance.
    """
    dimensions = like.shape[1]
    root = np.sqrt(importance.astype(np.float64))
    examples, others = like * root, unlike * root
    squares = np.eye(dimensions) * (POPULATION_WEIGHT / dimensions) + examples.T @ examples / len(examples)
    if len(others):
        squares += others.T @ others / len(others)
    towards = np.linalg.solve(squares, examples.mean(axis=0)) * root
    length = float(np.linalg.norm(towards))
    if length == 0:
        raise TidalkinError("the examples cancel each other out: name fewer or more similar ones")
    unit: Vectors = (towards / length).astype(np.float32)
    return unit


def dimension_importance(opened: OpenIndex, files: RunFiles, debris_weight: float) -> Vectors:
    """Return the weight of each dimension of the run's vectors."""
    importance = load_whitening(files.whitening).importance(debris_weight)
    dimensions = opened.vectors.shape[1]
    if len(importance) != dimensions:
        raise TidalkinError(
            f"{files.whitening}: makes vectors of {len(importance)} dimensions, but the index has {dimensions}: make "
            "embeddings and index again with `snakemake --forcerun embed`"
        )
    return importance
