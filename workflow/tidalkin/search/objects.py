"""Look objects up in the catalog, by id or by position."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tidalkin.config import LEAST_OBJECT_ID, MOST_OBJECT_ID
from tidalkin.errors import TidalkinError, first_line


def required_catalog_rows(catalog: Path, object_ids: Sequence[int]) -> pa.Table:
    """Return the rows of objects that the catalog must have.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     catalog = Path(folder) / "catalog.parquet"
    ...     pq.write_table(pa.table({"object_id": [7, 8], "ra": [150.1, 150.2], "dec": [2.2, 2.3]}), catalog)
    ...     required_catalog_rows(catalog, [9])
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: ...catalog.parquet: lacks object 9, which has an embedding: make the embeddings of
    this catalog with `snakemake --forcerun embed`
    """
    known = catalog_rows(catalog, object_ids)
    if len(known) < len(object_ids):
        missing = set(object_ids) - set(known["object_id"].to_pylist())
        raise TidalkinError(
            f"{catalog}: lacks object {min(missing)}, which has an embedding: make the embeddings of this catalog with "
            "`snakemake --forcerun embed`"
        )
    return known


@contextmanager
def open_parquet(file: str | Path, rule: str) -> Iterator[pq.ParquetFile]:
    """Open a table of a run.

    Parameters
    ----------
    file : path
        The Parquet file.
    rule : str
        The rule of the workflow that makes it.

    Raises
    ------
    TidalkinError
        If the file is missing or damaged.

    Examples
    --------
    >>> with open_parquet("no_such_run/map.parquet", "map") as file:
    ...     file.read()
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: no_such_run/map.parquet: cannot be read (...): make it again with
    `snakemake --forcerun map`
    """
    try:
        with pq.ParquetFile(file) as opened:
            yield opened
    except (OSError, pa.ArrowException) as error:
        raise TidalkinError(
            f"{file}: cannot be read ({first_line(error)}): make it again with `snakemake --forcerun {rule}`"
        ) from None


def catalog_table(catalog: str | Path) -> pa.Table:
    """Read object_id, ra and dec of every object, and the label if there is one.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     catalog = Path(folder) / "catalog.parquet"
    ...     pq.write_table(pa.table({"object_id": [7], "ra": [150.1], "dec": [2.2], "magnitude": [19.0]}), catalog)
    ...     catalog_table(catalog).to_pylist()
    [{'object_id': 7, 'ra': 150.1, 'dec': 2.2}]
    """
    with open_parquet(catalog, "catalog") as file:
        return file.read(_known_columns(file))


def catalog_rows(catalog: str | Path, object_ids: Sequence[int]) -> pa.Table:
    """Read position and label of some objects, and no other rows.

    Parameters
    ----------
    catalog : path
        The run's ``catalog.parquet``.
    object_ids : sequence of int
        Ids of the objects; those that the catalog lacks are left out.

    Returns
    -------
    pyarrow.Table
        Columns object_id, ra, dec, label where there is one, and row (int64, of the catalog and so of the image
        store), in the order of ``object_ids``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     catalog = Path(folder) / "catalog.parquet"
    ...     pq.write_table(pa.table({"object_id": [7, 8], "ra": [150.1, 150.2], "dec": [2.2, 2.3]}), catalog)
    ...     catalog_rows(catalog, [8, 9]).to_pylist()
    [{'object_id': 8, 'ra': 150.2, 'dec': 2.3, 'row': 1}]
    """
    possible = [one for one in object_ids if LEAST_OBJECT_ID <= one <= MOST_OBJECT_ID]
    wanted = np.array(possible, np.int64)
    parts: list[pa.Table] = []
    first = 0
    with open_parquet(catalog, "catalog") as file:
        columns = _known_columns(file)
        for group in range(file.num_row_groups):
            ids = column_values(file.read_row_group(group, ["object_id"])["object_id"])
            here = np.flatnonzero(np.isin(ids, wanted))
            if len(here):
                part = file.read_row_group(group, columns).take(arrow_column(here))
                parts.append(part.append_column("row", arrow_column(first + here)))
            first += len(ids)
        schema = pa.schema([file.schema_arrow.field(name) for name in columns])
    none = pa.Table.from_batches([], schema).append_column("row", arrow_column(np.zeros(0, np.int64)))
    found = pa.concat_tables([none, *parts])
    place = {object_id: row for row, object_id in enumerate(found["object_id"].to_pylist())}
    order = [place[object_id] for object_id in wanted.tolist() if object_id in place]
    return found.take(arrow_column(np.array(order, np.int64)))


def _known_columns(catalog: pq.ParquetFile) -> list[str]:
    """Name the columns for a search: id, position, and the label if there is one."""
    return [name for name in ("object_id", "ra", "dec", "label") if name in catalog.schema_arrow.names]


def arrow_column(values: npt.NDArray[np.generic]) -> pa.Array:
    """Return an array as an Arrow array.

    `pa.array` imports pandas, which takes a quarter of the time of a search.

    Examples
    --------
    >>> arrow_column(np.array([7, 8])).to_pylist()
    [7, 8]
    """
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def column_values(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return a column of numbers as an array.

    Examples
    --------
    >>> column_values(pa.chunked_array([[7, 8], [9]]))
    array([7, 8, 9])
    """
    return np.from_dlpack(column.combine_chunks())


