"""Keep the labels that people give, one file of lines per server process.

A mark is one line of JSON in ``labels/<process>.jsonl`` below the folder of the run. Each process appends to a file of
its own, because two processes cannot safely append to one file on a network file system. The state is the union of all
files: of each person and object, the last mark by time counts. To undo is to write a line that names the mark undone.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter

from tidalkin import config
from tidalkin.atomic import disk_errors
from tidalkin.errors import TidalkinError, first_line
from tidalkin.explorer.times import now, utc_time

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mark:
    """One judgement of one galaxy by one person."""

    uuid: str
    object_id: Annotated[int, Field(ge=config.LEAST_OBJECT_ID, le=config.MOST_OBJECT_ID)]
    label: str
    """Empty in a line that undoes a mark."""
    who: str
    when: Annotated[str, AfterValidator(utc_time)]
    """UTC as `tidalkin.explorer.times.utc_time` spells it; empty until the mark is kept."""
    run: str = ""
    encoder: str = ""
    """Digest of the run's encoder."""
    strategy: str = ""
    """How the galaxy was chosen: likely, uncertain, random, search, or empty where unknown."""
    rank: int | None = None
    """Rank in the list that offered it, from 1."""
    probability: Annotated[float, Field(ge=0, le=1)] | None = None
    """Probability of the positive label when it was offered."""
    milliseconds: int | None = None
    """Time from the first sight of the image to the mark."""
    undoes: str = ""
    """The uuid of the mark that this line undoes."""


_LINE = TypeAdapter(Mark)


def new_mark(object_id: int, label: str, who: str, **details: Any) -> Mark:
    """Make a mark, which gets its time when a book keeps it.

    Examples
    --------
    >>> new_mark(42, "tidal", "ada").label
    'tidal'
    """
    return Mark(**{"uuid": str(uuid.uuid4()), "when": "", **details}, object_id=object_id, label=label, who=who)


