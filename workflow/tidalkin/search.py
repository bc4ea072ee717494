"""Questions to answers: which galaxies look like these, and not like those.

A question names examples (by object id, by position, or as a FITS cutout of a galaxy that is not in the catalog) and
counter-examples. One example is compared with all others by the product of the vectors, in which the host galaxy
counts for less than what is around it; several become one direction, see `direction`. Objects named in the question
are never in the answer.

Nothing is read that the answer does not need, so that a question by object id is answered in a second or two, Python's
start included: libraries that take long to import are imported where they are used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tidalkin import __version__, config
from tidalkin.errors import TidalkinError
from tidalkin.files import written_whole
from tidalkin.index import OpenIndex, open_index
from tidalkin.whitening import load_whitening

if TYPE_CHECKING:
    from tidalkin.figures import Panel

Vectors = npt.NDArray[np.float32]

POPULATION_WEIGHT = 16.0
MOST_EXAMPLES_DRAWN, MOST_NAMED = 12, 2
SIMILARITY_DIGITS = 5


@dataclass(frozen=True)
class RunFiles:
    """The files of a run that questions are answered from."""

    catalog: Path
    embeddings: Path
    """Folder of the shards."""
    index: Path
    """Folder of the index."""
    images: Path
    encoder: Path
    whitening: Path

    @classmethod
    def of(cls, run: str | Path) -> RunFiles:
        """The files where the workflow puts them, below ``results/<run>``."""
        run = Path(run)
        return cls(
            run / "catalog.parquet",
            run / "embeddings",
            run / "index",
            run / "images.zarr",
            run / "encoder" / "encoder.pt",
            run / "whitening.npz",
        )


@dataclass(frozen=True)
class CutoutSettings:
    """How the run embedded its galaxies, and so must embed a cutout from outside."""

    images: config.Images
    embedding: config.Embedding
    compute: config.Compute


@dataclass(frozen=True)
class OutsideGalaxy:
    """A galaxy that is not in the catalog."""

    flux: Vectors
    """(band, y, x), nJy."""
    sky_sigma: Vectors
    """(band,), nJy."""
    vector: Vectors
    """(dimension,), of length 1."""


@dataclass(frozen=True)
class Answer:
    """Who looks like the examples."""

    neighbours: pa.Table
    """Columns rank, object_id, ra, dec, similarity, and label where the catalog has one; most similar first."""
    neighbour_rows: npt.NDArray[np.int64]
    """Their rows in the catalog and in the image store."""
    like: pa.Table
    """Examples from the catalog, that at the position among them; columns as of `catalog_rows`."""
    unlike: pa.Table
    outside: OutsideGalaxy | None
    searched: int
    """Number of galaxies looked through."""
    made_by: Mapping[str, str]
    """Question, versions and digests, for the metadata of what is written."""


# --- asking ------------------------------------------------------------------------------------------------------


def answer(
    query: config.Query,
    files: RunFiles,
    *,
    k: int,
    radius_arcsec: float,
    weights: config.Weights,
    cutouts: CutoutSettings | None = None,
) -> Answer:
    """Answer a question.

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
    weights : config.Weights
        How much the host galaxy and the unusualness count.
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
    rows = _rows_of(opened, like + unlike, files.catalog)
    outside = None
    named = opened.vectors[rows].astype(np.float32)
    examples = named[: len(like)]
    if query.cutout is not None:
        if cutouts is None:
            raise ValueError("a question with a cutout needs `cutouts`")
        outside = read_outside_galaxy(query.cutout, files, cutouts)
        examples = np.concatenate([examples, outside.vector[None, :]])
    towards = direction(examples, named[len(like) :], _importance(opened, files, weights))
    found, similarity = opened.most_similar(towards, k, exclude=rows.tolist())
    made_by = {
        "Software": f"tidalkin {__version__}",
        "Query": query.model_dump_json(exclude_defaults=True),
        "Weights": weights.model_dump_json(),
        "Embeddings": opened.report.embeddings_digest,
        "Index": f"{opened.report.kind}, recall@10 {opened.report.recall_at_10:.3f}",
    }
    known = _known(files.catalog, (*like, *unlike, *opened.ids[found].tolist()))
    asked, others, answers = _cut(known, len(like), len(unlike))
    return Answer(
        _table(answers, similarity), _values(answers["row"]), asked, others, outside, len(opened.ids), made_by
    )


