"""Which galaxies: read the user's table, check it, and split it into chunks that stay the same while it grows.

A checked catalog is a data frame with `object_id` (int64, unique), `ra` and `dec` (float64, degrees, ICRS), then the
user's own columns as they are, among them an optional `label` and `psf_fwhm_<band>` (arcsec).
"""

from __future__ import annotations

import logging
import re
import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from xml.parsers.expat import ExpatError

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from astropy import units
from astropy.table import Table

import tidalkin
from tidalkin.atomic import atomic_path
from tidalkin.catalog.partition import chunk_names
from tidalkin.config import BANDS
from tidalkin.errors import TidalkinError, first_line

logger = logging.getLogger("tidalkin.catalog.read")

ROW_GROUP_SIZE = 100_000  # rows read at once when a few galaxies are looked up

# Names in use: HSC and LSST (object_id, i_ra), SDSS (objid), Gaia and Euclid (source_id, RA_ICRS), VizieR (RAJ2000),
# SExtractor (NUMBER, ALPHA_J2000). Compared without case.
ALIASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "object_id": ("object_id", "objectid", "obj_id", "objid", "id", "source_id", "sourceid", "number"),
        "ra": ("ra", "i_ra", "ra_deg", "radeg", "raj2000", "ra_j2000", "ra_icrs", "alpha_j2000", "right_ascension"),
        "dec": (
            *("dec", "i_dec", "dec_deg", "decdeg", "dedeg", "dej2000", "decj2000", "dec_j2000", "de_icrs", "dec_icrs"),
            *("delta_j2000", "declination"),
        ),
    }
)
# What pandas, pyarrow and astropy raise on broken files.
UNREADABLE = (OSError, ValueError, TypeError, IndexError, KeyError, EOFError, ExpatError, zlib.error, pa.ArrowException)
EXACT_FLOAT = 2**53  # the largest whole number up to which a float holds each one
ROWS_NAMED = 3


def read_catalog(path: str | Path, columns: Mapping[str, str] = MappingProxyType({})) -> pd.DataFrame:
    """Read and check a catalog.

    Parameters
    ----------
    path : str or Path
        A CSV (.csv), FITS table (.fits, .fit), VOTable (.vot, .votable, .xml) or Parquet (.parquet, .pq) file; CSV and
        FITS also with .gz.
    columns : mapping of str to str
        The file's column for each of ours, where the usual names do not find it: ``{"object_id": "MY_ID"}``. A column
        of the file that has our name, but is not the one meant, is kept as ``<name>_in_file``.

    Returns
    -------
    pandas.DataFrame
        `object_id` (int64), `ra`, `dec` (float64, degrees), then the file's other columns, in the order of the file's
        rows.

    Raises
    ------
    TidalkinError
        If the file cannot be read, a column cannot be told, or a row has a bad id or position.
    """
    path = Path(path)
    if not path.is_file():
        raise TidalkinError(f"catalog {path} does not exist: check catalog.path")
    try:
        table = _read_table(path, columns)
    except UNREADABLE as error:
        raise TidalkinError(f"catalog {path} cannot be read: {first_line(error)}") from None
    found = _find_columns(list(table.columns), columns, str(path))
    shadowed = {name: f"{name}_in_file" for name in found if name in table.columns and found[name] != name}
    table = table.rename(columns=shadowed).rename(columns={theirs: ours for ours, theirs in found.items()})
    return check_catalog(table, f"catalog {path}")


