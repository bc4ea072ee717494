"""Configuration of the catalog: the galaxies of a run."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from tidalkin.config.address import WebAddress
from tidalkin.config.base import NonNegative, Positive, Section


class CatalogServer(Section):
    """HSC's catalog server (CAS), with `source: hsc_sql`. Credentials come from the environment or ~/.netrc."""

    url: WebAddress = Field(
        "https://hsc-release.mtk.nao.ac.jp/datasearch/api/catalog_jobs", description="Base address of the server."
    )
    maximum_rows: int = Field(
        2_000_000, ge=1, description="A query that finds more rows than this is refused before it is sent in full."
    )
    skip_syntax_check: bool = Field(False, description="Skip the server's syntax check, which can time out (HTTP 502).")
    attempts: int = Field(8, ge=1, le=100, description="Attempts of one request to the server.")
    backoff_seconds: Positive = Field(10.0, description="First wait after a fault, seconds; it doubles with each try.")
    backoff_maximum_seconds: Positive = Field(600.0, description="Longest such wait, seconds.")
    timeout_seconds: Positive = Field(300.0, description="Longest time without data from the server, seconds.")
    minimum_bytes_per_second: NonNegative = Field(
        100.0, description="A response slower than this, over `timeout_seconds`, is dropped and requested again."
    )
    poll_seconds: Positive = Field(300.0, description="Longest pause between two checks of the job's status, seconds.")
    wait_seconds: Positive = Field(86_400.0, description="Longest time to wait for a job before giving up, seconds.")


class Catalog(Section):
    """The galaxies of a run."""

    # What these lead to decides the catalog, its rows, and that is compared (`tidalkin.catalog.plan`).
    HOW: ClassVar[frozenset[str]] = frozenset({"path", "query", "columns", "server"})

    source: Literal["simulated", "file", "hsc_sql"] = Field(
        "simulated",
        description="`simulated` draws galaxies, `file` reads `path`, `hsc_sql` queries HSC's catalog server.",
    )
    path: str | None = Field(
        None,
        description="With `source: file`: a CSV, FITS, VOTable or Parquet file, or the folder of the Multimodal "
        "Universe's HSC set, which has its own catalog.",
    )
    query: str | None = Field(None, description="File with the SQL, with `source: hsc_sql`.")
    rerun: Literal["pdr1", "pdr2", "pdr2-citus", "pdr3", "pdr3-citus", "pdr3-citus-columnar"] = Field(
        "pdr3", description="Release that the SQL is sent to, with `source: hsc_sql`."
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Names of your columns, if the usual aliases do not find them: `{object_id: MY_ID}`.",
    )
    label_from: dict[str, str] = Field(
        default_factory=dict,
        description="Labels by conditions on numeric columns: `{tail: 'tail > 0.5', none: 'tail < 0.2'}`. The first "
        "condition that is true decides, and a galaxy that fulfils none has no label. A condition has comparisons, "
        "`and`, `or`, `not`, `+ - * /` and parentheses.",
    )
    chunk_size: int = Field(
        500, ge=1, le=100_000, description="Galaxies per chunk. A chunk is one download job and one tar."
    )
    server: CatalogServer = CatalogServer()

    @model_validator(mode="after")
    def _source_has_what_it_needs(self) -> Self:
        if self.source == "file" and not self.path:
            raise ValueError("source `file` needs `path`: name your catalog file")
        if self.source == "hsc_sql" and not self.query:
            raise ValueError("source `hsc_sql` needs `query`: name the file that holds the SQL")
        if self.source == "simulated" and self.label_from:
            raise ValueError("`label_from` needs a table: the simulated survey brings its own labels")
        for ours, theirs in self.columns.items():
            others = [name for name in self.columns if name != ours and self.columns[name] == theirs]
            if others:
                raise ValueError(
                    f"columns names {theirs!r} for both {ours} and {others[0]}, but a column has one use: name another "
                    "one for one of them"
                )
        return self
