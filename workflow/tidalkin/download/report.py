"""Progress of a run's download: cutouts, failures, rate and time left.

The report is made from the run's files: chunks, ledgers, and the requests that each chunk's job records. It can be made
at any time, even during the download, on any machine that sees these files.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from tidalkin.atomic import atomic_path, finished_files
from tidalkin.download.journal_file import JOURNAL, REQUESTS, count_stored
from tidalkin.download.ledger import read_ledger
from tidalkin.download.tar import journal_folder
from tidalkin.errors import TidalkinError

REQUEST_COLUMNS = {"started": "float64", "seconds": "float64", "received": "int64", "bytes": "int64", "fault": "object"}
RECENT_REQUESTS = 200
"""Requests over which the rate is measured: enough to average, few enough to follow the server."""


@dataclass(frozen=True)
class ChunkReport:
    """One chunk of the run."""

    chunk: str
    state: str
    """`done`, `under way` or `waiting`."""
    objects: int
    complete: int
    """Objects with a cutout in every band."""
    cutouts: int
    """Stored cutouts; in a chunk under way, those on disk."""
    absent: int
    failed: int
    bytes: int


@dataclass(frozen=True)
class DownloadReport:
    """The download of one run."""

    chunks: list[ChunkReport]
    reasons: dict[str, int]
    """Number of failed cutouts by reason."""
    faults: dict[str, int]
    """Faults of requests, most of which a later request made good."""
    cutouts_per_second: float
    bytes_per_second: float
    seconds_left: float | None
    """None if nothing is left, or nothing has come yet."""

    @property
    def objects(self) -> int:
        """Objects of the run."""
        return sum(chunk.objects for chunk in self.chunks)

    def total(self, column: str) -> int:
        """Return the sum of a column over the chunks."""
        return sum(getattr(chunk, column) for chunk in self.chunks)


def failed_chunks(run: str | Path) -> list[str]:
    """List the chunks whose ledger names a failed cutout.

    Fetched again, they request only missing cutouts.

    Parameters
    ----------
    run : str or Path
        The run's folder, ``results/<run>``.

    Examples
    --------
    >>> import tempfile
    >>> from tidalkin.cutouts.base import Cutout
    >>> from tidalkin.download.tar import write_chunk
    >>> cutouts, objects = [Cutout(7, "i", "failed", reason="HTTP 500")], pd.DataFrame({"object_id": [7]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     chunk = f"{folder}/cutouts/00003-5f0c1a92be"
    ...     _ = write_chunk(cutouts, objects, ["i"], f"{chunk}.tar", f"{chunk}.ledger.parquet")
    ...     failed_chunks(folder)
    ['00003-5f0c1a92be']
    """
    return [
        path.name.split(".")[0]
        for path in finished_files(Path(run) / "cutouts", "*.ledger.parquet")
        if (read_ledger(path)["status"] == "failed").any()
    ]


def download_report(run: str | Path, bands: Sequence[str]) -> DownloadReport:
    """Report the progress of a run's download.

    Parameters
    ----------
    run : str or Path
        The run's folder, ``results/<run>``.
    bands : sequence of str
        The bands that are downloaded.

    Raises
    ------
    TidalkinError
        If the run has no chunks yet.

    Examples
    --------
    >>> download_report("no_such_run", ["g", "i"])
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: no_such_run holds no chunks/*.parquet: run the workflow up to its catalog first
    """
    run = Path(run)
    paths = finished_files(run / "chunks", "*.parquet")
    if not paths:
        raise TidalkinError(f"{run} holds no chunks/*.parquet: run the workflow up to its catalog first")
    reasons: Counter[str] = Counter()
    chunks = [_chunk(run, path, reasons) for path in paths]
    requests = _requests(run, [path.stem for path in paths])
    recent = requests.sort_values("started").tail(RECENT_REQUESTS)
    span = float((recent["started"] + recent["seconds"]).max() - recent["started"].min()) if len(recent) else 0.0
    rate = float(recent["received"].sum()) / span if span else 0.0
    report = DownloadReport(
        chunks=chunks,
        reasons=dict(reasons.most_common()),
        faults=dict(Counter(requests["fault"].dropna().map(_kind_of_fault)).most_common()),
        cutouts_per_second=rate,
        bytes_per_second=float(recent["bytes"].sum()) / span if span else 0.0,
        seconds_left=None,
    )
    known = sum(report.total(column) for column in ("cutouts", "absent", "failed"))
    left = report.objects * len(bands) - known
    return DownloadReport(**(vars(report) | {"seconds_left": left / rate if left and rate else None}))


def _chunk(run: Path, path: Path, reasons: Counter[str]) -> ChunkReport:
    """Report one chunk, and count the reasons of its failures in ``reasons``."""
    name, n_objects = path.stem, pq.read_metadata(path).num_rows
    tar = run / "cutouts" / f"{name}.tar"
    ledger_path = tar.with_suffix(".ledger.parquet")
    if not ledger_path.exists():
        n_here = count_stored(journal_folder(tar) / JOURNAL)
        return ChunkReport(name, "under way" if n_here else "waiting", n_objects, 0, n_here, 0, 0, 0)
    ledger = read_ledger(ledger_path)
    counts = ledger["status"].value_counts()
    reasons.update(_kind_of_fault(reason) for reason in ledger.loc[ledger["status"] == "failed", "reason"])
    complete = int((ledger["status"] == "ok").groupby(ledger["object_id"]).all().sum())
    here, absent, failed = (int(counts.get(status, 0)) for status in ("ok", "absent", "failed"))
    return ChunkReport(name, "done", n_objects, complete, here, absent, failed, int(ledger["bytes"].sum()))


def _requests(run: Path, names: Sequence[str]) -> pd.DataFrame:
    """Read the requests of all chunks."""
    paths = [journal_folder(run / "cutouts" / f"{name}.tar") / REQUESTS for name in names]
    tables = [_read_requests(path) for path in paths if path.exists()]
    return pd.concat([pd.DataFrame(columns=list(REQUEST_COLUMNS)).astype(REQUEST_COLUMNS), *tables], ignore_index=True)


def _read_requests(path: Path) -> pd.DataFrame:
    """Read one chunk's requests, without torn lines.

    A full disk or a kill can tear lines.
    """
    try:
        table = pd.read_csv(path, dtype="str", on_bad_lines="skip", encoding_errors="replace")
    except pd.errors.EmptyDataError:
        table = pd.DataFrame()
    table = table.reindex(columns=list(REQUEST_COLUMNS))
    numbers = table.columns.drop("fault")
    table[numbers] = table[numbers].apply(pd.to_numeric, errors="coerce")
    return table.dropna(subset=numbers).astype(REQUEST_COLUMNS)


def _kind_of_fault(fault: str) -> str:
    """Return a fault without names and long numbers, so that equal faults are counted together."""
    return re.sub(r"'[^']*'|\b\d{4,}\b", "…", fault)


def write_report(report: DownloadReport, csv_path: str | Path, json_path: str | Path) -> None:
    """Write the chunks as a table (CSV) and the sums, reasons and rates as JSON.

    Examples
    --------
    >>> import tempfile
    >>> chunk = ChunkReport("00000", "done", objects=2, complete=1, cutouts=3, absent=1, failed=0, bytes=120_000)
    >>> report = DownloadReport([chunk], {}, {}, 2.0, 80_000.0, None)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(report, f"{folder}/chunks.csv", f"{folder}/report.json")
    ...     json.loads((Path(folder) / "report.json").read_text())["complete"]
    1
    """
    with atomic_path(csv_path) as path:
        pd.DataFrame([asdict(chunk) for chunk in report.chunks]).to_csv(path, index=False)
    sums = {name: report.total(name) for name in ("objects", "complete", "cutouts", "absent", "failed", "bytes")}
    rest = {name: value for name, value in vars(report).items() if name != "chunks"}
    with atomic_path(json_path) as path:
        path.write_text(json.dumps(sums | rest, indent=2) + "\n")


def print_report(report: DownloadReport, run: Path, console: Console) -> None:
    """Print the report of a run for a person.

    Examples
    --------
    >>> chunk = ChunkReport("00000", "done", objects=2, complete=1, cutouts=3, absent=1, failed=0, bytes=120_000)
    >>> report = DownloadReport([chunk], {}, {}, 2.0, 80_000.0, None)
    >>> print_report(report, Path("results/demo"), Console(width=80, color_system=None))
                             Download
    ┌───────────────────────┬────────────────────────────────┐
    │ chunks                │ 1 done                         │
    │ objects complete      │ 1 of 2                         │
    │ cutouts here          │ 3 (0.00 GB in finished chunks) │
    │ absent in the archive │ 1                              │
    │ failed                │ 0                              │
    │ rate                  │ 2.0 cutouts/s, 0.08 MB/s       │
    └───────────────────────┴────────────────────────────────┘
    """
    states = Counter(chunk.state for chunk in report.chunks)
    table = Table(title="Download", show_header=False)
    table.add_row("chunks", ", ".join(f"{number} {state}" for state, number in sorted(states.items())))
    table.add_row("objects complete", f"{report.total('complete')} of {report.objects}")
    table.add_row(
        "cutouts here", f"{report.total('cutouts')} ({report.total('bytes') / 1e9:.2f} GB in finished chunks)"
    )
    table.add_row("absent in the archive", str(report.total("absent")))
    table.add_row("failed", str(report.total("failed")))
    table.add_row("rate", f"{report.cutouts_per_second:.1f} cutouts/s, {report.bytes_per_second / 1e6:.2f} MB/s")
    if report.seconds_left is not None:
        table.add_row("time left", f"{report.seconds_left / 3600:.1f} h at this rate")
    for title, counts in (("failed", report.reasons), ("fault", report.faults)):
        for reason, number in counts.items():
            table.add_row(f"{title}, {number} times", reason)
    console.print(table)
    if report.reasons:
        again = f"tidalkin retry-failed --run {run} --configfile <the run's>"
        console.print(f"`{again}` requests the failed cutouts again.", soft_wrap=True)