def check_catalog(catalog: pd.DataFrame, name: str) -> pd.DataFrame:
    """Check a catalog, and give its first three columns their types.

    Parameters
    ----------
    catalog : pandas.DataFrame
        With the columns `object_id`, `ra`, `dec`; ids may be strings of digits.
    name : str
        What to call the catalog in an error.

    Returns
    -------
    pandas.DataFrame
        The same rows, with `object_id` (int64), `ra`, `dec` (float64) first.

    Raises
    ------
    TidalkinError
        If the catalog is empty, an id is not a whole number or occurs twice, or a position is missing or out of range;
        the message names the rows, counted from 1.
    """
    if catalog.empty:
        raise TidalkinError(f"{name} has no rows")
    ids = _whole_numbers(catalog["object_id"], name)
    _refuse(pd.Series(ids).duplicated(keep=False), ids, f"{name} has one object_id in several rows")
    position = {}
    for column, low, high in (("ra", 0.0, 360.0), ("dec", -90.0, 90.0)):
        values = _numbers(catalog[column], ids, name)
        _refuse(~np.isfinite(values), ids, f"{name} has no {column}")
        outside = (values < low) | (values > high)
        _refuse(outside, ids, f"{name} has {column} outside {low:g} to {high:g} degrees", values)
        position[column] = values
    others = catalog.drop(columns=["object_id", "ra", "dec"]).reset_index(drop=True)
    for band in BANDS:
        if (seeing := f"psf_fwhm_{band}") in others:
            others[seeing] = _numbers(others[seeing], ids, name)
    return pd.concat([pd.DataFrame({"object_id": ids, **position}), others], axis=1)


def write_catalog(
    catalog: pd.DataFrame, path: str | Path, metadata: Mapping[bytes, str] = MappingProxyType({})
) -> None:
    """Write a catalog or a chunk of one as Parquet, with ``metadata`` in its schema; equal rows give equal bytes."""
    table = pa.Table.from_pandas(catalog, preserve_index=False)
    own = {b"tidalkin": tidalkin.__version__.encode()} | {key: value.encode() for key, value in metadata.items()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **own})
    with atomic_path(path) as partial:
        pq.write_table(table, partial, compression="zstd", row_group_size=ROW_GROUP_SIZE)


def split_catalog(
    catalog: pd.DataFrame, chunk_size: int, columns: Sequence[str] | None = None
) -> dict[str, pd.DataFrame]:
    """Split a catalog into chunks of equal size, in its order.

    Rows added at the end of a catalog change at most the last chunk and add others, so that nothing else is fetched
    again.

    Parameters
    ----------
    catalog : pandas.DataFrame
        A checked catalog.
    chunk_size : int
        Rows of a chunk; the last one may have fewer.
    columns : sequence of str, optional
        Columns the chunks hold; all by default. With only those that a source needs, a new column (a label, say) leaves
        the chunks as they are.

    Returns
    -------
    dict of str to pandas.DataFrame
        The rows of each chunk, by its name.
    """
    rows = catalog if columns is None else catalog[list(columns)]
    return {
        name: rows.iloc[i * chunk_size : (i + 1) * chunk_size].reset_index(drop=True)
        for i, name in enumerate(chunk_names(len(catalog), chunk_size))
    }


# --- reading -----------------------------------------------------------------------------------------------------


