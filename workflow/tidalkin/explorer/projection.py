"""Place every galaxy on a plane, so that look-alikes are near each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tidalkin import __version__
from tidalkin.atomic import atomic_path
from tidalkin.errors import TidalkinError
from tidalkin.index.vectors import Embeddings, ids_file, load_array

Plane = npt.NDArray[np.float32]

MOST_FITTED = 500_000
"""Galaxies that UMAP is fitted on; the others are placed by their nearest neighbours among these."""
NEIGHBOURS = 5
EDGE_PERCENTILES = (0.1, 99.9)
MARGIN = 0.02


def write_map(files: Sequence[str | Path], output: str | Path, kind: Literal["pca", "umap"], seed: int) -> None:
    """Project all vectors of a run to a plane, and write ``map.parquet``.

    Parameters
    ----------
    files : sequence of path
        The shards of vectors.
    output : path
        The file to write: object_id, x and y, both from 0 to 1.
    kind : {"pca", "umap"}
        The two principal components, or UMAP, which needs the package umap-learn.
    seed : int
        Seed of UMAP.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/00000.npy", np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float32))
    ...     np.save(f"{folder}/00000.ids.npy", np.array([7, 8, 9]))
    ...     write_map([f"{folder}/00000.npy"], f"{folder}/map.parquet", "pca", seed=1)
    ...     pq.read_table(f"{folder}/map.parquet").column_names
    ['object_id', 'x', 'y']
    """
    embeddings = Embeddings(files)
    placed = _principal_plane(embeddings) if kind == "pca" else _umap_plane(embeddings, seed)
    x, y = _scaled(placed).T
    ids = np.concatenate([load_array(ids_file(file)) for file in embeddings.files]).astype(np.int64)
    table = pa.table({"object_id": ids, "x": x, "y": y})
    table = table.replace_schema_metadata({b"tidalkin": __version__.encode(), b"projection": kind.encode()})
    with atomic_path(output) as partial:
        pq.write_table(table, partial, compression="zstd")


def _principal_plane(embeddings: Embeddings) -> Plane:
    """Project vectors (row, dimension) to their two principal components, (row, 2)."""
    dimensions = embeddings.dimensions
    total, squares = np.zeros(dimensions), np.zeros((dimensions, dimensions))
    for _, block in embeddings.blocks():
        total += block.sum(axis=0, dtype=np.float64)
        squares += block.T.astype(np.float64) @ block
    mean = total / len(embeddings)
    _, directions = np.linalg.eigh(squares / len(embeddings) - np.outer(mean, mean))
    axes = directions[:, : -min(2, dimensions) - 1 : -1]
    # The sign of an eigenvector is arbitrary; its largest entry is made positive, so that maps are repeatable.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    plane = np.zeros((len(embeddings), 2), np.float32)
    for first, block in embeddings.blocks():
        plane[first : first + len(block), : axes.shape[1]] = (block - mean) @ axes
    return plane


def _umap_plane(embeddings: Embeddings, seed: int) -> Plane:
    """Fit UMAP on a sample, and place the other vectors among it, (row, 2)."""
    try:
        from umap import UMAP
    except ModuleNotFoundError:
        raise TidalkinError(
            "explorer.projection is 'umap', but the package umap-learn is not installed: install it, or use 'pca'"
        ) from None
    random = np.random.default_rng(seed)
    chosen = np.sort(random.choice(len(embeddings), min(MOST_FITTED, len(embeddings)), replace=False))
    fitted = embeddings.rows(chosen)
    sample = UMAP(metric="cosine", random_state=seed, n_jobs=1).fit_transform(fitted).astype(np.float32)
    if len(chosen) == len(embeddings):
        return sample
    nearest = faiss.IndexFlatIP(embeddings.dimensions)
    nearest.add(fitted)
    plane = np.empty((len(embeddings), 2), np.float32)
    for first, block in embeddings.blocks():
        _, places = nearest.search(block, NEIGHBOURS)
        plane[first : first + len(block)] = sample[places].mean(axis=1)
    plane[chosen] = sample
    return plane


def _scaled(plane: Plane) -> Plane:
    """Scale a plane to 0 to 1; outliers lie on the edge."""
    low, high = np.percentile(plane, EDGE_PERCENTILES, axis=0)
    share = (plane - low) / np.maximum(high - low, np.finfo(np.float32).tiny)
    scaled: Plane = (MARGIN + (1 - 2 * MARGIN) * share).clip(0, 1).astype(np.float32)
    return scaled
