"""Write the result of a search: tables and a mosaic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidalkin.atomic import atomic_path, disk_errors
from tidalkin.errors import TidalkinError
from tidalkin.search.debris import maps_of
from tidalkin.search.files import RunFiles, names_of
from tidalkin.search.query import SearchResult

if TYPE_CHECKING:
    from astropy.table import Table

    from tidalkin.figures.mosaic import Panel

MOST_NAMED = 2
MOST_EXAMPLES_DRAWN = 12
MOST_DEBRIS = "Most debris, with no example"


def write_result(found: SearchResult, directory: str | Path) -> None:
    """Write ``neighbours.csv``, ``neighbours.fits`` and ``mosaic.png``.

    Parameters
    ----------
    found : SearchResult
        What `find_similar` returned.
    directory : path
        Folder to write to; it is made if it is not there.

    Raises
    ------
    TidalkinError
        If the folder cannot be written to, or an image is missing.

    Examples
    --------
    >>> from tidalkin import config, open_run
    >>> write_result(open_run("results/demo").find(config.Query(like=(42,)), k=5), "like-42")
    >>> sorted(path.name for path in Path("like-42").iterdir())
    ['mosaic.png', 'neighbours.csv', 'neighbours.fits']
    """
    directory = Path(directory)
    panels = list(_panels(found))
    with disk_errors(directory):
        _write_csv(found, directory / "neighbours.csv")
        _write_fits(found, directory / "neighbours.fits")
        _write_mosaic(found, panels, directory / "mosaic.png")


def to_table(found: SearchResult) -> Table:
    """Return the neighbours as an astropy table, with units; ``meta`` describes the query.

    Parameters
    ----------
    found : SearchResult
        What `find_similar` returned.

    Returns
    -------
    astropy.table.Table
        Columns rank, object_id, ra, dec, similarity or debris_score, and label and run where there are any.

    Examples
    --------
    >>> from tidalkin import config, open_run
    >>> table = to_table(open_run("results/demo").find(config.Query(like=(42,)), k=5))
    >>> len(table), table["ra"].unit, table.meta["Like"]
    (5, Unit("deg"), '42')
    """
    from astropy.table import Table

    content = found.table
    columns = {name: content[name].to_pylist() for name in content.column_names}
    types = {"rank": np.int32, "object_id": np.int64, "ra": np.float64, "dec": np.float64}
    types |= {"similarity": np.float32, "debris_score": np.float32}
    if "label" in columns:
        columns["label"] = [value or "" for value in columns["label"]]
    table = Table({name: np.array(values, types.get(name, np.str_)) for name, values in columns.items()})
    for name in ("ra", "dec"):
        table[name].unit = "deg"
    table.meta = {
        **found.made_by,
        "Searched": found.n_searched,
        "Like": " ".join(map(str, found.like["object_id"].to_pylist())),
        "Unlike": " ".join(map(str, found.unlike["object_id"].to_pylist())),
    }
    return table


def _write_csv(found: SearchResult, path: Path) -> None:
    """Write a table with commas, below comment lines with its origin."""
    from pyarrow import csv

    with atomic_path(path) as partial, partial.open("wb") as file:
        for key, value in found.made_by.items():
            file.write(f"# {key}: {value}\n".encode())
        csv.write_csv(found.table, file, csv.WriteOptions(quoting_style="needed", quoting_header="none"))


def _write_fits(found: SearchResult, path: Path) -> None:
    """Write a FITS table with its origin in the HISTORY."""
    from astropy.io import fits

    table = to_table(found)
    table.meta = {}
    hdu = fits.table_to_hdu(table)
    hdu.name = "NEIGHBOURS"
    for key, value in found.made_by.items():
        hdu.header.add_history(f"{key}: {value}")
    with atomic_path(path) as partial:
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(partial, overwrite=True)


def _write_mosaic(found: SearchResult, panels: Sequence[Panel], path: Path) -> None:
    """Draw the query and the neighbours."""
    from tidalkin.figures.mosaic import draw_mosaic

    draw_mosaic(
        panels,
        path,
        title=_title(found),
        subtitle=describe_result(len(found.neighbours), found.n_searched, by_debris=found.by_debris),
        made_by=found.made_by,
    )


def _title(found: SearchResult) -> str:
    """Describe the query in words."""
    if found.by_debris:
        return MOST_DEBRIS
    examples = ["your cutout"] * (found.outside is not None) + found.like["object_id"].to_pylist()
    return describe_query(examples, found.unlike["object_id"].to_pylist())


def describe_query(like: Sequence[object], unlike: Sequence[object]) -> str:
    """Describe a query in words.

    Examples
    --------
    >>> describe_query([42, 7, 11], [3])
    'Galaxies like 42, 7 and 1 more, unlike 3'
    """
    return f"Galaxies like {_listed(like)}" + (f", unlike {_listed(unlike)}" if unlike else "")


def describe_result(n_found: int, n_searched: int, *, by_debris: bool) -> str:
    """Describe a result in words.

    Examples
    --------
    >>> describe_result(24, 2400, by_debris=False)
    'Nearest 24 of 2,400 galaxies (rank, object_id, similarity)'
    """
    which, measure = ("First", "debris score") if by_debris else ("Nearest", "similarity")
    return f"{which} {n_found} of {n_searched:,} galaxies (rank, object_id, {measure})"


def _listed(names: Sequence[object]) -> str:
    """List the first names, and count the rest."""
    shown = ", ".join(map(str, names[:MOST_NAMED]))
    return shown + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")


def _panels(found: SearchResult) -> Iterator[Panel]:
    """Draw the galaxies of the query and the neighbours found."""
    from tidalkin.figures.mosaic import Panel, rgb
    from tidalkin.images.store import ImageStore

    pictures = Pictures(found.runs)
    if found.outside is not None:
        bands = ImageStore.open(found.runs[0].images).bands
        yield Panel(rgb(found.outside.flux, found.outside.sky_sigma, bands), "like your cutout", role="example")
    asked: tuple[tuple[Literal["example", "counter-example"], str, pa.Table], ...] = (
        ("example", "like", found.like),
        ("counter-example", "unlike", found.unlike),
    )
    for role, word, objects in asked:
        for row in objects.slice(0, MOST_EXAMPLES_DRAWN).to_pylist():
            heading = f"{word} {row['object_id']}"
            yield Panel(pictures.of(row), heading, row.get("label") or "", role=role)
    for row in found.neighbours.to_pylist():
        value = f"{row['debris_score']:.2f}" if found.by_debris else f"{row['similarity']:.3f}"
        caption = f"{value}   {row.get('label') or ''}".rstrip()
        debris_map = pictures.debris_map_of(row) if found.debris_counts else None
        yield Panel(pictures.of(row), f"{row['rank']}   {row['object_id']}", caption, debris_map=debris_map)


class Pictures:
    """Colour composites and debris maps of the galaxies of one run or several.

    Parameters
    ----------
    runs : sequence of RunFiles
        The runs.
    """

    def __init__(self, runs: Sequence[RunFiles]) -> None:
        from tidalkin.images.store import ImageStore

        self._runs = dict(zip(names_of(runs), runs, strict=True))
        self._stores = {name: ImageStore.open(run.images) for name, run in self._runs.items()}
        self._first_run = names_of(runs)[0]

    def of(self, row: dict[str, object]) -> npt.NDArray[np.float64]:
        """Draw one row of a table with the columns of `catalog_rows`, (y, x, 3)."""
        from tidalkin.figures.mosaic import rgb

        run, object_id, place = self._place_of(row)
        store = self._stores[run]
        if place >= store.n_objects or store.object_id[place] != object_id:
            raise TidalkinError(
                f"{self._runs[run].images}: object {object_id} is not in row {place}, as it is in the catalog: make "
                "the images of this catalog with `snakemake --forcerun convert`"
            )
        return rgb(np.asarray(store.flux[place]), np.asarray(store.sky_sigma[place]), store.bands)

    def debris_map_of(self, row: dict[str, object]) -> npt.NDArray[np.float32] | None:
        """Read the debris map (cell, cell) of one row; None where there is none."""
        run, object_id, place = self._place_of(row)
        shard = self._runs[run].embeddings / f"{place // self._stores[run].shard_size:05d}"
        debris_maps = shard.with_suffix(".debris_map.npy")
        if not debris_maps.exists():
            return None
        return maps_of([object_id], [debris_maps], [shard.with_suffix(".ids.npy")]).get(object_id)

    def _place_of(self, row: dict[str, object]) -> tuple[str, int, int]:
        """Return run, object_id and row in the image store of one row of a table."""
        object_id, place = row["object_id"], row["row"]
        assert isinstance(object_id, int)
        assert isinstance(place, int)
        return str(row.get("run", self._first_run)), object_id, place
