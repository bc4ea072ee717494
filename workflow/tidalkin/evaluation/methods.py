"""The methods that are compared: the encoder and the baselines, with the vectors of each.

A method is described by data: its file of vectors, whether it has a debris score, and its probes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from tidalkin.errors import TidalkinError
from tidalkin.evaluation.labels import Floats, Integers, Labels, check_enough

logger = logging.getLogger(__name__)

ProbeName = Literal["linear", "debris", "forest"]


@dataclass(frozen=True)
class MethodVectors:
    """The vectors of one method, and how they are evaluated."""

    object_id: Integers
    """(object,)"""
    vectors: Floats
    """(object, dimension), all finite."""
    debris_weight: float | None = None
    """Weight in a search of the debris score, which is the last dimension; None: there is no debris score."""
    probes: tuple[ProbeName, ...] = ("linear",)
    """Probes to train on the vectors; see `tidalkin.evaluation.probes.PROBES`."""


@dataclass(frozen=True)
class Baseline:
    """A baseline, and how it differs from the others."""

    name: str
    """Stem of its file."""
    probes: tuple[ProbeName, ...] = ("linear",)


BASELINES = (
    Baseline("random"),
    Baseline("pca"),
    # A random forest is common for a handful of morphological numbers, whose classes no plane separates.
    Baseline("morphology", probes=("linear", "forest")),
)


def read_embeddings(vector_files: Sequence[Path], id_files: Sequence[Path], wanted: Integers) -> MethodVectors:
    """Read the vectors of the ``wanted`` galaxies, and no other rows.

    Parameters
    ----------
    vector_files, id_files : sequence of Path
        ``embeddings/<shard>.npy`` and ``embeddings/<shard>.ids.npy``, in the same order.
    wanted : (object,) int64
        Ids of the galaxies.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     vectors, ids = Path(folder) / "00000.npy", Path(folder) / "00000.ids.npy"
    ...     np.save(vectors, np.eye(3, dtype=np.float16))
    ...     np.save(ids, np.array([7, 8, 9]))
    ...     read_embeddings([vectors], [ids], wanted=np.array([9, 10])).vectors
    array([[0., 0., 1.]], dtype=float32)
    """
    ids, vectors = [], []
    for vector_file, id_file in zip(vector_files, id_files, strict=True):
        shard_ids = np.load(id_file)
        rows = np.flatnonzero(np.isin(shard_ids, wanted))
        ids.append(shard_ids[rows])
        vectors.append(np.load(vector_file, mmap_mode="r")[rows].astype(np.float32))
    return MethodVectors(np.concatenate(ids), np.concatenate(vectors))


def read_baseline(path: Path, debris_weight: float = 1.0) -> MethodVectors:
    """Read the vectors that `tidalkin.evaluation.baselines` wrote.

    Parameters
    ----------
    path : Path
        The baseline's file.
    debris_weight : float
        Weight of the debris score in a search, where the file has one.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "pca.npz"
    ...     np.savez(file, object_id=np.array([7, 8]), vectors=np.eye(2), has_debris_score=np.array(False))
    ...     read_baseline(file).debris_weight is None
    True
    """
    with np.load(path) as file:
        weight = debris_weight if file["has_debris_score"] else None
        return MethodVectors(file["object_id"], file["vectors"], weight)


def read_methods(
    vector_files: Sequence[Path],
    id_files: Sequence[Path],
    baselines: Sequence[Path],
    wanted: Integers,
    debris_weight: float | None,
) -> dict[str, MethodVectors]:
    """Read the vectors of the encoder and of each baseline.

    Parameters
    ----------
    vector_files, id_files : sequence of Path
        The embeddings, as of `read_embeddings`.
    baselines : sequence of Path
        Files ``<name>.npz`` with the names of `BASELINES`.
    wanted : (object,) int64
        Ids of the labelled galaxies.
    debris_weight : float or None
        Weight of the encoder's debris score in a search; None: it has none.

    Examples
    --------
    >>> run = Path("results/demo")
    >>> ids = sorted(run.glob("embeddings/*.ids.npy"))
    >>> vectors = [file.with_name(file.name.replace(".ids", "")) for file in ids]
    >>> methods = read_methods(vectors, ids, baselines=[], wanted=np.array([7, 42]), debris_weight=1.0)
    >>> methods["encoder"].object_id, methods["encoder"].vectors.shape
    (array([ 7, 42]), (2, 8))
    """
    known = {baseline.name: baseline for baseline in BASELINES}
    encoder = read_embeddings(vector_files, id_files, wanted)
    methods = {"encoder": replace(encoder, debris_weight=debris_weight)}
    for path in baselines:
        baseline = known[path.stem]
        known_vectors = read_baseline(path, 1.0 if debris_weight is None else debris_weight)
        methods[baseline.name] = replace(known_vectors, probes=baseline.probes)
    return methods


def common_galaxies(
    vectors: Mapping[str, MethodVectors], labels: Labels, negative_label: str
) -> tuple[dict[str, MethodVectors], Labels]:
    """Reduce vectors and labels to the galaxies that every method has, in one order.

    Examples
    --------
    >>> ids, kind = np.arange(24), np.array(["none", "shell"] * 12, object)
    >>> labels = Labels(ids, kind, kind != "none")
    >>> vectors = {"encoder": MethodVectors(ids, np.eye(24)), "pca": MethodVectors(ids[:1:-1], np.eye(22))}
    >>> aligned, kept = common_galaxies(vectors, labels, "none")
    >>> kept.object_id[:3], aligned["pca"].vectors.shape
    (array([2, 3, 4]), (22, 22))
    """
    common = labels.object_id
    for method, known in vectors.items():
        common = np.intersect1d(common, known.object_id)
        logger.info("%s: %d galaxies, %d common to all methods so far", method, known.object_id.size, common.size)
    rows = np.searchsorted(labels.object_id, common)
    kept = Labels(common, labels.kind[rows], labels.positive[rows])
    check_enough(kept, negative_label, "the part of the catalog that all methods of the evaluation know")
    aligned = {}
    for method, known in vectors.items():
        order = np.argsort(known.object_id)
        rows = order[np.searchsorted(known.object_id, common, sorter=order)]
        aligned[method] = replace(known, object_id=common, vectors=known.vectors[rows])
        if not np.isfinite(aligned[method].vectors).all():
            raise TidalkinError(f"the vectors of method {method!r} are not all finite numbers: make its file again")
    return aligned, kept
