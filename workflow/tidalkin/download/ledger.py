"""The ledger of a chunk, with one row per object and band."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

import tidalkin
from tidalkin.errors import TidalkinError, first_line

LEDGER_SCHEMA = pa.schema(
    [
        ("object_id", pa.int64()),
        ("band", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("bytes", pa.int64()),
        ("checksum", pa.string()),
    ],
    metadata={"tidalkin": tidalkin.__version__},
)


def checksum(content: bytes) -> str:
    """Return the XXH3 digest of 128 bits, which detects damage on disk.

    The digest, in hexadecimal, does not detect a forgery. It is as fast as memory.

    Examples
    --------
    >>> checksum(b"a cutout") == checksum(b"another cutout")
    False
    """
    return xxhash.xxh3_128_hexdigest(content)


LedgerRow = tuple[int, str, str, str, int, str]
"""Object, band, status, reason, bytes and checksum."""


def read_ledger(path: str | Path) -> pd.DataFrame:
    """Read the ledger of a chunk.

    Returns
    -------
    pandas.DataFrame
        `object_id` (int64), `band`, `status`, `reason`, `bytes` (int64), `checksum`.

    Raises
    ------
    TidalkinError
        If the file cannot be read or is not a ledger.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "00000.ledger.parquet"
    ...     row = [[7], ["i"], ["absent"], ["outside the survey"], [0], [""]]
    ...     pq.write_table(pa.table(row, schema=LEDGER_SCHEMA), file)
    ...     read_ledger(file)[["object_id", "band", "status", "reason"]]
       object_id band  status              reason
    0          7    i  absent  outside the survey
    """
    try:
        ledger = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise TidalkinError(
            f"ledger {path} cannot be read ({first_line(error)}): delete it to fetch the chunk again"
        ) from None
    if ledger.column_names != LEDGER_SCHEMA.names:
        raise TidalkinError(f"{path} is not a ledger of cutouts: its columns are {', '.join(ledger.column_names)}")
    return ledger.to_pandas()
