"""Files that a user names: when they change, and when they cannot work."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pandas as pd
import pytest

from surveys.fetched import cutout
from surveys.tiny import TINY, changed, planned, planned_jobs

RUN = TINY | {
    "catalog": {"source": "file", "path": "galaxies.csv", "chunk_size": 4},
    "cutouts": {"source": "folder", "bands": ["g", "i"], "folder": {"path": "files"}},
    "images": {"size": 16, "shard_size": 8, "chunk_size": 4},
    "augment": {"crop": 16, "jitter_pixels": 0},
    "training": {"epochs": 1, "batch_size": 4, "collapse_below": 0.0},
    "search": {"queries": {"first": {"like": [1]}}},
    "evaluation": {"enabled": False},
}


def image(object_id, band):
    return cutout(object_id, band, 150 + object_id / 100, 2.0)


@pytest.fixture
def folder(tmp_path):
    """A catalog of twelve galaxies and their images; the last galaxy has none in i."""
    (tmp_path / "files").mkdir()
    ids = np.arange(1, 13)
    pd.DataFrame({"object_id": ids, "ra": 150 + ids / 100, "dec": 2.0}).to_csv(tmp_path / "galaxies.csv", index=False)
    for object_id in ids:
        for band in "gi":
            (tmp_path / "files" / f"{object_id}-HSC-{band.upper()}.fits").write_bytes(image(object_id, band))
    (tmp_path / "files" / "12-HSC-I.fits").unlink()
    return tmp_path


def test_a_file_that_changes_or_arrives_is_read_and_only_its_chunk(folder, snakemake):
    snakemake(folder, "--until", "convert", config=RUN)
    assert planned(snakemake(folder, "-n", "--until", "convert", config=RUN).stdout) == set()
    replaced = folder / "files" / "1-HSC-G.fits"
    replaced.write_bytes(image(2, "g"))
    os.utime(replaced, (1e9, 1e9))  # older than what was made from the file before
    (folder / "files" / "12-HSC-I.fits").write_bytes(image(12, "i"))
    assert planned_jobs(snakemake(folder, "-n", "--until", "convert", config=RUN).stdout) == {"fetch": 2, "convert": 1}
    snakemake(folder, "--until", "convert", config=RUN)
    ledgers = (folder / "results" / "tiny" / "cutouts").glob("*.ledger.parquet")
    assert (pd.concat(map(pd.read_parquet, ledgers))["status"] == "ok").all()
    assert planned(snakemake(folder, "-n", "--until", "convert", config=RUN).stdout) == set()


def test_without_the_files_what_was_made_from_them_stays(folder, snakemake):
    snakemake(folder, "--until", "convert", config=RUN)
    away = (folder / "files").rename(folder / "away")
    for _ in range(2):
        assert planned(snakemake(folder, "-n", "--until", "convert", config=RUN).stdout) == set()
        snakemake(folder, "--summary", config=RUN)
        (folder / "files").mkdir(exist_ok=True)  # a disk that is not mounted
    (folder / "files").rmdir()
    away.rename(folder / "files")
    assert planned(snakemake(folder, "-n", "--until", "convert", config=RUN).stdout) == set()


def refused(done):
    assert done.returncode != 0
    assert "KeyError" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_run_never_takes_its_own_products_as_input(folder, snakemake):
    made = folder / "results" / "tiny"
    for name in ("encoder/encoder.pt", "whitening.npz", "catalog.parquet"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(b"the work of days")
    (folder / "link").symlink_to("results")
    encoder = "results/tiny/encoder/encoder.pt"
    for own in (encoder, f"./{encoder}", str(folder / encoder), "link/tiny/encoder/encoder.pt"):
        message = refused(snakemake(folder, config=RUN | {"reuse": {"encoder": own}}, check=False))
        assert f"reuse.encoder {own}: is a file that this run makes: copy it to a folder outside" in message
    shutil.copy(made / "encoder" / "encoder.pt", folder)
    both = {"encoder": "encoder.pt", "whitening": "results/tiny/whitening.npz"}
    assert "reuse.whitening results/tiny" in refused(snakemake(folder, config=RUN | {"reuse": both}, check=False))
    own = changed(RUN, catalog={"path": "results/tiny/catalog.parquet"})
    assert "catalog.path results/tiny/catalog.parquet: is a file" in refused(snakemake(folder, config=own, check=False))
    for name in ("encoder/encoder.pt", "whitening.npz", "catalog.parquet"):
        assert (made / name).read_bytes() == b"the work of days"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"reuse": {"encoder": "nope.pt"}}, "reuse.encoder nope.pt: there is no such file: correct the path"),
        ({"reuse": {"encoder": "files"}}, "reuse.encoder files: there is no such file"),
        ({"cutouts": {"folder": {"path": "nope"}}}, "cutouts.folder.path 'nope' is not a folder"),
        ({"training": {"batch_size": 64}}, "training.batch_size is 64, but the catalog has only 12 galaxies"),
        ({"evaluation": {"enabled": True}}, "the catalog has no column `label`, which the evaluation needs"),
        ({"index": {"kind": "foo"}}, "config: index.kind 'foo' does not work (could not parse"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_work_is_refused_before_anything_is_fetched(folder, snakemake, change, sentence):
    config = {name: {**RUN.get(name, {}), **values} for name, values in change.items()}
    assert sentence in refused(snakemake(folder, config=RUN | config, check=False))
    assert not (folder / "results").exists()
    planned_only = snakemake(folder, "-n", config=RUN | config, check=False)
    assert sentence in planned_only.stdout + planned_only.stderr


def test_what_cannot_work_does_not_stop_the_stages_before_it(folder, snakemake):
    config = RUN | {"evaluation": {"enabled": True}}
    assert "rank" in planned(snakemake(folder, "-n", "results/tiny/ranking.parquet", config=config).stdout)
    config["training"] = RUN["training"] | {"batch_size": 64}
    assert "convert" in planned(snakemake(folder, "-n", "--until", "convert", config=config).stdout)
