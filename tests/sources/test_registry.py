"""A package adds a source by an entry point, with settings of its own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tidalkin.config import load_settings
from tidalkin.config.cutouts import BUILT_IN_SOURCES
from tidalkin.errors import TidalkinError
from tidalkin.sources.fetch import fetch_chunk
from tidalkin.sources.registry import BUILT_IN, registered_sources

MODULE = Path(__file__).resolve().parents[1] / "programs" / "outside_source.py"
OBJECTS = pd.DataFrame({"object_id": [7, 8], "ra": [150.0, 150.1], "dec": [2.0, 2.1]})


def configuration(**cutouts: object) -> dict:
    return {"catalog": {"source": "file", "path": "a.csv"}, "cutouts": cutouts}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a little package that adds the source `flat`, on a path of its own."""
    (tmp_path / "outside_source.py").write_text(MODULE.read_text())
    information = tmp_path / "outside_source-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-source\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[tidalkin.sources]\nflat = outside_source:FlatSource\nbroken = outside_source:Nothing\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_the_configuration_knows_the_built_in_sources() -> None:
    assert set(BUILT_IN) == set(BUILT_IN_SOURCES) <= registered_sources().keys()


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_source_can_be_loaded_and_opened(name: str) -> None:
    assert callable(registered_sources()[name].load().open)


@pytest.mark.usefixtures("installed")
def test_a_source_of_another_package_is_fetched_from_with_its_own_settings(tmp_path: Path) -> None:
    settings = load_settings(configuration(source="flat", bands=["g", "r"], flat={"level": 3.5}))
    assert settings.cutouts.content()["flat"] == {"level": 3.5, "filter": "r"}
    assert load_settings(settings.model_dump(mode="json")) == settings
    ledger = fetch_chunk(OBJECTS, settings.cutouts, 0, tmp_path / "0.tar", tmp_path / "0.ledger.parquet")
    assert ledger["status"].tolist() == ["ok"] * 4
    assert b"level 3.5" in (tmp_path / "0.tar").read_bytes()


@pytest.mark.usefixtures("installed")
def test_the_settings_of_another_package_have_its_defaults_and_are_checked_by_it() -> None:
    assert load_settings(configuration(source="flat")).cutouts.content()["flat"] == {"level": 1.0, "filter": "r"}
    wrong = {"flat.level: ": {"level": -1}, "flat.levl: ": {"levl": 1}, "flat must hold settings": 5}
    for sentence, values in wrong.items():
        with pytest.raises(TidalkinError, match=f"config: cutouts: {sentence}"):
            load_settings(configuration(source="flat", flat=values))
    with pytest.raises(TidalkinError, match=r"cutouts: flat.filter: .* should match pattern '\^\[a-z\]\$'"):
        load_settings(configuration(source="flat", flat={"filter": "R"}))


def test_an_unknown_source_is_refused_with_the_known_ones(installed: None) -> None:
    with pytest.raises(TidalkinError, match=r"source 'hsc' is unknown: use one of simulated, folder, .*, flat"):
        load_settings(configuration(source="hsc"))


def test_settings_of_a_source_that_is_not_installed_are_an_unknown_key() -> None:
    with pytest.raises(TidalkinError, match=r"unknown key `cutouts.flat`"):
        load_settings(configuration(source="folder", folder={"path": "x"}, flat={"level": 1}))


@pytest.mark.usefixtures("installed")
def test_a_package_whose_entry_point_leads_nowhere_is_named() -> None:
    with pytest.raises(TidalkinError, match=r"source 'broken' cannot be used .*reinstall the package"):
        load_settings(configuration(source="broken"))
