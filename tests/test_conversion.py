"""Cutouts to image store: what arrives where, what is told, and that no death of a process changes a byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pandas as pd
import psutil
import pytest
from astropy.io import fits
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st

from tidalkin.catalog.read import read_catalog, split_catalog, write_catalog
from tidalkin.config import Dask, Folder, Images
from tidalkin.cutouts.base import Cutout
from tidalkin.cutouts.write import write_cutout
from tidalkin.download.tar import write_chunk
from tidalkin.errors import TidalkinError
from tidalkin.images.convert import convert
from tidalkin.images.dask_cluster import ALLOCATOR
from tidalkin.images.store import ImageStore
from tidalkin.sources.folder import FolderSource

PLANES = {"BAD": 0, "SAT": 1, "DETECTED": 5, "NO_DATA": 8}
ZERO_POINT_31_4 = 10 ** (0.4 * 31.4)  # with it, one count is one nanojansky


def cutout(object_id, band, ra, dec, *, size=16, fluxmag0=ZERO_POINT_31_4, bad=0):
    """An image full of noise around ``object_id``, so that every pixel tells whose it is."""
    random = np.random.default_rng([object_id, ord(band)])
    image = (object_id + random.normal(0, 0.1, (size, size))).astype(np.float32)
    mask = np.full((size, size), 1 << PLANES["DETECTED"], np.int32)
    mask.flat[:bad] |= 1 << PLANES["SAT"]
    variance = np.full((size, size), 0.01, np.float32)
    return write_cutout(image, mask, variance, band=band, ra=ra, dec=dec, fluxmag0=fluxmag0, mask_planes=PLANES)


class Survey:
    """Catalog, tars and ledgers of ``objects`` galaxies with ids from 1, in a folder."""

    def __init__(self, folder, objects, *, chunk_size=5, bands="gr", deliver=None, columns=None, size=16):
        self.folder, self.bands, self.tars, self.ledgers = folder, bands, [], []
        ids = np.arange(1, objects + 1)
        table = {"object_id": ids, "ra": 150 + ids / 100, "dec": 2 - ids / 100, **(columns or {})}
        self.catalog = pd.DataFrame(table)
        write_catalog(self.catalog, folder / "catalog.parquet")
        self.deliver = deliver or (lambda row, band: cutout(row.object_id, band, row.ra, row.dec, size=size))
        for name, rows in split_catalog(self.catalog, chunk_size).items():
            self.fetch(name, rows)

    def fetch(self, name, rows):
        tar, ledger = self.folder / f"{name}.tar", self.folder / f"{name}.ledger.parquet"
        cutouts = [self.cutout(row, band) for row in rows.itertuples() for band in self.bands]
        write_chunk(cutouts, rows, self.bands, tar, ledger)
        self.tars.append(tar)
        self.ledgers.append(ledger)

    def cutout(self, row, band):
        content = self.deliver(row, band)
        status = "ok" if content else "absent"
        return Cutout(row.object_id, band, status, content or b"", "" if content else "the archive has no such data")

    def arguments(self, output="images.zarr", **images):
        settings = {"size": 16, "shard_size": 4, "chunk_size": 2, **images}
        return {
            "catalog": self.folder / "catalog.parquet",
            "tars": self.tars,
            "ledgers": self.ledgers,
            "bands": tuple(self.bands),
            "images": Images(**settings),
            "threads": 2,
            "output": self.folder / output,
            "problems": self.folder / f"{output}.problems.csv",
        }


@pytest.fixture(scope="module")
def scheduler():
    """Address of one Dask scheduler for the tests that need no cluster of their own."""
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, memory_limit=None
    ) as cluster:
        yield Dask(cluster="address", address=cluster.scheduler_address)


def converted(survey, scheduler, output="images.zarr", **images):
    """All rows of the converted store, and its table of problems."""
    arguments = survey.arguments(output, **images)
    convert(**arguments, dask=scheduler)
    store = ImageStore.open(arguments["output"])
    shards = [store.read(shard) for shard in range(store.n_shards)]
    rows = {name: np.concatenate([getattr(shard, name) for shard in shards]) for name in vars(shards[0])}
    return rows, pd.read_csv(arguments["problems"])


def content_of(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# --- what arrives where ------------------------------------------------------------------------------------------


@given(objects=st.integers(1, 17), chunk_size=st.integers(1, 9), shard_size=st.integers(1, 9))
@settings(max_examples=12, deadline=None)
def test_each_object_is_in_its_row_however_chunks_and_shards_are_cut(
    tmp_path_factory, scheduler, objects, chunk_size, shard_size
):
    survey = Survey(tmp_path_factory.mktemp("survey"), objects, chunk_size=chunk_size)
    rows, problems = converted(survey, scheduler, shard_size=shard_size, chunk_size=1)
    assert list(rows["object_id"]) == list(range(1, objects + 1))
    assert np.abs(rows["flux"] - rows["object_id"][:, None, None, None]).max() < 1
    assert not (rows["flux"][:, 0] == rows["flux"][:, 1]).any()
    assert (rows["good_fraction"] == 1).all()
    assert rows["sky_sigma"] == pytest.approx(0.1)
    assert problems.empty


def test_absent_bands_bad_pixels_and_small_cutouts_are_missing_pixels(tmp_path, scheduler):
    def deliver(row, band):
        if row.object_id == 2 and band == "r":
            return None
        if row.object_id == 3:
            return cutout(row.object_id, band, row.ra, row.dec, bad=64)
        return cutout(row.object_id, band, row.ra, row.dec, size=8 if row.object_id == 4 else 16)

    rows, problems = converted(Survey(tmp_path, 5, deliver=deliver), scheduler)
    assert rows["good_fraction"].tolist() == [[1, 1], [1, 0], [0.75, 0.75], [0.25, 0.25], [1, 1]]
    assert (np.isfinite(rows["flux"]).mean(axis=(2, 3)) == rows["good_fraction"]).all()
    assert np.isnan(rows["sky_sigma"]).tolist() == (rows["good_fraction"] == 0).tolist()
    assert np.isfinite(rows["flux"][3, 0, 4:12, 4:12]).all()
    assert problems.empty  # the ledger tells what is absent


def test_zero_points_are_taken_into_account(tmp_path, scheduler):
    def deliver(row, band):
        return cutout(row.object_id, band, row.ra, row.dec, fluxmag0=10 ** (0.4 * (27.0 if band == "g" else 31.4)))

    rows, _ = converted(Survey(tmp_path, 3, deliver=deliver), scheduler)
    assert rows["flux"][:, 0].mean() / rows["flux"][:, 1].mean() == pytest.approx(57.54, rel=0.01)
    assert rows["sky_sigma"][:, 0] / rows["sky_sigma"][:, 1] == pytest.approx(57.54, rel=0.01)


def test_the_seeing_is_the_catalogs(tmp_path, scheduler):
    survey = Survey(tmp_path, 3, columns={"psf_fwhm_g": [0.79, np.nan, -1.0]})
    rows, _ = converted(survey, scheduler)
    np.testing.assert_allclose(rows["psf_fwhm"][:, 0], [0.79, np.nan, np.nan])
    assert np.isnan(rows["psf_fwhm"][:, 1]).all()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda content: content[: len(content) // 2], "cut short"),
        (lambda content: b"no FITS at all", "not a FITS file"),
        (lambda content: content.replace(b"HSC-R", b"HSC-Z"), "is of band z by its FILTER"),
        (
            lambda content: content.replace(b"CRVAL1  =                150", b"CRVAL1  =                 10"),
            "no good pixel",
        ),
    ],
)
def test_a_cutout_that_cannot_be_used_is_listed_and_loses_nothing_else(tmp_path, scheduler, spoil, sentence):
    def deliver(row, band):
        content = cutout(row.object_id, band, round(row.ra), row.dec)
        return spoil(content) if (row.object_id, band) == (3, "r") else content

    survey = Survey(tmp_path, 6, deliver=deliver, columns={"ra": [150.0] * 6})
    rows, problems = converted(survey, scheduler)
    assert problems[["object_id", "band"]].values.tolist() == [[3, "r"]]
    assert "00000.tar: 3-r.fits: " in problems.reason[0]
    assert sentence in problems.reason[0]
    assert (rows["good_fraction"] == 0).tolist() == [[False, object_id == 3] for object_id in range(1, 7)]


def test_a_catalog_without_any_image_is_refused(tmp_path, scheduler):
    survey = Survey(tmp_path, 3, deliver=lambda row, band: None)
    with pytest.raises(TidalkinError, match=r"catalog\.parquet: none of its objects has an image"):
        converted(survey, scheduler)
    assert not (tmp_path / "images.zarr").exists()


def test_ledgers_of_another_catalog_are_refused(tmp_path, scheduler):
    survey = Survey(tmp_path, 7)
    write_catalog(survey.catalog.iloc[::-1], tmp_path / "catalog.parquet")
    with pytest.raises(TidalkinError, match=r"ledger\.parquet: does not list the objects"):
        converted(survey, scheduler)
    write_catalog(survey.catalog.iloc[:6], tmp_path / "catalog.parquet")
    with pytest.raises(TidalkinError, match="has 6 objects, but the 2 ledgers have 7 in 2 bands"):
        converted(survey, scheduler)


def test_a_tar_that_is_cut_short_is_named(tmp_path, scheduler):
    survey = Survey(tmp_path, 7)
    os.truncate(survey.tars[1], 9000)
    with pytest.raises(TidalkinError, match=r"00001\.tar is cut short"):
        converted(survey, scheduler)


def test_no_scheduler_at_the_address_is_said(tmp_path):
    from dask import config

    with (
        config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(TidalkinError, match="no Dask scheduler"),
    ):
        convert(**Survey(tmp_path, 3).arguments(), dask=Dask(cluster="address", address="tcp://127.0.0.1:9"))


def test_real_hsc_images_arrive_in_nanojansky(tmp_path, scheduler, real_hsc_cutouts):
    objects = read_catalog(real_hsc_cutouts / "catalog.csv").iloc[:12]
    write_catalog(objects, tmp_path / "catalog.parquet")
    source = FolderSource(Folder(path=str(real_hsc_cutouts / "cutouts"), template="{object_id}-HSC-{BAND}.fits"))
    tar, ledger = tmp_path / "00000.tar", tmp_path / "00000.ledger.parquet"
    write_chunk(source.fetch(objects, "grizy"), objects, "grizy", tar, ledger)
    survey = Survey.__new__(Survey)
    survey.folder, survey.bands, survey.tars, survey.ledgers = tmp_path, "grizy", [tar], [ledger]
    rows, problems = converted(survey, scheduler, size=64, shard_size=5, chunk_size=5)
    assert problems.empty
    for row, object_id in enumerate(objects.object_id):
        image = fits.getdata(real_hsc_cutouts / "cutouts" / f"{object_id}-HSC-I.fits", 1)
        found = rows["flux"][row, 2]
        y, x = (side // 2 for side in image.shape)
        patch = image[y - 2 : y + 2, x - 2 : x + 2] * np.float32(10 ** (0.4 * (31.4 - 27)))
        near = [found[32 + j - 2 : 32 + j + 2, 32 + i - 2 : 32 + i + 2] for j in (-1, 0, 1) for i in (-1, 0, 1)]
        assert any(np.allclose(patch, candidate, rtol=1e-4, equal_nan=True) for candidate in near)
    assert (rows["sky_sigma"] > 0).all()
    assert rows["good_fraction"].min() > 0.05


# --- restarts ----------------------------------------------------------------------------------------------------

DRIVER = """
import json, logging, resource, sys
from tidalkin.config import Dask, Images
from tidalkin.images.convert import convert
from tidalkin.errors import TidalkinError

