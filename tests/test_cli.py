"""The command line: its output, its speed and its refusals."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.main import get_command

import published
from tidalkin import __version__
from tidalkin.catalog.read import write_catalog
from tidalkin.cli import app
from tidalkin.config import Images, Index
from tidalkin.embedding.whitening import fit_whitening
from tidalkin.images.store import ImageStore, Shard
from tidalkin.index.build import build_index
from tidalkin.search.files import RunFiles
from tidalkin.search.ranking import rank_survey

N = 2000  # of the size of the demo
TIDALKIN = str(Path(sys.executable).with_name("tidalkin"))
BANDS = ("g", "r", "i")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory with the run results/small."""
    folder = tmp_path_factory.mktemp("work")
    files = RunFiles.of(folder / "results" / "small")
    files.embeddings.mkdir(parents=True)
    random = np.random.default_rng(1)
    ids = np.arange(1, N + 1)
    position = {"ra": random.uniform(0, 360, N), "dec": random.uniform(-60, -50, N)}
    write_catalog(pd.DataFrame({"object_id": ids, **position, "label": "shell"}), files.catalog)
    vectors = random.standard_normal((N, 128)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.save(files.embeddings / "00000.npy", vectors)
    np.save(files.embeddings / "00000.ids.npy", ids)
    build_index([files.embeddings / "00000.npy"], Index(queries=5), files.index, seed=1)
    features = random.standard_normal((N, 200)).astype(np.float32)
    fit_whitening(features, published.embedding(dimensions=128), "", has_debris_score=True).save(files.whitening)
    images = Images(size=16, shard_size=N, chunk_size=50)
    ones = np.ones((N, 3), np.float32)
    flux = random.standard_normal((N, 3, 16, 16)).astype(np.float32)
    store = ImageStore.create(files.images, objects=N, bands=BANDS, images=images)
    store.write(0, Shard(flux, ones, ones, ones, ids))
    maps, map_ids = files.embeddings / "00000.debris_map.npy", files.embeddings / "00000.ids.npy"
    np.save(maps, random.standard_normal((N, 4, 4)).astype(np.float16))
    rank_survey(files.catalog, files.whitening, [maps], [map_ids], files.ranking)
    return folder


def tidalkin(folder, *arguments):
    return subprocess.run(
        [TIDALKIN, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "120"},
        timeout=120,
        check=False,
    )


def refused(folder, *arguments):
    done = tidalkin(folder, *arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_a_search_by_id_of_the_newest_run_takes_under_two_seconds(folder):
    before = children_seconds()  # of the processor, so that it holds on a busy machine too
    done = tidalkin(folder, "search", "--like", 42, "--k", 24)
    assert children_seconds() - before < 2.0
    assert done.returncode == 0, done.stderr
    assert "24 of 2,000 galaxies of results/small" in done.stdout
    assert done.stdout.count("shell") == 24


def test_a_search_by_id_imports_no_heavy_library(folder):
    code = (
        "import sys; from tidalkin.cli import app; app(['search', '--like', '42'], standalone_mode=False);"
        "print({'torch', 'snakemake', 'matplotlib', 'pandas', 'sklearn', 'zarr', 'dask', 'astropy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_several_examples_and_a_position_are_one_query(folder):
    catalog = pd.read_parquet(folder / "results" / "small" / "catalog.parquet")
    ra, dec = catalog[["ra", "dec"]].iloc[99]  # object 100, south of the equator
    done = tidalkin(
        *(folder, "search", "--run", "results/small", "--like", 42, "--like", 7, "--unlike", 3),
        *("--position", ra, dec, "--k", 5, "--output", "answer"),
    )
    assert done.returncode == 0, done.stderr
    neighbours = pd.read_csv(folder / "answer" / "neighbours.csv", comment="#")
    assert len(neighbours) == 5
    assert not set(neighbours.object_id) & {42, 7, 3, 100}
    assert (folder / "answer" / "neighbours.fits").is_file()
    assert (folder / "answer" / "mosaic.png").is_file()


def test_most_debris_is_listed_with_no_example(folder):
    done = tidalkin(folder, "search", "--debris", "--k", 3)
    assert done.returncode == 0, done.stderr
    assert "3 of 2,000 galaxies of results/small" in done.stdout
    assert "debris_score" in done.stdout


def test_labels_rank_the_survey(folder):
    (folder / "labels.csv").write_text("object_id,label\n5,shell\n9,none\n")
    done = tidalkin(folder, "rank", "--labels", "labels.csv", "--k", 3, "--output", "ranked.parquet")
    assert done.returncode == 0, done.stderr
    assert "first 3 of 2,000 galaxies of results/small" in done.stdout
    ranked = pd.read_parquet(folder / "ranked.parquet")
    assert len(ranked) == 2000
    assert set(ranked["judged"]) == {"yes", "no", ""}
    assert "labels.csv" in refused(folder, "rank", "--labels", "no/labels.csv")


def test_the_version_is_printed(folder):
    assert tidalkin(folder, "--version").stdout == f"tidalkin {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--like", 77777], "object 77777 is not in results/small/catalog.parquet"),
        (["--like", 1, "--unlike", 1], "object 1 is both in `like` and in `unlike`"),
        ([], "a query needs `like`"),
        (["--position", 400, 0], r"position [400.0, 0.0] must be"),
        (["--position", 10, 80], "the nearest"),
        (["--like", 1, "--run", "results/no"], "run results/no: is not a folder"),
        (["--like", 1, "--run", "results"], "no index is here"),
        (["--debris", "--like", 1], "a query with `debris` has no examples"),
        (["--cutout", "mine-{band}.fits"], "run results/small: has no config.yaml: name the configuration"),
    ],
)
def test_a_query_that_cannot_be_run_is_refused_in_one_sentence(folder, arguments, sentence):
    assert sentence in refused(folder, "search", *arguments)


def test_a_configuration_of_another_run_is_refused(folder):
    (folder / "other.yaml").write_text("run: other\n")
    sentence = refused(folder, "search", "--cutout", "mine-{band}.fits", "--configfile", "other.yaml")
    assert "is of run 'other', not of 'small'" in sentence


def test_a_folder_without_runs_is_refused(tmp_path):
    assert "no run with an index is below" in refused(tmp_path, "search", "--like", 1)


# --- without the pipeline's packages -----------------------------------------------------------------------------


def base_install(folder, *arguments):
    """Run tidalkin where only the base dependencies can be imported."""
    program = Path(__file__).with_name("programs") / "base_install.py"
    command = [sys.executable, str(program), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_a_base_install_searches_and_writes_the_result(folder, tmp_path):
    done = base_install(folder, "search", "--like", 7, "-k", 3, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mosaic.png").exists()
    assert len(pd.read_csv(tmp_path / "neighbours.csv", comment="#")) == 3


def test_a_command_that_needs_the_pipeline_says_how_to_install_it(folder):
    (folder / "results" / "small" / "cutouts").mkdir(exist_ok=True)
    done = base_install(folder, "download-report", "--run", "results/small")
    assert done.returncode == 1
    assert done.stderr.startswith("this command needs the package ")
    assert "pip install '.[pipeline]'" in done.stderr
    assert "Traceback" not in done.stderr


def commands(group):
    for command in group.commands.values():
        yield from commands(command) if hasattr(command, "commands") else [command]


def test_no_help_holds_square_brackets_which_vanish_as_markup():
    help_texts = [option.help or "" for command in commands(get_command(app)) for option in command.params]
    assert len(help_texts) > 30
    assert not [text for text in help_texts if "[" in text]
