"""Tests of tables as other people write them.

Each is read rightly or refused in a sentence.
"""

from __future__ import annotations

import gzip
import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.io.votable.tree import Resource, TableElement, VOTableFile
from astropy.table import MaskedColumn, QTable, Table
from astropy.time import Time

from tidalkin.catalog.read import read_catalog, write_catalog
from tidalkin.errors import TidalkinError

ID = 42_000_000_000_000_017


def read_text(tmp_path, text, columns=None, encoding="utf-8"):
    path = tmp_path / "g.csv"
    path.write_bytes(text.encode(encoding))
    return read_catalog(path, columns or {})


def refusal(path, columns=None):
    with pytest.raises(TidalkinError) as error:
        read_catalog(path, columns or {})
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def sky(n=2, **columns):
    return {"object_id": np.arange(n) + ID, "ra": 150.0 + np.arange(n), "dec": 2.0 + np.arange(n), **columns}


# --- CSV ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("object_id,ra,dec\n1,10,20,\n2,11,21,\n", r"4 fields in row 1 \(1,10,20,\), but its header names 3"),
        ("object_id,ra,dec\n1,10,20\n\n2,11,21,x\n", r"4 fields in row 2"),
        ("object_id,ra,dec,label\n1,10,20,shell\n2,11\n", r"2 fields in row 2"),
        ("object_id,ra,dec,note\n1,10,20,a, b\n", r"5 fields in row 1"),
        ("object_id;ra;dec\n1;10;20\n", "separated by semicolons"),
        ("object_id\tra\tdec\n1\t10\t20\n", "separated by tabs"),
        ("object_id,ra,ra,dec\n1,10,11,20\n", "several columns named 'ra'"),
        ("# nothing but words\n", "no column for object_id"),
        ("\n\n", "is empty"),
    ],
)
def test_a_csv_whose_columns_cannot_be_told_is_refused(tmp_path, text, sentence):
    (tmp_path / "g.csv").write_text(text)
    assert sentence.replace("\\", "") in refusal(tmp_path / "g.csv")


def test_a_csv_of_another_encoding_is_read_or_refused(tmp_path):
    text = "object_id,ra,dec,name\n1,10,20,Véga\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert read_text(tmp_path, text, encoding=encoding)["name"].tolist() == ["Véga"]
    with pytest.raises(TidalkinError, match="is not UTF-8 text: save it as UTF-8"):
        read_text(tmp_path, text, encoding="latin-1")


@pytest.mark.parametrize("name", ["g.csv", "g.csv.gz"])
def test_a_csv_is_unpacked_by_its_content_whatever_its_name(tmp_path, name):
    text = b"object_id,ra,dec\n1,10,20\n"
    for content in (text, gzip.compress(text)):
        (tmp_path / name).write_bytes(content)
        assert read_catalog(tmp_path / name)["ra"].tolist() == [10.0]


def test_a_csv_with_zero_bytes_is_refused_with_the_row(tmp_path):
    (tmp_path / "g.csv").write_text("object_id,ra,dec\n1,10,20\n" + 40 * "\0")
    assert "has a zero byte in row 2: it is damaged" in refusal(tmp_path / "g.csv")


@pytest.mark.parametrize("name", ["g.ecsv", "g.csv", "g.ecsv.gz"])
@pytest.mark.parametrize("delimiter", [",", " "])
def test_the_units_of_an_ecsv_file_are_read(tmp_path, name, delimiter):
    table = Table({"object_id": [ID], "ra": [10.0] * units.hourangle, "dec": [2.0], "label": ["None"]})
    table.write(tmp_path / "plain", format="ascii.ecsv", delimiter=delimiter)
    content = (tmp_path / "plain").read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    found = read_catalog(tmp_path / name)
    assert found["object_id"].tolist() == [ID]
    np.testing.assert_allclose(found["ra"], 150.0)
    assert found["label"].tolist() == ["None"]


def test_a_damaged_ecsv_header_is_refused(tmp_path):
    (tmp_path / "g.ecsv").write_text("# %ECSV 1.0\n# ---\n# datatype: [{\nobject_id ra dec\n1 10 20\n")
    assert "cannot be read" in refusal(tmp_path / "g.ecsv")


