"""Write the result of a search: tables and a mosaic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidalkin.atomic import atomic_path
from tidalkin.errors import TidalkinError
from tidalkin.search.direction import MOST_EXAMPLES_DRAWN
from tidalkin.search.query import MOST_NAMED, SearchResult

if TYPE_CHECKING:
    from tidalkin.figures.mosaic import Panel


def write_result(found: SearchResult, images: str | Path, directory: str | Path) -> None:
    """Write ``neighbours.csv``, ``neighbours.fits`` and ``mosaic.png``.

    Parameters
    ----------
    found : SearchResult
        What `find_similar` returned.
    images : path
        The run's image store.
    directory : path
        Where to.
    """
    directory = Path(directory)
    _write_csv(found, directory / "neighbours.csv")
    _write_fits(found, directory / "neighbours.fits")
    _write_mosaic(found, images, directory / "mosaic.png")


def _write_csv(found: SearchResult, path: Path) -> None:
    """A table with commas, below lines with ``#`` that say what made it."""
    from pyarrow import csv

    with atomic_path(path) as partial, partial.open("wb") as file:
        for key, value in found.made_by.items():
            file.write(f"# {key}: {value}\n".encode())
        csv.write_csv(found.neighbours, file, csv.WriteOptions(quoting_style="needed", quoting_header="none"))


def _write_fits(found: SearchResult, path: Path) -> None:
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
    with atomic_path(path) as partial:
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(partial, overwrite=True)


def _write_mosaic(found: SearchResult, images: str | Path, path: Path) -> None:
    from tidalkin.figures.mosaic import draw_mosaic

    draw_mosaic(
        list(_panels(found, images)),
        path,
        title=_title(found),
        subtitle=f"the {len(found.neighbours)} nearest of {found.n_searched:,} galaxies: rank, object_id, similarity",
        made_by=found.made_by,
    )


def _title(found: SearchResult) -> str:
    """Describe the query in words."""
    examples = ["your cutout"] * (found.outside is not None) + found.like["object_id"].to_pylist()
    others = found.unlike["object_id"].to_pylist()
    return f"Galaxies like {_listed(examples)}" + (f", unlike {_listed(others)}" if others else "")


def _listed(names: Sequence[object]) -> str:
    """The first names of a list, and how many more there are."""
    shown = ", ".join(map(str, names[:MOST_NAMED]))
    return shown + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")


def _panels(found: SearchResult, images: str | Path) -> Iterator[Panel]:
    """Draw the galaxies of the query and the neighbours found."""
    from tidalkin.figures.mosaic import Panel, rgb
    from tidalkin.images.store import ImageStore

    store = ImageStore.open(images)
    bands = list(store.bands)

    def picture(object_id: int, row: int) -> npt.NDArray[np.float64]:
        if row >= store.n_objects or store.object_id[row] != object_id:
            raise TidalkinError(
                f"{images}: object {object_id} is not in row {row}, as it is in the catalog: make the images of this "
                "catalog with `snakemake --until convert`"
            )
        return rgb(np.asarray(store.flux[row]), np.asarray(store.sky_sigma[row]), bands)

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