if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.INFO)
    if limit := arguments.pop("largest_file", None):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    arguments["images"], arguments["dask"] = Images(**arguments["images"]), Dask(**arguments["dask"])
    try:
        convert(**arguments)
    except TidalkinError as error:
        sys.exit(str(error))
"""


@pytest.fixture
def start(tmp_path):
    """Start a conversion as its own process group, as a job of a cluster is."""
    (tmp_path / "driver.py").write_text(DRIVER)

    def run(arguments, dask=None, **more):
        plain = {**arguments, "images": arguments["images"].model_dump(), "dask": dask or {}, **more}
        return subprocess.Popen(
            [sys.executable, tmp_path / "driver.py", json.dumps(plain, default=lambda value: str(value))],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return run


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """Large enough to be killed in the middle."""
    return Survey(tmp_path_factory.mktemp("survey"), 300, chunk_size=70, size=64)


WHOLE = {"size": 64, "shard_size": 8, "chunk_size": 4}


@pytest.fixture(scope="module")
def undisturbed(survey, scheduler):
    converted(survey, scheduler, "undisturbed.zarr", **WHOLE)
    return content_of(survey.folder / "undisturbed.zarr")


def wait_for_shards(work, count, process):
    while len(list((work / "finished").glob("*.json"))) < count:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param([(True, 14)], id="once"),
        pytest.param([(True, 1), (False, 14), (True, 27)], id="again_and_again", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_conversion_ends_byte_identical(survey, undisturbed, start, kills):
    random = np.random.default_rng()
    arguments = survey.arguments(f"killed_{len(kills)}.zarr", **WHOLE)
    work = survey.folder / f"killed_{len(kills)}.zarr.partial"
    finished = {}
    for whole_group, shards in kills:
        process = start(arguments)
        wait_for_shards(work, shards, process)
        time.sleep(random.uniform(0, 0.1))
        workers = psutil.Process(process.pid).children(recursive=True)
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
        process.communicate()
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert not alive
        assert not arguments["output"].exists()
        kept = {note: note.stat().st_mtime_ns for note in (work / "finished").glob("*.json")}
        assert finished.items() <= kept.items()
        finished = kept
    process = start(arguments)
    _, messages = process.communicate(timeout=400)
    assert process.returncode == 0, messages
    assert "38 of 38 shards" in messages
    assert content_of(arguments["output"]) == undisturbed
    assert not work.exists()


def only_worker(process):
    """The one Dask worker that a conversion, or Dask's own command, has started."""
    children = psutil.Process(process.pid).children(recursive=True)
    (worker,) = (child for child in children if "spawn_main" in " ".join(child.cmdline()))
    return worker


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_by_one_with_the_same_allocator(survey, undisturbed, start):
    arguments = survey.arguments("bereft.zarr", **WHOLE) | {"threads": 1}
    process = start(arguments)
    work = survey.folder / "bereft.zarr.partial"
    wait_for_shards(work, 5, process)
    first = only_worker(process)
    first.kill()
    wait_for_shards(work, 12, process)  # one or two more may have been finished before the end
    second = only_worker(process)
    assert second.pid != first.pid
    assert second.environ().items() >= {name: str(value) for name, value in ALLOCATOR.items()}.items()
    _, messages = process.communicate(timeout=400)
    assert process.returncode == 0, messages
    assert content_of(arguments["output"]) == undisturbed


