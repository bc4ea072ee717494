"""Read, check and write catalogs, and split them into chunks.

A checked catalog is a data frame with `object_id` (int64, unique), `ra` and `dec` (float64, degrees, ICRS), then the
user's own columns, among them an optional `label` (text) and `psf_fwhm_<band>` (arcsec).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import tidalkin
from tidalkin.atomic import atomic_path
from tidalkin.catalog.columns import find_columns, told_apart
from tidalkin.catalog.partition import chunk_names
from tidalkin.catalog.table import UNREADABLE, read_table
from tidalkin.config import BANDS
from tidalkin.constants import LARGEST_PSF_FWHM_ARCSEC
from tidalkin.errors import TidalkinError, first_line

logger = logging.getLogger(__name__)

ROW_GROUP_SIZE = 100_000
"""Rows read at once when a few galaxies are looked up."""
ROWS_NAMED = 3
MEASURED = (
    *(f"psf_fwhm_{band}" for band in BANDS),
    *(f"{band}_sdssshape_psf_shape{axes}" for band in BANDS for axes in ("11", "22", "12")),
    "tidal_surface_brightness",
)
"""Columns that later stages take for numbers, where a catalog has them."""


def read_catalog(path: str | Path, columns: Mapping[str, str] = MappingProxyType({})) -> pd.DataFrame:
    r"""Read and check a catalog.

    Parameters
    ----------
    path : str or Path
        A CSV (.csv), ECSV (.ecsv, .csv), FITS (.fits, .fit), VOTable (.vot, .votable, .xml) or Parquet (.parquet, .pq)
        file; all but VOTable and Parquet also with .gz.
    columns : mapping of str to str
        The file's column for each of ours, where the usual names do not find it: ``{"object_id": "MY_ID"}``. A column
        of the file that has our name, but is not the one named here, is kept as ``<name>_in_file``.

    Returns
    -------
    pandas.DataFrame
        `object_id` (int64), `ra`, `dec` (float64, degrees), then the file's other columns, in the order of the file's
        rows. A `label` is text.

    Raises
    ------
    TidalkinError
        If the file cannot be read, a column cannot be found, or a row has a bad id, position or label.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "galaxies.csv"
    ...     _ = file.write_text("objid,i_ra,i_dec,label\n7,150.1,2.2,shell\n")
    ...     read_catalog(file).iloc[0].to_dict()
    {'object_id': 7, 'ra': 150.1, 'dec': 2.2, 'label': 'shell'}
    """
    path = Path(path).expanduser()
    if not path.is_file():
        fault = "is not a file" if path.exists() or path.is_symlink() else "does not exist"
        raise TidalkinError(f"catalog {path} {fault}: check catalog.path")
    try:
        table = read_table(path, columns)
    except UnicodeDecodeError as error:
        raise TidalkinError(
            f"catalog {path} cannot be read, since its byte {error.object[error.start]:#x} is not UTF-8 text: save it "
            "as UTF-8"
        ) from None
    except UNREADABLE as error:
        raise TidalkinError(f"catalog {path} cannot be read: {first_line(error)}") from None
    found = find_columns(list(table.columns), columns, str(path))
    uses = {theirs: ours for ours, theirs in found.items()}
    # All at once, since one column may have the name of another's use.
    names = [uses.get(name, f"{name}_in_file" if name in found else name) for name in table.columns]
    return check_catalog(table.set_axis(told_apart(names), axis="columns"), f"catalog {path}")


def check_catalog(catalog: pd.DataFrame, name: str) -> pd.DataFrame:
    """Check a catalog, and give the columns that later stages use their types.

    Parameters
    ----------
    catalog : pandas.DataFrame
        With the columns `object_id`, `ra`, `dec`; ids may be strings of digits.
    name : str
        What to call the catalog in an error.

    Returns
    -------
    pandas.DataFrame
        The same rows, with `object_id` (int64), `ra`, `dec` (float64) first and `label` as text.

    Raises
    ------
    TidalkinError
        If the catalog is empty, an id is not a whole number or occurs twice, a position is missing or out of range,
        a label is neither text nor a number, or a measured column is not a number. The message names the rows, counted
        from 1.

    Examples
    --------
    >>> rows = pd.DataFrame({"object_id": ["7"], "ra": [150.1], "dec": [2], "label": [1.0]})
    >>> check_catalog(rows, "my catalog").iloc[0].to_dict()
    {'object_id': 7, 'ra': 150.1, 'dec': 2.0, 'label': '1'}
    """
    if catalog.empty:
        raise TidalkinError(f"{name} has no rows")
    ids = _whole_numbers(catalog["object_id"], name)
    _refuse(pd.Series(ids).duplicated(keep=False), ids, f"{name} has one object_id in several rows")
    position = {}
    for column, low, high in (("ra", 0.0, 360.0), ("dec", -90.0, 90.0)):
        values = _numbers(catalog[column], ids, name, "positions are decimal degrees")
        _refuse(np.isnan(values), ids, f"{name} has no {column}")
        outside = (values < low) | (values > high)
        _refuse(outside, ids, f"{name} has {column} outside {low:g} to {high:g} degrees", values)
        position[column] = values
    others = catalog.drop(columns=["object_id", "ra", "dec"]).reset_index(drop=True)
    for column in MEASURED:
        if column in others:
            others[column] = _numbers(others[column], ids, name)
        if column in others and column.startswith("psf_fwhm_"):
            _warn_of_seeing(others[column], ids, name)
    if "label" in others:
        others["label"] = _labels(others["label"], ids, name)
    return pd.concat([pd.DataFrame({"object_id": ids, **position}), others], axis=1)


def write_catalog(
    catalog: pd.DataFrame, path: str | Path, metadata: Mapping[bytes, str] = MappingProxyType({})
) -> None:
    """Write a catalog, or a chunk of one, as Parquet.

    Equal rows give equal bytes.

    Parameters
    ----------
    catalog : pandas.DataFrame
        The rows.
    path : str or Path
        The file to write.
    metadata : mapping of bytes to str
        Entries added to the metadata of the file's schema.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "catalog.parquet"
    ...     write_catalog(pd.DataFrame({"object_id": [7], "ra": [150.1], "dec": [2.2]}), file, {b"field": "cosmos"})
    ...     pq.read_schema(file).metadata[b"field"]
    b'cosmos'
    """
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
        Columns of the chunks; all by default. Name only those that a source needs, so that a new column (a label, say)
        leaves the chunks as they are.

    Returns
    -------
    dict of str to pandas.DataFrame
        The rows of each chunk, by its name.

    Examples
    --------
    >>> rows = pd.DataFrame({"object_id": [7, 8, 9], "ra": [1.0, 2.0, 3.0], "dec": [0.0, 0.0, 0.0]})
    >>> {name: chunk["object_id"].tolist() for name, chunk in split_catalog(rows, 2).items()}
    {'00000': [7, 8], '00001': [9]}
    """
    rows = catalog if columns is None else catalog[list(columns)]
    return {
        name: rows.iloc[i * chunk_size : (i + 1) * chunk_size].reset_index(drop=True)
        for i, name in enumerate(chunk_names(len(catalog), chunk_size))
    }