def direction(like: Vectors, unlike: Vectors, importance: Vectors) -> Vectors:
    """The direction in which examples differ from everything else, and from the counter-examples.

    Least squares on whitened vectors: examples shall have the value 1, counter-examples and the population 0. The
    vectors of a whitened population have mean 0 and covariance 1/d, so that its share of the squares is a ridge
    penalty, and needs no sample of it; the penalty of a dimension is divided by its importance. Without
    counter-examples this is near the mean of the examples. With them, it leaves out what they have in common with the
    examples. It was chosen on simulated vectors, with 5 to 20 examples and the first search's 5 to 60 best wrong
    answers as counter-examples: average precision rose from 0.35 to 0.37 with 20 and 5, from 0.44 to 0.48 with 20 and
    60, and never fell, as it did with the difference of the two means (to 0.16).

    Parameters
    ----------
    like : (example, dimension) float32
        At least one.
    unlike : (counter-example, dimension) float32
        May be none.
    importance : (dimension,) float32
        How much each dimension counts, 0 or more; see `tidalkin.whitening.Whitening.importance`.

    Returns
    -------
    (dimension,) float32
        Of length 1; of a single example without counter-examples, its vector times the importance.
    """
    dimensions = like.shape[1]
    root = np.sqrt(importance.astype(np.float64))
    examples, others = like * root, unlike * root
    squares = np.eye(dimensions) * (POPULATION_WEIGHT / dimensions) + examples.T @ examples / len(examples)
    if len(others):
        squares += others.T @ others / len(others)
    towards = np.linalg.solve(squares, examples.mean(axis=0)) * root
    length = float(np.linalg.norm(towards))
    if length == 0:
        raise TidalkinError("the examples cancel each other out: ask about fewer or more similar ones")
    unit: Vectors = (towards / length).astype(np.float32)
    return unit


def _importance(opened: OpenIndex, files: RunFiles, weights: config.Weights) -> Vectors:
    """How much each dimension of the run's vectors counts."""
    importance = load_whitening(files.whitening).importance(weights)
    dimensions = opened.vectors.shape[1]
    if len(importance) != dimensions:
        raise TidalkinError(
            f"{files.whitening}: makes vectors of {len(importance)} dimensions, but the index has {dimensions}: make "
            "the index of these embeddings with `snakemake --until index`"
        )
    return importance


def _rows_of(opened: OpenIndex, object_ids: Sequence[int], catalog: Path) -> npt.NDArray[np.int64]:
    """Rows of objects in the index, in their order."""
    rows = opened.rows_of(object_ids)
    for object_id in object_ids:
        if object_id in rows:
            continue
        if len(catalog_rows(catalog, [object_id])):
            raise TidalkinError(
                f"object {object_id} has no embedding, since too much of its image is missing: ask about another one "
                "or lower embedding.minimum_good_fraction"
            )
        raise TidalkinError(f"object {object_id} is not in {catalog}: ask about an object_id of this catalog")
    return np.array([rows[object_id] for object_id in object_ids], np.int64)


def _known(catalog: Path, object_ids: Sequence[int]) -> pa.Table:
    """Rows of the catalog, which must have all these objects."""
    known = catalog_rows(catalog, object_ids)
    if len(known) < len(object_ids):
        missing = set(object_ids) - set(known["object_id"].to_pylist())
        raise TidalkinError(
            f"{catalog}: lacks object {min(missing)}, which has an embedding: make the embeddings of this catalog with "
            "`snakemake --until index`"
        )
    return known


def _cut(table: pa.Table, first: int, second: int) -> tuple[pa.Table, pa.Table, pa.Table]:
    """The first rows, the next rows, and the rest."""
    return table.slice(0, first), table.slice(first, second), table.slice(first + second)


