"""The report of an index: its kind, its size, and its recall against exact search."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from tidalkin import config
from tidalkin.errors import TidalkinError

RECALL_AIM = 0.95
RECALL_AT = 10


class Report(config.Section):
    """What was built from what, and how well and how fast it answers."""

    kind: str
    n: int
    dimensions: int
    index_bytes: int
    bytes_per_vector: float
    """Of index and ids, without the vectors, which are on disk."""
    candidates: int
    """Candidates that are ranked again by their exact similarity; 0 for an index that is exact itself."""
    breadth: int | None
    """Lists of an inverted file (nprobe), or nodes of a graph (efSearch), that a query looks into."""
    recall_at_10: float
    """Share of the 10 exact nearest neighbours found, the query itself not counted."""
    queries: int
    latency_p50_ms: float
    latency_p99_ms: float
    shards: tuple[str, ...]
    embeddings_digest: str
    config_digest: str
    tidalkin_version: str


def read_report(directory: str | Path) -> Report:
    """The report of an index.

    Raises
    ------
    TidalkinError
        If there is none, or it is damaged.
    """
    path = Path(directory) / "report.json"
    mend = "make it with `snakemake --until index`"
    if not path.is_file():
        raise TidalkinError(f"{directory}: no index is here: {mend}")
    try:
        return Report.model_validate_json(path.read_text())
    except (ValidationError, UnicodeDecodeError):
        raise TidalkinError(f"{path}: is damaged or of another tidalkin: {mend}") from None
