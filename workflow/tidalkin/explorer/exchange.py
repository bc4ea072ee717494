"""Read and write labels in the formats of other programs.

- ``csv`` has one row per object with object_id, ra, dec, label and more. It is a catalog that the pipeline reads. Where
  several people judged an object, the column marks has the label of each.
- ``votable`` is the same table for the Virtual Observatory.
- ``zooniverse`` is an export of classifications to import, or a manifest of subjects to export.
- ``labelstudio`` is a list of tasks with annotations, as JSON.
- ``astronomaly`` is a table with human_label, from 0 to 5, and -1 without a label.
"""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from tidalkin import config
from tidalkin.config.explorer import DISAGREEMENT
from tidalkin.errors import TidalkinError
from tidalkin.explorer.label_files import Given, GivenByOne, read_labels
from tidalkin.explorer.labels import LabelBook, Mark, Verdict, new_mark

logger = logging.getLogger(__name__)

LATEST = timedelta(days=1)
"""How far a time may lie in the future, since clocks differ."""
NOW = "9999"
"""Stands for the time of a label without one. It is later than all others."""


def label_table(
    judged: Sequence[Verdict], catalog: pd.DataFrame, negative_label: str, labels: config.Explorer
) -> pd.DataFrame:
    """Make the table of labels, which is a valid catalog with labels.

    Parameters
    ----------
    judged : sequence of Verdict
        All verdicts.
    catalog : pandas.DataFrame
        With object_id, ra and dec.
    negative_label : str
        The pipeline's label of galaxies without a feature.
    labels : config.Explorer
        The labels of the explorer.

    Returns
    -------
    pandas.DataFrame
        Columns object_id, ra, dec, label (empty where nobody is sure or people disagree), judged (the label in the
        explorer's words), disagreement, people, who and when (of the last mark). An object that is not in the catalog
        has no ra and dec.

    Examples
    --------
    >>> from tidalkin.explorer.labels import new_mark
    >>> judged = [Verdict(7, "not", False, False, (new_mark(7, "not", "ada"),))]
    >>> catalog = pd.DataFrame({"object_id": [7], "ra": [150.1], "dec": [2.2]})
    >>> label_table(judged, catalog, "none", config.Explorer())[["object_id", "ra", "dec", "label", "judged", "who"]]
       object_id     ra  dec label judged  who
    0          7  150.1  2.2  none    not  ada
    """
    positions = catalog.set_index("object_id")[["ra", "dec"]]
    rows = []
    for verdict in judged:
        last = max(verdict.marks, key=lambda mark: mark.when)  # the texts are in the order of the times
        is_sure = verdict.is_positive is not None
        label = verdict.label if verdict.is_positive else negative_label
        rows.append(
            {
                "object_id": verdict.object_id,
                "ra": positions["ra"].get(verdict.object_id),
                "dec": positions["dec"].get(verdict.object_id),
                "label": label if is_sure else "",
                "judged": verdict.label,
                "disagreement": verdict.disagreement,
                "people": len(verdict.marks),
                "who": " ".join(sorted(mark.who for mark in verdict.marks)),
                "when": last.when,
            }
        )
    names = ["object_id", "ra", "dec", "label", "judged", "disagreement", "people", "who", "when"]
    return pd.DataFrame(rows, columns=names).astype({"ra": float, "dec": float})


def export_labels(table: pd.DataFrame, judged: Sequence[Verdict], kind: str, labels: config.Explorer) -> bytes:
    """Write labels in one of the `tidalkin.explorer.label_files.FORMATS`.

    Parameters
    ----------
    table : pandas.DataFrame
        From `label_table`.
    judged : sequence of Verdict
        The verdicts that it was made from.
    kind : str
        The format.
    labels : config.Explorer
        The labels of the explorer.

    Examples
    --------
    >>> table = pd.DataFrame({"object_id": [7], "ra": [150.1], "dec": [2.2], "judged": ["tidal"]})
    >>> export_labels(table, [], "zooniverse", config.Explorer()).decode().splitlines()
    ['object_id,#ra,#dec,#judged', '7,150.1,2.2,tidal']
    """
    lost = table["object_id"][table["ra"].isna()]
    if len(lost):
        logger.warning(
            "%d of %d labelled objects, such as %d, are not in the catalog: they have no position in the file",
            len(lost),
            len(table),
            lost.iloc[0],
        )
    if kind in ("csv", "votable"):
        table = _with_marks(table, judged)
        return table.to_csv(index=False).encode() if kind == "csv" else _votable(table)
    if kind == "zooniverse":
        # A hash hides a column from the volunteers.
        shown = table[["object_id", "ra", "dec", "judged"]].rename(
            columns=lambda name: f"#{name}" if name != "object_id" else name
        )
        return shown.to_csv(index=False).encode()
    if kind == "labelstudio":
        return json.dumps(
            [_task(row, verdict) for row, verdict in zip(table.to_dict("records"), judged, strict=True)]
        ).encode()
    scores = [{True: 5, False: 0}.get(verdict.is_positive, -1) for verdict in judged]  # type: ignore[arg-type]
    return pd.DataFrame({"id": table["object_id"], "human_label": scores}).to_csv(index=False).encode()


