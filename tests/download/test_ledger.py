"""A ledger is read only if it is one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tidalkin.download.ledger import read_ledger
from tidalkin.errors import TidalkinError


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(TidalkinError, match=r"text.parquet cannot be read"):
        read_ledger(tmp_path / "text.parquet")


def test_a_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"object_id": [7], "ra": [1.0], "dec": [0.0]}).to_parquet(tmp_path / "catalog.parquet")
    with pytest.raises(TidalkinError, match="is not a ledger of cutouts: its columns are object_id, ra, dec"):
        read_ledger(tmp_path / "catalog.parquet")
