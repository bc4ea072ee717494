"""Check the queries of a configuration before anything is fetched or trained for them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tidalkin.config import Search
from tidalkin.errors import TidalkinError

if TYPE_CHECKING:
    import pyarrow as pa


def check_queries(search: Search, bands: tuple[str, ...], objects: pa.Table) -> None:
    """Refuse a query that names a galaxy or a file that does not exist.

    Parameters
    ----------
    search : Search
        The queries of the configuration.
    bands : tuple of str
        Bands of the run.
    objects : pyarrow.Table
        The galaxies of the run: object_id, ra and dec (degrees).

    Raises
    ------
    TidalkinError
        With the query, the galaxy, position or file, and the fix.

    Examples
    --------
    >>> import pyarrow as pa
    >>> objects = pa.table({"object_id": [7, 8], "ra": [150.1, 150.2], "dec": [2.2, 2.3]})
    >>> check_queries(Search(queries={"shells": {"like": [7, 9]}}), ("g", "i"), objects)
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: search.queries.shells.like: object 9 is not in the catalog: name an object_id of this
    catalog
    """
    known = objects["object_id"].to_numpy()
    for name, query in search.queries.items():
        for key, ids in (("like", query.like), ("unlike", query.unlike)):
            unknown = np.setdiff1d(np.array(ids, np.int64), known)
            if len(unknown):
                raise TidalkinError(
                    f"search.queries.{name}.{key}: object {unknown[0]} is not in the catalog: "
                    "name an object_id of this catalog"
                )
        if query.position:
            # Imported here: it brings FAISS, which planning needs for nothing else.
            from tidalkin.search.objects import angle_text, separation_arcsec

            distance = separation_arcsec(*query.position, objects["ra"].to_numpy(), objects["dec"].to_numpy())
            if distance.min() > search.radius_arcsec:
                raise TidalkinError(
                    f"search.queries.{name}.position: no galaxy is within {search.radius_arcsec:g} arcsec of "
                    f"{list(query.position)}; the nearest, {known[distance.argmin()]}, is "
                    f"{angle_text(distance.min())} away: give its position, or a larger search.radius_arcsec"
                )
        for file in cutout_files(query.cutout, bands) if query.cutout else ():
            if not Path(file).is_file():
                raise TidalkinError(f"search.queries.{name}.cutout: {file} does not exist: correct the path")


def cutout_files(template: str, bands: Iterable[str]) -> tuple[str, ...]:
    """Name the FITS files of a query's own galaxy.

    Examples
    --------
    >>> cutout_files("mine-{BAND}.fits", ["g", "i"])
    ('mine-G.fits', 'mine-I.fits')
    """
    return tuple(dict.fromkeys(template.replace("{band}", band).replace("{BAND}", band.upper()) for band in bands))
