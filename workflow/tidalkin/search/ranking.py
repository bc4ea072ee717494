"""Rank the whole survey by its debris score, with no example and no label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tidalkin import __version__
from tidalkin.atomic import atomic_path
from tidalkin.constants import DEBRIS_SHARE, MAD_TO_SIGMA
from tidalkin.errors import TidalkinError, first_line
from tidalkin.figures.mosaic import Panel, draw_mosaic, rgb
from tidalkin.images.store import ImageStore

Floats = npt.NDArray[np.float32]

DRAWN = 48
SMALLEST_SCATTER = 1e-6


def brightest_mean(debris_maps: npt.NDArray[np.floating]) -> Floats:
    """Compute the mean of the brightest cells of each map: the raw debris score.

    A feature covers a small part of an image. The mean over all cells would drown it, and a single cell is noisy.

    Parameters
    ----------
    debris_maps : (object, cell, cell)
        Logits of faint light.

    Returns
    -------
    (object,) float32

    Examples
    --------
    >>> debris_map = np.zeros((1, 10, 10))
    >>> debris_map[0, 0, :5] = 2.0
    >>> brightest_mean(debris_map)
    array([2.], dtype=float32)
    """
    cells = debris_maps.reshape(len(debris_maps), -1).astype(np.float32)
    count = max(1, round(DEBRIS_SHARE * cells.shape[1]))
    brightest = np.partition(cells, cells.shape[1] - count, axis=1)[:, -count:]
    mean: Floats = brightest.mean(axis=1, dtype=np.float32)
    return mean


def debris_score(raw: Floats) -> Floats:
    """Standardise raw debris scores (object,) by their median and their median absolute deviation.

    Examples
    --------
    >>> debris_score(np.array([1.0, 2.0, 3.0], np.float32)).round(3)
    array([-0.674,  0.   ,  0.674], dtype=float32)
    """
    median = np.median(raw)
    scatter = MAD_TO_SIGMA * np.median(np.abs(raw - median))
    score: Floats = ((raw - median) / max(scatter, SMALLEST_SCATTER)).astype(np.float32)
    return score


def rank_survey(
    catalog: str | Path,
    debris_maps: Sequence[str | Path],
    ids: Sequence[str | Path],
    ranking: str | Path,
) -> pd.DataFrame:
    """Rank every galaxy that has a debris map, and write the ranking.

    Parameters
    ----------
    catalog : path
        The run's ``catalog.parquet``.
    debris_maps, ids : sequence of path
        The shards' maps (object, cell, cell) and object_ids (object,), in the same order.
    ranking : path
        The Parquet file to write, best first: rank, object_id, ra, dec (degrees), debris_score, percentile, and the
        label where the catalog has one.

    Returns
    -------
    pandas.DataFrame
        The ranking.

    Raises
    ------
    TidalkinError
        If a file is missing or damaged, or a galaxy is not in the catalog.
    """
    raw = np.concatenate([brightest_mean(_loaded(file)) for file in debris_maps])
    object_id = np.concatenate([_loaded(file) for file in ids])
    known = _catalog(catalog)
    unknown = np.setdiff1d(object_id, known.index)
    if len(unknown):
        raise TidalkinError(
            f"{catalog}: lacks object {unknown[0]}, which has an embedding: embed this catalog again with "
            "`snakemake --forcerun embed`"
        )
    score = debris_score(raw)
    # Equal scores stay in the order of their ids, so that the file is the same however the shards are cut.
    best_first = np.lexsort((object_id, -score))
    table = known.loc[object_id[best_first]].reset_index()
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    table.insert(4, "debris_score", score[best_first])
    table.insert(5, "percentile", (100 * (1 - np.arange(len(table)) / max(len(table), 1))).astype(np.float32))
    made = pa.Table.from_pandas(table, preserve_index=False)
    made = made.replace_schema_metadata({**(made.schema.metadata or {}), b"tidalkin": __version__.encode()})
    with atomic_path(ranking) as partial:
        pq.write_table(made, partial)
    return table


def draw_ranking(
    table: pd.DataFrame,
    images: str | Path,
    debris_maps: Sequence[str | Path],
    ids: Sequence[str | Path],
    output: str | Path,
) -> None:
    """Draw the first galaxies of a ranking, with contours where the encoder sees faint light.

    Parameters
    ----------
    table : pandas.DataFrame
        From `rank_survey`.
    images : path
        The run's image store.
    debris_maps, ids : sequence of path
        The shards' maps and object_ids.
    output : path
        The PNG to write.
    """
    first = table.head(DRAWN)
    draw_mosaic(
        list(_panels(first, ImageStore.open(images), _maps_of(first["object_id"].tolist(), debris_maps, ids))),
        output,
        title="Most debris, with no example",
        subtitle=f"the first {len(first)} of {len(table):,} galaxies: rank, object_id, debris score",
        made_by={"Software": f"tidalkin {__version__}"},
    )


def _panels(first: pd.DataFrame, store: ImageStore, maps: dict[int, Floats]) -> Iterator[Panel]:
    """Draw each galaxy of the ranking with its map."""
    store_ids = np.asarray(store.object_id)
    for row in first.to_dict("records"):
        place = int(np.flatnonzero(store_ids == row["object_id"])[0])
        picture = rgb(np.asarray(store.flux[place]), np.asarray(store.sky_sigma[place]), store.bands)
        label = row.get("label")
        caption = f"{row['debris_score']:.2f}   {label if isinstance(label, str) else ''}".rstrip()
        yield Panel(picture, f"{row['rank']}   {row['object_id']}", caption, debris_map=maps[row["object_id"]])


def _maps_of(
    object_ids: Sequence[int], debris_maps: Sequence[str | Path], ids: Sequence[str | Path]
) -> dict[int, Floats]:
    """Read the maps of some objects."""
    wanted = np.array(object_ids, np.int64)
    found: dict[int, Floats] = {}
    for map_file, id_file in zip(debris_maps, ids, strict=True):
        shard_ids = _loaded(id_file)
        rows = np.flatnonzero(np.isin(shard_ids, wanted))
        if len(rows):
            maps = _loaded(map_file)
            found |= {int(shard_ids[row]): np.asarray(maps[row], np.float32) for row in rows}
    return found


def _loaded(file: str | Path) -> npt.NDArray[Any]:
    """Map an array."""
    try:
        array: npt.NDArray[Any] = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise TidalkinError(
            f"{file}: cannot be read ({first_line(error)}): make it again with `snakemake --forcerun embed`"
        ) from None
    return array


def _catalog(catalog: str | Path) -> pd.DataFrame:
    """Read position and label of every object, by object_id."""
    try:
        columns = [name for name in ("object_id", "ra", "dec", "label") if name in pq.read_schema(catalog).names]
        table = pq.read_table(catalog, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise TidalkinError(
            f"{catalog}: cannot be read ({first_line(error)}): make it again with `snakemake --forcerun catalog`"
        ) from None
    return table.to_pandas().set_index("object_id")
