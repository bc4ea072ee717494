"""Sources of cutouts that other packages add, and their settings."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ValidationError

from tidalkin.config.base import Section

ENTRY_POINT_GROUP = "tidalkin.sources"


def outside_sources() -> dict[str, EntryPoint]:
    """Return the entry points of the sources that installed packages add, by name.

    Examples
    --------
    >>> "simulated" in outside_sources()  # a source of this package needs no entry point
    False
    """
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}


def outside_settings(entry: EntryPoint, values: Any) -> Section:
    """Check the settings of a source of another package.

    Parameters
    ----------
    entry : EntryPoint
        Names a class with the attribute ``Settings``, a `Section`: see `tidalkin.sources.base.SourceType`.
    values : Any
        The configuration's ``cutouts.<name>``.

    Raises
    ------
    ValueError
        If the class cannot be used, or a value is not allowed.

    Examples
    --------
    >>> nowhere = EntryPoint("survey", "no_such_package:Source", ENTRY_POINT_GROUP)
    >>> outside_settings(nowhere, {})
    Traceback (most recent call last):
        ...
    ValueError: source 'survey' cannot be used (No module named 'no_such_package'): reinstall the package that adds it,
    or correct its entry point 'no_such_package:Source'
    """
    try:
        model = entry.load().Settings
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"source {entry.name!r} cannot be used ({error}): reinstall the package that adds it, or correct its entry "
            f"point {entry.value!r}"
        ) from None
    if isinstance(values, model):
        return values
    if not isinstance(values, Mapping):
        raise ValueError(f"{entry.name} must hold settings, not {type(values).__name__}")
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join([entry.name, *map(str, first["loc"])])
        raise ValueError(f"{key}: {str(first['msg']).removeprefix('Value error, ')}") from None
