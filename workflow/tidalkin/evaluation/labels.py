"""The labelled galaxies of a catalog."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tidalkin.errors import TidalkinError

Floats = NDArray[np.floating]
Booleans = NDArray[np.bool_]
Integers = NDArray[np.int64]
MINIMUM_OF_EACH_CLASS = 10
LABELS_LISTED = 8


@dataclass(frozen=True)
class Labels:
    """Galaxies with a label."""

    object_id: Integers
    """(object,), ascending."""
    kind: NDArray[np.object_]
    """(object,): label as text."""
    positive: Booleans
    """(object,): True where the label differs from the negative label."""


def labelled_galaxies(catalog: pd.DataFrame, negative_label: str) -> Labels:
    """Return the labelled galaxies of a catalog; an empty label counts as missing.

    Parameters
    ----------
    catalog : DataFrame
        With the columns ``object_id`` and ``label``.
    negative_label : str
        The label of galaxies without a feature.

    Returns
    -------
    Labels
        In ascending order of ``object_id``.

    Raises
    ------
    TidalkinError
        If there is no column ``label``, or too few galaxies with or without a feature.

    Examples
    --------
    >>> catalog = pd.DataFrame(dict(object_id=range(24), label=["shell", "none"] * 12))
    >>> labels = labelled_galaxies(catalog, "none")
    >>> labels.positive.sum()
    np.int64(12)
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
    check_enough(labels, negative_label, "the catalog")
    return labels


def check_enough(labels: Labels, negative_label: str, where: str) -> None:
    """Refuse too few galaxies with or without a feature.

    Examples
    --------
    >>> kind = np.array(["shell", "none"], object)
    >>> check_enough(Labels(np.array([7, 8]), kind, kind != "none"), "none", "the catalog")
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: the catalog has 1 galaxies labelled with a feature and 1 labelled 'none'
    (evaluation.negative_label), but the evaluation needs 10 of each (labels found: 'none' 1, 'shell' 1): label more,
    name the right label, or set evaluation.enabled to false
    """
    positive, negative = int(labels.positive.sum()), int((~labels.positive).sum())
    if min(positive, negative) < MINIMUM_OF_EACH_CLASS:
        raise TidalkinError(
            f"{where} has {positive} galaxies labelled with a feature and {negative} labelled {negative_label!r} "
            f"(evaluation.negative_label), but the evaluation needs {MINIMUM_OF_EACH_CLASS} of each (labels found: "
            f"{_listed(labels.kind)}): label more, name the right label, or set evaluation.enabled to false"
        )


def _listed(kinds: NDArray[np.object_]) -> str:
    """List the most frequent labels with their numbers of galaxies."""
    names, counts = np.unique(kinds.astype(str), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    shown = ", ".join(f"{str(names[i])!r} {counts[i]}" for i in order[:LABELS_LISTED])
    return (shown or "none") + (", ..." if len(order) > LABELS_LISTED else "")
