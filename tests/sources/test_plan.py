"""A run is planned before it starts; chunks have new names exactly when cutouts differ."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tidalkin.catalog.plan import Plan, chunks_of_shard, shard_digests
from tidalkin.config import Images, Settings, load_settings
from tidalkin.errors import TidalkinError
from tidalkin.sources.catalog import write_chunks, write_run_catalog
from tidalkin.sources.plan import plan_run, planned_objects


def simulated(galaxies: int, seed: int = 1, **survey: float) -> Settings:
    return load_settings(
        {
            "seed": seed,
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


def named(before: Plan, after: Plan) -> set[str]:
    """Return the numbers of chunks that are only in the second plan."""
    return {name.partition("-")[0] for name in set(after.chunks) - set(before.chunks)}


def plan_table(path: Path, folder: Path, **catalog: object) -> Plan:
    return plan_run(from_file(path, **catalog), path, folder / "absent")


def test_a_simulated_run_is_planned_from_its_configuration_alone(tmp_path):
    before, after = (plan_run(simulated(n), None, tmp_path / "absent") for n in (20, 25))
    assert before.galaxies == 20
    assert named(before, after) == {"00002"}
    for other in (simulated(20, tidal_fraction=0.5), simulated(20, seed=2)):
        assert named(before, plan_run(other, None, tmp_path / "absent")) == {"00000", "00001"}


def test_a_grown_table_changes_only_the_chunks_that_grew(tmp_path):
    table = tmp_path / "table.csv"
    plans = []
    for rows in (25, 32):
        write_table(table, rows)
        plans.append(plan_table(table, tmp_path))
    assert named(*plans) == {"00002", "00003"}


def test_a_moved_galaxy_changes_its_own_chunk(tmp_path):
    table = tmp_path / "table.csv"
    write_table(table, 30)
    before = plan_table(table, tmp_path)
    write_table(table, 30, dec=[i / 1000 + (0.001 if i == 12 else 0) for i in range(30)])
    assert named(before, plan_table(table, tmp_path)) == {"00001"}


def test_a_new_column_of_the_users_own_and_another_path_change_nothing(tmp_path):
    table = tmp_path / "table.csv"
    write_table(table, 20)
    before = plan_table(table, tmp_path)
    write_table(tmp_path / "moved.csv", 20, label="stream")
    assert plan_table(tmp_path / "moved.csv", tmp_path) == before


def test_a_known_seeing_changes_what_is_converted_but_not_what_is_fetched(tmp_path):
    table = tmp_path / "table.csv"
    write_table(table, 20)
    before = plan_table(table, tmp_path)
    write_table(table, 20, psf_fwhm_i=0.6)
    after = plan_table(table, tmp_path)
    assert after.chunks == before.chunks
    assert after.digest != before.digest


def test_the_bands_and_the_source_are_part_of_a_chunks_name_but_not_how_it_is_transported(tmp_path):
    table = tmp_path / "table.csv"
    write_table(table, 10)

    def names(**cutouts: object) -> tuple[str, ...]:
        catalog = {"source": "file", "path": str(table), "chunk_size": 10}
        settings = load_settings({"catalog": catalog, "cutouts": {"source": "hsc_das"} | cutouts})
        return plan_run(settings, table, tmp_path / "absent").chunks

    assert names() == names(hsc_das={"transport": {"connections": 2}}) == names(folder={"path": "elsewhere"})
    assert len({names(), names(bands=["i"]), names(hsc_das={"rerun": "pdr2_wide"}), names(size_arcsec=10.0)}) == 4


def write_run(settings: Settings, table: Path, folder: Path, plan: Plan) -> None:
    write_run_catalog(settings, table, folder / "catalog.parquet")
    write_chunks(settings, table, plan.digest, folder / "chunks", folder / "objects.parquet")


def test_the_written_catalog_answers_for_the_table_it_was_made_from_and_for_no_other(tmp_path):
    table, catalog = tmp_path / "table.csv", tmp_path / "catalog.parquet"
    write_table(table, 25)
    settings = from_file(table)
    from_table = plan_run(settings, table, catalog)
    write_run(settings, table, tmp_path, from_table)
    assert plan_run(settings, table, catalog) == from_table
    assert sorted(path.stem for path in (tmp_path / "chunks").iterdir()) == list(from_table.chunks)
    assert pq.read_metadata(catalog).num_rows == 25
    write_table(table, 40)
    assert plan_run(settings, table, catalog).galaxies == 40


def test_a_table_that_changes_while_the_workflow_runs_is_noticed(tmp_path):
    table = tmp_path / "table.csv"
    write_table(table, 25)
    settings = from_file(table)
    plan = plan_run(settings, table, tmp_path / "absent")
    write_table(table, 26)
    with pytest.raises(TidalkinError, match="was changed while the workflow ran: start it again"):
        write_chunks(settings, table, plan.digest, tmp_path / "chunks", tmp_path / "objects.parquet")


@pytest.mark.parametrize("content", [b"", b"PAR1 and nothing else"])
def test_a_damaged_catalog_is_refused_in_a_sentence_whose_fix_works(tmp_path, content):
    table, catalog = tmp_path / "table.csv", tmp_path / "catalog.parquet"
    write_table(table, 25)
    catalog.write_bytes(content)
    with pytest.raises(TidalkinError, match=r"is damaged .*: delete it, and it is made again"):
        plan_run(from_file(table), table, catalog)
    catalog.unlink()
    assert plan_run(from_file(table), table, catalog).galaxies == 25


def test_the_galaxies_of_a_run_are_known_before_and_after_its_catalog_is_written(tmp_path):
    table, catalog = tmp_path / "table.csv", tmp_path / "catalog.parquet"
    write_table(table, 25)
    settings = from_file(table)
    before = planned_objects(settings, table, catalog)
    write_run_catalog(settings, table, catalog)
    assert before.equals(planned_objects(settings, table, catalog))
    assert planned_objects(simulated(4), None, catalog)["object_id"].to_pylist() == [1, 2, 3, 4]


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
    write_run_catalog(from_file(table), table, catalog)
    code = (
        "import sys; from tidalkin.config import load_settings; from tidalkin.sources.plan import plan_run; "
        f"settings = load_settings({from_file(table).model_dump(mode='json')!r}); "
        f"assert plan_run(settings, {str(table)!r}, {str(catalog)!r}).galaxies == 25; "
        "print({'pandas', 'astropy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def shards_that_differ(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {shard for shard in after if after[shard] != before.get(shard)}


def digests_of(table: Path, folder: Path, versions: tuple[int, int] = (1, 1), **sections: dict) -> dict[str, str]:
    """Digest the shards of 8 galaxies of a table with chunks of 10."""
    settings = load_settings(from_file(table).model_dump() | {"images": {"shard_size": 8, "chunk_size": 8}} | sections)
    return shard_digests(settings, plan_run(settings, table, folder / "absent"), versions)


def test_a_grown_table_changes_only_the_shards_whose_chunks_grew(tmp_path):
    table = tmp_path / "table.csv"
    write_table(table, 25)
    before = digests_of(table, tmp_path)
    write_table(table, 34)
    after = digests_of(table, tmp_path)
    assert list(after) == ["00000", "00001", "00002", "00003", "00004"]
    assert shards_that_differ(before, after) == {"00002", "00003", "00004"}


def test_a_shard_differs_where_anything_that_decides_its_vectors_does(tmp_path):
    table = tmp_path / "table.csv"
    write_table(table, 25)
    before = digests_of(table, tmp_path)
    for changed in (
        digests_of(table, tmp_path, (2, 1)),
        digests_of(table, tmp_path, (1, 2)),
        digests_of(table, tmp_path, embedding={"dimensions": 4}),
        digests_of(table, tmp_path, images={"shard_size": 8, "chunk_size": 8, "bad_mask_planes": []}),
    ):
        assert shards_that_differ(before, changed) == set(before)
    assert digests_of(table, tmp_path, compute={"embed_batch_size": 3}) == before
    write_table(table, 25, psf_fwhm_i=[0.6 + (row == 15) for row in range(25)])
    seen = digests_of(table, tmp_path)
    write_table(table, 25, psf_fwhm_i=[0.6 + (row == 16) for row in range(25)])
    assert shards_that_differ(seen, digests_of(table, tmp_path)) == {"00001", "00002"}


def test_a_shard_names_the_chunks_that_hold_its_galaxies(tmp_path):
    settings = simulated(25)
    plan = plan_run(settings, None, tmp_path / "absent")
    settings = settings.model_copy(update={"images": Images(shard_size=8, chunk_size=8)})
    names = [
        [int(chunk[:5]) for chunk in chunks_of_shard(settings, plan, shard)] for shard in ("00000", "00001", "00003")
    ]
    assert names == [[0], [0, 1], [2]]