def test_true_and_false_are_no_positions(tmp_path):
    (tmp_path / "g.csv").write_text("object_id,ra,dec\n1,True,False\n")
    assert "has true and false as ra" in refusal(tmp_path / "g.csv")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_csv_has_the_line_ends_of_any_system(tmp_path, end):
    text = end.join(["object_id,ra,dec", "1,10,20", "", "2,11,21", ""])
    assert read_text(tmp_path, text)["ra"].tolist() == [10, 11]


def test_a_header_that_ends_in_a_comma_as_its_rows_do_adds_no_column(tmp_path):
    found = read_text(tmp_path, "object_id,ra,dec,\n1,10,20,\n2,11,21,\n")
    assert list(found.columns) == ["object_id", "ra", "dec"]
    assert found["object_id"].tolist() == [1, 2]


def test_the_row_numbers_that_pandas_writes_are_a_column(tmp_path):
    pd.DataFrame(sky()).to_csv(tmp_path / "g.csv")
    found = read_catalog(tmp_path / "g.csv")
    assert found["object_id"].tolist() == [ID, ID + 1]
    assert found["column_1"].tolist() == [0, 1]


def test_quoted_fields_may_hold_commas_quotes_and_line_ends(tmp_path):
    found = read_text(tmp_path, 'object_id, ra, dec, note\n1, 10, 20, "a, ""b""\nc"\n2, 11, 21, d\n')
    assert found["note"].tolist() == ['a, "b"\nc', "d"]


def test_comments_above_the_header_are_passed_over(tmp_path):
    text = "# tidalkin_version: 0.1.0\n# query: like 1,2\nrank,object_id,ra,dec,label\n1,7,10,20,shell\n"
    assert read_text(tmp_path, text)["object_id"].tolist() == [7]
    of_the_server = "# made by a query\n# object_id,ra,dec\n7,10,20\n"
    assert read_text(tmp_path, of_the_server)["object_id"].tolist() == [7]


def test_a_column_whose_kind_changes_far_down_is_text(tmp_path):
    n = 300_000
    rows = "".join(f"{i},10,20,{i if i < n else 'x'}\n" for i in range(1, n + 1))
    found = read_text(tmp_path, "object_id,ra,dec,note\n" + rows)
    write_catalog(found, tmp_path / "c.parquet")
    assert read_catalog(tmp_path / "c.parquet")["note"].tolist()[-2:] == [str(n - 1), "x"]


# --- labels ------------------------------------------------------------------------------------------------------


def test_words_that_pandas_takes_for_missing_are_labels(tmp_path):
    words = ["None", "NA", "null", "nan", "none", ""]
    text = "object_id,ra,dec,label\n" + "".join(f"{i},10,20,{word}\n" for i, word in enumerate(words))
    found = read_text(tmp_path, text)["label"]
    assert found.tolist()[:5] == words[:5]
    assert found.isna().tolist() == [False] * 5 + [True]


def test_a_label_column_of_another_name_is_read_as_words_too(tmp_path):
    found = read_text(tmp_path, "object_id,ra,dec,class\n1,10,20,None\n2,10,20,1\n", {"label": "class"})
    assert found["label"].tolist() == ["None", "1"]


def test_labels_of_one_and_zero_with_a_gap_stay_whole_numbers(tmp_path):
    assert read_text(tmp_path, "object_id,ra,dec,label\n1,1,1,1\n2,1,1,\n3,1,1,0\n")["label"].tolist()[::2] == [
        "1",
        "0",
    ]
    pd.DataFrame(sky(3, label=[1.0, np.nan, 0.0])).to_parquet(tmp_path / "g.parquet")
    Table(sky(3, label=MaskedColumn([1, 5, 0], mask=[False, True, False]))).write(tmp_path / "g.fits")
    for name in ("g.parquet", "g.fits"):
        found = read_catalog(tmp_path / name)["label"]
        assert found.tolist()[::2] == ["1", "0"]
        assert found.isna().tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("label", "text"),
    [(True, "True"), (np.int16(1), "1"), (0.5, "0.5"), (b"shell", "shell"), ("shell ", "shell")],
    ids=["truth", "integer", "real", "bytes", "text"],
)
def test_a_label_of_any_simple_kind_is_text(tmp_path, label, text):
    pd.DataFrame(sky(label=[label, label])).to_parquet(tmp_path / "g.parquet")
    assert read_catalog(tmp_path / "g.parquet")["label"].tolist() == [text] * 2


