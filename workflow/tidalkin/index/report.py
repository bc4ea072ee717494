"""The report of an index: its kind, its size, and its recall against exact search."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from tidalkin import config
from tidalkin.errors import TidalkinError

REBUILD_HINT = "build the index again with `snakemake --forcerun index`"
RECALL_AIM = 0.95
RECALL_AT = 10


class Report(config.Section):
    """Description of an index: its input, its kind and its recall."""

    kind: str
    n: int
    dimensions: int
    index_bytes: int
    bytes_per_vector: float
    """Of index and ids, without the vectors, which are on disk."""
    n_rerank: int
    """Candidates re-ranked by exact similarity for each query; 0 for an exact index."""
    search_depth: int | None
    """Tuned ``nprobe`` of an inverted file, or ``efSearch`` of a graph; null for other kinds."""
    recall_at_10: float
    """Share of the 10 exact nearest neighbours found, the query itself not counted."""
    queries: int
    shards: tuple[str, ...]
    embeddings_digest: str
    config_digest: str
    tidalkin_version: str


def read_report(directory: str | Path) -> Report:
    """Read the report of an index.

    Raises
    ------
    TidalkinError
        If there is none, or it is damaged.

    Examples
    --------
    >>> read_report("no_such_run/index")
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: no_such_run/index: no index is here: build one with `snakemake --until index`
    """
    path = Path(directory) / "report.json"
    if not path.is_file():
        raise TidalkinError(f"{directory}: no index is here: build one with `snakemake --until index`")
    try:
        return Report.model_validate_json(path.read_text())
    except (ValidationError, UnicodeDecodeError):
        raise TidalkinError(f"{path}: is damaged or of another version of tidalkin: {REBUILD_HINT}") from None