@pytest.fixture
def dask_processes(tmp_path):
    """Start Dask's own commands, as one does on other machines, and end what is left of them."""
    started = []

    def run(command, *arguments):
        with (tmp_path / f"{command}.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{command}", *arguments, "--no-dashboard"],
                cwd=tmp_path,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield run
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_a_cluster_of_ones_own_may_lose_a_worker_and_a_machine(tmp_path, survey, undisturbed, start, dask_processes):
    address = tmp_path / "scheduler.json"
    dask_processes("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(address))
    machines = [
        dask_processes("worker", "--scheduler-file", str(address), "--nthreads", "1", "--local-directory", str(folder))
        for folder in (tmp_path / "first", tmp_path / "second")
    ]
    deadline = time.monotonic() + 120
    while not address.exists():
        assert time.monotonic() < deadline, (tmp_path / "scheduler.log").read_text()
        time.sleep(0.1)
    with Client(scheduler_file=str(address)) as client:
        client.wait_for_workers(2, timeout=240)
        scheduler_address = client.scheduler.address

    arguments = survey.arguments("elsewhere.zarr", **WHOLE)
    work = survey.folder / "elsewhere.zarr.partial"
    process = start(arguments, dask={"cluster": "address", "address": scheduler_address})
    wait_for_shards(work, 4, process)
    os.killpg(machines[0].pid, signal.SIGKILL)
    wait_for_shards(work, 12, process)
    worker = only_worker(machines[1])
    worker.kill()  # its nanny starts another: it is the only one left
    _, messages = process.communicate(timeout=400)
    assert process.returncode == 0, messages
    assert content_of(arguments["output"]) == undisturbed
    assert not worker.is_running()


def test_a_disk_that_fills_up_ends_in_a_sentence_and_keeps_what_is_finished(tmp_path, scheduler, start):
    # The first eight objects have no image, so that their shard stays under the limit, and all others do not.
    def deliver(row, band):
        return cutout(row.object_id, band, row.ra, row.dec, size=64) if row.object_id > 8 else None

    full = Survey(tmp_path, 20, deliver=deliver)
    converted(full, scheduler, "undisturbed.zarr", **WHOLE)
    arguments = full.arguments("full.zarr", **WHOLE)
    process = start(arguments, largest_file=100_000, threads=1)
    _, messages = process.communicate(timeout=300)
    assert process.returncode == 1
    sentence = messages.strip().splitlines()[-1]
    assert "full.zarr.partial/store/flux/c/1/0/0/0: cannot be written (File too large)" in sentence
    assert "Traceback" not in messages
    first = tmp_path / "full.zarr.partial" / "store" / "flux" / "c" / "0" / "0" / "0" / "0"
    inode = first.stat().st_ino
    convert(**arguments, dask=scheduler)
    assert (arguments["output"] / first.relative_to(tmp_path / "full.zarr.partial" / "store")).stat().st_ino == inode
    assert content_of(arguments["output"]) == content_of(tmp_path / "undisturbed.zarr")


def interrupted(survey, scheduler, output, **images):
    """A conversion that got as far as its last shard, which has no tar."""
    arguments = survey.arguments(output, **images)
    hidden = survey.tars[-1].rename(survey.tars[-1].with_suffix(".hidden"))
    with pytest.raises(TidalkinError, match="cannot be read"):
        convert(**arguments, dask=scheduler)
    hidden.rename(survey.tars[-1])
    return {file.name: file.stat().st_mtime_ns for file in (survey.folder / f"{output}.partial").rglob("*.json")}


def test_only_the_shards_of_a_chunk_that_was_fetched_again_are_made_again(tmp_path, scheduler):
    survey = Survey(tmp_path, 16, chunk_size=4)
    notes = interrupted(survey, scheduler, "images.zarr")
    assert {"00000.json", "00001.json", "00002.json"} <= notes.keys()
    survey.deliver = lambda row, band: cutout(row.object_id, band, row.ra, row.dec, bad=128)
    survey.fetch("00001", survey.catalog.iloc[4:8])
    survey.tars.pop(), survey.ledgers.pop()
    flux = tmp_path / "images.zarr.partial" / "store" / "flux" / "c"
    inodes = [(flux / str(shard) / "0" / "0" / "0").stat().st_ino for shard in range(3)]
    rows, _ = converted(survey, scheduler)
    flux = tmp_path / "images.zarr" / "flux" / "c"
    kept = [(flux / str(shard) / "0" / "0" / "0").stat().st_ino == inodes[shard] for shard in range(3)]
    assert kept == [True, False, True]
    assert rows["good_fraction"][:, 0].tolist() == [1.0] * 4 + [0.5] * 4 + [1.0] * 8


@pytest.mark.parametrize("change", [{"bad_mask_planes": ()}, {"size": 12}, {"shard_size": 8}])
def test_another_configuration_begins_anew(tmp_path, scheduler, change):
    survey = Survey(tmp_path, 16, chunk_size=4)
    interrupted(survey, scheduler, "images.zarr")
    converted(survey, scheduler, **change)
    converted(survey, scheduler, "undisturbed.zarr", **change)
    assert content_of(tmp_path / "images.zarr") == content_of(tmp_path / "undisturbed.zarr")


def test_a_half_written_file_of_a_killed_worker_does_not_stay(tmp_path, scheduler):
    survey = Survey(tmp_path, 16, chunk_size=4)
    interrupted(survey, scheduler, "images.zarr")
    stray = tmp_path / "images.zarr.partial" / "store" / "flux" / "c" / "3" / "0" / "0" / "0.0123abcd.partial"
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"half a shard")
    converted(survey, scheduler)
    converted(survey, scheduler, "undisturbed.zarr")
    assert content_of(tmp_path / "images.zarr") == content_of(tmp_path / "undisturbed.zarr")


@pytest.mark.slow
def test_conversion_on_slurm_jobs_gives_the_same_bytes(tmp_path, scheduler, monkeypatch):
    """Commands that stand for SLURM's run the job script here: the script, its workers and their results are real."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "sbatch").write_text(
        '#!/bin/sh\njob=$(mktemp); cp "$1" "$job"\nsetsid sh "$job" >/dev/null 2>&1 &\necho "Submitted batch job $!"\n'
    )
    (commands / "scancel").write_text('#!/bin/sh\nkill -- -"$1"\n')
    for command in commands.iterdir():
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    survey = Survey(tmp_path, 16)
    converted(survey, scheduler, "undisturbed.zarr")
    converted(survey, Dask(cluster="slurm", workers=1, slurm={"memory": "1GiB", "interface": "lo"}))
    assert content_of(tmp_path / "images.zarr") == content_of(tmp_path / "undisturbed.zarr")


def test_a_wrong_slurm_setting_is_named(tmp_path):
    with pytest.raises(TidalkinError, match=r"compute\.dask\.slurm: .*memry"):
        convert(**Survey(tmp_path, 3).arguments(), dask=Dask(cluster="slurm", slurm={"memry": "1GiB"}))
