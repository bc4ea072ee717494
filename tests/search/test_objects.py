"""Objects by id and by position."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from tidalkin.catalog.read import write_catalog
from tidalkin.errors import TidalkinError
from tidalkin.search.objects import catalog_rows, nearest_object, separation_arcsec

sky = st.tuples(st.floats(0, 359.999), st.floats(-90, 90))


@given(sky, sky)
def test_separations_agree_with_astropy(one, other):
    expected = SkyCoord(*one, unit="deg").separation(SkyCoord(*other, unit="deg")).arcsec
    found = separation_arcsec(*one, np.array([other[0]]), np.array([other[1]]))[0]
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_the_nearest_galaxy_is_found_across_ra_zero_and_row_groups(tmp_path):
    catalog = pd.DataFrame({"object_id": [1, 2, 3], "ra": [10.0, 359.9999, 20.0], "dec": [0.0, 0.0, 0.0]})
    write_catalog(catalog, tmp_path / "catalog.parquet")
    pq.write_table(pq.read_table(tmp_path / "catalog.parquet"), tmp_path / "grouped.parquet", row_group_size=1)
    assert nearest_object(tmp_path / "grouped.parquet", (0.0, 0.0))[0] == 2
    rows = catalog_rows(tmp_path / "grouped.parquet", [3, 99, 1])
    assert rows.select(["object_id", "row"]).to_pylist() == [{"object_id": 3, "row": 2}, {"object_id": 1, "row": 0}]


def test_a_damaged_catalog_is_named(tmp_path):
    (tmp_path / "catalog.parquet").write_text("not a parquet file")
    with pytest.raises(TidalkinError, match=r"catalog\.parquet: cannot be read"):
        catalog_rows(tmp_path / "catalog.parquet", [1])
