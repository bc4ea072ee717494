"""Plan a run before any job starts: its galaxies, and the chunks that hold them.

A chunk's name holds a digest of everything that determines its cutouts: its rows, the source and the bands. Two
different chunks never share a file, so that Snakemake fetches a chunk if, and only if, its file is missing.

Every job reads the Snakefile again, and the Snakefile plans with this module. Modules that import pandas and astropy
are therefore imported only where a table must be read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidalkin.catalog.partition import chunk_names, shard_names
from tidalkin.config import Settings, config_digest
from tidalkin.errors import TidalkinError

DIGESTS = b"tidalkin_chunk_digests"
MADE_FROM = b"tidalkin_made_from"
"""Keys of the checked catalog's metadata."""

FETCH_VERSIONS = {"folder": 2}
"""Version of each source's cutouts, 1 for a source that is not named.

Raise it if a change of the code changes the cutouts. They are then fetched again."""


@dataclass(frozen=True)
class CatalogDigests:
    """Digests of a catalog's rows, stored as metadata in the checked catalog."""

    galaxies: int
    chunks: tuple[str, ...]
    """For each chunk, a digest of the columns used to request its cutouts."""
    objects: tuple[str, ...]
    """For each chunk, a digest of the columns that the conversion reads."""


@dataclass(frozen=True)
class Plan:
    """The galaxies of a run and the chunks that hold them."""

    galaxies: int
    chunks: tuple[str, ...]
    """Names, in the order of the catalog: a number and a digest, like `00003-5f0c1a92be`."""
    objects: tuple[str, ...]
    """For each chunk, a digest of the catalog columns that the conversion reads."""

    @property
    def digest(self) -> str:
        """Digest of the whole plan."""
        return config_digest(self.chunks, self.objects)


def plan_chunks(settings: Settings, digests: CatalogDigests) -> Plan:
    """Name the chunks of a catalog.

    Parameters
    ----------
    settings : Settings
        The configuration of the run.
    digests : CatalogDigests
        The digests of the catalog's rows.

    Returns
    -------
    Plan
        A chunk has the same name in two runs if its cutouts have the same bytes.

    Examples
    --------
    >>> settings = Settings(catalog={"chunk_size": 300}, cutouts={"simulated": {"galaxies": 700}})
    >>> plan = plan_chunks(settings, simulated_digests(settings))
    >>> plan.galaxies, [name.split("-")[0] for name in plan.chunks]
    (700, ['00000', '00001', '00002'])
    """
    version = FETCH_VERSIONS.get(settings.cutouts.source, 1)
    asked = [version, settings.cutouts.content()]
    if settings.cutouts.source == "simulated":
        asked.append(settings.seed)
    numbers = chunk_names(len(digests.chunks), 1)
    names = [f"{n}-{config_digest(rows, *asked)[:10]}" for n, rows in zip(numbers, digests.chunks, strict=True)]
    return Plan(digests.galaxies, tuple(names), digests.objects)


def shard_digests(settings: Settings, plan: Plan, versions: Sequence[int]) -> dict[str, str]:
    """Digest what decides the images and the vectors of each shard.

    The encoder and the whitening, which also decide the vectors, are left out.

    Parameters
    ----------
    settings : Settings
        The configuration of the run.
    plan : Plan
        Its galaxies and chunks.
    versions : sequence of int
        Versions of the code that makes images and vectors.

    Returns
    -------
    dict
        By the name of the shard. Appended rows change the digests of the last shards alone.

    Examples
    --------
    >>> settings = Settings(catalog={"chunk_size": 300}, images={"shard_size": 512})
    >>> before = Plan(700, ("a", "b", "c"), ("x", "y", "z"))
    >>> after = Plan(900, ("a", "b", "d"), ("x", "y", "w"))  # with 200 galaxies more
    >>> old, new = (shard_digests(settings, plan, versions=[1]) for plan in (before, after))
    >>> [shard for shard in new if new[shard] != old[shard]]
    ['00001']
    """
    size = settings.images.shard_size
    made_with = config_digest([*versions], settings.images, settings.embedding)
    digests = {}
    for i, shard in enumerate(shard_names(plan.galaxies, size)):
        chunks = _chunks_of_shard(settings, plan, i)
        rows = [i * size, min((i + 1) * size, plan.galaxies)]
        digests[shard] = config_digest(made_with, rows, plan.chunks[chunks], plan.objects[chunks])
    return digests


def chunks_of_shard(settings: Settings, plan: Plan, shard: str) -> tuple[str, ...]:
    """Name the chunks that hold the galaxies of a shard.

    Examples
    --------
    >>> settings = Settings(catalog={"chunk_size": 300}, images={"shard_size": 512})
    >>> chunks_of_shard(settings, Plan(700, ("a", "b", "c"), ("x", "y", "z")), "00001")
    ('b', 'c')
    """
    return plan.chunks[_chunks_of_shard(settings, plan, int(shard))]


def _chunks_of_shard(settings: Settings, plan: Plan, shard: int) -> slice:
    size, per_chunk = settings.images.shard_size, settings.catalog.chunk_size
    return slice(shard * size // per_chunk, -(-min((shard + 1) * size, plan.galaxies) // per_chunk))


def made_from(settings: Settings, table: str | Path) -> str:
    r"""Digest everything that determines a catalog and its division into chunks.

    The path of the table is left out. A folder may hold terabytes, so the names, sizes and times of its files stand
    for their content.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder) / "galaxies.csv"
    ...     _ = table.write_text("object_id,ra,dec\n7,150.1,2.2\n")
    ...     made_from(Settings(seed=1), table) == made_from(Settings(seed=2), table)  # the seed does not count
    True
    """
    try:
        if Path(table).is_dir():
            files = [(path, path.stat()) for path in sorted(Path(table).rglob("*.hdf5"))]
            content: Any = [
                (str(path.relative_to(table)), status.st_size, status.st_mtime_ns) for path, status in files
            ]
        else:
            with Path(table).open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TidalkinError(f"catalog {table}: cannot be read ({error.strerror}): correct catalog.path") from None
    catalog = settings.catalog
    labels = list(catalog.label_from.items())  # their order counts
    return config_digest(catalog.source, catalog.columns, labels, catalog.chunk_size, settings.cutouts.source, content)


def simulated_digests(settings: Settings) -> CatalogDigests:
    """Digest the simulated survey, whose galaxies follow from its configuration and the seed.

    Examples
    --------
    >>> settings = Settings(catalog={"chunk_size": 300}, cutouts={"simulated": {"galaxies": 700}})
    >>> digests = simulated_digests(settings)
    >>> digests.galaxies, len(digests.chunks)
    (700, 3)
    """
    galaxies, size = settings.cutouts.simulated.galaxies, settings.catalog.chunk_size
    ranges = [(i * size, min((i + 1) * size, galaxies)) for i in range(len(chunk_names(galaxies, size)))]
    survey = config_digest(settings.cutouts.simulated, settings.seed)
    return CatalogDigests(galaxies, tuple(config_digest(one) for one in ranges), (survey,) * len(ranges))
