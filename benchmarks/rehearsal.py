"""Rehearse a big run: many small simulated galaxies go through the whole workflow.

    python benchmarks/rehearsal.py 100000 --out /scratch/rehearsal
    python benchmarks/rehearsal.py 100000 --out /scratch/rehearsal-slurm --slurm

It gives the `snakemake` command that a user gives. The images have 32 pixels in two bands, and the network is tiny. The
run has the files, jobs and rows of a big one, with little computing. After an interruption, the same command goes on
where it was. The figures of finished stages are in the logs of their jobs.

Time and memory are those of the jobs' own processes, with the start of Python. Memory is the peak of the largest
process, with the pages of mapped files. Bytes are those of the outputs that stay on disk.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tidalkin.constants import PIXEL_SCALE_ARCSEC

ROOT = Path(__file__).resolve().parents[1]
SIDE = 32
RUN = "rehearsal"
COST = re.compile(r"done in ([\d.]+) s, with ([\d.]+) s of processor time and at most ([\d.]+) GB of memory$")


def configuration(galaxies: int, chunk_size: int, shard_size: int, evaluation: bool) -> dict:
    """Return the configuration: small images, a tiny network, one epoch, three queries."""
    return {
        "run": RUN,
        "catalog": {"source": "simulated", "chunk_size": chunk_size},
        "cutouts": {
            "source": "simulated",
            "bands": ["g", "i"],
            "size_arcsec": SIDE * PIXEL_SCALE_ARCSEC,
            "simulated": {"galaxies": galaxies},
        },
        "images": {"size": SIDE, "shard_size": shard_size, "chunk_size": math.gcd(64, shard_size)},
        "stretch": {"bin": 1},
        "augment": {"crop": 24},
        "encoder": {"width": 8, "stem": "standard", "projector_size": 64, "predictor_size": 16},
        "training": {"epochs": 1, "batch_size": min(64, galaxies // 4), "collapse_below": 0.0},
        "embedding": {"dimensions": 16, "symmetries": 1, "whitening_sample": 2000},
        "search": {
            "k": 24,
            "queries": {"one": {"like": [1]}, "set": {"like": [1, 2, 3], "unlike": [4]}, "most": {"debris": True}},
        },
        "evaluation": {"enabled": evaluation, "repeats": 2, "set_size": 5, "probe_labels": [10], "sample": 200},
        "completeness": {"enabled": evaluation, "galaxies": 100},
    }


# --- running ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """Cost of one Snakemake command, with the processes that it started."""

    seconds: float
    processor_seconds: float
    peak: float
    """Peak memory of the largest process, GB."""
    jobs: dict[str, int]
    """Number of jobs of each rule, as planned."""


@dataclass(frozen=True)
class Workflow:
    """The workflow in a folder of its own, with the options of its command."""

    folder: Path
    options: list[str]

    def run(self, config: dict, *arguments: str) -> Command:
        """Run Snakemake; its messages go to a log, and its progress to standard error."""
        configfile = self.folder / "config.json"
        configfile.write_text(json.dumps(config, indent=1))
        began, lines = time.perf_counter(), []
        process = subprocess.Popen(
            [*self._command(configfile), *self.options, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        with self.log.open("a", buffering=1) as log:
            for line in process.stdout:
                log.write(line)
                lines.append(line)
                if re.match(r"\d+ of \d+ steps", line):
                    print(line, end="", file=sys.stderr)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"snakemake failed, see {self.log}:\n{''.join(lines)[-3000:]}")
        return Command(
            seconds=time.perf_counter() - began,
            processor_seconds=usage.ru_utime + usage.ru_stime,
            peak=usage.ru_maxrss * 1024 / 1e9,
            jobs=_planned("".join(lines)),
        )

    def outputs(self) -> list[tuple[str, Path]]:
        """Return the rule and the path of each output on disk."""
        command = [*self._command(self.folder / "config.json"), *self.options, "--summary"]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows = [line.split("\t") for line in printed.splitlines() if line.startswith("results/")]
        return [(row[2], self.folder / row[0]) for row in rows]

    @property
    def log(self) -> Path:
        """Messages of all Snakemake commands."""
        return self.folder / "snakemake.log"

    @property
    def results(self) -> Path:
        """The folder of the run's results."""
        return self.folder / "results" / RUN

    def _command(self, configfile: Path) -> list[str]:
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
        return [*command, "--directory", str(self.folder), "--configfile", str(configfile)]


