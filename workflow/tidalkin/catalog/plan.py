"""Plan a run before any job starts: how many galaxies, and which chunks hold them.

The plan lists a digest of each chunk's rows. Snakemake can then show the whole workflow in advance, and a catalog that
has grown fetches only its new chunks.

Every job reads the Snakefile again, and the Snakefile plans with this module. Modules that import pandas and astropy
are therefore imported only where a table must be read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidalkin.config import Settings, config_digest
from tidalkin.errors import TidalkinError

PLAN = b"tidalkin_plan"
MADE_FROM = b"tidalkin_made_from"
"""Keys of the checked catalog's metadata."""


@dataclass(frozen=True)
class Plan:
    """What there is to fetch."""

    galaxies: int
    chunks: Mapping[str, str]
    """Digest of the rows of each chunk, by its name."""


def made_from(settings: Settings, table: str | Path) -> str:
    """Digest of all that a catalog, and its division into chunks, are made from.

    Of a folder, a set of images with its own catalog that may have terabytes, the names, sizes and times of its files.
    """
    try:
        if Path(table).is_dir():
            files = [(path, path.stat()) for path in sorted(Path(table).rglob("*.hdf5"))]
            content: Any = [(str(path), status.st_size, status.st_mtime_ns) for path, status in files]
        else:
            with Path(table).open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TidalkinError(f"catalog {table}: cannot be read ({error.strerror}): correct catalog.path") from None
    return config_digest(settings.catalog.content(), settings.cutouts.source, content)
