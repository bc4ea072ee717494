"""Real SLURM cluster of one node for tests and benchmarks, on loopback.

    python tests/servers/slurm_cluster.py python benchmarks/rehearsal.py 3000 --out /tmp/rehearsal --slurm

It runs munge, slurmctld and slurmd, with all their files in one folder.

It needs Debian's packages `slurm-wlm` and `munge`, and root for slurmd. It has no accounting database, so Snakemake
must ask `squeue` and not `sacct` for the state of a job.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,batch_sched_delay=0
KillWait=3
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={megabytes} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""

# The default path of SLURM's commands. Snakemake clears SLURM_CONF inside a job, where `srun` must still find the file.
DEFAULT_CONFIGURATION = Path("/etc/slurm/slurm.conf")


@dataclass(frozen=True)
class Cluster:
    """A running cluster."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Environment in which SLURM's commands find the cluster."""
        return os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def command(self, *words: str) -> str:
        """Run one of SLURM's commands."""
        return subprocess.run(words, env=self.environment, check=True, capture_output=True, text=True).stdout

    def finished_jobs(self) -> dict[int, str]:
        """Read the state of each job that has ended, by its number."""
        record = self.folder / "jobs.txt"
        text = record.read_text() if record.exists() else ""
        return {int(job): state for job, state in re.findall(r"JobId=(\d+).*?JobState=(\w+)", text)}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def missing() -> str:
    """Return the reason why no cluster can start here, or an empty text."""
    if os.geteuid() != 0:
        return "a SLURM node daemon needs root"
    if DEFAULT_CONFIGURATION.exists():
        return f"this machine has a SLURM of its own ({DEFAULT_CONFIGURATION})"
    programs = ("munged", "slurmctld", "slurmd", "sbatch")
    absent = [program for program in programs if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")]
    return f"not installed: {', '.join(absent)} (Debian: slurm-wlm, munge)" if absent else ""


def _stop(pidfile: Path) -> None:
    if not pidfile.exists():
        return
    pid = int(pidfile.read_text())
    if psutil.pid_exists(pid):
        os.kill(pid, signal.SIGTERM)
        psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Start a cluster in ``folder``, and stop all of it at the end."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    host = socket.gethostname().split(".")[0]
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(
            host=host,
            folder=folder,
            controller_port=_free_port(),
            node_port=_free_port(),
            cpus=os.cpu_count(),
            megabytes=psutil.virtual_memory().total // 2**20 - 512,
        )
    )
    DEFAULT_CONFIGURATION.parent.mkdir(exist_ok=True)
    DEFAULT_CONFIGURATION.unlink(missing_ok=True)  # a dead link of a test that was killed
    DEFAULT_CONFIGURATION.symlink_to(folder / "slurm.conf")
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    cluster = Cluster(folder)
    path = f"{os.environ['PATH']}:/usr/sbin"
    files = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid", "log-file": "munged.log"}
    files |= {"seed-file": "munge.seed"}
    try:
        subprocess.run(
            ["munged", "--force", *(f"--{option}={folder / file}" for option, file in files.items())],
            env=os.environ | {"PATH": path},
            check=True,
        )
        for daemon in ("slurmctld", "slurmd"):
            subprocess.run([daemon], env=cluster.environment | {"PATH": path}, check=True, cwd=folder)
        deadline = time.monotonic() + 60
        while "idle" not in cluster.command("sinfo", "-h", "-o", "%T"):
            if time.monotonic() > deadline:
                raise RuntimeError((folder / "slurmd.log").read_text()[-2000:])
            time.sleep(0.5)
        yield cluster
    finally:
        DEFAULT_CONFIGURATION.unlink()
        for daemon in ("slurmd", "slurmctld", "munged"):
            _stop(folder / f"{daemon}.pid")


if __name__ == "__main__":
    if missing():
        sys.exit(f"no SLURM can start here: {missing()}")
    with tempfile.TemporaryDirectory() as name, running_cluster(Path(name) / "cluster") as running:
        sys.exit(subprocess.run(sys.argv[1:], env=running.environment, check=False).returncode)
