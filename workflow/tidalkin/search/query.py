"""Search a run: find the galaxies that look like the examples, and not like the counter-examples.

A query names examples (by object id, by position, or as a FITS cutout of a galaxy outside the catalog) and
counter-examples. The named objects are never in the result.

A search by object id takes a second or two, including the start of Python. Libraries that are slow to import are
therefore imported only where they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidalkin import __version__, config
from tidalkin.errors import TidalkinError
from tidalkin.index.query import open_index
from tidalkin.search.direction import Vectors, dimension_importance, direction
from tidalkin.search.files import RunFiles
from tidalkin.search.objects import arrow_column, column_values, index_rows, nearest_object, required_catalog_rows
from tidalkin.search.outside import CutoutSettings, OutsideGalaxy, read_outside_galaxy

MOST_NAMED = 2
SIMILARITY_DIGITS = 5


@dataclass(frozen=True)
class SearchResult:
    """The galaxies most similar to the examples of a query."""

    neighbours: pa.Table
    """Columns rank, object_id, ra, dec, similarity, and label where the catalog has one; most similar first."""
    neighbour_rows: npt.NDArray[np.int64]
    """Their rows in the catalog and in the image store."""
    like: pa.Table
    """Examples from the catalog, that at the position among them; columns as of `catalog_rows`."""
    unlike: pa.Table
    outside: OutsideGalaxy | None
    n_searched: int
    """Number of galaxies in the index."""
    made_by: Mapping[str, str]
    """Query, versions and digests, for the metadata of the files written."""


def find_similar(
    query: config.Query,
    files: RunFiles,
    *,
    k: int,
    radius_arcsec: float,
    debris_weight: float,
    cutouts: CutoutSettings | None = None,
) -> SearchResult:
    """Find the galaxies most similar to the examples of a query.

    Parameters
    ----------
    query : config.Query
        Examples and counter-examples.
    files : RunFiles
        Where to look.
    k : int
        How many look-alikes.
    radius_arcsec : float
        How far from ``query.position`` the catalog's nearest galaxy may be.
    debris_weight : float
        How much the debris score counts; 0 for plain look-alikes.
    cutouts : CutoutSettings, optional
        Needed for ``query.cutout`` only.

    Raises
    ------
    TidalkinError
        If an object is unknown or has no vector, nothing is at the position, the cutout cannot be read, or the run's
        files are missing or do not belong together.
    """
    opened = open_index(files.index, files.embeddings)
    like = tuple(dict.fromkeys(query.like))
    if query.position is not None:
        at_position = nearest_object(files.catalog, query.position, radius_arcsec)
        if at_position in query.unlike:
            raise TidalkinError(f"object {at_position} is both at `position` and in `unlike`: name it once")
        like = tuple(dict.fromkeys((*like, at_position)))
    unlike = tuple(dict.fromkeys(query.unlike))
    rows = index_rows(opened, like + unlike, files.catalog)
    outside = None
    named = opened.vectors[rows].astype(np.float32)
    examples = named[: len(like)]
    if query.cutout is not None:
        if cutouts is None:
            raise ValueError("a query with a cutout needs `cutouts`")
        outside = read_outside_galaxy(query.cutout, files, cutouts)
        examples = np.concatenate([examples, outside.vector[None, :]])
    towards = direction(examples, named[len(like) :], dimension_importance(opened, files, debris_weight))
    found, similarity = opened.most_similar(towards, k, exclude=rows.tolist())
    made_by = {
        "Software": f"tidalkin {__version__}",
        "Query": query.model_dump_json(exclude_defaults=True),
        "Debris weight": f"{debris_weight:g}",
        "Embeddings": opened.report.embeddings_digest,
        "Index": f"{opened.report.kind}, recall@10 {opened.report.recall_at_10:.3f}",
    }
    known = required_catalog_rows(files.catalog, (*like, *unlike, *opened.ids[found].tolist()))
    neighbours = known.slice(len(rows))
    return SearchResult(
        _neighbours_table(neighbours, similarity),
        column_values(neighbours["row"]),
        known.slice(0, len(like)),
        known.slice(len(like), len(unlike)),
        outside,
        len(opened.ids),
        made_by,
    )


def _neighbours_table(neighbours: pa.Table, similarity: Vectors) -> pa.Table:
    """Return the columns of the result."""
    columns = {
        "rank": arrow_column(np.arange(1, len(neighbours) + 1, dtype=np.int32)),
        "object_id": neighbours["object_id"],
        "ra": neighbours["ra"],
        "dec": neighbours["dec"],
        "similarity": arrow_column(np.round(similarity, SIMILARITY_DIGITS)),
    }
    return pa.table(columns | ({"label": neighbours["label"]} if "label" in neighbours.column_names else {}))
