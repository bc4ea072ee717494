"""What a run will fetch is known before it runs, and only what changed in the catalog changes in the plan."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tidalkin.config import Settings, load_settings
from tidalkin.errors import TidalkinError
from tidalkin.sources.catalog import write_planned
from tidalkin.sources.plan import plan_run


def simulated(galaxies: int, **survey: float) -> Settings:
    return load_settings(
        {
            "catalog": {"chunk_size": 10},
            "cutouts": {"simulated": {"galaxies": galaxies} | survey},
            "training": {"batch_size": 2},
        }
    )


def from_file(path: Path, **catalog: object) -> Settings:
    return load_settings(
        {
            "catalog": {"source": "file", "path": str(path), "chunk_size": 10} | catalog,
            "cutouts": {"source": "folder", "folder": {"path": "."}},
        }
    )


def write_table(path: Path, rows: int, **columns: object) -> None:
    table = pd.DataFrame({"object_id": range(1, rows + 1), "ra": 10.0, "dec": [i / 1000 for i in range(rows)]})
    table.assign(**columns).to_csv(path, index=False)


def changed(before, after) -> set[str]:
    return {name for name, digest in after.chunks.items() if before.chunks.get(name) != digest}


def test_a_simulated_run_is_planned_from_its_configuration_alone(tmp_path):
    before, after = (plan_run(simulated(n), None, tmp_path / "absent") for n in (20, 25))
    assert (before.galaxies, list(before.chunks)) == (20, ["00000", "00001"])
    assert changed(before, after) == {"00002"}
    other_survey = plan_run(simulated(20, tidal_fraction=0.5), None, tmp_path / "absent")
    assert changed(before, other_survey) == {"00000", "00001"}


def test_a_grown_table_changes_only_the_chunks_that_grew(tmp_path):
    table = tmp_path / "table.csv"
    plans = []
    for rows in (25, 32):
        write_table(table, rows)
        plans.append(plan_run(from_file(table), table, tmp_path / "absent"))
    assert changed(*plans) == {"00002", "00003"}


def test_a_new_column_of_the_users_own_changes_no_chunk(tmp_path):
    table = tmp_path / "table.csv"
    write_table(table, 20)
    before = plan_run(from_file(table), table, tmp_path / "absent")
    write_table(table, 20, label="stream")
    assert plan_run(from_file(table), table, tmp_path / "absent") == before


def test_the_written_catalog_answers_for_the_table_it_was_made_from_and_for_no_other(tmp_path):
    table, catalog = tmp_path / "table.csv", tmp_path / "catalog.parquet"
    write_table(table, 25)
    settings = from_file(table)
    from_table = plan_run(settings, table, catalog)
    write_planned(settings, table, catalog, tmp_path / "chunks")
    assert plan_run(settings, table, catalog) == from_table
    assert sorted(path.stem for path in (tmp_path / "chunks").iterdir()) == list(from_table.chunks)
    assert pq.read_metadata(catalog).num_rows == 25
    write_table(table, 40)
    assert plan_run(settings, table, catalog).galaxies == 40


def test_a_query_that_was_not_asked_yet_leaves_the_plan_open(tmp_path):
    sql = tmp_path / "query.sql"
    sql.write_text("SELECT object_id, ra, dec FROM pdr3_wide.forced")
    settings = load_settings({"catalog": {"source": "hsc_sql", "query": str(sql)}, "cutouts": {"source": "hsc_das"}})
    assert plan_run(settings, tmp_path / "query.csv.gz", tmp_path / "absent") is None


def test_a_table_that_is_no_catalog_is_refused_while_planning(tmp_path):
    table = tmp_path / "table.csv"
    write_table(table, 3)
    table.write_text(table.read_text().replace("\n2,", "\n1,"))
    with pytest.raises(TidalkinError, match=r"object_id 1\b"):
        plan_run(from_file(table), table, tmp_path / "absent")


def test_planning_a_run_whose_catalog_is_known_imports_nothing_that_reads_tables(tmp_path):
    table, catalog = tmp_path / "table.csv", tmp_path / "catalog.parquet"
    write_table(table, 25)
    write_planned(from_file(table), table, catalog, tmp_path / "chunks")
    code = (
        "import sys; from tidalkin.config import load_settings; from tidalkin.sources.plan import plan_run; "
        f"settings = load_settings({from_file(table).model_dump(mode='json')!r}); "
        f"assert plan_run(settings, {str(table)!r}, {str(catalog)!r}).galaxies == 25; "
        "print({'pandas', 'astropy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
