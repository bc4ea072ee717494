"""Search one run, or several, for the galaxies most similar to examples.

A query names examples (by object id, by position, or as a FITS cutout of a galaxy outside the catalog) and
counter-examples. The named objects are never in the result. A query with no example asks for the galaxies with the
highest debris score.

Runs that share encoder and whitening are searched as one: similarities of their vectors are comparable, so that the
merged result is that of one index of all galaxies.

A search by object id takes a second or two, including the start of Python. Libraries that are slow to import are
therefore imported only where they are used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tidalkin import __version__, config
from tidalkin.embedding.whitening import load_whitening
from tidalkin.errors import TidalkinError
from tidalkin.index.query import OpenIndex, open_index
from tidalkin.index.vectors import Vectors
from tidalkin.search.debris import most_debris
from tidalkin.search.direction import direction, has_debris_score
from tidalkin.search.files import RunFiles, names_of
from tidalkin.search.objects import angle_text, arrow_column, catalog_rows, nearest_object, required_catalog_rows
from tidalkin.search.outside import CutoutSettings, OutsideGalaxy, read_outside_galaxy

SIMILARITY_DIGITS = 5


@dataclass(frozen=True)
class SearchResult:
    """The galaxies most similar to the examples of a query, or those with most debris.

    The tables have the columns of `catalog_rows`, and a column ``run`` where several runs were searched.

    Examples
    --------
    >>> found = find_similar(
    ...     config.Query(debris=True), RunFiles.of("results/demo"), k=3, radius_arcsec=2.0, debris_weight=1.0
    ... )
    >>> found.by_debris, found.table.column_names
    (True, ['rank', 'object_id', 'ra', 'dec', 'debris_score', 'label'])
    """

    neighbours: pa.Table
    """Best first, with the further columns rank and similarity; with no example, debris_score in its place."""
    like: pa.Table
    """Examples from the catalog, including the one at the position."""
    unlike: pa.Table
    """Counter-examples."""
    outside: OutsideGalaxy | None
    """The cutout of the query, where there is one."""
    runs: tuple[RunFiles, ...]
    """The runs searched."""
    n_searched: int
    """Number of galaxies searched."""
    made_by: Mapping[str, str]
    """Query, versions and digests, for the metadata of the files written."""
    debris_counts: bool = False
    """Whether the debris score had a weight in the search."""

    @property
    def by_debris(self) -> bool:
        """Whether the query has no example, so that galaxies are ranked by their debris score."""
        return "debris_score" in self.neighbours.column_names

    @property
    def table(self) -> pa.Table:
        """The neighbours with the columns that are written.

        They are rank, object_id, ra, dec, similarity or debris_score, and label and run where there are any.
        """
        names = ("rank", "object_id", "ra", "dec", "similarity", "debris_score", "label", "run")
        return self.neighbours.select([name for name in names if name in self.neighbours.column_names])


class Located(NamedTuple):
    """A row of the index of one of several runs."""

    run: int
    row: int


def find_similar(
    query: config.Query,
    runs: RunFiles | Sequence[RunFiles],
    *,
    k: int,
    radius_arcsec: float,
    debris_weight: float,
    cutouts: CutoutSettings | None = None,
) -> SearchResult:
    """Find the galaxies most similar to a query's examples, or those with most debris.

    Parameters
    ----------
    query : config.Query
        Examples and counter-examples, or ``debris``.
    runs : RunFiles or sequence of RunFiles
        The run to search, or several that share encoder and whitening.
    k : int
        Number of neighbours.
    radius_arcsec : float
        Largest distance of the catalog's nearest galaxy from ``query.position``.
    debris_weight : float
        Weight of the debris score; 0 for plain look-alikes.
    cutouts : CutoutSettings, optional
        Needed for ``query.cutout`` only.

    Returns
    -------
    SearchResult
        Up to ``k`` neighbours, best first; equal ones in the order of the runs and of their catalogs.

    Raises
    ------
    TidalkinError
        If an object is unknown or has no vector, nothing is at the position, the cutout cannot be read, the files of a
        run are missing or do not belong together, the runs do not share encoder and whitening, or a query has no
        example and training had no injected light.

    Examples
    --------
    >>> query = config.Query(like=(42,), unlike=(7,))
    >>> found = find_similar(query, RunFiles.of("results/demo"), k=5, radius_arcsec=2.0, debris_weight=1.0)
    >>> found.n_searched, found.table.column_names
    (60, ['rank', 'object_id', 'ra', 'dec', 'similarity', 'label'])
    """
    runs = (runs,) if isinstance(runs, RunFiles) else tuple(runs)
    _check_comparable(runs)
    if query.debris:
        return _find_most_debris(query, runs, k)
    indexes = [open_index(run.index, run.embeddings) for run in runs]
    like = locate(query.like, indexes, runs)
    unlike = locate(query.unlike, indexes, runs)
    if query.position is not None:
        like |= _locate_position(query.position, radius_arcsec, query.unlike, indexes, runs)
    outside = None
    examples, others = _vectors(like, indexes), _vectors(unlike, indexes)
    if query.cutout is not None:
        if cutouts is None:
            raise ValueError("a query with a cutout needs `cutouts`")
        outside = read_outside_galaxy(query.cutout, runs[0], cutouts)
        examples = np.concatenate([examples, outside.vector[None, :]])
    weight = debris_weight if has_debris_score(indexes[0], runs[0]) else None
    towards = direction(examples, others, weight)
    named = {*like.values(), *unlike.values()}
    found, similarity = _most_similar(towards, k, indexes, named)
    made_by = {
        **_made_by(query, runs),
        "Debris weight": f"{weight or 0:g}",
        "Embeddings": ", ".join(index.report.embeddings_digest for index in indexes),
        "Index": ", ".join(f"{index.report.kind}, recall@10 {index.report.recall_at_10:.3f}" for index in indexes),
    }
    ids = [(place.run, int(indexes[place.run].ids[place.row])) for place in found]
    neighbours = _ranked_table(ids, runs).append_column(
        "similarity", arrow_column(np.round(similarity, SIMILARITY_DIGITS))
    )
    return SearchResult(
        neighbours=neighbours,
        like=_catalog_table([*like], runs),
        unlike=_catalog_table([*unlike], runs),
        outside=outside,
        runs=runs,
        n_searched=sum(len(index.ids) for index in indexes),
        made_by=made_by,
        debris_counts=bool(weight),
    )


def _find_most_debris(query: config.Query, runs: tuple[RunFiles, ...], k: int) -> SearchResult:
    """Find the galaxies with the highest debris score."""
    found, n_ranked = most_debris(runs, k)
    score = np.array([galaxy.debris_score for galaxy in found], np.float32)
    neighbours = _ranked_table([(galaxy.run, galaxy.object_id) for galaxy in found], runs).append_column(
        "debris_score", arrow_column(np.round(score, SIMILARITY_DIGITS))
    )
    none = _catalog_table([], runs)
    made_by = {**_made_by(query, runs), "Encoder": load_whitening(runs[0].whitening).encoder}
    return SearchResult(
        neighbours=neighbours,
        like=none,
        unlike=none,
        outside=None,
        runs=runs,
        n_searched=n_ranked,
        made_by=made_by,
        debris_counts=True,
    )


def _made_by(query: config.Query, runs: Sequence[RunFiles]) -> dict[str, str]:
    """Describe a search: the version, the query, and the runs if there are several."""
    made_by = {"Software": f"tidalkin {__version__}", "Query": query.model_dump_json(exclude_defaults=True)}
    return made_by | ({"Runs": ", ".join(names_of(runs))} if len(runs) > 1 else {})


def _check_comparable(runs: Sequence[RunFiles]) -> None:
    """Refuse runs whose vectors cannot be compared."""
    if len(runs) == 1:
        return
    digests = [_whitening_digest(run) for run in runs]
    for run, digest in zip(runs, digests, strict=True):
        if digest != digests[0]:
            raise TidalkinError(
                f"{run.whitening}: differs from {runs[0].whitening}, so that vectors of the two runs cannot be "
                "compared: make one of them with `reuse.encoder` and `reuse.whitening` of the other"
            )
    for number, run in enumerate(runs):
        if any(run.index.resolve() == other.index.resolve() for other in runs[:number]):
            raise TidalkinError(f"run {run.catalog.parent} is named twice: name each run once")


def _whitening_digest(run: RunFiles) -> str:
    """Return the digest of a whitening, which holds the digest of its encoder."""
    try:
        return hashlib.sha256(run.whitening.read_bytes()).hexdigest()
    except OSError as error:
        raise TidalkinError(
            f"{run.whitening}: cannot be read ({error.strerror}): make it with `snakemake --forcerun whiten`"
        ) from None


def locate(
    object_ids: Sequence[int], indexes: Sequence[OpenIndex], runs: Sequence[RunFiles]
) -> dict[tuple[int, int], Located]:
    """Find the rows of objects in the indexes, by (run, object_id).

    Examples
    --------
    >>> files = RunFiles.of("results/demo")
    >>> locate([7, 42], [open_index(files.index, files.embeddings)], [files])
    {(0, 7): Located(run=0, row=6), (0, 42): Located(run=0, row=41)}
    """
    rows = [index.rows_of(object_ids) for index in indexes]
    located = {}
    for object_id in object_ids:
        places = [Located(run, rows[run][object_id]) for run in range(len(runs)) if object_id in rows[run]]
        if not places:
            raise _no_vector(object_id, runs)
        if len(places) > 1:
            names = " and ".join(names_of([runs[place.run] for place in places]))
            raise TidalkinError(f"object {object_id} is in the runs {names}: give its position in place of its id")
        located[places[0].run, object_id] = places[0]
    return located


def _no_vector(object_id: int, runs: Sequence[RunFiles]) -> TidalkinError:
    """Say why an object has no vector."""
    if any(len(catalog_rows(run.catalog, [object_id])) for run in runs):
        return TidalkinError(
            f"object {object_id} has no embedding, since too much of its image is missing: name another one or lower "
            "embedding.minimum_good_fraction"
        )
    catalogs = " or ".join(str(run.catalog) for run in runs)
    return TidalkinError(f"object {object_id} is not in {catalogs}: name an object_id of the catalog")


def _locate_position(
    position: tuple[float, float],
    radius_arcsec: float,
    unlike: Sequence[int],
    indexes: Sequence[OpenIndex],
    runs: Sequence[RunFiles],
) -> dict[tuple[int, int], Located]:
    """Find the galaxy nearest to a position, in any of the runs."""
    nearest = [nearest_object(run.catalog, position) for run in runs]
    number = min(range(len(runs)), key=lambda run: nearest[run][1])
    object_id, distance = nearest[number]
    if distance > radius_arcsec:
        raise TidalkinError(
            f"no galaxy of {runs[number].catalog} is within {radius_arcsec:g} arcsec of position {position[0]:g} "
            f"{position[1]:g}: the nearest, {object_id}, is {angle_text(distance)} away; give its position or a larger "
            "radius"
        )
    if object_id in unlike:
        raise TidalkinError(f"object {object_id} is both at `position` and in `unlike`: name it once")
    ((_, place),) = locate([object_id], indexes[number : number + 1], runs[number : number + 1]).items()
    return {(number, object_id): Located(number, place.row)}


def _vectors(located: Mapping[tuple[int, int], Located], indexes: Sequence[OpenIndex]) -> Vectors:
    """Return the vectors (object, dimension) of located objects."""
    vectors = np.empty((len(located), indexes[0].vectors.shape[1]), np.float32)
    for row, place in enumerate(located.values()):
        vectors[row] = indexes[place.run].vectors[place.row]
    return vectors


def _most_similar(
    towards: Vectors, k: int, indexes: Sequence[OpenIndex], named: set[Located]
) -> tuple[list[Located], Vectors]:
    """Return the most similar rows of all indexes and their similarities.

    Rows that the query names are left out.
    """
    places: list[Located] = []
    similarities = [np.zeros(0, np.float32)]
    for run, index in enumerate(indexes):
        exclude = sorted(place.row for place in named if place.run == run)
        rows, similarity = index.most_similar(towards, k, exclude=exclude)
        places.extend(Located(run, row) for row in rows.tolist())
        similarities.append(similarity)
    similarity = np.concatenate(similarities)
    best = np.argsort(-similarity, kind="stable")[:k]
    return [places[rank] for rank in best], similarity[best]


def _ranked_table(objects: Sequence[tuple[int, int]], runs: Sequence[RunFiles]) -> pa.Table:
    """Return the catalog rows of objects (run, object_id), best first, with their ranks."""
    table = _catalog_table(objects, runs)
    return table.append_column("rank", arrow_column(np.arange(1, len(objects) + 1, dtype=np.int32)))


def _catalog_table(objects: Sequence[tuple[int, int]], runs: Sequence[RunFiles]) -> pa.Table:
    """Return the catalog rows of objects (run, object_id), in their order."""
    parts, order = [], np.zeros(len(objects), np.int64)
    first = 0
    for run, files in enumerate(runs):
        here = [number for number, (of_run, _) in enumerate(objects) if of_run == run]
        part = required_catalog_rows(files.catalog, [objects[number][1] for number in here])
        if len(runs) > 1:
            names = pa.array([names_of(runs)[run]] * len(part), pa.string())
            part = _as_text(part, "label").append_column("run", names)
        parts.append(part)
        order[here] = np.arange(first, first + len(part))
        first += len(part)
    table = parts[0] if len(parts) == 1 else pa.concat_tables(parts, promote_options="default")
    return table.take(arrow_column(order))


def _as_text(table: pa.Table, name: str) -> pa.Table:
    """Return a table with one column, if it is there, as text."""
    if name not in table.column_names:
        return table
    return table.set_column(table.column_names.index(name), name, table[name].cast(pa.string()))
