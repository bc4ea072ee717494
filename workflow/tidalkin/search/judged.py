"""Rank a whole survey from judged galaxies."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from tidalkin.config import LEAST_OBJECT_ID, MOST_OBJECT_ID
from tidalkin.errors import TidalkinError, first_line
from tidalkin.index.query import OpenIndex, open_index
from tidalkin.index.vectors import Vectors
from tidalkin.search.direction import has_debris_score
from tidalkin.search.files import RunFiles
from tidalkin.search.probe import Probe, fit_probe
from tidalkin.search.ranking import ranked_table

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 2**16
EXACT_FLOAT = 2**53
"""The largest whole number up to which a float holds each one."""


def read_labels(path: str | Path, negative_label: str = "none") -> dict[int, bool]:
    r"""Read which galaxies are wanted, by object_id.

    Parameters
    ----------
    path : path
        A CSV file with the columns ``object_id`` and ``label``. A galaxy without a label is not judged.
    negative_label : str
        The label of galaxies that are not wanted; all others are.

    Raises
    ------
    TidalkinError
        If the file cannot be read, lacks a column, has an id that is not a whole number, or names a galaxy twice with
        different labels.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "labels.csv"
    ...     _ = file.write_text("object_id,label\n7,shell\n8,none\n9,\n")
    ...     read_labels(file)
    {7: True, 8: False}
    """
    try:
        table = pd.read_csv(path, comment="#", dtype={"object_id": str, "label": str}, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise TidalkinError(
            f"{path}: cannot be read ({first_line(error)}): give a CSV file with the columns object_id and label"
        ) from None
    for name in ("object_id", "label"):
        if name not in table:
            raise TidalkinError(f"{path}: has no column {name}: give a CSV file with the columns object_id and label")
    table["object_id"] = np.array([_object_id(text, path) for text in table["object_id"]], np.int64)
    table["label"] = table["label"].str.strip()
    table = table[table["label"] != ""]
    wanted = table.assign(wanted=table["label"] != negative_label).groupby("object_id")["wanted"]
    both = wanted.nunique()
    if (both > 1).any():
        raise TidalkinError(
            f"{path}: object {both.index[both > 1][0]} is labelled both {negative_label!r} and otherwise: label it once"
        )
    first = wanted.first()
    return dict(zip(first.index.to_numpy(np.int64).tolist(), first.to_numpy(bool).tolist(), strict=True))


def _object_id(text: str, path: str | Path) -> int:
    """Read an id; a decimal, like 7.0, only where a float is exact.

    Programs that take ids for decimals have changed the last digits of long ones.
    """
    try:
        object_id = int(text)
    except ValueError:
        number = pd.to_numeric(text, errors="coerce")
        object_id = int(number) if abs(number) <= EXACT_FLOAT and number % 1 == 0 else MOST_OBJECT_ID + 1
    if not LEAST_OBJECT_ID <= object_id <= MOST_OBJECT_ID:
        raise TidalkinError(
            f"{path}: object_id {text!r} is not a whole number of at most 63 bits: write the id as the catalog has it"
        )
    return object_id


def rank_by_labels(labels: Mapping[int, bool], run: RunFiles) -> pd.DataFrame:
    """Rank every galaxy of a run by what is learned from judged ones.

    Parameters
    ----------
    labels : mapping of int to bool
        Whether each judged galaxy, by object_id, is wanted; see `tidalkin.search.probe.fit_probe`. Galaxies that have
        left the run are left out, with a warning.
    run : RunFiles
        The run.

    Returns
    -------
    pandas.DataFrame
        Best first: rank, object_id, ra, dec (degrees), score, percentile, judged (``yes``, ``no`` or empty), and the
        label where the catalog has one.

    Raises
    ------
    TidalkinError
        If no judged galaxy is in the run, or nothing is judged positive and training had no injected light.

    Examples
    --------
    >>> ranking = rank_by_labels({42: True, 7: False}, RunFiles.of("results/demo"))
    >>> len(ranking), list(ranking.columns)
    (60, ['rank', 'object_id', 'ra', 'dec', 'score', 'percentile', 'judged', 'label'])
    """
    opened = open_index(run.index, run.embeddings)
    rows = opened.rows_of([*labels])
    left_out = [object_id for object_id in labels if object_id not in rows]
    if left_out:
        sentence = (
            f"{len(left_out)} of {len(labels)} judged galaxies are not in {run.catalog} or have no embedding, such as "
            f"object {left_out[0]}"
        )
        if len(left_out) == len(labels):
            raise TidalkinError(f"{sentence}: give labels of galaxies of this run")
        logger.warning("%s: they are left out", sentence)
    positive = _vectors_of([rows[object_id] for object_id in rows if labels[object_id]], opened)
    negative = _vectors_of([rows[object_id] for object_id in rows if not labels[object_id]], opened)
    probe = fit_probe(positive, negative, has_debris_score=has_debris_score(opened, run))
    table = ranked_table(run.catalog, np.asarray(opened.ids), scores(probe, opened), "score")
    words = {True: "yes", False: "no", None: ""}
    table.insert(6, "judged", [words[labels.get(object_id)] for object_id in table["object_id"]])
    return table


def scores(probe: Probe, opened: OpenIndex) -> Vectors:
    """Score all galaxies of an index, (row,), without reading all vectors into memory at once.

    Examples
    --------
    >>> files = RunFiles.of("results/demo")
    >>> opened = open_index(files.index, files.embeddings)
    >>> probe = fit_probe(opened.vectors[:5], opened.vectors[5:10], has_debris_score=True)
    >>> scores(probe, opened).shape
    (60,)
    """
    parts = [
        probe.score(np.asarray(opened.vectors[first : first + ROWS_AT_ONCE], np.float32))
        for first in range(0, len(opened.ids), ROWS_AT_ONCE)
    ]
    return np.concatenate(parts)


def _vectors_of(rows: list[int], opened: OpenIndex) -> Vectors:
    """Return the vectors of rows of an index, (row, dimension)."""
    return np.asarray(opened.vectors[rows], np.float32)