def _with_marks(table: pd.DataFrame, judged: Sequence[Verdict]) -> pd.DataFrame:
    """Add a column with the label of each person, where there are several."""
    if all(len(verdict.marks) == 1 for verdict in judged):
        return table
    marks = [
        [GivenByOne(who=mark.who, label=mark.label, when=mark.when).model_dump() for mark in verdict.marks]
        for verdict in judged
    ]
    return table.assign(marks=[json.dumps(one, ensure_ascii=False) if len(one) > 1 else "" for one in marks])


def _votable(table: pd.DataFrame) -> bytes:
    from astropy.table import Table

    content = Table.from_pandas(table)
    content["ra"].unit = content["dec"].unit = "deg"
    buffer = io.BytesIO()
    content.write(buffer, format="votable")
    return buffer.getvalue()


def _task(row: Mapping[Any, Any], verdict: Verdict) -> dict[str, Any]:
    """Make a task of Label Studio with the annotations of all people."""
    return {
        "data": {"object_id": str(row["object_id"])} | {name: _number(row[name]) for name in ("ra", "dec")},
        "annotations": [
            {
                "completed_by": mark.who,
                "created_at": mark.when,
                "result": [
                    {"type": "choices", "from_name": "label", "to_name": "image", "value": {"choices": [mark.label]}}
                ],
            }
            for mark in verdict.marks
        ],
    }


def _number(value: float) -> float | None:
    """Return a number that JSON can hold."""
    return None if math.isnan(value) else value


def import_labels(
    path: Path, kind: str, book: LabelBook, known: Iterable[int], labels: config.Explorer, negative_label: str, who: str
) -> int:
    r"""Add the labels of a file to a run, and return how many are new.

    Of each person and object, the last label counts. It is added if it differs from what the person says at present,
    and is not older. A label without a time is given now.

    Parameters
    ----------
    path : path
        The file.
    kind : str
        Its format.
    book : LabelBook
        The labels of the run.
    known : iterable of int
        The object_ids of the run.
    labels : config.Explorer
        The labels of the explorer.
    negative_label : str
        The pipeline's label of galaxies without a feature, which is read as the explorer's.
    who : str
        The person, where the file names none.

    Raises
    ------
    TidalkinError
        If the file cannot be read, or a label that is to be added is unknown, or its object, or its time is not a
        time. Then nothing is added.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "labels.csv"
    ...     _ = file.write_text("object_id,label\n7,tidal\n8,none\n")
    ...     import_labels(file, "csv", LabelBook(f"{folder}/labels"), [7, 8], config.Explorer(), "none", who="ada")
    2
    """
    book.refresh()
    ids, current, n_disputed = set(known), book.current(), 0
    last: dict[tuple[int, str], Given] = {}
    for place, one in read_labels(path, kind, labels):
        if one.label == DISAGREEMENT:
            n_disputed += 1
            continue
        label = labels.negative if one.label == negative_label else one.label
        given = one._replace(label=label, who=one.who or who)
        key = given.object_id, given.who
        if not _agrees(current.get(key[0], {}).get(key[1]), given, labels):
            _check(f"{path}: {place}", given, ids, labels)
        if key not in last or (given.when or NOW) >= (last[key].when or NOW):
            last[key] = given
    marks, n_older = [], 0
    for given in last.values():
        before = current.get(given.object_id, {}).get(given.who)
        if _agrees(before, given, labels):
            continue
        if before is not None and given.when and given.when < before.when:
            n_older += 1
            continue
        # A label that was corrected in an exported file has the time of the one that it corrects. It is given now.
        when = "" if before is not None and given.when == before.when else given.when
        marks.append(new_mark(given.object_id, given.label, given.who, when=when, strategy="import"))
    book.extend(marks)
    if n_disputed:
        logger.warning("%s: left out %d of its rows, which tell of a disagreement only", path, n_disputed)
    if n_older:
        logger.warning("%s: left out %d of its labels, since the same person gave a later one", path, n_older)
    return len(marks)


def _agrees(mark: Mark | None, given: Given, labels: config.Explorer) -> bool:
    """Tell whether a label is what its person says at present."""
    if mark is None:
        return False
    if given.is_score and mark.label in labels.positives:
        return given.label in labels.positives
    return mark.label == given.label


def _check(place: str, given: Given, ids: set[int], labels: config.Explorer) -> None:
    """Refuse a label with an unknown object or name, or a time in the future."""
    if given.object_id not in ids:
        raise TidalkinError(f"{place}: object {given.object_id} is not in the catalog of the run: remove its row")
    if given.label not in labels.labels:
        raise TidalkinError(
            f"{place}: label {given.label!r} of object {given.object_id} is not one of {', '.join(labels.labels)}: add "
            "it to explorer.kinds or change it"
        )
    if given.when and datetime.fromisoformat(given.when) > datetime.now(UTC) + LATEST:
        raise TidalkinError(f"{place}: time {given.when!r} is in the future: correct it")