@pytest.mark.parametrize(
    "values",
    [
        pa.array([["a"], ["b"]]),
        pa.array([{"kind": "a"}, {"kind": "b"}]),
        pa.array([np.datetime64("2020-01-01", "us")] * 2),
        pa.array([1, 2], pa.duration("s")),
        pa.array([b"\xff", b"a"]),
    ],
    ids=["list", "struct", "time", "duration", "bytes of no text"],
)
def test_a_label_that_is_not_one_word_is_refused_when_the_catalog_is_read(tmp_path, values):
    table = pa.table({**{name: pa.array(column) for name, column in sky().items()}, "label": values})
    pq.write_table(table, tmp_path / "g.parquet")
    assert "label" in refusal(tmp_path / "g.parquet")


def test_categories_are_their_words(tmp_path):
    pd.DataFrame(sky(label=pd.Categorical(["shell", "none"]))).to_parquet(tmp_path / "g.parquet")
    assert read_catalog(tmp_path / "g.parquet")["label"].tolist() == ["shell", "none"]


@pytest.mark.parametrize("name", ["psf_fwhm_g", "i_sdssshape_psf_shape11", "tidal_surface_brightness"])
def test_columns_that_later_stages_take_for_numbers_are_checked(tmp_path, name):
    pd.DataFrame(sky(**{name: ["0.7", "poor"]})).to_parquet(tmp_path / "g.parquet")
    assert f"{name} that is not a number: row 2" in refusal(tmp_path / "g.parquet")


# --- Parquet -----------------------------------------------------------------------------------------------------


def test_columns_of_lists_and_records_are_left_out(tmp_path, caplog):
    columns = {name: pa.array(column) for name, column in sky().items()}
    more = {
        "spectrum": pa.array([[1.0], [2.0, 3.0]]),
        "place": pa.array([{"x": 1}, {"x": 2}]),
        "mag": pa.array([1.0, 2]),
    }
    pq.write_table(pa.table({**columns, **more}), tmp_path / "g.parquet")
    found = read_catalog(tmp_path / "g.parquet")
    assert list(found.columns) == ["object_id", "ra", "dec", "mag"]
    assert "spectrum, place" in caplog.text
    pq.write_table(pa.table({**columns, "ra": pa.array([[1.0], [2.0]])}), tmp_path / "list.parquet")
    assert "arrays or records in the column ra" in refusal(tmp_path / "list.parquet")


def test_an_index_of_ids_is_a_column(tmp_path):
    pd.DataFrame(sky()).set_index("object_id").to_parquet(tmp_path / "g.parquet")
    assert read_catalog(tmp_path / "g.parquet")["object_id"].tolist() == [ID, ID + 1]


# --- FITS and VOTable --------------------------------------------------------------------------------------------


def topcat_votable(path, labels=("shell", "none")):
    rows = "".join(
        f"<TR><TD>{ID + i}</TD><TD>1{i}</TD><TD>2</TD><TD>{label}</TD></TR>" for i, label in enumerate(labels)
    )
    path.write_text(
        '<?xml version="1.0"?><VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE><TABLE>'
        '<FIELD name="object_id" datatype="char" arraysize="*"/><FIELD name="ra" datatype="double" unit="deg"/>'
        '<FIELD name="dec" datatype="double" unit="deg"/><FIELD name="label" datatype="char" arraysize="*"/>'
        f"<DATA><TABLEDATA>{rows}</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"
    )


def test_text_of_variable_length_in_a_votable_is_kept(tmp_path):
    topcat_votable(tmp_path / "g.vot", ("shell", "None", ""))
    found = read_catalog(tmp_path / "g.vot")
    assert found["object_id"].tolist() == [ID, ID + 1, ID + 2]
    assert found["label"].tolist()[:2] == ["shell", "None"]
    assert found["label"].isna().tolist() == [False, False, True]


