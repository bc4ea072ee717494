"""Read tables as other people write them: CSV, FITS, VOTable and Parquet."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import logging
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TextIO, cast
from xml.parsers.expat import ExpatError

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import parse as parse_votable
from astropy.io.votable.tree import TableElement, VOTableFile
from astropy.table import Column, Table
from astropy.time import Time

from tidalkin.catalog.columns import find_columns, told_apart
from tidalkin.errors import TidalkinError

logger = logging.getLogger(__name__)

UNREADABLE = (
    *(OSError, ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError),
    *(ExpatError, zlib.error, struct.error, csv.Error, pa.ArrowException, fits.VerifyError, units.UnitsError),
)
"""Errors that pandas, pyarrow and astropy raise on broken files."""
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
WORDS_FOR_MISSING = ["", "NA", "N/A", "n/a", "<NA>", "NaN", "nan", "-nan", "-NaN", "NULL", "null", "None", "#N/A"]
"""Words that stand for a missing value in the columns of a CSV file other than `label`."""
ASTROPY_PARQUET = b"table_meta_yaml"
"""Metadata of a Parquet file that astropy wrote: units, masks, and positions that are several columns."""
VOPARQUET = b"IVOA.VOTable-Parquet.content"
"""Metadata of a Parquet file with a VOTable header (https://www.ivoa.net/documents/Notes/VOParquet)."""
EQUATORIAL = ("ICRS", "FK5", "EQ_FK5")
"""Frames of positions that count as ICRS, as FITS headers and VOTables write them."""
KINDS_OF_VALUES = frozenset(
    {"string", "bytes", "boolean", "integer", "floating", "mixed-integer-float", "decimal", "empty", "date", "datetime"}
)
"""Kinds of values, as pandas names them, that a column of Python objects may hold."""


def read_table(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """Read a table by the suffix of its name.

    Columns that hold arrays or records are left out, with a warning.

    Parameters
    ----------
    path : Path
        A CSV (.csv), ECSV (.ecsv, .csv), FITS (.fits, .fit), VOTable (.vot, .votable, .xml) or Parquet (.parquet, .pq)
        file; all but VOTable and Parquet also with .gz.
    columns : mapping of str to str
        The configuration's ``catalog.columns``: see `find_columns`.

    Raises
    ------
    TidalkinError
        If the suffix is unknown or the file is not what its name says.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "galaxies.ecsv"
    ...     Table({"object_id": [7], "ra": [150.1] * units.deg, "dec": [90.0] * units.arcmin}).write(file)
    ...     read_table(file, columns={})["dec"].tolist()  # in degrees
    [1.5]
    """
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix in (".csv", ".ecsv"):
        if _is_ecsv(path):
            return _from_astropy(Table.read(path, format="ascii.ecsv"), path, columns)
        return _read_csv(path, columns)
    if suffix in (".fits", ".fit"):
        return _from_astropy(_read_fits(path, columns), path, columns)
    if suffix in (".vot", ".votable", ".xml"):
        return _from_astropy(_read_votable(path, columns), path, columns)
    if suffix in (".parquet", ".pq"):
        return _read_parquet(path, columns)
    raise TidalkinError(f"catalog {path} has the unknown suffix {suffix!r}: use .csv, .ecsv, .fits, .vot or .parquet")


# --- CSV ---------------------------------------------------------------------------------------------------------


class _CsvLayout(NamedTuple):
    """The layout of a CSV file."""

    names: list[str]
    lines_above: int
    """Lines above the first row of values."""
    encoding: str


def _read_csv(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    layout = _csv_layout(path)
    # A column without a name is kept under its number if it holds values. Rows that end in a comma have an empty one.
    names = [name or f"column_{i + 1}" for i, name in enumerate(layout.names)]
    found = find_columns(names, columns, str(path))
    names = told_apart(names)
    _check_rows(path, layout)
    # Ids are read as text, since a missing value would turn ids of 17 digits into rounded floats. A label is read as
    # text, since `None` and `NA` are words in it, and a missing value would turn 1 into 1.0.
    texts = {found["object_id"], *({found.get("label", "label")} & set(names))}
    missing = {name: [""] if name in texts - {found["object_id"]} else WORDS_FOR_MISSING for name in names}
    with _open_text(path, layout.encoding) as file:
        table = pd.read_csv(
            file,
            names=names,
            skiprows=layout.lines_above,
            index_col=False,
            skipinitialspace=True,
            dtype=dict.fromkeys(texts, str),
            na_values=missing,
            keep_default_na=False,
            low_memory=False,  # so that a column has one type, not one for each block of rows
        )
    unnamed = [name for name, given in zip(names, layout.names, strict=True) if not given]
    return table.drop(columns=[name for name in unnamed if table[name].isna().all()])


@contextmanager
def _open_text(path: Path, encoding: str) -> Iterator[TextIO]:
    with _open_binary(path) as binary, io.TextIOWrapper(binary, encoding=encoding, newline="") as text:
        yield text


def _open_binary(path: Path) -> BinaryIO:
    """Open a file, unpacked if it is packed by gzip, whatever its name ends in."""
    with path.open("rb") as file:
        is_packed = file.read(2) == b"\x1f\x8b"
    return cast("BinaryIO", gzip.open(path)) if is_packed else path.open("rb")


def _is_ecsv(path: Path) -> bool:
    """Tell whether a file has the header of astropy's ECSV, with types and units."""
    with _open_binary(path) as file:
        return file.read(7) == b"# %ECSV"


def _csv_layout(path: Path) -> _CsvLayout:
    """Find the line of names, and the encoding.

    It is the first line that is not a comment, or the last comment if values follow it.
    HSC's catalog server begins the line of names with ``#``. tidalkin's own ``neighbours.csv`` has comments above it.
    """
    with _open_binary(path) as binary:
        encoding = "utf-16" if binary.read(2) in UTF_16 else "utf-8-sig"
    comments: list[list[str]] = []
    with _open_text(path, encoding) as file:
        rows = csv.reader(file, skipinitialspace=True)
        for row in rows:
            if row and row[0].startswith("#"):
                comments.append([row[0].lstrip("# "), *row[1:]])
            elif any(field.strip() for field in row):
                names_are_here = not (comments and any(_is_number(field) for field in row))
                names = row if names_are_here else comments[-1]
                lines_above = rows.line_num if names_are_here else rows.line_num - 1
                break
        else:
            if not comments:
                raise TidalkinError(f"catalog {path} cannot be read: it is empty")
            names, lines_above = comments[-1], rows.line_num
    names = [name.strip() for name in names]
    if len(names) == 1:
        for separator, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if separator in names[0]:
                raise TidalkinError(f"catalog {path} has its columns separated by {word}: separate them by commas")
    return _CsvLayout(names, lines_above, encoding)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_rows(path: Path, layout: _CsvLayout) -> None:
    """Refuse a row that has more or fewer fields than there are names.

    Its values would belong to other columns, or the file is cut short.
    """
    with _open_text(path, layout.encoding) as file:
        for _ in range(layout.lines_above):
            file.readline()
        number = 0
        for row in csv.reader(file, skipinitialspace=True):
            if not any(row) and len(row) <= 1:
                continue  # an empty line
            number += 1
            if "\0" in "".join(row):
                raise TidalkinError(f"catalog {path} has a zero byte in row {number}: it is damaged, copy it again")
            if len(row) != len(layout.names):
                raise TidalkinError(
                    f"catalog {path} has {len(row)} fields in row {number} ({','.join(row)[:80]}), but its header "
                    f"names {len(layout.names)}: give every row one field for each name"
                )


# --- Parquet -----------------------------------------------------------------------------------------------------


def _read_parquet(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    # Of two columns with one name, pyarrow's own error speaks of fields and references.
    schema = pq.read_schema(path)
    names, metadata = schema.names, schema.metadata or {}
    repeated = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if repeated is not None:
        raise TidalkinError(f"catalog {path} has several columns named {repeated!r}: rename all but one of them")
    if ASTROPY_PARQUET in metadata:
        return _from_astropy(Table.read(path, format="parquet"), path, columns)
    table = pd.read_parquet(path)
    table = table if table.index.names == [None] else table.reset_index()
    table.columns = table.columns.astype(str)
    found = find_columns(list(table.columns), columns, str(path))
    if VOPARQUET in metadata:
        _apply_header(table, metadata[VOPARQUET], found, path)
    for name in table.columns:
        if isinstance(table[name].dtype, pd.CategoricalDtype):
            table[name] = table[name].astype(table[name].cat.categories.dtype)
    unusable = [name for name in table.columns if not _holds_values(table[name])]
    return table.drop(columns=_left_out(unusable, path, find_columns(list(table.columns), columns, str(path))))


def _apply_header(table: pd.DataFrame, header: bytes, found: Mapping[str, str], path: Path) -> None:
    """Bring the positions of a VOParquet file to degrees, by the VOTable header inside it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        document = parse_votable(io.BytesIO(header))
    _check_status(document, path)
    described = document.get_first_table()
    _check_frames(document, described, found, path)
    units_of = {field.name or field.ID: field.unit for field in described.fields}
    for name in (found["ra"], found["dec"]):
        if units_of.get(name) is not None and pd.api.types.is_numeric_dtype(table[name]):
            table[name] = table[name] * _degrees_of(units_of[name], name, path)


def _holds_values(column: pd.Series) -> bool:
    """Tell whether a column holds one number, word, date or truth value in each row."""
    if column.dtype != object:
        return column.dtype.kind in "biufOSUMm" and not isinstance(column.dtype, pd.ArrowDtype)
    return pd.api.types.infer_dtype(column, skipna=True) in KINDS_OF_VALUES


def _left_out(unusable: Sequence[str], path: Path, found: Mapping[str, str]) -> list[str]:
    """Warn of the columns that cannot be used; refuse those that must be."""
    needed = {theirs: ours for ours, theirs in {"label": "label", **found}.items()}
    for name in unusable:
        if name in needed:
            raise TidalkinError(
                f"catalog {path} has arrays or records in the column {name}, but {needed[name]} must be one value in "
                "each row"
            )
    if unusable:
        logger.warning("catalog %s: left out the columns that hold arrays or records: %s", path, ", ".join(unusable))
    return list(unusable)


# --- FITS and VOTable --------------------------------------------------------------------------------------------


def _read_fits(path: Path, columns: Mapping[str, str]) -> Table:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of small departures from the standard, which do no harm here
        with fits.open(path) as hdus:
            hdus.readall()
            tables = {
                i: list(hdu.columns.names)
                for i, hdu in enumerate(hdus)
                if isinstance(hdu, fits.BinTableHDU | fits.TableHDU) and not isinstance(hdu, fits.CompImageHDU)
            }
            number = _only_catalog(tables, columns, path)
            header = hdus[number].header
            system = header.get("RADESYS", header.get("RADECSYS"))
            _check_frame(system, header.get("EQUINOX"), path)
        return Table.read(path, format="fits", hdu=number, astropy_native=True)


def _read_votable(path: Path, columns: Mapping[str, str]) -> Table:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        document = parse_votable(path)
        tables = list(document.iter_tables())
        _check_status(document, path)
        names = {i: [field.name or field.ID for field in table.fields] for i, table in enumerate(tables)}
        number = _only_catalog(names, columns, path)
        _check_frames(document, tables[number], find_columns(names[number], columns, str(path)), path)
        return tables[number].to_table(use_names_over_ids=True)


def _check_status(document: VOTableFile, path: Path) -> None:
    """Refuse a service's error, and warn of a table cut short (IVOA's DALI 1.1)."""
    for resource in document.resources:
        for info in [*resource.infos, *(info for table in resource.tables for info in table.infos)]:
            if info.name == "QUERY_STATUS" and info.value == "ERROR":
                text = " ".join(str(info.content or "").split())[:200]
                raise TidalkinError(f"catalog {path} holds a service's error ({text}) instead of a table: ask it again")
            if info.name == "QUERY_STATUS" and info.value == "OVERFLOW":
                logger.warning(
                    "catalog %s was cut short by the service that wrote it (QUERY_STATUS is OVERFLOW): ask for it with "
                    "a larger limit if more galaxies are due",
                    path,
                )


def _check_frames(document: VOTableFile, table: TableElement, found: Mapping[str, str], path: Path) -> None:
    """Refuse positions in another frame than ICRS, as the VOTable says."""
    frames = {frame.ID: frame for frame in document.iter_coosys()}
    for field in table.fields:
        if (field.name or field.ID) in (found["ra"], found["dec"]) and field.ref in frames:
            _check_frame(frames[field.ref].system, frames[field.ref].equinox, path)


def _check_frame(system: object, equinox: object, path: Path) -> None:
    """Refuse positions in another frame than ICRS, by the file's own header.

    FK5 of J2000 is ICRS within 0.03 arcsec.
    """
    frame = str(system or "ICRS").strip()
    year = str(equinox or 2000).strip().lstrip("J")
    is_2000 = re.fullmatch(r"2000(\.0*)?", year) is not None
    if frame.upper() not in EQUATORIAL or (frame.upper() != "ICRS" and not is_2000):
        raise TidalkinError(
            f"catalog {path} has positions in the frame {frame} of equinox {equinox or 'unknown'} by its header, but "
            "ra and dec are in ICRS: convert them, or correct the header"
        )


def _only_catalog(tables: Mapping[int, Sequence[str]], columns: Mapping[str, str], path: Path) -> int:
    """Return the number of the file's only table that has a catalog's columns."""
    if not tables:
        raise TidalkinError(f"catalog {path} cannot be read: it holds no table")
    if len(tables) == 1:
        return next(iter(tables))
    catalogs = []
    for number, names in tables.items():
        try:
            find_columns(names, columns, str(path))
        except TidalkinError:
            continue
        catalogs.append(number)
    if len(catalogs) != 1:
        raise TidalkinError(
            f"catalog {path} holds {len(tables)} tables, of which {len(catalogs)} have columns for object_id, ra and "
            "dec: write the one you mean to a file of its own"
        )
    return catalogs[0]


def _from_astropy(table: Table, path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """Turn an astropy table into a data frame, with positions in degrees."""
    table = _with_plain_columns(table)
    for name in table.colnames:
        if table[name].ndim > 1 and np.prod(table[name].shape[1:]) == 1:
            table[name] = table[name].reshape(-1)
    found = find_columns(table.colnames, columns, str(path))
    unusable = [name for name in table.colnames if not _is_column_of_values(table[name])]
    table.remove_columns(_left_out(unusable, path, found))
    table.convert_bytestring_to_unicode()
    for name in (found["ra"], found["dec"]):
        _to_degrees(table, name, path)
    return table.to_pandas(index=False)


def _with_plain_columns(table: Table) -> Table:
    """Replace times by text, and positions by ra and dec in ICRS degrees."""
    plain = Table(meta=table.meta)
    for name in table.colnames:
        column = table[name]
        if isinstance(column, Time):
            plain[name] = np.asarray(column.isot, dtype=str)
        elif isinstance(column, SkyCoord):
            position = column.icrs
            for axis, values in (("ra", position.ra), ("dec", position.dec)):
                if axis not in table.colnames:
                    plain[axis if axis not in plain.colnames else f"{name}.{axis}"] = values.to_value(units.deg)
        elif isinstance(column, units.Quantity):
            plain[name] = Column(column.value, unit=column.unit)
        elif isinstance(column, Column) and column.dtype.kind == "O":
            plain[name] = _texts(column)
        else:
            plain[name] = column
    return plain


def _texts(column: Any) -> Any:
    """Return a column of Python texts as such, and any other column as it is.

    VOTables hold text of variable length in columns of Python objects.
    """
    values = [value.decode() if isinstance(value, bytes) else value for value in column.tolist()]
    missing = [value is None or value is np.ma.masked for value in values]
    if not all(isinstance(value, str) or gap for value, gap in zip(values, missing, strict=True)):
        return column
    texts = ["" if gap else value for value, gap in zip(values, missing, strict=True)]
    return np.ma.MaskedArray(np.array(texts, dtype=str), mask=missing) if any(missing) else np.array(texts, dtype=str)


def _is_column_of_values(column: Any) -> bool:
    return hasattr(column, "dtype") and column.ndim == 1 and column.dtype.kind in "biufSU"


def _to_degrees(table: Table, name: str, path: Path) -> None:
    unit = table[name].unit
    if unit is not None and unit != units.deg and table[name].dtype.kind in "iuf":
        table[name] = table[name] * _degrees_of(unit, name, path)


def _degrees_of(unit: units.UnitBase, name: str, path: Path) -> float:
    """Return the degrees of a unit of angle."""
    if isinstance(unit, units.UnrecognizedUnit) and str(unit).lower().strip() in ("degree", "degrees", "degs", "deg."):
        return 1.0
    if isinstance(unit, units.UnrecognizedUnit) or not unit.is_equivalent(units.deg):
        raise TidalkinError(f"catalog {path} has {name} in the unit {str(unit)!r}, but positions are angles: use deg")
    return float(unit.to(units.deg))
