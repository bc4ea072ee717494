"""A run is refused before it starts if its files cannot be used."""

import pytest

from tidalkin.config import Settings
from tidalkin.errors import TidalkinError
from tidalkin.run_check import check_paths


def test_the_rules_of_another_workflow_may_make_the_encoder(tmp_path):
    settings = Settings(reuse={"encoder": str(tmp_path / "first" / "encoder.pt")})
    check_paths(settings, tmp_path / "second", is_module=True)
    with pytest.raises(TidalkinError, match=r"reuse\.encoder .*: there is no such file: correct the path"):
        check_paths(settings, tmp_path / "second")
    with pytest.raises(TidalkinError, match="is a file that this run makes"):
        check_paths(settings, tmp_path / "first", is_module=True)


def test_a_run_that_took_an_encoder_needs_the_file_no_more(tmp_path):
    settings = Settings(reuse={"encoder": str(tmp_path / "gone.pt")})
    taken = tmp_path / "run" / "encoder" / "encoder.pt"
    taken.parent.mkdir(parents=True)
    taken.touch()
    check_paths(settings, tmp_path / "run")


def test_labels_that_people_gave_to_a_run_can_be_its_catalog(tmp_path):
    table = {"source": "file", "path": str(tmp_path / "labels" / "labels.csv")}
    check_paths(Settings(catalog=table, cutouts={"source": "hsc_das"}), tmp_path)