def _read_table(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix == ".csv":
        return _read_csv(path, columns)
    if suffix in (".fits", ".fit"):
        return _read_astropy(path, "fits", columns)
    if suffix in (".vot", ".votable", ".xml"):
        return _read_astropy(path, "votable", columns)
    if suffix in (".parquet", ".pq"):
        table = pd.read_parquet(path)
        return table if table.index.names == [None] else table.reset_index()
    raise TidalkinError(f"catalog {path} has the unknown suffix {suffix!r}: use .csv, .fits, .vot or .parquet")


def _read_csv(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    # HSC's catalog server begins the line of names with "# ".
    names = [name.lstrip("# ") for name in pd.read_csv(path, nrows=0, skipinitialspace=True).columns]
    found = _find_columns(names, columns, str(path))
    # As strings, since a missing value would otherwise turn ids of 17 digits into rounded floats.
    return pd.read_csv(path, names=names, header=0, skipinitialspace=True, dtype={found["object_id"]: str})


def _read_astropy(path: Path, kind: str, columns: Mapping[str, str]) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of small departures from the standards, which do no harm here
        table = Table.read(path, format=kind)
    arrays = [name for name in table.colnames if table[name].ndim > 1 or table[name].dtype.kind == "O"]
    if arrays:
        logger.warning("catalog %s: left out the columns that hold arrays: %s", path, ", ".join(arrays))
        table.remove_columns(arrays)
    table.convert_bytestring_to_unicode()
    found = _find_columns(table.colnames, columns, str(path))
    for name in (found["ra"], found["dec"]):
        unit = table[name].unit
        if unit is not None and unit.is_equivalent(units.deg) and unit != units.deg:
            table[name] = table[name] * unit.to(units.deg)
    return table.to_pandas(index=False)


def _find_columns(names: Sequence[str], columns: Mapping[str, str], name: str) -> dict[str, str]:
    """The file's column for each of ours: as the configuration says, by our own name, or by the only known alias."""
    listed = ", ".join(names)
    for ours, theirs in columns.items():
        if theirs not in names:
            raise TidalkinError(
                f"catalog {name} has no column {theirs!r}, which catalog.columns names for {ours}; it has: {listed}"
            )
    found = dict(columns)
    for ours, aliases in ALIASES.items():
        if ours in found:
            continue
        known = [ours] if ours in names else [theirs for theirs in names if theirs.strip().lower() in aliases]
        if not known:
            raise TidalkinError(
                f"catalog {name} has no column for {ours} (its columns: {listed}): "
                f"name yours in the config, `catalog: {{columns: {{{ours}: YOUR_COLUMN}}}}`"
            )
        if len(known) > 1:
            raise TidalkinError(
                f"catalog {name} has several columns that could be {ours} ({', '.join(known)}): "
                f"choose one in the config, `catalog: {{columns: {{{ours}: {known[0]}}}}}`"
            )
        found[ours] = known[0]
    return found


# --- checking ----------------------------------------------------------------------------------------------------


def _rows(wrong: npt.NDArray[np.bool_] | pd.Series, ids: Iterable[object], values: Iterable[object] | None) -> str:
    """`row 3 (object_id 42), row 7 (object_id 43) and 5 more`."""
    where = np.flatnonzero(wrong)
    ids, values = list(ids), None if values is None else list(values)
    named = [
        f"row {i + 1} (object_id {ids[i]}" + ("" if values is None else f": {values[i]}") + ")"
        for i in where[:ROWS_NAMED]
    ]
    return ", ".join(named) + (f" and {len(where) - ROWS_NAMED} more" if len(where) > ROWS_NAMED else "")


def _refuse(
    wrong: npt.NDArray[np.bool_] | pd.Series,
    ids: Iterable[object],
    sentence: str,
    values: Iterable[object] | None = None,
) -> None:
    if wrong.any():
        raise TidalkinError(f"{sentence}: {_rows(wrong, ids, values)}")


def _numbers(column: pd.Series, ids: npt.NDArray[np.int64], name: str) -> npt.NDArray[np.float64]:
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    _refuse(np.isnan(numbers) & column.notna().to_numpy(), ids, f"{name} has a {column.name} that is no number", column)
    return numbers


def _whole_numbers(column: pd.Series, name: str) -> npt.NDArray[np.int64]:
    """The ids as int64, whatever type they came in."""
    if pd.api.types.is_bool_dtype(column):
        raise TidalkinError(f"{name} has true and false as object_id, but ids are whole numbers")
    _refuse(column.isna(), column, f"{name} has no object_id")
    if pd.api.types.is_integer_dtype(column):
        wrong = (column > np.iinfo(np.int64).max).to_numpy(dtype=bool)
    elif pd.api.types.is_float_dtype(column):
        wrong = ((column % 1 != 0) | (column.abs() > EXACT_FLOAT)).to_numpy(dtype=bool)
    else:
        column = column.astype(str).str.strip()
        wrong = ~column.map(_is_int64).to_numpy(dtype=bool)
    _refuse(wrong, column, f"{name} has an object_id that is no whole number of at most 63 bits")
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(dtype=np.int64)
    return np.array([int(text) for text in column], dtype=np.int64)


def _is_int64(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d{1,19}", text, re.ASCII) is not None and -(2**63) <= int(text) < 2**63