def test_times_and_positions_of_astropy_are_plain_columns(tmp_path):
    place = SkyCoord([150.0, 151.0], [2.0, 3.0], unit="deg", frame="icrs").galactic
    table = QTable({"object_id": [1, 2], "place": place, "seen": Time(["2020-01-01", "2021-01-01"], scale="local")})
    table["size"] = [1.0, 2.0] * units.arcsec
    table.write(tmp_path / "g.fits")
    found = read_catalog(tmp_path / "g.fits")
    np.testing.assert_allclose(found[["ra", "dec"]], [[150.0, 2.0], [151.0, 3.0]])
    assert found["seen"].tolist() == ["2020-01-01T00:00:00.000", "2021-01-01T00:00:00.000"]
    assert found["size"].tolist() == [1.0, 2.0]


def test_a_position_beside_a_position_does_not_replace_it(tmp_path):
    place = SkyCoord([150.0, 151.0], [2.0, 3.0], unit="deg")
    QTable({"object_id": [1, 2], "ra": [10.0, 11.0], "dec": [1.0, 1.0], "place": place}).write(tmp_path / "g.fits")
    assert read_catalog(tmp_path / "g.fits")["ra"].tolist() == [10.0, 11.0]


@pytest.mark.parametrize(
    ("unit", "factor"), [("hourangle", 15.0), ("arcsec", 1 / 3600), ("arcmin", 1 / 60), ("deg", 1)]
)
def test_positions_in_other_angles_are_degrees(tmp_path, unit, factor):
    Table({"object_id": [1], "ra": [6.0] * units.Unit(unit), "dec": [2.0]}).write(tmp_path / "g.vot", format="votable")
    np.testing.assert_allclose(read_catalog(tmp_path / "g.vot")["ra"], 6.0 * factor)


@pytest.mark.parametrize("unit", ["h", "m", "pix", "nonsense"])
def test_positions_that_are_not_angles_are_refused(tmp_path, unit):
    hdu = fits.BinTableHDU.from_columns(
        [
            fits.Column("object_id", "K", array=[1]),
            fits.Column("ra", "D", unit, array=[6.0]),
            fits.Column("dec", "D", array=[2.0]),
        ]
    )
    hdu.writeto(tmp_path / "g.fits")
    assert f"ra in the unit '{unit}', but positions are angles" in refusal(tmp_path / "g.fits")


def changed_votable(path, *changes):
    topcat_votable(path)
    text = path.read_text()
    for old, new in changes:
        text = text.replace(old, new)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("coosys", "frame"),
    [
        ('system="eq_FK4" equinox="B1950"', "eq_FK4 of equinox B1950"),
        ('system="eq_FK5" equinox="J1975"', "eq_FK5 of equinox J1975"),
        ('system="galactic"', "galactic of equinox unknown"),
    ],
)
def test_a_votable_in_another_frame_is_refused(tmp_path, coosys, frame):
    change = ("<TABLE>", f'<COOSYS ID="S" {coosys}/><TABLE>')
    assert len(read_catalog(changed_votable(tmp_path / "unused.vot", change))) == 2
    found = refusal(changed_votable(tmp_path / "g.vot", change, ('name="ra"', 'name="ra" ref="S"')))
    assert f"has positions in the frame {frame} by its header, but ra and dec are in ICRS" in found


@pytest.mark.parametrize(
    "coosys", ['system="ICRS"', 'system="eq_FK5" equinox="J2000"', 'system="ICRS" equinox="J2015.5"']
)
def test_a_votable_in_icrs_is_read(tmp_path, coosys):
    changes = ("<TABLE>", f'<COOSYS ID="S" {coosys}/><TABLE>'), ('name="ra"', 'name="ra" ref="S"')
    assert len(read_catalog(changed_votable(tmp_path / "g.vot", *changes))) == 2


@pytest.mark.parametrize("header", [{"RADESYS": "FK4"}, {"RADECSYS": "FK4"}, {"RADESYS": "FK5", "EQUINOX": 1975.0}])
def test_a_fits_table_in_another_frame_is_refused(tmp_path, header):
    Table(sky(), meta=header).write(tmp_path / "g.fits")
    assert "has positions in the frame FK" in refusal(tmp_path / "g.fits")
    Table(sky(), meta={"RADESYS": "FK5", "EQUINOX": 2000.0}).write(tmp_path / "same.fits")
    assert len(read_catalog(tmp_path / "same.fits")) == 2