def _table(answers: pa.Table, similarity: Vectors) -> pa.Table:
    """The answer's columns."""
    columns = {
        "rank": _column(np.arange(1, len(answers) + 1, dtype=np.int32)),
        "object_id": answers["object_id"],
        "ra": answers["ra"],
        "dec": answers["dec"],
        "similarity": _column(np.round(similarity, SIMILARITY_DIGITS)),
    }
    return pa.table(columns | ({"label": answers["label"]} if "label" in answers.column_names else {}))


# --- the catalog -------------------------------------------------------------------------------------------------


@contextmanager
def _open_catalog(catalog: str | Path) -> Iterator[pq.ParquetFile]:
    """A catalog, to be read in parts."""
    try:
        with pq.ParquetFile(catalog) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise TidalkinError(f"{catalog}: cannot be read ({reason}): make it with `snakemake --until catalog`") from None


def catalog_rows(catalog: str | Path, object_ids: Sequence[int]) -> pa.Table:
    """Position and label of some objects, without reading the whole catalog.

    Parameters
    ----------
    catalog : path
        The run's ``catalog.parquet``.
    object_ids : sequence of int
        Which objects; those that are not there are left out.

    Returns
    -------
    pyarrow.Table
        Columns object_id, ra, dec, label where there is one, and row (int64, of the catalog and so of the image
        store), in the order of ``object_ids``.
    """
    wanted = np.asarray(object_ids, np.int64)
    parts: list[pa.Table] = []
    first = 0
    with _open_catalog(catalog) as file:
        columns = [name for name in ("object_id", "ra", "dec", "label") if name in file.schema_arrow.names]
        for group in range(file.num_row_groups):
            ids = _values(file.read_row_group(group, ["object_id"])["object_id"])
            here = np.flatnonzero(np.isin(ids, wanted))
            if len(here):
                part = file.read_row_group(group, columns).take(_column(here))
                parts.append(part.append_column("row", _column(first + here)))
            first += len(ids)
        schema = pa.schema([file.schema_arrow.field(name) for name in columns])
    none = pa.Table.from_batches([], schema).append_column("row", _column(np.zeros(0, np.int64)))
    found = pa.concat_tables([none, *parts])
    place = {object_id: row for row, object_id in enumerate(found["object_id"].to_pylist())}
    order = [place[object_id] for object_id in wanted.tolist() if object_id in place]
    return found.take(_column(np.array(order, np.int64)))


