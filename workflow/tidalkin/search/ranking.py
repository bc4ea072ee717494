"""Rank the whole survey by its debris score, with no example and no label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tidalkin import __version__
from tidalkin.atomic import atomic_path
from tidalkin.constants import DEBRIS_SHARE, inner_cells
from tidalkin.embedding.whitening import load_whitening
from tidalkin.errors import TidalkinError
from tidalkin.figures.mosaic import Panel, draw_mosaic, rgb
from tidalkin.images.store import ImageStore
from tidalkin.index.vectors import load_array
from tidalkin.search.debris import maps_of
from tidalkin.search.objects import catalog_table
from tidalkin.search.result import MOST_DEBRIS, describe_result

Floats = npt.NDArray[np.float32]

DRAWN = 48


def brightest_mean(debris_maps: npt.NDArray[np.generic]) -> Floats:
    """Compute the mean of the brightest inner cells of each map: the raw debris score.

    It equals `tidalkin.model.heads.brightest_mean`, without torch.

    Parameters
    ----------
    debris_maps : (object, cell, cell)
        Logits of faint light.

    Returns
    -------
    (object,) float32

    Examples
    --------
    >>> debris_map = np.zeros((1, 12, 12))
    >>> debris_map[0, 1, 1:9] = 2.0
    >>> brightest_mean(debris_map)
    array([2.], dtype=float32)
    """
    inner = inner_cells(debris_maps.shape[-1])
    cells = debris_maps[:, inner, inner].reshape(len(debris_maps), -1).astype(np.float32)
    count = max(1, round(DEBRIS_SHARE * cells.shape[1]))
    brightest = np.partition(cells, cells.shape[1] - count, axis=1)[:, -count:]
    mean: Floats = brightest.mean(axis=1, dtype=np.float32)
    return mean


def survey_scores(debris_maps: Sequence[str | Path]) -> Floats:
    """Compute the raw debris score of every galaxy, (object,), from the map files.

    Raises
    ------
    TidalkinError
        If a file is missing or damaged.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/00000.maps.npy", np.array([[[1.0, 3.0]], [[0.0, 0.5]]], np.float16))
    ...     survey_scores([f"{folder}/00000.maps.npy"])
    array([3. , 0.5], dtype=float32)
    """
    return np.concatenate([brightest_mean(load_array(Path(file))) for file in debris_maps])


def survey_ids(ids: Sequence[str | Path]) -> npt.NDArray[np.int64]:
    """Read the object_id of every galaxy, (object,), from the files of the shards.

    Raises
    ------
    TidalkinError
        If a file is missing or damaged.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = [Path(folder) / name for name in ("00000.ids.npy", "00001.ids.npy")]
    ...     np.save(files[0], [7, 8])
    ...     np.save(files[1], [9])
    ...     survey_ids(files)
    array([7, 8, 9])
    """
    return np.concatenate([load_array(Path(file)) for file in ids]).astype(np.int64)


def rank_survey(
    catalog: str | Path,
    whitening: str | Path,
    debris_maps: Sequence[str | Path],
    ids: Sequence[str | Path],
    ranking: str | Path,
) -> pd.DataFrame:
    """Rank every galaxy that has a debris map, and write the ranking.

    Parameters
    ----------
    catalog : path
        The run's ``catalog.parquet``.
    whitening : path
        The run's whitening, which holds the scale of the debris score. Runs that share it have comparable scores.
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

    Examples
    --------
    >>> run = Path("results/demo")
    >>> maps, ids = (sorted(run.glob(f"embeddings/*.{kind}.npy")) for kind in ("debris_map", "ids"))
    >>> ranking = rank_survey(run / "catalog.parquet", run / "whitening.npz", maps, ids, "ranking.parquet")
    >>> len(ranking), list(ranking.columns)
    (60, ['rank', 'object_id', 'ra', 'dec', 'debris_score', 'percentile', 'label'])
    """
    raw, object_id = survey_scores(debris_maps), survey_ids(ids)
    table = ranked_table(catalog, object_id, load_whitening(whitening).debris_score(raw), "debris_score")
    write_ranking(table, ranking)
    return table


def ranked_table(catalog: str | Path, object_id: npt.NDArray[np.int64], score: Floats, score_name: str) -> pd.DataFrame:
    """Make the table of a ranking, best first.

    Parameters
    ----------
    catalog : path
        The run's ``catalog.parquet``.
    object_id : (object,) int64
        The galaxies to rank.
    score : (object,) float32
        Their scores.
    score_name : str
        Name of the column with the scores.

    Returns
    -------
    pandas.DataFrame
        The columns rank, object_id, ra, dec (degrees), the score, percentile, and label where the catalog has one.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     catalog = Path(folder) / "catalog.parquet"
    ...     pd.DataFrame({"object_id": [7, 8], "ra": [150.1, 150.2], "dec": [2.2, 2.3]}).to_parquet(catalog)
    ...     ranked_table(catalog, np.array([7, 8]), np.array([-0.5, 2.0], np.float32), "debris_score")
       rank  object_id     ra  dec  debris_score  percentile
    0     1          8  150.2  2.3           2.0       100.0
    1     2          7  150.1  2.2          -0.5        50.0
    """
    known = _catalog(catalog)
    unknown = np.setdiff1d(object_id, known.index)
    if len(unknown):
        raise TidalkinError(
            f"{catalog}: lacks object {unknown[0]}, which has an embedding: embed this catalog again with "
            "`snakemake --forcerun embed`"
        )
    # Equal scores stay in the order of their ids, so that the file is the same however the shards are cut.
    best_first = np.lexsort((object_id, -score))
    table = known.loc[object_id[best_first]].reset_index()
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    table.insert(4, score_name, score[best_first])
    table.insert(5, "percentile", (100 * (1 - np.arange(len(table)) / max(len(table), 1))).astype(np.float32))
    return table


def write_ranking(table: pd.DataFrame, path: str | Path) -> None:
    """Write a ranking as Parquet, with the version that made it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "ranking.parquet"
    ...     write_ranking(pd.DataFrame({"rank": [1, 2], "object_id": [8, 7]}), file)
    ...     pq.read_schema(file).metadata[b"tidalkin"].decode() == __version__
    True
    """
    made = pa.Table.from_pandas(table, preserve_index=False)
    made = made.replace_schema_metadata({**(made.schema.metadata or {}), b"tidalkin": __version__.encode()})
    with atomic_path(path) as partial:
        pq.write_table(made, partial)


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

    Examples
    --------
    >>> run = Path("results/demo")
    >>> maps, ids = (sorted(run.glob(f"embeddings/*.{kind}.npy")) for kind in ("debris_map", "ids"))
    >>> ranking = pd.read_parquet(run / "ranking.parquet").head(6)
    >>> draw_ranking(ranking, run / "images.zarr", maps, ids, "most_debris.png")
    >>> Path("most_debris.png").exists()
    True
    """
    first = table.head(DRAWN)
    draw_mosaic(
        list(_panels(first, ImageStore.open(images), maps_of(first["object_id"].tolist(), debris_maps, ids))),
        output,
        title=MOST_DEBRIS,
        subtitle=describe_result(len(first), len(table), by_debris=True),
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


def _catalog(catalog: str | Path) -> pd.DataFrame:
    """Read position and label of every object, by object_id."""
    return catalog_table(catalog).to_pandas().set_index("object_id")
