"""Tests of the conversion as a whole: restarts, lost workers, full disks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from distributed import Client

import tidalkin.images.convert
from surveys.fetched import WHOLE, Survey, content_of, converted, cutout, finished_shards
from tidalkin.catalog.read import write_catalog
from tidalkin.errors import TidalkinError
from tidalkin.images.convert import convert
from tidalkin.images.dask_cluster import ALLOCATOR


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


PROGRAM = Path(__file__).resolve().parents[1] / "programs" / "convert.py"


@pytest.fixture
def start():
    """Start a conversion as its own process group, as a job of a cluster is."""

    def run(arguments, dask=None, **more):
        plain = {**arguments, "images": arguments["images"].model_dump(), "dask": dask or {}, **more}
        return subprocess.Popen(
            [sys.executable, PROGRAM, json.dumps(plain, default=lambda value: str(value))],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return run


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """Large enough to be killed in the middle."""
    return Survey(tmp_path_factory.mktemp("survey"), 300, chunk_size=70, size=64)


@pytest.fixture(scope="module")
def undisturbed(survey, scheduler):
    converted(survey, scheduler, "undisturbed.zarr", **WHOLE)
    return content_of(survey.folder / "undisturbed.zarr")


def wait_for_shards(work, count, process, seconds=600):
    end = time.monotonic() + seconds
    while len(finished_shards(work)) < count:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, f"fewer than {count} shards after {seconds} s"
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
        kept = {note: note.stat().st_mtime_ns for note in finished_shards(work)}
        assert finished.items() <= kept.items()
        finished = kept
    process = start(arguments)
    _, messages = process.communicate(timeout=400)
    assert process.returncode == 0, messages
    assert "38 of 38 shards" in messages
    assert content_of(arguments["output"]) == undisturbed
    assert not work.exists()


def only_worker(process):
    """Return the one Dask worker that a conversion, or Dask's own command, has started."""
    children = psutil.Process(process.pid).children(recursive=True)
    (worker,) = (child for child in children if "spawn_main" in " ".join(child.cmdline()))
    return worker


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_by_one_with_the_same_allocator(survey, undisturbed, start, monkeypatch):
    # By default, Dask gives up a worker whose replacement takes longer than this, as on a busy machine.
    monkeypatch.setenv("DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT", "1ms")
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
    """Start Dask's own commands, as on other machines, and end them at last."""
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
    """Convert up to the last shard, which has no tar."""
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


HALF_WRITTEN = ("flux/c/3/0/0/0.0123abcd.partial", "object_id/.finished/.00003.904.partial.json")


@pytest.mark.parametrize("name", HALF_WRITTEN)
def test_a_half_written_file_of_a_killed_worker_does_not_stay(tmp_path, scheduler, name):
    survey = Survey(tmp_path, 16, chunk_size=4)
    interrupted(survey, scheduler, "images.zarr")
    stray = tmp_path / "images.zarr.partial" / "store" / name
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"half a shard")
    converted(survey, scheduler)
    converted(survey, scheduler, "undisturbed.zarr")
    assert content_of(tmp_path / "images.zarr") == content_of(tmp_path / "undisturbed.zarr")


def test_half_written_files_of_a_worker_killed_in_the_same_conversion_do_not_stay(tmp_path, scheduler, monkeypatch):
    survey = Survey(tmp_path, 16, chunk_size=4)
    converted(survey, scheduler, "undisturbed.zarr")
    convert_shards = tidalkin.images.convert._convert_shards

    def with_a_kill(client, conversion, chunks, n_objects):
        convert_shards(client, conversion, chunks, n_objects)
        for name in HALF_WRITTEN:
            (conversion.store / name).write_bytes(b"half a shard")

    monkeypatch.setattr(tidalkin.images.convert, "_convert_shards", with_a_kill)
    converted(survey, scheduler)
    assert content_of(tmp_path / "images.zarr") == content_of(tmp_path / "undisturbed.zarr")


# --- a survey that grows ---------------------------------------------------------------------------------------------


def test_a_grown_survey_links_the_shards_that_did_not_change_and_gives_the_bytes_of_a_new_conversion(
    tmp_path, scheduler
):
    for name, galaxies in (("small", 30), ("grown", 45)):
        (tmp_path / name).mkdir()
        converted(Survey(tmp_path / name, galaxies, chunk_size=10), scheduler, shard_size=8, chunk_size=4)
    small, grown = (tmp_path / name / "images.zarr" for name in ("small", "grown"))
    expected = content_of(grown)
    listed = grown.with_suffix(".json").read_bytes()
    shutil.rmtree(grown)
    before = {shard: (small / f"flux/c/{shard}/0/0/0").stat() for shard in range(3)}
    small.rename(grown)
    converted(Survey(tmp_path / "grown", 45, chunk_size=10), scheduler, shard_size=8, chunk_size=4)
    assert content_of(grown) == expected
    assert grown.with_suffix(".json").read_bytes() == listed
    for shard, status in before.items():
        after = (grown / f"flux/c/{shard}/0/0/0").stat()
        assert (after.st_ino, after.st_mtime_ns) == (status.st_ino, status.st_mtime_ns)


def test_a_conversion_that_fails_leaves_the_earlier_store(tmp_path, scheduler):
    survey = Survey(tmp_path, 12)
    converted(survey, scheduler)
    before = content_of(tmp_path / "images.zarr")
    next(tmp_path.glob("*.tar")).unlink()
    with pytest.raises(TidalkinError):
        converted(survey, scheduler, size=10)
    assert content_of(tmp_path / "images.zarr") == before