class LabelBook:
    """The labels of a run, read from all processes' files and appended to one.

    Parameters
    ----------
    folder : path
        ``results/<run>/labels``. It is made with the first mark.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._lock = threading.RLock()
        self._marks: dict[str, Mark] = {}
        self._last: dict[str, str] = {}
        """The time of the last line of each person."""
        self._read_bytes: dict[Path, int] = {}
        self._private: set[Path] = set()
        """Files and folders of other users that cannot be read."""
        self._own: Path | None = None
        self._current: tuple[int, dict[int, dict[str, Mark]]] = (0, {})
        self.version = 0
        """Rises with every new line."""

    def refresh(self) -> int:
        """Read the lines that any process has added, and return the version."""
        with self._lock:
            files: list[Path] = []
            with self._reading(self.folder):
                files = sorted(file for file in self.folder.iterdir() if file.suffix == ".jsonl")
            for file in files:
                with self._reading(file):
                    self._read_new_lines(file)
            return self.version

    @contextmanager
    def _reading(self, path: Path) -> Iterator[None]:
        """Go on without a file or folder that is private, and warn of it once."""
        try:
            yield
        except FileNotFoundError:
            return  # nobody judged yet, or the file was just removed
        except PermissionError:
            if path not in self._private:
                logger.warning("%s cannot be read, so its labels are left out: ask its owner for the permission", path)
                self._private.add(path)
        except OSError as error:
            raise TidalkinError(f"{path} cannot be read ({first_line(error)}): check the disk") from error

    def _read_new_lines(self, file: Path) -> None:
        start, size = self._read_bytes.get(file, 0), file.stat().st_size
        if size < start:
            self._read_again()
        if size <= start:
            return
        with file.open("rb") as lines:
            lines.seek(start)
            content = lines.read()
        for line in content.splitlines(keepends=True):
            mark = _parse(line)
            if mark is None and line.endswith(b"\n"):
                raise TidalkinError(
                    f"{file}: the line at byte {start} is not a mark: correct the line or remove it from the file"
                )
            if mark is None:
                return  # torn: the process that wrote it was killed, or is still writing
            start += len(line)
            self._read_bytes[file] = start
            self._add(mark)

    def _read_again(self) -> None:
        """Read all files anew, since one was cut back when the disk refused a batch."""
        self._marks, self._last, self._read_bytes = {}, {}, {}
        self.version += 1
        self.refresh()

    def _add(self, mark: Mark) -> None:
        if mark.uuid not in self._marks:
            self._marks[mark.uuid] = mark
            self._last[mark.who] = max(mark.when, self._last.get(mark.who, ""))
            self.version += 1

    def append(self, mark: Mark) -> Mark:
        """Write a mark to the disk, and return when it is safe there; see `extend`."""
        return self.extend([mark])[0]

    def extend(self, marks: Sequence[Mark]) -> list[Mark]:
        """Write marks to the disk, and return when they are safe there.

        If the disk refuses, none of them is kept. A mark whose uuid is known is not written again, so that a request
        can be repeated. A mark without a time gets the present one. Where the person's last line is later, since
        another machine's clock is ahead, it gets the time just after that line: it is newer, whatever the clocks say.

        Returns
        -------
        list of Mark
            The marks as they are kept; of a known uuid the one before.

        Raises
        ------
        TidalkinError
            If the file cannot be written, or a mark could not be read again.
        """
        with self._lock:
            with suppress(TidalkinError):  # a fault in another file, which `refresh` names, does not stop this mark
                self.refresh()
            new = {mark.uuid: mark for mark in marks if mark.uuid not in self._marks}
            if new:
                self._append(self._timed(list(new.values())))
            return [self._marks[mark.uuid] for mark in marks]

    def _timed(self, marks: Sequence[Mark]) -> list[Mark]:
        """Give a time to the marks that have none."""
        last, timed = dict(self._last), []
        for mark in marks:
            before = last.get(mark.who, "")
            kept = replace(mark, when=utc_time(mark.when) if mark.when else now(after=before))
            last[mark.who] = max(kept.when, before)
            timed.append(kept)
        return timed

    def _append(self, marks: Sequence[Mark]) -> None:
        """Append marks to this process's file in one piece, and sync it once."""
        lines = b"".join(map(_line, marks))
        if self._own is None:
            self._own = self._new_file()
        try:
            with disk_errors(self._own):
                written = _append_lines(self._own, lines)
        except TidalkinError:
            # Other processes may have read what was cut off. They notice, unless the file grows again.
            self._own = None
            raise
        self._read_bytes[self._own] = written
        for mark in marks:
            self._add(mark)

    def _new_file(self) -> Path:
        started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        name = f"{started}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}.jsonl"
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / name

    def all_marks(self) -> list[Mark]:
        """Return every mark and every undo, in the order of time."""
        with self._lock:
            return sorted(self._marks.values(), key=lambda mark: (mark.when, mark.uuid))

    def current(self) -> dict[int, dict[str, Mark]]:
        """Return the mark that counts, of each object and person; do not change it."""
        with self._lock:
            if self._current[0] != self.version:
                self._current = (self.version, current_marks(self.all_marks()))
            return self._current[1]

    def last_of(self, who: str, is_known: Callable[[int], bool] | None = None) -> Mark | None:
        """Return the last mark of a person on a known object, unless it is undone."""
        with self._lock:
            undone = {mark.undoes for mark in self._marks.values() if mark.undoes}
            own = [mark for mark in self.all_marks() if mark.who == who and not mark.undoes and mark.uuid not in undone]
            return next((mark for mark in reversed(own) if is_known is None or is_known(mark.object_id)), None)

    def undo_last(self, who: str, is_known: Callable[[int], bool] | None = None, **details: Any) -> Mark | None:
        """Undo the last mark of a person, and return that mark.

        No other thread can undo the same mark. A request whose uuid is known is answered as before.

        Parameters
        ----------
        who : str
            The person.
        is_known : callable, optional
            Whether an object can be judged. Marks of other objects stay.
        **details
            Other fields of the new line.

        Returns
        -------
        Mark or None
            None where there is no mark to undo.
        """
        with self._lock:
            self.refresh()
            before = self._marks.get(details.get("uuid", ""))
            if before is not None:
                return self._marks.get(before.undoes)
            last = self.last_of(who, is_known)
            if last is not None:
                self.append(new_mark(last.object_id, "", who, undoes=last.uuid, **details))
            return last


