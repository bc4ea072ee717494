"""Interface of a kind of source: how one is opened from the configuration.

A package adds a source by an entry point of the group ``tidalkin.sources`` that names such a class. In its
``pyproject.toml``::

    [project.entry-points."tidalkin.sources"]
    my_survey = "my_package:MySource"

The configuration then accepts ``cutouts.source: my_survey``, and ``cutouts.my_survey`` with the keys of
``MySource.Settings``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tidalkin.config import Cutouts
from tidalkin.cutouts.base import Source

if TYPE_CHECKING:
    from tidalkin.download.credentials import Account


@dataclass(frozen=True)
class SourceContext:
    """Inputs of a source beside the configuration of the cutouts."""

    seed: int
    """Seed of the run; only the simulated survey uses it."""
    folder: Path
    """Folder of the chunk, in which an interrupted download finds its stored cutouts."""
    account: Account | None = None
    """Credentials; by default, a source that needs them looks for them."""
    lock_folder: Path | None = None
    """Where the limit on connections is kept; by default, in the user's cache directory."""


class SourceType(Protocol):
    """A kind of source.

    A class of another package also has the attribute ``Settings``, a `tidalkin.config.Section`.
    """

    def open(self, cutouts: Cutouts, context: SourceContext) -> Source:
        """Open the source for one chunk; a class method.

        Parameters
        ----------
        cutouts : Cutouts
            The configuration's section. ``cutouts.outside[name]`` holds the settings of a source of another package.
        context : SourceContext
            Seed, folder and credentials.

        Raises
        ------
        TidalkinError
            If the source cannot be used: there is no such folder, for example.
        """
        ...