def _column(values: npt.NDArray[np.generic]) -> pa.Array:
    """An array as Arrow's; `pa.array` and others import pandas, which would take a quarter of an answer's time."""
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def _values(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """A column of numbers, as an array."""
    return np.from_dlpack(column.combine_chunks())


def nearest_object(catalog: str | Path, position: tuple[float, float], radius_arcsec: float) -> int:
    """The catalog object nearest to a position.

    Parameters
    ----------
    catalog : path
        The run's ``catalog.parquet``.
    position : (float, float)
        Right ascension and declination, degrees, ICRS.
    radius_arcsec : float
        How far it may be.

    Raises
    ------
    TidalkinError
        If there is none; with the distance of the nearest one.
    """
    best_distance, best_object = math.inf, 0
    with _open_catalog(catalog) as file:
        for group in range(file.num_row_groups):
            part = file.read_row_group(group, ["object_id", "ra", "dec"])
            distance = separation_arcsec(*position, _values(part["ra"]), _values(part["dec"]))
            nearest = int(distance.argmin())
            if distance[nearest] < best_distance:
                best_distance, best_object = float(distance[nearest]), part["object_id"][nearest].as_py()
    if best_distance > radius_arcsec:
        raise TidalkinError(
            f"no galaxy of {catalog} is within {radius_arcsec:g} arcsec of position {position[0]:g} {position[1]:g}: "
            f"the nearest, {best_object}, is {best_distance:.1f} arcsec away; give its position or a larger radius"
        )
    return int(best_object)


def separation_arcsec(
    ra: float, dec: float, others_ra: npt.NDArray[np.float64], others_dec: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Angular distances, arcsec, of positions in degrees, by the haversine formula, which is exact at small angles."""
    phi, phis = np.radians(dec), np.radians(others_dec)
    half_dec, half_ra = (phis - phi) / 2, np.radians(others_ra - ra) / 2
    haversine = np.sin(half_dec) ** 2 + np.cos(phi) * np.cos(phis) * np.sin(half_ra) ** 2
    distance: npt.NDArray[np.float64] = np.degrees(2 * np.arcsin(np.sqrt(np.clip(haversine, 0, 1)))) * 3600
    return distance


# --- a galaxy from outside ---------------------------------------------------------------------------------------


def read_outside_galaxy(template: str, files: RunFiles, settings: CutoutSettings) -> OutsideGalaxy:
    """Read and embed a galaxy that is not in the catalog; it is taken to be in the middle of its image.

    Parameters
    ----------
    template : str
        A FITS file with the HDUs ``G``, ``R``, ..., or a file name with ``{band}`` or ``{BAND}``.
    files : RunFiles
        Encoder and whitening of the run.
    settings : CutoutSettings
        How the run read and embedded its own galaxies.

    Raises
    ------
    TidalkinError
        If a band is missing, cannot be read, or has too few good pixels.
    """
    # Imported here: torch takes seconds, and other questions do not need it.
    from tidalkin.cutouts import place_on_grid, read_cutout
    from tidalkin.embedding import features
    from tidalkin.encoder_file import load_encoder
    from tidalkin.images import sky_sigma

    loaded, whitening = load_encoder(files.encoder), load_whitening(files.whitening)
    whitening.check(loaded.digest, files.whitening)
    flux, sigma = [], []
    for band, content in _outside_files(template, loaded.bands):
        name = f"cutout {template}, band {band}"
        images = settings.images
        cutout = read_cutout(content, name, images.bad_mask_planes, images.bad_mask_bits)
        sigma.append(sky_sigma(cutout.flux, cutout.variance))
        flux.append(place_on_grid(cutout.flux, None, 0.0, 0.0, loaded.image_size))
        good = float(np.isfinite(flux[-1]).mean())
        least = settings.embedding.minimum_good_fraction
        if good < least:
            raise TidalkinError(
                f"{name}: has only {100 * good:.0f} % good pixels on the grid of {loaded.image_size} x "
                f"{loaded.image_size}, but embedding.minimum_good_fraction asks for {100 * least:.0f} %: give a larger "
                "cutout"
            )
    image = np.stack(flux)
    vector = whitening.apply(features(loaded, image[None], settings.embedding, settings.compute))[0]
    return OutsideGalaxy(image, np.array(sigma, np.float32), vector)


def _outside_files(template: str, bands: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """The FITS content of each band."""
    import pandas as pd

    from tidalkin.sources.folder import FolderSource

    path = Path(template)
    # Not validated: unlike a folder of many, the name of one file need not hold the object's id.
    folder = config.Folder.model_construct(path=str(path.parent), template=path.name)
    one = pd.DataFrame({"object_id": [0]})
    for delivery in FolderSource(folder).deliver(one, bands):
        if delivery.status != "ok":
            raise TidalkinError(
                f"cutout {template}: band {delivery.band} is {delivery.status} ({delivery.reason}): the encoder needs "
                f"the bands {', '.join(bands)}"
            )
        yield delivery.band, delivery.content


# --- writing -----------------------------------------------------------------------------------------------------


def write_answer(found: Answer, images: str | Path, directory: str | Path) -> None:
    """Write ``neighbours.csv``, ``neighbours.fits`` and ``mosaic.png``.

    Parameters
    ----------
    found : Answer
        What `answer` found.
    images : path
        The run's image store.
    directory : path
        Where to.
    """
    directory = Path(directory)
    _write_csv(found, directory / "neighbours.csv")
    _write_fits(found, directory / "neighbours.fits")
    _draw(found, images, directory / "mosaic.png")


def _write_csv(found: Answer, path: Path) -> None:
    """A table with commas, below lines with ``#`` that say what made it."""
    from pyarrow import csv

    with written_whole(path) as partial, partial.open("wb") as file:
        for key, value in found.made_by.items():
            file.write(f"# {key}: {value}\n".encode())
        csv.write_csv(found.neighbours, file, csv.WriteOptions(quoting_style="needed", quoting_header="none"))


def _write_fits(found: Answer, path: Path) -> None:
    from astropy.io import fits
    from astropy.table import Table

    columns = {name: found.neighbours[name].to_pylist() for name in found.neighbours.column_names}
    types = {"rank": np.int32, "object_id": np.int64, "ra": np.float64, "dec": np.float64, "similarity": np.float32}
    if "label" in columns:
        columns["label"] = [value or "" for value in columns["label"]]
    table = Table({name: np.array(values, types.get(name, np.str_)) for name, values in columns.items()})
    for name in ("ra", "dec"):
        table[name].unit = "deg"
    hdu = fits.table_to_hdu(table)
    hdu.name = "NEIGHBOURS"
    for key, value in found.made_by.items():
        hdu.header.add_history(f"{key}: {value}")
    with written_whole(path) as partial:
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(partial, overwrite=True)


def _draw(found: Answer, images: str | Path, path: Path) -> None:
    from tidalkin.figures import draw_mosaic

    draw_mosaic(
        list(_panels(found, images)),
        path,
        title=_title(found),
        subtitle=f"the {len(found.neighbours)} nearest of {found.searched:,} galaxies: rank, object_id, similarity",
        made_by=found.made_by,
    )


def _title(found: Answer) -> str:
    """The question in words."""
    examples = ["your cutout"] * (found.outside is not None) + found.like["object_id"].to_pylist()
    others = found.unlike["object_id"].to_pylist()
    return f"Galaxies like {_listed(examples)}" + (f", unlike {_listed(others)}" if others else "")


def _listed(names: Sequence[object]) -> str:
    """The first names of a list, and how many more there are."""
    shown = ", ".join(map(str, names[:MOST_NAMED]))
    return shown + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")


def _panels(found: Answer, images: str | Path) -> Iterator[Panel]:
    """Pictures of the question's galaxies and of the answers."""
    from tidalkin.figures import Panel, rgb
    from tidalkin.images import array_of, open_store

    store = open_store(images)
    bands = [str(band) for band in store.attrs["bands"]]  # type: ignore[union-attr]
    flux, sky_sigma, ids = (array_of(store, name) for name in ("flux", "sky_sigma", "object_id"))

    def picture(object_id: int, row: int) -> npt.NDArray[np.float64]:
        if row >= ids.shape[0] or ids[row] != object_id:
            raise TidalkinError(
                f"{images}: object {object_id} is not in row {row}, as it is in the catalog: make the images of this "
                "catalog with `snakemake --until convert`"
            )
        return rgb(np.asarray(flux[row]), np.asarray(sky_sigma[row]), bands)

    if found.outside is not None:
        yield Panel(rgb(found.outside.flux, found.outside.sky_sigma, bands), "like your cutout", role="example")
    asked: tuple[tuple[Literal["example", "counter-example"], str, pa.Table], ...] = (
        ("example", "like", found.like),
        ("counter-example", "unlike", found.unlike),
    )
    for role, word, objects in asked:
        for row in objects.slice(0, MOST_EXAMPLES_DRAWN).to_pylist():
            heading = f"{word} {row['object_id']}"
            yield Panel(picture(row["object_id"], row["row"]), heading, row.get("label") or "", role=role)
    for row, place in zip(found.neighbours.to_pylist(), found.neighbour_rows.tolist(), strict=True):
        caption = f"{row['similarity']:.3f}   {row.get('label') or ''}".rstrip()
        yield Panel(picture(row["object_id"], place), f"{row['rank']}   {row['object_id']}", caption)
