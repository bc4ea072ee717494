"""Write times in one spelling, whose alphabetical order is that of the times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial

from dateutil import parser

LAST_YEAR = 9998
"""A year later, adding a microsecond may leave the range of Python's dates."""
TICK = timedelta(microseconds=1)
UTC_NAMES = ("UTC", "GMT", "Z")
FILLINGS = (datetime(2000, 1, 1), datetime(2001, 2, 2))
"""What stands in for missing parts. A text that gives two times with these lacks its year, month or day."""


def utc_time(text: str) -> str:
    """Rewrite a time as UTC, ISO 8601 with microseconds.

    A time without an offset is taken as UTC.

    Parameters
    ----------
    text : str
        ISO 8601, or another unambiguous spelling.

    Raises
    ------
    ValueError
        If the text is not a time, lacks the year, month or day, has an unknown time zone, or has two readings.

    Examples
    --------
    >>> utc_time("2026-05-05T10:00:00+09:00")
    '2026-05-05T01:00:00.000000+00:00'
    >>> utc_time("5 May 2026")
    '2026-05-05T00:00:00.000000+00:00'
    >>> utc_time("05/06/2026")
    Traceback (most recent call last):
        ...
    ValueError: time '05/06/2026' is not one clear date: write it like 2026-05-31 or 2026-05-31T13:45:00Z
    """
    readings = _readings(text.strip())
    if len(readings) != 1:
        raise ValueError(f"time {text!r} is not one clear date: write it like 2026-05-31 or 2026-05-31T13:45:00Z")
    return readings.pop()


def now(after: str = "") -> str:
    """Return the present time, or the time just after a later one.

    Examples
    --------
    >>> now(after="2999-01-01T00:00:00.000000+00:00")
    '2999-01-01T00:00:00.000001+00:00'
    """
    present = datetime.now(UTC)
    return _spelled(max(present, datetime.fromisoformat(after) + TICK) if after else present)


def _readings(text: str) -> set[str]:
    """Return all times that a text may mean."""
    try:
        if text.isdigit() and len(text) != len("20260531"):
            return set()  # seconds since some epoch, or a serial number
        try:
            return {_spelled(datetime.fromisoformat(text))}
        except ValueError:
            pass
        # dateutil swaps month and day of a date that begins with the year, too, where no one means it.
        begins_with_year = text[:4].isdigit()
        read = partial(parser.parse, text, tzinfos=_zone)
        return {
            _spelled(read(dayfirst=dayfirst, default=filling))
            for dayfirst in ({False} if begins_with_year else {False, True})
            for filling in FILLINGS
        }
    except (ValueError, OverflowError):
        return set()


def _zone(name: str | None, offset: int | None) -> tzinfo | int | None:
    """Return the zone of a time, unless it is known by its name only."""
    if offset is None and name is not None and name.upper() not in UTC_NAMES:
        raise ValueError(f"time zone {name} is not known")
    return UTC if name is not None and offset is None else offset


def _spelled(time: datetime) -> str:
    if time.year > LAST_YEAR:
        raise ValueError(f"year {time.year} is too late")
    utc = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return utc.isoformat(timespec="microseconds")
