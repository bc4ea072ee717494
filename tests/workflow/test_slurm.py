"""The workflow on a real SLURM cluster: jobs run, are retried, and follow changes."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from servers.slurm_cluster import Cluster, missing, running_cluster
from surveys.fetched import WHOLE, Survey, content_of, finished_shards
from surveys.tiny import TINY, changed
from tidalkin.config import Dask
from tidalkin.images.convert import convert

pytestmark = pytest.mark.slurm

# The test cluster has no accounting database, and polling can be fast. The profile has the options of a real cluster.
LOCAL = ["--slurm-status-command", "squeue", "--slurm-no-account", "--slurm-init-seconds-before-status-checks", "2"]
LOCAL += ["--seconds-between-status-checks", "2", "--latency-wait", "10", "--jobs", "2", "--max-threads", "2"]
LOCAL += ["--group-components", "embed=1"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if missing():
        pytest.skip(f"no SLURM: {missing()}")
    with running_cluster(tmp_path_factory.mktemp("slurm") / "cluster") as running:
        yield running


def workflow_command(root: Path, folder: Path, config: dict) -> list[str]:
    configfile = folder / "config.json"
    configfile.write_text(json.dumps(config))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--directory", str(folder)]
    command += ["--workflow-profile", str(root / "profiles" / "slurm"), "--configfile", str(configfile)]
    return command + LOCAL


def logged_jobs(folder: Path) -> dict[str, int]:
    """Find the SLURM job that wrote each log; `images_digest` runs where Snakemake does."""
    logs = folder / "results" / "tiny" / "logs"
    found = {}
    for log in sorted(set(logs.rglob("*.log")) - {logs / "images_digest.log"}):
        match = re.search(r"SLURM job (\d+)", log.read_text())
        assert match, f"{log} was not written by a SLURM job"
        found[str(log.relative_to(logs))] = int(match[1])
    return found


def wait_for_job(cluster: Cluster, comment: str, process: subprocess.Popen, log: Path) -> int:
    """Wait for a running job whose comment names the rule ``comment``; return its number."""
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-6000:]
        for line in cluster.command("squeue", "-h", "-t", "running", "-o", "%i %k").splitlines():
            number, _, text = line.partition(" ")
            if comment in text:
                return int(number)
        time.sleep(0.3)
    raise AssertionError(f"no running job named {comment!r}")


def test_the_workflow_runs_as_slurm_jobs_survives_a_kill_and_resubmits_only_what_changed(cluster, root, tmp_path):
    config = copy.deepcopy(TINY)
    config["training"]["epochs"] = 20
    config["images"]["shard_size"] = 64
    config["search"] = {"queries": {"first": {"like": [1]}}}
    config["evaluation"] = {"enabled": False}
    log = tmp_path / "snakemake.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            workflow_command(root, tmp_path, config),
            env=cluster.environment,
            cwd=tmp_path,
            stdout=stream,
            stderr=stream,
        )
        killed = wait_for_job(cluster, "train", process, log)
        cluster.command("scancel", str(killed))
        assert process.wait(timeout=900) == 0, log.read_text()[-6000:]

    first = logged_jobs(tmp_path)
    stages = {name.split("/")[0].removesuffix(".log") for name in first}
    every_stage = {"catalog", "fetch", "convert", "views", "train", "whiten", "embed", "rank", "map", "index", "search"}
    assert every_stage | {"completeness"} <= stages
    finished = cluster.finished_jobs()
    assert finished[killed] == "CANCELLED"
    assert first["train.log"] != killed
    assert {finished[job] for job in first.values()} == {"COMPLETED"}

    subprocess.run(
        workflow_command(root, tmp_path, changed(config, search={"k": 5})),
        env=cluster.environment,
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=900,
    )
    assert len(cluster.finished_jobs()) == len(finished) + 1
    second = logged_jobs(tmp_path)
    assert {name for name in second if second[name] != first[name]} == {"search/first.log"}


def cancel_workers(cluster: Cluster, work: Path, *, after_shards: int) -> set[int]:
    """Kill all SLURM jobs that convert, once enough shards are finished; return their numbers."""
    deadline = time.monotonic() + 300
    while len(finished_shards(work)) < after_shards:
        assert time.monotonic() < deadline, f"fewer than {after_shards} shards were ever seen"
        time.sleep(0.01)
    jobs = cluster.command("squeue", "-h", "-t", "running", "-n", "dask-worker", "-o", "%i").split()
    cluster.command("scancel", "--signal=KILL", *jobs)
    return {int(job) for job in jobs}


def test_a_conversion_whose_slurm_jobs_are_all_killed_gets_new_ones_and_gives_the_same_bytes(
    cluster, tmp_path, monkeypatch
):
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    survey = Survey(tmp_path, 300, chunk_size=70, size=64)
    local, slurm = (survey.arguments(name, **WHOLE) for name in ("local.zarr", "slurm.zarr"))
    convert(**local, dask=Dask(workers=1))
    earlier = cluster.finished_jobs().keys()
    settings = {"queue": "main", "memory": "1GiB", "interface": "lo"}
    with ThreadPoolExecutor(1) as pool:
        cancelling = pool.submit(cancel_workers, cluster, tmp_path / "slurm.zarr.partial", after_shards=4)
        convert(**slurm, dask=Dask(cluster="slurm", workers=2, slurm=settings))
        killed = cancelling.result()
    assert killed
    assert content_of(slurm["output"]) == content_of(local["output"])
    assert list((tmp_path / "logs" / "dask").iterdir()), "the jobs left their logs elsewhere"
    deadline = time.monotonic() + 60
    while cluster.command("squeue", "-h"):
        assert time.monotonic() < deadline, "jobs outlived the conversion"
        time.sleep(0.5)
    finished = cluster.finished_jobs()
    assert {finished[job] for job in killed} == {"CANCELLED"}
    assert finished.keys() - earlier > killed