def test_the_error_of_a_service_is_quoted(tmp_path):
    (tmp_path / "g.vot").write_text(
        '<?xml version="1.0"?><VOTABLE version="1.3"><RESOURCE type="results">'
        '<INFO name="QUERY_STATUS" value="ERROR">no such column: i_ra</INFO></RESOURCE></VOTABLE>'
    )
    assert "holds a service's error (no such column: i_ra) instead of a table" in refusal(tmp_path / "g.vot")


def test_a_table_that_its_service_has_cut_short_is_read_with_a_warning(tmp_path, caplog):
    change = ("</TABLE>", '</TABLE><INFO name="QUERY_STATUS" value="OVERFLOW"/>')
    assert len(read_catalog(changed_votable(tmp_path / "g.vot", change))) == 2
    assert "was cut short by the service that wrote it" in caplog.text


def several_tables(path, *tables):
    if path.suffix == ".vot":
        file = VOTableFile()
        for table in tables:
            resource = Resource()
            resource.tables.append(TableElement.from_table(file, table))
            file.resources.append(resource)
        file.to_xml(str(path))
    else:
        fits.HDUList([fits.PrimaryHDU(), *map(fits.table_to_hdu, tables)]).writeto(path)


@pytest.mark.parametrize("name", ["g.fits", "g.vot"])
def test_of_several_tables_the_catalog_is_read(tmp_path, name):
    other = Table({"filter": ["g", "r"], "depth": [26.5, 26.1]})
    several_tables(tmp_path / name, other, Table(sky()))
    assert read_catalog(tmp_path / name)["object_id"].tolist() == [ID, ID + 1]
    several_tables(tmp_path / f"two-{name}", Table(sky()), Table(sky(3)))
    assert "holds 2 tables, of which 2 have columns for object_id" in refusal(tmp_path / f"two-{name}")


def test_a_fits_image_is_refused_as_a_catalog(tmp_path):
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(tmp_path / "g.fits")
    assert "holds no table" in refusal(tmp_path / "g.fits")


def test_columns_of_one_value_in_an_array_are_values(tmp_path):
    Table({"object_id": [[1], [2]], "ra": [[10.0], [11.0]], "dec": [[1.0], [2.0]]}).write(tmp_path / "g.fits")
    assert read_catalog(tmp_path / "g.fits")["ra"].tolist() == [10.0, 11.0]


def test_a_position_in_an_array_is_refused_by_its_name(tmp_path):
    Table({"object_id": [1, 2], "ra": np.zeros((2, 3)), "dec": [1.0, 2.0]}).write(tmp_path / "g.fits")
    assert "arrays or records in the column ra" in refusal(tmp_path / "g.fits")


def test_unsigned_scaled_and_ascii_columns_of_fits_are_read(tmp_path):
    unsigned = fits.BinTableHDU.from_columns(
        [
            fits.Column("object_id", "K", bzero=2**63, array=np.array([ID, ID + 1], np.uint64)),
            fits.Column("ra", "D", bscale=0.01, bzero=150.0, array=[150.0, 150.5]),
            fits.Column("dec", "E", array=[2.0, 3.0]),
        ]
    )
    unsigned.writeto(tmp_path / "g.fits")
    found = read_catalog(tmp_path / "g.fits")
    assert found["object_id"].tolist() == [ID, ID + 1]
    np.testing.assert_allclose(found["ra"], [150.0, 150.5])
    ascii_table = fits.TableHDU.from_columns(
        [
            fits.Column(name, form, array=values)
            for name, form, values in (("object_id", "I10", [1, 2]), ("ra", "E15.7", [1, 2]), ("dec", "E15.7", [3, 4]))
        ]
    )
    ascii_table.writeto(tmp_path / "ascii.fits")
    assert read_catalog(tmp_path / "ascii.fits")["object_id"].tolist() == [1, 2]


