"""The log of a job: its cost, and faults of the disk and of threads."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

COST = re.compile(r"done in ([\d.]+) s, with ([\d.]+) s of processor time and at most ([\d.]+) GB of memory\n$")


@dataclass(frozen=True)
class Cost:
    """Time and memory of one job."""

    seconds: float
    processor_seconds: float
    gigabytes: float


def start(root, log, *arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, str(root / "tests" / "programs" / "stage_job.py"), str(log)]
    command += [str(root / "workflow" / "scripts"), *arguments]
    return subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def run_job(root, tmp_path):
    """Run a job, with or without a child process; return its cost."""

    def run(*arguments: str) -> Cost:
        log = tmp_path / "job.log"
        start(root, log, *arguments)
        found = COST.search(log.read_text())
        assert found, log.read_text()
        return Cost(*map(float, found.groups()))

    return run


def test_the_cost_includes_the_start_of_python(run_job):
    cost = run_job()
    assert cost.seconds >= 0.1
    assert cost.processor_seconds >= 0.1
    assert 0.01 < cost.gigabytes < 0.5


def test_the_cost_includes_ended_children(run_job):
    cost = run_job("child")
    assert cost.processor_seconds > 1
    assert cost.gigabytes > 1


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts the memory of a parent in its child's maximum")
def test_the_cost_leaves_out_the_memory_of_the_process_that_started_the_job(run_job):
    pages = bytearray(b"1") * 10**9
    cost = run_job()
    assert len(pages) == 10**9
    assert cost.gigabytes < 0.5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no file that is always full")
def test_a_log_on_a_full_disk_is_said_once_and_does_not_stop_the_job(root):
    said = start(root, "/dev/full").stderr
    assert said.count("/dev/full cannot be written (No space left on device): it may be incomplete") == 1
    assert "Traceback" not in said
    assert "done in" in said


def test_a_thread_that_meets_a_full_disk_logs_one_line(root, tmp_path):
    said = start(root, tmp_path / "job.log", "full-disk").stderr
    assert "thread writer ended: [Errno 28] No space left on device" in said
    assert "Traceback" not in said


def test_another_fault_of_a_thread_is_logged_with_its_traceback_and_without_passwords(root, tmp_path):
    said = start(root, tmp_path / "job.log", "fault").stderr
    assert "Traceback" in said
    assert "ValueError: wrong answer to" in said
    assert "hunter2" not in said + (tmp_path / "job.log").read_text()


def test_a_thread_that_exits_by_itself_is_no_fault(root, tmp_path):
    said = start(root, tmp_path / "job.log", "exit").stderr
    assert "ended" not in said
    assert "Traceback" not in said
