"""A query for a missing galaxy or file is refused before anything is trained."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tidalkin.config import Query, Search
from tidalkin.errors import TidalkinError
from tidalkin.search.check import check_queries

OBJECTS = pa.table({"object_id": [1, 2], "ra": [150.0, 151.0], "dec": [2.0, 2.0]})


def check(**query: object) -> None:
    check_queries(Search(queries={"mine": Query(**query)}), ("g", "i"), OBJECTS)


def test_galaxies_of_the_catalog_are_accepted(tmp_path):
    for band in "GI":
        (tmp_path / f"{band}.fits").touch()
    check(like=(1,), unlike=(2,))
    check(position=(150.0, 2.0003))
    check(cutout=str(tmp_path / "{BAND}.fits"))


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"like": (1, 7)}, "queries.mine.like: object 7 is not in the catalog: name an object_id of this catalog"),
        ({"like": (1,), "unlike": (9,)}, "queries.mine.unlike: object 9 is not in the catalog"),
        ({"position": (150.0, 2.01)}, r"queries.mine.position: no galaxy is within 2 arcsec .* 1, is 36.0 arcsec away"),
        ({"cutout": "none-{band}.fits"}, "queries.mine.cutout: none-g.fits does not exist: correct the path"),
    ],
)
def test_what_is_not_there_is_named_with_its_query(query, sentence):
    with pytest.raises(TidalkinError, match=sentence):
        check(**query)