def _planned(printed: str) -> dict[str, int]:
    """Read Snakemake's table of jobs; empty if there is nothing to do."""
    if "Job stats:" not in printed:
        return {}
    rows = re.findall(r"^(\w+) +(\d+)$", printed.split("Job stats:")[1], re.MULTILINE)
    return {rule: int(number) for rule, number in rows if rule not in ("all", "total")}


def local_options(cores: int, threads: int | None) -> list[str]:
    """Return the options of a run on this machine."""
    options = ["--workflow-profile", str(ROOT / "profiles" / "default"), "--cores", str(cores)]
    return [*options, "--max-threads", str(threads)] if threads else options


def slurm_options() -> list[str]:
    """Return the options of a run on a small SLURM cluster without accounting."""
    try:
        cpus = subprocess.run(["sinfo", "-h", "-o", "%c"], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise SystemExit(
            "no SLURM answers `sinfo` here: start one, for example with `python tests/servers/slurm_cluster.py COMMAND`"
        ) from None
    options = ["--workflow-profile", str(ROOT / "profiles" / "slurm")]
    # The profile's jobs have more cores than a small node.
    options += ["--max-threads", str(min(int(cpu) for cpu in cpus.split())), "--group-components", "embed=1"]
    options += ["--slurm-status-command", "squeue", "--slurm-no-account"]
    return [*options, "--slurm-init-seconds-before-status-checks", "5", "--seconds-between-status-checks", "5"]


# --- figures ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """Cost of all jobs of one rule."""

    name: str
    jobs: int
    seconds: float
    processor_seconds: float
    peak: float
    """Peak memory of the largest process, GB."""
    size: int
    """Bytes of its outputs."""


def stages(workflow: Workflow) -> list[Stage]:
    """Read the cost of each stage from its logs, in order of time."""
    logs = workflow.results / "logs"
    sizes = Counter[str]()
    for rule, path in workflow.outputs():
        store = [path.with_suffix(".zarr")] if path.name == "images.json" else []
        sizes[rule] += sum(tree_size([path, *store]))
    found = []
    for path in sorted(logs.iterdir(), key=lambda path: path.stat().st_mtime):
        jobs = [cost_of(log) for log in ([path] if path.is_file() else sorted(path.iterdir()))]
        seconds, processor_seconds, peak = zip(*jobs, strict=True)
        name = path.name.removesuffix(".log")
        found.append(Stage(name, len(jobs), sum(seconds), sum(processor_seconds), max(peak), sizes[name]))
    return found


def cost_of(log: Path) -> tuple[float, float, float]:
    """Return seconds, processor seconds, and gigabytes of memory of the job that wrote a log."""
    last = log.read_text().rstrip().rpartition("\n")[2]
    match = COST.search(last)
    if match is None:
        raise SystemExit(f"{log} does not end with the cost of its job: {last}")
    seconds, processor_seconds, peak = map(float, match.groups())
    return seconds, processor_seconds, peak


def tree_size(paths: Iterable[Path]) -> list[int]:
    """Return the size of each file in ``paths``, and in the folders among them."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return [file.stat().st_size for file in files]


# --- tables -------------------------------------------------------------------------------------------------------


def stage_table(found: list[Stage], galaxies: int) -> list[str]:
    """Return the table of stages, in Markdown."""
    lines = [
        "| stage | jobs | wall, s | processor, s | peak memory, GB | written, MB "
        "| wall, ms per galaxy | processor, ms per galaxy | written, bytes per galaxy |",
        "| --- |" + " ---: |" * 8,
    ]
    total = Stage(
        "all stages",
        sum(stage.jobs for stage in found),
        sum(stage.seconds for stage in found),
        sum(stage.processor_seconds for stage in found),
        max(stage.peak for stage in found),
        sum(stage.size for stage in found),
    )
    for stage in [*found, total]:
        lines.append(
            f"| {stage.name} | {stage.jobs:,} | {stage.seconds:.1f} | {stage.processor_seconds:.1f} | {stage.peak:.2f} "
            f"| {stage.size / 1e6:.2f} | {1e3 * stage.seconds / galaxies:.2f} "
            f"| {1e3 * stage.processor_seconds / galaxies:.2f} | {stage.size / galaxies:,.0f} |"
        )
    return lines


def file_table(workflow: Workflow) -> list[str]:
    """Return the table of files, in Markdown."""
    folders = {
        "`results/`": workflow.folder / "results",
        "of it `images.zarr`": workflow.results / "images.zarr",
        "of it `logs/` and `benchmarks/`": (workflow.results / "logs", workflow.results / "benchmarks"),
        "`.snakemake/`": workflow.folder / ".snakemake",
        "messages of Snakemake": workflow.log,
    }
    lines = ["| folder | files | MB | largest, MB |", "| --- | ---: | ---: | ---: |"]
    for name, paths in folders.items():
        sizes = tree_size(paths if isinstance(paths, tuple) else (paths,))
        lines.append(f"| {name} | {len(sizes):,} | {sum(sizes) / 1e6:.2f} | {max(sizes, default=0) / 1e6:.2f} |")
    return lines


def command_table(commands: dict[str, Command]) -> list[str]:
    """Return the table of the commands after the run, in Markdown."""
    lines = ["| command | wall, s | processor, s | peak memory, GB | jobs |", "| --- | ---: | ---: | ---: | --- |"]
    for name, command in commands.items():
        jobs = ", ".join(f"{rule} {number}" for rule, number in command.jobs.items()) or "none"
        lines.append(
            f"| {name} | {command.seconds:.1f} | {command.processor_seconds:.1f} | {command.peak:.2f} | {jobs} |"
        )
    return lines


def main(
    out: Annotated[Path, typer.Option(help="Folder of the run; an interrupted run in it goes on.")],
    galaxies: Annotated[int, typer.Argument(min=64, help="Galaxies of the survey.")] = 100_000,
    slurm: Annotated[bool, typer.Option("--slurm", help="Run as jobs of the SLURM cluster of this machine.")] = False,
    cores: Annotated[int, typer.Option(min=1, help="Cores of a run without SLURM.")] = 2,
    threads: Annotated[int | None, typer.Option(min=1, help="Most threads of a job without SLURM.")] = None,
    chunk_size: Annotated[int, typer.Option(min=1, help="Galaxies per chunk.")] = 500,
    shard_size: Annotated[int, typer.Option(min=16, help="Galaxies per shard.")] = 1024,
    evaluation: Annotated[bool, typer.Option(help="Whether to evaluate, on samples that do not grow.")] = True,
) -> None:
    """Run the workflow, run it again without and with changes, and print the tables."""
    out.mkdir(parents=True, exist_ok=True)
    workflow = Workflow(out.resolve(), slurm_options() if slurm else local_options(cores, threads))
    config = configuration(galaxies, chunk_size, shard_size, evaluation)
    whole = workflow.run(config)
    found = stages(workflow)
    files = file_table(workflow)
    fewer, measured = deepcopy(config), deepcopy(config)
    fewer["search"]["k"] = 12
    measured["index"] = {"queries": 100}
    commands = {
        "`snakemake -n`": workflow.run(config, "-n"),
        "the same command again": workflow.run(config),
        "`search.k` changed": workflow.run(fewer),
        "`index.queries` changed": workflow.run(measured | {"search": fewer["search"]}),
    }
    where = "as jobs of SLURM" if slurm else f"with `{' '.join(local_options(cores, threads)[2:])}`"
    title = f"{galaxies:,} galaxies {where}, {chunk_size:,} per chunk and {shard_size:,} per shard"
    measured_processes = "Snakemake alone" if slurm else "Snakemake and all jobs"
    total = (
        f"The last command of the run took {whole.seconds:.0f} s for {sum(whole.jobs.values()):,} jobs, "
        f"and {whole.processor_seconds:.0f} s of processor time ({measured_processes})."
    )
    tables = (stage_table(found, galaxies), files, command_table(commands))
    print("\n\n".join([title, *("\n".join(table) for table in tables), total]))


if __name__ == "__main__":
    typer.run(main)
