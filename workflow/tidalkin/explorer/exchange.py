"""Read and write labels in the formats of other programs.

- ``csv`` has object_id, ra, dec, label and more. It is a catalog that the pipeline reads.
- ``votable`` is the same table for the Virtual Observatory.
- ``zooniverse`` is an export of classifications to import, or a manifest of subjects to export.
- ``labelstudio`` is a list of tasks with annotations, as JSON.
- ``astronomaly`` is a table with human_label, from 0 to 5, and -1 without a label.
"""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from tidalkin import config
from tidalkin.errors import TidalkinError, first_line
from tidalkin.explorer.labels import LabelBook, Mark, Verdict

FORMATS = ("csv", "votable", "zooniverse", "labelstudio", "astronomaly")
LEAST_POSITIVE_SCORE = 3
"""Of Astronomaly's human labels from 0, boring, to 5, interesting."""


class Given(NamedTuple):
    """One label in a file."""

    object_id: int
    label: str
    who: str
    when: str


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
        explorer's words), disagreement, people, who and when (of the last mark).

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
        last = max(verdict.marks, key=lambda mark: mark.when)
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
    return pd.DataFrame(rows, columns=names)


def export_labels(table: pd.DataFrame, judged: Sequence[Verdict], kind: str, labels: config.Explorer) -> bytes:
    """Write labels in one of the `FORMATS`.

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
    if kind == "csv":
        return table.to_csv(index=False).encode()
    if kind == "votable":
        return _votable(table)
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
        "data": {"object_id": str(row["object_id"]), "ra": row["ra"], "dec": row["dec"]},
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


def import_labels(
    path: Path, kind: str, book: LabelBook, known: Iterable[int], labels: config.Explorer, negative_label: str, who: str
) -> int:
    r"""Add the labels of a file to a run, and return how many are new.

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
        If the file cannot be read, or names an unknown object or label. Then nothing is added.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "labels.csv"
    ...     _ = file.write_text("object_id,label\n7,tidal\n8,none\n")
    ...     import_labels(file, "csv", LabelBook(f"{folder}/labels"), [7, 8], config.Explorer(), "none", who="ada")
    2
    """
    given = list(_given(path, kind, labels))
    ids = set(known)
    marks = []
    for one in given:
        label = labels.negative if one.label == negative_label else one.label
        if one.object_id not in ids:
            raise TidalkinError(f"{path}: object {one.object_id} is not in the catalog of the run: remove its row")
        if label not in labels.labels:
            raise TidalkinError(
                f"{path}: label {label!r} of object {one.object_id} is not one of {', '.join(labels.labels)}: add it "
                "to explorer.kinds or change it"
            )
        marks.append(_mark(one, label, one.who or who))
    before = len(book.all_marks())
    book.extend(marks)
    return len(book.all_marks()) - before


def _mark(given: Given, label: str, who: str) -> Mark:
    """Make a mark whose uuid depends on its content, so that importing twice adds nothing."""
    name = json.dumps([given.object_id, label, who, given.when])
    when = given.when or datetime.now(UTC).isoformat()
    return Mark(str(uuid.uuid5(uuid.NAMESPACE_URL, name)), given.object_id, label, who, when, strategy="import")


def _given(path: Path, kind: str, labels: config.Explorer) -> Iterator[Given]:
    """Read the labels of a file."""
    readers: dict[str, Callable[[], Iterator[Given]]] = {
        "csv": lambda: _from_rows(_rows(path)),
        "votable": lambda: _from_rows(_votable_rows(path)),
        "zooniverse": lambda: _from_zooniverse(_rows(path)),
        "labelstudio": lambda: _from_label_studio(json.loads(path.read_text())),
        "astronomaly": lambda: _from_astronomaly(_rows(path), labels),
    }
    try:
        yield from readers[kind]()
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise TidalkinError(
            f"{path}: cannot be read as {kind} ({type(error).__name__}: {first_line(error)}): name the format with "
            "--format"
        ) from None


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as lines:
        yield from csv.DictReader(line for line in lines if not line.startswith("# "))


def _votable_rows(path: Path) -> Iterator[dict[str, str]]:
    from astropy.table import Table

    for row in Table.read(path, format="votable"):
        yield {name: str(row[name]) for name in row.colnames}


def _from_rows(rows: Iterable[dict[str, str]]) -> Iterator[Given]:
    for row in rows:
        label = (row.get("judged") or row["label"]).strip()
        if label:
            yield Given(int(row["object_id"]), label, row.get("who") or "", row.get("when") or "")


def _from_zooniverse(rows: Iterable[dict[str, str]]) -> Iterator[Given]:
    """Read the first answer of each classification."""
    for row in rows:
        (subject,) = json.loads(row["subject_data"]).values()
        answer = str(json.loads(row["annotations"])[0]["value"]).strip()
        yield Given(int(subject["object_id"]), answer.lower(), row["user_name"], row["created_at"])


def _from_label_studio(tasks: Sequence[dict[str, Any]]) -> Iterator[Given]:
    for task in tasks:
        for annotation in task["annotations"]:
            person = annotation.get("completed_by") or ""
            who = str(person["email"] if isinstance(person, dict) else person)
            choice = annotation["result"][0]["value"]["choices"][0]
            yield Given(int(task["data"]["object_id"]), choice, who, annotation.get("created_at") or "")


def _from_astronomaly(rows: Iterable[dict[str, str]], labels: config.Explorer) -> Iterator[Given]:
    for row in rows:
        score = float(row["human_label"])
        if score >= 0:
            label = labels.positive if score >= LEAST_POSITIVE_SCORE else labels.negative
            yield Given(int(next(iter(row.values()))), label, "", "")
