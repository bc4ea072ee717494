"""Tests of reading, checking and writing catalogs."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.table import MaskedColumn, Table
from hypothesis import given, settings
from hypothesis import strategies as st

from tidalkin.catalog.partition import chunk_names, shard_names
from tidalkin.catalog.read import check_catalog, read_catalog, split_catalog, write_catalog
from tidalkin.errors import TidalkinError

ID = 43160169307177141  # of 17 digits: a float would round it


def galaxies(n):
    return pd.DataFrame({"object_id": np.arange(n) + ID, "ra": np.linspace(0, 359, n), "dec": np.linspace(-80, 80, n)})


def csv(tmp_path, text):
    path = tmp_path / "galaxies.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["g.csv", "g.csv.gz", "g.fits", "g.fits.gz", "g.vot", "g.parquet"])
def test_every_format_gives_the_same_catalog(tmp_path, name):
    expected = galaxies(3).assign(label=["none", "shell", "stream"], mag=[18.0, 19.5, 20.25])
    path = tmp_path / name
    if ".csv" in name:
        expected.to_csv(path, index=False)
    elif ".parquet" in name:
        expected.to_parquet(path)
    else:
        Table.from_pandas(expected).write(path, format="votable" if ".vot" in name else "fits")
    found = read_catalog(path)
    assert found["object_id"].tolist() == [ID, ID + 1, ID + 2]
    assert all(str(kind) in ("int64", "float64", "object", "str") for kind in found.dtypes)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


@pytest.mark.parametrize(
    "names",
    [
        "object_id,ra,dec",
        "ID,RAJ2000,DEJ2000",
        "objid,i_ra,i_dec",
        "source_id,RA_ICRS,DE_ICRS",
        "NUMBER,ALPHA_J2000,DELTA_J2000",
        "# object_id,ra,dec",
        "objectId, Ra, Dec",
    ],
)
def test_the_usual_column_names_are_known(tmp_path, names):
    found = read_catalog(csv(tmp_path, f"{names}\n{ID},150.1,2.2\n"))
    assert list(found.columns) == ["object_id", "ra", "dec"]
    assert [found[name][0] for name in found] == [ID, 150.1, 2.2]


def test_the_configuration_names_columns_and_what_they_shadow_is_kept(tmp_path):
    path = csv(tmp_path, "MY_ID,ra,dec,ra_good,class\n7,1.0,2.0,1.5,shell\n")
    found = read_catalog(path, {"object_id": "MY_ID", "ra": "ra_good", "label": "class"})
    assert found.iloc[0].to_dict() == {"object_id": 7, "ra": 1.5, "dec": 2.0, "ra_in_file": 1.0, "label": "shell"}


@pytest.mark.parametrize(
    ("names", "columns", "expected"),
    [
        ("object_id,dec,ra", {"ra": "dec", "dec": "ra"}, {"object_id": 1, "ra": 2, "dec": 3}),
        ("ra,RAJ2000,dec", {"object_id": "ra"}, {"object_id": 1, "ra": 2, "dec": 3}),
        (
            "id,ra,dec,ra_in_file,best",
            {"ra": "best"},
            {"object_id": 1, "ra": 5, "dec": 3, "ra_in_file": 2, "ra_in_file_2": 4},
        ),
        (
            "id,ra,dec,label,kind",
            {"label": "kind"},
            {"object_id": 1, "ra": 2, "dec": 3, "label_in_file": 4, "label": "5"},
        ),
    ],
)
def test_a_column_may_have_the_name_of_another_use(tmp_path, names, columns, expected):
    values = ",".join(str(i + 1) for i in range(names.count(",") + 1))
    assert read_catalog(csv(tmp_path, f"{names}\n{values}\n"), columns).iloc[0].to_dict() == expected


@pytest.mark.parametrize(
    ("text", "columns", "sentence"),
    [
        ("object_id,ra,dec\n1,10,20\n2,11,21\n1,12,22\n", {}, r"one object_id in several rows: row 1 .*1\), row 3"),
        ("object_id,ra,dec\n1,10,20\n2,,21\n", {}, r"has no ra: row 2 \(object_id 2\)"),
        ("object_id,ra,dec\n1,10,20\n2,11,inf\n", {}, r"dec outside -90 to 90 degrees: row 2 \(object_id 2: inf\)"),
        ("object_id,ra,dec\n1,10,95.5\n", {}, r"dec outside -90 to 90 degrees: row 1 \(object_id 1: 95.5\)"),
        ("object_id,ra,dec\n1,-10,5\n", {}, r"ra outside 0 to 360 degrees: row 1 \(object_id 1: -10"),
        ("object_id,ra,dec\n1,10:00:01,5\n", {}, r"ra that is not a number \(positions are decimal degrees\): row 1"),
        ("object_id,ra,dec\nNGC 474,10,5\n", {}, r"not a whole number of at most 63 bits: row 1 \(object_id NGC 474\)"),
        ("object_id,ra,dec\n99999999999999999999,10,5\n", {}, "not a whole number of at most 63 bits"),
        ("object_id,ra,dec\n1.5,10,5\n", {}, "not a whole number"),
        ("object_id,ra,dec\n,10,5\n", {}, "has no object_id: row 1"),
        ("object_id,ra,dec\n", {}, "has no rows"),
        ("", {}, "cannot be read"),
        ("id,objid,ra,dec\n1,2,3,4\n", {}, r"several columns that could be object_id \(id, objid\)"),
        ("name,ra,dec\n1,2,3\n", {}, r"no column for object_id \(its columns: name, ra, dec\)"),
        ("object_id,ra,dec\n1,2,3\n", {"ra": "RA_X"}, "no column 'RA_X'.*object_id, ra, dec"),
        ("object_id,ra,dec\n1,2,3\n", {"object_id": "ra"}, "column 'ra' as both object_id and ra: name another column"),
        ("object_id,ra,dec\n1,2,3\n", {"ra": "dec", "dec": "dec"}, "column 'dec' as both ra and dec"),
        (
            "object_id,ra,dec,label\n1,2,3,x\n",
            {"label": "ra"},
            "column 'ra' as both label and ra: .* write a copy of it",
        ),
        ("id,ra,dec\n1,2,3\n", {"number": "id"}, "column 'id' as both number and object_id"),
        ("object_id,ra,dec,psf_fwhm_g\n1,2,3,good\n", {}, "psf_fwhm_g that is not a number"),
    ],
)
def test_a_bad_catalog_is_refused_in_a_sentence_that_names_file_and_row(tmp_path, text, columns, sentence):
    path = csv(tmp_path, text)
    with pytest.raises(TidalkinError, match=sentence) as error:
        read_catalog(path, columns)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_impossible_seeing_is_told_with_its_rows(tmp_path, caplog):
    path = csv(tmp_path, "object_id,ra,dec,psf_fwhm_g,psf_fwhm_r\n1,2,3,0.7,9999\n4,2,3,-99,inf\n5,2,3,30,\n")
    assert read_catalog(path)["psf_fwhm_r"].tolist()[:2] == [9999.0, np.inf]
    assert caplog.messages == [
        f"catalog {path} has a psf_fwhm_r above 30 arcsec, which counts as unknown: row 1 (object_id 1: 9999.0), row 2 "
        "(object_id 4: inf)"
    ]


@pytest.mark.parametrize("name", ["g.fits", "g.vot", "g.parquet", "g.csv.gz", "g.txt", "g.xml"])
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_text("this is not a table\n")
    with pytest.raises(TidalkinError, match=name) as error:
        read_catalog(path)
    assert "\n" not in str(error.value)


def test_a_truncated_file_is_refused(tmp_path):
    whole = tmp_path / "whole.fits"
    Table.from_pandas(galaxies(1000)).write(whole)
    (tmp_path / "cut.fits").write_bytes(whole.read_bytes()[:8000])
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(galaxies(1000).to_csv(index=False).encode())[:2000])
    for name in ("cut.fits", "cut.csv.gz"):
        with pytest.raises(TidalkinError, match=name):
            read_catalog(tmp_path / name)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(TidalkinError, match=r"nowhere.csv does not exist"):
        read_catalog(tmp_path / "nowhere.csv")


def test_what_is_there_but_no_file_is_not_called_missing(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    for name in ("folder.csv", "loop.csv"):
        with pytest.raises(TidalkinError, match=rf"{name} is not a file: check catalog.path"):
            read_catalog(tmp_path / name)


def test_two_columns_of_one_name_in_a_parquet_file_are_refused(tmp_path):
    pq.write_table(pa.table([[1], [1.0], [2.0], [3.0]], names=["object_id", "ra", "dec", "ra"]), tmp_path / "g.parquet")
    with pytest.raises(TidalkinError, match="has several columns named 'ra': rename all but one of them"):
        read_catalog(tmp_path / "g.parquet")


def test_masked_values_units_and_arrays_of_a_fits_table(tmp_path):
    table = Table(
        {
            "object_id": MaskedColumn([ID, ID + 1], mask=[False, False]),
            "ra": np.radians([150.0, 151.0]) * units.rad,
            "dec": [2.0, 3.0] * units.deg,
            "mag": MaskedColumn([18.0, 19.0], mask=[False, True]),
            "spectrum": np.zeros((2, 5)),
        }
    )
    table.write(tmp_path / "g.fits")
    found = read_catalog(tmp_path / "g.fits")
    assert found["object_id"].tolist() == [ID, ID + 1]
    np.testing.assert_allclose(found["ra"], [150.0, 151.0])
    assert found["mag"].isna().tolist() == [False, True]
    assert "spectrum" not in found
    table["object_id"].mask[1] = True
    table.write(tmp_path / "masked.vot", format="votable")
    with pytest.raises(TidalkinError, match="no object_id: row 2"):
        read_catalog(tmp_path / "masked.vot")


def test_ids_may_be_strings_or_whole_floats_of_any_table():
    for ids in (["12", " 13"], [12.0, 13.0], pd.array([12, 13], dtype="Int64"), np.array([12, 13], dtype=np.uint64)):
        found = check_catalog(pd.DataFrame({"object_id": ids, "ra": [1.0, 2.0], "dec": [1.0, 2.0]}), "catalog")
        assert found["object_id"].tolist() == [12, 13]
        assert found["object_id"].dtype == np.int64
    for ids in ([True, False], [float(ID), 2.0], np.array([2**63, 1], dtype=np.uint64)):
        with pytest.raises(TidalkinError, match="whole number"):
            check_catalog(pd.DataFrame({"object_id": ids, "ra": [1.0, 2.0], "dec": [1.0, 2.0]}), "catalog")


@pytest.mark.parametrize(
    ("dtype", "digits"), [("float16", 11), ("float32", 24), ("float64", 53), ("Float32", 24), ("Float64", 53)]
)
def test_ids_that_a_column_of_floats_may_have_rounded_are_refused(dtype, digits):
    def ids(*values):
        position = [0.0] * len(values)
        return pd.DataFrame({"object_id": pd.Series(values, dtype=dtype), "ra": position, "dec": position})

    exact = [2**digits - 1, 1 - 2**digits]
    assert check_catalog(ids(*exact), "catalog")["object_id"].tolist() == exact
    for large in (2**digits, -(2**digits)):
        with pytest.raises(TidalkinError, match=rf"type {dtype} may have rounded it: store ids as whole .*: row 2 "):
            check_catalog(ids(1, large), "catalog")


@pytest.mark.parametrize("name", ["g.fits", "g.vot", "g.parquet"])
def test_rounded_ids_in_a_file_are_refused(tmp_path, name):
    table = Table({"object_id": np.array([16777217, 3], np.float32), "ra": [1.0, 2.0], "dec": [1.0, 2.0]})
    table.write(tmp_path / name, format={"g.vot": "votable"}.get(name))
    with pytest.raises(TidalkinError, match=rf"{name} has an object_id so large that .* float32 may have"):
        read_catalog(tmp_path / name)


@settings(deadline=None)
@given(n=st.integers(1, 60), size=st.integers(1, 25))
def test_the_chunks_together_are_the_catalog(n, size):
    chunks = split_catalog(galaxies(n), size)
    assert list(chunks) == chunk_names(n, size) == shard_names(n, size)
    assert all(len(chunk) == size for chunk in list(chunks.values())[:-1])
    pd.testing.assert_frame_equal(pd.concat(chunks.values(), ignore_index=True), galaxies(n))


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 40), more=st.integers(1, 40), size=st.integers(1, 15))
def test_growing_a_catalog_keeps_full_chunks_byte_identical(tmp_path_factory, n, more, size):
    folder = tmp_path_factory.mktemp("chunks")
    grown = galaxies(100).iloc[: n + more]
    before, after = split_catalog(grown.iloc[:n], size), split_catalog(grown, size)
    for name in list(before)[: n // size]:
        write_catalog(before[name], folder / "before.parquet")
        write_catalog(after[name], folder / "after.parquet")
        assert (folder / "before.parquet").read_bytes() == (folder / "after.parquet").read_bytes()


def test_chunks_of_only_some_columns_do_not_change_with_a_new_label():
    catalog = galaxies(4)
    plain = split_catalog(catalog, 2, ["object_id", "ra", "dec"])
    labelled = split_catalog(catalog.assign(label="shell"), 2, ["object_id", "ra", "dec"])
    for name, chunk in plain.items():
        pd.testing.assert_frame_equal(chunk, labelled[name])


def test_a_written_catalog_reads_back_with_its_version(tmp_path):
    write_catalog(galaxies(5), tmp_path / "catalog.parquet")
    pd.testing.assert_frame_equal(read_catalog(tmp_path / "catalog.parquet"), galaxies(5))
    assert b"tidalkin" in (tmp_path / "catalog.parquet").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["catalog.parquet"]