# --- checking ----------------------------------------------------------------------------------------------------


def _name_rows(wrong: npt.NDArray[np.bool_] | pd.Series, ids: Iterable[object], values: Iterable[object] | None) -> str:
    """Name the first wrong rows: `row 3 (object_id 42) and 5 more`."""
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
    """Raise the sentence, with the rows that are wrong, if there are any."""
    if wrong.any():
        raise TidalkinError(f"{sentence}: {_name_rows(wrong, ids, values)}")


def _numbers(column: pd.Series, ids: npt.NDArray[np.int64], name: str, expected: str = "") -> npt.NDArray[np.float64]:
    if pd.api.types.is_bool_dtype(column):
        raise TidalkinError(f"{name} has true and false as {column.name}, but it holds numbers")
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.isnan(numbers) & column.notna().to_numpy()
    _refuse(wrong, ids, f"{name} has a {column.name} that is not a number{expected and f' ({expected})'}", column)
    return numbers


def _warn_of_seeing(column: pd.Series, ids: npt.NDArray[np.int64], name: str) -> None:
    """Warn of seeing that the conversion takes for unknown.

    Values up to 0 need no warning, since that is how catalogs write a seeing that is not known.
    """
    impossible = (column > LARGEST_PSF_FWHM_ARCSEC).to_numpy()
    if impossible.any():
        logger.warning(
            "%s has a %s above %g arcsec, which counts as unknown: %s",
            name,
            column.name,
            LARGEST_PSF_FWHM_ARCSEC,
            _name_rows(impossible, ids, column),
        )


def _labels(column: pd.Series, ids: npt.NDArray[np.int64], name: str) -> pd.Series:
    """Convert labels to text; empty text is missing.

    A whole number beside a missing value is stored as 1.0, and becomes `1`.
    """
    missing = column.isna()
    wrong = ~column.map(_is_label) & ~missing
    wrong |= pd.Series(pd.api.types.is_datetime64_any_dtype(column) or column.dtype.kind in "mc", column.index)
    _refuse(wrong, ids, f"{name} has a label that is neither text nor a number", column)
    texts = [None if gap else _label_text(value) for value, gap in zip(column, missing, strict=True)]
    return pd.Series([text or None for text in texts], index=column.index, dtype="str")


def _is_label(value: Any) -> bool:
    if not isinstance(value, bytes):
        return isinstance(value, str | bool | int | float | np.generic)
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _label_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode().strip()
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _whole_numbers(column: pd.Series, name: str) -> npt.NDArray[np.int64]:
    """Convert ids of any type to int64."""
    if pd.api.types.is_bool_dtype(column):
        raise TidalkinError(f"{name} has true and false as object_id, but ids are whole numbers")
    _refuse(column.isna(), column, f"{name} has no object_id")
    if pd.api.types.is_integer_dtype(column):
        wrong = (column > np.iinfo(np.int64).max).to_numpy(dtype=bool)
    elif pd.api.types.is_float_dtype(column):
        wrong = (column % 1 != 0).to_numpy(dtype=bool)
        rounded = (column.abs() >= _first_inexact(column.dtype)).to_numpy(dtype=bool) & ~wrong
        kept = f"a column of type {column.dtype.name} may have rounded it: store ids as whole numbers or as text"
        _refuse(rounded, column, f"{name} has an object_id so large that {kept}")
    else:
        column = column.astype(str).str.strip()
        wrong = ~column.map(_is_int64).to_numpy(dtype=bool)
    _refuse(wrong, column, f"{name} has an object_id that is not a whole number of at most 63 bits")
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(dtype=np.int64)
    return np.array([int(text) for text in column], dtype=np.int64)


def _first_inexact(dtype: Any) -> int:
    """Return the first whole number to which a type of floats rounds another one.

    Examples
    --------
    >>> _first_inexact(np.dtype("float32")) == 2**24 == int(np.float32(2**24 + 1))
    True
    """
    return 2 ** (np.finfo(getattr(dtype, "numpy_dtype", dtype)).nmant + 1)


def _is_int64(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d{1,19}", text, re.ASCII) is not None and -(2**63) <= int(text) < 2**63
