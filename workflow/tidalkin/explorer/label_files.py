"""Read labels from files of the formats of other programs.

`tidalkin.explorer.exchange` describes the formats.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from tidalkin import config
from tidalkin.config.explorer import DISAGREEMENT
from tidalkin.errors import TidalkinError, first_line
from tidalkin.explorer.labels import new_mark, verdicts
from tidalkin.explorer.times import utc_time

FORMATS = ("csv", "votable", "zooniverse", "labelstudio", "astronomaly")
LEAST_POSITIVE_SCORE = 3
"""Of Astronomaly's human labels from 0, boring, to 5, interesting."""
Row = Mapping[str, str]
ObjectId = Annotated[int, Field(ge=config.LEAST_OBJECT_ID, le=config.MOST_OBJECT_ID)]


class Given(NamedTuple):
    """One label in a file."""

    object_id: int
    label: str
    who: str = ""
    when: str = ""
    is_score: bool = False
    """Whether the label tells positive from negative only."""


class GivenByOne(BaseModel):
    """The label of one person in the column marks."""

    who: str
    label: str
    when: str


class Subject(BaseModel):
    """A subject of Zooniverse."""

    object_id: ObjectId


class Answer(BaseModel):
    """An answer of Zooniverse; none where the volunteer skipped the question."""

    value: Any = None


class Person(BaseModel):
    """A person of Label Studio."""

    email: str


class Choices(BaseModel):
    """The choices of a person of Label Studio."""

    choices: list[str] = []


class Result(BaseModel):
    """A part of an annotation of Label Studio."""

    value: Choices = Choices()


class Annotation(BaseModel):
    """An annotation of Label Studio."""

    completed_by: int | str | Person | None = None
    created_at: str | None = None
    was_cancelled: bool = False
    result: list[Result]


class Galaxy(BaseModel):
    """The data of a task of Label Studio."""

    object_id: ObjectId


class Task(BaseModel):
    """A task of Label Studio."""

    data: Galaxy
    annotations: list[Annotation]


OBJECT_ID = TypeAdapter(ObjectId)
MARKS = TypeAdapter(list[GivenByOne])
SUBJECTS = TypeAdapter(dict[str, Subject])
ANSWERS = TypeAdapter(list[Answer])


class RowError(ValueError):
    """A fault of a row, in a sentence that names the fix."""


def read_labels(path: Path, kind: str, labels: config.Explorer) -> Iterator[tuple[str, Given]]:
    r"""Read the labels of a file, each with its place in the file.

    Parameters
    ----------
    path : path
        The file.
    kind : str
        One of the `FORMATS`.
    labels : config.Explorer
        The labels of the explorer.

    Yields
    ------
    tuple of str and Given
        Such as ``line 2`` and the label there.

    Raises
    ------
    TidalkinError
        If the file or a row cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "labels.csv"
    ...     _ = file.write_text("object_id,label,who\n7,tidal,ada\n")
    ...     list(read_labels(file, "csv", config.Explorer()))
    [('line 2', Given(object_id=7, label='tidal', who='ada', when='', is_score=False))]
    """
    read, take = FORMS[kind]
    for place, row in _rows(path, kind, read):
        try:
            found = list(take(row, labels))
        except RowError as error:
            raise TidalkinError(f"{path}: {place}: {error}") from None
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise TidalkinError(
                f"{path}: {place} cannot be read as {kind} ({_reason(error)}): correct it, or name another format with "
                "--format"
            ) from None
        yield from ((place, one) for one in found)


def _rows(path: Path, kind: str, read: Callable[[Path], Iterator[tuple[str, Any]]]) -> Iterator[tuple[str, Any]]:
    """Read the rows of a file, each with its place."""
    try:
        yield from read(path)
    except RowError as error:
        raise TidalkinError(f"{path}: {error}") from None
    except (OSError, ValueError, TypeError, IndexError, RecursionError) as error:
        raise TidalkinError(
            f"{path}: cannot be read as {kind} ({type(error).__name__}: {first_line(error)}): name the format with "
            "--format"
        ) from None


def _reason(error: Exception) -> str:
    """Return why a row cannot be read."""
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]}"
    if isinstance(error, ValidationError):
        fault = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in fault["loc"])
        return f"{name or 'value'} {fault['input']!r:.80}: {fault['msg']}"
    return first_line(error)


def _csv_rows(path: Path) -> Iterator[tuple[str, Row]]:
    number = 0

    def lines(file: Iterable[str]) -> Iterator[str]:
        nonlocal number
        for number, line in enumerate(file, 1):  # noqa: B007
            if not line.startswith("# "):
                yield line

    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            for row in csv.DictReader(lines(file)):
                if None in row.values():
                    raise RowError(f"line {number} has fewer fields than the first line: complete or remove it")
                yield f"line {number}", row
        except csv.Error as error:
            raise RowError(f"line {number} cannot be read as a row ({error}): correct or remove it") from None