@pytest.mark.parametrize("kind", ["tabledata", "binary", "binary2"])
def test_votables_of_every_serialisation_are_read(tmp_path, kind):
    buffer = io.BytesIO()
    from_table(Table(sky(label=["shell", "none"]))).to_xml(buffer, tabledata_format=kind)
    (tmp_path / "g.xml").write_bytes(buffer.getvalue())
    assert read_catalog(tmp_path / "g.xml")["label"].tolist() == ["shell", "none"]


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "g.csv.gz").write_bytes(gzip.compress(b"object_id,ra,dec\n1,10,20\n"))
    assert read_catalog("~/g.csv.gz")["object_id"].tolist() == [1]


def test_units_masks_and_positions_of_a_parquet_file_that_astropy_wrote(tmp_path):
    columns = {"object_id": [ID, ID + 1], "label": ["None", "1"]}
    radians = np.radians([150.0, 151.0]) * units.rad
    QTable({**columns, "ra": radians, "dec": [120.0, 180.0] * units.arcmin}).write(tmp_path / "units.parquet")
    catalog = read_catalog(tmp_path / "units.parquet")
    assert catalog["object_id"].tolist() == [ID, ID + 1]
    assert catalog["label"].tolist() == ["None", "1"]
    np.testing.assert_allclose(catalog[["ra", "dec"]], [[150, 2], [151, 3]], rtol=1e-12)

    Table({**columns, "position": SkyCoord([150.0, 151.0], [2.0, 3.0], unit="deg")}).write(tmp_path / "sky.parquet")
    np.testing.assert_allclose(read_catalog(tmp_path / "sky.parquet")[["ra", "dec"]], [[150, 2], [151, 3]], rtol=1e-12)

    Table({**columns, "ra": MaskedColumn([1.0, 2.0], mask=[True, False]), "dec": [2.0, 3.0]}).write(
        tmp_path / "m.parquet"
    )
    with pytest.raises(TidalkinError, match=rf"m\.parquet has no ra: row 1 \(object_id {ID}\)"):
        read_catalog(tmp_path / "m.parquet")


@pytest.mark.parametrize(
    ("unit", "frame", "expected"),
    [("rad", "ICRS", 57.29577951308232), ("deg", "ICRS", 1.0), ("m", "ICRS", "unit 'm'"), ("deg", "FK4", "frame FK4")],
)
def test_the_votable_header_of_a_parquet_file_is_read(tmp_path, unit, frame, expected):
    header = f"""<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE>
        <COOSYS ID="sky" system="{frame}"/><TABLE><FIELD name="object_id" datatype="long"/>
        <FIELD name="ra" datatype="double" unit="{unit}" ref="sky"/><FIELD name="dec" datatype="double" unit="deg"/>
        </TABLE></RESOURCE></VOTABLE>"""
    columns = pa.table({"object_id": [ID, 8], "ra": [1.0, 1.0], "dec": [0.5, 0.6]})
    metadata = {"IVOA.VOTable-Parquet.version": "1.0", "IVOA.VOTable-Parquet.content": header}
    pq.write_table(columns.replace_schema_metadata(metadata), tmp_path / "g.parquet")
    if isinstance(expected, float):
        catalog = read_catalog(tmp_path / "g.parquet")
        assert catalog["object_id"].tolist() == [ID, 8]
        np.testing.assert_allclose(catalog[["ra", "dec"]], [[expected, 0.5], [expected, 0.6]])
    else:
        with pytest.raises(TidalkinError, match=expected):
            read_catalog(tmp_path / "g.parquet")


@pytest.mark.parametrize(("n_tables", "expected"), [(2, 57.29577951308232), (0, "cannot be read")])
def test_the_first_table_of_a_votable_header_describes_the_columns(tmp_path, n_tables, expected):
    described = '<TABLE><FIELD name="ra" datatype="double" unit="rad"/></TABLE>'
    header = f'<VOTABLE version="1.4"><RESOURCE>{described * n_tables}</RESOURCE></VOTABLE>'
    columns = pa.table({"object_id": [ID], "ra": [1.0], "dec": [0.5]})
    metadata = {"IVOA.VOTable-Parquet.content": header}
    pq.write_table(columns.replace_schema_metadata(metadata), tmp_path / "g.parquet")
    if isinstance(expected, float):
        assert read_catalog(tmp_path / "g.parquet")["ra"].tolist() == [pytest.approx(expected)]
    else:
        assert expected in refusal(tmp_path / "g.parquet")
