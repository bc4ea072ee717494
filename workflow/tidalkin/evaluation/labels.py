"""Collect the labelled galaxies and the vectors of each method."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tidalkin.errors import TidalkinError

logger = logging.getLogger(__name__)

Floats = NDArray[np.floating]
Booleans = NDArray[np.bool_]
Integers = NDArray[np.int64]
MINIMUM_OF_EACH_CLASS = 10


@dataclass(frozen=True)
class MethodVectors:
    """What one method makes of the galaxies."""

    object_id: Integers
    """(object,)"""
    vectors: Floats
    """(object, dimension), all finite."""
    importance: Floats | None = None
    """(dimension,): how much each counts in a search, and how freely a probe may use it; none: all alike."""


@dataclass(frozen=True)
class Labels:
    """The labelled galaxies."""

    object_id: Integers
    """(object,), ascending."""
    kind: NDArray[np.object_]
    """(object,): the label as text."""
    positive: Booleans
    """(object,): whether the label is another than the negative one."""


def labelled_galaxies(catalog: pd.DataFrame, negative_label: str) -> Labels:
    """The galaxies of a catalog that have a label; an empty or missing one is none.

    Parameters
    ----------
    catalog : DataFrame
        With `object_id` and `label`.
    negative_label : str
        The label of galaxies without a feature.

    Raises
    ------
    TidalkinError
        If there is no column `label`, or too few galaxies with or without a feature to evaluate on.
    """
    if "label" not in catalog:
        raise TidalkinError(
            "the catalog has no column `label`, which the evaluation needs: add it, or set evaluation.enabled to false"
        )
    rows = catalog[catalog["label"].notna()].sort_values("object_id")
    kind = rows["label"].astype(str).str.strip()
    rows, kind = rows[kind != ""], kind[kind != ""]
    labels = Labels(
        rows["object_id"].to_numpy(np.int64),
        kind.to_numpy(dtype=object),
        (kind != negative_label).to_numpy(dtype=bool),
    )
    _check_enough(labels, negative_label, "the catalog")
    return labels


def _check_enough(labels: Labels, negative_label: str, where: str) -> None:
    positive, negative = int(labels.positive.sum()), int((~labels.positive).sum())
    if min(positive, negative) < MINIMUM_OF_EACH_CLASS:
        raise TidalkinError(
            f"{where} has {positive} galaxies labelled with a feature and {negative} labelled {negative_label!r} "
            f"(evaluation.negative_label), but the evaluation needs {MINIMUM_OF_EACH_CLASS} of each: label more, "
            "or set evaluation.enabled to false"
        )


def read_embeddings(vector_files: Sequence[Path], id_files: Sequence[Path], wanted: Integers) -> MethodVectors:
    """Those of the embedded galaxies that are ``wanted``; other rows are not even read.

    Parameters
    ----------
    vector_files, id_files : sequence of Path
        `embeddings/<shard>.npy` and `embeddings/<shard>.ids.npy`, in the same order.
    wanted : ndarray of int64
        object_ids.
    """
    ids, vectors = [], []
    for vector_file, id_file in zip(vector_files, id_files, strict=True):
        shard_ids = np.load(id_file)
        rows = np.flatnonzero(np.isin(shard_ids, wanted))
        ids.append(shard_ids[rows])
        vectors.append(np.load(vector_file, mmap_mode="r")[rows].astype(np.float32))
    return MethodVectors(np.concatenate(ids), np.concatenate(vectors))


def read_baseline(path: Path) -> MethodVectors:
    """A baseline's vectors, as written by `tidalkin.evaluation.baselines`."""
    with np.load(path) as file:
        return MethodVectors(file["object_id"], file["vectors"])


def common_galaxies(
    vectors: Mapping[str, MethodVectors], labels: Labels, negative_label: str
) -> tuple[dict[str, MethodVectors], Labels]:
    """Vectors and labels of the labelled galaxies that every method knows, row by row the same ones."""
    common = labels.object_id
    for method, known in vectors.items():
        common = np.intersect1d(common, known.object_id)
        logger.info(
            "%s: %d galaxies; %d labelled ones are known to all methods so far",
            method,
            known.object_id.size,
            common.size,
        )
    rows = np.searchsorted(labels.object_id, common)
    kept = Labels(common, labels.kind[rows], labels.positive[rows])
    _check_enough(kept, negative_label, "what all methods of the evaluation know of the catalog")
    aligned = {}
    for method, known in vectors.items():
        order = np.argsort(known.object_id)
        rows = order[np.searchsorted(known.object_id, common, sorter=order)]
        aligned[method] = replace(known, object_id=common, vectors=known.vectors[rows])
        if not np.isfinite(aligned[method].vectors).all():
            raise TidalkinError(f"the vectors of method {method!r} are not all finite numbers: make its file again")
    return aligned, kept
