"""The shipped queries select clean galaxies from a small database with HSC's columns."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from tidalkin.constants import FWHM_PER_SIGMA
from tidalkin.sources.hsc.psf import with_psf_fwhm
from tidalkin.sources.hsc.sql import counting

BANDS = "grizy"
QUERIES = {"pdr3_wide_galaxies": "pdr3_wide", "pdr2_ultradeep_tidal": "pdr2_dud"}


def columns_of(sql: str) -> list[str]:
    """List each column that the query names."""
    names = set(re.findall(r"\b(?:[grizy]_\w+|a_[grizy]|isprimary|ra|dec|tract|patch)\b", re.sub("--.*", "", sql)))
    return sorted(names)


def good_galaxy(columns: list[str], object_id: int) -> dict[str, float]:
    """Return a galaxy that passes every cut."""
    row: dict[str, float] = dict.fromkeys(columns, 0)
    row |= {"object_id": object_id, "ra": 150.0, "dec": 2.0, "tract": 9813, "patch": 405, "isprimary": 1}
    row |= {f"{band}_inputcount_value": 4 for band in BANDS} | {"i_extendedness_value": 1, "i_cmodel_mag": 18.0}
    row |= {f"{band}_sdssshape_psf_shape{axes}": 0.0625 for band in BANDS for axes in ("11", "22")}
    return row


def spoiled(columns: list[str]) -> list[tuple[str, float]]:
    """List one change for each cut; each must lose the galaxy."""
    flags = [
        (name, 1) for name in columns if "pixelflags" in name or "mask_brightstar" in name or name.endswith("_flag")
    ]
    shallow = [(f"{band}_inputcount_value", 2) for band in BANDS]
    return [*flags, *shallow, ("isprimary", 0), ("i_extendedness_value", 0), ("i_cmodel_mag", 25.0)]


@pytest.mark.parametrize("name", QUERIES)
def test_a_ready_query_selects_clean_galaxies_with_their_psf(root: Path, name: str) -> None:
    sql = (root / "config" / "queries" / f"{name}.sql").read_text()
    columns = columns_of(sql)
    rows = [good_galaxy(columns, 2), good_galaxy(columns, 1)]
    rows += [good_galaxy(columns, 10 + i) | {key: value} for i, (key, value) in enumerate(spoiled(columns))]
    assert len(rows) > 40
    database = sqlite3.connect(":memory:")
    schema = QUERIES[name]
    database.execute(f"ATTACH ':memory:' AS {schema}")
    psf = [column for column in columns if "sdssshape" in column]
    masks = [column for column in columns if "mask_brightstar" in column]
    forced = [column for column in columns if column not in psf + masks]
    table = pd.DataFrame(rows)
    for part, names in (("forced", forced), ("forced2", psf), ("forced3", []), ("masks", masks)):
        database.execute(f"CREATE TABLE {schema}.{part} (object_id, {', '.join([*names, 'unused'])})")
        for values in table[["object_id", *names]].itertuples(index=False):
            database.execute(f"INSERT INTO {schema}.{part} VALUES ({', '.join('?' * (len(names) + 2))})", [*values, 0])
    found = pd.read_sql_query(sql, database)
    assert found["object_id"].tolist() == [1, 2]
    assert {"ra", "dec", "tract", "patch"} <= set(found.columns)
    with_psf = with_psf_fwhm(found)
    for band in BANDS:
        assert with_psf[f"psf_fwhm_{band}"].tolist() == pytest.approx([FWHM_PER_SIGMA * 0.25] * 2)
    assert database.execute(counting(sql)).fetchone() == (2,)