def current_marks(marks: Sequence[Mark]) -> dict[int, dict[str, Mark]]:
    """Return the mark that counts, of each object and person.

    Parameters
    ----------
    marks : sequence of Mark
        In the order of time.

    Examples
    --------
    >>> first, second = new_mark(42, "not", "ada"), new_mark(42, "tidal", "ada")
    >>> current_marks([first, second])[42]["ada"].label
    'tidal'
    >>> undo = new_mark(42, "", "ada", undoes=second.uuid)
    >>> current_marks([first, second, undo])[42]["ada"].label
    'not'
    """
    undone = {mark.undoes for mark in marks if mark.undoes}
    current: dict[int, dict[str, Mark]] = {}
    for mark in marks:
        if not mark.undoes and mark.uuid not in undone:
            current.setdefault(mark.object_id, {})[mark.who] = mark
    return current


@dataclass(frozen=True)
class Verdict:
    """The joint judgement of all persons on one galaxy."""

    object_id: int
    label: str
    """The label of all who are sure, the positive label where kinds differ, or empty where people disagree."""
    is_positive: bool | None
    """None where people disagree or nobody is sure: no ranking learns from it."""
    disagreement: bool
    marks: tuple[Mark, ...]


def verdicts(current: dict[int, dict[str, Mark]], labels: config.Explorer) -> list[Verdict]:
    """Join the marks of all persons into one verdict per galaxy, by object_id.

    An unsure person does not outvote one who is sure. A label that was removed from the configuration keeps its
    name, and no ranking learns from it.

    Examples
    --------
    >>> ada, bob = new_mark(7, "tidal", "ada"), new_mark(7, "unsure", "bob")
    >>> verdict = verdicts({7: {"ada": ada, "bob": bob}}, config.Explorer())[0]
    >>> verdict.label, verdict.is_positive, verdict.disagreement
    ('tidal', True, False)
    """
    return [_verdict(object_id, tuple(current[object_id].values()), labels) for object_id in sorted(current)]


def _verdict(object_id: int, marks: tuple[Mark, ...], labels: config.Explorer) -> Verdict:
    given = {mark.label for mark in marks}
    sure = given & {*labels.positives, labels.negative}
    positive = {label in labels.positives for label in sure}
    if len(positive) > 1:
        return Verdict(object_id, "", None, True, marks)
    if not positive:
        former = given - {labels.unsure}
        return Verdict(object_id, former.pop() if len(former) == 1 else labels.unsure, None, False, marks)
    label = next(iter(sure)) if len(sure) == 1 else labels.positive
    return Verdict(object_id, label, positive.pop(), False, marks)


def _append_lines(file: Path, lines: bytes) -> int:
    """Append lines, sync them to the disk, and return the file's size.

    If the disk refuses, the file is cut back to what it was.
    """
    is_new = not file.exists()
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    before = os.fstat(descriptor).st_size
    try:
        written = os.write(descriptor, lines)
        if written < len(lines):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, before)
        raise
    finally:
        os.close(descriptor)
    if is_new:
        _sync_folder(file.parent)
    return before + len(lines)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _line(mark: Mark) -> bytes:
    """Write a mark as a line, which `_parse` can read."""
    line = json.dumps(asdict(mark), ensure_ascii=False).encode(errors="surrogatepass") + b"\n"
    if _parse(line) is None:
        raise TidalkinError(f"the mark of object {mark.object_id} by {mark.who!r} cannot be kept: correct its values")
    return line


def _parse(line: bytes) -> Mark | None:
    """Read a mark from a line, or return None."""
    try:
        return _LINE.validate_json(line, strict=True)
    except ValueError:
        return None
