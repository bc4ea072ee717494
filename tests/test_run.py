"""The front door: a finished run from Python."""

import subprocess
import sys
from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from surveys.small_run import BANDS, SIZE, find, write_encoded_run, write_run
from tidalkin import open_run
from tidalkin.catalog.read import write_catalog
from tidalkin.config import Index, load_settings, write_config_file
from tidalkin.errors import TidalkinError
from tidalkin.index.build import build_index
from tidalkin.run import run_settings
from tidalkin.search.result import write_result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The results of a run named small."""
    folder = tmp_path_factory.mktemp("work") / "results" / "small"
    folder.mkdir(parents=True)
    write_run(folder)
    return folder


def test_importing_the_package_imports_no_library():
    code = (
        "import sys, tidalkin; print({'torch', 'faiss', 'astropy', 'pandas', 'numpy', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_search_gives_a_table_with_units_that_describes_its_query(folder):
    table = open_run(folder).search(like=[1007], unlike=1003, k=5, debris_weight=1)
    assert isinstance(table, Table)
    assert table.colnames == ["rank", "object_id", "ra", "dec", "similarity", "label"]
    assert table["ra"].unit == u.deg
    expected = find(open_run(folder).files[0], like=[1007], unlike=[1003]).table
    assert table["object_id"].tolist() == expected["object_id"].to_pylist()
    assert (table.meta["Like"], table.meta["Unlike"], table.meta["Searched"]) == ("1007", "1003", 59)
    assert '"like":[1007]' in table.meta["Query"]


def test_a_search_for_nothing_in_particular_finds_most_debris(folder):
    run = open_run(folder)
    table = run.search(k=5)
    assert table.colnames == ["rank", "object_id", "ra", "dec", "debris_score", "label"]
    assert table["object_id"].tolist() == pd.read_parquet(folder / "ranking.parquet")["object_id"].tolist()[:5]
    assert "Most debris, with no example" in [text.get_text() for text in run.mosaic(table).texts]


def test_a_cutout_has_units_a_mask_and_coordinates(folder):
    run = open_run(folder)
    image = run.cutout(1042)
    assert (image.data.shape, image.unit, image.meta["bands"]) == ((3, SIZE, SIZE), u.nJy, BANDS)
    assert not image.mask.any()
    row = run.catalog[run.catalog["object_id"] == 1042][0]
    middle = image.wcs.pixel_to_world((SIZE - 1) / 2, (SIZE - 1) / 2)
    assert (middle.ra.deg, middle.dec.deg) == pytest.approx((row["ra"], row["dec"]))
    north = image.wcs.pixel_to_world((SIZE - 1) / 2, (SIZE - 1) / 2 + 1)
    assert (north.dec - middle.dec).arcsec == pytest.approx(0.168, rel=1e-3)
    np.testing.assert_allclose(image.meta["psf_fwhm"], 0.6)


def test_a_mosaic_shows_a_result_or_a_list_of_galaxies(folder):
    run = open_run(folder)
    of_result = run.mosaic(run.search(like=[1007], unlike=[1003], k=5))
    assert len(of_result.axes) == 2 + 5
    assert "Galaxies like 1007, unlike 1003" in [text.get_text() for text in of_result.texts]
    assert len(run.mosaic([1001, 1002]).axes) == 2


def test_vectors_belong_to_the_objects_beside_them(folder):
    run = open_run(str(folder))
    assert run.vectors.shape == (59, 8)
    assert run.vector_ids.tolist() == list(range(1000, 1059))
    assert len(run.catalog) == 60


def test_unknown_objects_folders_and_configurations_are_refused(folder):
    run = open_run(folder)
    for ask in (run.cutout, lambda object_id: run.search(like=object_id), lambda object_id: run.mosaic([object_id])):
        with pytest.raises(TidalkinError, match="object 77 is not in"):
            ask(77)
        with pytest.raises(TidalkinError, match=rf"object {10**20} is .*: name an object_id of the catalog"):
            ask(10**20)
    with pytest.raises(TidalkinError, match="no: is not a folder"):
        open_run(folder / "no")
    with pytest.raises(TidalkinError, match="no run is named"):
        open_run([])
    with pytest.raises(TidalkinError, match=r"small: has no config\.yaml: name the configuration .* by --configfile"):
        _ = run.settings


def test_the_configuration_of_a_run_is_that_in_config_or_else_its_own(tmp_path, caplog):
    (tmp_path / "config").mkdir()
    run = tmp_path / "results" / "mine"
    run.mkdir(parents=True)
    assert open_run(run).explorer_settings == load_settings({"run": "mine"})
    made_with = load_settings({"run": "mine", "seed": 4, "stretch": {"bin": 2}})
    write_config_file(run / "config.yaml", made_with, "The settings.")
    assert open_run(run).settings == open_run(run).explorer_settings == made_with
    (tmp_path / "config" / "other.yaml").write_text("run: other\n")
    assert open_run(run).settings == made_with
    (tmp_path / "config" / "broken.yaml").write_text("run: [mine\n")
    assert open_run(run).settings == made_with
    assert "broken.yaml" in caplog.text
    (tmp_path / "config" / "any_name.yaml").write_text("run: mine\nseed: 5\n")
    assert open_run(run).settings == load_settings({"run": "mine", "seed": 5})
    moved = run.rename(tmp_path / "copy")
    assert open_run(moved).settings == made_with.model_copy(update={"run": "copy"})


def test_a_run_directly_below_the_root_of_the_file_system_can_be_opened(monkeypatch):
    monkeypatch.chdir("/")
    assert run_settings(Path("/tmp")) is None


@pytest.fixture(scope="module")
def two_halves(tmp_path_factory):
    """The runs north and south share the galaxies of the run whole, and its whitening."""
    folder = tmp_path_factory.mktemp("halves")
    for name, shards in (("whole", (0, 1)), ("north", (0,)), ("south", (1,))):
        (folder / name).mkdir()
        files = write_run(folder / name)
        kept = [files.embeddings / f"{shard:05d}.npy" for shard in shards]
        build_index(kept, Index(queries=5), files.index, seed=1)
        if name != "whole":
            catalog = pd.read_parquet(files.catalog)
            ids = np.load(files.index / "ids.npy")
            write_catalog(catalog[catalog["object_id"].isin(ids)].reset_index(drop=True), files.catalog)
            ranking = pd.read_parquet(files.ranking)
            ranking[ranking["object_id"].isin(ids)].to_parquet(files.ranking)
    return folder


@pytest.mark.parametrize("query", [{"like": [1007]}, {"like": [1007, 1044], "unlike": [1050]}])
def test_two_runs_are_searched_as_one(two_halves, query):
    whole = open_run(two_halves / "whole").search(**query, k=40)
    both = open_run([two_halves / "north", two_halves / "south"]).search(**query, k=40)
    assert both["object_id"].tolist() == whole["object_id"].tolist()
    np.testing.assert_array_equal(both["similarity"], whole["similarity"])
    assert both["run"].tolist() == ["north" if object_id < 1030 else "south" for object_id in both["object_id"]]
    assert both.meta["Searched"] == 59


def test_the_rankings_of_two_runs_are_one(two_halves):
    whole = open_run(two_halves / "whole").search(k=40)
    both = open_run([two_halves / "north", two_halves / "south"]).search(k=40)
    assert both["object_id"].tolist() == whole["object_id"].tolist()
    np.testing.assert_array_equal(both["debris_score"], whole["debris_score"])


def test_a_position_is_looked_up_in_all_runs(two_halves):
    both = open_run([two_halves / "north", two_halves / "south"])
    row = both.catalog[both.catalog["object_id"] == 1044][0]
    assert row["run"] == "south"
    assert both.search(position=(row["ra"], row["dec"]), k=1).meta["Like"] == "1044"


def test_an_object_of_two_runs_and_a_run_named_twice_are_refused(two_halves):
    with pytest.raises(TidalkinError, match="object 1007 is in the runs whole and north: give its position"):
        open_run([two_halves / "whole", two_halves / "north"]).search(like=[1007])
    with pytest.raises(TidalkinError, match="north is named twice"):
        open_run([two_halves / "north", two_halves / "north"]).search(like=[1007])


def test_runs_with_different_whitenings_are_refused_in_one_sentence(two_halves, tmp_path):
    other = write_encoded_run(tmp_path)
    with pytest.raises(TidalkinError, match=r"whitening\.npz: differs from .*`reuse\.encoder` and `reuse\.whitening`"):
        open_run([two_halves / "north", tmp_path]).search(like=[1007])
    assert other.whitening.is_file()


def test_a_result_for_a_place_that_cannot_be_written_is_refused_in_one_sentence(folder, tmp_path):
    (tmp_path / "file").write_text("")
    found = find(open_run(folder).files[0], like=[1007])
    with pytest.raises(
        TidalkinError,
        match=r"answer/neighbours.csv cannot be written \(Not a directory\): check that the folder can be written to",
    ):
        write_result(found, tmp_path / "file" / "answer")