def _votable_rows(path: Path) -> Iterator[tuple[str, Row]]:
    from astropy.table import Table

    try:
        table = Table.read(path, format="votable")
    except OSError:
        raise
    except Exception as error:  # astropy raises warnings and errors of many kinds
        raise ValueError(first_line(error)) from None
    for number, row in enumerate(table, 1):
        yield (
            f"row {number}",
            {name: "" if row[name] is np.ma.masked else str(row[name]) for name in row.colnames},
        )


def _tasks(path: Path) -> Iterator[tuple[str, Any]]:
    tasks = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(tasks, list):
        raise ValueError("not a list of tasks")
    for number, task in enumerate(tasks, 1):
        yield f"task {number}", task


def _object_id(text: str) -> int:
    try:
        return OBJECT_ID.validate_python(text)
    except ValidationError:
        raise ValueError(f"object_id {text!r:.80} is not a whole number") from None


def _time(text: str | None) -> str:
    try:
        return utc_time(text) if text and text.strip() else ""
    except ValueError as error:
        raise RowError(str(error)) from None


def _from_table(row: Row, labels: config.Explorer) -> Iterator[Given]:
    """Read the labels of all people on an object."""
    object_id = _object_id(row["object_id"])
    if row.get("marks", "").strip():
        yield from _from_marks(object_id, row, labels)
        return
    # A list of the explorer has the catalog's label, too, which nobody gave.
    label = row["judged" if "judged" in row else "label"].strip()
    if "judged" in row and row.get("disagreement", "").strip().lower() == "true":
        label = DISAGREEMENT
    elif label and "judged" in row and float(row.get("people", "").strip() or 1) > 1:
        raise RowError(
            f"{row['people']} people, {row.get('who')!r}, cannot be told apart: export the labels again, or remove the "
            "columns people and who to import their joint labels as those of one person"
        )
    if label:
        yield Given(object_id, label, row.get("who", ""), _time(row.get("when")))


def _from_marks(object_id: int, row: Row, labels: config.Explorer) -> Iterator[Given]:
    """Read the column marks, unless it contradicts the joint label."""
    given = MARKS.validate_json(row["marks"])
    marks = {one.who: new_mark(object_id, one.label, one.who) for one in given}
    (joint,) = verdicts({object_id: marks}, labels)
    if row.get("judged", joint.label).strip() != joint.label:
        raise RowError(
            f"judged {row['judged']!r} is not the joint label {joint.label!r} of the column marks: make the two agree"
        )
    for one in given:
        yield Given(object_id, one.label, one.who, _time(one.when))


def _from_zooniverse(row: Row, labels: config.Explorer) -> Iterator[Given]:
    """Read the first answer of a classification, unless the question was skipped."""
    (subject,) = SUBJECTS.validate_json(row["subject_data"]).values()
    answers = ANSWERS.validate_json(row["annotations"])
    answer = answers[0].value if answers else None
    if answer is not None and str(answer).strip():
        label = str(answer).strip().lower()
        yield Given(subject.object_id, label, row["user_name"], _time(row["created_at"]))


def _from_label_studio(content: Any, labels: config.Explorer) -> Iterator[Given]:
    """Read the first choice of each person, except of those who skipped the task."""
    task = Task.model_validate(content)
    for annotation in task.annotations:
        choices = [choice for result in annotation.result for choice in result.value.choices]
        if choices and not annotation.was_cancelled:
            person = annotation.completed_by
            who = person.email if isinstance(person, Person) else str(person or "")
            yield Given(task.data.object_id, choices[0], who, _time(annotation.created_at))


def _from_astronomaly(row: Row, labels: config.Explorer) -> Iterator[Given]:
    score = float(row["human_label"])
    if score >= 0:
        label = labels.positive if score >= LEAST_POSITIVE_SCORE else labels.negative
        yield Given(_object_id(next(iter(row.values()))), label, is_score=True)


Read = Callable[[Path], Iterator[tuple[str, Any]]]
Take = Callable[[Any, config.Explorer], Iterator[Given]]
FORMS: dict[str, tuple[Read, Take]] = {
    "csv": (_csv_rows, _from_table),
    "votable": (_votable_rows, _from_table),
    "zooniverse": (_csv_rows, _from_zooniverse),
    "labelstudio": (_tasks, _from_label_studio),
    "astronomaly": (_csv_rows, _from_astronomaly),
}
"""How the rows of each format are read from the file, and the labels from a row."""