def angle_text(arcsec: float) -> str:
    """Write an angle in arcsec, or in degrees from one degree on.

    Examples
    --------
    >>> angle_text(7.23), angle_text(427339.9)
    ('7.2 arcsec', '118.7 degrees')
    """
    return f"{arcsec:.1f} arcsec" if arcsec < 3600 else f"{arcsec / 3600:.1f} degrees"


def nearest_object(catalog: str | Path, position: tuple[float, float]) -> tuple[int, float]:
    """Find the catalog object nearest to a position.

    Parameters
    ----------
    catalog : path
        The run's ``catalog.parquet``.
    position : (float, float)
        Right ascension and declination, degrees, ICRS.

    Returns
    -------
    object_id : int
        The nearest object.
    distance : float
        Its distance, arcsec.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     catalog = Path(folder) / "catalog.parquet"
    ...     pq.write_table(pa.table({"object_id": [7, 8], "ra": [150.1, 150.2], "dec": [2.2, 2.3]}), catalog)
    ...     object_id, distance = nearest_object(catalog, (150.2, 2.3001))
    >>> object_id, round(distance, 2)
    (8, 0.36)
    """
    best_distance, best_object = math.inf, 0
    with open_parquet(catalog, "catalog") as file:
        for group in range(file.num_row_groups):
            part = file.read_row_group(group, ["object_id", "ra", "dec"])
            distance = separation_arcsec(*position, column_values(part["ra"]), column_values(part["dec"]))
            nearest = int(distance.argmin())
            if distance[nearest] < best_distance:
                best_distance, best_object = float(distance[nearest]), part["object_id"][nearest].as_py()
    return int(best_object), best_distance


def separation_arcsec(
    ra: float, dec: float, others_ra: npt.NDArray[np.float64], others_dec: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the angular distances of positions, arcsec.

    The haversine formula is exact at small angles.

    Parameters
    ----------
    ra : float
        Right ascension of a position, degrees.
    dec : float
        Its declination, degrees.
    others_ra : (object,) float64
        Right ascensions of other positions, degrees.
    others_dec : (object,) float64
        Their declinations, degrees.

    Examples
    --------
    >>> separation_arcsec(10, 0, np.array([10.0]), np.array([0.001])).round(3)
    array([3.6])
    """
    phi, phis = np.radians(dec), np.radians(others_dec)
    half_dec, half_ra = (phis - phi) / 2, np.radians(others_ra - ra) / 2
    haversine = np.sin(half_dec) ** 2 + np.cos(phi) * np.cos(phis) * np.sin(half_ra) ** 2
    distance: npt.NDArray[np.float64] = np.degrees(2 * np.arcsin(np.sqrt(np.clip(haversine, 0, 1)))) * 3600
    return distance
