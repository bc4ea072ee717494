"""The settings that a rule of the workflow declares, and that its script may read.

A rule names the keys that decide its output, as in
``params: settings=uses("stretch", "embedding.crop")``. Snakemake compares these values with those of the last run, and
runs the job again if they differ. The script gets the same keys and no others, so that nothing can change a result
without running the job again.

Keys that control how, not what, is computed are never declared. A script may read them at any time. They are
the section `compute`, and the keys that a section lists in `HOW`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidalkin.config.base import Section
from tidalkin.config.settings import Settings


def declare(settings: Settings, *keys: str) -> Declared:
    """Take the values that decide an output, as plain Python objects.

    Parameters
    ----------
    settings : Settings
        The configuration of the run.
    *keys : str
        Sections (``"stretch"``) or single keys of one (``"embedding.crop"``, ``"search.queries.first"``).

    Returns
    -------
    Declared
        The value of each key. Of a section, the keys that control only how it is computed are left out, and so are new
        keys with which it is computed as before.

    Examples
    --------
    >>> declare(Settings(), "seed", "embedding.crop", "stretch")["seed"]
    1
    """
    return Declared({key: _content(settings, key) for key in keys})


class Declared(dict[str, Any]):
    """The settings that a rule declares, by key.

    Snakemake compares the text of two of them. It leaves out a section with nothing in it: a section that a release has
    added and that changes no result.
    """

    def __repr__(self) -> str:
        """Return the text that Snakemake compares."""
        return repr({key: value for key, value in self.items() if value != {}})


def _content(settings: Settings, key: str) -> Any:
    value: Any = settings
    for name in key.split("."):
        value = value[name] if isinstance(value, Mapping) else getattr(value, name)
    return value.content() if isinstance(value, Section) else value


class DeclaredSettings:
    """The part of a configuration that one script may read.

    It holds the keys that the script's rule declares, and `compute`.

    Parameters
    ----------
    settings : Settings
        The configuration of the run.
    declared : mapping
        From `declare`, through the rule's ``params``.
    """

    def __init__(self, settings: Settings, declared: Mapping[str, Any]) -> None:
        self._settings = settings
        self._declared = declared

    def __getattr__(self, name: str) -> Any:
        """Give a section of the configuration, or the seed."""
        if name.startswith("_"):
            raise AttributeError(name)
        if name == "compute" or name in self._declared:
            return getattr(self._settings, name)
        keys = [key.removeprefix(f"{name}.") for key in self._declared if key.startswith(f"{name}.")]
        if not keys:
            raise AttributeError(f"the rule does not declare `{name}` in its `params: settings=uses(...)`")
        return _restricted(getattr(self._settings, name), keys)


def _restricted(section: Section, keys: Sequence[str]) -> Section:
    """Copy a section with some of its keys; the others have their defaults.

    Keys that only control how a result is computed are copied, too.
    """
    values: dict[str, Any] = {name: getattr(section, name) for name in section.HOW}
    for name in dict.fromkeys(key.partition(".")[0] for key in keys):
        value = getattr(section, name)
        inner = [key.removeprefix(f"{name}.") for key in keys if key.startswith(f"{name}.")]
        if name in keys:
            values[name] = value
        elif isinstance(value, Mapping):
            values[name] = {key: value[key] for key in inner}
        else:
            values[name] = _restricted(value, inner)
    return type(section).model_construct(**values)
