"""Tests of the Dask clusters."""

from __future__ import annotations

import asyncio
import os

import pytest
from distributed import Scheduler

from surveys.fetched import Survey, content_of, converted
from tidalkin.config import Dask
from tidalkin.errors import TidalkinError
from tidalkin.images.convert import convert


def test_no_scheduler_at_the_address_is_said(tmp_path):
    from dask import config

    with (
        config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(TidalkinError, match="no Dask scheduler"),
    ):
        convert(**Survey(tmp_path, 3).arguments(), dask=Dask(cluster="address", address="tcp://127.0.0.1:9"))


@pytest.mark.filterwarnings("ignore:coroutine .*answer_late.* was never awaited")  # the scheduler's own call
def test_a_worker_that_waits_for_the_scheduler_at_the_end_says_nothing(tmp_path, monkeypatch, capfd):
    answer = Scheduler.heartbeat_worker

    async def answer_late(scheduler, *arguments, **named):
        await asyncio.sleep(1)
        return answer(scheduler, *arguments, **named)

    # On a busy machine, a worker waits for the answer to a sign of life while the cluster is closed.
    monkeypatch.setattr(Scheduler, "heartbeat_worker", answer_late)
    converted(Survey(tmp_path, 16), Dask())
    said = capfd.readouterr().err
    assert "Traceback" not in said


@pytest.mark.slow
def test_conversion_on_slurm_jobs_gives_the_same_bytes(tmp_path, scheduler, monkeypatch):
    # Stand-ins for SLURM's commands run the job script here. The script, its workers and their results are real.
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
