"""The tables and the mosaic of a search."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from surveys.small_run import find
from tidalkin.catalog.read import write_catalog
from tidalkin.errors import TidalkinError
from tidalkin.figures import mosaic
from tidalkin.search.files import RunFiles
from tidalkin.search.result import write_result


def test_tables_and_mosaic_say_the_same_and_what_made_them(files, tmp_path):
    found = find(files, like=[1001, 1002], unlike=[1003])
    write_result(found, tmp_path)
    csv = pd.read_csv(tmp_path / "neighbours.csv", comment="#")
    assert csv.columns.tolist() == ["rank", "object_id", "ra", "dec", "similarity", "label"]
    pd.testing.assert_frame_equal(csv, found.table.to_pandas(), check_dtype=False, rtol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = Table.read(tmp_path / "neighbours.fits")
    assert table["object_id"].tolist() == csv.object_id.tolist()
    assert table["label"].tolist() == csv.label.tolist()
    assert str(table["ra"].unit) == "deg"
    history = "".join(table.meta.get("HISTORY", table.meta.get("comments", [])))
    for text in (
        history,
        (tmp_path / "neighbours.csv").read_text(),
        (tmp_path / "mosaic.png").read_bytes().decode("latin1"),
    ):
        assert "tidalkin" in text
        assert '"like":[1001,1002]' in text
        assert "Debris weight" in text


def test_text_that_is_not_ascii_is_escaped_in_fits_and_lost_nowhere(files, tmp_path):
    catalog = pd.read_parquet(files.catalog)
    catalog["label"] = np.where(catalog["object_id"] % 2, "Schweif-ü", r"a\b")
    other = RunFiles(tmp_path / "catalog.parquet", *list(vars(files).values())[1:])
    write_catalog(catalog, other.catalog)
    found = find(other, like=[1001])
    found = replace(found, made_by={**found.made_by, "Query": "Größe-{band}.fits"})
    write_result(found, tmp_path)
    csv = pd.read_csv(tmp_path / "neighbours.csv", comment="#")
    table = Table.read(tmp_path / "neighbours.fits")
    assert {*csv["label"]} == {"Schweif-ü", r"a\b"}
    assert [text.encode().decode("unicode_escape") for text in table["label"]] == csv["label"].tolist()
    assert any(r"Query: Gr\xf6\xdfe-{band}.fits" in line for line in table.meta["HISTORY"])


def test_a_result_written_again_is_byte_identical(files, tmp_path):
    for name in ("one", "two"):
        write_result(find(files, like=[1001]), tmp_path / name)
    for file in ("neighbours.csv", "neighbours.fits", "mosaic.png"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_galaxies_with_most_debris_are_written_like_look_alikes(files, tmp_path):
    found = find(files, debris=True)
    write_result(found, tmp_path)
    csv = pd.read_csv(tmp_path / "neighbours.csv", comment="#")
    assert csv.columns.tolist() == ["rank", "object_id", "ra", "dec", "debris_score", "label"]
    assert '"debris":true' in (tmp_path / "neighbours.csv").read_text()
    assert Table.read(tmp_path / "neighbours.fits")["object_id"].tolist() == csv.object_id.tolist()
    assert (tmp_path / "mosaic.png").exists()


@pytest.mark.parametrize(("debris_weight", "outlined"), [(1.0, True), (0.0, False)])
def test_faint_light_is_outlined_where_debris_counts(files, tmp_path, monkeypatch, debris_weight, outlined):
    panels = []
    monkeypatch.setattr(mosaic, "draw_mosaic", lambda drawn, *_, **__: panels.extend(drawn))
    write_result(find(files, like=[1001], debris_weight=debris_weight), tmp_path)
    assert any(panel.debris_map is not None for panel in panels) == outlined


def test_a_catalog_without_labels_gives_a_result_without_them(files, tmp_path):
    unlabelled = RunFiles(tmp_path / "catalog.parquet", *list(vars(files).values())[1:])
    write_catalog(pd.read_parquet(files.catalog).drop(columns="label"), unlabelled.catalog)
    found = find(unlabelled, like=[1001])
    assert found.table.column_names == ["rank", "object_id", "ra", "dec", "similarity"]
    write_result(found, tmp_path)
    assert Table.read(tmp_path / "neighbours.fits").colnames == found.table.column_names


def test_images_of_another_catalog_are_refused(files, tmp_path):
    other = RunFiles(tmp_path / "catalog.parquet", *list(vars(files).values())[1:])
    write_catalog(pd.read_parquet(files.catalog)[::-1], other.catalog)
    with pytest.raises(TidalkinError, match=r"images\.zarr: object \d+ is not in row"):
        write_result(find(other, like=[1001]), tmp_path)
